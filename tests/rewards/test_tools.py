"""Tool calls: sheet 30's worked numbers, formats, hostile texts, the matching against all matchings."""

import itertools
import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steelyard.rewards import (
    Expression,
    score_one,
    thinking_length,
    tool_call_format,
    tool_calls,
    tool_calls_coarse,
    tool_calls_intermediate,
    tool_calls_refined,
    tool_names,
)
from steelyard.rewards.json_text import same_json
from steelyard.rewards.tools import (
    best_assignment,
    equal_scale,
    growing_words,
    multiset_overlap,
    read_calls,
    smooth_scale,
    two_stage_scale,
)
from steelyard.types import Status, SteelyardError


def call(name: str, **parameters: Any) -> dict[str, Any]:
    return {"name": name, "parameters": parameters}


SFO, LAX = call("Get_Price", loc_1="ORD", loc_2="SFO"), call("Get_Price", loc_1="ORD", loc_2="LAX")
CUT = call("Get_Price", loc_2="LAX")
FLIGHT = call("Get_Flight", **{"from": "ORD", "to": "SFO"})


def text(*calls: dict[str, Any], think: str = "<think>plan</think>\n") -> str:
    return f"{think}<tool_call>\n" + "\n".join(map(json.dumps, calls)) + "\n</tool_call>"


def value(part: Expression, completion: Any, reference: Any = None) -> float:
    return float(score_one(part, completion=completion, reference=reference).values[0])


@pytest.mark.parametrize("form", ["any", "lines"])
@pytest.mark.parametrize(
    ("calls", "expected"),
    [
        ((SFO, LAX), 3), ((LAX, SFO), 3), ((SFO, CUT), 1.71428571), ((FLIGHT, LAX), -0.14285714), ((SFO,), 0),
        ((SFO, LAX, call("Get_Price", loc_1="A", loc_2="B")), 2.71428571),
        ((call("Get_Price", loc_1="ORD", loc_2="SFO", cur="USD"), LAX), 2.71428571), ((call("X", loc_1="ORD"),), -3),
    ],
)  # fmt: skip
def test_correctness_of_sheet_30(calls: tuple[dict[str, Any], ...], expected: float, form: str) -> None:
    part = tool_calls.using(form=form)
    assert value(part, text(*calls), text(SFO, LAX)) == pytest.approx(expected, abs=1e-6)


def test_the_greedy_matching_can_lose() -> None:
    assert value(tool_calls.using(matching="greedy"), text(FLIGHT, LAX), text(SFO, LAX)) == pytest.approx(-1)
    with pytest.raises(SteelyardError, match="matching is 'best'; it is 'optimal' or 'greedy'"):
        value(tool_calls.using(matching="best"), text(SFO), text(SFO))


def test_what_has_no_correctness_or_the_lowest() -> None:
    only_text = "<think>plan</think>\n<response>cannot</response>"
    for said in (text(SFO), "", "anything"):
        assert value(tool_calls, said, only_text) == 0
    broken = "<think>p</think>\n<tool_call>\n{not json}\n</tool_call>"
    assert (value(tool_call_format, broken, text(SFO)), value(tool_calls, broken, text(SFO))) == (1, -3)
    assert value(tool_call_format + tool_calls, "", text(SFO)) == -3
    assert value(tool_call_format + tool_calls, text(SFO, think=""), text(SFO)) == 3
    scores = score_one(tool_calls, completion=text(SFO), reference=broken)
    assert math.isnan(scores.values[0]) and scores.status == [Status.UNPARSED]


@pytest.mark.parametrize(("step", "total"), [(0, 3.14285714), (29, 3.06), (75, 2.92857143), (150, 2.71428571)])
def test_the_smooth_scale(step: int, total: float) -> None:
    reward = sum(smooth_scale())
    assert isinstance(reward, Expression)
    reward.at_step(step)
    assert value(reward, text(SFO, CUT), text(SFO, LAX)) == pytest.approx(total, abs=1e-6)


def test_ranges_of_the_scales() -> None:
    best, worst = text(SFO), "nothing"
    for step, low, high in ((0, -4, 4), (75, -3.5, 4), (150, -4, 4), (1000, -4, 4)):
        reward = sum(smooth_scale())
        reward.at_step(step)  # type: ignore[union-attr]
        assert [value(reward, said, text(SFO)) for said in (worst, best)] == pytest.approx([low, high])  # type: ignore[arg-type]
    form, calls = two_stage_scale()
    for step, highest in ((0, (1, 1)), (29, (1, 1)), (30, (0.5, 3))):
        form.at_step(step), calls.at_step(step)
        assert (value(form, best, text(SFO)), value(calls, best, text(SFO))) == pytest.approx(highest)
    assert value(sum(equal_scale()), best, text(SFO)) == pytest.approx(2)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("part", "expected"),
    [(tool_calls_refined, 6 * 5 / 7 - 3), (tool_calls_intermediate, 1), (tool_calls_coarse, -3), (tool_names, 3)],
)
def test_coarser_grains(part: Expression, expected: float) -> None:
    assert value(part, text(SFO, CUT), text(SFO, LAX)) == pytest.approx(expected, abs=1e-6)
    assert value(part, text(SFO, LAX), text(SFO, LAX)) == 3


def test_values_count_with_their_types() -> None:
    gold = text(call("f", a=3))
    assert value(tool_calls, text(call("f", a="3")), gold) == pytest.approx(1)
    assert value(tool_calls, text(call("f", a=True)), text(call("f", a=1))) == pytest.approx(1)
    nested = {"y": [1, 2], "x": None}
    assert value(tool_calls, text(call("f", a=nested)), text(call("f", a=dict(reversed(nested.items()))))) == 3
    assert value(tool_calls, text(call("F", a=3)), gold) == -3
    assert same_json(3, 3.0) and not same_json([1, 2], [2, 1]) and not same_json(None, False)


OPENAI = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}


@pytest.mark.parametrize(
    "said",
    [
        [OPENAI],
        {"role": "assistant", "content": None, "tool_calls": [OPENAI]},
        json.dumps([OPENAI]),
        [{"name": "f", "parameters": {"a": 1}}],
        '{"name": "f", "arguments": {"a": 1}}',
        'I call it.\n```json\n[{"name": "f", "input": {"a": 1}}]\n```',
        '<tool_call>{"name": "f", "arguments": {"a": 1}}</tool_call>',
        '<think>no <tool_call> here</think><tool_call>\n[{"name": "f",\n "parameters": {"a": 1}}]\n</tool_call>',
        '<tool_call>{"name": "f", "arguments": "{\\"a\\": 1}"}',
    ],
)
def test_formats_of_calls(said: Any) -> None:
    calls = read_calls(said)
    assert calls is not None and [(c.name, c.parameters) for c in calls] == [("f", {"a": 1})]
    assert value(tool_calls, said, text(call("f", a=1))) == 3


def test_two_blocks_are_two_calls_or_only_the_first_line_by_line() -> None:
    both = '<tool_call>{"name": "f"}</tool_call><tool_call>{"name": "g"}</tool_call>'
    gold = [call("f"), call("g")]
    assert value(tool_calls, both, gold) == 3
    assert value(tool_calls.using(form="lines"), both, gold) < 3


HOSTILE = [
    "<tool_call>" + "[" * 100_000, "<tool_call>" + '{"a":' * 5000 + "1" + "}" * 5000 + "</tool_call>",
    "<tool_call>" * 20_000,
    '<tool_call>{"name": "f", "parameters": {"a": NaN}}</tool_call>', "<tool_call>" + "9" * 99_000 + "</tool_call>",
    '<tool_call>{"name": ["f"], "parameters": {}}</tool_call>',
    '<tool_call>{"name": "f", "parameters": [1]}</tool_call>',
    '<tool_call>__import__("os").abort()</tool_call>',
    '<tool_call>{"name": "f", "parameters": {"a": 1e999}}</tool_call>',
    "[" * 100_000, '{"name": 3}', "</tool_call>\n<tool_call>", "<tool_call></tool_call>", "[3]", "[]", "{}",
]  # fmt: skip


@pytest.mark.parametrize("form", ["any", "lines"])
@pytest.mark.parametrize("said", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_calls_get_the_lowest(said: str, form: str) -> None:
    assert value(tool_calls.using(form=form), said, text(call("f", a=1))) == -3


@pytest.mark.parametrize(
    ("said", "form"),
    [
        (text(SFO), 1), (text(SFO) + "\n", 1), (" " + text(SFO), 0),
        (text(SFO, think=""), 0), (text(SFO) + text(SFO), 0),
        (text(SFO, think="<think>a <tool_call> tag</think>\n"), 0), ("<think>a</think>\n<response>b</response>", 0),
        ("<think>a</think> <tool_call>\n{}\n</tool_call>", 0), ("<think>a</think>\n<tool_call>{}</tool_call>", 0),
    ],
)  # fmt: skip
def test_form(said: str, form: float) -> None:
    assert value(tool_call_format, said, text(SFO)) == form


def test_form_follows_the_reference() -> None:
    both = text(SFO) + "\n<response>done</response>"
    assert value(tool_call_format, both, both) == 1 and value(tool_call_format, text(SFO), both) == 0
    assert value(tool_call_format, "<think>only</think>", "<think>x</think>") == 1


def test_thinking_length() -> None:
    said = f"<think>{'w ' * 128}</think>"
    assert value(thinking_length(), said) == pytest.approx(0.25)
    assert value(thinking_length(), "no block") == 0 and value(thinking_length(10), said) == 1
    growing = thinking_length(growing_words)
    growing.at_step(105)
    assert value(growing, said) == pytest.approx(0.2)
    assert repr(growing) == "thinking_length(words=growing_words)"


MATRICES = st.integers(1, 5).flatmap(
    lambda n: st.lists(st.lists(st.integers(0, 6), min_size=n, max_size=n), min_size=1, max_size=5)
)


@given(MATRICES)
def test_the_matching_is_the_best_of_all(scores: list[list[int]]) -> None:
    rows = scores if len(scores) <= len(scores[0]) else [list(column) for column in zip(*scores, strict=True)]
    ways = itertools.permutations(range(len(rows[0])), len(rows))
    assert best_assignment(scores) == max(sum(row[i] for row, i in zip(rows, way, strict=True)) for way in ways)


@given(st.lists(st.sampled_from("abc"), max_size=6), st.lists(st.sampled_from("abc"), max_size=6))
def test_overlap_of_names(gold: list[str], ours: list[str]) -> None:
    assert 0 <= multiset_overlap(gold, ours) == multiset_overlap(ours, gold) <= 1
    assert (multiset_overlap(gold, ours) == 1) == (sorted(gold) == sorted(ours))


CALL = st.fixed_dictionaries(
    {"name": st.sampled_from("fg"), "parameters": st.dictionaries(st.sampled_from("ab"), st.integers(0, 2))}
)
CALLS = st.lists(CALL, min_size=1, max_size=4)


@given(CALLS, CALLS, st.randoms())
def test_order_is_nothing_and_optimal_is_no_less_than_greedy(gold: Any, ours: Any, random: Any) -> None:
    shuffled = random.sample(ours, len(ours))
    best = value(tool_calls, ours, gold)
    assert best == pytest.approx(value(tool_calls, shuffled, gold), abs=1e-6)
    assert -3 <= value(tool_calls.using(matching="greedy"), ours, gold) <= best + 1e-6 <= 3 + 2e-6
    assert value(tool_calls, random.sample(gold, len(gold)), gold) == 3
