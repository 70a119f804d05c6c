"""A bench-top world of two rewards on points: one that spreads wide without a bound, one that is tight (sheet 15)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from steelyard.policies.flow import DenoisingPolicy
from steelyard.policies.kernels import even_sigmas, ode, sde
from steelyard.policies.points import Points, VelocityNet
from steelyard.rewards.core import Expression, reward
from steelyard.types import Array, Rollouts, Sample

Split = Literal["train", "validation", "test"]
DIMENSIONS, SPREAD = 4, 0.4


@reward(batch=True)
def wide(rollouts: Rollouts) -> Array:
    """10 max(x₁ + 0.3, 0): 3.5 at first, with a spread of 0.93 of that, and no bound."""
    return 10 * np.maximum(_points(rollouts)[:, 0] + 0.3, 0)


@reward(batch=True)
def tight(rollouts: Rollouts) -> Array:
    """max(3 − (x₁² + (x₂ − 0.8)²) / 2, 0): 2.5 at first, with a spread of 0.12 of that; it wants x₁ = 0."""
    points = _points(rollouts)
    return np.maximum(3 - 0.5 * (points[:, 0] ** 2 + (points[:, 1] - 0.8) ** 2), 0)


def _points(rollouts: Rollouts) -> Array:
    return np.stack(list(rollouts.completions)).astype(np.float64)


class CorrectedNormal(nn.Module):
    """The exact velocity of N(0, 0.4² I) with a network's correction, which is 0 at first: a base without training.

    v(x, t) = x (t − (1 − t) σ²) / ((1 − t)² σ² + t²) + g(x, t).
    """

    def __init__(self, *, width: int = 64, layers: int = 2) -> None:
        super().__init__()
        self.correction = VelocityNet(DIMENSIONS, width=width, layers=layers)
        last = self.correction.layers[-1]
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, x: Tensor, time: Tensor, prompt: Tensor) -> Tensor:
        """[B, 4] from states [B, 4], times [B] and prompt numbers, which change nothing."""
        t = time[:, None]
        exact = (t - (1 - t) * SPREAD**2) / ((1 - t) ** 2 * SPREAD**2 + t**2)
        return exact * x + self.correction(x, time, prompt)


@dataclass(frozen=True)
class TightAndWide:
    """Points in four dimensions by a flow of 10 SDE steps, measured by 20 ODE steps.

    Args:
        attempts: the group size. name: of the world. rewards: what is asked for.
    """

    attempts: int = 24
    name: str = "tight-and-wide"
    rewards: Sequence[Expression] = (wide, tight)

    def samples(self, split: Split, count: int, *, seed: int = 0) -> Sequence[Sample]:
        """One request, over and over."""
        return [Sample(f"{split}-{i}", "a point", columns={"number": 0}) for i in range(count)]

    def policy(self, *, seed: int = 0) -> DenoisingPolicy:
        """The base; the seed draws the correction's inner weights, which do nothing yet."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            module = CorrectedNormal()
        grid = even_sigmas(10)
        return DenoisingPolicy(Points(module, DIMENSIONS), sde(grid, 0.7), evaluation=ode(even_sigmas(20)))
