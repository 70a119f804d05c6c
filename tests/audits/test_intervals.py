"""Intervals: worked numbers, brute force, and coverage of what they promise."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steelyard.audits.intervals import auc, correlation, correlation_interval, mean, ranks, resampled, share
from steelyard.audits.probes.calibration import expected_error


def test_wilson_by_hand() -> None:
    none, half = share(np.zeros(10, bool)), share(np.arange(10) < 5)
    assert (none.value, none.low) == (0, 0) and none.high == pytest.approx(0.2775328, abs=1e-6)
    assert (half.low, half.high) == pytest.approx((0.2365931, 0.7634069), abs=1e-6)
    assert share(np.zeros(0, bool))[1:] == (0.0, 1.0, 0)


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=2, max_size=30))
def test_area_is_the_share_of_pairs(rows: list[tuple[int, bool]]) -> None:
    values, labels = np.array([v for v, _ in rows], float), np.array([good for _, good in rows])
    if labels.all() or not labels.any():
        return
    pairs = [(g > b) + (g == b) / 2 for g in values[labels] for b in values[~labels]]
    area = auc(values, labels, np.arange(len(rows)), np.random.default_rng(0))
    assert area.value == pytest.approx(float(np.mean(pairs))) and area.low <= area.value <= area.high


def test_the_bootstrap_over_groups_covers_the_truth() -> None:
    """Rows of a group are copies: an interval over rows would be too narrow by far."""
    covered = []
    for seed in range(100):
        generator = np.random.default_rng(seed)
        values, groups = np.repeat(generator.normal(size=40), 8), np.repeat(np.arange(40), 8)
        estimate = mean(values, groups, generator)
        covered.append(estimate.low <= 0 <= estimate.high)
    assert 0.85 <= np.mean(covered) <= 1.0


def test_the_slow_bootstrap_agrees_with_the_fast_one() -> None:
    generator = np.random.default_rng(1)
    values, groups = generator.normal(size=300), np.repeat(np.arange(100), 3)
    fast = mean(values, groups, np.random.default_rng(2))
    slow = resampled(lambda rows: float(values[rows].mean()), groups, np.random.default_rng(3), resamples=1000)
    assert (slow.value, slow.low, slow.high) == pytest.approx((fast.value, fast.low, fast.high), abs=0.03)


def test_ranks_and_correlations() -> None:
    assert ranks(np.array([5.0, 1.0, 5.0, 2.0])).tolist() == [2.5, 0.0, 2.5, 1.0]
    assert correlation(np.arange(5.0), -np.arange(5.0)) == pytest.approx(-1)
    assert correlation(np.arange(5.0), np.ones(5)) == 0
    assert correlation_interval(0.5, 28)[1:3] == pytest.approx((0.1556, 0.7362), abs=1e-3)
    assert correlation_interval(0.5, 3)[1:3] == (-1.0, 1.0)


def test_calibration_error_by_hand() -> None:
    values, labels = np.array([0.05, 0.95, 0.95, 1.0]), np.array([0.0, 1.0, 0.0, 1.0])
    assert expected_error(values, labels) == pytest.approx((0.05 + abs(2 - 2.9)) / 4)
