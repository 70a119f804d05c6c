"""Rubrics and checklists: a judge answers for each criterion, what it adds up to is computed here."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

import numpy as np

from steelyard.rewards.core import BatchReward
from steelyard.rewards.judges.cache import forget_unread
from steelyard.rewards.judges.parsing import parse_label, parse_labels
from steelyard.rewards.judges.scoring import named_reward, texts_of
from steelyard.rewards.judges.templates import label_prompt, labels_prompt
from steelyard.types import Array, Judge, Prompt, Rollouts, Scores, Status, SteelyardError

Missing = Literal["nan", "skip", "unmet"]
Levels = Mapping[str, float]

YES_NO: Levels = {"yes": 1.0, "no": 0.0}
MET_PARTLY_NOT: Levels = {"fully met": 1.0, "partially met": 0.5, "not met": 0.0}
"""Sheet 45's three labels."""
SUPPORT: Levels = {"support": 1.0, "partial support": 0.5, "no support": 0.0}
"""Sheet 49's three labels of a nugget."""


@dataclass(frozen=True)
class Criterion:
    """One thing to check of a response.

    Attributes:
        text: what is asked about it.
        weight: its share of the score beside the others'. Below 0 it is a penalty, taken off where it is met.
        levels: label to credit in [0, 1]; the judge chooses the label.
        hard: it gates: where it is not met (credit below 1; for a penalty: where it is met at all, credit above 0) the
            whole score is 0. With weight 0 it does nothing but gate.
        needs: numbers (from 0) of criteria that must be met (credit 1) for this one to count; else its credit is 0.
        name: how logs call it; `c1`, `c2`, … without one.
    """

    text: str
    weight: float = 1.0
    levels: Levels = None  # type: ignore[assignment]
    hard: bool = False
    needs: tuple[int, ...] = ()
    name: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "levels", dict(YES_NO if self.levels is None else self.levels))
        object.__setattr__(self, "needs", tuple(self.needs))
        where = f"criterion {self.text!r:.60}"
        if not isinstance(self.text, str) or not self.text.strip():
            raise SteelyardError(f"{where} says nothing; write what is to be checked")
        if not _is_number(self.weight):
            raise SteelyardError(f"{where} has the weight {self.weight!r}; it must be a finite number")
        if not isinstance(self.hard, bool) or not all(type(need) is int for need in self.needs):
            raise SteelyardError(
                f"{where}: hard={self.hard!r} must be true or false, and needs={self.needs} whole numbers"
            )
        if not all(isinstance(label, str) for label in self.levels) or len({x.lower() for x in self.levels}) < 2:
            raise SteelyardError(f"{where} has the levels {self.levels}; two different texts or more are needed")
        if not all(_is_number(credit) and 0 <= credit <= 1 for credit in self.levels.values()):
            raise SteelyardError(f"{where} has the levels {self.levels}; every credit must lie in [0, 1]")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def read_criteria(rubric: Any, *, where: str = "the rubric") -> tuple[Criterion, ...]:
    """Criteria from what a data file holds: texts, mappings with `Criterion`'s fields, or criteria.

    Raises:
        SteelyardError: naming what is wrong, and where.
    """
    if isinstance(rubric, str | Mapping) or not isinstance(rubric, Sequence):
        raise SteelyardError(f"{where} is {type(rubric).__name__} {rubric!r:.60}; it must be a list of criteria")
    criteria = tuple(_criterion(entry, f"{where}, criterion {i + 1}") for i, entry in enumerate(rubric))
    names = [criterion.name or f"c{i + 1}" for i, criterion in enumerate(criteria)]
    if len(set(names)) < len(names):
        raise SteelyardError(f"{where} has two criteria of one name; it has {', '.join(names)}")
    for i, criterion in enumerate(criteria):
        if any(need == i or not 0 <= need < len(criteria) for need in criterion.needs):
            raise SteelyardError(
                f"{where}, criterion {i + 1} needs {criterion.needs}; there are 0 to {len(criteria) - 1}"
            )
    return criteria


def _criterion(entry: Any, where: str) -> Criterion:
    if isinstance(entry, Criterion):
        return entry
    if isinstance(entry, str):
        return Criterion(entry)
    if not isinstance(entry, Mapping):
        raise SteelyardError(f"{where} is {type(entry).__name__}; give a text or a mapping with a text")
    known = [field.name for field in fields(Criterion)]
    unknown = sorted(set(entry) - set(known))
    if unknown or "text" not in entry:
        raise SteelyardError(f"{where} has {unknown or 'no text'}; a criterion has {', '.join(known)}")
    try:
        return Criterion(**entry)
    except TypeError as error:
        raise SteelyardError(f"{where} cannot be read: {error}; levels map texts to credits, needs is a list") from None


@dataclass(frozen=True, eq=False)
class Aggregate:
    """What credits add up to.

    Attributes:
        values: float64 [N]; NaN where the row has no score.
        gates: float64 [N], 1 where every hard criterion is met, 0 where one is not, NaN where that is not known.
        credits: float64 [N, K], after `needs`.
    """

    values: Array
    gates: Array
    credits: Array


def aggregate(
    credits: Array,
    weights: Array,
    *,
    hard: Array | None = None,
    needs: Array | None = None,
    missing: Missing = "nan",
) -> Aggregate:
    """score = Σ_k w_k s_k / Σ_{w_k > 0} w_k, and 0 where a hard criterion is not met.

    Penalties (w < 0) are taken off and stand in no denominator, so a score may fall below 0; `clip` it if it must not.
    Scaling all weights changes nothing. Without any positive weight the denominator is Σ|w|; where only gates count
    (all weights 0) the score is 1.

    Args:
        credits: s, float [N, K] in [0, 1]; NaN where the judge gave none.
        weights: w, float [N, K] or [K]; NaN where a row has fewer criteria.
        hard: bool [N, K] or [K], which gate.
        needs: bool [N, K, K] or [K, K]; `needs[…, k, j]`: k counts only where j has credit 1.
        missing: what a criterion without credit does to its row. `nan`: the row has no score. `skip`: the rest of the
            row is scored as if the criterion were not there (no score, if none is left, or a gate is not known).
            `unmet`: it counts as not met: credit 0, and a gate is shut.

    Raises:
        SteelyardError: for shapes that do not fit or credits outside [0, 1].

    Source: sheets 45 (mean), 49 (weights), 17 and 21 (gates), 42 (needs).
    """
    s = np.asarray(credits, np.float64)
    if s.ndim != 2 or ((s < 0) | (s > 1)).any():
        raise SteelyardError(f"credits of shape {s.shape} are no table [rows, criteria] of numbers in [0, 1]")
    if missing not in get_args(Missing):
        raise SteelyardError(f"missing is {missing!r}; it must be one of {', '.join(get_args(Missing))}")
    w = _fitting(weights, s.shape, "weights", np.float64)
    gate = _fitting(False if hard is None else hard, s.shape, "hard", bool)
    need = _fitting(False if needs is None else needs, (*s.shape, s.shape[1]), "needs", bool)
    there = ~np.isnan(w)
    s, w, gate = np.where(there, s, 0.0), np.where(there, w, 0.0), gate & there
    if missing == "unmet":
        s = np.where(np.isnan(s), np.where((w < 0) & gate, 1.0, 0.0), s)
    s = _with_needs(s, need)
    gates = _gates(s, w, gate)
    weighed = _weighed(s, w, missing)
    values = np.where(gates == 0, 0.0, np.where(np.isnan(gates), np.nan, weighed))
    values[~there.any(axis=1)] = np.nan
    return Aggregate(values, gates, np.where(there, s, np.nan))


def _fitting(values: Any, shape: tuple[int, ...], what: str, dtype: Any) -> Array:
    try:
        return np.broadcast_to(np.asarray(values, dtype), shape)
    except ValueError:
        raise SteelyardError(f"{what} of shape {np.shape(values)} do not fit credits that need {shape}") from None


def _with_needs(s: Array, need: Array) -> Array:
    """Credit 0 where a needed criterion is not met, unknown where that is unknown and this one has credit."""
    met = s[:, None, :]
    failed = (need & (met < 1)).any(axis=2)
    unknown = (need & np.isnan(met)).any(axis=2) & ~(s == 0)
    return np.where(failed, 0.0, np.where(unknown, np.nan, s))


def _gates(s: Array, w: Array, gate: Array) -> Array:
    """[N]: 0 where a known gate is shut, NaN where none is but one is unknown, else 1."""
    shut = gate & np.where(w < 0, s > 0, s < 1)
    unknown = gate & np.isnan(s)
    return np.where(shut.any(axis=1), 0.0, np.where(unknown.any(axis=1), np.nan, 1.0))


def _weighed(s: Array, w: Array, missing: Missing) -> Array:
    unknown = np.isnan(s) & (w != 0)
    counted = np.where(unknown, 0.0, w) if missing == "skip" else w
    total = np.where(counted > 0, counted, 0.0).sum(axis=1)
    total = np.where(total > 0, total, np.abs(counted).sum(axis=1))
    score = np.where(
        total > 0, (counted * np.where(np.isnan(s), 0.0, s)).sum(axis=1) / np.where(total > 0, total, 1), 1.0
    )
    if missing == "skip":
        emptied = (unknown.any(axis=1)) & (total == 0)
        return np.where(emptied, np.nan, score)
    return np.where(unknown.any(axis=1), np.nan, score)


Ask = Callable[[Judge, list[str], list[str], list[tuple[Criterion, ...]]], tuple[Array, Array]]


def rubric(
    judge: Judge,
    criteria: Sequence[Criterion | str | Mapping[str, Any]] | None = None,
    *,
    column: str = "rubric",
    question: str = "prompt",
    missing: Missing = "nan",
    name: str = "rubric",
) -> BatchReward:
    """Criteria judged one by one: a prompt for every row and criterion, so that none colours another.

    `Scores.steps` holds the credit of every criterion [N, K]; the parts hold them by name where the criteria are the
    same for all rows, and always `NAME/gate` and `NAME/unjudged` (share of criteria without a verdict).

    Args:
        judge: who is asked.
        criteria: the same for all rows; None reads each row's own from `column`.
        column: a list of criteria a row, as `read_criteria` takes them.
        question: column with what was asked.
        missing: what a criterion without a verdict does to its row; see `aggregate`.
        name: how logs call it.

    Raises:
        SteelyardError: for criteria that are none, at once or at the call.
    """
    return _rubric(judge, criteria, _one_by_one, column, question, missing, name)


def checklist(
    judge: Judge,
    criteria: Sequence[Criterion | str | Mapping[str, Any]] | None = None,
    *,
    column: str = "rubric",
    question: str = "prompt",
    missing: Missing = "nan",
    name: str = "checklist",
) -> BatchReward:
    """As `rubric`, but with one prompt a row for all its criteria: cheaper, and less independent."""
    return _rubric(judge, criteria, _all_at_once, column, question, missing, name)


def _rubric(
    judge: Judge, criteria: Any, ask: Ask, column: str, question: str, missing: Missing, name: str
) -> BatchReward:
    shared = None if criteria is None else read_criteria(criteria, where=name)
    if shared is not None and not shared:
        raise SteelyardError(f"{name} has no criteria; give at least one, or None to read each row's own")
    if missing not in get_args(Missing):
        raise SteelyardError(f"{name}: missing is {missing!r}; it must be one of {', '.join(get_args(Missing))}")

    def score(rollouts: Rollouts) -> Scores:
        rubrics = [shared] * len(rollouts) if shared is not None else _own(rollouts, column)
        credits, status = ask(judge, texts_of(rollouts, question), texts_of(rollouts, "completion"), rubrics)
        return _scores(credits, status, rubrics, shared, missing, name)

    shown = f"{len(shared)} criteria" if shared is not None else f"column={column!r}"
    return named_reward(score, name, f"{name}({getattr(judge, 'name', judge)!r}, {shown})")


def _own(rollouts: Rollouts, column: str) -> list[tuple[Criterion, ...]]:
    read: dict[int, tuple[Criterion, ...]] = {}
    rows = rollouts.column(column)
    for row, value in enumerate(rows):
        if id(value) not in read:
            read[id(value)] = read_criteria(value, where=f"row {row}, column {column!r}")
    return [read[id(value)] for value in rows]


def _scores(
    credits: Array,
    status: Array,
    rubrics: list[tuple[Criterion, ...]],
    shared: tuple[Criterion, ...] | None,
    missing: Missing,
    name: str,
) -> Scores:
    weights, hard, needs = tables_of(rubrics)
    found = aggregate(credits, weights, hard=hard, needs=needs, missing=missing)
    there = ~np.isnan(weights)
    unjudged = (np.isnan(credits) & there).sum(axis=1) / np.maximum(there.sum(axis=1), 1)
    parts = {f"{name}/gate": found.gates, f"{name}/unjudged": unjudged}
    for k, criterion in enumerate(shared or ()):
        parts[f"{name}/{criterion.name or f'c{k + 1}'}"] = credits[:, k] if len(credits) else np.zeros(0)
    why = np.where(there.any(axis=1), _first_failure(status, credits, there), Status.NOT_APPLICABLE)
    row_status = np.where(np.isnan(found.values), why, Status.SCORED)
    steps = credits.astype(np.float32)
    return Scores(found.values, row_status, steps, parts={key: part.astype(np.float32) for key, part in parts.items()})


def _first_failure(status: Array, credits: Array, there: Array) -> Array:
    failed = np.isnan(credits) & there
    first = failed.argmax(axis=1) if credits.shape[1] else np.zeros(len(credits), int)
    picked = status[np.arange(len(status)), first] if credits.shape[1] else np.full(len(credits), Status.FAILED)
    return np.where(failed.any(axis=1), picked, Status.FAILED)


def tables_of(rubrics: Sequence[Sequence[Criterion]]) -> tuple[Array, Array, Array]:
    """Weights float64 [N, K] (NaN where a row has fewer criteria), hard bool [N, K], needs bool [N, K, K]."""
    k = max((len(criteria) for criteria in rubrics), default=0)
    weights = np.full((len(rubrics), k), np.nan)
    hard, needs = np.zeros((len(rubrics), k), bool), np.zeros((len(rubrics), k, k), bool)
    for row, criteria in enumerate(rubrics):
        for i, criterion in enumerate(criteria):
            weights[row, i], hard[row, i] = criterion.weight, criterion.hard
            needs[row, i, list(criterion.needs)] = True
    return weights, hard, needs


def _one_by_one(
    judge: Judge, questions: list[str], responses: list[str], rubrics: list[tuple[Criterion, ...]]
) -> tuple[Array, Array]:
    """Credits and statuses [N, K]."""
    credits, status = _blank(rubrics)
    cells = [(row, k, criterion) for row, criteria in enumerate(rubrics) for k, criterion in enumerate(criteria)]
    prompts = [label_prompt(questions[row], responses[row], c.text, list(c.levels)) for row, _, c in cells]
    replies = judge.ask(prompts)
    labels = [parse_label(reply, list(c.levels)) for (_, _, c), reply in zip(cells, replies, strict=True)]
    forget_unread(judge, prompts, replies, [label is not None for label in labels])
    for (row, k, criterion), label, reply in zip(cells, labels, replies, strict=True):
        credits[row, k], status[row, k] = _credit(criterion, label, reply)
    return credits, status


def _all_at_once(
    judge: Judge, questions: list[str], responses: list[str], rubrics: list[tuple[Criterion, ...]]
) -> tuple[Array, Array]:
    """Credits and statuses [N, K]."""
    credits, status = _blank(rubrics)
    rows = [row for row, criteria in enumerate(rubrics) if criteria]
    prompts: list[Prompt] = []
    for row in rows:
        asked = {f"c{k + 1}": (c.text, list(c.levels)) for k, c in enumerate(rubrics[row])}
        prompts.append(labels_prompt(questions[row], responses[row], asked))
    replies = judge.ask(prompts)
    read = [
        parse_labels(reply, {f"c{k + 1}": list(c.levels) for k, c in enumerate(rubrics[row])})
        for row, reply in zip(rows, replies, strict=True)
    ]
    forget_unread(judge, prompts, replies, [None not in labels.values() for labels in read])
    for row, labels, reply in zip(rows, read, replies, strict=True):
        for k, (criterion, label) in enumerate(zip(rubrics[row], labels.values(), strict=True)):
            credits[row, k], status[row, k] = _credit(criterion, label, reply)
    return credits, status


def _blank(rubrics: Sequence[Sequence[Criterion]]) -> tuple[Array, Array]:
    shape = len(rubrics), max((len(criteria) for criteria in rubrics), default=0)
    return np.full(shape, np.nan), np.full(shape, Status.NOT_APPLICABLE, np.int8)


def _credit(criterion: Criterion, label: str | None, reply: str | None) -> tuple[float, Status]:
    if label is None:
        return math.nan, Status.FAILED if reply is None else Status.UNPARSED
    return criterion.levels[label], Status.SCORED
