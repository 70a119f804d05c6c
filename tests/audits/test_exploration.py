"""pass@N, uplift by rank, and how well a reward separates."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steelyard.audits.exploration import pass_at, uplift_by_rank
from steelyard.audits.separation import separation
from steelyard.types import SteelyardError


def test_pass_at_is_the_share_of_subsets_with_a_right_one():
    for n, c, k in itertools.product(range(1, 6), range(6), range(1, 6)):
        if c <= n and k <= n:
            subsets = list(itertools.combinations([True] * c + [False] * (n - c), k))
            assert pass_at(np.array([c]), n, k)[0] == pytest.approx(np.mean([any(s) for s in subsets]))
    assert pass_at(np.array([3]), 512, 128)[0] == pytest.approx(1 - math.comb(509, 128) / math.comb(512, 128))


def test_pass_at_bad_counts():
    for right, drawn, attempts in ([5], 4, 2), ([1], 4, 5), ([-1], 4, 2), ([1], 4, 0):
        with pytest.raises(SteelyardError, match="1 ≤ attempts ≤ draws"):
            pass_at(np.array(right), drawn, attempts)


def test_uplift_by_rank():
    before = np.array([[-1.0, -3.0, -2.0], [-3.0, -2.0, -1.0]])
    after = before + np.array([[0.5, -0.5, 0.5], [0.5, -0.5, 0.5]])
    right = np.array([[True, True, True], [False, True, True]])
    assert uplift_by_rank(before, after, right).tolist() == [1.0, 0.5, 0.0]
    nothing = uplift_by_rank(before, after, np.zeros_like(right))
    assert np.isnan(nothing).all()


def test_separation():
    right = np.array([True, True, False, False])
    assert separation(np.array([3.0, 2, 1, 0]), right) == 1 and separation(np.zeros(4), right) == 0.5
    assert separation(np.array([np.nan, 0.0, 1.0, 2.0]), right) == 0
    assert np.isnan(separation(np.zeros(4), np.ones(4, bool)))


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=2, max_size=20))
def test_separation_is_the_share_of_pairs(rows):
    values, right = np.array([float(v) for v, _ in rows]), np.array([r for _, r in rows])
    pairs = [(a > b) + 0.5 * (a == b) for a in values[right] for b in values[~right]]
    expected = np.mean(pairs) if pairs else np.nan
    assert separation(values, right) == pytest.approx(expected, nan_ok=True)
