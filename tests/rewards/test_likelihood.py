"""Likelihood rewards: splicing, averages, the sheet's worked numbers, caching, and what cannot be judged."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steelyard.rewards import clip, gate, reward
from steelyard.rewards.answers import tags_in_order
from steelyard.rewards.likelihood import (
    base_likelihood,
    geometric_probability,
    mean_logprob,
    mean_probability,
    product_probability,
    reference_likelihood,
    splice,
)
from steelyard.rewards.shaping import repeats
from steelyard.types import Rollouts, Sample, Status, SteelyardError, TextScores, overlapping

GOOD = "<think>a</think><answer>7</answer>"


class Speller:
    """A scorer whose tokens are characters: p = 0.8 behind the thought `good`, 0.4 behind others, 0.3 without one."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str | None]] = []

    def score_texts(self, samples, texts, *, spans=None, copy=None):
        self.asked += [(text, copy) for text in texts]
        width = max(map(len, texts))
        starts = np.broadcast_to(np.arange(width), (len(texts), width))
        offsets = np.stack([starts, starts + 1], axis=2)
        mask = overlapping(offsets, spans)
        p = [0.8 if "good" in text else 0.4 if "<think>" in text else 0.3 for text in texts]
        return TextScores(np.where(mask, np.log(p)[:, None], 0.0), mask, offsets)


def rollouts(completions: list[str], answers: list[str | None] | None = None) -> Rollouts:
    answers = answers or ["42"] * len(completions)
    samples = [Sample(f"s{i}", "q", columns={"answer": y}) for i, y in enumerate(answers)]
    return Rollouts(samples, completions)


def averages(p: list[float]) -> list[float]:
    logprobs, mask = np.log([p]), np.ones((1, len(p)), bool)
    return [float(f(logprobs, mask)[0]) for f in (mean_probability, product_probability, geometric_probability)]


def test_the_sheets_averages():
    assert averages([0.9, 0.8]) == pytest.approx([0.85, 0.72, 0.84852814])
    assert averages([0.9, 1e-4, 0.95])[:2] == pytest.approx([0.6167, 8.55e-5], abs=5e-5)
    assert averages([0.9, 1e-5, 0.95])[:2] == pytest.approx([0.61667, 8.55e-6], rel=1e-5)
    assert averages([0.37]) == pytest.approx([0.37] * 3), "one token: all agree"
    nothing = np.zeros((1, 2)), np.zeros((1, 2), bool)
    four = (mean_probability, product_probability, geometric_probability, mean_logprob)
    assert [float(f(*nothing)[0]) for f in four] == [0, 0, 0, 0]


def test_averages_take_no_notice_of_what_is_masked():
    logprobs = np.array([[math.log(0.5), -math.inf, math.log(0.7)], [np.nan, 0.0, math.log(0.2)]])
    mask = np.array([[True, False, True], [False, False, True]])
    assert mean_probability(logprobs, mask) == pytest.approx([0.6, 0.2])
    assert product_probability(logprobs, mask) == pytest.approx([0.35, 0.2])


SPLICES = [
    ("<think>a</think> <answer> 7 </answer> tail", "42", "<think>a</think> <answer> 42</answer>"),
    ("<think>a</think><answer>\n\n7</answer>", "42", "<think>a</think><answer>\n\n42</answer>"),
    ("<think>a 42</think><answer>7</answer>", "42", "<think>a 42</think><answer> 42</answer>"),
    ("<think>a</think><answer></answer>", "answer", "<think>a</think><answer> answer</answer>"),
]


@pytest.mark.parametrize(("completion", "reference", "expected"), SPLICES)
def test_splice(completion: str, reference: str, expected: str):
    spliced = splice(completion, reference)
    assert spliced is not None and spliced.text == expected
    assert spliced.text[spliced.start : spliced.end] == reference


@pytest.mark.parametrize("text", ["7", "<answer>7</answer>", "<think>a</think><answer>7", GOOD + "<answer>8</answer>"])
def test_what_cannot_be_spliced(text: str):
    assert splice(text, "42") is None
    assert reference_likelihood(policy=Speller())(rollouts([text, GOOD])).values.tolist() == pytest.approx([0, 0.4])


def test_without_thinking_anything_may_stand_before_the_answer():
    spliced = splice("so <answer>7</answer>", "42", tags=("answer",))
    assert spliced is not None and spliced.text == "so <answer> 42</answer>"


@given(st.text(), st.text(), st.text())
def test_a_reference_stands_where_it_is_said_to(before: str, answer: str, reference: str):
    spliced = splice(f"{before}<answer>{answer}</answer>", reference, tags=("answer",))
    if spliced is not None:
        assert spliced.text[spliced.start : spliced.end] == reference and spliced.text.endswith("</answer>")


FORMS = [
    ("<think>a</think> <answer> 7 </answer>", 1, 1),
    ("<think>a\nb</think>\n<answer>\n7\n</answer> end", 1, 1),
    (GOOD + "<answer>8</answer>", 0, 0),
    ("<answer>7</answer><think>a</think>", 0, 1),
    ("<answer>7</answer>", 0, 1),
    ("x <think>a</think><answer>7</answer>", 0, 1),
    ("<think>a<answer>7</think></answer>", 0, 1),
    ("</answer><answer>", 0, 0),
]


@pytest.mark.parametrize(("text", "with_think", "answer_only"), FORMS)
def test_tag_format(text: str, with_think: float, answer_only: float):
    assert tags_in_order("think", "answer")(rollouts([text])).values.tolist() == [with_think]
    assert tags_in_order("answer", prefix=True)(rollouts([text])).values.tolist() == [answer_only]


def column(name: str):
    """A reward that is a column of the sample."""

    def read(sample):
        return sample.columns[name]

    return reward(name=name)(read)


WORKED = [(0.8, 0.3, 1, 0.55), (0.3, 0.8, 1, 0.1), (0.5, 0.5, 0, 0.0), (1.0, 0.0, 1, 1.0), (0.0, 0.4, 0, 0.0)]


@pytest.mark.parametrize(("r", "base", "form", "total"), WORKED)
def test_the_sheets_combination(r: float, base: float, form: float, total: float):
    row = Rollouts([Sample("s", "", columns={"r": r, "base": base, "form": form})], [""])
    debiased = clip(column("r") - column("base"), 0, 1)
    assert (0.9 * debiased + 0.1 * column("form"))(row).values[0] == pytest.approx(total, abs=1e-6)
    other = gate(debiased, by=column("form"), above=0.5, otherwise=-1)
    assert other(row).values[0] == pytest.approx(max(0, r - base) if form else -1)


def test_the_whole_reward_and_its_parts():
    speller = Speller()
    whole = (
        0.9 * clip(reference_likelihood(policy=speller) - base_likelihood(policy=speller), 0, 1)
        + 0.1 * tags_in_order("think", "answer")
        - repeats(window=2, limit=3)
    )
    texts = ["<think>good</think><answer>7</answer>", GOOD, "7", "<think>good a b a b a b a</think><answer>7</answer>"]
    scores = whole(rollouts(texts))
    assert scores.values == pytest.approx([0.9 * 0.5 + 0.1, 0.9 * 0.1 + 0.1, 0, 0.55 - 1], abs=1e-6)
    assert scores.parts["likelihood"] == pytest.approx([0.8, 0.4, 0, 0.8])
    assert scores.parts["base_likelihood"] == pytest.approx([0.3] * 4)
    assert set(scores.parts) == {"likelihood", "base_likelihood", "tags_in_order", "repeats"}


def test_an_empty_reference_pays_nothing_and_no_reference_does_not_apply():
    both = reference_likelihood(policy=Speller())(rollouts([GOOD, GOOD], ["", None]))
    assert both.values[0] == 0 and np.isnan(both.values[1])
    assert both.status.tolist() == [Status.SCORED, Status.NOT_APPLICABLE]
    base = base_likelihood(policy=Speller())(rollouts([GOOD], [None]))
    assert base.status.tolist() == [Status.NOT_APPLICABLE]


def test_the_base_is_asked_once_for_a_sample_and_kept():
    speller = Speller()
    base = base_likelihood(opening="<answer> ")
    base.use_policy(speller)
    rows = rollouts([GOOD, "7"], ["42", "1"])
    for _ in range(2):
        base(rows.take([0, 0, 1]))
    assert speller.asked == [("<answer> 42", "reference"), ("<answer> 1", "reference")]
    other = 1.0 * base_likelihood(opening="<answer> ")
    other.use_policy(speller)
    other.load_state_dict((1.0 * base).state_dict())
    assert other(rows).values == pytest.approx([0.3, 0.3]) and len(speller.asked) == 2
    assert base.needs_reference and not base_likelihood(copy=None).needs_reference
    assert (2 * clip(base, 0, 1)).needs_reference and not base_likelihood(policy=speller).needs_reference


def test_the_policy_reaches_every_part_but_a_fixed_one():
    fixed, trained = Speller(), Speller()
    first, second = reference_likelihood(policy=fixed), reference_likelihood(average=product_probability)
    whole = 0.5 * first + clip(second, 0, 1)
    whole.use_policy(trained)
    assert whole(rollouts([GOOD])).values == pytest.approx([0.5 * 0.4 + 0.16])
    assert len(fixed.asked) == len(trained.asked) == 1
    assert repr(second) == "reference_likelihood(average=product_probability, tags=('think', 'answer'))"


def test_without_a_policy_or_a_column_one_sentence():
    with pytest.raises(SteelyardError, match="asks a policy and has none; the trainer gives it its own"):
        reference_likelihood()(rollouts([GOOD]))
    with pytest.raises(SteelyardError, match="'likelihood': object cannot say how likely a text is"):
        reference_likelihood(policy=object())(rollouts([GOOD]))
    with pytest.raises(SteelyardError, match="'likelihood': row 0 has no column 'gold'"):
        reference_likelihood(policy=Speller(), column="gold")(rollouts([GOOD]))
    assert np.isnan(reference_likelihood()(rollouts([GOOD], [None])).values).all(), "nothing to ask"


def test_repeats():
    ten = "a b c d e f g h i j"
    text = " ".join([ten] * 7)
    cases = [(text, 6, 1), (text, 7, 1), (text, 8, 0), (ten, 1, 0), (ten + " k", 1, 1), (text.replace(" ", "_"), 7, 1)]
    for words, limit, expected in cases:
        assert repeats(window=10, limit=limit)(rollouts([words])).values.tolist() == [expected], (words[:30], limit)
    assert repr(repeats()) == "repeats(window=10, limit=10)"
    with pytest.raises(SteelyardError, match="both must be at least 1"):
        repeats(window=0)
