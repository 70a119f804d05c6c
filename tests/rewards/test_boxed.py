"""Boxed answers compared as texts: worked cases, and the same answers as verl's function."""

import functools
import importlib.util
import math
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steelyard.rewards import boxed_match, score_one
from steelyard.rewards.boxed import boxed_answer, minerva_normalised
from steelyard.rewards.final_answers import closed_box
from steelyard.types import Status

PIECES = [
    "x=", "an ", "a ", " ", "$", ".$", r"\$", r"\ ", r"\text{and}", r",\text{and}", r"\text{m}", r"\mbox{s}", "square",
    "hours", r"\text{s}", "\\text{\ns}", r"\text{}^2", "\\text{\n}", r"\text{}", r"^\circ", r"^{\circ}", r"\;", r",\!",
    "{,}", '"', r"\dots", r"\ldots", r"\text{km}", r"\textbf{3}", r"\overline{AB}", r"\boxed{7}", r"\frac12", r"\frac",
    r"\sqrt3", r"\sqrt", "1", "23", "1,000", ",", "b", "{", "}", "\n", r"\mathrm{th}", "childrentickets", "=",
]  # fmt: skip


@functools.cache
def peer() -> Callable[[str], str]:
    """verl's function, from its file: the package itself wants what this environment may not have."""
    found = importlib.util.find_spec("verl")
    if found is None or not found.submodule_search_locations:
        pytest.skip("needs verl's files")
    path = Path(found.submodule_search_locations[0]) / "utils" / "reward_score" / "math_dapo.py"
    spec = importlib.util.spec_from_file_location("peer_math_dapo", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.normalize_final_answer  # type: ignore[no-any-return]


@given(st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=3)), max_size=8).map("".join))
@settings(max_examples=500, deadline=None)
def test_normalised_as_verl_does(answer: str) -> None:
    assert minerva_normalised(answer) == peer()(answer)


@pytest.mark.parametrize(
    ("completion", "answer", "value"),
    [
        (r"so \boxed{42}.", "42", 1),
        (r"so \boxed{x=\frac12}.", r"\frac{1}{2}", 1),
        (r"\boxed{1,000} dollars", 1000, 1),
        (r"\boxed{0.5}", r"\frac{1}{2}", 0),
        (r"\boxed{41}, no, \boxed{42}", "42", 1),
        (r"\boxed{42}, no, \boxed{4", "42", 0),
        ("42", "42", 0),
        (r"\boxed{42}", ["41", "42"], 1),
        (r"\boxed{42}" + "." * 293, "42", 0),
        (r"\boxed{42}" + "." * 290, "42", 1),
    ],
)
def test_the_last_box_counts(completion: str, answer: str | int, value: float) -> None:
    assert score_one(boxed_match, completion=completion, answer=answer).values[0] == value


def test_without_a_gold_there_is_no_verdict_and_without_a_box_no_answer() -> None:
    scores = score_one(boxed_match, completion=r"\boxed{1}", answer=None)
    assert math.isnan(scores.values[0]) and scores.status[0] == Status.NOT_APPLICABLE  # type: ignore[index]
    assert boxed_answer("none") is None and closed_box(r"\boxed{1} \boxed{2") is None
    assert closed_box(r"\boxed{\frac{1}{2}}") == r"\frac{1}{2}"
