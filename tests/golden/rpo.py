"""Golden adapter of sheet 33, RPO."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from steelyard.learn.preferences import PairTerms, dpo, likelihood, rpo


def rpo_case(name: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The loss of a few pairs in one of both forms, with its gradients."""
    mean = inputs["variant"].startswith("mean")
    terms = pair_case(inputs)
    objective = rpo(beta=inputs["beta"], eta=inputs["eta"], reduction="mean" if mean else "sum")
    smoothing = inputs.get("label_smoothing", 0.0)
    if smoothing:
        terms = _relabelled(terms, 1.0 - smoothing)
    loss = objective(terms).loss
    if mean:
        parts = {
            "dpo_loss_mean": float(dpo(beta=inputs["beta"])(terms).loss.detach().mean()),
            "nll_mean": float(likelihood(1.0, reduction="mean")(terms).loss.detach().mean()),
            "loss": float(loss.detach().mean()),
        }
        return parts | gradients(loss.mean(), terms)
    return losses(loss, terms, inputs["beta"]) | gradients(loss.mean(), terms)


def pair_case(inputs: Mapping[str, Any]) -> PairTerms:
    """Log-probabilities as an objective sees them, in double precision and with gradients."""

    def column(name: str) -> torch.Tensor:
        return torch.tensor(inputs[name], dtype=torch.float64)

    chosen, rejected = column("logp_chosen").requires_grad_(), column("logp_rejected").requires_grad_()
    one = torch.ones_like(chosen)
    reference = torch.stack([column("ref_logp_chosen"), column("ref_logp_rejected")], dim=1)
    lengths = column("chosen_lengths") if "chosen_lengths" in inputs else one
    return PairTerms(chosen, rejected, torch.stack([lengths, one], dim=1), one.detach(), 0 * one.detach(), reference)


def losses(loss: torch.Tensor, terms: PairTerms, beta: float) -> dict[str, Any]:
    """The losses, and the implicit rewards β log(π/ref)."""
    assert terms.reference is not None
    rewards = [beta * (side - terms.reference[:, i]) for i, side in enumerate((terms.chosen, terms.rejected))]
    named = dict(zip(("reward_chosen", "reward_rejected"), (r.tolist() for r in rewards), strict=True))
    return {"loss_per_pair": loss.tolist(), "loss_mean": float(loss.detach().mean()), **named}


def gradients(loss: torch.Tensor, terms: PairTerms) -> dict[str, Any]:
    """Gradients of the mean loss by both log-probabilities."""
    found = torch.autograd.grad(loss, [terms.chosen, terms.rejected])
    return {"grad_logp_chosen": found[0].tolist(), "grad_logp_rejected": found[1].tolist()}


def _relabelled(terms: PairTerms, probability: float) -> PairTerms:
    return PairTerms(
        terms.chosen, terms.rejected, terms.lengths, 0 * terms.probability + probability, terms.margin, terms.reference
    )
