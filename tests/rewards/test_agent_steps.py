"""Graded steps of a searching agent: sheet 67's exact checks, strict reading, what nobody could judge."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steelyard.rewards.agent_steps import final_answer_match, judged_steps, read_agent_step, step_rewards
from steelyard.rewards.core import reward, score_one
from steelyard.rewards.judges import RuleJudge, parse_ternary, released_tagged_score
from steelyard.rewards.stepwise import on_the_way, outcome_beside_steps, stepwise
from steelyard.types import Prefix, Rollouts, Sample, Status, SteelyardError


def graded(think: float, act: float, *, answers: bool, step: int = 0, bonus: float = 0.1) -> float:
    found = step_rewards(
        np.array([think]), np.array([act]), np.array([answers]), np.array([step]), budget=4, bonus=bonus
    )
    return float(found[0])


def test_the_sheets_rewards() -> None:
    assert graded(1, 1, answers=True) == pytest.approx(2.1)
    assert graded(1, 1, answers=True, step=3) == pytest.approx(2.025)
    assert graded(1, -1, answers=False) == 0
    assert graded(1, 1, answers=True, step=0, bonus=0) == graded(1, 1, answers=True, step=3, bonus=0) == 2
    assert math.isnan(graded(math.nan, 1, answers=False))
    with pytest.raises(SteelyardError, match="budget of 0"):
        step_rewards(np.ones(1), np.ones(1), np.ones(1, bool), np.zeros(1), budget=0)


def test_the_sheets_parsing() -> None:
    assert parse_ternary("<score>-1</score>").value == -1
    assert parse_ternary("2 docs were cited … <score>+1</score>").value == 1
    assert released_tagged_score("2 docs were cited … <score>+1</score>") == 2
    assert parse_ternary("<score>7</score>").value == 1
    assert released_tagged_score("") == 0
    for text, status in (("", Status.UNPARSED), ("Score: 1", Status.UNPARSED), (None, Status.FAILED)):
        verdict = parse_ternary(text)
        assert math.isnan(verdict.value) and verdict.status == status
    assert parse_ternary("they say <score>1</score>, I say <score>-1</score>").status == Status.UNPARSED
    assert [released_tagged_score(text) for text in ("rating: 3 Score: 2", "a 4.5 b", "none")] == [2, 4.5, 0]


@given(st.text(max_size=60))
def test_a_reply_is_a_grade_or_nothing(text: str) -> None:
    verdict = parse_ternary(text)
    assert verdict.value in (-1, 0, 1) if verdict.status == Status.SCORED else math.isnan(verdict.value)


def test_steps_are_read_strictly() -> None:
    read = read_agent_step("<think> why </think>\n<search> who </search>\n")
    assert read == ("why", "search", "who")
    assert read_agent_step("so <answer>x</answer>") == ("so", "answer", "x")
    for bad in (
        "", "words", "<search></search>", "<search>a</search> more", "<search>a", "<search>a</answer>",
        "<search>a</search><search>b</search>", "<search>a</search><answer>b</answer>", "<answer><search>a</answer>",
    ):  # fmt: skip
        assert read_agent_step(bad).action is None


def rollouts(texts: list[str], *, context: str = "") -> Rollouts:
    sample = Sample("q", "who?", columns={"answer": "Dora"}, prefix=Prefix(context, 2))
    return Rollouts([sample] * len(texts), texts)


def test_a_judge_grades_thought_and_action_apart() -> None:
    asked: list[dict[str, str]] = []

    def judge(prompt) -> str | None:  # type: ignore[no-untyped-def]
        fields = json.loads(prompt[1]["content"])
        asked.append(fields)
        if "answer" in fields:
            return f"<score>{1 if fields['answer'] == fields['reference'] else -1}</score>"
        return {"good": "<score>1</score>", "vague": "<score>0</score>", "mute": None, "odd": "fine"}[
            fields.get("query", fields["thought"])
        ]

    texts = [
        "good<search>vague</search>", "good<search>vague</search>", "vague<answer>Dora</answer>", "no action",
        "good<search>mute</search>", "odd<search>good</search>",
    ]  # fmt: skip
    scores = judged_steps(RuleJudge(judge))(rollouts(texts, context="[1] the past"))
    assert scores.values.tolist()[:4] == pytest.approx([1, 1, 1.05, -2])
    assert np.isnan(scores.values[4:]).all()
    assert scores.status is not None
    assert scores.status.tolist() == [0, 0, 0, 0, Status.FAILED, Status.UNPARSED]
    assert scores.parts["query"][:2].tolist() == [0, 0] and np.isnan(scores.parts["query"][2:4]).all()
    assert scores.parts["answer"][2] == 1 and np.isnan(scores.parts["thought"][3])
    assert len(asked) == 7, "equal prompts are asked once, a step without an action never"
    assert all(fields["context"] == "[1] the past" for fields in asked if "thought" in fields)
    assert all("passages" not in fields and "reference" not in fields for fields in asked if "query" in fields)


def test_nobody_is_asked_about_nothing() -> None:
    def never(prompt) -> str:  # type: ignore[no-untyped-def]
        raise AssertionError

    assert judged_steps(RuleJudge(never), malformed=-3)(rollouts(["a", "b"])).values.tolist() == [-3, -3]
    fresh = score_one(judged_steps(RuleJudge(lambda prompt: "<score>1</score>")), completion="<search>a</search>")
    assert fresh.values.tolist() == [2], "a sample without a prefix is at its first step"


@reward
def length(completion: str) -> float | None:
    return None if completion == "?" else float(len(completion))


def whole() -> Rollouts:
    sample = Sample("q", "who?", columns={"answer": ["Dora", "the Dora"]})
    turns = [[(sample, "ab"), (sample, "c")], [(sample, "abc")], [(sample, "a"), (sample, "?")]]
    final = ["<answer>A dora.</answer>", "<search>Dora</search>", "<answer>x</answer>"]
    return Rollouts([sample] * 3, ["", "", ""], [0, 0, 0], columns={"turns": turns, "final": final})


def test_steps_of_whole_attempts() -> None:
    scores = stepwise(length)(whole())
    assert scores.values[:2].tolist() == [3, 3] and np.isnan(scores.values[2])
    np.testing.assert_array_equal(scores.steps, [[2, 1], [3, np.nan], [1, np.nan]])
    assert scores.status is not None and scores.status[2] == Status.NOT_APPLICABLE
    both = outcome_beside_steps(final_answer_match, stepwise(length))(whole())
    assert both.values.tolist() == [1, 0, 0]
    np.testing.assert_array_equal(both.steps, scores.steps)
    with pytest.raises(SteelyardError, match="has no steps"):
        outcome_beside_steps(final_answer_match, final_answer_match)(whole())


def test_scores_given_on_the_way_are_not_asked_for_again() -> None:
    rows = rollouts(["ab", "?"])
    first = length(rows)
    rows.columns["scored"] = [first.take(np.array([row])) for row in range(2)]
    rows.completions = ["changed", "changed"]
    again = on_the_way(length)(rows)
    assert again.values[0] == 2 and np.isnan(again.values[1]) and again.status.tolist() == first.status.tolist()  # type: ignore[union-attr]
    assert again.parts["length"][0] == 2
    assert on_the_way(length)(rollouts(["abc"])).values.tolist() == [3]
