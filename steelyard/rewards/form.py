"""Rewards for the form of a completion: tags in order, valid JSON of a schema, patterns that are bounded in time."""

from __future__ import annotations

import functools
import itertools
import json
import threading
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import Any

import regex

from steelyard.rewards.core import reward
from steelyard.rewards.golds import is_missing
from steelyard.rewards.json_text import NotJson, json_part, parse_json
from steelyard.types import Status, SteelyardError, Verdict

SECONDS = 0.5
"""How long one pattern may look at one completion."""

_NOT_IN_TIME = "pattern took too long"


@reward
def tag_format(
    completion: str, *, tags: Sequence[str] = ("think", "answer"), between: str = r"\s*", attributes: bool = False
) -> float | Verdict:
    r"""1 iff the completion is nothing but one block of every tag, in their order: `<a>…</a><b>…</b>`.

    Every opening and closing tag stands exactly once, so that no tag is quoted inside a block; a block may be empty.

    Args:
        completion: white space around it does not matter.
        tags: their names, without brackets.
        between: regular expression of what may stand between blocks; white space by default, `""` for nothing. One
            that looks at a completion for more than half a second gives NaN with the status `TIMED_OUT`.
        attributes: whether `<a id="1">` opens a block too.
    """
    if not tags or not all(isinstance(tag, str) and tag for tag in tags):
        raise SteelyardError(f"tags are {tags!r:.60}; give at least one name, as ('think', 'answer')")
    text = completion.strip()
    opening = r"(?:\s[^<>]*)?>" if attributes else ">"
    names = [regex.escape(tag) for tag in tags]
    for name in names:
        if not len(regex.findall(f"<{name}{opening}", text)) == len(regex.findall(f"</{name}>", text)) == 1:
            return 0.0
    blocks = f"(?:{between})".join(f"<{name}{opening}.*?</{name}>" for name in names)
    try:
        return float(compiled(f"(?s){blocks}").fullmatch(text, timeout=SECONDS) is not None)
    except TimeoutError:
        return Verdict(float("nan"), Status.TIMED_OUT, _NOT_IN_TIME)


@functools.lru_cache(maxsize=256)
def compiled(pattern: str) -> regex.Pattern[str]:
    """A pattern that can be stopped (`search(text, timeout=SECONDS)` raises TimeoutError); of the package regex.

    Raises:
        SteelyardError: for what is no regular expression.
    """
    if not isinstance(pattern, str):
        raise SteelyardError(f"the pattern is {pattern!r:.60}; give a regular expression as text")
    try:
        return regex.compile(pattern)
    except regex.error as error:
        raise SteelyardError(f"the pattern {pattern!r:.80} is no regular expression: {error}") from None


@reward
def pattern_match(completion: str, *, pattern: str, whole: bool = False) -> float | Verdict:
    """1 iff the regular expression `pattern` stands in the completion, or is all of it with `whole`.

    A pattern that looks at one completion for more than half a second gives NaN with the status `TIMED_OUT`.
    """
    expression = compiled(pattern)
    try:
        found = (expression.fullmatch if whole else expression.search)(completion, timeout=SECONDS)
    except TimeoutError:
        return Verdict(float("nan"), Status.TIMED_OUT, _NOT_IN_TIME)
    return float(found is not None)


@reward
def json_valid(completion: str, schema: Mapping[str, Any] | str | None = None) -> float | Verdict:
    r"""1 iff the completion's JSON fits the schema (Draft 2020-12 unless `$schema` names another), else 0.

    The JSON is the whole text, else the last fence behind the thinking, else all that is behind it. Without a schema
    any JSON will do. Texts over 100,000 characters and brackets nested deeper than 64 are invalid. References in a
    schema are looked up in it and in the published drafts, never fetched. A check that takes over half a second, of a
    pattern or of alternatives within alternatives, gives NaN with the status `TIMED_OUT`.

    Args:
        completion: of the model.
        schema: a JSON schema, as an object or as text; a column or an option.

    Raises:
        SteelyardError: for a schema that is none, refers to itself without end or to what is not there.
    """
    value = _json_of(completion)
    if is_missing(schema):
        return float(value is not _NONE)
    validator = _validator(schema if isinstance(schema, str) else _as_json(schema))
    if value is _NONE:
        return 0.0
    _clock.ends = time.perf_counter() + SECONDS
    try:
        return float(validator.is_valid(value))
    except OverflowError:  # multipleOf divides as floats do, and a completion's number may be too large for one
        return 0.0
    except TimeoutError:
        return Verdict(float("nan"), Status.TIMED_OUT, _NOT_IN_TIME)
    except RecursionError:
        raise SteelyardError("the schema refers to itself without end; a reference must lead into the value") from None
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in ("referencing", "jsonschema"):
            raise
        raise SteelyardError(f"the schema cannot be applied: {error}; its references must lead into it") from None


_NONE = object()
_clock = threading.local()


def _as_json(schema: Any) -> str:
    try:
        return json.dumps(schema)
    except (TypeError, ValueError) as error:
        raise SteelyardError(f"the schema is {schema!r:.60}, which is no JSON ({error}); give an object") from None


def _timed(check: Callable[..., Any]) -> Callable[..., Any]:
    """The check of a keyword, within the time that is left."""

    def timed(*given: Any) -> Any:
        if time.perf_counter() > _clock.ends:
            raise TimeoutError(_NOT_IN_TIME)
        return check(*given)

    return timed


def _json_of(completion: str) -> Any:
    """The value of the whole text, else of its JSON part; `_NONE` without one."""
    for text in (completion, json_part(completion)):
        try:
            return parse_json(text)
        except NotJson:
            continue
    return _NONE


@functools.lru_cache(maxsize=64)
def _validator(schema: str) -> Any:
    """A validator whose patterns are bounded in time."""
    try:
        from jsonschema import SchemaError, validators
        from jsonschema_specifications import REGISTRY
    except ImportError:
        what = "checking a schema needs jsonschema"
        raise SteelyardError(f"{what}; install it with: pip install 'steelyard[schema]'") from None

    try:
        content = parse_json(schema)
    except NotJson as error:
        raise SteelyardError(f"the schema is no JSON: {error}; give an object or its text") from None
    if not isinstance(content, (dict, bool)):
        raise SteelyardError(f"the schema is {schema!r:.60}; it must be an object")
    _check_schema(content)
    base = validators.validator_for(content, default=validators.Draft202012Validator)
    own = {"pattern": _pattern, "patternProperties": _pattern_properties, "additionalProperties": _additional}
    own |= {"uniqueItems": _unique_items}
    bounded = {keyword: _timed(own.get(keyword, check)) for keyword, check in base.VALIDATORS.items()}
    try:
        base.check_schema(content, format_checker=None)
    except SchemaError as error:
        raise SteelyardError(f"the schema is none: {error.message}; mend it at {list(error.absolute_path)}") from None
    return validators.extend(base, bounded)(content, registry=REGISTRY)


def _check_schema(content: Any) -> None:
    names = set(_keys(content))
    if {"patternProperties", "unevaluatedProperties"} <= names:
        words = "unevaluatedProperties beside patternProperties"
        raise SteelyardError(f"the schema has {words}, which cannot be bounded in time; use additionalProperties")


def _keys(content: Any) -> Iterator[str]:
    if isinstance(content, dict):
        yield from content
    if isinstance(content, (dict, list)):
        inner = content.values() if isinstance(content, dict) else content
        yield from itertools.chain.from_iterable(map(_keys, inner))


def _unique_items(validator: Any, unique: Any, instance: Any, schema: Any) -> Iterator[Any]:
    """As jsonschema's, in time that grows as the list does: a completion may hold many items."""
    from jsonschema import ValidationError

    if unique and validator.is_type(instance, "array") and len(set(map(_key, instance))) < len(instance):
        yield ValidationError("the items are not unique")


def _key(value: Any) -> Hashable:
    """Equal for JSON values that a schema holds for equal: 1 is 1.0, true is not 1, the order of keys is nothing."""
    if isinstance(value, dict):
        return frozenset((name, _key(inner)) for name, inner in value.items())
    if isinstance(value, list):
        return ("list", *map(_key, value))
    return (isinstance(value, bool), value)


def _found(pattern: str, text: str) -> bool:
    return compiled(pattern).search(text, timeout=SECONDS) is not None


def _pattern(validator: Any, pattern: str, instance: Any, schema: Any) -> Iterator[Any]:
    from jsonschema import ValidationError

    if validator.is_type(instance, "string") and not _found(pattern, instance):
        yield ValidationError(f"{instance!r:.60} does not match {pattern!r:.60}")


def _pattern_properties(validator: Any, patterns: Any, instance: Any, schema: Any) -> Iterator[Any]:
    if validator.is_type(instance, "object"):
        for pattern, inner in patterns.items():
            for name in filter(functools.partial(_found, pattern), instance):
                yield from validator.descend(instance[name], inner, path=name, schema_path=pattern)


def _additional(validator: Any, allowed: Any, instance: Any, schema: Any) -> Iterator[Any]:
    from jsonschema import ValidationError

    if not validator.is_type(instance, "object"):
        return
    patterns = schema.get("patternProperties", {})
    extra = [
        name
        for name in instance
        if name not in schema.get("properties", {}) and not any(_found(pattern, name) for pattern in patterns)
    ]
    if allowed is False and extra:
        yield ValidationError(f"{extra[0]!r:.60} is not allowed")
    elif isinstance(allowed, Mapping):
        for name in extra:
            yield from validator.descend(instance[name], allowed, path=name)
