"""A bench-top world in which votes on one prompt move the answers to all others (sheet 26)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from steelyard.policies.categorical import CategoricalPolicy, LinearNet, chances, from_tags, in_tags, numbered
from steelyard.types import Array, Sample

Split = Literal["train", "validation", "test"]

WIDTH, ANSWERS, PROMPTS = 16, 6, 512
NOISE, HABIT, SPREAD = 0.08, 0.4, 0.5


class SharedVotes:
    """512 prompts x ∈ R^16 of 6 answers; the right one is argmax W x, and one linear policy answers all of them.

    The policy starts with logits (prior · W + 0.08 · noise) x + 0.3 · [answer 0], entries of W, the noise and x being
    standard normal. It knows a little, and prefers one answer a little. Rows are the same in every split: without
    labels there is nothing to hold out. Every seed has other prompts.

    Args:
        prior: how much of W the policy knows at first.
        seed: of W, the noise and the prompts.
    """

    name = "shared-votes"
    attempts = 8

    def __init__(self, *, prior: float = 0.12, seed: int = 0) -> None:
        generator = np.random.default_rng([26, seed])
        truth, noise = (generator.normal(size=(ANSWERS, WIDTH)) for _ in range(2))
        truth *= np.sqrt(WIDTH) / np.linalg.norm(truth, axis=1, keepdims=True)
        self.prompts = SPREAD * generator.normal(size=(PROMPTS, WIDTH))
        self.right = (self.prompts @ truth.T).argmax(axis=1)
        habit = HABIT * (np.arange(ANSWERS) == 0)
        self.start = np.concatenate([prior * truth + NOISE * noise, habit[:, None]], axis=1)

    def samples(self, split: Split, count: int, *, seed: int = 0) -> Sequence[Sample]:
        """The first `count` prompts, over and over where there are fewer."""
        rows = [
            Sample(f"prompt-{i}", f"prompt {i}", columns={"answer": str(right), "prompt": i})
            for i, right in enumerate(self.right)
        ]
        return [rows[i % PROMPTS] for i in range(count)]

    def policy(self, *, seed: int = 0) -> CategoricalPolicy:
        """The linear policy as it starts; the same for every seed."""
        with_habit = np.concatenate([self.prompts, np.ones((PROMPTS, 1))], axis=1)
        features = np.einsum("pd,ra->prad", with_habit, np.eye(ANSWERS)).reshape(PROMPTS, ANSWERS, -1)
        words = [[str(i) for i in range(ANSWERS)]]
        return CategoricalPolicy(
            LinearNet(features, self.start.ravel()), words, observe=numbered, render=in_tags, read=from_tags
        )

    def rightness(self, policy: CategoricalPolicy) -> Array:
        """float64 [512]: the exact probability that a policy gives the right answer, prompt by prompt."""
        return chances(policy, range(PROMPTS))[np.arange(PROMPTS), self.right]
