"""Batches as they travel over HTTP: bytes in, judged, bytes out; Steelyard's own form and OpenRLHF's."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from steelyard.engines.trl import consecutive_groups
from steelyard.rewards import Expression
from steelyard.rewards.chat import completion_text
from steelyard.types import Array, Rollouts, Sample, Scores, Status, SteelyardError

OK, BAD_REQUEST, UNPROCESSABLE = 200, 400, 422


class Answer(NamedTuple):
    """What a request gets: a status code of HTTP, a JSON body, and how many rows took which status."""

    code: int
    body: bytes
    rows: dict[str, int]


class BadBody(SteelyardError):
    """A body that is no batch."""


@dataclasses.dataclass(frozen=True)
class OpenRLHF:
    """How OpenRLHF's fields become columns.

    Attributes:
        label: the column that its `labels` are.
        endings: texts that its completions may end with (the end of a turn), cut off before they are judged.
    """

    label: str = "answer"
    endings: tuple[str, ...] = ()


def answer_columns(reward: Expression, body: bytes) -> Answer:
    """Judge `{"columns": {name: [N values]}, "group": [N]}`.

    `completion` must be among the columns; rows that follow each other with equal prompts are a group where none is
    given. The answer holds `rewards` [N] (null: no verdict), `status` [N] and `parts` {name: [N]}.
    """
    return _answered(reward, body, rollouts_of_columns, _plain)


def answer_openrlhf(reward: Expression, body: bytes, *, form: OpenRLHF) -> Answer:
    """Judge `{"query": [N], "prompts": [N], "labels": [N]}`, as OpenRLHF's `--reward.remote_url` asks.

    A query is the prompt and the completion in one text. The answer holds `rewards` and `scores`, both [N], and
    `extra_logs`, the parts that have a value on every row. OpenRLHF knows no row without a verdict: a batch with one
    is refused, unless the reward says by `fill` what such a row is worth.

    Source: OpenRLHF's openrlhf/utils/agent.py and openrlhf/cli/serve_rm.py.
    """
    return _answered(reward, body, lambda batch: rollouts_of_queries(batch, form), openrlhf_fields)


def _answered(
    reward: Expression,
    body: bytes,
    read: Callable[[dict[str, Any]], Rollouts],
    write: Callable[[Scores], dict[str, Any]],
) -> Answer:
    try:
        batch = _object(body)
        try:
            rollouts = read(batch)
        except SteelyardError:
            raise
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise BadBody(f"the body is no batch ({type(error).__name__}: {error}); see its form in the docs") from None
        scores = reward(rollouts)
        return Answer(OK, json.dumps(write(scores)).encode(), counted(scores))
    except BadBody as error:
        return Answer(BAD_REQUEST, told(str(error)), {})
    except SteelyardError as error:
        return Answer(UNPROCESSABLE, told(str(error)), {})


def told(sentence: str) -> bytes:
    """The body of an answer that is an error."""
    return json.dumps({"error": sentence}).encode()


def counted(scores: Scores) -> dict[str, int]:
    """How many rows have which status."""
    codes, counts = np.unique(np.asarray(scores.status), return_counts=True)
    return {status_name(code): int(count) for code, count in zip(codes, counts, strict=True)}


def status_name(code: int) -> str:
    """A status as files and answers write it: `scored`, `timed_out`, …"""
    return Status(code).name.lower()


def numbers(values: Array) -> list[float | None]:
    """Floats [N] as JSON has them: what is not finite is None."""
    return [value if math.isfinite(value) else None for value in np.asarray(values, np.float32).tolist()]


def _plain(scores: Scores) -> dict[str, Any]:
    return {
        "rewards": numbers(scores.values),
        "status": [status_name(code) for code in np.asarray(scores.status).tolist()],
        "parts": {name: numbers(part) for name, part in scores.parts.items()},
    }


def openrlhf_fields(scores: Scores) -> dict[str, Any]:
    """`rewards`, `scores` and `extra_logs` of `answer_openrlhf`.

    Raises:
        SteelyardError: for a row without a verdict.
    """
    unknown = np.isnan(scores.values)
    if unknown.any():
        row = int(unknown.argmax())
        why = status_name(np.asarray(scores.status)[row])
        raise SteelyardError(
            f"row {row} has no verdict ({why}) and OpenRLHF knows no such row; serve fill(reward, VALUE) instead"
        )
    values = scores.values.tolist()
    parts = {name: part.tolist() for name, part in scores.parts.items() if np.isfinite(part).all()}
    return {"rewards": values, "scores": values, "extra_logs": parts}


def _object(body: bytes) -> dict[str, Any]:
    try:
        batch = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadBody(f"the body is no JSON ({error}); send one object") from None
    if not isinstance(batch, dict):
        raise BadBody(f"the body is a JSON {type(batch).__name__}; send one object")
    return batch


def rollouts_of_columns(batch: Mapping[str, Any]) -> Rollouts:
    """The rollouts that `{"columns": …, "group": …}` stands for; chat completions become their text.

    Raises:
        BadBody: for another form, columns of different lengths, or none called `completion`.
    """
    columns = batch.get("columns")
    if not isinstance(columns, dict) or "completion" not in columns:
        raise BadBody('the body has no columns; send {"columns": {"completion": […], …}} with one value a row each')
    if unknown := sorted(set(batch) - {"columns", "group"}):
        raise BadBody(f"the body has {unknown[0]!r} beside its columns; only 'columns' and 'group' are known")
    lists = {**columns, "group": batch["group"]} if batch.get("group") is not None else columns
    count = _equal_lengths(lists)
    group = _groups(batch.get("group"), columns.get("prompt"), count)
    prompts = columns.get("prompt", [""] * count)
    samples = [Sample(str(row), prompt) for row, prompt in enumerate(prompts)]
    completions = [as_text(completion) for completion in columns["completion"]]
    others = {name: column for name, column in columns.items() if name not in ("completion", "prompt")}
    return Rollouts(samples, completions, group=group, columns=others)


def _equal_lengths(lists: Mapping[str, Any]) -> int:
    count = -1
    for name, column in lists.items():
        if not isinstance(column, list):
            raise BadBody(f"{name!r} is a JSON {type(column).__name__}; send a list with one value a row")
        if count not in (-1, len(column)):
            raise BadBody(f"{name!r} has {len(column)} rows where {next(iter(lists))!r} has {count}; send equal ones")
        count = len(column)
    if not count:
        raise BadBody("the batch has no rows; send at least one")
    return count


def _groups(given: list[Any] | None, prompts: list[Any] | None, count: int) -> Array:
    if given is None:
        return consecutive_groups(prompts) if prompts else np.arange(count)
    known: dict[str, int] = {}
    return np.asarray([known.setdefault(json.dumps(key), len(known)) for key in given], np.int64)


def as_text(completion: Any) -> Any:
    """Chat messages as their text, anything else as it is."""
    chat = isinstance(completion, list) and completion and all(isinstance(m, dict) and "role" in m for m in completion)
    return completion_text(completion) if chat else completion


def rollouts_of_queries(batch: Mapping[str, Any], form: OpenRLHF) -> Rollouts:
    """The rollouts that OpenRLHF's `query`, `prompts` and `labels` stand for.

    Raises:
        BadBody: for another form, or a query that does not hold its prompt: what is the completion then?
    """
    for name in ("query", "prompts"):
        texts = batch.get(name)
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise BadBody(f"{name!r} must be a list of texts, as OpenRLHF sends it")
    lists = {name: batch[name] for name in ("query", "prompts", "labels") if batch.get(name) is not None}
    _equal_lengths(lists)
    prompts = batch["prompts"]
    completions = [_behind(*pair, row, form) for row, pair in enumerate(zip(batch["query"], prompts, strict=True))]
    labels = {form.label: lists["labels"]} if "labels" in lists else {}
    samples = [Sample(str(row), prompt) for row, prompt in enumerate(prompts)]
    return Rollouts(samples, completions, group=consecutive_groups(prompts), columns=labels)


def _behind(query: str, prompt: str, row: int, form: OpenRLHF) -> str:
    """What stands in the query behind its prompt, without the ending of the turn."""
    _, found, completion = query.partition(prompt) if prompt else ("", "", query)
    if prompt and not found:
        raise BadBody(
            f"the query of row {row} does not hold its prompt, so where is its completion? Shorten the prompts"
        )
    return without_endings(completion, form.endings)


def without_endings(text: str, endings: Sequence[str]) -> str:
    """The text with every one of the endings, and spaces around them, cut off; as it is where it has none."""
    while ending := next((e for e in endings if e and text.rstrip().endswith(e)), None):
        text = text.rstrip()[: -len(ending)]
    return text
