"""What SARM's evidence is made of: reward models of progress, and policies cloned by gains, on demonstrations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from steelyard.audits.separation import separation
from steelyard.learn.cloning import ClonedRows, RowTrainer
from steelyard.learn.config import TrainConfig
from steelyard.methods.core import Measures, Trial
from steelyard.policies.control import ControlPolicy, Trajectory, chunks_of
from steelyard.rewards.models.stage_rows import Causal, Centred, Episode, StageRows, Window, episode_progress
from steelyard.rewards.models.stages import StageConfig, StageFrames, StageModel, StageTransformer
from steelyard.rewards.progress import (
    RunningGainWeights,
    Stage,
    breakpoints_of,
    gains,
    normalised_progress,
    stage_targets,
    temporal_proportions,
)
from steelyard.types import Array, Sample
from steelyard.worlds import pick_and_place, waypoints

CHUNK = 5
TRAIN = TrainConfig(steps=800, prompts=256, micro_rows=256, lr=3e-3, weight_decay=0.0, grad_clip=1.0)


@dataclass(frozen=True, eq=False)
class Bench:
    """What an arm gets with one seed: the task, its demonstrations, and how its reward model is made and trained.

    Attributes:
        world: makes policies. order: names of the stages.
        shown, held_out: demonstrations with `trajectory`, `stages` and `good`.
        tests: where measured episodes begin. in_time: environment steps in which they count as solved.
        make: config to stage model. window: what it sees. train: of the reward model.
    """

    world: Any
    order: Sequence[str]
    shown: Sequence[Any]
    held_out: Sequence[Any]
    tests: Sequence[Sample]
    in_time: int
    make: Callable[[StageConfig], StageModel]
    window: Window
    train: TrainConfig


Benches = Callable[[Trial], Bench]


def points(trial: Trial) -> Bench:
    """The bench-top world: two networks of 2×64 that see one frame."""
    world = waypoints.Waypoints(seed=trial.seed)
    shown = world.demonstrations(10 if trial.quick else 120)
    train = replace(TRAIN, steps=600, lr=2e-3)
    held_out = world.demonstrations(5 if trial.quick else 40, split="test")
    tests = world.samples("test", 2 if trial.quick else 100)
    return Bench(world, waypoints.ORDER, shown, held_out, tests, 90, StageFrames, Centred(frames=0, gap=1), train)


def fetch(trial: Trial) -> Bench:
    """Fetch's pick-and-place: two small causal transformers that see nine states."""
    world, count = pick_and_place.PickAndPlace(), 4 if trial.quick else 80
    shown = world.demonstrations(world.samples("train", count, seed=trial.seed))
    held_out = world.demonstrations(world.samples("validation", max(2, count // 5), seed=trial.seed))
    train = replace(TRAIN, steps=300, prompts=128, micro_rows=128, lr=1e-3)
    tests = world.samples("test", 2 if trial.quick else 20, seed=trial.seed)
    return Bench(world, pick_and_place.ORDER, shown, held_out, tests, 50, StageTransformer, Causal(gap=2), train)


def reward_model(trial: Trial, bench: Bench, *, staged: bool) -> StageModel:
    """A stage model trained on the demonstrations; with one stage for all it learns elapsed time."""
    order = bench.order if staged else ("task",)
    priors = temporal_proportions([d.stages for d in bench.shown], order) if staged else {"task": 1.0}
    size = bench.shown[0].trajectory.observations.shape[1]
    config = StageConfig(
        {"task": list(priors.values())}, cameras=0, text_width=0, state_width=size, width=64, layers=2, heads=4
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(trial.seed)
        model = bench.make(config)
    model.standardise(np.concatenate([d.trajectory.observations for d in bench.shown]))
    rows = StageRows(model, episodes_of(bench.shown, staged), {"task": order}, window=bench.window, rewind=0.0)
    train = replace(bench.train, steps=5 if trial.quick else bench.train.steps, seed=trial.seed)
    RowTrainer(rows, train, folder=trial.folder / "reward-model", progress=False).run()
    return model


def episodes_of(demonstrations: Sequence[Any], staged: bool) -> list[Episode]:
    """What a reward model sees: observations, and all stages, or one that is the whole episode."""
    whole = [(Stage("task", 0, len(d.good)),) for d in demonstrations]
    stages = [d.stages for d in demonstrations] if staged else whole
    shown = zip(demonstrations, stages, strict=True)
    return [Episode(d.trajectory.observations, stages={"task": each}) for d, each in shown]


Gains = Callable[[Trial, Bench], Sequence[Array]]
"""Gains [t] of every demonstration's frames."""


def learned(trial: Trial, bench: Bench, *, staged: bool, sign: float = 1.0) -> Sequence[Array]:
    """Gains that a learned reward model sees."""
    model = reward_model(trial, bench, staged=staged)
    return [sign * gains(p, CHUNK)[:-1] for p in progress_of(model, bench, bench.shown, staged)]


def progress_of(model: StageModel, bench: Bench, demonstrations: Sequence[Any], staged: bool) -> list[Array]:
    """The model's progress [t + 1] of each demonstration."""
    found = episode_progress(model, episodes_of(demonstrations, staged), window=bench.window, scheme="task")
    return [each for each, _ in found]


def model_figures(trial: Trial, *, bench: Benches, staged: bool) -> Measures:
    """On held-out demonstrations: squared error to true progress, and how well gains tell frames that make headway.

    `label_std` is of the labels that it learned from.
    """
    task = bench(trial)
    found = progress_of(reward_model(trial, task, staged=staged), task, task.held_out, staged)
    gain, good = np.concatenate([gains(p, CHUNK)[:-1] for p in found]), [d.good for d in task.held_out]
    off = np.concatenate([p - d.truth for p, d in zip(found, task.held_out, strict=True)])
    return {
        "error": float(np.mean(off**2)),
        "auc": separation(gain, np.concatenate(good)),
        "label_std": label_spread(task, staged=staged),
    }


def oracle(trial: Trial, bench: Bench) -> Sequence[Array]:
    """1 for a chunk that begins with headway, −1 for another."""
    return [np.where(d.good, 1.0, -1.0) for d in bench.shown]


def label_spread(bench: Bench, *, staged: bool, bins: int = 20) -> float:
    """How much labels of frames differ whose true progress is alike: the label's deviation in each of 20 bins, mean."""
    order = bench.order if staged else ("task",)
    priors = temporal_proportions([d.stages for d in bench.shown], bench.order) if staged else {"task": 1.0}
    targets = [stage_targets(np.arange(len(d.truth)), d.stages, order, length=len(d.truth)) for d in bench.shown]
    label = normalised_progress(np.concatenate(targets), breakpoints_of(list(priors.values())))
    index = np.minimum((np.concatenate([d.truth for d in bench.shown]) * bins).astype(int), bins - 1)
    return float(np.mean([label[index == i].std() for i in np.unique(index)]))


def cloned_rows(policy: ControlPolicy, trajectories: Sequence[Trajectory]) -> ClonedRows:
    """Every frame that has an action: what was seen then, and the chunk that began there."""
    seen = np.concatenate([trajectory.observations[:-1] for trajectory in trajectories])
    samples = [Sample(str(i), "act", columns={"observation": observation}) for i, observation in enumerate(seen)]
    chunk = policy.module.config.chunk
    return ClonedRows(policy, samples, np.concatenate([chunks_of(t.actions, chunk) for t in trajectories]))


def cloned(trial: Trial, *, bench: Benches, gain: Gains | None = None) -> Measures:
    """One policy cloned from demonstrations, each frame weighted by its gain if any; how often it succeeds.

    `success` counts episodes that were solved in time, `late` those that were solved at all.
    """
    task = bench(trial)
    weigh = None if gain is None else RunningGainWeights(np.concatenate(gain(trial, task)), kappa=None)
    policy = task.world.policy(seed=trial.seed)
    policy.module.standardise(np.concatenate([d.trajectory.observations for d in task.shown]))
    rows = cloned_rows(policy, [d.trajectory for d in task.shown])
    train = replace(TRAIN, steps=5 if trial.quick else TRAIN.steps, seed=trial.seed)
    run = RowTrainer(rows, train, folder=trial.folder / "policy", weigh=weigh, progress=False).run()
    tries = policy.sample(task.tests, 1, generator=np.random.default_rng(0), greedy=True).completions
    return {
        "success": float(np.mean([t.success and len(t.actions) <= task.in_time for t in tries])),
        "late": float(np.mean([t.success for t in tries])),
        "weight": float(np.mean([row["weight"] for row in run.rows()])),
    }
