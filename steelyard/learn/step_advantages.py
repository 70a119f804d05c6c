"""Advantages of denoising: per step, over the whole batch, against a prompt's past, and labels in their place."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from steelyard.learn.advantages import Link, rows_of
from steelyard.learn.recipe import AdvantageTransform
from steelyard.types import PER_BRANCH, Advantages, Array, GroupKey, Rollouts, Scores, SteelyardError


def scale_overall(*, epsilon: float = 1e-4, floor: float = 0.0) -> AdvantageTransform:
    """A_i / (max(s, s₀) + ε), s the population standard deviation of the REWARDS of all counted rows of the step.

    Put it behind `centre()`: the mean stays the group's, the scale is everybody's (Flow-GRPO's `global_std`).

    Args:
        epsilon: keeps equal rewards at 0. floor: s₀, which keeps them there too where ε is 0 (sheet 15).

    Source: sheet 00.
    """

    def divide(advantages: Advantages, rollouts: Rollouts, scores: Scores) -> Advantages:
        values, counted, _ = rows_of(advantages, rollouts, ())
        rewards = scores.values.astype(np.float64)[counted]
        std = rewards.std() if len(rewards) else 1.0
        return replace(advantages, values=values / (max(std, floor) + epsilon))

    return Link(f"scale_overall(epsilon={epsilon:g}{f', floor={floor:g}' * (floor > 0)})", divide)


def without_zeros() -> AdvantageTransform:
    """Leave out rows whose advantage is 0 at every step: they would only add to the KL term's share (sheet 00)."""

    def keep(advantages: Advantages, rollouts: Rollouts, scores: Scores) -> Advantages:
        flat = np.concatenate([term.reshape(len(rollouts), -1) for term in advantages.terms], axis=1)
        return replace(advantages, weight=advantages.weights * (flat != 0).any(axis=1))

    return Link("without_zeros()", keep)


def rotated() -> AdvantageTransform:
    """Every row gets the advantage of the row before it: a control, with which nothing can be learned."""

    def rotate(advantages: Advantages, rollouts: Rollouts, scores: Scores) -> Advantages:
        values, *others = (np.roll(term, 1, axis=0) for term in advantages.terms)
        return Advantages(values, np.roll(advantages.weights, 1), tuple(others))

    return Link("rotated()", rotate)


def best_only(*, by: GroupKey = PER_BRANCH) -> AdvantageTransform:
    """1 for the best rows of a group, ties included, and 0 for the others (online supervised fine-tuning, sheet 00)."""

    def label(advantages: Advantages, rollouts: Rollouts, scores: Scores) -> Advantages:
        values, counted, group = rows_of(advantages, rollouts, by)
        best = np.full(group.max(initial=-1) + 1, -np.inf)
        np.maximum.at(best, group[counted], values[counted])
        return replace(advantages, values=(counted & (values == best[group])).astype(np.float32))

    return Link("best_only()", label)


def best_and_worst(*, by: GroupKey = PER_BRANCH) -> AdvantageTransform:
    """+1 for a group's best row, −1 for its worst, 0 for the others; of equal ones the first (online DPO, sheet 00).

    Where all are equal the first is called the worst and the second the best, as in the released code, so that every
    group of two or more has a pair; a group of one is 0.
    """

    def label(advantages: Advantages, rollouts: Rollouts, scores: Scores) -> Advantages:
        values, counted, group = rows_of(advantages, rollouts, by)
        rows = np.flatnonzero(counted)
        up = rows[np.lexsort((rows, values[rows], group[rows]))]
        down = rows[np.lexsort((rows, -values[rows], group[rows]))]
        _, first = np.unique(group[up], return_index=True)
        worst, best = up[first], down[first]
        equal = worst == best
        following = np.minimum(first + 1, max(len(up) - 1, 0))
        paired = equal & (group[up[following]] == group[worst]) & (following > first)
        best = np.where(paired, up[following], best)
        labels = np.zeros(len(values), np.float32)
        kept = ~equal | paired
        labels[best[kept]], labels[worst[kept]] = 1.0, -1.0
        return replace(advantages, values=labels)

    return Link("best_and_worst()", label)


def per_step(*links: AdvantageTransform) -> AdvantageTransform:
    """Advantages of steps [N, T]: the links applied to every column of `Scores.steps`, as if it were the reward.

    A row that misses a step's score has no part in that column's statistics, and is left out as a whole.

    Raises:
        SteelyardError: where the reward gave no scores of steps, or not one for every step of the rollouts.

    Source: sheet 48.
    """

    def columns(advantages: Advantages, rollouts: Rollouts, scores: Scores) -> Advantages:
        steps = step_scores(rollouts, scores)
        laid = [_column(advantages, rollouts, scores, steps[:, t], links) for t in range(steps.shape[1])]
        weight = advantages.weights * np.isfinite(steps).all(axis=1)
        return Advantages(np.stack([part.values for part in laid], axis=1), weight)

    return Link(f"per_step({', '.join(map(repr, links))})", columns)


def _column(
    advantages: Advantages, rollouts: Rollouts, scores: Scores, values: Array, links: Sequence[AdvantageTransform]
) -> Advantages:
    finite = np.isfinite(values)
    found = Advantages(np.where(finite, values, 0.0), advantages.weights * finite)
    for link in links:
        found = link(found, rollouts, replace(scores, values=values, steps=None, parts={}, status=None))
    return found


def step_scores(rollouts: Rollouts, scores: Scores) -> Array:
    """float32 [N, T]: a score of every step of the rollouts.

    Raises:
        SteelyardError: where there are none, or of another shape.
    """
    if scores.steps is None:
        raise SteelyardError("the reward gave no scores of steps; wrap it so that it does, as dense_steps(reward)")
    if rollouts.actions is not None and np.shape(scores.steps) != rollouts.actions.mask.shape:
        shapes = f"{np.shape(scores.steps)} for steps {rollouts.actions.mask.shape}"
        raise SteelyardError(f"the reward's scores of steps are {shapes}; one a step is needed")
    return np.asarray(scores.steps, np.float32)


class PastOfPrompts:
    """See `against_past`."""

    def __init__(self, by: str, buffer: int, least: int, epsilon: float) -> None:
        self.by, self.buffer, self.least, self.epsilon = by, buffer, least, epsilon
        self.past: dict[str, deque[float]] = {}

    def __call__(self, advantages: Advantages, rollouts: Rollouts, scores: Scores) -> Advantages:
        """Advantages in, advantages out; the rewards of counted rows join their prompts' past first."""
        values, counted, _ = rows_of(advantages, rollouts, ())
        names = np.asarray([str(name) for name in rollouts.column(self.by)], object)
        everybody = _mean_and_std(values[counted])
        found = np.zeros(len(values))
        for name in dict.fromkeys(names[counted]):
            rows = counted & (names == name)
            past = self.past.setdefault(name, deque(maxlen=self.buffer))
            past.extend(values[rows].tolist())
            mean, std = everybody if len(past) < self.least else _mean_and_std(np.asarray(past))
            found[rows] = (values[rows] - mean) / (std + self.epsilon)
        return replace(advantages, values=found)

    def __repr__(self) -> str:
        return f"against_past(by={self.by!r}, buffer={self.buffer}, least={self.least}, epsilon={self.epsilon:g})"

    def state_dict(self) -> dict[str, Any]:
        """JSON: every prompt's last rewards."""
        return {"past": {name: list(values) for name, values in self.past.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken."""
        self.past = {name: deque(values, maxlen=self.buffer) for name, values in state.get("past", {}).items()}


def _mean_and_std(values: Array) -> tuple[float, float]:
    return (float(values.mean()), float(values.std())) if len(values) else (0.0, 0.0)


def against_past(*, by: str = "prompt", buffer: int = 32, least: int = 16, epsilon: float = 1e-6) -> PastOfPrompts:
    """A_i = (r_i − m)/(s + ε), m and s over the last rewards of i's prompt, this step's included.

    Until a prompt has `least` of them, m and s are of all counted rows of this step. It has state: the rewards.

    Args:
        by: the column that names a prompt.
        buffer: how many rewards a prompt keeps.
        least: how many it must have. epsilon: keeps equal rewards at 0.

    Raises:
        SteelyardError: for a buffer that never holds enough.

    Source: sheet 57.
    """
    if not 1 <= least <= buffer:
        raise SteelyardError(f"a past of {buffer} rewards never holds {least}; give least between 1 and buffer")
    return PastOfPrompts(by, buffer, least, epsilon)
