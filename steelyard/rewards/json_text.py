"""JSON from a model, read strictly: no evaluation, no NaN, bounded in size and depth; and how its values compare."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

LONGEST, DEEPEST = 100_000, 64
"""Characters and nested brackets that are read."""

_STRING_OR_BRACKET = re.compile(r'"(?:[^"\\]|\\.)*"|[\[{]|[\]}]', re.DOTALL)
_FENCE = re.compile(r"^[ \t]*```[ \t]*(?:json|jsonc)?[ \t]*\n(.*?)^[ \t]*```", re.DOTALL | re.MULTILINE | re.IGNORECASE)


class NotJson(ValueError):
    """A text that is no JSON, or more of it than is read."""


def parse_json(text: str) -> Any:
    """The value of a text that is JSON as RFC 8259 has it; of equal keys the last counts.

    Raises:
        NotJson: for anything else: NaN and infinities, more than `LONGEST` characters, brackets deeper than `DEEPEST`,
            whole numbers of more than 4,300 digits.
    """
    if len(text) > LONGEST:
        raise NotJson(f"{len(text):,} characters are too long; {LONGEST:,} are read")
    if text.count("[") + text.count("{") > DEEPEST and _depth(text) > DEEPEST:
        raise NotJson(f"brackets are nested deeper than {DEEPEST}")
    try:
        return json.loads(text, parse_constant=_refuse, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise NotJson(str(error)) from None


def parse_json_stream(text: str) -> list[Any]:
    """The values of JSON texts one behind the other, white space or commas between them.

    Raises:
        NotJson: as `parse_json`, and where something else stands between them.
    """
    if len(text) > LONGEST:
        raise NotJson(f"{len(text):,} characters are too long; {LONGEST:,} are read")
    if text.count("[") + text.count("{") > DEEPEST and _depth(text) > DEEPEST:
        raise NotJson(f"brackets are nested deeper than {DEEPEST}")
    decoder = json.JSONDecoder(parse_constant=_refuse, parse_float=_finite)
    values, at = [], 0
    try:
        while at < len(text):
            if text[at].isspace() or text[at] == ",":
                at += 1
                continue
            value, at = decoder.raw_decode(text, at)
            values.append(value)
    except (ValueError, RecursionError) as error:
        raise NotJson(str(error)) from None
    return values


def _depth(text: str) -> int:
    """The deepest nesting of brackets outside strings."""
    depth = deepest = 0
    for found in _STRING_OR_BRACKET.finditer(text):
        if found.group() in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif found.group() in "]}":
            depth -= 1
    return deepest


def _refuse(constant: str) -> Any:
    raise NotJson(f"{constant} is no JSON")


def _finite(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise NotJson(f"{text[:20]} is too large a number")
    return value


def json_part(completion: str) -> str:
    """Where a completion's JSON stands: the last fence (of `json` or bare) behind the thinking, else all of it."""
    text = completion.rpartition("</think>")[2]
    fences = _FENCE.findall(text)
    return str(fences[-1] if fences else text).strip()


def same_json(left: Any, right: Any) -> bool:
    """Equality of JSON values: types count (`"3"` is not 3, `true` is not 1), the order of keys does not, 3 is 3.0."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        return left.keys() == right.keys() and all(same_json(value, right[key]) for key, value in left.items())
    if isinstance(left, (list, tuple)) and isinstance(right, (list, tuple)):
        return len(left) == len(right) and all(map(same_json, left, right))
    return bool(left == right)
