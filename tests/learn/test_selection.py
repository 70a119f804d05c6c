"""Choosing samples by the untrained policy's score: sheet 51's worked positions, ties, what cannot be chosen by."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steelyard.learn.selection import easiest, first_scores, hardest, middling
from steelyard.types import SteelyardError
from steelyard.worlds.wordings import Wordings, quality

SCORES = [0.31, 0.02, 0.55, 0.17, 0.08, 0.90, 0.44]


def test_positions_of_sheet_51() -> None:
    assert hardest(SCORES, 3) == [3, 4, 1]
    assert middling(SCORES, 3) == [6, 0, 3]
    assert easiest(SCORES, 3) == [5, 2, 6]


@given(st.lists(st.integers(0, 3), min_size=1, max_size=12), st.integers(1, 15))
def test_what_is_kept(scores: list[int], k: int) -> None:
    for select in (hardest, middling, easiest):
        kept = select(scores, k)
        assert len(set(kept)) == len(kept) == min(k, len(scores))
        assert [scores[i] for i in kept] == sorted((scores[i] for i in kept), reverse=True)
    assert sorted(scores[i] for i in hardest(scores, k)) == sorted(scores)[:k]
    assert sorted(scores[i] for i in easiest(scores, k)) == sorted(scores)[-k:]


def test_scores_that_are_none() -> None:
    with pytest.raises(SteelyardError, match="the score of sample 1 is nan"):
        hardest([1.0, float("nan")], 1)
    with pytest.raises(SteelyardError, match="select at least 1"):
        easiest([1.0], 0)


def test_first_scores_do_not_depend_on_the_batch() -> None:
    world = Wordings()
    samples = world.samples("train", 10)
    one, other = (
        first_scores(world.policy(), samples, quality, generator=np.random.default_rng(3), at_once=size)
        for size in (3, 64)
    )
    assert one.shape == (10,) and np.array_equal(one, other)
