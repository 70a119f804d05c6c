"""Objectives: losses as pure functions of tensors."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from steelyard.learn.recipe import StepLoss
from steelyard.types import Array, SteelyardError

Estimator = Literal["k1", "k2", "k3", "exact"]
Average = Literal["tokens", "rows"]


def clipped_surrogate(ratio: Tensor, advantages: Tensor, low: float, high: float, dual: float | None = None) -> Tensor:
    """−min(ρA, clip(ρ, 1 − low, 1 + high) A), element by element; where A < 0 at most −dual·A, if it is given."""
    loss = -torch.minimum(ratio * advantages, ratio.clamp(1 - low, 1 + high) * advantages)
    return loss if dual is None else torch.where(advantages < 0, torch.minimum(loss, -dual * advantages), loss)


def kl_estimate(logprobs: Tensor, reference: Tensor, estimator: Estimator) -> Tensor:
    """Per-step estimate of KL(π ‖ π_ref) from samples of π, with d = log π_ref − log π.

    k1 = −d (unbiased, may be negative); k2 = d²/2; k3 = e^d − d − 1 (unbiased, never negative); `exact`: the policy
    gave the KL of each step itself, in closed form, in the reference's place.
    """
    if estimator == "exact":
        return reference
    difference = reference - logprobs
    if estimator == "k1":
        return -difference
    if estimator == "k2":
        return 0.5 * difference.square()
    return torch.exp(difference) - difference - 1.0


def step_weights(mask: Array, row_weight: Array, average: Average) -> Array:
    """float32 [N, T] that sum to one: every step alike (`tokens`), or every row alike and its steps alike (`rows`)."""
    weights = mask.astype(np.float64) * row_weight[:, None]
    if average == "rows":
        weights /= np.maximum(mask.sum(axis=1, keepdims=True), 1)
    total = weights.sum()
    return (weights / total if total > 0 else weights).astype(np.float32)


@dataclass(frozen=True)
class Clipped:
    """See `clipped`."""

    low: float
    high: float
    kl: float
    estimator: Estimator
    average: Average
    dual: float | None = None

    @property
    def needs_reference(self) -> bool:
        """Whether the KL term is on."""
        return self.kl > 0

    @property
    def exact_kl(self) -> bool:
        """Whether the third argument of a call is each step's KL itself."""
        return self.estimator == "exact"

    def weights(self, mask: Array, row_weight: Array) -> Array:
        """float32 [N, T]; see `step_weights`."""
        return step_weights(mask, row_weight, self.average)

    def __call__(self, logprobs: Tensor, old: Tensor, reference: Tensor | None, advantages: Tensor) -> StepLoss:
        """Loss and figures of every step [N, T]; advantages may be [K, N, T], each clipped alone, and added up."""
        ratio = torch.exp(logprobs - old)
        loss = clipped_surrogate(ratio, advantages, self.low, self.high, self.dual)
        outside = ((ratio < 1 - self.low) & (advantages < 0)) | ((ratio > 1 + self.high) & (advantages > 0))
        if advantages.ndim == 3:
            loss, outside = loss.sum(0), outside.any(0)
        metrics = {"ratio": ratio.detach(), "clip_fraction": outside.float()}
        if reference is not None:
            divergence = kl_estimate(logprobs, reference, self.estimator)
            loss = loss + self.kl * divergence
            metrics["kl"] = divergence.detach()
        return StepLoss(loss, metrics)


def clipped(
    *,
    epsilon: float = 0.2,
    epsilon_high: float | None = None,
    kl: float = 0.0,
    estimator: Estimator = "k3",
    average: Average = "tokens",
    dual: float | None = None,
) -> Clipped:
    """PPO's clipped surrogate with a KL penalty, as GRPO uses it.

    L_t = −min(ρ_t A, clip(ρ_t, 1 − ε, 1 + ε_high) A) + β KL_t, ρ_t = π(a_t)/π_old(a_t).

    Args:
        epsilon: ε, and ε_high too unless `epsilon_high` is given.
        epsilon_high: the upper bound's own width (DAPO's clip-higher).
        kl: β; 0 needs no reference.
        estimator: of the KL term, see `kl_estimate`; `exact` needs a policy of Gaussian steps.
        average: `tokens` weighs every step of the batch alike, `rows` every row alike (GRPO's 1/|o_i|).
        dual: c > 1; where A < 0 the loss is at most −c·A, whatever the ratio (dual clip).

    Raises:
        SteelyardError: for an ε outside (0, 1], an ε_high that is not positive, a β that is negative or no number, an
            estimator or average that there is not, or a c that is not above 1.

    Source: sheet 01, section 3; Schulman et al. 2017; Shao et al. 2024.
    """
    if not 0 < epsilon <= 1 or not 0 <= kl < math.inf:
        raise SteelyardError(f"epsilon={epsilon} and kl={kl}: epsilon must lie in (0, 1] and kl must not be negative")
    if epsilon_high is not None and not epsilon_high > 0:
        raise SteelyardError(f"clipped: epsilon_high={epsilon_high} is no width; it must be positive")
    for value, known in ((estimator, get_args(Estimator)), (average, get_args(Average))):
        if value not in known:
            raise SteelyardError(f"clipped: there is no {value!r}; it is one of {', '.join(known)}")
    if dual is not None and not dual > 1:
        raise SteelyardError(f"clipped: dual={dual} cuts losses inside the clip; it must be above 1")
    return Clipped(epsilon, epsilon if epsilon_high is None else epsilon_high, kl, estimator, average, dual)
