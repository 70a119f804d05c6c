"""Rewards for how sure the policy was of its own completion: no label is read, so sure mistakes are paid too."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import numpy as np

from steelyard.rewards.core import Expression, Memo, joined
from steelyard.rewards.likelihood import AsksPolicy, Average, mean_logprob
from steelyard.types import Array, Rollouts, Scores, SteelyardError


@runtime_checkable
class CertaintyScorer(Protocol):
    """A policy that says how sure it was of its steps."""

    def certainty(self, rollouts: Rollouts, kind: str) -> Array:
        """float [N, T], one figure a step of its own rollouts: `self_certainty`, `negative_entropy`, …"""
        ...


class Certainty(AsksPolicy):
    """The mean over a completion's steps of a figure of the policy's distributions; see `self_certainty`."""

    def __init__(self, kind: str, policy: CertaintyScorer | None) -> None:
        super().__init__(kind, policy, asked="certainty", about="how sure it was of its steps")

    def __repr__(self) -> str:
        return f"{self.name}()"

    def _compute(self, rollouts: Rollouts, memo: Memo) -> Scores:
        mask = _mask(rollouts, self.name)
        steps = np.asarray(self._answering().certainty(rollouts, self.name), np.float64)
        if steps.shape != mask.shape:
            raise SteelyardError(f"reward {self.name!r}: figures {steps.shape} do not fit steps {mask.shape}")
        return _scores(step_mean(steps, mask), self.name)


def step_mean(steps: Array, mask: Array) -> Array:
    """float64 [N]: the mean of figures [N, T] where the mask [N, T] is set; 0 for a row without steps."""
    return np.where(mask, steps, 0.0).sum(axis=1) / np.maximum(mask.sum(axis=1), 1)


def self_certainty(*, policy: CertaintyScorer | None = None) -> Certainty:
    """r = (1/T) Σ_t KL(U ‖ π_t) = (1/T) Σ_t [−ln V − (1/V) Σ_v ln π_t(v)], nats: how far from uniform every step was.

    A step that was sure of a wrong token earns the same as one sure of a right one. A completion without steps has 0.

    Args:
        policy: who is asked; in the trainer, without it, the policy that is being trained, with the weights that
            sampled.

    Raises:
        SteelyardError: at the call, without a policy, for one that has no `certainty`, or rollouts without actions.

    Source: sheet 26 (URLVR, arXiv 2603.08660).
    """
    return Certainty("self_certainty", policy)


def negative_entropy(*, policy: CertaintyScorer | None = None) -> Certainty:
    """r = −(1/T) Σ_t H(π_t), nats, the token-entropy reward; else as `self_certainty`."""
    return Certainty("negative_entropy", policy)


def probability_gap(*, policy: CertaintyScorer | None = None) -> Certainty:
    """r = (1/T) Σ_t (first − second of π_t), between the two likeliest tokens; else as `self_certainty`."""
    return Certainty("probability_gap", policy)


class OwnLikelihood(Expression):
    """See `own_likelihood`."""

    def __init__(self, average: Average) -> None:
        self.name, self.average = "own_likelihood", average

    def __repr__(self) -> str:
        return f"own_likelihood({getattr(self.average, '__name__', repr(self.average))})"

    def _compute(self, rollouts: Rollouts, memo: Memo) -> Scores:
        mask = _mask(rollouts, self.name)
        assert rollouts.actions is not None
        return _scores(self.average(rollouts.actions.logprobs, mask), self.name)


def own_likelihood(average: Average = mean_logprob) -> OwnLikelihood:
    """How likely the policy found its own completion when it sampled it: (1/T) Σ_t ln π_t(y_t).

    The mean is the paper's trajectory entropy; `total_logprob` is what some implementations take for it, and
    `product_probability` is the paper's probability reward. The last two pay short completions: training with them ends
    in completions of one token. A completion without steps has 0.

    Args:
        average: `mean_logprob`, `total_logprob`, `product_probability`, … of `steelyard.rewards.likelihood`.

    Raises:
        SteelyardError: at the call, for rollouts without actions.

    Source: sheet 26 (URLVR, arXiv 2603.08660).
    """
    return OwnLikelihood(average)


def _mask(rollouts: Rollouts, name: str) -> Array:
    if rollouts.actions is None:
        raise SteelyardError(f"reward {name!r} reads what the policy did; these rollouts carry no actions")
    return rollouts.actions.mask


def _scores(values: Array, name: str) -> Scores:
    scores: Any = joined(values, [], name=name)
    return Scores(scores.values, scores.status, parts={name: scores.values})
