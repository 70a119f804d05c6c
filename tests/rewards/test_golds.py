"""What tables hold: missing values, and lists that come as arrays."""

import math
from typing import Any

import numpy as np
import pytest

from steelyard.rewards import (
    bleu,
    choice_correct,
    citation_f1,
    code_tests,
    exact_match,
    quotes_found,
    rouge,
    score_one,
    tool_calls,
)
from steelyard.rewards.golds import gold_texts, is_missing, listed
from steelyard.types import SteelyardError


@pytest.mark.parametrize("nothing", [None, math.nan, np.float32("nan"), np.float64("nan")], ids=repr)
def test_nothing_is_missing(nothing: Any) -> None:
    assert is_missing(nothing) and gold_texts(nothing) == [] and gold_texts([nothing, "a"]) == ["a"]


def test_something_is_not_missing() -> None:
    assert not any(map(is_missing, ["", "nan", "None", 0, False, [], math.inf]))
    assert listed(np.array([[1, 2]])) == [[1, 2]] and listed("ab") == "ab"


@pytest.mark.parametrize(
    ("graded", "completion", "column", "values"),
    [
        (bleu, "the cat sat down", "references", ["the cat sat down"]), (rouge, "a b", "references", ["a b"]),
        (exact_match, "b", "answer", ["a", "b"]), (citation_f1, "so [1]", "relevant", ["1"]),
        (quotes_found, '"the cat sat"', "sources", ["the cat sat"]),
        (tool_calls, '{"name": "f"}', "reference", [{"name": "f"}]),
        (code_tests, "x = 1", "tests", ["assert x == 1"]),
    ],
    ids=repr,
)  # fmt: skip
def test_lists_may_come_as_arrays(graded: Any, completion: str, column: str, values: list[Any]) -> None:
    lists = [values, np.array(values, object)]
    first, second = (score_one(graded, completion=completion, **{column: given}).values[0] for given in lists)
    assert first == second > 0.9


def test_options_may_come_as_arrays() -> None:
    for options in (np.array(["x", "y"]), {"label": np.array(["A", "B"]), "text": np.array(["x", "y"])}):
        assert score_one(choice_correct, completion="y", answer="B", options=options).values[0] == 1


def test_weights_that_are_no_numbers_are_told() -> None:
    for wrong in (["heavy"], None, [None], "1"):
        with pytest.raises(SteelyardError, match=r"row 0: test_weights .* do not fit 1 tests"):
            score_one(code_tests, completion="x = 1", tests=["assert x"], test_weights=wrong)
