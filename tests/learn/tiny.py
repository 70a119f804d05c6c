"""A policy of a few hundred weights and a recipe around it, for tests of the trainer."""

from __future__ import annotations

import copy as copying
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from steelyard.learn.advantages import centre, chain, scale
from steelyard.learn.config import TrainConfig
from steelyard.learn.curricula import uniform
from steelyard.learn.objectives import clipped
from steelyard.learn.plans import groups
from steelyard.learn.recipe import Recipe
from steelyard.learn.trainer import Trainer
from steelyard.types import Actions, Rollouts, Sample, Scores, Streams, streams

VOCABULARY, LENGTH, END = 5, 4, 0


class TinyModule(nn.Module):
    """Prompt number and step to logits over five tokens."""

    def __init__(self, *, dropout: float = 0.0, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(7)
        draw = lambda *shape: nn.Parameter((torch.randn(*shape, generator=generator) * 0.5).to(dtype))  # noqa: E731
        self.embedding, self.head = draw(8, 16), draw(16, LENGTH * VOCABULARY)
        self.frozen = nn.Parameter(torch.ones(3), requires_grad=False)
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))
        self.dropout = nn.Dropout(dropout)

    def forward(self, prompts: Tensor) -> Tensor:
        hidden = self.dropout(torch.tanh(self.embedding[prompts]))
        return (hidden @ self.head).view(-1, LENGTH, VOCABULARY).float().log_softmax(-1)


class TinyPolicy:
    """Draws up to four tokens; token 0 ends a completion, so lengths vary."""

    def __init__(self, *, dropout: float = 0.0, dtype: torch.dtype = torch.float32) -> None:
        self.module = TinyModule(dropout=dropout, dtype=dtype)
        self.copies: dict[str, TinyModule] = {}
        self.forwarded: list[Rollouts] = []

    def sample(self, samples: Sequence[Sample], n: int, *, generator: Streams, greedy: bool = False) -> Rollouts:
        uniforms = np.concatenate([child.random((n, LENGTH)) for child in streams(generator, len(samples))])
        group = np.repeat(np.arange(len(samples)), n)
        with torch.no_grad():
            table = self.module.eval()(self._prompts([samples[i] for i in group]))
        self.module.train()
        chances = table.exp().double().cumsum(-1).numpy()
        tokens = np.minimum((uniforms[..., None] > chances).sum(-1), VOCABULARY - 1)
        ended = np.cumsum(tokens == END, axis=1) - (tokens == END) > 0
        logprobs = np.take_along_axis(table.numpy(), tokens[..., None], -1)[..., 0]
        texts = ["".join(str(t) for t, e in zip(*row, strict=True) if not e) for row in zip(tokens, ended, strict=True)]
        actions = Actions(np.where(ended, 0, logprobs), ~ended, {"tokens": np.where(ended, 0, tokens)})
        return Rollouts([samples[i] for i in group], texts, group, actions=actions)

    def logprobs(self, rollouts: Rollouts, *, copy: str | None = None) -> Tensor:
        if copy is None:
            self.forwarded.append(rollouts)
        module = self.module if copy is None else self.copies[copy]
        tokens = torch.as_tensor(rollouts.actions.data["tokens"])
        table = module(self._prompts(rollouts.samples))[:, : tokens.shape[1]]
        return table.gather(-1, tokens[..., None])[..., 0]

    def snapshot(self, name: str) -> None:
        self.copies[name] = copying.deepcopy(self.module).eval()

    @staticmethod
    def _prompts(samples: Sequence[Sample]) -> Tensor:
        return torch.as_tensor([sample.columns["number"] for sample in samples])


class Wanted:
    """Share of a completion's tokens that equal the wanted one; every empty completion cannot be judged."""

    name = "wanted"

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, rollouts: Rollouts) -> Scores:
        self.calls += 1
        wanted = rollouts.column("wanted")
        values = [
            t.count(w) / len(t.strip("0")) if t.strip("0") else np.nan
            for t, w in zip(rollouts.completions, wanted, strict=True)
        ]
        return Scores(np.asarray(values), parts={"share": np.asarray(values)})


def data(count: int = 8) -> list[Sample]:
    return [Sample(f"s{i}", "say it", columns={"number": i, "wanted": str(1 + i % 4)}) for i in range(count)]


def recipe(**parts: Any) -> Recipe:
    usual: dict[str, Any] = {
        "plan": groups(6),
        "reward": Wanted(),
        "advantage": chain(centre(), scale()),
        "objective": clipped(epsilon=0.2, kl=0.04),
        "curriculum": uniform(),
    }
    return Recipe(**(usual | parts))


def config(**settings: Any) -> TrainConfig:
    return TrainConfig(**({"steps": 6, "prompts": 4, "lr": 0.02, "micro_rows": 12, "seed": 3} | settings))


def trainer(
    folder: Path, *, policy: TinyPolicy | None = None, parts: dict[str, Any] | None = None, **settings: Any
) -> Trainer:
    """A trainer of the tiny policy; `evaluate` among the settings is passed on."""
    evaluate = settings.pop("evaluate", None)
    policy = policy or TinyPolicy()
    return Trainer(
        policy, recipe(**(parts or {})), data(), config(**settings), folder=folder, evaluate=evaluate, progress=False
    )


def figures(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Log rows without what the clock wrote."""
    return [{name: value for name, value in row.items() if not name.startswith("seconds/")} for row in rows]
