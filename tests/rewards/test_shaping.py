"""Rewards for the shape of a completion."""

import math

import numpy as np
import pytest

from steelyard.rewards.core import reward
from steelyard.rewards.shaping import length_bonus, overlong
from steelyard.types import Actions, Rollouts, Sample, SteelyardError


def rows(scores: list[float], lengths: list[int], group: list[int]) -> Rollouts:
    n = len(scores)
    return Rollouts([Sample("s", "p")] * n, [""] * n, group=group, columns={"score": scores, "length": lengths})


def test_the_bonus_needs_two_right_answers_in_the_group_and_a_length_within() -> None:
    asked = []

    @reward
    def judged(score: float) -> float:
        asked.append(score)
        return score

    bonus = length_bonus(by=judged)
    scores = bonus(rows([1, 1, 0, 1, 0], [320, 513, 400, 400, 400], [0, 0, 0, 1, 1]))
    np.testing.assert_allclose(scores.values, [0.2, 0, 0, 0, 0])
    asked.clear()
    total = (judged + bonus)(rows([1, 1], [320, 512], [0, 0]))
    np.testing.assert_allclose(total.values, [1.2, 1.2])
    assert asked == [1, 1] and set(total.parts) == {"judged", "length_bonus"}
    assert repr(judged + bonus) == "judged + length_bonus"


def test_a_row_that_could_not_be_judged_earns_no_zero() -> None:
    maybe = reward(name="maybe")(lambda score: score)
    values = length_bonus(by=maybe)(rows([math.nan, 1, 1], [400] * 3, [0] * 3)).values
    assert math.isnan(values[0]) and np.allclose(values[1:], 0.2)
    assert length_bonus(by=maybe)(rows([math.nan, 1], [400] * 2, [0] * 2)).values[1] == 0


def test_no_rows() -> None:
    assert len(length_bonus(by=reward(name="maybe")(lambda score: score))(rows([], [], []))) == 0


def test_overlong_grows_over_its_buffer() -> None:
    penalty = overlong(free=4096, buffer=4096)
    values = penalty(rows([0] * 5, [10, 4096, 5120, 8192, 9216], [0] * 5)).values
    np.testing.assert_allclose(values, [0, 0, -0.25, -1, -1.25])
    acted = Rollouts([Sample("s", "p")], ["x"], actions=Actions(np.zeros((1, 4)), np.array([[1, 1, 1, 0]], bool)))
    assert overlong(free=1, buffer=4)(acted).values.tolist() == [-0.5]
    with pytest.raises(SteelyardError, match="buffer at least 1"):
        overlong(free=1, buffer=0)
