"""Fetch's pick-and-place of gymnasium-robotics, with a scripted demonstrator that may dither (sheet 37)."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from steelyard.policies.control import ControlPolicy, GaussianChunks, GaussianChunksConfig, Trajectory
from steelyard.rewards.progress import Stage
from steelyard.types import Array, Sample, SteelyardError

ORDER = ("reach", "grasp", "place")
TASK, SIZE, ACTIONS = "FetchPickAndPlace-v4", 31, 4
WORDS = "pick up the block and carry it to the mark"


@dataclass(frozen=True, eq=False)
class Demonstration:
    """What the demonstrator did: the trajectory (column `frames` uint8 [t + 1, H, W, 3], if rendered) and its stages.

    `good` is bool [t], whether a step made headway.
    """

    trajectory: Trajectory
    stages: tuple[Stage, ...]
    good: Array


class PickAndPlace:
    """A block on a table that is to be carried to a mark in the air or on the table.

    An observation has 31 numbers: the task's 25, the goal's 3, and the goal as seen from the block. Simulators are made
    once and used again. Frames are rendered where MuJoCo can (set MUJOCO_GL to egl or osmesa without a screen).

    Args:
        patience: simulator steps of an episode.
        size: side of rendered frames in pixels; 0 renders nothing.

    Raises:
        SteelyardError: if gymnasium-robotics is missing, or this MuJoCo does not run its task.
    """

    name = "pick-and-place"
    attempts = 1

    def __init__(self, *, patience: int = 90, size: int = 0) -> None:
        self.patience, self.size = patience, size
        self._simulators: list[Any] = []

    def simulators(self, count: int) -> list[Any]:
        """That many, side by side."""
        while len(self._simulators) < count:
            self._simulators.append(_simulator(self.size))
        return self._simulators[:count]

    def close(self) -> None:
        """Give the simulators back."""
        while self._simulators:
            self._simulators.pop().close()

    def samples(self, split: str, count: int, *, seed: int = 0) -> Sequence[Sample]:
        """Where episodes begin: column `start`, the simulator's seed."""
        first = {"train": 0, "validation": 10**6, "test": 2 * 10**6}[split] + 1000 * seed
        return [Sample(f"{split}-{seed}-{i}", WORDS, columns={"start": first + i}) for i in range(count)]

    def environment(self, samples: Sequence[Sample]) -> Simulated:
        """The simulators of these samples."""
        return Simulated(self.simulators(len(samples)), [int(sample.columns["start"]) for sample in samples])

    def policy(self, *, seed: int = 0, chunk: int = 2) -> ControlPolicy:
        """Two layers of 128."""
        import torch

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            config = GaussianChunksConfig(observation=SIZE, action=ACTIONS, chunk=chunk, hidden=128)
            return ControlPolicy(GaussianChunks(config), environment=self.environment, patience=self.patience)

    def demonstrations(self, samples: Sequence[Sample], *, dithers: float = 0.8) -> list[Demonstration]:
        """One scripted episode a sample; a share `dithers` of them idles or moves away in spells.

        Those that do not end in success are left out.
        """
        found = []
        for sample in samples:
            start = int(sample.columns["start"])
            generator = np.random.default_rng([37, start])
            one = _demonstrate(self.simulators(1)[0], start, generator, generator.random() < dithers, bool(self.size))
            found += [one] if one is not None else []
        return found


class Simulated:
    """Simulators side by side; see `policies.control.Environment`.

    Args:
        simulators: gymnasium environments. seeds: of their starts.
    """

    def __init__(self, simulators: Sequence[Any], seeds: Sequence[int]) -> None:
        self.simulators, self.seeds = list(simulators), list(seeds)
        self.seen = np.zeros((len(self.seeds), SIZE), np.float32)

    def reset(self) -> Array:
        """float32 [B, 31]."""
        starts = zip(self.simulators, self.seeds, strict=True)
        self.seen = np.stack([observed(simulator.reset(seed=seed)[0]) for simulator, seed in starts])
        return self.seen.copy()

    def step(self, actions: Array, acting: Array) -> tuple[Array, Array]:
        """Actions [B, 4]: the gripper's motion, and how wide it opens; held to [−1, 1]."""
        solved = np.zeros(len(self.simulators), bool)
        for i in np.flatnonzero(acting):
            seen, _, _, _, said = self.simulators[i].step(np.clip(actions[i], -1.0, 1.0).astype(np.float32))
            self.seen[i], solved[i] = observed(seen), bool(said["is_success"])
        return self.seen.copy(), solved


def observed(seen: Any) -> Array:
    """float32 [31] from the task's observation."""
    goal, block = seen["desired_goal"], seen["achieved_goal"]
    return np.concatenate([seen["observation"], goal, goal - block]).astype(np.float32)


def _simulator(size: int) -> Any:
    if size and sys.platform.startswith("linux") and not os.environ.get("DISPLAY"):
        os.environ.setdefault("MUJOCO_GL", "egl")
    import gymnasium
    import gymnasium_robotics

    gymnasium.register_envs(gymnasium_robotics)
    shown = {"render_mode": "rgb_array", "width": size, "height": size} if size else {}
    try:
        return gymnasium.make(TASK, max_episode_steps=10**6, disable_env_checker=True, **shown)
    except AssertionError:
        import mujoco

        raise SteelyardError(
            f"{TASK} does not run with mujoco {mujoco.__version__}; install 'mujoco<3.4' (steelyard[control] does)"
        ) from None


def _demonstrate(
    simulator: Any, start: int, generator: np.random.Generator, dithers: bool, render: bool, *, longest: int = 250
) -> Demonstration | None:
    """One episode, or None where the script did not get there; spells of 4 to 11 steps."""
    raw, _ = simulator.reset(seed=start)
    speed = np.clip(generator.lognormal(-0.2, 0.4, len(ORDER)), 0.3, 1.5)
    seen, done, good, edges = [observed(raw)], [], [], [0]
    frames = [simulator.render()] if render else []
    stage, held, left, back = 0, 0, 0, 0.0
    while len(done) < longest:
        if dithers and left == 0 and generator.random() < 0.12:
            left, back = int(generator.integers(4, 12)), -0.5 * float(generator.random() < 0.5)
        action = scripted(raw, stage)
        action[:3] *= speed[stage] * (back if left else 1.0)
        action[:3] += generator.normal(0.0, 0.02, 3)
        raw, _, _, _, said = simulator.step(np.clip(action, -1.0, 1.0).astype(np.float32))
        seen.append(observed(raw))
        done.append(np.clip(action, -1.0, 1.0))
        good.append(left == 0)
        frames += [simulator.render()] if render else []
        left, held = max(0, left - 1), held + 1 if stage == 1 else 0
        if stage < 2 and _arrived(raw, stage, held):
            stage, held, edges = stage + 1, 0, [*edges, len(done)]
        elif stage == 2 and said["is_success"]:
            columns = {"frames": np.stack(frames)} if render else {}
            bounds = zip(ORDER, edges, [*(edge - 1 for edge in edges[1:]), len(done)], strict=True)
            trajectory = Trajectory(np.stack(seen), np.asarray(done, np.float32), True, columns)
            return Demonstration(trajectory, tuple(Stage(*row) for row in bounds), np.asarray(good))
    return None


def scripted(raw: Any, stage: int) -> Array:
    """The script's action [4] in a stage: hover over the block and come down open; close; carry it to the mark."""
    gripper, block, goal = raw["observation"][:3], raw["achieved_goal"], raw["desired_goal"]
    if stage == 0:
        aside = np.linalg.norm((block - gripper)[:2])
        target = block + np.asarray([0.0, 0.0, 0.06 if aside > 0.01 else 0.0])
        return np.append(np.clip(10.0 * (target - gripper), -1.0, 1.0), 1.0)
    if stage == 1:
        return np.append(np.clip(10.0 * (block - gripper), -1.0, 1.0), -1.0)
    return np.append(np.clip(10.0 * (goal - block), -1.0, 1.0), -1.0)


def _arrived(raw: Any, stage: int, held: int) -> bool:
    if stage == 0:
        return bool(np.linalg.norm(raw["achieved_goal"] - raw["observation"][:3]) < 0.015)
    return held >= 4
