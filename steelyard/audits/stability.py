"""When a small change of the reward makes the best policy jump: ties, gaps and bounds of finite problems (sheet 16)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from steelyard.audits.optimal import q_soft, q_star, softmax
from steelyard.types import Array, SteelyardError

TOLERANCE = 1e-9
"""Ties are judged within this share of the reward's scale: exact ones do not survive floating point."""


@dataclass(frozen=True)
class Problem:
    """A finite decision problem.

    Attributes:
        reward: float64 [S, A]. kernel: float64 [S, A, S], each row a distribution. discount: γ in [0, 1).
    """

    reward: Array
    kernel: Array
    discount: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "reward", np.asarray(self.reward, np.float64))
        object.__setattr__(self, "kernel", np.asarray(self.kernel, np.float64))
        r, p = self.reward, self.kernel
        if r.ndim != 2 or 0 in r.shape or p.shape != (*r.shape, len(r)) or not np.isfinite(r).all():
            raise SteelyardError(f"reward {r.shape} and kernel {p.shape} must be finite [S, A] and [S, A, S]")
        if (p < 0).any() or not np.allclose(p.sum(axis=2), 1.0):
            raise SteelyardError("a row of the kernel is no distribution; each kernel[s, a] must sum to 1")
        if not 0 <= self.discount < 1:
            raise SteelyardError(f"the discount is {self.discount}; it must be in [0, 1)")

    @property
    def q(self) -> Array:
        """Q* [S, A]."""
        return q_star(self.reward, self.kernel, self.discount)

    def soft_policy(self, alpha: float) -> Array:
        """π_α = softmax(Q_α/α) [S, A], the best policy with an entropy bonus α."""
        return softmax(q_soft(self.reward, self.kernel, self.discount, alpha) / alpha)

    def with_reward(self, reward: Array) -> Problem:
        """The same problem with another reward."""
        return Problem(reward, self.kernel, self.discount)


def answers(scores: Sequence[float] | Array) -> Problem:
    """A prompt with a list of candidate answers as a problem of one state without a future."""
    row = np.asarray(scores, np.float64)[None, :]
    return Problem(row, np.ones((1, row.shape[1], 1)), 0.0)


def optimal_actions(q: Array, *, tolerance: float = TOLERANCE) -> Array:
    """bool [S, A]: the actions within the tolerance, relative to the largest |Q|, of their state's best."""
    slack = tolerance * max(1.0, float(np.abs(q).max()))
    return q >= q.max(axis=1, keepdims=True) - slack


def uniform_over(sets: Array) -> Array:
    """The policy [S, A] that draws evenly among each state's actions in a bool [S, A]."""
    return sets / sets.sum(axis=1, keepdims=True)


def gaps(q: Array, *, tolerance: float = TOLERANCE) -> Array:
    """Δ_s [S]: best minus second best Q; 0 in a tie, infinite for a single action."""
    if q.shape[1] == 1:
        return np.full(len(q), np.inf)
    two = np.sort(q, axis=1)[:, -2:]
    tied = optimal_actions(q, tolerance=tolerance).sum(axis=1) > 1
    return np.where(tied, 0.0, two[:, 1] - two[:, 0])


def inverse_reward(q: Array, kernel: Array, discount: float) -> Array:
    """R_Q = Q − γ Σ_{s'} P max_{a'} Q(s', a'): the reward [S, A] whose optimal Q is the given one."""
    return np.asarray(q, np.float64) - discount * kernel @ np.max(q, axis=1)


def tie_break(problem: Problem, state: int, action: int, epsilon: float) -> Problem:
    """The reward whose Q* is higher by ε at one action and the same elsewhere; its sup distance is at most (1 + γ)ε.

    Where the action was tied it is now the only best one, however small ε is (Props. 2.5 and 3.2).
    """
    q = problem.q
    bumped = q.copy()
    bumped[state, action] += epsilon
    return problem.with_reward(inverse_reward(bumped, problem.kernel, problem.discount))


def total_variation(one: Array, other: Array) -> Array:
    """½ Σ_a |p − q| of every state [S]."""
    found: Array = 0.5 * np.abs(one - other).sum(axis=1)
    return found


def effective_reward(rewards: Array, weights: Array) -> Array:
    """R_eff(s, a) = Σ_k w_k(s) R_k(s, a).

    Args:
        rewards: [K, S, A]. weights: [S, K], 0 or more, each row summing to 1; they may depend on nothing but the state.

    Raises:
        SteelyardError: for weights that are no mixtures, or shapes that do not fit.
    """
    r, w = np.asarray(rewards, np.float64), np.asarray(weights, np.float64)
    if r.ndim != 3 or w.shape != (r.shape[1], r.shape[0]) or (w < 0).any() or not np.allclose(w.sum(axis=1), 1):
        raise SteelyardError(f"rewards {r.shape} and weights {w.shape}: [K, S, A] and mixtures [S, K] are needed")
    return np.einsum("sk,ksa->sa", w, r)


def value(problem: Problem, policy: Array) -> Array:
    """V^π [S], by one linear solve."""
    policy = np.asarray(policy, np.float64)
    moves = np.einsum("sa,sat->st", policy, problem.kernel)
    reward = (policy * problem.reward).sum(axis=1)
    return np.linalg.solve(np.eye(len(reward)) - problem.discount * moves, reward)


def missing_advantage(problem: Problem, missing: Array, policy: Array) -> Array:
    """A^π_{R_miss}(s, a) = Q^π − V^π [S, A] of the part of the true reward that training does not see.

    A positive one on an action that is optimal in training, at a state that is reached, means that the policy is
    strictly worse than it need be (Prop. 3.1, the clever slacker).
    """
    unseen = problem.with_reward(missing)
    v = value(unseen, policy)
    q = unseen.reward + problem.discount * problem.kernel @ v
    return q - v[:, None]


@dataclass(frozen=True)
class Stability:
    """What a problem's reward does to its best policy; arrays are [S].

    Attributes:
        tied: how many actions are best. gap: best minus second best Q.
        jump: (m − 1)/m, how far the uniform-over-best policy moves under an arbitrarily small change; 0 without a tie.
        radius: below this change of the reward (sup norm) no greedy action changes: (1 − γ) min_s Δ_s / 2.
        soft: one row a temperature α: its bound on the policy's change per unit of the reward's, 1/(2α(1 − γ)), and the
            return per step that smoothing costs.
    """

    tied: Array
    gap: Array
    jump: Array
    radius: float
    soft: list[dict[str, float]]


def stability(problem: Problem, *, alphas: Sequence[float] = (0.02, 0.1, 0.5), start: Array | None = None) -> Stability:
    """Report ties, gaps, jumps, the certified radius, and what smoothing buys and costs (arXiv 2507.20150).

    Args:
        alphas: temperatures of the entropy bonus.
        start: μ [S] by which the cost of smoothing is weighted; uniform if left out.
    """
    q = problem.q
    tied, gap = optimal_actions(q).sum(axis=1), gaps(q)
    mu = np.full(len(q), 1 / len(q)) if start is None else np.asarray(start, np.float64)
    best = q.max(axis=1)
    left = 1 - problem.discount
    soft: list[dict[str, Any]] = [
        {
            "alpha": alpha,
            "bound_per_unit": 1 / (2 * alpha * left),
            "return_lost_per_step": float(left * mu @ (best - value(problem, problem.soft_policy(alpha)))),
        }
        for alpha in alphas
    ]
    return Stability(tied, gap, (tied - 1) / tied, float(left * gap.min() / 2), soft)


def tied_problem(
    generator: np.random.Generator, *, states: int = 5, actions: int = 4, discount: float = 0.9
) -> tuple[Problem, list[tuple[int, int]]]:
    """A problem with Dirichlet kernels and a two-way tie for the best action planted at every state.

    Returns:
        The problem, and the two tied actions of every state.
    """
    kernel = generator.dirichlet(np.ones(states), (states, actions))
    q = generator.normal(size=(states, actions))
    pairs = []
    for state in range(states):
        first, second = (int(a) for a in generator.permutation(actions)[:2])
        q[state, [first, second]] = q[state].max() + 0.1
        pairs.append((first, second))
    return Problem(inverse_reward(q, kernel, discount), kernel, discount), pairs
