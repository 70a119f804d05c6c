"""Intrinsic rewards and how far two iterations rank alike: the worked numbers of sheet 22, scipy's, and symmetries."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kendalltau, spearmanr

from steelyard.rewards.intrinsic import (
    best_and_worst,
    intrinsic_reward,
    kendall_rate,
    ordinal_ranks,
    same_extremes,
    spearman_rate,
)
from steelyard.types import SteelyardError

FIVE = np.array([[1.0, 2.0, 3.0, 4.0, 5.0]])


def test_worked_numbers() -> None:
    swapped = FIVE[:, [1, 0, 2, 3, 4]]
    assert kendall_rate(FIVE, swapped)[0] == pytest.approx(0.9) and spearman_rate(FIVE, swapped)[0] == pytest.approx(
        0.95
    )
    assert kendall_rate(FIVE, FIVE[:, ::-1])[0] == 0.0
    assert kendall_rate(FIVE[:, :2], FIVE[:, 1::-1])[0] == 0.0 and kendall_rate(FIVE[:, :2], FIVE[:, :2])[0] == 1.0


def test_one_answer_has_no_rate() -> None:
    assert (
        np.isnan(kendall_rate(FIVE[:, :1], FIVE[:, :1])).all()
        and np.isnan(spearman_rate(FIVE[:, :1], FIVE[:, :1])).all()
    )


def test_scipy_says_the_same() -> None:
    generator = np.random.default_rng(0)
    now, before = generator.normal(size=(50, 7)), generator.normal(size=(50, 7))
    for ours, theirs in ((kendall_rate, kendalltau), (spearman_rate, spearmanr)):
        expected = [(theirs(a, b).statistic + 1) / 2 for a, b in zip(now, before, strict=True)]
        assert np.allclose(ours(now, before), expected)


@given(st.lists(st.floats(-5, 5), min_size=3, max_size=6, unique=True), st.floats(0.1, 3), st.floats(-4, 4))
def test_scale_and_shift_change_nothing(rewards: list[float], factor: float, shift: float) -> None:
    now = np.round([rewards], 3)
    if len(set(now[0])) < len(rewards):
        return
    before = now[:, ::-1]
    moved = now * factor + shift
    assert kendall_rate(moved, before)[0] == kendall_rate(now, before)[0]
    assert [a[0] for a in best_and_worst(moved)] == [a[0] for a in best_and_worst(now)]


def test_ties_rank_by_place_and_give_no_pair() -> None:
    assert ordinal_ranks(np.zeros((1, 3))).tolist() == [[1, 2, 3]]
    best, worst, kept = best_and_worst(np.zeros((1, 3)))
    assert best[0] == worst[0] and not kept[0]


def test_extremes_need_the_same_best_and_worst() -> None:
    now = np.array([[0.3, 0.9, 0.1, 0.5]])
    assert same_extremes(now, now[:, [3, 1, 2, 0]])[0] == 1.0 and same_extremes(now, -now)[0] == 0.0


def test_rewards_without_a_reference_are_means() -> None:
    assert intrinsic_reward(np.array([-1.5, -2.5]), None, np.array([2, 3])).tolist() == pytest.approx(
        [-0.75, -0.8333333]
    )
    assert intrinsic_reward(np.array([-1.5]), np.array([-1.8]), np.array([2])).tolist() == pytest.approx([0.3])
    with pytest.raises(SteelyardError, match="no step"):
        intrinsic_reward(np.array([0.0]), None, np.array([0]))
    with pytest.raises(SteelyardError, match="finite numbers"):
        kendall_rate(np.array([[np.nan, 1.0]]), np.array([[0.0, 1.0]]))
