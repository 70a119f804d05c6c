"""Learning from rows that have a loss each and a weight each: behaviour cloning, weighted or not, and reward models."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from steelyard.learn.config import TrainConfig
from steelyard.learn.loop import Loop, printed
from steelyard.learn.recipe import SampleStream
from steelyard.learn.runs import Run
from steelyard.learn.sharding import Shards
from steelyard.learn.steps import Stopwatch, fixed_torch_seed
from steelyard.types import Array, Policy, Rollouts, Sample, SteelyardError

Weigh = Callable[[Array], Array]
"""Rows of a step, int64 [n], to their weights [n], 0 or more; one with `state_dict` is saved with the run."""


class RowModel(Protocol):
    """What rows can train."""

    @property
    def module(self) -> Any:
        """A `torch.nn.Module`."""
        ...

    def __len__(self) -> int:
        """How many rows there are."""
        ...

    def losses(self, rows: Array) -> Tensor:
        """One loss a row [b], with gradients."""
        ...


class ShownPolicy(Policy, Protocol):
    """A policy that can be shown what it should have done."""

    def encode(self, samples: Sequence[Sample], completions: Sequence[Any]) -> Rollouts:
        """Given completions, one a sample, as rollouts."""
        ...


class ClonedRows:
    """Behaviour cloning: ℓ_i = −mean_t log π(a_{i,t} | …) of the steps that the demonstrator took.

    Args:
        policy: with `encode`.
        samples, completions: what was seen and what was done then.

    Raises:
        SteelyardError: if their numbers differ, or there are none.
    """

    def __init__(self, policy: ShownPolicy, samples: Sequence[Sample], completions: Sequence[Any]) -> None:
        if len(samples) != len(completions) or not len(samples):
            raise SteelyardError(
                f"{len(samples)} samples and {len(completions)} completions to clone; give one each, at least one"
            )
        self.policy, self.samples, self.completions = policy, samples, completions

    def __repr__(self) -> str:
        return "ClonedRows"

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def module(self) -> Any:
        """The policy's module."""
        return self.policy.module

    def losses(self, rows: Array) -> Tensor:
        """[b]."""
        rollouts = self.policy.encode([self.samples[i] for i in rows], [self.completions[i] for i in rows])
        assert rollouts.actions is not None
        logprobs = self.policy.logprobs(rollouts).float()
        mask = torch.as_tensor(rollouts.actions.mask, device=logprobs.device)
        return -torch.where(mask, logprobs, 0.0).sum(1) / mask.sum(1).clamp(min=1)


class RowTrainer:
    """Trains on rows by L = Σ w_i ℓ_i / (Σ w_i + ε); its runs are those of `Trainer` (logs, checkpoints, exact resume).

    A step whose weights are all 0 has loss 0 and gradient 0.

    Args:
        model: its module's trainable parameters are changed in place.
        config: `prompts` is the number of rows of a step, `micro_rows` that of a forward and backward pass.
        folder: the run folder; a run in it goes on.
        weigh: rows to weights, asked once a step; all 1 if left out.
        evaluate: named figures, on the schedule.
        progress: whether to show a live line.
        epsilon: ε.

    Raises:
        SteelyardError: if the folder holds another run; in training, if weights are negative or not finite.
    """

    def __init__(
        self,
        model: RowModel,
        config: TrainConfig,
        *,
        folder: Path,
        weigh: Weigh | None = None,
        evaluate: Callable[[], Mapping[str, float]] | None = None,
        progress: bool = True,
        epsilon: float = 1e-6,
    ) -> None:
        self.model, self.config, self.weigh, self.epsilon = model, config, weigh, epsilon
        self.shards = Shards()
        self.stream = SampleStream(range(len(model)), seed=config.seed)  # type: ignore[arg-type]
        described = {"model": model, "weigh": weigh}
        self.loop = Loop(
            model.module,
            self.stream,
            config,
            folder=folder,
            about={
                "data_rows": len(model),
                "recipe": {name: printed(part) for name, part in described.items()},
            },
            parts={"model": model, "weigh": weigh},
            shards=self.shards,
            evaluate=evaluate,
            progress=progress,
        )

    def run(self) -> Run:
        """Train to the last step; see `learn.loop.Loop.run`."""
        return self.loop.run(self.train_step)

    def train_step(self) -> dict[str, Any]:
        """One step; returns its row of the log."""
        watch = Stopwatch()
        rate = self.loop.begin_step()
        rows = np.asarray(self.stream.take_rows(self.config.prompts))
        weights = self._weights(rows)
        with watch("update"), fixed_torch_seed(self.config.seed, self.loop.step, self.shards.rank, device=self._device):
            batches = self._batches(rows, weights)
            figures = self.loop.updates(batches, self._backward, rate=rate)
        figures |= {"weight": float(weights.mean()), "weight_zero": float((weights == 0).mean())}
        seconds = {f"seconds/{name}": round(value, 6) for name, value in watch.seconds.items()}
        return {"step": self.loop.step, "lr": rate, "rows": len(rows), **figures, **seconds}

    def _weights(self, rows: Array) -> Array:
        if self.weigh is None:
            return np.ones(len(rows))
        weights = np.asarray(self.weigh(rows), np.float64)
        if weights.shape != rows.shape or not (np.isfinite(weights) & (weights >= 0)).all():
            raise SteelyardError(
                f"weights of shape {weights.shape} for {len(rows)} rows: one finite number of 0 or more each"
            )
        return weights

    def _batches(self, rows: Array, weights: Array) -> list[tuple[Array, Tensor]]:
        """This process's micro-batches: rows, and their shares of the step's loss."""
        shares = weights / (weights.sum() + self.epsilon)
        mine = self.shards.part([1] * len(rows))
        rows, shares, size = rows[mine], shares[mine], self.config.micro_rows
        return [
            (rows[i : i + size], torch.as_tensor(shares[i : i + size], dtype=torch.float32, device=self._device))
            for i in range(0, len(rows), size)
        ]

    def _backward(self, batch: tuple[Array, Tensor]) -> dict[str, Tensor]:
        rows, shares = batch
        total = (self.model.losses(rows) * shares).sum()
        total.backward()
        return {"loss": total.detach()}

    @property
    def _device(self) -> torch.device:
        return next(iter(self.model.module.parameters())).device
