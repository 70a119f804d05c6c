"""Alignment of branches and consistency of distributions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steelyard.rewards.consistency import (
    branch_alignment,
    kl_consistency,
    paired_rows,
    reasoning_similarity,
    same_answer,
    shared_words,
)
from steelyard.rewards.shaping import length_bonus
from steelyard.types import Rollouts, Sample, Status, SteelyardError


def text(think: str, answer: str) -> str:
    return f"<think>{think}</think><answer>{answer}</answer>"


def rollouts(completions: list[str], group: list[int], branch: list[int]) -> Rollouts:
    return Rollouts([Sample("s", "p")] * len(completions), completions, group=np.array(group), branch=np.array(branch))


def test_the_jth_rows_of_the_branches_are_paired_wherever_they_stand() -> None:
    some = rollouts(list("abcdef"), [0, 1, 0, 0, 1, 0], [1, 0, 0, 1, 1, 0])
    anchors, candidates = paired_rows(some)
    assert dict(zip(candidates.tolist(), anchors.tolist(), strict=True)) == {0: 2, 3: 5, 4: 1}


def test_alignment_is_symmetric_and_not_applicable_without_an_anchor() -> None:
    some = rollouts([text("a b", "X"), text("a c", "X"), text("a b", "Y")], [0, 0, 7], [0, 1, 1])
    answer = branch_alignment(same_answer, name="same")(some)
    assert answer.values[:2].tolist() == [1, 1] and np.isnan(answer.values[2])
    assert answer.status is not None and answer.status[2] == Status.NOT_APPLICABLE
    reasoning = branch_alignment(reasoning_similarity(shared_words))(some)
    assert reasoning.values[:2].tolist() == [0.5, 0.5]


def test_identical_branches_agree_wholly_and_missing_blocks_do_not() -> None:
    some = rollouts([text("a b", "X"), text("a b", "X"), "no block", "no block"], [0, 0, 1, 1], [0, 1, 0, 1])
    assert branch_alignment(same_answer)(some).values.tolist() == [1, 1, 0, 0]
    assert branch_alignment(reasoning_similarity(shared_words))(some).values.tolist() == [1, 1, 0, 0]


def test_a_judge_that_could_not_read_is_nan_not_zero() -> None:
    some = rollouts([text("a", "X"), text("a", "X")], [0, 0], [0, 1])
    scores = branch_alignment(lambda a, b: np.array([np.nan]))(some)
    assert np.isnan(scores.values).all()


def test_branches_of_unequal_length_are_refused() -> None:
    with pytest.raises(SteelyardError, match="group 0: branch 1 has 2 rows where the anchor has 1"):
        branch_alignment(same_answer)(rollouts(["a", "b", "c"], [0, 0, 0], [0, 1, 1]))


@given(st.integers(0, 100), st.floats(-20, 20))
def test_adding_a_constant_to_all_logits_changes_nothing(seed: int, shift: float) -> None:
    logits = np.random.default_rng(seed).normal(size=(2, 3, 5))
    kl, value = kl_consistency(logits, logits + shift)
    assert np.allclose(kl, 0, atol=1e-9) and np.allclose(value, 1)


def test_a_row_without_valid_steps_has_no_divergence() -> None:
    a, b = np.random.default_rng(0).normal(size=(2, 1, 3, 5))
    kl, value = kl_consistency(a, b, np.zeros((1, 3)))
    assert kl[0] == 0 and value[0] == 1


def test_the_length_bonus_needs_enough_right_ones() -> None:
    from steelyard.rewards.core import reward

    right = reward(batch=True, name="right")(lambda r: np.array([float(v) for v in r.column("acc")]))
    some = rollouts(list("abcd"), [0, 0, 1, 1], [0] * 4)
    some.columns = {"acc": [1, 1, 1, 0], "length": [320, 600, 400, 400]}
    assert length_bonus(by=right)(some).values.tolist() == pytest.approx([0.2, 0, 0, 0])


def test_a_similarity_gives_one_number_a_pair() -> None:
    for answer in (np.float32(0.5), np.ones(1), np.ones((2, 1))):
        two = branch_alignment(lambda anchors, candidates, answer=answer: answer)
        reasoning = branch_alignment(reasoning_similarity(lambda a, b, answer=answer: answer))
        texts = ["<think>a</think>"] * 4
        rollouts = Rollouts([Sample("s", "p")] * 4, texts, group=np.zeros(4), branch=np.array([0, 0, 1, 1]))
        for aligned in (two, reasoning):
            with pytest.raises(SteelyardError, match="similarity of 2 pairs has shape"):
                aligned(rollouts)


def test_both_rows_of_a_pair_that_could_not_be_compared_say_so() -> None:
    aligned = branch_alignment(lambda anchors, candidates: np.array([np.nan, 1.0]))
    rollouts = Rollouts([Sample("s", "p")] * 5, [""] * 5, group=[0, 0, 0, 0, 1], branch=[0, 0, 1, 1, 0])
    status = aligned(rollouts).status
    assert status is not None
    assert [Status(s).name for s in status] == ["UNPARSED", "SCORED", "UNPARSED", "SCORED", "NOT_APPLICABLE"]


def test_kl_of_words_that_are_ruled_out() -> None:
    never = -np.inf
    kl, _ = kl_consistency(np.array([[[0.0, 0.0, never]]]), np.array([[[0.0, 0.0, never]]]))
    assert kl.tolist() == [0]
    kl, reward = kl_consistency(np.array([[[0.0, 0.0]]]), np.array([[[0.0, never]]]))
    assert kl.tolist() == [np.inf] and reward.tolist() == [0]
    padded = np.array([[[1.0, 0.0], [np.nan, np.nan]]])
    kl, reward = kl_consistency(padded, padded, np.array([[1, 0]]))
    assert kl.tolist() == [0] and reward.tolist() == [1]
