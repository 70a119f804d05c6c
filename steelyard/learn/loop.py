"""The outside of every training run: its folder, log, evaluations, checkpoints and signals, whatever a step does."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from steelyard.learn.config import FREE_TO_CHANGE, TrainConfig
from steelyard.learn.optimiser import Optimiser
from steelyard.learn.recipe import SampleStream
from steelyard.learn.runs import Checkpoint, Run, RunFolder, load_checkpoint, load_weights, to_json, versions, weights
from steelyard.learn.sharding import Shards
from steelyard.learn.steps import asked_to_stop
from steelyard.learn.trackers import Tracker, open_trackers
from steelyard.types import SteelyardError

Row = dict[str, Any]
Batch = TypeVar("Batch")


class Interrupted(KeyboardInterrupt):
    """The run was asked to stop, has saved itself, and says how to go on."""


class Loop:
    """Runs a trainer's steps, logs and evaluates them, saves what they leave behind, and resumes to the same numbers.

    The policy trainer and the pair trainer differ in what a step is; everything else of a run is here.

    Args:
        module: its trainable parameters are what is trained and saved.
        stream: of what a step takes its rows from; its place is saved.
        config: see `TrainConfig`.
        folder: the run folder. If a run is in it already, that run goes on from its newest checkpoint.
        about: what must stay the same while the run goes on: `data_rows`, and under `recipe` each part as it prints.
        parts: what has `state_dict` and `load_state_dict`, by name; saved with the run.
        shards: the processes that train together.
        reference: keeps the weights that the run began with as the reference, where the objective needs one.
        evaluate: named figures, called before the first step, on the schedule, and after the last one.
        progress: whether to show a live line.

    Raises:
        SteelyardError: if the folder holds a run with other settings, data or recipe.
    """

    def __init__(
        self,
        module: nn.Module,
        stream: SampleStream,
        config: TrainConfig,
        *,
        folder: Path,
        about: Mapping[str, Any],
        parts: Mapping[str, Any],
        shards: Shards,
        reference: Callable[[], None] | None = None,
        evaluate: Callable[[], Mapping[str, float]] | None = None,
        progress: bool = True,
    ) -> None:
        self.module, self.stream, self.config, self.shards = module, stream, config, shards
        self.parts = {name: part for name, part in parts.items() if hasattr(part, "state_dict")}
        self.evaluate, self.progress = evaluate, progress
        self.files = RunFolder(Path(folder))
        self.generator = np.random.default_rng(config.seed)
        self.step = 0
        self._about: Row = {"config": config.to_json(), **about, "versions": versions()}
        shards.from_main(self._claim_folder)
        self._restore_weights(reference)
        self.optimiser = Optimiser(module, betas=config.betas, weight_decay=config.weight_decay, kind=config.optimiser)
        self._restore()

    def run(self, train_step: Callable[[], Row]) -> Run:
        """Train to the last step.

        Args:
            train_step: one step; returns its row of the log. It advances `step` by `begin_step`.

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
                self._log(train_step(), trackers)
                stopping = self.shards.any(stop.is_set()) and self.step < self.config.steps
                self._after_step(trackers, stopping)
                if stopping:
                    raise self._interrupted()
        self._describe("finished")
        return run

    def begin_step(self) -> float:
        """Count one step more; returns its learning rate."""
        rate = self.config.rate(self.step)
        self.step += 1
        return rate

    def update(
        self, batches: Sequence[Batch], backward: Callable[[Batch], Mapping[str, Tensor]], *, rate: float
    ) -> dict[str, float]:
        """One optimiser step over micro-batches.

        Args:
            batches: this process's part.
            backward: adds one micro-batch's gradients and returns its share of the step's figures.
            rate: the learning rate.

        Returns:
            The figures' sums over all processes, the gradient's norm before clipping, and whether it was `skipped`
            because that norm is not finite.
        """
        sums: dict[str, Tensor] = {}
        for batch in batches:
            sums = {name: sums.get(name, 0.0) + value for name, value in backward(batch).items()}
            self.optimiser.collect()
        self.shards.sum_tensors(self.optimiser.gradients(self.shards.gather(self.optimiser.reached())))
        norm = self.optimiser.step(rate=rate, clip=self.config.grad_clip)
        figures = _total(self.shards.gather({name: float(value) for name, value in sums.items()}))
        return figures | {"grad_norm": norm, "skipped": float(not math.isfinite(norm))}

    def updates(
        self, batches: Sequence[Batch], backward: Callable[[Batch], Mapping[str, Tensor]], *, rate: float
    ) -> dict[str, float]:
        """`config.updates` optimiser steps over the same micro-batches; the means of their figures."""
        found = [self.update(batches, backward, rate=rate) for _ in range(self.config.updates)]
        return {name: float(np.mean([each[name] for each in found])) for name in found[0]}

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
            metrics = self.evaluate()
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

    def _restore_weights(self, reference: Callable[[], None] | None) -> None:
        """Start every process, and every resumed run's reference, from the weights that the run began with."""
        self.shards.from_main(lambda: self.files.keep_initial(self.module))
        load_weights(self.module, self.files.initial())
        if reference is not None:
            reference()

    def _save(self) -> None:
        state = {
            "step": self.step,
            "generator": self.generator.bit_generator.state,
            "stream": self.stream.state_dict(),
            "parts": {name: part.state_dict() for name, part in self.parts.items()},
        }
        checkpoint = Checkpoint(weights(self.module), self.optimiser.tensors(), state)
        self.files.save(self.step, checkpoint, keep=self.config.keep_checkpoints)

    def _restore(self) -> None:
        """Go on from the newest whole checkpoint, or begin anew where there is none."""
        place = self.shards.from_main(self.files.newest)
        if place is None:
            self.shards.from_main(lambda: self.files.rewind({}))
            return
        checkpoint = load_checkpoint(place)
        state = checkpoint.state
        load_weights(self.module, checkpoint.model)
        self.optimiser.load(checkpoint.optimiser)
        self.step = int(state["step"])
        self.generator.bit_generator.state = state["generator"]
        self.stream.load_state_dict(state["stream"])
        for name, part in self.parts.items():
            part.load_state_dict(state["parts"].get(name, {}))  # runs of older versions kept none of rewards
        self.shards.from_main(lambda: self.files.rewind(state["logs"]))


def printed(part: Any) -> str:
    """A part as it prints, without the address that objects print where they have no form of their own."""
    return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(part))


def refuse_other_run(folder: Path, before: Mapping[str, Any], about: Mapping[str, Any]) -> None:
    """Nothing, if two descriptions of a run are of the same one.

    Raises:
        SteelyardError: naming the settings in which they differ.
    """
    old, new = {"optimiser": "adamw", **before.get("config", {})}, json.loads(to_json(about["config"]))
    differing = [k for k in sorted({*old, *new}) if old.get(k) != new.get(k) and k not in FREE_TO_CHANGE]
    if before.get("data_rows") != about["data_rows"]:
        differing.append("data_rows")
    parts = before.get("recipe", about["recipe"])  # absent in runs of older versions
    differing += [name for name, part in about["recipe"].items() if parts.get(name) != part]
    if differing:
        names = ", ".join(differing)
        raise SteelyardError(f"{folder} holds a run with another {names}; use its settings to go on, or another folder")


def _finite(row: Mapping[str, Any]) -> dict[str, float]:
    return {k: float(v) for k, v in row.items() if isinstance(v, int | float) and math.isfinite(v) and k != "step"}


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


def _total(parts: Sequence[Mapping[str, float]]) -> dict[str, float]:
    names = {name: None for part in parts for name in part}
    return {name: sum(part.get(name, 0.0) for part in parts) for name in names}
