"""Multiple choice in the forms that models and tables write it in."""

from typing import Any

import numpy as np
import pytest

from steelyard.rewards import choice_correct, score_one
from steelyard.types import SteelyardError

CITIES = ["Paris", "London", "Rome", "Berlin"]


def value(completion: str, answer: Any, options: Any = CITIES) -> float:
    return float(score_one(choice_correct, completion=completion, answer=answer, options=options).values[0])


@pytest.mark.parametrize(
    "completion",
    [
        "b", "(b)", "Answer: b", r"\boxed{b}", "<answer>b</answer>", r"\boxed{\text{B}}", r"\boxed{\textbf{(B)}}",
        r"\boxed{(B)\ London}", r"$\boxed{\mathrm{B}}$", "The best answer is $B$", "答案是B", "正确答案为 (B)。",
        r"\boxed{\text{London}}",
        "The answer is London, not Paris.", "<think>A? The answer is C.</think>B", "The answer must be B", "B) London",
        "The answer is (B) London because A is wrong.", "I think it's london",
    ],
)  # fmt: skip
def test_ways_to_choose_b(completion: str) -> None:
    assert value(completion, "B") == value(completion, "London") == value(completion, "b") == value(completion, 1) == 1
    assert value(completion, "A") == value(completion, 0) == 0


@pytest.mark.parametrize("completion", ["A, B", "A and B", r"\boxed{A, B}", "<answer>A\nB</answer>", "(A) or (B)"])
def test_two_letters_choose_neither_alone(completion: str) -> None:
    assert value(completion, "A") == value(completion, "B") == 0
    assert value(completion, "B, A") == value(completion, "A and B") == 1


def test_what_was_only_thought_is_no_choice() -> None:
    assert value("<think>The answer is A</think> I do not know", "A") == 0


def test_words_are_whole_words_and_the_longest_counts() -> None:
    assert value("The answer is 12", "A", ["12", "2"]) == 1 and value("The answer is 12", "B", ["12", "2"]) == 0
    assert value("It is 12.5", "A", ["12", "2"]) == 0
    assert value("New York it is", "B", ["York", "New York"]) == 1


def test_tables_hold_options_in_several_forms() -> None:
    arc = {"label": ["1", "2", "3", "4"], "text": CITIES}
    lettered = dict(zip("ABCD", CITIES, strict=True))
    for options in (CITIES, tuple(CITIES), arc, lettered, [f"{k}. {word}" for k, word in lettered.items()]):
        assert value("It is London", "B", options) == value("B", "London", options) == 1
    assert value("London", "2", arc) == 1
    assert value("London", "London", None) == value("B", "B", float("nan")) == 1


def test_small_letters_among_the_options_are_words() -> None:
    assert value("y", "B", ["x", "y"]) == value("y", "y", ["x", "y"]) == value(r"\boxed{y}", 1, ["x", "y"]) == 1
    assert value("A", "A", ["b", "a"]) == value("a", "B", ["b", "a"]) == 1 and value("a", "A", ["b", "a"]) == 0


def test_numbers_among_the_options_come_before_the_place() -> None:
    assert value("B", np.int64(1)) == 1
    assert value("B", 2, ["3", "2", "1"]) == 1 and value("C", 2, ["x", "y", "z"]) == 1


@pytest.mark.parametrize("empty", ["", r"\boxed{}", "<answer></answer>", "the"])
def test_nothing_is_chosen_by_nothing(empty: str) -> None:
    for gold in ("B", "", "the", "London"):
        assert value(empty, gold) == value(empty, gold, None) == 0


@pytest.mark.parametrize(
    ("answer", "options", "words"),
    [
        ("B", "ABCD", "options are"), ("B", 7, "options are"), ("B", ["x"] * 27, "27 options"),
        (4, CITIES, "from 0 to 3"),
        ({"a": 1}, CITIES, "the answer is"), (["B"], CITIES, "the answer is"),
    ],
)  # fmt: skip
def test_what_is_no_question_is_told(answer: Any, options: Any, words: str) -> None:
    with pytest.raises(SteelyardError, match=words):
        value("B", answer, options)


def test_take_is_first_or_last() -> None:
    with pytest.raises(SteelyardError, match="it is 'first' or 'last'"):
        score_one(choice_correct.using(take="middle"), completion="B", answer="B")
