"""Rewards for the shape of a completion rather than for what it says."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from steelyard.rewards.core import BatchReward, Expression, Memo, RowReward, joined
from steelyard.types import Array, Rollouts, Scores, Status, SteelyardError

_WORD_ENDS = re.compile(r"\s+|_")
_CHINESE = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")
_HAS_WORD = re.compile(r"\w")
_STATED = re.compile(
    r"(?:(at least|at most|no more than|no less than|more than|less than|fewer than|under|over|up to)\s+)?"
    r"(\d[\d,]*)(?:\s*(?:-|–|~|to|and|到|至)\s*(\d[\d,]*))?[\s-]*(?:words?\b|个?字)",
    re.IGNORECASE,
)


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


def count_words(text: str) -> int:
    """Words between white space that hold a letter or a digit; Chinese and Japanese are counted by character."""
    rest, characters = _CHINESE.subn(" ", text)
    return characters + sum(bool(_HAS_WORD.search(word)) for word in rest.split())


def stated_band(instruction: str, *, tolerance: float = 0.1) -> tuple[float, float] | None:
    """The length that an instruction asks for, [lo, hi]: a range as it is, one number ± `tolerance`.

    None where it asks for none, for two different ones, or for a bound alone (`at least 500 words`): then say the band
    yourself, or predict it.

    Source: sheet 45.
    """
    found = {match.groups() for match in _STATED.finditer(instruction)}
    if len(found) != 1:
        return None
    bound, first, last = found.pop()
    if bound:
        return None
    low, high = (float(number.replace(",", "")) for number in (first, last or first))
    return _band((low, high) if last else low, tolerance, "the instruction")


def _band(asked: object, tolerance: float, where: str) -> tuple[float, float]:
    """[lo, hi] from a pair, or from a number and a tolerance."""
    number = isinstance(asked, (int, float, np.number)) and not isinstance(asked, bool)
    try:
        low, high = (asked * (1 - tolerance), asked * (1 + tolerance)) if number else map(float, asked)  # type: ignore
    except (TypeError, ValueError):
        low = high = np.nan
    if not 0 < low <= high < np.inf:
        raise SteelyardError(f"{where} asks for the length {asked!r:.60}; give a number above 0, or [lowest, highest]")
    return float(low), float(high)


def band_fit(lengths: Array, low: Array, high: Array) -> Array:
    """1 for lo ≤ n ≤ hi; max(0, 1 − (n/hi − 1)/3) above; max(0, 1 − (lo/n − 1)/2) below; 0 for n = 0.

    It reaches 0 at four times hi and at a third of lo.

    Args:
        lengths: n, [N]; low, high: the band, 0 < lo ≤ hi, [N] or one for all; NaN where there is none.

    Returns:
        float64 [N] in [0, 1]; NaN where there is no band.

    Source: sheet 45, its recommended form (after LongBench-Write's; the paper's formula is not found).
    """
    n = np.asarray(lengths, np.float64)
    with np.errstate(divide="ignore"):
        above, below = 1 - (n / high - 1) / 3, 1 - (low / n - 1) / 2
    fit = np.where(n > high, above, np.where(n < low, below, 1.0))
    return np.where(np.isnan(low) | np.isnan(high), np.nan, fit.clip(0, 1))


def length_in_band(
    *, column: str = "length_band", tolerance: float = 0.1, count: Callable[[str], int] = count_words
) -> BatchReward:
    """How well a completion keeps to the length that its instruction asks for: see `band_fit`.

    Args:
        column: of every row [lowest, highest], a number (± `tolerance`), or None where no length is asked for: such a
            row is not applicable (NaN). `stated_band` reads it from an instruction.
        tolerance: share of the number, in [0, 1).
        count: text to its length.

    Raises:
        SteelyardError: for a tolerance outside [0, 1), or at the call, naming the row whose length is none.

    Source: sheet 45.
    """
    if not 0 <= tolerance < 1:
        raise SteelyardError(f"length_in_band has the tolerance {tolerance}; it must be in [0, 1)")

    def score(rollouts: Rollouts) -> Scores:
        asked = enumerate(rollouts.column(column))
        bands = np.array(
            [(np.nan,) * 2 if a is None else _band(a, tolerance, f"row {i}, column {column!r}") for i, a in asked]
        ).reshape(-1, 2)
        lengths = np.array([count(text) for text in rollouts.completions])
        values = band_fit(lengths, bands[:, 0], bands[:, 1])
        status = np.where(np.isnan(values), Status.NOT_APPLICABLE, Status.SCORED)
        return Scores(values, status, parts={"length_in_band/length": lengths.astype(np.float32)})

    return BatchReward(score, "length_in_band")
