"""Several estimates of one reward made into one that no overrating estimate leads away (sheet 18, BRME)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from steelyard.rewards.core import BatchReward
from steelyard.types import Array, Rollouts, Scores, SteelyardError

Level = Literal["sample", "batch"]
Estimate = Callable[[Rollouts], tuple[Array, Array]]


@dataclass(frozen=True)
class Robust:
    """A robust reward and what it is made of; all [B] but `worst_head`.

    Attributes:
        reward: α · nominal + (1 − α) · worst (`sample`), or + (1 − α) · the batch's worst head (`batch`).
        nominal: the mean of the head that is surest of this answer.
        worst: the lowest mean of all heads for this answer.
        head: which head is nominal.
        worst_head: the head with the lowest mean over the batch.
        spread: highest mean − lowest mean of the heads.
    """

    reward: Array
    nominal: Array
    worst: Array
    head: Array
    worst_head: int
    spread: Array

    @property
    def objective(self) -> float:
        """Mean of the reward over the batch: what is maximised."""
        return float(self.reward.mean())


def robust(mu: Array, sigma: Array, *, nominal_weight: float, level: Level = "sample") -> Robust:
    """r = α μ_{i*} + (1 − α) min_i μ_i with i* = argmin_i σ_i (Bayesian reward model ensembles, arXiv 2409.15360).

    The minimum is taken for every answer, as a trainer needs one number each (`sample`; recommended, the paper does not
    say), or one head is the worst of the whole batch (`batch`, as its objective is written). The first is never above
    the second. Of equal σ the first head counts. Rows in which any number is not finite are NaN throughout.

    Args:
        mu: float [K, B], each head's mean. sigma: float [K, B], each head's standard deviation, above 0.
        nominal_weight: α in [0, 1]; 1 is the nominal reward alone, 0 the worst case alone.
        level: of the minimum.

    Raises:
        SteelyardError: for shapes that differ, σ ≤ 0, an α outside [0, 1], an unknown level.
    """
    mu, sigma = np.asarray(mu, np.float64), np.asarray(sigma, np.float64)
    if mu.ndim != 2 or mu.shape != sigma.shape or 0 in mu.shape:
        raise SteelyardError(f"means {mu.shape} and deviations {sigma.shape} must both be [heads, answers], none 0")
    if (sigma <= 0).any():
        raise SteelyardError(f"a head's deviation is {np.nanmin(sigma):g}; it must be above 0")
    if not 0 <= nominal_weight <= 1 or level not in get_args(Level):
        raise SteelyardError(
            f"nominal_weight={nominal_weight}, level={level!r}: the weight lies in [0, 1], the level is sample or batch"
        )
    usable = np.isfinite(mu).all(axis=0) & np.isfinite(sigma).all(axis=0)
    head = np.where(usable, sigma, 0.0).argmin(axis=0)
    nominal = np.where(usable, np.take_along_axis(mu, head[None, :], axis=0)[0], np.nan)
    worst = np.where(usable, mu.min(axis=0), np.nan)
    worst_head = int(mu[:, usable].mean(axis=1).argmin()) if usable.any() else 0
    low = worst if level == "sample" else np.where(usable, mu[worst_head], np.nan)
    reward = nominal_weight * nominal + (1 - nominal_weight) * low
    return Robust(reward, nominal, worst, head, worst_head, np.where(usable, np.ptp(mu, axis=0), np.nan))


def uncertainty_weighted(mu: Array, *, penalty: float) -> Array:
    """mean_i μ_i − λ var_i μ_i [B]: the ensemble baseline that subtracts disagreement (UWO)."""
    return np.asarray(mu, np.float64).mean(axis=0) - penalty * np.asarray(mu, np.float64).var(axis=0)


def robust_heads(*, nominal_weight: float, estimate: Estimate, name: str = "robust") -> BatchReward:
    """The robust reward of every rollout, from K heads' estimates; `nominal`, `worst` and `spread` are its parts.

    Args:
        nominal_weight: α; see `robust`.
        estimate: rollouts to means and deviations [K, N].
        name: how logs call it.
    """

    def score(rollouts: Rollouts, *, nominal_weight: float) -> Scores:
        mu, sigma = estimate(rollouts)
        found = robust(mu, sigma, nominal_weight=nominal_weight)
        return Scores(found.reward, parts={part: getattr(found, part) for part in ("nominal", "worst", "spread")})

    return BatchReward(score, name, {"nominal_weight": nominal_weight})
