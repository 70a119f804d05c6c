"""Advantages between prompts: how a prompt's attempts did beside other prompts', and its blend with that within one."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from steelyard.learn.advantages import Link, group_mean, rows_of
from steelyard.learn.recipe import AdvantageTransform
from steelyard.types import PER_BRANCH, Advantages, Array, GroupKey, Rollouts, Scores, SteelyardError, group_index

Answer = Callable[[Any], Hashable]
"""A completion to the answer that it gives; None where it gives none."""


def answer_entropy(answers: Array, group: Array, *, counted: Array | None = None, base: float = 2.0) -> Array:
    """H = −Σ_e p(e) log p(e) over the answers e of a group, 0 … log of its size, in bits unless `base` says otherwise.

    Args:
        answers: int64 [N]; rows that answer alike have the same number.
        group: int64 [N], 0…K−1.
        counted: bool [N], the rows that count; all by default.
        base: of the logarithm.

    Returns:
        float64 [K]; 0 for a group of one, and where none counts.

    Source: sheet 10 (COPO, arXiv 2508.04138).
    """
    counted = np.ones(len(group), bool) if counted is None else counted
    groups = int(group.max(initial=-1)) + 1
    _, cell = np.unique(np.stack([group, answers])[:, counted], axis=1, return_inverse=True)
    count = np.bincount(cell)
    owner = np.zeros(len(count), np.int64)
    owner[cell] = group[counted]
    share = count / np.bincount(group[counted], minlength=groups)[owner]
    return np.abs(np.bincount(owner, -share * np.log(share), minlength=groups)) / math.log(base)


def numbered_answers(rollouts: Rollouts, answer: Answer) -> Array:
    """int64 [N]: equal answers share a number; a completion without one shares its number with no other."""
    numbers: dict[Hashable, int] = {}
    found = [answer(completion) for completion in rollouts.completions]
    keys = [("none", row) if key is None else ("some", key) for row, key in enumerate(found)]
    return np.asarray([numbers.setdefault(key, len(numbers)) for key in keys], np.int64)


def prompt_reward(*, agreement: Answer | None = None, by: GroupKey = PER_BRANCH) -> AdvantageTransform:
    """R(q) = mean of r over the counted rows of prompt q, times κ(q), for all its rows.

    κ = 1 − λH with λ = (1 − 1/G) / log2 G and H the entropy of the answers in bits: 1 where all G attempts agree, 1/G
    where all differ. Without `agreement` κ = 1.

    Args:
        agreement: takes the answer out of a completion.
        by: what makes a prompt.

    Source: sheet 10 (COPO).
    """

    def average(advantages: Advantages, rollouts: Rollouts, scores: Scores) -> Advantages:
        values, counted, group = rows_of(advantages, rollouts, by)
        mean = group_mean(values, counted, group)
        if agreement is not None:
            size = np.maximum(np.bincount(group, counted), 2)  # a group of one has no entropy to weigh
            entropy = answer_entropy(numbered_answers(rollouts, agreement), group, counted=counted)
            mean = mean * (1 - (1 - 1 / size) / np.log2(size) * entropy)
        return replace(advantages, values=mean[group])

    named = "" if agreement is None else f"agreement={_name(agreement)}"
    return Link(f"prompt_reward({named})", average)


def centre_prompts(*, by: GroupKey = PER_BRANCH) -> AdvantageTransform:
    """A_q = R_q − mean of R over the batch's prompts, each counted once; 0 if there is only one."""

    def subtract(advantages: Advantages, rollouts: Rollouts, scores: Scores) -> Advantages:
        prompts, group = _per_prompt(advantages, rollouts, by)
        return replace(advantages, values=(prompts - np.nanmean(prompts))[group])

    return Link("centre_prompts()", _unless_empty(subtract))


def scale_prompts(*, by: GroupKey = PER_BRANCH, ddof: int = 1, epsilon: float = 1e-6) -> AdvantageTransform:
    """A_q / (s + ε), s the standard deviation over the batch's prompts, each counted once (s = 1 if there is one)."""

    def divide(advantages: Advantages, rollouts: Rollouts, scores: Scores) -> Advantages:
        prompts, group = _per_prompt(advantages, rollouts, by)
        several = np.isfinite(prompts).sum() > ddof
        std = float(np.nanstd(prompts, ddof=ddof)) if several else 1.0
        return replace(advantages, values=(prompts / (std + epsilon))[group])

    return Link(f"scale_prompts(ddof={ddof}, epsilon={epsilon:g})", _unless_empty(divide))


def _per_prompt(advantages: Advantages, rollouts: Rollouts, by: GroupKey) -> tuple[Array, Array]:
    """The value of every prompt [K], the mean over its counted rows, NaN where none counts; and the rows' prompts."""
    values, counted, group = rows_of(advantages, rollouts, by)
    mean = group_mean(values, counted, group)
    return np.where(np.bincount(group, counted) > 0, mean, np.nan), group


def _unless_empty(link: AdvantageTransform) -> AdvantageTransform:
    """Nothing to do where no row counts; values of rows that do not count become 0, not NaN."""

    def guarded(advantages: Advantages, rollouts: Rollouts, scores: Scores) -> Advantages:
        if not (advantages.weights > 0).any():
            return advantages
        result = link(advantages, rollouts, scores)
        return replace(result, values=np.nan_to_num(result.values, nan=0.0))

    return guarded


class Share(Protocol):
    """How much of a row's loss the first of two advantages gets."""

    def __call__(self, first: Advantages, rollouts: Rollouts, scores: Scores) -> Array:
        """float [N] in [0, 1]."""
        ...


class Blend:
    """See `blend`."""

    def __init__(self, first: AdvantageTransform, second: AdvantageTransform, share: Share | float) -> None:
        self.links, self.share = (first, second), share
        self._share = math.nan

    def __repr__(self) -> str:
        return f"blend({self.links[0]!r}, {self.links[1]!r}, share={self.share!r})"

    def __call__(self, advantages: Advantages, rollouts: Rollouts, scores: Scores) -> Advantages:
        """Two advantages a row, weighed."""
        first, second = (link(advantages, rollouts, scores) for link in self.links)
        for side in (first, second):
            if side.values.ndim != 1 or side.others:
                raise SteelyardError(f"{self!r} blends one advantage a row [N], not {side.values.shape}")
        share = self.share if isinstance(self.share, float) else self.share(first, rollouts, scores)
        share = np.broadcast_to(np.asarray(share, np.float64), first.values.shape)
        if not ((share >= 0) & (share <= 1)).all():
            raise SteelyardError(f"{self.share!r} gave a share outside [0, 1]; a share lies between 0 and 1")
        weight = np.where(share < 1, second.weights, 1.0) * np.where(share > 0, first.weights, 1.0)
        weight = weight * (advantages.weights > 0)
        counted = weight > 0
        self._share = float(share[counted].mean()) if counted.any() else math.nan
        return Advantages(share * first.values, weight, ((1 - share) * second.values,))

    def metrics(self) -> dict[str, float]:
        """The mean share of the first, and what the two sides say."""
        figures = [link.metrics() for link in self.links if hasattr(link, "metrics")]
        return {"blend_share": self._share, **{k: v for part in figures for k, v in part.items()}}

    def state_dict(self) -> dict[str, Any]:
        """State of the two sides, where they have one."""
        return {str(i): link.state_dict() for i, link in enumerate(self.links) if hasattr(link, "state_dict")}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Give both sides their state back."""
        for i, part in state.items():
            self.links[int(i)].load_state_dict(part)  # type: ignore[attr-defined]


def blend(first: AdvantageTransform, second: AdvantageTransform, *, share: Share | float) -> Blend:
    """Two advantages a row: w·A₁ and (1 − w)·A₂, each clipped on its own by the objective.

    A clipped loss is positively homogeneous, L(cA) = cL(A) for c ≥ 0, so that the loss of a step becomes
    w·L(A₁) + (1 − w)·L(A₂). Both sides see the same incoming values. A row counts if the sides that have a share of it
    do.

    Args:
        first, second: links or chains, each giving one advantage a row.
        share: w, a number or a function of the first's advantages: `by_entropy`, `forced`, `rewarded`.

    Source: sheet 10 (COPO), section "Blend per answer".
    """
    return Blend(first, second, float(share) if isinstance(share, int | float) else share)


@dataclass(frozen=True)
class ByEntropy:
    """See `by_entropy`."""

    answer: Answer
    gamma: float
    threshold: float
    base: float
    by: GroupKey

    def __repr__(self) -> str:
        return f"by_entropy({_name(self.answer)}, gamma={self.gamma:g}, threshold={self.threshold:g})"

    def __call__(self, first: Advantages, rollouts: Rollouts, scores: Scores) -> Array:
        """float64 [N]."""
        group = group_index(rollouts, self.by)
        counted = np.isfinite(scores.values)
        entropy = answer_entropy(numbered_answers(rollouts, self.answer), group, counted=counted, base=self.base)
        return entropy_share(entropy, gamma=self.gamma, threshold=self.threshold)[group]


def entropy_share(entropy: Array, *, gamma: float, threshold: float) -> Array:
    """w = σ(γ(H − ρ))."""
    return 0.5 * (1 + np.tanh(0.5 * gamma * (np.asarray(entropy, np.float64) - threshold)))


def by_entropy(
    answer: Answer, *, gamma: float = 20.0, threshold: float = 1.5, base: float = 2.0, by: GroupKey = PER_BRANCH
) -> ByEntropy:
    """w = σ(γ(H(q) − ρ)): groups whose answers differ learn within, groups that agree learn between prompts.

    H is the entropy of a group's answers, in bits by default. γ = 20 is nearly a step at ρ: with 6 attempts a 5:1
    split has 0.65 bits.

    Args:
        answer: takes the answer out of a completion; one without an answer agrees with no other.
        gamma: γ; threshold: ρ, in units of `base`.
        base: of the logarithm.
        by: what makes a group.

    Source: sheet 10 (COPO); the paper's values.
    """
    return ByEntropy(answer, gamma, threshold, base, by)


@dataclass(frozen=True)
class Masked:
    """A share that is 0 on some rows. See `forced` and `rewarded`."""

    name: str
    share: Share | float
    where: Callable[[Advantages, Scores], Array]

    def __repr__(self) -> str:
        return f"{self.name}({self.share!r})"

    def __call__(self, first: Advantages, rollouts: Rollouts, scores: Scores) -> Array:
        """float64 [N]."""
        share = self.share if isinstance(self.share, float) else self.share(first, rollouts, scores)
        return np.where(self.where(first, scores), share, 0.0)


def forced(share: Share | float = 1.0) -> Masked:
    """The share, and 0 where the first advantage is 0: a group without a signal of its own learns between prompts."""
    return Masked("forced", share, lambda first, scores: (np.abs(first.values) > 1e-8) & (first.weights > 0))


def rewarded(share: Share | float = 1.0) -> Masked:
    """The share, and 0 where the reward is 0: what failed learns between prompts."""
    return Masked("rewarded", share, lambda first, scores: np.nan_to_num(scores.values) != 0)


def _name(function: Callable[..., Any]) -> str:
    return getattr(function, "__name__", type(function).__name__)
