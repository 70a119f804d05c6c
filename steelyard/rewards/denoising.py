"""Rewards of denoising steps: every intermediate state is finished without noise and judged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from steelyard.rewards.core import Expression, Memo, as_reward
from steelyard.types import Array, Rollouts, Scores, SteelyardError


def gains(latent_rewards: Array) -> Array:
    """ΔR float [N, T] from the rewards of states [N, T + 1], noise first: what each step added; sums are R_0 − R_T."""
    return np.diff(np.asarray(latent_rewards, np.float64), axis=1)


def after(latent_rewards: Array) -> Array:
    """The reward of the state that each step leads to, [N, T] from [N, T + 1] (sheet 48's ablation)."""
    return np.asarray(latent_rewards, np.float64)[:, 1:]


class StepReward(Expression):
    """See `dense_steps`."""

    def __init__(self, reward: Expression, steps: int | None, of: Callable[[Array], Array], label: str) -> None:
        if steps is not None and steps < 1:
            raise SteelyardError(f"{label}: a completion of {steps} steps ends nowhere; give at least 1, or None")
        self.reward, self.steps, self.of = reward, steps, of
        self.name = f"{label}({reward!r}{f', steps={steps}' if steps else ''})"
        self.policy: Any = None

    @property
    def operands(self) -> tuple[Expression, ...]:
        """One level down."""
        return (self.reward,)

    @property
    def asks_policy(self) -> bool:
        """Yes: to finish states."""
        return True

    def use_policy(self, policy: Any) -> None:
        """Complete with this policy."""
        super().use_policy(policy)
        self.policy = policy

    def _compute(self, rollouts: Rollouts, memo: Memo) -> Scores:
        if not hasattr(self.policy, "completed"):
            raise SteelyardError(
                f"reward {self.name!r} needs a policy of denoising steps; train one, or call use_policy"
            )
        final = self.reward._evaluate(rollouts, memo)
        several = self.policy.completed(rollouts, steps=self.steps)
        n, count = len(rollouts), len(several)
        pooled = replace(rollouts, actions=None, spans={}).take(np.tile(np.arange(n), count))
        pooled.completions = [completion for row in several for completion in row]
        pooled.group = pooled.groups + np.repeat(np.arange(count), n) * (rollouts.groups.max() + 1)
        before = self.reward(pooled).values.reshape(count, n).T
        steps = self.of(np.concatenate([before, final.values[:, None]], axis=1))
        return Scores(
            final.values, final.status, steps.astype(np.float32), final.confidence, final.parts, final.seconds
        )


def dense_steps(reward: Any, *, steps: int | None = None) -> Expression:
    """The reward, and for every denoising step what that step added to it: ΔR = R(finished after) − R(finished before).

    A state is finished by Euler steps without noise, R_0 is the completion's own reward, and so the steps of a row sum
    to R_0 − R_T. `values` stay the reward's own; `steps` are read by `per_step`.

    Args:
        reward: of completions; it is asked T + 1 times as many rows.
        steps: n, Euler steps of a completion; None takes every remaining step of the policy's own grid.

    Raises:
        SteelyardError: for fewer than 1 step; at the call, without a policy of denoising steps.

    Source: sheet 48.
    """
    return StepReward(as_reward(reward), steps, gains, "dense_steps")


def state_steps(reward: Any, *, steps: int | None = None) -> Expression:
    """As `dense_steps`, but a step's score is the reward of the state that it leads to."""
    return StepReward(as_reward(reward), steps, after, "state_steps")
