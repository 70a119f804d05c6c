"""Rubrics: what credits add up to, gates, penalties, needs, missing verdicts, and the rewards over a judge."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steelyard.rewards.judges import RuleJudge
from steelyard.rewards.rubrics import (
    MET_PARTLY_NOT,
    SUPPORT,
    Criterion,
    aggregate,
    checklist,
    read_criteria,
    rubric,
)
from steelyard.types import Rollouts, Sample, Status, SteelyardError

NAN = np.nan


def value(credits, weights, **options) -> float:
    return float(aggregate(np.asarray([credits], float), np.asarray(weights, float), **options).values[0])


def test_worked_sums_of_the_sheets() -> None:
    f, p, n = MET_PARTLY_NOT.values()
    assert value([f, f, p, f, n], np.ones(5)) == pytest.approx(0.7)  # sheet 45
    assert value([f, f, f, f, n], np.ones(5)) == pytest.approx(0.8)
    s, p, n = SUPPORT.values()
    assert value([s, p, n, s], [1, 1, 0.5, 0.5]) == pytest.approx(0.66666667)  # sheet 49
    assert value([s], [1]) == 1 and value([n, n], [1, 1]) == 0
    assert value([1, 1, 0], [0.3, 0.3, 0.4]) == pytest.approx(0.6)  # sheet 42


def test_hard_criteria_gate_and_penalties_are_taken_off() -> None:
    assert value([0, 1, 1], [1, 1, 1], hard=np.asarray([True, False, False])) == 0
    assert value([1, 1, 0], [0, 1, 1], hard=np.asarray([True, False, False])) == 0.5, "a gate of weight 0"
    assert value([0.5, 1], [1, 1], hard=np.asarray([True, False])) == 0, "half met is not met"
    assert value([1, 1], [2, -1]) == 0.5 and value([0, 1], [2, -1]) == -0.5 and value([1], [-1]) == -1
    assert value([0, 1], [-1, 1], hard=np.asarray([True, False])) == 1
    assert value([1, 1], [-1, 1], hard=np.asarray([True, False])) == 0, "a penalty that vetoes"
    assert value([1, 0], [0, 0], hard=np.asarray([True, False])) == 1, "only gates count"


def test_needs_chain() -> None:
    needs = np.zeros((3, 3), bool)
    needs[1, 0] = needs[2, 1] = True
    assert value([1, 1, 1], [0.3, 0.3, 0.4], needs=needs) == pytest.approx(1)
    assert value([0, 1, 1], [0.3, 0.3, 0.4], needs=needs) == pytest.approx(0.4), "C needs B, which the judge saw met"
    assert np.isnan(value([NAN, 1, 0], [0.3, 0.3, 0.4], needs=needs))


@pytest.mark.parametrize(
    ("credits", "hard", "nan", "skip", "unmet"),
    [
        ([1, NAN, 0], [0, 0, 0], NAN, 0.5, 1 / 3),
        ([NAN, NAN, NAN], [0, 0, 0], NAN, NAN, 0),
        ([NAN, 1, 1], [1, 0, 0], NAN, NAN, 0),
        ([0, NAN, 1], [1, 0, 0], 0, 0, 0),
    ],
)
def test_a_missing_verdict_is_handled_as_the_caller_chose(credits, hard, nan, skip, unmet) -> None:
    found = [value(credits, [1, 1, 1], hard=np.asarray(hard, bool), missing=m) for m in ("nan", "skip", "unmet")]
    np.testing.assert_allclose(found, [nan, skip, unmet])


def test_a_missing_veto_is_shut_where_missing_counts_as_unmet() -> None:
    assert value([NAN, 1], [-1, 1], hard=np.asarray([True, False]), missing="unmet") == 0


CREDITS = st.lists(st.tuples(st.sampled_from([0, 0.5, 1, NAN]), st.sampled_from([0.5, 1, 2])), min_size=1, max_size=6)


@given(CREDITS, st.floats(0.1, 10), st.sampled_from(["nan", "skip", "unmet"]), st.randoms(use_true_random=False))
def test_scores_lie_in_the_unit_range_and_order_and_scale_change_nothing(rows, factor, missing, random) -> None:
    credits, weights = map(list, zip(*rows, strict=True))
    found = value(credits, weights, missing=missing)
    assert np.isnan(found) or 0 <= found <= 1
    np.testing.assert_allclose(value(credits, np.asarray(weights) * factor, missing=missing), found)
    random.shuffle(rows)
    credits, weights = zip(*rows, strict=True)
    np.testing.assert_allclose(value(credits, weights, missing=missing), found)


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ("a text", "must be a list"),
        ([""], "says nothing"),
        ([7], "give a text or a mapping"),
        ([{"text": "x", "wieght": 1}], "wieght"),
        ([{"weight": 1}], "no text"),
        ([{"text": "x", "weight": float("nan")}], "finite"),
        ([{"text": "x", "weight": True}], "finite"),
        ([{"text": "x", "levels": {"yes": 2, "no": 0}}], r"\[0, 1\]"),
        ([{"text": "x", "levels": {True: 1, False: 0}}], "different texts"),
        ([{"text": "x", "levels": 3}], "cannot be read"),
        ([{"text": "x", "needs": [3]}], "needs"),
        ([{"text": "x", "needs": [0]}], "needs"),
        ([{"text": "x", "hard": "yes"}], "true or false"),
        ([{"text": "x", "name": "a"}, {"text": "y", "name": "a"}], "one name"),
    ],
)
def test_a_bad_rubric_is_refused_with_its_place(bad, words: str) -> None:
    with pytest.raises(SteelyardError, match=words):
        read_criteria(bad)


def test_tables_that_do_not_fit_are_refused() -> None:
    with pytest.raises(SteelyardError, match="do not fit"):
        value([1, 1], [1, 1, 1])
    with pytest.raises(SteelyardError, match=r"in \[0, 1\]"):
        value([2], [1])
    with pytest.raises(SteelyardError, match="missing is 'zero'"):
        value([1], [1], missing="zero")


# Over a judge.

CRITERIA = [Criterion("names the capital", weight=2, name="capital"), Criterion("is polite", hard=True), "is short"]


def contains(fields: dict) -> str | None:
    """Answers a criterion by its last word; garbage and silence on request."""
    word = fields["criterion"].split()[-1]
    if f"garble {word}" in fields["response"]:
        return "I would say yes"
    return (
        None
        if "silence" in fields["response"]
        else json.dumps({"label": "yes" if word in fields["response"] else "no"})
    )


def together(fields: dict) -> str:
    labels = {}
    for name, asked in fields["criteria"].items():
        label = json.loads(contains({"response": fields["response"], "criterion": asked["check"]}) or "{}")
        labels[name] = label.get("label")
    return json.dumps({"labels": labels})


def rule(function) -> RuleJudge:
    return RuleJudge(lambda prompt: function(json.loads(prompt[-1]["content"])), name="rule")


def rollouts(*completions: str, **columns) -> Rollouts:
    return Rollouts([Sample("s", "q", columns=columns)] * len(completions), list(completions))


def test_both_ways_of_asking_give_the_same_scores() -> None:
    texts = ["capital polite short", "capital polite", "capital short", "polite"]
    for reward in (rubric(rule(contains), CRITERIA), checklist(rule(together), CRITERIA)):
        scores = reward(rollouts(*texts))
        np.testing.assert_allclose(scores.values, [1, 0.75, 0, 0.25])
        assert scores.steps.shape == (4, 3) and scores.steps[2].tolist() == [1, 0, 1]
        name = reward.base
        assert scores.parts[f"{name}/capital"].tolist() == [1, 1, 1, 0] and f"{name}/c3" in scores.parts
        assert scores.parts[f"{name}/gate"].tolist() == [1, 1, 0, 1]


def test_one_bad_reply_costs_one_criterion_not_the_row_unless_the_caller_says_so() -> None:
    texts = ["capital polite garble short", "silence"]
    kept = rubric(rule(contains), CRITERIA, missing="skip")(rollouts(*texts))
    assert kept.values[0] == 1 and np.isnan(kept.values[1]) and kept.status.tolist() == [0, Status.FAILED]
    np.testing.assert_allclose(kept.parts["rubric/unjudged"], [1 / 3, 1])
    lost = rubric(rule(contains), CRITERIA)(rollouts(*texts))
    assert np.isnan(lost.values).all() and lost.status.tolist() == [Status.UNPARSED, Status.FAILED]
    garbage = checklist(RuleJudge(lambda prompt: "all good!"), CRITERIA)(rollouts("x"))
    assert np.isnan(garbage.values[0]) and garbage.status[0] == Status.UNPARSED


def test_rows_bring_their_own_criteria_ragged_or_none() -> None:
    samples = [
        Sample(
            "a",
            "q",
            columns={"rubric": ["is short", {"text": "has a cat", "levels": {"no": 0, "some": 0.5, "yes": 1}}]},
        ),
        Sample("b", "q", columns={"rubric": ["is polite"]}),
        Sample("c", "q", columns={"rubric": []}),
    ]
    scores = rubric(rule(contains))(Rollouts(samples, ["short", "polite", "x"]))
    np.testing.assert_array_equal(scores.values, [0.5, 1, NAN])
    np.testing.assert_array_equal(scores.steps, [[1, 0], [1, NAN], [NAN, NAN]])
    assert scores.status.tolist() == [0, 0, Status.NOT_APPLICABLE]
    with pytest.raises(SteelyardError, match="row 1, column 'rubric', criterion 1"):
        rubric(rule(contains))(Rollouts([samples[0], Sample("x", "q", columns={"rubric": [3]})], ["a", "b"]))
    with pytest.raises(SteelyardError, match="no criteria"):
        rubric(rule(contains), [])


def test_prompts_one_a_criterion_or_one_a_row() -> None:
    for reward, function, prompts in ((rubric, contains, 6), (checklist, together, 2)):
        asked: list[dict] = []
        reward(rule(lambda fields, f=function, a=asked: a.append(fields) or f(fields)), CRITERIA)(rollouts("a", "b"))
        assert len(asked) == prompts


def test_a_rubric_is_a_reward_of_the_algebra() -> None:
    from steelyard.rewards import clip

    reward = clip(0.5 * rubric(rule(contains), [Criterion("capital"), Criterion("rude", weight=-3)]), 0, 1)
    assert reward(rollouts("capital", "capital rude")).values.tolist() == [0.5, 0]
    assert "rubric('rule', 2 criteria)" in repr(reward)


@pytest.mark.parametrize("ask", [rubric, checklist])
def test_no_rows_no_scores(ask: Any) -> None:
    scores = ask(RuleJudge(lambda prompt: None), ["polite", "short"])(Rollouts([], []))
    assert len(scores) == 0 and all(len(part) == 0 for part in scores.parts.values())
