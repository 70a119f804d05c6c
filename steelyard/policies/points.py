"""Small networks that move points: a velocity field and a consistency function of a state, a time and a prompt."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from steelyard.policies.flow import Condition
from steelyard.types import Sample


class VelocityNet(nn.Module):
    """v(x, t, prompt) by a multi-layer perceptron of SiLU units.

    Args:
        dimensions: of x. prompts: how many there are; one prompt is told nothing.
        width: of the hidden layers. layers: how many of them.
    """

    def __init__(self, dimensions: int, prompts: int = 1, *, width: int = 64, layers: int = 2) -> None:
        super().__init__()
        self.prompts = prompts
        told = prompts if prompts > 1 else 0
        widths = [dimensions + 1 + told, *[width] * layers]
        hidden = [layer for a, b in itertools.pairwise(widths) for layer in (nn.Linear(a, b), nn.SiLU())]
        self.layers = nn.Sequential(*hidden, nn.Linear(width, dimensions))

    def forward(self, x: Tensor, time: Tensor, prompt: Tensor) -> Tensor:
        """[B, D] from states [B, D], times [B] and prompt numbers int64 [B]."""
        told = [nn.functional.one_hot(prompt, self.prompts).to(x.dtype)] if self.prompts > 1 else []
        return self.layers(torch.cat([x, time[:, None], *told], dim=1))


class ConsistencyNet(VelocityNet):
    """f(x, t, prompt) = (1 − t) x + t g(x, t, prompt): where a path ends; at t = 0 it is x itself."""

    def forward(self, x: Tensor, time: Tensor, prompt: Tensor) -> Tensor:
        """[B, D] from states [B, D], times [B] and prompt numbers int64 [B]."""
        share = time[:, None]
        return (1 - share) * x + share * super().forward(x, time, prompt)


class Points:
    """The backbone of points; a sample's column `number` says its prompt, a completion is float32 [D].

    Args:
        module: the network.
        dimensions: D.
    """

    def __init__(self, module: nn.Module, dimensions: int = 2) -> None:
        self.module, self.shape = module, (dimensions,)

    def conditions(self, samples: Sequence[Sample]) -> Condition:
        """The prompts' numbers."""
        return (torch.tensor([sample.columns["number"] for sample in samples]),)

    def unconditional(self, count: int) -> Condition:
        """Prompt 0."""
        return (torch.zeros(count, dtype=torch.long),)

    def predict(self, module: nn.Module, x: Tensor, time: Tensor, condition: Condition) -> Tensor:
        """The network's output [B, D]."""
        return module(x, time, *condition)

    def decode(self, x: Tensor) -> list[Any]:
        """float32 [D] each."""
        return list(x.detach().cpu().numpy())
