"""Preference objectives: losses of pairs as pure functions of tensors, for policies and for reward models."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn.functional import softplus

from steelyard.types import SteelyardError

Reduction = Literal["sum", "mean"]


@dataclass(frozen=True)
class PairTerms:
    """What an objective sees of B pairs.

    Attributes:
        chosen, rejected: [B]; a policy's log-probability of the answer, summed over its steps, or a model's reward.
        lengths: [B, 2], steps of the chosen and the rejected answer; 1 for a reward model.
        probability: [B], that the label is right; 1 where nothing else is known.
        margin: [B], how much better the chosen answer is to be; 0 where nothing else is known.
        reference: [B, 2], the reference policy's summed log-probabilities, where the objective needs them.
    """

    chosen: Tensor
    rejected: Tensor
    lengths: Tensor
    probability: Tensor
    margin: Tensor
    reference: Tensor | None = None


class PairLoss(NamedTuple):
    """The loss of every pair [B], and figures [B] for the log."""

    loss: Tensor
    metrics: dict[str, Tensor]


class PairObjective(Protocol):
    """A loss of pairs."""

    @property
    def needs_reference(self) -> bool:
        """Whether `PairTerms.reference` must be there."""
        ...

    def __call__(self, terms: PairTerms) -> PairLoss:
        """Loss and figures of every pair."""
        ...


@dataclass(frozen=True)
class Objective:
    """A named loss of pairs; prints as it was written."""

    name: str
    function: Callable[[PairTerms], PairLoss]
    needs_reference: bool = False

    def __call__(self, terms: PairTerms) -> PairLoss:
        """Loss and figures of every pair."""
        if self.needs_reference and terms.reference is None:
            raise SteelyardError(f"{self.name} needs the reference's log-probabilities; give PairTerms.reference")
        return self.function(terms)

    def __repr__(self) -> str:
        return self.name


def soft_logistic(logit: Tensor, probability: Tensor) -> Tensor:
    """−p log σ(h) − (1 − p) log σ(−h): the one core of all pair losses, with soft labels.

    Args:
        logit: h, any shape; probability: p of the same shape.

    Its derivative is σ(h) − p, so h settles at logit(p), and nowhere for p = 1.
    """
    return probability * softplus(-logit) + (1.0 - probability) * softplus(logit)


def bradley_terry() -> Objective:
    """soft_logistic(r⁺ − r⁻ − margin, p): a reward model's maximum likelihood (Bradley and Terry, 1952)."""

    def loss(terms: PairTerms) -> PairLoss:
        logit = terms.chosen - terms.rejected - terms.margin
        return PairLoss(soft_logistic(logit, terms.probability), _figures(terms.chosen - terms.rejected))

    return Objective("bradley_terry()", loss)


def dpo(*, beta: float, smoothing: float = 0.0) -> Objective:
    """Direct preference optimisation (Rafailov et al., 2023) with soft labels.

    h = β[(log π(y⁺) − log ref(y⁺)) − (log π(y⁻) − log ref(y⁻))] − margin; loss = soft_logistic(h, p(1 − 2ε) + ε).

    Args:
        beta: β > 0; smoothing: ε in [0, 0.5).

    Raises:
        SteelyardError: for a β that is not positive and finite, or an ε outside its range.
    """
    if not (beta > 0 and math.isfinite(beta)) or not 0 <= smoothing < 0.5:
        raise SteelyardError(f"dpo(beta={beta}, smoothing={smoothing}): beta must be above 0, smoothing in [0, 0.5)")

    def loss(terms: PairTerms) -> PairLoss:
        margin = implicit_margin(terms, beta)
        probability = terms.probability * (1.0 - 2.0 * smoothing) + smoothing
        figures = _figures(margin) | {"chosen": terms.chosen, "rejected": terms.rejected}
        return PairLoss(soft_logistic(margin - terms.margin, probability), figures)

    smoothed = f", smoothing={smoothing:g}" if smoothing else ""
    return Objective(f"dpo(beta={beta:g}{smoothed})", loss, needs_reference=True)


def implicit_margin(terms: PairTerms, beta: float) -> Tensor:
    """[B]: β times the chosen answer's log-ratio to the reference, minus the rejected one's."""
    assert terms.reference is not None
    return beta * ((terms.chosen - terms.reference[:, 0]) - (terms.rejected - terms.reference[:, 1]))


def likelihood(weight: float, *, reduction: Reduction = "sum") -> Objective:
    """−w log π(y⁺), or −w log π(y⁺)/|y⁺| with `mean`: stay close to the chosen answers (a supervised term).

    Raises:
        SteelyardError: for a weight that is negative or not finite, or an unknown reduction.
    """
    if not 0 <= weight < math.inf or reduction not in ("sum", "mean"):
        raise SteelyardError(
            f"likelihood({weight}, reduction={reduction!r}): the weight must be 0 or more, the reduction sum or mean"
        )

    def loss(terms: PairTerms) -> PairLoss:
        nll = -terms.chosen if reduction == "sum" else -terms.chosen / terms.lengths[:, 0]
        return PairLoss(weight * nll, {"nll": nll.detach()})

    return Objective(f"likelihood({weight:g}, reduction={reduction!r})", loss)


def added(*objectives: PairObjective) -> Objective:
    """The sum of several losses of the same pairs.

    Raises:
        SteelyardError: for no objectives.
    """
    if not objectives:
        raise SteelyardError("added() has nothing to add; give at least one objective")

    def loss(terms: PairTerms) -> PairLoss:
        parts = [objective(terms) for objective in objectives]
        figures = {name: value for part in parts for name, value in part.metrics.items()}
        return PairLoss(torch.stack([part.loss for part in parts]).sum(0), figures)

    return Objective(" + ".join(map(repr, objectives)), loss, _any_reference(objectives))


def _any_reference(objectives: Sequence[PairObjective]) -> bool:
    return any(objective.needs_reference for objective in objectives)


def rpo(*, beta: float, eta: float, reduction: Reduction = "sum") -> Objective:
    """Regularised preference optimisation: DPO and the chosen answers' likelihood (sheet 33, arXiv 2405.16436).

    sum: L = L_DPO(β) − βη log π(y⁺); mean: L = L_DPO(β) − η log π(y⁺)/|y⁺|, without the factor β.
    η is not transferable between the two.

    Args:
        beta: of DPO. eta: η ≥ 0; 0 is DPO exactly.
        reduction: `sum` (the paper's main text) or `mean` (its appendix).

    Raises:
        SteelyardError: for settings out of range.
    """
    weight = beta * eta if reduction == "sum" else eta
    return added(dpo(beta=beta), likelihood(weight, reduction=reduction)) if eta else dpo(beta=beta)


def _figures(margin: Tensor) -> dict[str, Tensor]:
    return {"accuracy": (margin > 0).to(margin.dtype), "margin": margin}
