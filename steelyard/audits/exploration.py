"""Does training sharpen a policy or widen it: pass@N, and which of the right answers became likelier."""

from __future__ import annotations

import numpy as np

from steelyard.types import Array, SteelyardError


def pass_at(right: Array, drawn: int, attempts: int) -> Array:
    """1 − C(n − c, N) / C(n, N): the chance that one of N of n draws without replacement is right, unbiased.

    Args:
        right: int [P], c, how many of the draws were right, problem by problem.
        drawn: n, draws of every problem.
        attempts: N ≤ n.

    Returns:
        float64 [P]; its mean over problems is pass@N.

    Raises:
        SteelyardError: for more attempts than draws, or more right ones.

    Source: sheet 32; Chen et al. 2021.
    """
    right = np.asarray(right, np.int64)
    if not 1 <= attempts <= drawn or (right < 0).any() or (right > drawn).any():
        given = f"{attempts} attempts, {drawn} draws, {right.min(initial=0)} to {right.max(initial=0)} right"
        raise SteelyardError(f"pass_at: {given}; 1 ≤ attempts ≤ draws, and no more right than drawn are needed")
    taken = np.arange(attempts)
    wrong = (drawn - right)[:, None] - taken
    return 1.0 - np.prod(np.maximum(wrong, 0) / (drawn - taken), axis=1)


def uplift_by_rank(before: Array, after: Array, right: Array) -> Array:
    """Of the right answers at each rank of likelihood in their group, the share that became likelier by training.

    GRPO lifts the likely ones more reliably (the rank bias); rank 0 is the likeliest before training. Equal
    likelihoods are ranked in the order in which they stand.

    Args:
        before, after: float [P, G], log-probabilities of the same G answers of P prompts.
        right: bool [P, G].

    Returns:
        float64 [G], NaN at a rank that no right answer has.

    Source: sheet 32 (Rewarding the Unlikely, arXiv 2506.02355).
    """
    order = np.argsort(-np.asarray(before), axis=1, kind="stable")
    risen, counted = (np.take_along_axis(values, order, axis=1) for values in (after > before, np.asarray(right, bool)))
    with np.errstate(invalid="ignore"):
        return (risen & counted).sum(axis=0) / counted.sum(axis=0)
