"""Advantages as a chain of small transformations, each rows in, rows out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from steelyard.learn.recipe import AdvantageTransform
from steelyard.types import PER_BRANCH, Advantages, Array, GroupKey, Rollouts, Scores, SteelyardError, group_index


@dataclass(frozen=True)
class Link:
    """A transformation without state that prints as the call that made it."""

    name: str
    function: AdvantageTransform

    def __call__(self, advantages: Advantages, rollouts: Rollouts, scores: Scores) -> Advantages:
        """Advantages in, advantages out."""
        return self.function(advantages, rollouts, scores)

    def __repr__(self) -> str:
        return self.name


class Chain:
    """Links applied one after another; its state is its links' state. See `chain`."""

    def __init__(self, *links: AdvantageTransform) -> None:
        self.links = links

    def __call__(self, advantages: Advantages, rollouts: Rollouts, scores: Scores) -> Advantages:
        """Advantages in, advantages out."""
        for link in self.links:
            advantages = link(advantages, rollouts, scores)
        return advantages

    def __repr__(self) -> str:
        return f"chain({', '.join(map(repr, self.links))})"

    def metrics(self) -> dict[str, float]:
        """What the links say of the last step, for the log."""
        links = (link.metrics() for link in self.links if hasattr(link, "metrics"))
        return {name: value for figures in links for name, value in figures.items()}

    def state_dict(self) -> dict[str, Any]:
        """State of the links that have one, by position."""
        return {str(i): link.state_dict() for i, link in enumerate(self.links) if hasattr(link, "state_dict")}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Give every link its state back."""
        for i, part in state.items():
            self.links[int(i)].load_state_dict(part)  # type: ignore[attr-defined]


def chain(*links: AdvantageTransform) -> Chain:
    """Compose transformations; the first sees the reward itself with weight 0 on rows that could not be judged."""
    return Chain(*links)


def advantages_of(scores: Scores) -> Advantages:
    """Where every chain starts: the reward's value; rows without a finite one are left out (weight 0, value 0)."""
    finite = np.isfinite(scores.values)
    return Advantages(np.where(finite, scores.values, 0.0), finite.astype(np.float32))


def applied(transform: AdvantageTransform, rollouts: Rollouts, scores: Scores) -> Advantages:
    """What a chain makes of scores, checked: one finite advantage for every row that counts.

    Raises:
        SteelyardError: for another number of rows, a weight that is negative or not finite, or a row that counts
            without a finite advantage.
    """
    advantages = transform(advantages_of(scores), rollouts, scores)
    if len(advantages.values) != len(rollouts):
        counts = f"{len(advantages.values)} advantages for {len(rollouts)} rollouts"
        raise SteelyardError(f"{transform!r} gave {counts}; one a row is needed")
    unusable = ~(np.isfinite(advantages.weights) & (advantages.weights >= 0))
    if unusable.any():
        row = int(unusable.argmax())
        raise SteelyardError(f"the weight of row {row} is {advantages.weights[row]}; it must be 0 or more")
    flat = np.concatenate([values.reshape(len(rollouts), -1) for values in advantages.terms], axis=1)
    wrong = ~np.isfinite(flat).all(axis=1) & (advantages.weights > 0)
    if wrong.any():
        raise SteelyardError(f"the advantage of row {int(wrong.argmax())} is not finite; give such rows weight 0")
    return advantages


def single(advantages: Advantages, trainer: str) -> Advantages:
    """The advantages, if there is one a row; other trainers clip no more.

    Raises:
        SteelyardError: naming the trainer that cannot carry several.
    """
    if advantages.others:
        count = len(advantages.terms)
        raise SteelyardError(
            f"{trainer} clips one advantage a row and not {count}; train this recipe with steelyard.learn.trainer"
        )
    return advantages


def only(*, branch: int) -> AdvantageTransform:
    """Train on the rows of one branch; all others are left out."""

    def keep(advantages: Advantages, rollouts: Rollouts, scores: Scores) -> Advantages:
        return replace(advantages, weight=advantages.weights * (rollouts.branches == branch))

    return Link(f"only(branch={branch})", keep)


def centre(*, by: GroupKey = PER_BRANCH, keep_single: bool = False) -> AdvantageTransform:
    """A_i = r_i − mean of r over the counted rows of i's group; 0 in a group of one.

    Args:
        by: what makes a group: `group`, `branch`, or the name of a column.
        keep_single: a group of one keeps its value instead, as in verl (whose mean there is 0).
    """

    def subtract(advantages: Advantages, rollouts: Rollouts, scores: Scores) -> Advantages:
        values, counted, group = rows_of(advantages, rollouts, by)
        mean = group_mean(values, counted, group)
        if keep_single:
            mean[np.bincount(group, counted, minlength=len(mean)) == 1] = 0.0
        return replace(advantages, values=values - mean[group])

    options = [f"by={by}"] * (by != PER_BRANCH) + ["keep_single=True"] * keep_single
    return Link(f"centre({', '.join(options)})", subtract)


def scale(*, by: GroupKey = PER_BRANCH, ddof: int = 1, epsilon: float = 1e-4, floor: float = 0.0) -> AdvantageTransform:
    """A_i / (max(s, s₀) + ε), s the standard deviation of the counted rows of i's group (s = 1 where they are too few).

    Args:
        by: what makes a group: `group`, `branch`, or the name of a column.
        ddof: 1 divides by n − 1 (the usual code), 0 by n.
        epsilon: keeps an all-equal group at 0.
        floor: s₀, which keeps it at 0 too where ε is 0 (sheet 15).
    """

    def divide(advantages: Advantages, rollouts: Rollouts, scores: Scores) -> Advantages:
        values, counted, group = rows_of(advantages, rollouts, by)
        std = np.nan_to_num(group_std(values, counted, group, ddof=ddof), nan=1.0)
        return replace(advantages, values=values / (np.maximum(std, floor)[group] + epsilon))

    return Link(f"scale(ddof={ddof}, epsilon={epsilon:g}{f', floor={floor:g}' * (floor > 0)})", divide)


def even(*, by: GroupKey = PER_BRANCH) -> AdvantageTransform:
    """Every group weighs alike, however many of its rows count: w_i / Σ_{j in i's group} w_j.

    With an objective that averages over `rows`, the mean over groups of the mean over their rows.
    """

    def share(advantages: Advantages, rollouts: Rollouts, scores: Scores) -> Advantages:
        group = group_index(rollouts, by)
        total = np.bincount(group, advantages.weights)[group]
        return replace(advantages, weight=advantages.weights / np.where(total > 0, total, 1.0))

    return Link(f"even(by={by})", share)


def clip(limit: float) -> AdvantageTransform:
    """Keep every advantage within [−limit, limit], further ones of a row too.

    Raises:
        SteelyardError: for a limit that is not positive.
    """
    if not limit > 0:
        raise SteelyardError(f"clip({limit}) keeps nothing; the limit must be positive")

    def cut(advantages: Advantages, rollouts: Rollouts, scores: Scores) -> Advantages:
        values, *others = (np.clip(term, -limit, limit) for term in advantages.terms)
        return Advantages(values, advantages.weights, tuple(others))

    return Link(f"clip({limit:g})", cut)


def with_signal(*, by: GroupKey = PER_BRANCH, tolerance: float = 1e-8) -> AdvantageTransform:
    """Leave out groups whose counted rows are all equal: they carry no preference."""

    def keep(advantages: Advantages, rollouts: Rollouts, scores: Scores) -> Advantages:
        values, counted, group = rows_of(advantages, rollouts, by)
        centred = np.where(counted, values - group_mean(values, counted, group)[group], 0.0)
        spread = np.bincount(group, np.abs(centred))
        return replace(advantages, weight=advantages.weights * (spread[group] > tolerance))

    return Link("with_signal()", keep)


def keep_rows(choose: Callable[[Rollouts, Scores], Array]) -> AdvantageTransform:
    """Leave out the rows for which `choose` gives False (bool [N])."""

    def keep(advantages: Advantages, rollouts: Rollouts, scores: Scores) -> Advantages:
        chosen = np.asarray(choose(rollouts, scores))
        if chosen.dtype != bool or chosen.shape != advantages.weights.shape:
            given = f"{chosen.dtype} {chosen.shape}"
            raise SteelyardError(f"{name} chose rows by {given}; it must give bool [{len(advantages.weights)}]")
        return replace(advantages, weight=advantages.weights * chosen)

    name = f"keep_rows({getattr(choose, '__name__', type(choose).__name__)})"
    return Link(name, keep)


def rows_of(advantages: Advantages, rollouts: Rollouts, by: GroupKey) -> tuple[Array, Array, Array]:
    """What a statistic of groups is taken of: values float64 [N], which rows count bool [N], their group int64 [N].

    Raises:
        SteelyardError: for advantages of steps, several a row, or of another number of rows.
    """
    if len(advantages.values) != len(rollouts):
        raise SteelyardError(f"{len(advantages.values)} advantages for {len(rollouts)} rollouts; one a row is needed")
    if advantages.values.ndim != 1:
        raise SteelyardError(
            f"group statistics need one advantage a row [N], not {advantages.values.shape}; put them before"
        )
    if advantages.others:
        raise SteelyardError(f"group statistics need one advantage a row, not {len(advantages.terms)}; put them before")
    return advantages.values.astype(np.float64), advantages.weights > 0, group_index(rollouts, by)


def group_mean(values: Array, counted: Array, group: Array) -> Array:
    """Mean over counted rows, per group [K]; 0 where none counts."""
    total = np.bincount(group, np.where(counted, values, 0.0))
    return total / np.maximum(np.bincount(group, counted), 1)


def group_std(values: Array, counted: Array, group: Array, *, ddof: int = 1) -> Array:
    """Standard deviation over counted rows, per group [K]; NaN where no more than `ddof` of them count."""
    deviation = np.where(counted, values - group_mean(values, counted, group)[group], 0.0)
    freedom = np.bincount(group, counted) - ddof
    variance = np.bincount(group, deviation**2) / np.maximum(freedom, 1)
    return np.where(freedom > 0, np.sqrt(variance), np.nan)
