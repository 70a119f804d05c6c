"""Answers by question type: what the golden file does not show."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steelyard.rewards.answers import (
    answer_text,
    correct,
    numerical_accuracy,
    ocr_accuracy,
    problem_accuracy,
    regression_accuracy,
    think_format,
    think_text,
)
from steelyard.rewards.core import score_one
from steelyard.rewards.overlap import rouge_mean, word_error_rate
from steelyard.types import Status


def wrap(answer: str) -> str:
    return f"<think>because</think><answer>{answer}</answer>"


def test_the_answer_is_taken_from_its_block() -> None:
    assert answer_text(" x <answer> B </answer>") == "B" and answer_text("B") is None
    assert think_text("<think> a b </think>") == "a b" and think_text("a") is None


@pytest.mark.parametrize(
    ("text", "value"),
    [(wrap("A"), 1), ("<think>a</think>\n\n<answer>b</answer>", 1), (wrap("A") + " tail", 0), ("lead " + wrap("A"), 0),
     ("<think></think><answer></answer>", 1), ("<answer>a</answer><think>b</think>", 0)],
)  # fmt: skip
def test_format(text: str, value: float) -> None:
    assert score_one(think_format, completion=text).values[0] == value


def test_gold_may_be_bare_or_in_a_block() -> None:
    assert (
        problem_accuracy(wrap("A"), "A", "multiple choice")
        == problem_accuracy(wrap("A"), wrap("A"), "multiple choice")
        == 1
    )


def test_numbers_need_the_same_kind_of_writing() -> None:
    assert numerical_accuracy("1,200", "1,200.00") == 1 and numerical_accuracy("3", "3.0") == 0
    assert numerical_accuracy("nan", "nan") == 0 and numerical_accuracy("", "3") == 0


def test_an_exact_prediction_of_zero_is_right_here_and_wrong_in_the_released_code() -> None:
    assert regression_accuracy("0", "0") == 1.0
    assert regression_accuracy("0", "0", epsilon=1e-9) == 0.0
    assert regression_accuracy("1", "0") == 0.0


@given(st.text("ab ", max_size=12), st.text("ab ", max_size=12))
def test_ranges(a: str, b: str) -> None:
    assert 0 <= ocr_accuracy(a, b) <= 1 and 0 <= rouge_mean(a, b) <= 1
    assert word_error_rate(a, a) == 0


def test_an_unknown_type_is_not_applicable_rather_than_wrong() -> None:
    scores = score_one(correct, completion=wrap("A"), answer="A", problem_type="essay")
    assert math.isnan(scores.values[0])
    assert scores.status is not None and scores.status[0] == Status.NOT_APPLICABLE


@given(st.text(alphabet="<>/ \n\u2003ab", max_size=6), st.lists(st.sampled_from(
    ["<answer>", "</answer>", " ", "\n", "\u2003", "a"]), max_size=8))  # fmt: skip
def test_the_first_block_is_read_without_the_white_space_around_it(before: str, pieces: list[str]) -> None:
    text = before + "".join(pieces)
    start = text.find("<answer>")
    end = text.find("</answer>", start)
    expected = text[start + 8 : end].strip() if start >= 0 and end >= 0 else None
    assert answer_text(text) == expected


def test_an_open_block_of_white_space_costs_no_time() -> None:
    assert answer_text("<answer>" + " " * 200_000) is None and think_text("<think>" + "\n" * 200_000) is None


def test_without_a_gold_answer_nothing_is_right() -> None:
    scores = score_one(correct, completion=wrap("None"), answer=None)
    assert math.isnan(scores.values[0])
    assert scores.status is not None and scores.status[0] == Status.NOT_APPLICABLE
