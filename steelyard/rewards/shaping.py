"""Rewards for the shape of a completion rather than for what it says."""

from __future__ import annotations

import numpy as np

from steelyard.rewards.core import BatchReward, Expression
from steelyard.types import Array, Rollouts


def completion_lengths(rollouts: Rollouts) -> Array:
    """Steps of every completion [N]: the column `length` where it is given, else what the actions' mask counts."""
    if rollouts.has("length") or rollouts.actions is None:
        return np.asarray(rollouts.column("length"), np.int64)
    return rollouts.actions.mask.sum(axis=1)


def length_bonus(
    *,
    by: Expression,
    bonus: float = 0.2,
    shortest: int = 320,
    longest: int = 512,
    above: float = 0.1,
    least_right: int = 2,
) -> BatchReward:
    """`bonus` for completions of `shortest` to `longest` steps that `by` scores above `above`, else 0.

    Given only in groups in which at least `least_right` completions pass. Source: sheet 01, the released code's term.
    """

    def judge(rollouts: Rollouts) -> Array:
        right = by(rollouts).values > above
        _, group = np.unique(np.stack([rollouts.groups, rollouts.branches]), axis=1, return_inverse=True)
        enough = np.bincount(group, right)[group] >= least_right
        lengths = completion_lengths(rollouts)
        return np.where(right & enough & (lengths >= shortest) & (lengths <= longest), bonus, 0.0)

    return BatchReward(judge, "length_bonus")
