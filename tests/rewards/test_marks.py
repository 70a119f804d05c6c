"""Marks from 1 to 5: strict readers, and the released servers' readers beside them."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steelyard.rewards.judges.marks import (
    parse_boxed_mark,
    parse_mark,
    parse_three_marks,
    released_alignment_mark,
    released_edit_mark,
    released_quality,
    released_quality_marks,
)
from steelyard.types import Status

STRICT = (parse_mark, parse_boxed_mark, parse_three_marks)


@pytest.mark.parametrize(
    ("parse", "text", "value"),
    [
        (parse_mark, '{"reasoning": "ok", "score": [4]}', 4),
        (parse_mark, '```json\n{"score": 5}\n```', 5),
        (parse_boxed_mark, "All are met.\n\\boxed{3}", 3),
        (parse_boxed_mark, "\\boxed{[2]} and again \\boxed{2}", 2),
        (parse_three_marks, '{"score": [4, 5, 3], "reasoning": "x"}', 3),
    ],
)
def test_a_mark_is_read(parse, text, value) -> None:
    verdict = parse(text)
    assert (verdict.value, verdict.status) == (value, Status.SCORED)


@pytest.mark.parametrize(
    ("parse", "text"),
    [
        (parse_mark, 'I say {"score": 5}'),
        (parse_mark, '{"score": 6}'),
        (parse_mark, '{"score": 4.5}'),
        (parse_mark, '{"score": true}'),
        (parse_mark, '{"score": "4"}'),
        (parse_mark, '{"score": [4, 5]}'),
        (parse_mark, '{"score": 1, "score": 5}'),
        (parse_boxed_mark, "\\boxed{2} or rather \\boxed{5}"),
        (parse_boxed_mark, "Final rating: 5"),
        (parse_three_marks, '{"score": [4, 5]}'),
        (parse_three_marks, '{"score": [4, 5, 0]}'),
        (parse_three_marks, '{"score": 5}'),
    ],
)
def test_anything_else_is_no_mark(parse, text) -> None:
    verdict = parse(text)
    assert math.isnan(verdict.value) and verdict.status == Status.UNPARSED


def test_no_reply_is_a_failure() -> None:
    assert {parse(None).status for parse in STRICT} == {Status.FAILED}


@pytest.mark.parametrize(
    ("text", "mark"),
    [
        ('Sure: {"score": "3"} done', 3),
        ('{"score": [2, 9]}', 2),
        ('{"score": 3.9}', 3),
        ('{"score": 7}', None),
        ('{"reasoning": "cut off", "score": [ 4', 4),
        ('{"score": 45}', 4),
        ("{not json}", None),
        ("", None),
        (None, None),
    ],
)
def test_the_released_reader_of_edits(text, mark) -> None:
    assert released_edit_mark(text) == mark


@pytest.mark.parametrize(
    ("text", "mark"),
    [
        ("Final Alignment Rating: 2 \\boxed{{4}}", 4),
        ("Final Alignment Rating: [2", 2),
        ('Final Score: 3 {"score": 5}', 5),
        ("Final Score: [3]", 3),
        ("nothing", None),
    ],
)
def test_the_released_reader_of_generated_images(text, mark) -> None:
    assert released_alignment_mark(text) == mark


@pytest.mark.parametrize(
    ("text", "marks"),
    [
        ('{"score": [4, "5", 3.9, 1]}', [4, 5, 3]),
        ('{"score": [4, 5, 9]} but [1, 2, 3]', [1, 2, 3]),
        ("[5,5,4]", [5, 5, 4]),
        ('{"score": [4, 5]}', None),
        (None, None),
    ],
)
def test_the_released_reader_of_quality(text, marks) -> None:
    assert released_quality_marks(text) == marks


def test_the_released_quality_prefers_the_marks_to_their_total() -> None:
    assert released_quality([5, 4, 4], 3) == 0.75 and released_quality([1, 1, 2], None) == 0
    assert released_quality(None, 12) == 0.75 == released_quality([5, "x", 5], 12)
    assert released_quality([9, 9, 9], None) == 1 and released_quality([5, 5], None) is None
    assert released_quality(None, float("nan")) is None


@given(st.text() | st.from_regex(r'\{"score": .{0,12}\}|\\boxed\{.{0,4}\}'))
def test_readers_never_raise_and_never_invent(text) -> None:
    for parse in STRICT:
        verdict = parse(text)
        assert verdict.value in (1, 2, 3, 4, 5) if verdict.status == Status.SCORED else math.isnan(verdict.value)
    for read in (released_edit_mark, released_alignment_mark):
        assert read(text) in (None, 1, 2, 3, 4, 5)
    assert set(released_quality_marks(text) or [1]) <= {1, 2, 3, 4, 5}
    strict = parse_mark(text).value
    assert math.isnan(strict) or released_edit_mark(text) == strict
