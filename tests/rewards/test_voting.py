"""Majority votes as labels: who wins, who has no vote, and that no label is read."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steelyard.rewards.voting import NO_ANSWER, majority, majority_answers, majority_rewards, numbered
from steelyard.types import Rollouts, Sample, SteelyardError


def rollouts(answers: list[str | None], group: list[int], **columns) -> Rollouts:
    texts = ["no tags" if a is None else f"<answer>{a}</answer>" for a in answers]
    return Rollouts([Sample("s", "p", columns=columns)] * len(texts), texts, np.asarray(group))


@pytest.mark.parametrize(
    ("answers", "right"),
    [
        (["4", "4", "7", "4"], [1, 1, 0, 1]),
        (["a", "b", "a", "b"], [1, 0, 1, 0]),
        (["b", "a", "a", "b"], [1, 0, 0, 1]),
        (["x"] * 4, [1, 1, 1, 1]),
        (["q"], [1]),
        ([None, None, "3"], [0, 0, 1]),
        ([None, None], [0, 0]),
        ([], []),
    ],
)
def test_worked_votes(answers, right):
    scores = majority()(rollouts(answers, [0] * len(answers)))
    assert scores.values.tolist() == right and not np.isnan(scores.values).any()


def test_groups_and_branches_vote_apart_and_the_label_is_not_read():
    found = majority()(rollouts(["1", "2", "2", "1", "1", "2"], [5, 9, 5, 9, 5, 9], answer="1"))
    assert found.values.tolist() == [1, 1, 0, 0, 1, 1]
    again = majority()(rollouts(["1", "2", "2", "1", "1", "2"], [5, 9, 5, 9, 5, 9], answer="2"))
    assert again.values.tolist() == found.values.tolist()
    branched = rollouts(["1", "2", "2"], [0, 0, 0])
    branched.branch = np.asarray([0, 1, 1])
    assert majority()(branched).values.tolist() == [1, 1, 1]


def test_answers_that_mean_the_same_vote_together_where_they_are_made_equal():
    texts = rollouts(["2", "2.0", "3", "3"], [0] * 4)
    assert majority()(texts).values.tolist() == [0, 0, 1, 1]
    together = majority(answer=lambda text: float(text[8:-9]))
    assert together(texts).values.tolist() == [1, 1, 0, 0]
    assert repr(majority().name) == "'majority'" and "answer=" in together.name


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["a", "b", "c", None])), max_size=30))
def test_the_winner_is_counters(rows):
    group = np.unique([g for g, _ in rows], return_inverse=True)[1].astype(np.int64)
    answers = [a for _, a in rows]
    numbers = numbered(answers)
    winners, given = majority_answers(numbers, group), majority_rewards(numbers, group)
    for number in range(len(winners)):
        mine = [a for a, g in zip(answers, group, strict=True) if g == number]
        best = Counter(a for a in mine if a is not None).most_common(1)
        assert winners[number] == (numbers[answers.index(best[0][0])] if best else NO_ANSWER)
        expected = [float(bool(best) and a == best[0][0]) for a in mine]
        assert given[group == number].tolist() == expected


def test_an_answer_that_cannot_be_compared_is_refused():
    with pytest.raises(SteelyardError, match=r"majority.*cannot vote.*texts, numbers or tuples"):
        majority(answer=lambda text: [text])(rollouts(["1"], [0]))
