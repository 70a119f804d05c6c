"""Rewards for the shape of a completion."""

import math

import numpy as np
import pytest

from steelyard.rewards.core import reward
from steelyard.rewards.shaping import length_bonus, overlong_penalty
from steelyard.types import Rollouts, Sample, SteelyardError


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


def test_the_penalty_of_overlong_completions_at_its_borders() -> None:
    lengths = [0, 75, 76, 80, 100, 101, 10**9]
    scores = overlong_penalty(longest=100, buffer=25)(rows([1] * 7, lengths, [0] * 7))
    np.testing.assert_allclose(scores.values, [0, 0, -0.04, -0.2, -1, -1, -1], rtol=1e-6)
    assert set(scores.parts) == {"overlong_penalty"}
    np.testing.assert_array_equal(overlong_penalty(longest=5, buffer=0)(rows([1] * 2, [5, 6], [0] * 2)).values, [0, -1])
    total = 1 + overlong_penalty(longest=100, buffer=25)
    assert repr(total) == "1 + overlong_penalty(longest=100, buffer=25)"


@pytest.mark.parametrize("wrong", [(0, 0), (10, 11), (10, -1)])
def test_a_penalty_needs_room(wrong: tuple[int, int]) -> None:
    with pytest.raises(SteelyardError, match="buffer ≤ longest"):
        overlong_penalty(longest=wrong[0], buffer=wrong[1])


def test_lengths_must_be_known() -> None:
    penalty = overlong_penalty(longest=10, buffer=5)
    with pytest.raises(SteelyardError, match="lengths of completions are not known"):
        penalty(Rollouts([Sample("s", "p")], ["x"]))
    for wrong in (None, -1, "7", math.nan, True):
        with pytest.raises(SteelyardError, match="row 0: the length is"):
            penalty(rows([1], [wrong], [0]))  # type: ignore[list-item]
