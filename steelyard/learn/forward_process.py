"""Training a flow by its forward process: how good a sample is, and the loss of a velocity for and against it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from steelyard.learn.objectives import step_weights
from steelyard.learn.recipe import StepLoss
from steelyard.types import Array, SteelyardError


def optimality(advantages: Tensor, *, limit: float = 5.0) -> Tensor:
    """r = clip(A / (2 A_max) + 1/2, 0, 1), of the same shape: 0 for the worst samples, 1/2 for an average one.

    Args:
        advantages: A. limit: A_max.

    Source: sheet 31 (FIRM, arXiv 2603.12247); DiffusionNFT.
    """
    return (advantages / (2 * limit) + 0.5).clamp(0.0, 1.0)


@dataclass(frozen=True)
class NegativeAware:
    """See `negative_aware`."""

    limit: float

    needs_reference = True
    exact_kl = True

    def weights(self, mask: Array, row_weight: Array) -> Array:
        """float32 [N, T]; see `objectives.step_weights`."""
        return step_weights(mask, row_weight, "tokens")

    def __call__(self, logprobs: Tensor, old: Tensor, reference: Tensor | None, advantages: Tensor) -> StepLoss:
        """Loss and figures of every noised copy [N, T]: how much better v fits than its mirror, and how badly both do.

        Raises:
            SteelyardError: for a policy that gives no second tensor, or several advantages a row.
        """
        if reference is None or advantages.ndim != logprobs.ndim:
            raise SteelyardError("negative_aware trains a ForwardPolicy, with one advantage a row")
        share = optimality(advantages, limit=self.limit)
        loss = self.limit * (reference - (2 * share - 1) * logprobs)
        return StepLoss(loss, {"optimality": share, "fit": logprobs.detach(), "residual": reference.detach()})


def negative_aware(*, limit: float = 5.0) -> NegativeAware:
    """DiffusionNFT's loss, which needs no log-probabilities.

    L = A_max [r e⁺ + (1 − r) e⁻] with r = `optimality`(A) and e± the errors of the velocities v± = (1 ∓ b) v_old ± b v
    on a noised copy of a sample; see `policies.forward_process.ForwardPolicy`, which gives e⁻ − e⁺ and e⁻ + e⁺, halved,
    where other policies give a log-probability and a KL.

    Args:
        limit: A_max; advantages beyond it are cut.

    Raises:
        SteelyardError: for a limit that is not positive.

    Source: sheet 31 (FIRM, arXiv 2603.12247).
    """
    if not 0 < limit < math.inf:
        raise SteelyardError(f"negative_aware has the limit {limit}; it must be positive")
    return NegativeAware(limit)
