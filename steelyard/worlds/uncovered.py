"""A bench-top world: preference pairs cover only mildly good answers; what looks even better is worse in truth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from steelyard.policies.categorical import CategoricalPolicy, LinearNet, chances, choosing
from steelyard.types import Array, Pairs, Sample

Split = Literal["train", "validation", "test"]
PROMPTS, COVERED, UNCOVERED, WIDTH = 40, 6, 14, 8
RESPONSES = COVERED + UNCOVERED


class Uncovered:
    """The world of sheet 33's evidence: 40 prompts, 20 answers each, of which pairs compare the first six.

    An answer has a feature s, in [0, 1] where it is covered and in [2, 4] elsewhere, and seven others z ~ N(0, 1). Its
    true reward is s + w·z up to s = 1 and 1 − 2(s − 1) + w·z beyond: what the data make look good is overdone there.

    Args:
        seed: of features, w and labels.
    """

    name = "uncovered"
    attempts = 8

    def __init__(self, *, seed: int = 0) -> None:
        generator = np.random.default_rng([33, seed])
        s = np.concatenate(
            [generator.uniform(0, 1, (PROMPTS, COVERED)), generator.uniform(2, 4, (PROMPTS, UNCOVERED))], axis=1
        )
        z = generator.normal(0, 1, (PROMPTS, RESPONSES, WIDTH - 1))
        direction = generator.normal(0, 1, WIDTH - 1)
        direction *= 0.7 / np.linalg.norm(direction)
        self.features: Array = np.concatenate([s[..., None], z], axis=-1).astype(np.float32)
        self.truth: Array = np.where(s <= 1, s, 1 - 2 * (s - 1)) + z @ direction
        self._labels = generator

    def samples(self, split: Split, count: int, *, seed: int = 0) -> Sequence[Sample]:
        """The prompts, over and over; splits do not differ."""
        return [Sample(f"{split}-{i}", f"prompt {i % PROMPTS}", columns={"prompt": i % PROMPTS}) for i in range(count)]

    def policy(self, *, seed: int = 0) -> CategoricalPolicy:
        """The uniform log-linear policy, which is also the reference."""
        return choosing(LinearNet(self.features), [f"answer {i}" for i in range(RESPONSES)])

    def pairs(self, count: int = 400) -> Pairs:
        """Covered answers compared: P(a ≻ b) = σ(r*(a) − r*(b))."""
        prompt = self._labels.integers(0, PROMPTS, count)
        two = np.stack([self._labels.permutation(COVERED)[:2] for _ in range(count)])
        rewards = self.truth[prompt[:, None], two]
        first = self._labels.random(count) < 1 / (1 + np.exp(rewards[:, 1] - rewards[:, 0]))
        chosen, rejected = np.where(first, two[:, 0], two[:, 1]), np.where(first, two[:, 1], two[:, 0])
        prompts = self.samples("train", PROMPTS)
        return Pairs(
            [prompts[i] for i in prompt], [f"answer {i}" for i in chosen], [f"answer {i}" for i in rejected],
        )  # fmt: skip

    def figures(self, policy: CategoricalPolicy) -> dict[str, float]:
        """Exact: the expected true reward, and the probability of answers that no pair covers."""
        p = chances(policy, range(PROMPTS))
        return {"reward": float((p * self.truth).sum(1).mean()), "uncovered": float(p[:, COVERED:].sum(1).mean())}
