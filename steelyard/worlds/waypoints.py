"""A bench-top world: a point visits three waypoints in order; its demonstrators dither, idle and go back (sheet 37)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from steelyard.policies.control import ControlPolicy, GaussianChunks, GaussianChunksConfig, Trajectory
from steelyard.rewards.progress import Stage
from steelyard.types import Array, Sample

Split = Literal["train", "validation", "test"]
ORDER = ("first", "second", "third")
WAYPOINTS = np.asarray([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
REACH, NOISE, SPEED, LONGEST = 0.1, 0.02, 0.06, 0.15
SIZE = 2 + len(ORDER)


@dataclass(frozen=True, eq=False)
class Demonstration:
    """What a demonstrator did: the trajectory, its stages, and of each frame whether it made headway, bool [t].

    `truth` is float64 [t + 1]: (stages done + share of the way to the next) of three, read off the true positions.
    """

    trajectory: Trajectory
    stages: tuple[Stage, ...]
    good: Array
    truth: Array


class Points:
    """Points side by side: position += action, held to a length of 0.15; a waypoint counts within 0.1, in order.

    Args:
        start: float [B, 2].
        generator: of what blurs the observations.
    """

    def __init__(self, start: Array, generator: np.random.Generator) -> None:
        self.start, self.generator = np.asarray(start, np.float64), generator
        self.position, self.stage = self.start.copy(), np.zeros(len(self.start), np.int64)

    def reset(self) -> Array:
        """See `policies.control.Environment`."""
        self.position, self.stage = self.start.copy(), np.zeros(len(self.start), np.int64)
        return self.observe()

    def step(self, actions: Array, acting: Array) -> tuple[Array, Array]:
        """See `policies.control.Environment`."""
        length = np.linalg.norm(actions, axis=1, keepdims=True)
        held = actions * np.minimum(1.0, LONGEST / np.maximum(length, 1e-9))
        self.position = np.where(acting[:, None], self.position + held, self.position)
        near = np.linalg.norm(self.target - self.position, axis=1) < REACH
        self.stage = np.where(acting & near & (self.stage < len(ORDER)), self.stage + 1, self.stage)
        return self.observe(), self.stage == len(ORDER)

    @property
    def target(self) -> Array:
        """The waypoint that each point is to visit next [B, 2]; the last one when all are done."""
        return WAYPOINTS[np.minimum(self.stage, len(ORDER) - 1)]

    def observe(self) -> Array:
        """float32 [B, 5]: position and the flags of the stage, each with a little noise."""
        flags = np.eye(len(ORDER) + 1)[self.stage][:, :-1]
        seen = np.concatenate([self.position, flags], axis=1)
        return (seen + self.generator.normal(0.0, NOISE, seen.shape)).astype(np.float32)

    def progress(self) -> Array:
        """[B], see `Demonstration.truth`."""
        before = np.concatenate([np.zeros((1, 2)), WAYPOINTS])[np.minimum(self.stage, len(ORDER) - 1)]
        left = np.linalg.norm(self.target - self.position, axis=1) / np.linalg.norm(self.target - before, axis=1)
        share = np.where(self.stage < len(ORDER), np.clip(1.0 - left, 0.0, 1.0), 0.0)
        return (self.stage + share) / len(ORDER)


class Waypoints:
    """The world of sheet 37's evidence.

    Args:
        seed: of the demonstrations.
    """

    name = "waypoints"
    attempts = 1
    patience = 300

    def __init__(self, *, seed: int = 0) -> None:
        self.seed = seed

    def demonstrations(self, count: int = 120, *, split: Split = "train") -> list[Demonstration]:
        """Episodes with log-normal speeds, one for each stage; four in five have spells of idling or going back."""
        split_number = ("train", "validation", "test").index(split)
        children = np.random.default_rng([37, self.seed, split_number]).spawn(count)
        return [_demonstrate(child, dithers=i % 5 > 0) for i, child in enumerate(children)]

    def samples(self, split: Split, count: int, *, seed: int = 0) -> Sequence[Sample]:
        """Where episodes begin: column `start`, a place near the origin; `blur` seeds what is seen."""
        generator = np.random.default_rng([37, seed, ("train", "validation", "test").index(split)])
        starts = generator.uniform(-0.15, 0.15, (count, 2))
        return [Sample(f"{split}-{i}", "visit", columns={"start": s, "blur": seed}) for i, s in enumerate(starts)]

    def environment(self, samples: Sequence[Sample]) -> Points:
        """The points of these samples."""
        start = np.stack([sample.columns["start"] for sample in samples])
        return Points(start, np.random.default_rng([37, int(samples[0].columns["blur"]), 9]))

    def policy(self, *, seed: int = 0, chunk: int = 2) -> ControlPolicy:
        """Two layers of 64, chunks of two steps."""
        import torch

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            module = GaussianChunks(GaussianChunksConfig(observation=SIZE, action=2, chunk=chunk))
        return ControlPolicy(module, environment=self.environment, patience=self.patience)


def _demonstrate(generator: np.random.Generator, *, dithers: bool) -> Demonstration:
    """One episode; a spell of 4 to 14 steps begins with probability 0.12 and is idle or backwards, half each."""
    points = Points(generator.uniform(-0.15, 0.15, (1, 2)), generator)
    speed = SPEED * generator.lognormal(0.0, 0.5, len(ORDER))
    seen, done, good, truth, edges = [points.reset()[0]], [], [], [points.progress()[0]], [0]
    left, back = 0, 0.0
    while points.stage[0] < len(ORDER):
        if dithers and left == 0 and generator.random() < 0.12:
            left, back = int(generator.integers(4, 15)), -0.6 * float(generator.random() < 0.5)
        stage = int(points.stage[0])
        way = points.target[0] - points.position[0]
        pace = speed[stage] * (back if left else 1.0)
        action = way / np.linalg.norm(way) * pace + generator.normal(0.0, 0.005, 2)
        observation, _ = points.step(action[None], np.ones(1, bool))
        seen.append(observation[0])
        done.append(action)
        good.append(left == 0)
        truth.append(points.progress()[0])
        left = max(0, left - 1)
        edges += [len(done)] if points.stage[0] > stage else []
    edges[-1] += 1  # a stage ends on the frame before the next one's first
    stages = tuple(Stage(name, a, b - 1) for name, (a, b) in zip(ORDER, itertools.pairwise(edges), strict=True))
    trajectory = Trajectory(np.stack(seen), np.asarray(done, np.float32), True)
    return Demonstration(trajectory, stages, np.asarray(good), np.asarray(truth))
