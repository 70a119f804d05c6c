"""Which prompts a step trains on, told from how much their rewards spread."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from steelyard.learn.advantages import group_std, rows_of
from steelyard.types import PER_BRANCH, Advantages, Array, GroupKey, Rollouts, Scores, SteelyardError

ROUNDING = 1e-6
"""A spread this close to the threshold, relatively, is at the threshold."""


class SpreadFilter:
    """See `spread_filter`."""

    def __init__(self, beta: float, decay: float, collect_from: int, filter_from: int, by: GroupKey) -> None:
        self.beta, self.decay, self.by = beta, decay, by
        self.collect_from, self.filter_from = collect_from, filter_from
        self.step, self.means = 0, list[float]()
        self.level: float | None = None
        self._kept = self._threshold = 0.0

    def __repr__(self) -> str:
        return (
            f"spread_filter(beta={self.beta:g}, decay={self.decay:g}, collect_from={self.collect_from}, "
            f"filter_from={self.filter_from})"
        )

    def __call__(self, advantages: Advantages, rollouts: Rollouts, scores: Scores) -> Advantages:
        """Weight 0 on the rows of prompts that are dropped."""
        values, counted, group = rows_of(advantages, rollouts, self.by)
        there = np.bincount(group, counted) > 0  # a group without a judged row was drawn in vain and is no prompt here
        spread = np.where(there, group_std(values, counted, group), np.nan)
        kept = self.keep(spread)
        self._kept = float(kept.mean()) if len(kept) else 1.0
        return replace(advantages, weight=advantages.weights * kept[group])

    def keep(self, spread: Array) -> Array:
        """One step: bool [K], which of the prompts with these spreads [K] are trained; NaN and infinite ones are not.

        All prompts drawn count in the moving average, those that are dropped too.
        """
        self.step += 1
        self._move()
        finite = np.isfinite(spread)
        self._threshold = 0.0 if self.level is None else self.beta * self.level
        if finite.any() and self.step >= self.collect_from:
            self.means.append(float(np.mean(spread[finite])))
        return finite & (np.where(finite, spread, 0.0) >= self._threshold * (1 - ROUNDING))

    def _move(self) -> None:
        """Take up what the last steps left: their mean at first, then a share of the last one's."""
        if self.step < self.filter_from or not self.means:
            return
        seen = float(np.mean(self.means))
        self.level = seen if self.level is None else self.decay * self.level + (1 - self.decay) * seen
        self.means = []

    def metrics(self) -> dict[str, float]:
        """The threshold, and the share of prompts that reached it."""
        return {"spread_threshold": self._threshold, "spread_kept": self._kept}

    def state_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {"step": self.step, "level": self.level, "means": self.means}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken."""
        self.step, self.level, self.means = int(state["step"]), state["level"], list(state["means"])


def spread_filter(
    *,
    beta: float = 0.5,
    decay: float = 0.99,
    collect_from: int = 6,
    filter_from: int = 11,
    by: GroupKey = PER_BRANCH,
) -> SpreadFilter:
    """Leave out prompts whose rewards hardly differ: those with σ_x < β·e.

    σ_x is the sample standard deviation of the rewards of prompt x's attempts; e is a moving average of the mean σ of
    the prompts drawn: at step `filter_from` the mean over the steps from `collect_from` on, afterwards
    e ← decay·e + (1 − decay)·(mean σ of the last step). Before `filter_from` all prompts with a finite σ stay. A prompt
    exactly at the threshold stays; one whose σ is undefined (fewer than two judged attempts) is dropped and never
    enters e. Put it first in a chain, where the values are the rewards. Its state is saved with the run.

    Args:
        beta: β ≥ 0.
        decay: in [0, 1].
        collect_from, filter_from: steps, counted from 1.
        by: what makes a prompt.

    Raises:
        SteelyardError: for values that can never work.

    Source: sheet 40 (RLPR, arXiv 2506.18254), section "Std filter" and the authors' trainer.
    """
    if not beta >= 0 or not 0 <= decay <= 1 or not 1 <= collect_from < filter_from:
        given = f"beta={beta}, decay={decay}, collect_from={collect_from}, filter_from={filter_from}"
        raise SteelyardError(
            f"spread_filter({given}): beta must be ≥ 0, decay in [0, 1], and 1 ≤ collect_from < filter_from"
        )
    return SpreadFilter(beta, decay, collect_from, filter_from, by)
