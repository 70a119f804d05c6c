"""Flawed right answers: worked numbers of sheet 20, its exact checks, judges that fail, the judge's own reward."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steelyard.learn.advantages import advantages_of, centre, chain, scale
from steelyard.rewards import boxed_match, first_error, first_error_found, flaw_penalty, reward, score_one
from steelyard.rewards.flaws import Mixture, mixture, sound_steps, split_steps
from steelyard.rewards.judges import RuleJudge, critique_prompt, parse_first_error
from steelyard.types import Array, Rollouts, Sample, Scores, Status, SteelyardError

GRPO = chain(centre(), scale(epsilon=1e-6))


@reward
def right(kind: str) -> float:
    """sound and flawed rows are right; `?` cannot be told"""
    return {"c": 1.0, "f": 1.0, "u": 1.0, "n": 0.0, "?": math.nan}[kind]


@reward
def flaw(kind: str) -> float:
    """`u` is a judge's failure"""
    return {"c": 0.0, "f": 1.0, "u": math.nan, "n": 0.0, "?": 1.0}[kind]


def scored(kinds: str, *, group: list[int] | None = None, penalty: float = 1.0) -> tuple[Rollouts, Scores]:
    samples = [Sample(f"s{i}", "p", columns={"kind": kind}) for i, kind in enumerate(kinds)]
    rollouts = Rollouts(samples, [""] * len(kinds), group or [0] * len(kinds))
    return rollouts, flaw_penalty(right, flaw, penalty=penalty)(rollouts)


def advantages(kinds: str, penalty: float = 1.0) -> Array:
    rollouts, scores = scored(kinds, penalty=penalty)
    return GRPO(advantages_of(scores), rollouts, scores).values


def test_the_sheet_s_worked_groups() -> None:
    np.testing.assert_allclose(advantages("cfnnnnnn")[:3], [2.18406701, 0.84002572, -0.50401545], rtol=1e-6)
    np.testing.assert_allclose(advantages("cfnnnnnn", 0.0)[:2], 1.62018335, rtol=1e-6)
    np.testing.assert_allclose(advantages("cccffnnn")[[0, 3, 5]], [1.08012223, 0, -1.08012223], atol=1e-6)
    np.testing.assert_allclose(advantages("cccccffn")[[0, 5, 7]], [0.66143698, -0.66143698, -1.98431087], rtol=1e-6)
    for alike in ("ffff", "cccc", "nnnn"):
        assert not advantages(alike).any()
    np.testing.assert_allclose(advantages("ccff"), [0.8660239, 0.8660239, -0.8660239, -0.8660239], rtol=1e-6)
    assert not advantages("ccff", 0.0).any(), "without the penalty there is no signal"


def test_failures_of_the_judge_are_no_flaws_and_unknown_outcomes_stay_unknown() -> None:
    _, scores = scored("cfun?", group=[0, 0, 1, 1, 1])
    np.testing.assert_array_equal(scores.values, np.asarray([1, 0, 1, -1, np.nan], np.float32))
    assert scores.status.tolist() == [Status.SCORED] * 4 + [Status.FAILED]  # type: ignore[union-attr]
    parts = {name: scores.parts[f"flaws/{name}"] for name in ("sound", "flawed", "wrong", "unread", "refining")}
    nan = math.nan
    expected = {
        "sound": [1, 0, 1, 0, nan],
        "flawed": [0, 1, 0, 0, nan],
        "wrong": [0, 0, 0, 1, nan],
        "unread": [0, 0, 1, 0, nan],
        "refining": [1, 1, 0, 0, nan],
    }
    for name, values in expected.items():
        np.testing.assert_array_equal(parts[name], values, err_msg=name)


def test_only_right_answers_are_read_and_the_judge_sees_numbered_steps() -> None:
    seen = []

    def judge(prompt: object) -> str:
        seen.append(json.loads(prompt[1]["content"]))  # type: ignore[index]
        return r"first \boxed{-1}, no: \boxed{1}"

    sample = Sample("s", "2 + 2?", columns={"answer": "4"})
    texts = ["two\n\n\\boxed{5}", "I guess\n \n\n\nso \\boxed{4}\n\n", "4"]
    scores = flaw_penalty(boxed_match, first_error(RuleJudge(judge)))(Rollouts([sample] * 3, texts, [0, 0, 0]))
    assert seen == [{"problem": "2 + 2?", "answer": "4", "steps": {"0": "I guess", "1": r"so \boxed{4}"}}]
    np.testing.assert_array_equal(scores.values, [-1, 0, -1])
    np.testing.assert_array_equal(scores.parts["flawed/step"], [np.nan, 1, np.nan])


def test_nobody_is_asked_where_nothing_is_right() -> None:
    def never(prompt: object) -> str:
        raise AssertionError("asked")

    scores = score_one(
        flaw_penalty(boxed_match, first_error(RuleJudge(never))), completion="no", prompt="p", answer="4"
    )
    assert scores.values[0] == -1


@pytest.mark.parametrize(
    "reply", ["", "no idea", None, r"\boxed{-2}", r"\boxed{}", r"\boxed{1.0}", r"\boxed{__import__('os')}"]
)
def test_what_cannot_be_read_is_no_flaw(reply: str | None) -> None:
    asked = first_error(RuleJudge(lambda prompt: reply))
    alone = score_one(asked, completion=r"\boxed{4}", prompt="p", answer="4")
    assert math.isnan(alone.values[0])
    assert alone.status[0] == (Status.FAILED if reply is None else Status.UNPARSED)  # type: ignore[index]
    assert score_one(flaw_penalty(boxed_match, asked), completion=r"\boxed{4}", prompt="p", answer="4").values[0] == 1


def test_a_critique_is_a_process_reward_too() -> None:
    np.testing.assert_array_equal(
        sound_steps(np.asarray([1, -1, 0, np.nan, 2.0]), np.asarray([3, 2, 1, 2, 2])),
        np.asarray([[1, 0, 0], [1, 1, np.nan], [0, np.nan, np.nan], [np.nan] * 3, [np.nan] * 3], np.float32),
    )
    scores = score_one(first_error(RuleJudge(lambda p: r"\boxed{1}")), completion="a\n\nb\n\nc", prompt="p", answer="4")
    assert scores.steps.tolist() == [[1, 0, 0]] and scores.values[0] == 1  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("said", "label", "steps", "value"),
    [
        (r"\boxed{3}", 3, 8, 1),
        (r"\boxed{ 5 }", 3, 8, 0.75),
        (r"\boxed{-1}", 3, 8, -1),
        (r"\boxed{8}", 3, 8, -1),
        (r"\boxed{-2}", -1, 8, -1),
        ("none", 3, 8, -1),
        (r"\boxed{-1}", -1, 8, 1),
        (r"\boxed{2}", -1, 8, -1),
        (r"\boxed{4}", 1, 5, 0.4),
        (r"\boxed{3} then \boxed{1}", 3, 8, 0.75),
        (r"\boxed{3}" + "." * 300, 3, 8, -1),
    ],
)
def test_what_a_critic_earns(said: str, label: int, steps: int, value: float) -> None:
    scores = score_one(first_error_found, completion=said, first_error=label, steps=steps)
    assert scores.values[0] == pytest.approx(value)


def test_a_label_outside_the_steps_is_refused() -> None:
    with pytest.raises(SteelyardError, match="first_error is 8 of 8 steps"):
        score_one(first_error_found, completion="", first_error=8, steps=8)
    with pytest.raises(SteelyardError, match="must be ≥ 0"):
        flaw_penalty(right, flaw, penalty=-1)


@given(st.lists(st.sampled_from("cfn"), min_size=2, max_size=40), st.floats(0, 2))
def test_the_closed_form_is_what_normalising_gives(kinds: list[str], penalty: float) -> None:
    rollouts, scores = scored("".join(kinds), penalty=penalty)
    marks = (np.asarray([kind == which for kind in kinds]) for which in "cfn")
    mix = mixture(*marks, np.zeros(len(kinds), np.int64))
    expected = mix.advantages(penalty)[["cfn".index(kind) for kind in kinds], 0]
    start = advantages_of(scores)
    found = chain(centre(), scale(ddof=0, epsilon=1e-12))(start, rollouts, scores).values
    if scores.values.std() > 1e-3:
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)
    assert np.isclose(mix.std(1.0) ** 2 - mix.std(0.0) ** 2, mix.flawed * (mix.sound - 3 * mix.wrong), atol=1e-9).all()
    flawed = mix.advantages(1.0)[1]
    assert (np.sign(flawed[mix.flawed > 0]) == np.sign((mix.wrong - mix.sound)[mix.flawed > 0])).all()


def test_closed_form_numbers_and_edges() -> None:
    mix = Mixture(*np.asarray([[0.1, 0.6, 1.0, 0.0], [0.1, 0.2, 0.0, 1.0], [0.8, 0.2, 0.0, 0.0]]))
    np.testing.assert_allclose(mix.std()[:2], [0.64031242, 0.8])
    np.testing.assert_allclose(mix.advantages()[:2, :2], [[2.65495395, 0.75], [1.09321633, -0.5]])
    assert mix.std(0.0)[1] == pytest.approx(0.8) and not mix.advantages()[:, 2:].any()
    np.testing.assert_array_equal(mix.ratio[1:], [np.float64(0.6) / 0.2, np.inf, np.nan])
    empty = mixture(*np.zeros((3, 2), bool), np.asarray([0, 0]))
    assert np.isnan(empty.sound).all()


def test_prompt_and_splitting() -> None:
    system, user = critique_prompt("p</s>", "4", ["a", "b"])
    assert r"\boxed{-1}" in system["content"] and "</s>" not in user["content"]
    assert split_steps("\n\na\n \t\n\n b\nc\n\n") == ["a", "b\nc"] and split_steps(" \n\n ") == []
    assert parse_first_error(r"\boxed{7}", steps=7).status == Status.UNPARSED
