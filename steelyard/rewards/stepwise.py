"""Rewards of steps and rewards of attempts, made of each other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from steelyard.rewards.core import Expression, Memo
from steelyard.types import Array, Rollouts, Scores, Status, SteelyardError


class Combined(Expression):
    """What both combinations share: their name and their operands."""

    def __init__(self, word: str, *parts: Expression) -> None:
        self.parts, self.name = parts, f"{word}({', '.join(map(repr, parts))})"

    @property
    def operands(self) -> tuple[Expression, ...]:
        """One level down."""
        return self.parts


class OnTheWay(Combined):
    """See `on_the_way`."""

    def _compute(self, rollouts: Rollouts, memo: Memo) -> Scores:
        if "scored" in rollouts.columns:
            return stacked(rollouts.columns["scored"])
        return self.parts[0]._evaluate(rollouts, memo)


def on_the_way(reward: Expression) -> Expression:
    """The scores that a plan was given when it chose by them (column `scored`), so that no judge is asked twice.

    Give the plan `reward` itself and the recipe `on_the_way(reward)`. Rollouts of other plans are scored as usual.
    """
    return OnTheWay("on_the_way", reward)


class Stepwise(Combined):
    """See `stepwise`."""

    def _compute(self, rollouts: Rollouts, memo: Memo) -> Scores:
        turns = rollouts.column("turns")
        row = np.repeat(np.arange(len(rollouts)), [len(each) for each in turns])
        step = [t for each in turns for t in range(len(each))]
        inner = Rollouts(
            [sample for each in turns for sample, _ in each], [text for each in turns for _, text in each],
            rollouts.groups[row], rollouts.branches[row], columns={"step": step},
        )  # fmt: skip
        scores = self.parts[0](inner)
        width = max(map(len, turns), default=0)
        known, steps = np.zeros((len(turns), width), bool), np.full((len(turns), width), np.nan, np.float32)
        known[row, step], steps[row, step] = True, scores.values
        lost = np.asarray((known & np.isnan(steps)).any(axis=1))
        values = np.where(lost, np.nan, np.nansum(steps, axis=1))
        parts = {name: _sums(part, row, len(turns)) for name, part in scores.parts.items()}
        return Scores(values, _first_status(scores, row, lost), steps, parts=parts)


def stepwise(reward: Expression) -> Expression:
    """A reward of single steps over whole attempts: `steps` [N, S] as it scores them, `values` their sum.

    Reads the column `turns` that `steelyard.learn.trajectories` writes. An attempt one of whose steps could not be
    judged has no sum. Parts are summed over the steps that have them.
    """
    return Stepwise("stepwise", reward)


class Beside(Combined):
    """See `outcome_beside_steps`."""

    def _compute(self, rollouts: Rollouts, memo: Memo) -> Scores:
        outcome, process = (part._evaluate(rollouts, memo) for part in self.parts)
        if process.steps is None:
            raise SteelyardError(f"{self.parts[1]!r} has no steps; give one that scores them, such as stepwise(…)")
        return Scores(outcome.values, outcome.status, process.steps, parts={**process.parts, **outcome.parts})


def outcome_beside_steps(outcome: Expression, process: Expression) -> Expression:
    """The outcome as value and the process's scores as steps: what `steelyard.learn.fusion.fused` puts together."""
    return Beside("outcome_beside_steps", outcome, process)


def stacked(rows: Sequence[Scores]) -> Scores:
    """Scores of single rows as one, in their order; parts that a row has not are NaN there."""
    names = list(dict.fromkeys(name for row in rows for name in row.parts))
    parts = {name: np.asarray([row.parts[name][0] if name in row.parts else np.nan for row in rows]) for name in names}
    status = np.asarray([row.status[0] for row in rows if row.status is not None], np.int8)
    return Scores(np.asarray([row.values[0] for row in rows]), status, parts=parts)


def _sums(part: Array, row: Array, count: int) -> Array:
    there = ~np.isnan(part)
    total = np.bincount(row, np.where(there, part, 0.0), minlength=count)
    return np.where(np.bincount(row, there, minlength=count) > 0, total, np.nan)


def _first_status(scores: Scores, row: Array, lost: Array) -> Array:
    """Scored, or the status of the first step that could not be judged."""
    assert scores.status is not None
    status = np.full(len(lost), Status.SCORED, np.int8)
    for number in np.flatnonzero(np.isnan(scores.values))[::-1]:
        status[row[number]] = scores.status[number]
    return status
