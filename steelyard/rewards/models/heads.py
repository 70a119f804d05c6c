"""Several Gaussian heads on one body: each gives a reward's mean and how unsure it is (sheet 18, BRME)."""

from __future__ import annotations

import math
from typing import Literal, get_args

from torch import Tensor, nn
from torch.nn.functional import softplus

from steelyard.types import SteelyardError

FLOOR = 0.05
"""Smallest deviation, so that no head grows certain without bound."""

HeadLoss = Literal["nll", "mse"]


class GaussianHeads(nn.Module):
    """μ_i = w_i·f + b_i and σ_i = softplus(v_i·f + c_i) + 0.05 for K heads on features f.

    Args:
        width: d. heads: K.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.mean, self.deviation = nn.Linear(width, heads), nn.Linear(width, heads)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """μ and σ [K, B] from features [B, d]."""
        return self.mean(features).T, softplus(self.deviation(features)).T + FLOOR


def head_loss(
    mu: Tensor, sigma: Tensor, target: Tensor, *, kind: HeadLoss = "nll", noise: Tensor | None = None
) -> Tensor:
    """How wrong each head is about a target, for every answer [K, B].

    nll: ½((μ − t)/σ)² + log σ + ½ log 2π (recommended). mse: (μ + σε − t)², the squared error of a draw, whose
    expectation is (μ − t)² + σ²: it drives σ to its floor wherever targets are not noisy.

    Args:
        mu, sigma: [K, B]. target: t [B], the first stage's standardised score.
        kind: which. noise: ε [K, B], standard normal, for `mse`.

    Raises:
        SteelyardError: for an unknown kind, or `mse` without noise.
    """
    if kind not in get_args(HeadLoss) or (kind == "mse" and noise is None):
        raise SteelyardError(f"head_loss(kind={kind!r}) is 'nll', or 'mse' with the noise of its draws")
    if kind == "mse":
        assert noise is not None
        return (mu + sigma * noise - target).square()
    return 0.5 * ((mu - target) / sigma).square() + sigma.log() + 0.5 * math.log(2 * math.pi)
