"""Calibrating how much noise each denoising step adds, by whether its gains and losses balance."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from steelyard.types import Array, Policy, Reward, Sample, SteelyardError

Balanced = Callable[[Array, Array, int], Array]
"""Counts of gains and of losses of every step [T], and the number of rows, to whether they balance [T]."""


def within_count(limit: float = 2) -> Balanced:
    """|n₊ − n₋| < limit: the paper's rule, which a balanced step of many rows hardly ever meets (sheet 48)."""
    return lambda gains, losses, rows: np.abs(gains - losses) < limit


def within_share(share: float = 0.2) -> Balanced:
    """|n₊ − n₋| ≤ share · N: means the same for every N (recommended by sheet 48, with N of 256 or more)."""
    return lambda gains, losses, rows: np.abs(gains - losses) <= share * rows


@dataclass(frozen=True)
class Calibrated:
    """Noise levels float64 [T], and how many rows gained and lost at each step, int64 [T]."""

    levels: Array
    gains: Array
    losses: Array


def calibrate(
    levels: Array | Sequence[float], step_scores: Array, *, balanced: Balanced, by: float = 0.01
) -> Calibrated:
    """One round: ψ_t + by where gains and losses of step t balance, else ψ_t − by, never under 0.

    Args:
        levels: ψ, [T]. step_scores: gains ΔR, [N, T]; a gain of 0 counts for neither side.
        balanced: `within_share()` or `within_count()`.
        by: ε₂.

    Raises:
        SteelyardError: for gains of another number of steps.

    Source: sheet 48, algorithm 1.
    """
    psi, found = np.asarray(levels, np.float64), np.asarray(step_scores, np.float64)
    if found.ndim != 2 or found.shape[1:] != psi.shape:
        raise SteelyardError(f"gains {found.shape} do not fit {psi.shape} noise levels; they must be [N, T] and [T]")
    gains, losses = (found > 0).sum(axis=0), (found < 0).sum(axis=0)
    moved = psi + np.where(balanced(gains, losses, len(found)), by, -by)
    return Calibrated(np.maximum(moved, 0.0), gains, losses)


class WithNoise(Policy, Protocol):
    """A policy whose steps' noise can be set."""

    def use_levels(self, levels: Array) -> None:
        """Sample with these noise levels [T] from now on."""
        ...


def calibrated(
    policy: WithNoise,
    samples: Sequence[Sample],
    reward: Reward,
    levels: Array | Sequence[float],
    *,
    rounds: int,
    generator: np.random.Generator,
    attempts: int = 1,
    balanced: Balanced | None = None,
    by: float = 0.01,
) -> Array:
    """Noise levels for a policy, found before training by `rounds` of `calibrate` on its own samples, and set in it.

    Args:
        samples: prompts of every round; with `attempts` each, 256 rows or more are advised.
        reward: with scores of steps, as `dense_steps(reward)`.
        levels: where to begin; `sde_levels(sigmas, 0.7)` is Flow-GRPO's.

    Returns:
        float64 [T].
    """
    psi = np.asarray(levels, np.float64)
    for _ in range(rounds):
        policy.use_levels(psi)
        if hasattr(reward, "use_policy"):
            reward.use_policy(policy)
        scores = reward(policy.sample(samples, attempts, generator=generator))
        if scores.steps is None:
            raise SteelyardError(f"reward {reward.name!r} gave no scores of steps; wrap it as dense_steps(reward)")
        psi = calibrate(psi, scores.steps, balanced=balanced or within_share(), by=by).levels
    policy.use_levels(psi)
    return psi
