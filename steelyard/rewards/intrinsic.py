"""Rewards that a policy gives its own answers, and how far two of its iterations rank them alike (sheet 22, CREAM)."""

from __future__ import annotations

import numpy as np

from steelyard.types import Array, SteelyardError


def intrinsic_reward(logprob: Array, reference: Array | None, lengths: Array) -> Array:
    """r = log π(y|x) − log ref(y|x), summed over steps; without a reference log π(y|x)/|y|.

    The two are on different scales, so rank by either, and never compare one with the other.

    Args:
        logprob: float, any shape, summed over the answer's steps.
        reference: the same of the reference, or None.
        lengths: int, steps of every answer, at least 1.

    Raises:
        SteelyardError: for an answer without steps, where its mean is asked for.
    """
    if reference is not None:
        return np.asarray(logprob, np.float64) - reference
    if (np.asarray(lengths) < 1).any():
        raise SteelyardError("an answer has no step, so its mean log-probability is not defined; leave it out")
    return np.asarray(logprob, np.float64) / lengths


def ordinal_ranks(rewards: Array) -> Array:
    """int64 [P, N]: 1 for the lowest reward to N for the highest; of equal ones the earlier gets the lower rank."""
    order = np.argsort(_checked(rewards), axis=1, kind="stable")
    ranks = np.empty(order.shape, np.int64)
    np.put_along_axis(ranks, order, np.arange(1, order.shape[1] + 1)[None, :], axis=1)
    return ranks


def kendall_rate(now: Array, before: Array) -> Array:
    """C = (τ + 1)/2 [P], τ = 2/(N(N − 1)) Σ_{i<j} sign[(J_i − J_j)(K_i − K_j)] of both rewards' ordinal ranks.

    Args:
        now, before: rewards [P, N] of the same answers by two iterations. N = 1 gives NaN.

    Raises:
        SteelyardError: for rewards that are not finite, or of different shapes.
    """
    current, previous = _both(now, before)
    n = current.shape[1]
    i, j = np.triu_indices(n, 1)
    agree = np.sign((current[:, i] - current[:, j]) * (previous[:, i] - previous[:, j])).sum(axis=1)
    return _rate(2 * agree / (n * (n - 1)) if n > 1 else np.full(len(current), np.nan))


def spearman_rate(now: Array, before: Array) -> Array:
    """(ρ + 1)/2 [P], ρ = 1 − 6 Σ d²/(N(N² − 1)) of the ordinal ranks; arguments as `kendall_rate`."""
    current, previous = _both(now, before)
    n = current.shape[1]
    squares = ((current - previous) ** 2).sum(axis=1)
    return _rate(1 - 6 * squares / (n * (n**2 - 1)) if n > 1 else np.full(len(current), np.nan))


def same_extremes(now: Array, before: Array) -> Array:
    """1 [P] where the best answer and the worst one are the same in both, else 0 (the paper's TopOrder)."""
    current, previous = _both(now, before)
    same = [pick(current, axis=1) == pick(previous, axis=1) for pick in (np.argmax, np.argmin)]
    return (same[0] & same[1]).astype(np.float64)


def same_ends(now: Array, before: Array) -> Array:
    """1 [P] where the first and the last answer of the list keep their ranks: TopOrder as the released code has it."""
    current, previous = _both(now, before)
    return (current[:, [0, -1]] == previous[:, [0, -1]]).all(axis=1).astype(np.float64)


def best_and_worst(rewards: Array) -> tuple[Array, Array, Array]:
    """Index of the highest and of the lowest reward [P], the first of equals, and whether they are two answers."""
    given = _checked(rewards)
    best, worst = given.argmax(axis=1), given.argmin(axis=1)
    return best, worst, best != worst


def _rate(correlation: Array) -> Array:
    return (np.asarray(correlation) + 1) / 2


def _both(now: Array, before: Array) -> tuple[Array, Array]:
    if np.shape(now) != np.shape(before):
        raise SteelyardError(f"rewards {np.shape(now)} and {np.shape(before)} are compared; both must be [P, N]")
    return ordinal_ranks(now), ordinal_ranks(before)


def _checked(rewards: Array) -> Array:
    given = np.asarray(rewards, np.float64)
    if given.ndim != 2 or not np.isfinite(given).all():
        raise SteelyardError(
            f"rewards of shape {given.shape}: finite numbers [P, N] are needed; leave other prompts out"
        )
    return given
