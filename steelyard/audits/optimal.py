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


def softmax(logits: Array) -> Array:
    """exp(x)/Σ exp(x) over the last axis."""
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    total: Array = shifted / shifted.sum(axis=-1, keepdims=True)
    return total


def q_star(reward: Array, kernel: Array, discount: float, *, rounds: int = 1000) -> Array:
    """Q* [S, A], the fixed point of Q = R + γ Σ_{s'} P max_{a'} Q(s', a'), by policy iteration with exact solves.

    Args:
        reward: [S, A]. kernel: [S, A, S]. discount: γ in [0, 1).

    Raises:
        SteelyardError: if it does not settle, which only a bad kernel can bring about.
    """
    states = np.arange(len(reward))
    actions = reward.argmax(axis=1)
    for _ in range(rounds):
        v = np.linalg.solve(np.eye(len(reward)) - discount * kernel[states, actions], reward[states, actions])
        q = reward + discount * kernel @ v
        better = q.max(axis=1) > q[states, actions] + 1e-12 * max(1.0, float(np.abs(q).max()))
        if not better.any():
            return q
        actions = np.where(better, q.argmax(axis=1), actions)
    raise SteelyardError(f"policy iteration did not settle in {rounds} rounds; is each kernel[s, a] a distribution?")


def q_soft(reward: Array, kernel: Array, discount: float, alpha: float, *, rounds: int = 1000) -> Array:
    """Q_α [S, A], the fixed point of Q = R + γ Σ_{s'} P α log Σ_{a'} exp(Q(s', a')/α), by soft policy iteration.

    Raises:
        SteelyardError: for an α that is not positive, or if it does not settle.
    """
    if not alpha > 0:
        raise SteelyardError(f"alpha is {alpha}; an entropy bonus is above 0")
    q = reward.astype(np.float64)
    for _ in range(rounds):
        policy = softmax(q / alpha)
        entropy = -(policy * np.log(np.maximum(policy, 1e-300))).sum(axis=1)
        moves = np.einsum("sa,sat->st", policy, kernel)
        gain = (policy * reward).sum(axis=1) + alpha * entropy
        v = np.linalg.solve(np.eye(len(reward)) - discount * moves, gain)
        found = reward + discount * kernel @ v
        if np.abs(found - q).max() <= 1e-13 * max(1.0, float(np.abs(found).max())):
            return found
        q = found
    raise SteelyardError(f"soft policy iteration did not settle in {rounds} rounds; is the kernel a distribution?")


def natural_policy_gradient(
    reward: Array, kernel: Array, discount: float, *, start: Array, rate: float, steps: int, alpha: float = 0.0
) -> Array:
    """A softmax policy [S, A] after exact natural gradient steps, with an entropy bonus α.

    π ← π^(1 − ηα/(1−γ)) exp(η Q^π_α/(1−γ)), normalised; for α = 0 that is θ ← θ + η A^π/(1−γ).

    Args:
        start: logits [S, A]. rate: η with ηα ≤ 1 − γ. steps: how many.
    """
    logits, left = np.asarray(start, np.float64), 1 - discount
    for _ in range(steps):
        policy = softmax(logits)
        log_policy = logits - logits.max(axis=1, keepdims=True)
        log_policy = log_policy - np.log(np.exp(log_policy).sum(axis=1, keepdims=True))
        gain = (policy * (reward - alpha * log_policy)).sum(axis=1)
        v = np.linalg.solve(np.eye(len(reward)) - discount * np.einsum("sa,sat->st", policy, kernel), gain)
        q = reward + discount * kernel @ v
        logits = (1 - rate * alpha / left) * log_policy + rate / left * q
    return softmax(logits)
