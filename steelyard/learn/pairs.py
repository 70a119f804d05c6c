"""The pair trainer: policies by preference objectives, reward models by Bradley-Terry; one step is a batch of pairs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from steelyard.learn.config import TrainConfig
from steelyard.learn.loop import Loop, printed
from steelyard.learn.preferences import PairObjective, PairTerms
from steelyard.learn.recipe import SampleStream
from steelyard.learn.runs import Run
from steelyard.learn.sharding import Shards
from steelyard.learn.steps import Stopwatch, fixed_torch_seed
from steelyard.types import Array, Pairs, Policy, Rollouts, Sample, SteelyardError


class PairModel(Protocol):
    """What pairs can train: it gives one number to a chosen and to a rejected answer."""

    @property
    def module(self) -> Any:
        """A `torch.nn.Module`."""
        ...

    def both(self, pairs: Pairs, *, copy: str | None = None) -> tuple[Tensor, Tensor]:
        """Numbers [B, 2] of the chosen and rejected answers, and their lengths [B, 2]; a copy's have no gradient."""
        ...

    def snapshot(self, name: str) -> None:
        """Keep a frozen copy under a name."""
        ...


class ScoringPolicy(Policy, Protocol):
    """A policy that can score answers which it did not write."""

    def encode(self, samples: Sequence[Sample], completions: Sequence[str]) -> Rollouts:
        """Given completions, one a sample, as rollouts."""
        ...


class PolicyPairs:
    """A policy as a pair model: the log-probability of an answer, summed over its steps.

    Args:
        policy: one that can `encode` given completions.
    """

    def __init__(self, policy: ScoringPolicy) -> None:
        self.policy = policy

    @property
    def module(self) -> Any:
        """The policy's module."""
        return self.policy.module

    def both(self, pairs: Pairs, *, copy: str | None = None) -> tuple[Tensor, Tensor]:
        """Σ_t log π(y_t | x, y_<t) of the chosen and the rejected answers [B, 2], and their numbers of steps."""
        samples = [*pairs.samples, *pairs.samples]
        rollouts = self.policy.encode(samples, [*pairs.chosen, *pairs.rejected])
        assert rollouts.actions is not None
        logprobs = self.policy.logprobs(rollouts, copy=copy).float()
        mask = torch.as_tensor(rollouts.actions.mask, device=logprobs.device)
        sums = torch.where(mask, logprobs, 0.0).sum(1)
        return sums.view(2, -1).T, mask.sum(1).view(2, -1).T.float()

    def snapshot(self, name: str) -> None:
        """Keep a frozen copy of the policy."""
        self.policy.snapshot(name)


@dataclass
class _Batch:
    """Pairs that go through the model together; `shares` [b] of the whole step's batch sum to one over it."""

    pairs: Pairs
    shares: Tensor
    reference: Tensor | None = None


class PairTrainer:
    """Trains a policy or a reward model on pairs; its runs are those of `Trainer` (logs, checkpoints, exact resume).

    Args:
        model: its module's trainable parameters are changed in place.
        objective: see `learn.preferences`.
        pairs: the data; `probability`, `margin` and `weight` as an objective reads them.
        config: `prompts` is the number of pairs of a step, `micro_rows` that of a forward and backward pass.
        folder: the run folder; a run in it goes on.
        weight: float [P], how much each pair counts; all alike if left out.
        evaluate: named figures of the model.
        progress: whether to show a live line.

    Raises:
        SteelyardError: if the folder holds another run, or weights are negative, not finite, or all 0.
    """

    def __init__(
        self,
        model: PairModel,
        objective: PairObjective,
        pairs: Pairs,
        config: TrainConfig,
        *,
        folder: Path,
        weight: Array | None = None,
        evaluate: Callable[[PairModel], Mapping[str, float]] | None = None,
        progress: bool = True,
    ) -> None:
        self.model, self.objective, self.pairs, self.config = model, objective, pairs, config
        self.weight = _checked_weight(weight, len(pairs))
        self.shards = Shards()
        self.stream = SampleStream(pairs.samples, seed=config.seed)
        self.loop = Loop(
            model.module,
            self.stream,
            config,
            folder=folder,
            about={"data_rows": len(pairs), "recipe": {"objective": printed(objective)}},
            parts={"objective": objective},
            shards=self.shards,
            reference=(lambda: model.snapshot("reference")) if objective.needs_reference else None,
            evaluate=None if evaluate is None else lambda: evaluate(model),
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
        with watch("update"), fixed_torch_seed(self.config.seed, self.loop.step, self.shards.rank, device=self._device):
            batches = self._batches(rows)
            figures = self.loop.updates(batches, self._backward, rate=rate)
        seconds = {f"seconds/{name}": round(value, 6) for name, value in watch.seconds.items()}
        return {"step": self.loop.step, "lr": rate, "pairs": len(rows), **figures, **seconds}

    def _batches(self, rows: Array) -> list[_Batch]:
        """This process's micro-batches, with the reference's log-probabilities where the objective needs them."""
        shares = self.weight[rows]
        shares = shares / shares.sum() if shares.sum() > 0 else shares
        mine = self.shards.part([1] * len(rows))
        rows, shares = rows[mine], shares[mine]
        starts = range(0, len(rows), self.config.micro_rows)
        found = []
        for start in starts:
            part = slice(start, start + self.config.micro_rows)
            batch = _Batch(self.pairs.take(rows[part]), torch.as_tensor(shares[part], device=self._device))
            if self.objective.needs_reference:
                with torch.no_grad():
                    batch.reference = self.model.both(batch.pairs, copy="reference")[0]
            found.append(batch)
        return found

    def _backward(self, batch: _Batch) -> dict[str, Tensor]:
        values, lengths = self.model.both(batch.pairs)
        loss, metrics = self.objective(pair_terms(batch.pairs, values, lengths, batch.reference))
        total = (loss * batch.shares).sum()
        total.backward()
        return {"loss": total.detach()} | {name: (v.detach() * batch.shares).sum() for name, v in metrics.items()}

    @property
    def _device(self) -> torch.device:
        return next(iter(self.model.module.parameters())).device


def pair_terms(pairs: Pairs, values: Tensor, lengths: Tensor, reference: Tensor | None = None) -> PairTerms:
    """What an objective sees of a batch: labels are certain and margins 0 where the pairs do not say otherwise.

    Args:
        pairs: B of them. values: [B, 2]. lengths: [B, 2]. reference: [B, 2] or None.
    """
    one = torch.ones(len(pairs), dtype=values.dtype, device=values.device)

    def told(column: Array | None, otherwise: Tensor) -> Tensor:
        return otherwise if column is None else torch.as_tensor(column, dtype=values.dtype, device=values.device)

    return PairTerms(
        values[:, 0], values[:, 1], lengths, told(pairs.probability, one), told(pairs.margin, 0 * one), reference
    )


def pair_accuracy(model: PairModel, pairs: Pairs, *, at_once: int = 256) -> float:
    """Share of pairs whose chosen answer gets the larger number; ties count half, NaN where there is no pair."""
    right: list[Tensor] = []
    with torch.no_grad():
        for start in range(0, len(pairs), at_once):
            values, _ = model.both(pairs.take(range(start, min(start + at_once, len(pairs)))))
            right.append((values[:, 0] > values[:, 1]).float() + 0.5 * (values[:, 0] == values[:, 1]).float())
    return float(torch.cat(right).mean()) if right else float("nan")


def relabelled(pairs: Pairs, probability: Array | Sequence[float]) -> Pairs:
    """The same pairs with another probability [P] that each label is right.

    Raises:
        SteelyardError: for one outside [0, 1].
    """
    given = np.asarray(probability, np.float32)
    if given.shape != (len(pairs),) or not ((given >= 0) & (given <= 1)).all():
        raise SteelyardError(f"labels of shape {given.shape} were given for {len(pairs)} pairs; one in [0, 1] each")
    return replace(pairs, probability=given)


def _checked_weight(weight: Array | None, count: int) -> Array:
    given = np.ones(count, np.float32) if weight is None else np.asarray(weight, np.float32)
    if given.shape != (count,) or not (np.isfinite(given) & (given >= 0)).all() or not given.any():
        raise SteelyardError(f"weights of shape {given.shape} for {count} pairs: one finite number of 0 or more each")
    return given
