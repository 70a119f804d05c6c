"""Rewards for the shape of a completion rather than for what it says."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

import numpy as np

from steelyard.rewards.core import Expression, Memo, RowReward, joined
from steelyard.types import Array, Rollouts, Scores, SteelyardError

_WORD_ENDS = re.compile(r"\s+|_")


def completion_lengths(rollouts: Rollouts) -> Array:
    """Steps of every completion [N]: the column `length` where it is given, else what the actions' mask counts."""
    if rollouts.has("length") or rollouts.actions is None:
        return np.asarray(rollouts.column("length"), np.int64)
    return rollouts.actions.mask.sum(axis=1)


@dataclass(frozen=True, eq=False, repr=False)
class LengthBonus(Expression):
    """See `length_bonus`."""

    by: Expression
    bonus: float
    shortest: int
    longest: int
    above: float
    least_right: int

    name = "length_bonus"

    def _compute(self, rollouts: Rollouts, memo: Memo) -> Scores:
        by = self.by._evaluate(rollouts, memo)
        right = by.values > self.above
        _, group = np.unique(np.stack([rollouts.groups, rollouts.branches]), axis=1, return_inverse=True)
        enough = np.bincount(group, right)[group] >= self.least_right
        lengths = completion_lengths(rollouts)
        earned = right & enough & (lengths >= self.shortest) & (lengths <= self.longest)
        values = np.where(np.isnan(by.values), np.nan, np.where(earned, self.bonus, 0.0)).astype(np.float32)
        scores = joined(values, [by], name=self.name)
        scores.parts = {self.name: scores.values, **scores.parts}
        return scores


def length_bonus(
    *,
    by: Expression,
    bonus: float = 0.2,
    shortest: int = 320,
    longest: int = 512,
    above: float = 0.1,
    least_right: int = 2,
) -> LengthBonus:
    """`bonus` for completions of `shortest` to `longest` steps that `by` scores above `above`, else 0.

    Given only in groups in which at least `least_right` completions pass. A row that `by` could not judge is NaN and
    does not count as passing. Source: sheet 01, the released code's term.
    """
    return LengthBonus(by, bonus, shortest, longest, above, least_right)


def most_repeated(text: str, *, window: int = 10) -> int:
    """How often the commonest run of `window` words occurs; 0 for texts of no more words than that.

    Words end at white space and at underscores.
    """
    words = _WORD_ENDS.split(text.strip())
    if len(words) <= window:
        return 0
    runs = zip(*(words[start:] for start in range(window)), strict=False)
    return max(Counter(runs).values())


def _repeats(completion: str, *, window: int, limit: int) -> float:
    return float(most_repeated(completion, window=window) >= limit)


def repeats(*, window: int = 10, limit: int = 10) -> RowReward:
    """1 iff some run of `window` words occurs `limit` times or more, else 0: take it off, as `correct - repeats()`.

    Args:
        window: words in a run; limit: how often is too often (the authors' trainer: 10, their function's default: 6).

    Raises:
        SteelyardError: for a window or limit below 1.

    Source: sheet 40 (RLPR), the authors' repetition penalty.
    """
    if min(window, limit) < 1:
        raise SteelyardError(f"repeats(window={window}, limit={limit}): both must be at least 1")
    return RowReward(_repeats, "repeats", options={"window": window, "limit": limit})


@dataclass(frozen=True, eq=False, repr=False)
class Overlong(Expression):
    """See `overlong`."""

    free: int
    buffer: int

    @property
    def name(self) -> str:  # type: ignore[override]
        """As it was written."""
        return f"overlong(free={self.free}, buffer={self.buffer})"

    def _compute(self, rollouts: Rollouts, memo: Memo) -> Scores:
        over = (completion_lengths(rollouts) - self.free) / self.buffer
        values = -np.clip(over, 0.0, None).astype(np.float32)
        return Scores(values, parts={"overlong": values})


def overlong(*, free: int, buffer: int) -> Overlong:
    """min(−(l − free) / buffer, 0): nothing up to `free` steps, −1 at free + buffer, where generation should end.

    Add it: `correct + overlong(free=4096, buffer=4096)`. Lengths are those of `completion_lengths`.

    Args:
        free: steps that cost nothing, ≥ 0; buffer: over how many more the penalty grows to 1, ≥ 1.

    Raises:
        SteelyardError: for other numbers.

    Source: sheet 20's scripts (DAPO's soft overlong punishment, with factor 1).
    """
    if free < 0 or buffer < 1:
        raise SteelyardError(f"overlong(free={free}, buffer={buffer}): free must be at least 0 and buffer at least 1")
    return Overlong(free, buffer)
