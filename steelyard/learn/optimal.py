"""The best policy in closed form, for problems small enough to list their answers."""

from __future__ import annotations

import numpy as np

from steelyard.types import Array, SteelyardError


def optimal_policy(reward: Array, *, beta: float, reference: Array | None = None) -> Array:
    """π* = argmax_π E_π[r] − β KL(π ‖ ref) ∝ ref · exp(r / β).

    Args:
        reward: float [..., R], of every answer. beta: β > 0.
        reference: probabilities of the same shape; uniform if left out.

    Returns:
        Probabilities float64 [..., R]; a constant reward gives the reference.

    Raises:
        SteelyardError: for a β that is not positive, or a reward that is not finite.
    """
    r = np.asarray(reward, np.float64)
    if not beta > 0 or not np.isfinite(r).all():
        raise SteelyardError(f"optimal_policy needs beta > 0 (it is {beta}) and finite rewards")
    logits = r / beta
    weight = np.exp(logits - logits.max(axis=-1, keepdims=True))
    weight = weight if reference is None else weight * np.asarray(reference, np.float64)
    total: Array = weight / weight.sum(axis=-1, keepdims=True)
    return total
