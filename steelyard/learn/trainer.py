"""The trainer: one step is candidates, rollouts, rewards, advantages, objective, update; a run is many of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from steelyard.learn.advantages import applied
from steelyard.learn.config import TrainConfig
from steelyard.learn.loop import Loop, printed
from steelyard.learn.recipe import Recipe, SampleStream
from steelyard.learn.runs import Run
from steelyard.learn.sharding import Shards
from steelyard.learn.steps import (
    MicroBatch,
    Stopwatch,
    fixed_torch_seed,
    micro_batch,
    pack,
    prompts_with_signal,
    rollout_figures,
    trained_prompts,
)
from steelyard.types import Advantages, Policy, Rollouts, Sample, SteelyardError

Evaluate = Callable[[Policy], dict[str, float]]
PARTS = ("plan", "reward", "advantage", "objective", "curriculum")
BLANK = ("reward", "loss", "kl", "clip_fraction", "grad_norm", "completion_length")
"""Columns that stand empty in the log of a step that trained on nothing."""


class Trainer:
    """Trains a policy by a recipe.

    Args:
        policy: its module's trainable parameters are changed in place.
        recipe: plan, reward, advantage, objective, curriculum.
        data: the samples; may be lazy.
        config: see `TrainConfig`.
        folder: the run folder. If a run is in it already, that run goes on from its newest checkpoint, to the same
            numbers as if it had never stopped (to the last bit on a CPU).
        evaluate: the policy to named figures, called before the first step, on the schedule, and after the last one;
            in a run on several processes it is called in each of them.
        progress: whether to show a live line.

    Raises:
        SteelyardError: if the folder holds a run with other settings, data or recipe.
    """

    def __init__(
        self,
        policy: Policy,
        recipe: Recipe,
        data: Sequence[Sample],
        config: TrainConfig,
        *,
        folder: Path,
        evaluate: Evaluate | None = None,
        progress: bool = True,
    ) -> None:
        if exact_kl(recipe) and not hasattr(policy, "logprobs_and_kl"):
            raise SteelyardError(f"{type(policy).__name__} gives no KL in closed form; use the estimator k1, k2 or k3")
        self.recipe, self.config = recipe, config
        self.shards = Shards()
        self.policy = self.shards.policy(policy)
        self.stream = SampleStream(data, seed=config.seed)
        self.loop = Loop(
            policy.module,
            self.stream,
            config,
            folder=folder,
            about=about_run(recipe, config, len(data)),
            parts={name: getattr(recipe, name) for name in PARTS},
            shards=self.shards,
            reference=self._keep_reference if needs_reference(recipe) else None,
            evaluate=None if evaluate is None else lambda: evaluate(self.policy),
            progress=progress,
        )

    def _keep_reference(self) -> None:
        self.policy.snapshot("reference")

    def run(self) -> Run:
        """Train to the last step.

        Returns:
            The run folder, to read the log from.

        Raises:
            Interrupted: on Ctrl-C or SIGTERM, after the step is finished and saved.
        """
        return self.loop.run(self.train_step)

    def train_step(self) -> dict[str, Any]:
        """One step; returns its row of the log."""
        watch = Stopwatch()
        rate = self.loop.begin_step()
        row: dict[str, Any] = {"step": self.loop.step, "lr": rate, "nan_rows": 0, **dict.fromkeys(BLANK)}
        self._prepare_reward()
        rollouts = self._rollouts(watch, row)
        if rollouts is not None:
            with watch("reward"), torch.no_grad():
                scores = self.shards.from_main(lambda: self.recipe.reward(rollouts))
            row |= rollout_figures(rollouts, scores)
            if len(scores) != len(rollouts):
                counts = f"{len(scores)} scores for {len(rollouts)} rollouts"
                raise SteelyardError(f"reward {self.recipe.reward.name!r} returned {counts}; one a row is needed")
            advantages = applied(self.recipe.advantage, rollouts, scores)
            row |= {f"advantage/{name}": value for name, value in _figures(self.recipe.advantage).items()}
            row |= self._learn(rollouts, advantages, rate, watch)
            watch.seconds |= {f"reward/{name}": float(np.nansum(s)) for name, s in scores.seconds.items()}
        return row | {f"seconds/{name}": round(value, 6) for name, value in watch.seconds.items()}

    def _prepare_reward(self) -> None:
        """Rewards whose weights are scheduled follow the step; those that ask the policy get it as it is now."""
        if hasattr(self.recipe.reward, "at_step"):
            self.recipe.reward.at_step(self.loop.step - 1)
        if hasattr(self.recipe.reward, "use_policy"):
            self.recipe.reward.use_policy(self.policy)

    # The stages of a step.

    def _rollouts(self, watch: Stopwatch, row: dict[str, Any]) -> Rollouts | None:
        """What the policy does with the curriculum's candidates; None where there are none."""
        recipe, ask = self.recipe, self.config.prompts
        with watch("curriculum"), torch.no_grad():
            candidates = recipe.curriculum.next(self.stream, recipe.plan, self.policy, self.loop.generator, ask)
        row |= {"candidates": len(candidates), "rollouts": 0, "prompts_trained": 0, "prompts_with_signal": 0}
        row["rows_trained"] = 0
        row |= {f"curriculum/{name}": value for name, value in recipe.curriculum.metrics().items()}
        if not candidates:
            return None
        with watch("sample"), torch.no_grad():
            rollouts = recipe.plan.rollouts(self.policy, candidates, self.loop.generator)
        if rollouts.actions is None:
            raise SteelyardError(
                "the policy's rollouts carry no actions; its sample() must return their log-probabilities"
            )
        return rollouts

    def _learn(self, rollouts: Rollouts, advantages: Advantages, rate: float, watch: Stopwatch) -> dict[str, Any]:
        """All optimiser steps over these rollouts."""
        assert rollouts.actions is not None
        shares = np.asarray(self.recipe.objective.weights(rollouts.actions.mask, advantages.weights), np.float32)
        prompts = trained_prompts(rollouts, shares)
        row: dict[str, Any] = {
            "prompts_trained": len({int(rollouts.groups[rows[0]]) for rows in prompts}),
            "prompts_with_signal": prompts_with_signal(rollouts, advantages),
            "rows_trained": sum(map(len, prompts)),
        }
        if not prompts:
            return row
        mine = prompts[self.shards.part([len(p) for p in prompts])]
        packs = pack(mine, self.config.micro_rows)
        batches = [micro_batch(rollouts, advantages, shares, rows, self._device) for rows in packs]
        with fixed_torch_seed(self.config.seed, self.loop.step, self.shards.rank, device=self._device):
            if self.recipe.objective.needs_reference:
                with watch("reference"), torch.no_grad():
                    for batch in batches:
                        batch.reference = self._reference(batch.rollouts)
            with watch("update"):
                updates = [self._update(batches, rate) for _ in range(self.config.updates)]
        row |= {name: float(np.mean([figures[name] for figures in updates])) for name in updates[0]}
        return row | {"sampler_gap": updates[0]["sampler_gap"]}

    def _update(self, batches: Sequence[MicroBatch], rate: float) -> dict[str, float]:
        """One optimiser step; figures of the whole step's batch."""
        gaps: list[Tensor] = []

        def backward(batch: MicroBatch) -> dict[str, Tensor]:
            figures, gap = self._backward(batch)
            gaps.append(gap)
            return figures

        figures = self.loop.update(batches, backward, rate=rate)
        return figures | {"sampler_gap": max(self.shards.gather(max((float(gap) for gap in gaps), default=0.0)))}

    def _backward(self, batch: MicroBatch) -> tuple[dict[str, Tensor], Tensor]:
        """Gradients of one micro-batch; its part of the figures, and how far the sampler's log-probabilities are."""
        counts = batch.weights > 0
        scored, reference = self._scored(batch)
        logprobs = torch.where(batch.mask, scored, batch.old)
        loss, metrics = self.recipe.objective(logprobs, batch.old, reference, batch.advantages)
        if loss.shape != batch.mask.shape:
            shapes = f"losses {tuple(loss.shape)} for steps {tuple(batch.mask.shape)}"
            raise SteelyardError(f"{self.recipe.objective!r} gave {shapes}; it must add up advantages [K, N, T]")
        total = (torch.where(counts, loss, 0.0) * batch.weights).sum()
        total.backward()
        figures = {
            name: (torch.where(counts, value, 0.0) * batch.weights).sum().detach() for name, value in metrics.items()
        }
        gap = torch.where(counts, logprobs.detach() - batch.old, 0.0).abs().max()
        return {"loss": total.detach(), **figures}, gap

    def _reference(self, rollouts: Rollouts) -> Tensor:
        """What is kept of the reference until its micro-batch is trained: log-probabilities, or means of steps."""
        if exact_kl(self.recipe):
            return self.policy.means(rollouts, copy="reference")  # type: ignore[attr-defined]
        return self.policy.logprobs(rollouts, copy="reference").float()

    def _scored(self, batch: MicroBatch) -> tuple[Tensor, Tensor | None]:
        """Log-probabilities with gradients [n, t], and what the objective reads of the reference."""
        if exact_kl(self.recipe):
            return self.policy.logprobs_and_kl(batch.rollouts, batch.reference)  # type: ignore[attr-defined]
        return self.policy.logprobs(batch.rollouts).float(), batch.reference

    @property
    def _device(self) -> torch.device:
        return next(iter(self.loop.optimiser.parameters.values())).device


def about_run(recipe: Recipe, config: TrainConfig, data_rows: int) -> dict[str, Any]:
    """What must stay the same while a run goes on: its settings, the number of its rows, its recipe as it prints."""
    parts = {name: printed(getattr(recipe, name)) for name in PARTS}
    return {"config": config.to_json(), "data_rows": data_rows, "recipe": parts}


def needs_reference(recipe: Recipe) -> bool:
    """Whether objective or reward asks the policy as it was when training began."""
    return recipe.objective.needs_reference or getattr(recipe.reward, "needs_reference", False)


def exact_kl(recipe: Recipe) -> bool:
    """Whether the objective reads each step's KL in closed form, which the policy then gives (`logprobs_and_kl`)."""
    return recipe.objective.needs_reference and getattr(recipe.objective, "exact_kl", False)


def _figures(advantage: Any) -> dict[str, float]:
    """What the links of a chain say of the step, where they do."""
    return advantage.metrics() if hasattr(advantage, "metrics") else {}
