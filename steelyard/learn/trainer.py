"""The trainer: one step is candidates, rollouts, rewards, advantages, objective, update; a run is many of them."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from steelyard.learn.advantages import advantages_of
from steelyard.learn.config import FREE_TO_CHANGE, TrainConfig
from steelyard.learn.optimiser import Optimiser
from steelyard.learn.recipe import Recipe, SampleStream
from steelyard.learn.runs import Checkpoint, Run, RunFolder, load_checkpoint, load_weights, to_json, versions, weights
from steelyard.learn.sharding import Shards
from steelyard.learn.steps import (
    MicroBatch,
    Stopwatch,
    asked_to_stop,
    fixed_torch_seed,
    micro_batch,
    pack,
    rollout_figures,
    trained_prompts,
)
from steelyard.learn.trackers import Tracker, open_trackers
from steelyard.types import Advantages, Policy, Rollouts, Sample, Scores, SteelyardError

Evaluate = Callable[[Policy], dict[str, float]]
PARTS = ("plan", "reward", "advantage", "objective", "curriculum")
BLANK = ("reward", "loss", "kl", "clip_fraction", "grad_norm", "completion_length")
"""Columns that stand empty in the log of a step that trained on nothing."""


class Interrupted(KeyboardInterrupt):
    """The run was asked to stop, has saved itself, and says how to go on."""


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
        self.recipe, self.config, self.evaluate, self.progress = recipe, config, evaluate, progress
        self.shards = Shards()
        self.policy = self.shards.policy(policy)
        self.files = RunFolder(Path(folder))
        self.stream = SampleStream(data, seed=config.seed)
        self.generator = np.random.default_rng(config.seed)
        self.step = 0
        self._about: dict[str, Any] = {**about_run(recipe, config, len(data)), "versions": versions()}
        self.shards.from_main(self._claim_folder)
        self._restore_weights()
        self.optimiser = Optimiser(
            policy.module, betas=config.betas, weight_decay=config.weight_decay, kind=config.optimiser
        )
        self._restore()

    def run(self) -> Run:
        """Train to the last step.

        Returns:
            The run folder, to read the log from.

        Raises:
            Interrupted: on Ctrl-C or SIGTERM, after the step is finished and saved.
        """
        run = Run(self.files.folder)
        if self.step >= self.config.steps:
            self._describe("finished")
            return run
        self._describe("running")
        with ExitStack() as stack:
            trackers = self._open_trackers(stack)
            stop = stack.enter_context(asked_to_stop())
            if self.step == 0:
                self._evaluate(trackers)
            while self.step < self.config.steps:
                self._log(self.train_step(), trackers)
                stopping = self.shards.any(stop.is_set()) and self.step < self.config.steps
                self._after_step(trackers, stopping)
                if stopping:
                    raise self._interrupted()
        self._describe("finished")
        return run

    def train_step(self) -> dict[str, Any]:
        """One step; returns its row of the log."""
        watch = Stopwatch()
        rate = self.config.rate(self.step)
        self.step += 1
        row: dict[str, Any] = {"step": self.step, "lr": rate, "nan_rows": 0, **dict.fromkeys(BLANK)}
        rollouts = self._rollouts(watch, row)
        if rollouts is not None:
            with watch("reward"), torch.no_grad():
                self._prepare_reward()
                scores = self.shards.from_main(lambda: self.recipe.reward(rollouts))
            row |= rollout_figures(rollouts, scores)
            advantages = self._advantages(rollouts, scores)
            row |= {f"advantage/{name}": value for name, value in _figures(self.recipe.advantage).items()}
            row |= self._learn(rollouts, advantages, rate, watch)
            watch.seconds |= {f"reward/{name}": float(np.nansum(s)) for name, s in scores.seconds.items()}
        return row | {f"seconds/{name}": round(value, 6) for name, value in watch.seconds.items()}

    def _prepare_reward(self) -> None:
        """Rewards whose weights are scheduled follow the step; those that ask the policy get it as it is now."""
        if hasattr(self.recipe.reward, "at_step"):
            self.recipe.reward.at_step(self.step - 1)
        if hasattr(self.recipe.reward, "use_policy"):
            self.recipe.reward.use_policy(self.policy)

    # The stages of a step.

    def _rollouts(self, watch: Stopwatch, row: dict[str, Any]) -> Rollouts | None:
        """What the policy does with the curriculum's candidates; None where there are none."""
        recipe, ask = self.recipe, self.config.prompts
        with watch("curriculum"), torch.no_grad():
            candidates = recipe.curriculum.next(self.stream, recipe.plan, self.policy, self.generator, ask)
        row |= {"candidates": len(candidates), "rollouts": 0, "prompts_trained": 0, "rows_trained": 0}
        row |= {f"curriculum/{name}": value for name, value in recipe.curriculum.metrics().items()}
        if not candidates:
            return None
        with watch("sample"), torch.no_grad():
            rollouts = recipe.plan.rollouts(self.policy, candidates, self.generator)
        if rollouts.actions is None:
            raise SteelyardError(
                "the policy's rollouts carry no actions; its sample() must return their log-probabilities"
            )
        return rollouts

    def _advantages(self, rollouts: Rollouts, scores: Scores) -> Advantages:
        if len(scores) != len(rollouts):
            name = self.recipe.reward.name
            raise SteelyardError(
                f"reward {name!r} returned {len(scores)} scores for {len(rollouts)} rollouts; one a row is needed"
            )
        advantages = self.recipe.advantage(advantages_of(scores), rollouts, scores)
        if len(advantages.values) != len(rollouts):
            counts = f"{len(advantages.values)} advantages for {len(rollouts)} rollouts"
            raise SteelyardError(f"{self.recipe.advantage!r} gave {counts}; one a row is needed")
        unusable = ~(np.isfinite(advantages.weights) & (advantages.weights >= 0))
        if unusable.any():
            row = int(unusable.argmax())
            raise SteelyardError(f"the weight of row {row} is {advantages.weights[row]}; it must be 0 or more")
        flat = np.concatenate([values.reshape(len(rollouts), -1) for values in advantages.terms], axis=1)
        wrong = ~np.isfinite(flat).all(axis=1) & (advantages.weights > 0)
        if wrong.any():
            raise SteelyardError(f"the advantage of row {int(wrong.argmax())} is not finite; give such rows weight 0")
        return advantages

    def _learn(self, rollouts: Rollouts, advantages: Advantages, rate: float, watch: Stopwatch) -> dict[str, Any]:
        """All optimiser steps over these rollouts."""
        assert rollouts.actions is not None
        shares = np.asarray(self.recipe.objective.weights(rollouts.actions.mask, advantages.weights), np.float32)
        prompts = trained_prompts(rollouts, shares)
        row: dict[str, Any] = {
            "prompts_trained": len({int(rollouts.groups[rows[0]]) for rows in prompts}),
            "rows_trained": sum(map(len, prompts)),
        }
        if not prompts:
            return row
        mine = prompts[self.shards.part([len(p) for p in prompts])]
        packs = pack(mine, self.config.micro_rows)
        batches = [micro_batch(rollouts, advantages, shares, rows, self._device) for rows in packs]
        with fixed_torch_seed(self.config.seed, self.step, self.shards.rank, device=self._device):
            if self.recipe.objective.needs_reference:
                with watch("reference"), torch.no_grad():
                    for batch in batches:
                        batch.reference = self.policy.logprobs(batch.rollouts, copy="reference").float()
            with watch("update"):
                updates = [self._update(batches, rate) for _ in range(self.config.updates)]
        row |= {name: float(np.mean([figures[name] for figures in updates])) for name in updates[0]}
        return row | {"sampler_gap": updates[0]["sampler_gap"]}

    def _update(self, batches: Sequence[MicroBatch], rate: float) -> dict[str, float]:
        """One optimiser step; figures of the whole step's batch."""
        sums: dict[str, Tensor] = {}
        gap = torch.zeros((), device=self._device)
        for batch in batches:
            figures, batch_gap = self._backward(batch)
            sums = {name: sums.get(name, 0.0) + value for name, value in figures.items()}
            gap = torch.maximum(gap, batch_gap)
            self.optimiser.collect()
        self.shards.sum_tensors(self.optimiser.gradients(self.shards.gather(self.optimiser.reached())))
        norm = self.optimiser.step(rate=rate, clip=self.config.grad_clip)
        figures = _total(self.shards.gather({name: float(value) for name, value in sums.items()}))
        gap_everywhere = max(self.shards.gather(float(gap)))
        return figures | {"grad_norm": norm, "skipped": float(not math.isfinite(norm)), "sampler_gap": gap_everywhere}

    def _backward(self, batch: MicroBatch) -> tuple[dict[str, Tensor], Tensor]:
        """Gradients of one micro-batch; its part of the figures, and how far the sampler's log-probabilities are."""
        counts = batch.weights > 0
        logprobs = torch.where(batch.mask, self.policy.logprobs(batch.rollouts).float(), batch.old)
        loss, metrics = self.recipe.objective(logprobs, batch.old, batch.reference, batch.advantages)
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

    @property
    def _device(self) -> torch.device:
        return next(iter(self.optimiser.parameters.values())).device

    # Logs, evaluations, checkpoints.

    def _after_step(self, trackers: Sequence[Tracker], stopping: bool) -> None:
        last = self.step == self.config.steps
        if last or _due(self.step, self.config.evaluate_every):
            self._evaluate(trackers)
        if last or stopping or _due(self.step, self.config.checkpoint_every):
            self.shards.from_main(self._save)

    def _log(self, row: dict[str, Any], trackers: Sequence[Tracker]) -> None:
        if self.shards.main:
            self.files.append("log.jsonl", row)
            for tracker in trackers:
                tracker.show(self.step, _finite(row))

    def _evaluate(self, trackers: Sequence[Tracker]) -> None:
        if self.evaluate is None:
            return
        with torch.no_grad():
            metrics = self.evaluate(self.policy)
        if self.shards.main:
            self.files.append("evaluations.jsonl", {"step": self.step, **metrics})
            for tracker in trackers:
                tracker.show(self.step, {f"evaluation/{name}": value for name, value in _finite(metrics).items()})

    def _open_trackers(self, stack: ExitStack) -> list[Tracker]:
        if not self.shards.main:
            return []
        config, folder = self.config, self.files.folder
        trackers = open_trackers(
            config.trackers, folder, self._about, first_step=self.step, steps=config.steps, progress=self.progress
        )
        for tracker in trackers:
            stack.callback(tracker.close)
        return trackers

    def _describe(self, status: str) -> None:
        if self.shards.main:
            self.files.describe(self._about | {"status": status})

    def _interrupted(self) -> Interrupted:
        self._describe("interrupted")
        done = f"stopped after step {self.step} of {self.config.steps}"
        words = f"{done}; run the same command again to go on from {self.files.folder}"
        if self.shards.main:
            print(words, file=sys.stderr)
        return Interrupted(words)

    # Save and resume.

    def _claim_folder(self) -> None:
        """Refuse a folder whose run had other settings."""
        self.files.prepare()
        before = self.files.described()
        if before is None:
            self._describe("running")
            return
        refuse_other_run(self.files.folder, before, self._about)

    def _restore_weights(self) -> None:
        """Start every process, and every resumed run's reference, from the weights that the run began with."""
        module = self.policy.module
        self.shards.from_main(lambda: self.files.keep_initial(module))
        load_weights(module, self.files.initial())
        if self.recipe.objective.needs_reference or getattr(self.recipe.reward, "needs_reference", False):
            self.policy.snapshot("reference")

    def _save(self) -> None:
        state = {
            "step": self.step,
            "generator": self.generator.bit_generator.state,
            "stream": self.stream.state_dict(),
            "parts": {name: part.state_dict() for name, part in self._stateful().items()},
        }
        checkpoint = Checkpoint(weights(self.policy.module), self.optimiser.tensors(), state)
        self.files.save(self.step, checkpoint, keep=self.config.keep_checkpoints)

    def _restore(self) -> None:
        """Go on from the newest whole checkpoint, or begin anew where there is none."""
        place = self.shards.from_main(self.files.newest)
        if place is None:
            self.shards.from_main(lambda: self.files.rewind({}))
            return
        checkpoint = load_checkpoint(place)
        state = checkpoint.state
        load_weights(self.policy.module, checkpoint.model)
        self.optimiser.load(checkpoint.optimiser)
        self.step = int(state["step"])
        self.generator.bit_generator.state = state["generator"]
        self.stream.load_state_dict(state["stream"])
        for name, part in self._stateful().items():
            part.load_state_dict(state["parts"].get(name, {}))  # runs of older versions kept none of rewards
        self.shards.from_main(lambda: self.files.rewind(state["logs"]))

    def _stateful(self) -> dict[str, Any]:
        parts = {name: getattr(self.recipe, name) for name in PARTS}
        return {name: part for name, part in parts.items() if hasattr(part, "state_dict")}


def about_run(recipe: Recipe, config: TrainConfig, data_rows: int) -> dict[str, Any]:
    """What must stay the same while a run goes on: its settings, the number of its rows, its recipe as it prints."""
    parts = {name: re.sub(r" at 0x[0-9a-fA-F]+", "", repr(getattr(recipe, name))) for name in PARTS}
    return {"config": config.to_json(), "data_rows": data_rows, "recipe": parts}


def refuse_other_run(folder: Path, before: Mapping[str, Any], about: Mapping[str, Any]) -> None:
    """Nothing, if two descriptions by `about_run` are of the same run.

    Raises:
        SteelyardError: naming the settings in which they differ.
    """
    old, new = {"optimiser": "adamw", **before.get("config", {})}, json.loads(to_json(about["config"]))
    differing = [k for k in sorted({*old, *new}) if old.get(k) != new.get(k) and k not in FREE_TO_CHANGE]
    if before.get("data_rows") != about["data_rows"]:
        differing.append("data_rows")
    parts = before.get("recipe", about["recipe"])  # absent in runs of older versions
    differing += [name for name in PARTS if parts.get(name) != about["recipe"][name]]
    if differing:
        names = ", ".join(differing)
        raise SteelyardError(f"{folder} holds a run with another {names}; use its settings to go on, or another folder")


def _figures(advantage: Any) -> dict[str, float]:
    """What the links of a chain say of the step, where they do."""
    return advantage.metrics() if hasattr(advantage, "metrics") else {}


def _finite(row: Mapping[str, Any]) -> dict[str, float]:
    return {k: float(v) for k, v in row.items() if isinstance(v, int | float) and math.isfinite(v) and k != "step"}


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


def _total(parts: Sequence[Mapping[str, float]]) -> dict[str, float]:
    names = {name: None for part in parts for name in part}
    return {name: sum(part.get(name, 0.0) for part in parts) for name in names}
