"""A bench-top world: six tiny frames of a blob that moves one of four ways."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch

from steelyard.perturb.video import outdoor_corruptions
from steelyard.policies.categorical import CategoricalNet, CategoricalPolicy
from steelyard.rewards.consistency import same_words
from steelyard.types import Array, Sample, SteelyardError

Split = Literal["train", "validation", "test"]

FRAMES, SIZE = 6, 12
DIRECTIONS = {
    "right": ("horizontal", "positive"),
    "left": ("horizontal", "negative"),
    "down": ("vertical", "positive"),
    "up": ("vertical", "negative"),
}
QUESTION = "Which way does the blob move: right, left, down or up?"
_SPLITS = {"train": 0, "validation": 1, "test": 2}
_COMPLETION = re.compile(r"<think>(\w+) (\w+)</think><answer>(\w+)</answer>")


def clips(directions: Array, generator: np.random.Generator) -> Array:
    """Clips uint8 [N, T, 12, 12, 3] of a soft bright blob crossing a dim noisy ground.

    Args:
        directions: int [N], index into `DIRECTIONS`.
        generator: of start, speed, size, brightness and noise.
    """
    n = len(directions)
    speed = generator.uniform(0.8, 1.4, n)
    steps = (np.arange(FRAMES) - (FRAMES - 1) / 2)[None, :] * speed[:, None]
    centre = (SIZE - 1) / 2 + generator.uniform(-1.5, 1.5, (2, n, 1))
    sign = np.where(directions % 2 == 0, 1.0, -1.0)[:, None]
    horizontal = (directions < 2)[:, None]
    x = centre[0] + np.where(horizontal, sign * steps, 0.0)
    y = centre[1] + np.where(horizontal, 0.0, sign * steps)
    radius, light = generator.uniform(1.0, 1.6, (n, 1, 1, 1)), generator.uniform(0.6, 1.0, (n, 1, 1, 1))
    grid = np.arange(SIZE)
    distance = (grid[None, None, None, :] - x[..., None, None]) ** 2 + (
        grid[None, None, :, None] - y[..., None, None]
    ) ** 2
    frames = 0.15 + light * np.exp(-distance / (2 * radius**2)) * 0.85 + generator.normal(0, 0.03, distance.shape)
    return np.repeat((np.clip(frames, 0, 1) * 255).astype(np.uint8)[..., None], 3, axis=-1)


def gold(direction: str) -> str:
    """The right completion: the axis and the sign as reasoning, then the answer."""
    return f"<think>{' '.join(DIRECTIONS[direction])}</think><answer>{direction}</answer>"


class MovingBlob:
    """The world of sheet 01's bench-top evidence.

    Args:
        warmup: supervised steps on clean clips before reinforcement learning begins.
    """

    name = "moving-blob"
    attempts = 8
    _kinds = ("fog", "snow", "dark", "bright", "dynamic_occlusion", "motion_blur")
    corruptions = outdoor_corruptions(_kinds, severities=(3, 4, 5))
    test_corruptions = corruptions
    similarity = staticmethod(same_words)

    def __init__(self, *, warmup: int = 150) -> None:
        self.warmup = warmup

    def samples(self, split: Split, count: int, *, seed: int = 0) -> Sequence[Sample]:
        """`count` clips with their answers; the same split and seed give the same clips."""
        generator = np.random.default_rng([_SPLITS[split], seed])
        directions = generator.integers(0, 4, count)
        words = list(DIRECTIONS)
        videos = clips(directions, generator)
        return [
            Sample(
                f"{split}-{seed}-{i:06d}",
                QUESTION,
                video=videos[i],
                columns={
                    "answer": words[d],
                    "problem_type": "multiple choice",
                    "solution": gold(words[d]),
                    "reasoning": " ".join(DIRECTIONS[words[d]]),
                },
            )
            for i, d in enumerate(directions)
        ]

    def policy(self, *, seed: int = 0) -> CategoricalPolicy:
        """A network warm-started on clean clips by supervision: near-perfect there, worse under corruption."""
        torch_generator_state = torch.get_rng_state()
        torch.manual_seed(seed)
        module = CategoricalNet(FRAMES * SIZE * SIZE, [2, 2, 4])
        torch.set_rng_state(torch_generator_state)
        vocabularies = [["horizontal", "vertical"], ["positive", "negative"], list(DIRECTIONS)]
        policy = CategoricalPolicy(module, vocabularies, observe=observe, render=render, read=read)
        self._warm_start(policy, seed)
        return policy

    def _warm_start(self, policy: CategoricalPolicy, seed: int) -> None:
        """Supervision on the gold completion, and on the gold answer behind reasoning that is right only by chance.

        So the answer leans on the frames as much as on the words before it, as in real models, whose reasoning need
        not be what they answer from: only then is agreement of the reasoning something of its own.
        """
        samples = self.samples("train", 64 * self.warmup, seed=10_000 + seed)
        generator = np.random.default_rng([3, seed])
        optimiser = torch.optim.Adam(policy.module.parameters(), lr=1e-3)
        for step in range(self.warmup):
            batch = samples[64 * step : 64 * (step + 1)]
            solutions = [sample.columns["solution"] for sample in batch]
            loose = [_with_reasoning(solution, generator) for solution in solutions]
            loss = -policy.logprobs(policy.encode(batch, solutions)).mean()
            loss = loss - policy.logprobs(policy.encode(batch, loose))[:, -1].mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()


def _with_reasoning(completion: str, generator: np.random.Generator) -> str:
    reasons = list(DIRECTIONS.values())
    return render([*reasons[int(generator.integers(4))], read(completion)[2]])


def observe(sample: Sample) -> Array:
    """Grey values in [−0.5, 0.5], float32 [T · H · W]."""
    if sample.video is None:
        raise SteelyardError(
            f"sample {sample.id!r} has no video; this policy looks at {FRAMES} frames of {SIZE}×{SIZE}"
        )
    return (sample.video[..., 0].astype(np.float32) / 255.0 - 0.5).reshape(-1)


def render(words: Sequence[str]) -> str:
    """Axis, sign, answer to a completion."""
    return f"<think>{words[0]} {words[1]}</think><answer>{words[2]}</answer>"


def read(completion: str) -> Sequence[str]:
    """A completion back to axis, sign, answer."""
    found = _COMPLETION.fullmatch(completion)
    if found is None:
        raise SteelyardError(f"{completion!r:.80} is not of the form {render(('axis', 'sign', 'answer'))}")
    return found.groups()
