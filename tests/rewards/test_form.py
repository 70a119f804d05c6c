"""Forms: tags, JSON schemas and patterns, with texts and patterns that would take for ever."""

import json
import math
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steelyard.rewards import json_valid, pattern_match, score_one, tag_format
from steelyard.rewards.json_text import NotJson, json_part, parse_json, same_json
from steelyard.types import Status, SteelyardError

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda x: st.lists(x) | st.dictionaries(st.text(), x),
    max_leaves=8,
)
SLOW = r"(\w|\w\w)+$"
WORD = "a" * 4000 + "!"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("<think>a</think><answer>b</answer>", 1), ("\n<think>a\nb</think>\n\n<answer></answer> ", 1),
        ("<answer>b</answer><think>a</think>", 0), ("<think>a</think><answer>b</answer> so", 0),
        ("<think>a</think>", 0),
        ("<think>a</think><answer>b</answer><answer>b</answer>", 0), ("<think>a<think></think><answer>b</answer>", 0),
        ("<think>a<answer></think>b</answer>", 0), ("", 0), ("<Think>a</Think><answer>b</answer>", 0),
    ],
)  # fmt: skip
def test_tags(text: str, value: float) -> None:
    assert score_one(tag_format, completion=text).values[0] == value


def test_tags_of_the_user() -> None:
    part = tag_format.using(tags=("plan", "a.b"), between="")
    assert score_one(part, completion="<plan>x</plan><a.b>y</a.b>").values[0] == 1
    assert score_one(part, completion="<plan>x</plan><axb>y</axb>").values[0] == 0
    assert score_one(part, completion="<plan>x</plan> <a.b>y</a.b>").values[0] == 0
    wide = tag_format.using(tags=("doc",), attributes=True)
    assert score_one(wide, completion='<doc id="1">y</doc>').values[0] == 1
    with pytest.raises(SteelyardError, match="give at least one name"):
        score_one(tag_format.using(tags=()), completion="x")


def test_patterns_are_bounded_in_time() -> None:
    scores = score_one(pattern_match.using(pattern=SLOW), completion=WORD)
    assert math.isnan(scores.values[0]) and scores.status == [Status.TIMED_OUT]
    whole = pattern_match.using(pattern=r"\d+", whole=True)
    assert [score_one(whole, completion=text).values[0] for text in ("12", "12 ", "a1")] == [1, 0, 0]


SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 0}},
    "required": ["name"],
    "patternProperties": {"^x-": {"type": "number"}},
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("value", "valid"),
    [
        ({"name": "a"}, 1), ({"name": "a", "age": 3, "x-y": 1.5}, 1), ({"age": 3}, 0), ({"name": "a", "age": -1}, 0),
        ({"name": "a", "x-y": "no"}, 0), ({"name": "a", "other": 1}, 0), ({"name": 3}, 0), ([], 0), (None, 0),
    ],
)  # fmt: skip
def test_schemas(value: Any, valid: float) -> None:
    text = json.dumps(value)
    for completion in (text, f"Here it is:\n```json\n{text}\n```\nDone.", f"<think>{{no}}</think>\n{text}"):
        assert score_one(json_valid, completion=completion, schema=SCHEMA).values[0] == valid
    assert score_one(json_valid.using(schema=json.dumps(SCHEMA)), completion=text).values[0] == valid
    assert score_one(json_valid, completion=text).values[0] == 1


@given(VALUES)
def test_additional_properties_are_those_of_the_library(value: Any) -> None:
    from jsonschema import Draft202012Validator

    schema = {"additionalProperties": {"type": ["integer", "null"]}, "patternProperties": {"a": {"type": "string"}}}
    expected = Draft202012Validator(schema).is_valid(value)
    assert score_one(json_valid, completion=json.dumps(value), schema=schema).values[0] == expected


@pytest.mark.parametrize(
    "text", ["", "no", "{'a': 1}", '{"a": NaN}', "[" * 100_000, "[" * 200 + "]" * 200,
             "1" * 100_001, "9" * 90_000, "{} {}"]
)  # fmt: skip
def test_what_is_no_json_is_invalid(text: str) -> None:
    assert score_one(json_valid, completion=text, schema={}).values[0] == 0
    with pytest.raises(NotJson):
        parse_json(json_part(text))


def test_brackets_in_strings_are_no_nesting() -> None:
    text = json.dumps({"a": "[" * 200 + '"\\'})
    assert score_one(json_valid, completion=text).values[0] == 1


def test_patterns_in_schemas_are_bounded_in_time() -> None:
    for schema in ({"pattern": SLOW}, {"additionalProperties": False, "patternProperties": {SLOW: {}}}):
        value = WORD if "pattern" in schema else {WORD: 1}
        scores = score_one(json_valid, completion=json.dumps(value), schema=schema)
        assert math.isnan(scores.values[0]) and scores.status == [Status.TIMED_OUT]


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"$ref": "#"}, "refers to itself without end"), ({"type": "wrong"}, "the schema is none"),
        ("nope", "is no JSON"),
        ({"$ref": "https://example.org/x.json"}, "references must lead into it"), (3, "it must be an object"),
        ({"$ref": "#/nowhere"}, "references must lead into it"), ({"pattern": "("}, "no regular expression"),
        ({"patternProperties": {}, "unevaluatedProperties": False}, "use additionalProperties"),
    ],
)  # fmt: skip
def test_schemas_that_are_none(schema: Any, said: str) -> None:
    with pytest.raises(SteelyardError, match=said):
        score_one(json_valid, completion='"x"', schema=schema)


@given(VALUES)
def test_json_is_read_as_it_was_written(value: Any) -> None:
    assert same_json(parse_json(json.dumps(value)), value)


def test_a_form_that_takes_too_long_is_no_verdict() -> None:
    scores = score_one(
        tag_format.using(between="(a|aa)*b"), completion="<think></think>" + "a" * 90 + "<answer></answer>"
    )
    assert scores.status == [Status.TIMED_OUT]


def test_many_equal_looking_items_are_told_apart_in_time() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    unique = {"uniqueItems": True}
    many = json.dumps([{"a": i} for i in range(6000)])
    start = time.process_time()
    assert score_one(json_valid, completion=many, schema=unique).values[0] == 1
    assert time.process_time() - start < 5  # comparing each with each takes half a minute
    for text, valid in (("[1, true]", 1), ("[1, 1.0]", 0), ('[{"a": 1, "b": 2}, {"b": 2, "a": 1.0}]', 0),
    ("[[1], [true]]", 1),
                        ("[[], {}]", 1), ('["1", 1]', 1), ("[null, false, 0]", 1)):  # fmt: skip
        assert score_one(json_valid, completion=text, schema=unique).values[0] == valid
        assert jsonschema.Draft202012Validator(unique).is_valid(json.loads(text)) == bool(valid)


def test_alternatives_within_alternatives_end() -> None:
    inner = {"type": "object", "properties": {"n": {"$ref": "#"}}}
    schema = {"anyOf": [inner | {"required": ["x"]}, inner | {"required": ["y"]}]}
    scores = score_one(json_valid, completion='{"n":' * 30 + "1" + "}" * 30, schema=schema)
    assert scores.status == [Status.TIMED_OUT] and math.isnan(scores.values[0])
    assert score_one(json_valid, completion='{"x": 1, "n": {"y": 1, "n": 3}}', schema=schema).values[0] == 0


def test_a_completions_numbers_cannot_break_a_check() -> None:
    assert score_one(json_valid, completion="1" * 400, schema={"multipleOf": 0.5}).values[0] == 0


@pytest.mark.parametrize("schema", ["{", 7, {"type": "strin"}, {"const": {1}}])
def test_a_schema_that_is_none_is_told_whatever_the_completion_is(schema: Any) -> None:
    with pytest.raises(SteelyardError, match="the schema"):
        score_one(json_valid, completion="no JSON at all", schema=schema)


def test_a_missing_schema_asks_for_any_json() -> None:
    for nothing in (None, float("nan")):
        assert score_one(json_valid, completion="[1]", schema=nothing).values[0] == 1
        assert score_one(json_valid, completion="[1", schema=nothing).values[0] == 0


def test_a_pattern_must_be_a_text() -> None:
    with pytest.raises(SteelyardError, match="give a regular expression as text"):
        score_one(pattern_match.using(pattern=5), completion="x")
