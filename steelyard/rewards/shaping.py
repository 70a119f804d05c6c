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
    """Steps of every completion [N]: the column `length` where it is given, else what the actions' mask counts.

    Raises:
        SteelyardError: where neither is there, or a length is no number ≥ 0.
    """
    if not rollouts.has("length"):
        if rollouts.actions is None:
            raise SteelyardError("the lengths of completions are not known; give the column 'length', or actions")
        return rollouts.actions.mask.sum(axis=1)
    lengths = rollouts.column("length")
    for row, length in enumerate(lengths):
        if isinstance(length, bool) or not isinstance(length, (int, float, np.number)) or not length >= 0:
            raise SteelyardError(f"row {row}: the length is {length!r:.40}; give a number of steps, ≥ 0")
    return np.asarray(lengths, np.int64)


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


@dataclass(frozen=True, eq=False, repr=False)
class OverlongPenalty(Expression):
    """See `overlong_penalty`."""

    longest: int
    buffer: int

    @property
    def name(self) -> str:  # type: ignore[override]
        """As it was written."""
        return f"overlong_penalty(longest={self.longest}, buffer={self.buffer})"

    def _compute(self, rollouts: Rollouts, memo: Memo) -> Scores:
        over = completion_lengths(rollouts) - (self.longest - self.buffer)
        values = -np.where(over > 0, np.minimum(over / max(self.buffer, 1), 1.0), 0.0)
        scores = Scores(values)
        return Scores(scores.values, parts={"overlong_penalty": scores.values})


def overlong_penalty(*, longest: int, buffer: int) -> OverlongPenalty:
    """0 for completions of up to `longest` − `buffer` steps, then falling evenly to −1 at `longest`, and −1 beyond.

    Add it: `correct + overlong_penalty(longest=16384, buffer=4096)`. Steps are counted as `completion_lengths` does:
    the column `length`, else the policy's own steps.

    Raises:
        SteelyardError: for a length below 1, or a buffer below 0 or beyond it; at the call, where no length is known.

    Source: DAPO (arXiv 2503.14476), soft overlong punishment.
    """
    if not longest >= 1 or not 0 <= buffer <= longest:
        raise SteelyardError(f"overlong_penalty(longest={longest}, buffer={buffer}): 0 ≤ buffer ≤ longest, longest ≥ 1")
    return OverlongPenalty(longest, buffer)


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
