"""Reading marks from 1 to 5 out of a judge's reply: strictly for training, and as FIRM's released servers read them."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from typing import Any

from steelyard.rewards.judges.parsing import json_object, number_in
from steelyard.types import Status, Verdict

LOWEST, HIGHEST = 1, 5

_BOXED = re.compile(r"\\boxed\{+\s*(\[\s*)?([1-5])(?(1)\s*\])\s*\}+")


def parse_mark(text: str | None) -> Verdict:
    """One JSON object whose `score` is a whole number from 1 to 5, alone or as a list of one.

    Anything else is NaN with `UNPARSED`; no reply (None) is NaN with `FAILED`. The released servers turn both into 0,
    which pays a policy for breaking the parser.

    Source: sheet 31 (FIRM, arXiv 2603.12247).
    """
    said = (json_object(text or "") or {}).get("score")
    return _verdict(text, _mark(said[0] if isinstance(said, list) and len(said) == 1 else said))


def parse_boxed_mark(text: str | None) -> Verdict:
    r"""The whole number from 1 to 5 in `\boxed{}`, for judges that reason first; boxes that disagree are `UNPARSED`.

    Source: sheet 31.
    """
    boxed = {found[1] for found in _BOXED.findall(text or "")}
    return _verdict(text, float(boxed.pop()) if len(boxed) == 1 else None)


def parse_three_marks(text: str | None) -> Verdict:
    """The least of three marks: one JSON object whose `score` is a list of three whole numbers from 1 to 5.

    Source: sheet 31's quality prompt (aesthetics, technical quality, structure and texture).
    """
    said = (json_object(text or "") or {}).get("score")
    marks = [_mark(entry) for entry in said] if isinstance(said, list) and len(said) == 3 else [None]
    return _verdict(text, None if None in marks else min(mark for mark in marks if mark is not None))


def _mark(said: Any) -> float | None:
    value = number_in(said, LOWEST, HIGHEST)
    return value if value is not None and value == int(value) else None


def _verdict(text: str | None, value: float | None) -> Verdict:
    if text is None:
        return Verdict(math.nan, Status.FAILED)
    return Verdict(math.nan, Status.UNPARSED, text) if value is None else Verdict(value, Status.SCORED, text)


# What the released servers do, kept for comparison.

_SCORE = re.compile(r'"score"\s*:\s*\[?\s*([1-5])\s*\]?')
_MARK = r"\s*:\s*(?:\[\s*)?([1-5])(?:\s*\])?"
_RATING, _FINAL = re.compile("Final Alignment Rating" + _MARK), re.compile("Final Score" + _MARK)
_RELEASED_BOX = re.compile(r"\\boxed\{+\s*(?:\[\s*)?([1-5])(?:\s*\])?\s*\}+")
_LIST = r"\[\s*([1-5])\s*,\s*([1-5])\s*,\s*([1-5])\s*\]"


def released_edit_mark(text: str | None) -> int | None:
    """The mark of an edit: the object from the first `{` to the last `}`, else the first `"score": n`, else None.

    A list gives its first entry, a text of digits its number, a fraction is cut. Use `parse_mark` for training.
    """
    return _released_json_mark(text or "") or _found(text, _SCORE)


def released_alignment_mark(text: str | None) -> int | None:
    """The mark of a generated image: a box, else `Final Alignment Rating:`, an object, `Final Score:`, or `"score"`.

    Use `parse_boxed_mark` for training.
    """
    return (
        _found(text, _RELEASED_BOX)
        or _found(text, _RATING)
        or _released_json_mark(text or "")
        or _found(text, _FINAL)
        or _found(text, _SCORE)
    )


def released_quality_marks(text: str | None) -> list[int] | None:
    """Three marks: the first three of an object's list, else the first list of three anywhere, else None.

    Use `parse_three_marks` for training.
    """
    said = _released_object(text or "").get("score")
    if isinstance(said, list) and len(said) >= 3:
        marks = [_whole(entry) for entry in said[:3]]
        if None not in marks:
            return [mark for mark in marks if mark is not None]
    found = re.search(r'"score"\s*:\s*' + _LIST, text or "") or re.search(_LIST, text or "")
    return None if found is None else [int(mark) for mark in found.groups()]


def released_quality(marks: Sequence[Any] | None, total: Any) -> float | None:
    """q in [0, 1]: (min of the first three marks − 1) / 4; without three numbers (total − 3) / 12; else None."""
    numbers = [_finite(mark) for mark in (marks or [])[:3]]
    if len(numbers) == 3 and None not in numbers:
        return _unit(min(number for number in numbers if number is not None), 1.0, 5.0)
    value = _finite(total)
    return None if value is None else _unit(value, 3.0, 15.0)


def _released_object(text: str) -> dict[str, Any]:
    start, end = text.find("{"), text.rfind("}")
    try:
        found = json.loads(text[start : end + 1]) if 0 <= start < end else {}
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _released_json_mark(text: str) -> int | None:
    said = _released_object(text).get("score")
    said = said[0] if isinstance(said, list) and said else said
    if isinstance(said, str) and said.strip().isdigit():
        said = int(said.strip())
    return int(said) if isinstance(said, int | float) and LOWEST <= said <= HIGHEST else None


def _found(text: str | None, pattern: re.Pattern[str]) -> int | None:
    found = pattern.search(text or "")
    return int(found[1]) if found else None


def _whole(said: Any) -> int | None:
    value = _finite(said)
    return int(value) if value is not None and LOWEST <= int(value) <= HIGHEST else None


def _finite(said: Any) -> float | None:
    try:
        value = float(said)
    except (TypeError, ValueError, OverflowError):
        return None
    return value if math.isfinite(value) else None


def _unit(value: float, low: float, high: float) -> float:
    return max(0.0, min(1.0, (value - low) / (high - low)))
