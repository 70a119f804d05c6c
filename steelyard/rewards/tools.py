"""Rewards for tool calls: names, parameter names and values against a reference, whatever the order (sheet 30)."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from steelyard.rewards.chat import content_text, texts_in
from steelyard.rewards.core import Expression, Memo, reward
from steelyard.rewards.golds import listed
from steelyard.rewards.json_text import NotJson, json_part, parse_json, parse_json_stream, same_json
from steelyard.rewards.schedules import WeightOfStep, linear, piecewise, scheduled
from steelyard.types import Rollouts, Scores, Status, SteelyardError, Verdict

Form = Literal["any", "lines"]
Matching = Literal["optimal", "greedy"]

_BLOCK = re.compile(r"<tool_call>(.*?)(?:</tool_call>|\Z)", re.DOTALL)
_PARAMETERS = ("parameters", "arguments", "input")


@dataclass(frozen=True)
class Call:
    """A tool's name and its parameters; None where they are no object, which no call can match."""

    name: str
    parameters: Mapping[str, Any] | None


def read_calls(source: Any, *, form: Form = "any") -> list[Call] | None:
    """The calls of a text, a list or a message; None where it has none.

    With the form `any`: every `<tool_call>` block behind a text's thinking (one JSON object, several, or a list in
    each), else the JSON in its last fence or that it is; objects `{"name", "parameters" | "arguments" | "input"}`,
    OpenAI's `{"function": {"name", "arguments"}}` with arguments as an object or as text, messages with `tool_calls`,
    and lists of them; of a message without `tool_calls` the text is read.
    With `lines`, ToolRL's own: the first block only, one `{"name", "parameters"}` a line.

    Raises:
        NotJson: for a block that is no such JSON.
    """
    if form == "lines":
        return _lines_of(source)
    if isinstance(source, str):
        source = source.rpartition("</think>")[2]
        blocks = _BLOCK.findall(source)
        if blocks:
            source = [value for block in blocks for value in parse_json_stream(block)]
        else:
            text = json_part(source)
            if not text.startswith(("[", "{")):
                return None
            source = parse_json(text)
    calls = list(_calls(source))
    return calls or None


def _lines_of(source: Any) -> list[Call] | None:
    if not isinstance(source, str) or "<tool_call>" not in source:
        return None
    block, _, rest = source.partition("<tool_call>")[2].partition("<tool_call>")
    if "</tool_call>" not in block + rest:
        raise NotJson("the block is not closed")
    values = [parse_json(line) for line in block.partition("</tool_call>")[0].strip().split("\n")]
    if not all(isinstance(value, dict) and isinstance(value.get("name"), str) for value in values):
        raise NotJson("a call has no name")
    given = [value.get("parameters") for value in values]
    return [Call(value["name"], p if isinstance(p, dict) else None) for value, p in zip(values, given, strict=True)]


def _calls(value: Any) -> Iterator[Call]:
    value = listed(value)
    if isinstance(value, (list, tuple)):
        for inner in value:
            yield from _calls(inner)
    elif isinstance(value, Mapping) and "tool_calls" in value:
        yield from _calls(value["tool_calls"] or [])
    elif isinstance(value, Mapping) and isinstance(value.get("function"), Mapping):
        yield from _calls(value["function"])
    elif isinstance(value, Mapping) and isinstance(value.get("name"), str):
        given: Any = next((value[key] for key in _PARAMETERS if key in value), {})
        if given is None or isinstance(given, str):
            given = parse_json(given) if given and given.strip() else {}
        yield Call(value["name"], given if isinstance(given, Mapping) else None)
    elif isinstance(value, Mapping) and value.get("role") is not None:
        yield from read_calls(content_text(value.get("content"))) or ()
    else:
        raise NotJson(f"{value!r:.60} is no call")


def multiset_overlap(gold: Sequence[Hashable], ours: Sequence[Hashable]) -> float:
    """|G ∩ P| / |G ∪ P| of multisets, in [0, 1]; 1 where both are empty."""
    if not gold and not ours:
        return 1.0
    common = sum((Counter(gold) & Counter(ours)).values())
    return common / (len(gold) + len(ours) - common)


def _equal(gold: Sequence[Hashable], ours: Sequence[Hashable]) -> float:
    return float(list(gold) == list(ours))


Overlap = Callable[[Sequence[Hashable], Sequence[Hashable]], float]


def _pair_score(gold: Call, ours: Call, overlap: Overlap) -> float:
    """r_param + r_value of two calls of one tool."""
    if gold.parameters is None or ours.parameters is None:
        raise NotJson(f"the parameters of {ours.name!r} are no object")
    right = sum(key in ours.parameters and same_json(ours.parameters[key], v) for key, v in gold.parameters.items())
    return overlap(list(gold.parameters), list(ours.parameters)) + right


def _matched(gold: Sequence[Call], ours: Sequence[Call], matching: Matching, overlap: Overlap) -> float:
    """Σ (r_param + r_value) over a one-to-one matching of calls of the same tool."""
    total = 0.0
    for name in dict.fromkeys(call.name for call in gold):
        left, right = ([call for call in calls if call.name == name] for calls in (gold, ours))
        if right:
            scores = [[_pair_score(call, other, overlap) for other in right] for call in left]
            total += best_assignment(scores) if matching == "optimal" else _in_order(scores)
    return total


def _in_order(scores: list[list[float]]) -> float:
    """Each row takes the best column that is left."""
    left, total = list(range(len(scores[0]))), 0.0
    for row in scores:
        best = max(left, key=lambda column: row[column], default=None)
        if best is not None and row[best] > 0:
            total += row[best]
            left.remove(best)
    return total


def best_assignment(scores: Sequence[Sequence[float]]) -> float:
    """The largest sum of a one-to-one matching of rows and columns, by shortest augmenting paths; scores are ≥ 0.

    O(min(m, n)² · max(m, n)) for scores [m][n].
    """
    cost = -np.asarray(scores, np.float64)
    cost = cost if cost.shape[0] <= cost.shape[1] else cost.T
    m, n = cost.shape
    u, v, row_of = np.zeros(m), np.zeros(n + 1), np.full(n + 1, -1)  # the last column is where a path starts
    for row in range(m):
        row_of[n], column = row, n
        shortest, before, used = np.full(n, np.inf), np.full(n, -1), np.zeros(n + 1, bool)
        while row_of[column] >= 0:
            used[column] = True
            slack = cost[row_of[column]] - u[row_of[column]] - v[:n]
            better = ~used[:n] & (slack < shortest)
            shortest[better], before[better] = slack[better], column
            following = int(np.where(used[:n], np.inf, shortest).argmin())
            step = shortest[following]
            u[row_of[used]] += step
            v[used] -= step
            shortest[~used[:n]] -= step
            column = following
        while column != n:
            row_of[column], column = row_of[before[column]], int(before[column])
    taken = row_of[:n] >= 0
    return float(-cost[row_of[:n][taken], np.flatnonzero(taken)].sum())


def _same_calls(gold: Sequence[Call], ours: Sequence[Call]) -> bool:
    return len(gold) == len(ours) and all(map(_same_call, gold, ours))


def _same_call(gold: Call, ours: Call) -> bool:
    return gold.name == ours.name and ours.parameters is not None and same_json(gold.parameters, ours.parameters)


Share = Callable[[list[Call], list[Call]], float]
"""Reference and prediction to R_max / S_max in [0, 1]."""


def _largest(gold: Sequence[Call]) -> int:
    return 1 + len(gold) + sum(len(call.parameters or ()) for call in gold)


def _graded(completion: Any, reference: Any, share: Share, form: Form, low: float, high: float) -> float | Verdict:
    if form not in get_args(Form):
        raise SteelyardError(f"form is {form!r}; it is one of {get_args(Form)}")
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise SteelyardError(f"the range is {low} to {high}; the low end must be below the high end")
    try:
        gold = read_calls(reference, form="any" if not isinstance(reference, str) else form)
    except NotJson as error:
        return Verdict(float("nan"), Status.UNPARSED, f"the reference's calls cannot be read: {error}")
    if gold is None:
        return 0.0
    if any(call.parameters is None for call in gold):
        return Verdict(float("nan"), Status.UNPARSED, "the parameters of a call of the reference are no object")
    try:
        ours = read_calls(completion, form="any" if not isinstance(completion, str) else form)
        return low if ours is None else low + (high - low) * share(gold, ours)
    except NotJson:
        return low


@reward
def tool_calls(
    completion: Any,
    reference: Any,
    *,
    matching: Matching = "optimal",
    form: Form = "any",
    low: float = -3.0,
    high: float = 3.0,
) -> float | Verdict:
    """Tool calls against the reference's, whatever their order: R = low + (high − low) · R_max / S_max (sheet 30).

    R_max = r_name + Σ (r_param + r_value) over a one-to-one matching of calls of the same tool: r_name = |G ∩ P| /
    |G ∪ P| on multisets of tool names, r_param the same of a pair's parameter names (two empty sets: 1), r_value how
    many of the reference's parameters have the same value; S_max = 1 + calls + parameters of the reference. Values are
    compared whole, with their types: `"3"` is not 3, `true` is not 1, the order of keys is nothing.

    No call, or one that cannot be read, gives `low`. A reference without a call gives 0 whatever is called; one that
    cannot be read gives NaN with the status `UNPARSED`.

    Args:
        completion: text, message or list of calls; reference: the same. See `read_calls`.
        matching: the best of all matchings, or greedy in the reference's order, as the paper's code has it.
        form: `lines` reads texts as the paper's code does.
        low, high: the range.
    """
    if matching not in get_args(Matching):
        raise SteelyardError(f"matching is {matching!r}; it is 'optimal' or 'greedy'")

    def share(gold: list[Call], ours: list[Call]) -> float:
        names = multiset_overlap([call.name for call in gold], [call.name for call in ours])
        return (names + _matched(gold, ours, matching, multiset_overlap)) / _largest(gold)

    return _graded(completion, reference, share, form, low, high)


@reward
def tool_names(
    completion: Any, reference: Any, *, form: Form = "any", low: float = -3.0, high: float = 3.0
) -> float | Verdict:
    """The names of the tools alone, |G ∩ P| / |G ∪ P| on multisets: `tool_calls` without parameters and values."""

    def share(gold: list[Call], ours: list[Call]) -> float:
        return multiset_overlap([call.name for call in gold], [call.name for call in ours])

    return _graded(completion, reference, share, form, low, high)


@reward
def tool_calls_refined(
    completion: Any, reference: Any, *, form: Form = "any", low: float = -3.0, high: float = 3.0
) -> float | Verdict:
    """As `tool_calls` with greedy matching, but names, of tools and of a pair's parameters, are all right in their
    order or nothing."""

    def share(gold: list[Call], ours: list[Call]) -> float:
        if _same_calls(gold, ours):
            return 1.0
        names = _equal([call.name for call in gold], [call.name for call in ours])
        return (names + _matched(gold, ours, "greedy", _equal)) / _largest(gold)

    return _graded(completion, reference, share, form, low, high)


@reward
def tool_calls_intermediate(
    completion: Any, reference: Any, *, form: Form = "any", low: float = -3.0, high: float = 3.0
) -> float | Verdict:
    """As `tool_calls`, but a call is right as a whole or not: R_max = r_name + equal calls, S_max = 1 + calls."""

    def share(gold: list[Call], ours: list[Call]) -> float:
        names = multiset_overlap([call.name for call in gold], [call.name for call in ours])
        left, equal = list(ours), 0
        for call in gold:
            found = next((i for i, other in enumerate(left) if _same_call(call, other)), None)
            if found is not None:
                equal += 1
                del left[found]
        return (names + equal) / (1 + len(gold))

    return _graded(completion, reference, share, form, low, high)


@reward
def tool_calls_coarse(
    completion: Any, reference: Any, *, form: Form = "any", low: float = -3.0, high: float = 3.0
) -> float | Verdict:
    """`high` where the calls are the reference's in its order, else `low`."""
    return _graded(completion, reference, lambda gold, ours: float(_same_calls(gold, ours)), form, low, high)


@reward
def tool_call_format(completion: str, reference: Any) -> float:
    """1 iff the text is a think block and then the blocks that the reference has, each on its own lines, else 0.

    Patterns: think; think + response; think + tool_call; think + tool_call + response. Blocks behind the thinking stand
    once, so that a tag quoted in it breaks the form. What is in the tool-call block is not checked. A reference that
    is a list of calls or a message asks for a tool-call block where it has a call.
    """
    if isinstance(reference, str):
        blocks = [name for name in ("tool_call", "response") if f"<{name}>" in reference]
    else:
        try:
            blocks = ["tool_call"] if read_calls(reference) else []
        except NotJson as error:
            raise SteelyardError(f"the reference's calls cannot be read: {error}") from None
    if any(not completion.count(f"<{name}>") == completion.count(f"</{name}>") == 1 for name in blocks):
        return 0.0
    inner = {"tool_call": r"\n.*?\n", "response": ".*?"}
    pattern = "\n".join(["<think>.*?</think>", *(f"<{name}>{inner[name]}</{name}>" for name in blocks)])
    return float(re.fullmatch(f"{pattern}\n?", completion, re.DOTALL) is not None)


class ThinkingLength(Expression):
    """See `thinking_length`."""

    def __init__(self, words: float | WeightOfStep) -> None:
        self.words, self.step = words, 0
        shown = words if not callable(words) else getattr(words, "__name__", repr(words))
        self.name = f"thinking_length(words={shown})"

    def at_step(self, step: int) -> None:
        """Aim at the number of words of this step from now on."""
        self.step = step

    def _compute(self, rollouts: Rollouts, memo: Memo) -> Scores:
        aim = self.words(self.step) if callable(self.words) else self.words
        if not aim > 0:
            raise SteelyardError(f"{self.name} aims at {aim} words; it must be more than 0")
        values = np.array([min(1.0, round(_thinking_words(text) / aim, 2)) for text in texts_in(rollouts)])
        scores = Scores(values)
        return Scores(scores.values, parts={"thinking_length": scores.values})


def _thinking_words(text: str) -> int:
    if "<think>" not in text or "</think>" not in text:
        return 0
    return len(text.rpartition("<think>")[2].partition("</think>")[0].split())


def thinking_length(words: float | WeightOfStep = 512) -> ThinkingLength:
    """min(1, words in the think block / `words`), rounded to 2 digits; 0 without a block.

    Args:
        words: what is aimed at, or a function of the step of training, as `growing_words`.

    Source: sheet 30. Its finding: rewarding longer thinking does not help, and hurts small models.
    """
    return ThinkingLength(words)


def growing_words(step: int) -> float:
    """384 + 256 · step / 105: the aim of sheet 30's dynamic length reward."""
    return 384 + 256 * step / 105


def equal_scale(calls: Expression = tool_calls) -> tuple[Expression, Expression]:
    """Format in [0, 1] and correctness in [−1, 1], for `calls` in [−3, 3]; their sum is the reward."""
    return tool_call_format, calls / 3


def two_stage_scale(calls: Expression = tool_calls) -> tuple[Expression, Expression]:
    """Format and correctness / 3 before step 30; from then on half the format and all of the correctness."""
    return scheduled(tool_call_format, piecewise({0: 1.0, 30: 0.5})), scheduled(calls, piecewise({0: 1 / 3, 30: 1.0}))


def smooth_scale(calls: Expression = tool_calls) -> tuple[Expression, Expression]:
    """Format in [−2 + 2t / 150, 2 − t / 150], then [−1, 1]; correctness in ±(2 + t / 150), then ±3; t the step."""
    least = scheduled(1 - tool_call_format, linear(-2, -1, steps=75))
    form = scheduled(tool_call_format, linear(2, 1, steps=150)) + least
    return form, scheduled(calls, linear(2 / 3, 1, steps=150))
