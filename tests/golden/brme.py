"""Golden adapter of sheet 18, BRME."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from steelyard.audits.optimal import optimal_policy
from steelyard.learn.preferences import soft_logistic
from steelyard.rewards.ensembles import robust
from steelyard.rewards.models.heads import head_loss


def brme(name: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Heads combined, their loss, a closed-form policy, or the first stage's loss."""
    kind = name.split(":")[0]
    return {"combine": _combine, "head_loss": _loss, "closed_form_policy": _policy, "stage1_loss": _pairs}[kind](inputs)


def _combine(inputs: Mapping[str, Any]) -> dict[str, Any]:
    mu, sigma = (np.asarray(inputs[f"{name}[head][sample]"]) for name in ("mu", "sigma"))
    sample, batch = (robust(mu, sigma, nominal_weight=inputs["alpha"], level=level) for level in ("sample", "batch"))
    return {
        "nominal_head": sample.head.tolist(),
        "nominal": sample.nominal.tolist(),
        "worst_per_sample": sample.worst.tolist(),
        "reward_per_sample": sample.reward.tolist(),
        "objective_per_sample_min": sample.objective,
        "worst_head_over_batch": batch.worst_head,
        "objective_batch_min": batch.objective,
    }


def _loss(inputs: Mapping[str, Any]) -> dict[str, Any]:
    mu, sigma, noise = (torch.tensor(inputs[f"{n}[head][sample]"], dtype=torch.float64) for n in ("mu", "sigma", "eps"))
    target = torch.tensor(inputs["target[sample]"], dtype=torch.float64)
    drawn = head_loss(mu, sigma, target, kind="mse", noise=noise)
    expected = head_loss(mu, sigma, target, kind="mse", noise=torch.zeros_like(mu)) + sigma**2
    found = {"mse_of_draw": drawn, "expected_mse": expected, "gaussian_nll": head_loss(mu, sigma, target)}
    return {name: value.mean(dim=1).tolist() for name, value in found.items()}


def _policy(inputs: Mapping[str, Any]) -> dict[str, Any]:
    mu, sigma = (np.asarray(inputs[f"{n}[head][prompt][response]"], np.float64) for n in ("mu", "sigma"))
    k, prompts, responses = mu.shape
    found = robust(mu.reshape(k, -1), sigma.reshape(k, -1), nominal_weight=inputs["alpha"])
    reward = found.reward.reshape(prompts, responses)
    return {"reward": reward.tolist(), "policy": optimal_policy(reward, beta=inputs["beta"]).tolist()}


def _pairs(inputs: Mapping[str, Any]) -> dict[str, Any]:
    margin = torch.tensor(inputs["chosen"], dtype=torch.float64) - torch.tensor(inputs["rejected"], dtype=torch.float64)
    return {"loss": float(soft_logistic(margin, torch.ones_like(margin)).mean())}
