"""A bench-top world of prompts whose answers the policy is sure of, mostly of wrong ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch

from steelyard.policies.categorical import CategoricalPolicy, TabularNet, from_tags, in_tags
from steelyard.types import Array, Sample

Split = Literal["train", "validation", "test"]

PROMPTS, ANSWERS, SURE = 128, 12, 3.0


class StubbornMistakes:
    """The world of sheet 10's evidence: 128 unrelated prompts of 12 answers, a softmax each.

    On three of four prompts the policy starts with logit 3 on a wrong answer (they are hard), on the others with
    logit 3 on the right one. Most groups are all wrong, and GRPO learns nothing from them.

    Args:
        seed: of the answers, which are the same for every training seed.
    """

    name = "stubborn-mistakes"
    attempts = 6

    def __init__(self, *, seed: int = 0) -> None:
        generator = np.random.default_rng([10, seed])
        self.right = generator.integers(0, ANSWERS, PROMPTS)
        self.hard = np.arange(PROMPTS) % 4 != 0
        wrong = (self.right + generator.integers(1, ANSWERS, PROMPTS)) % ANSWERS
        self.favourite = np.where(self.hard, wrong, self.right)

    def samples(self, split: Split, count: int, *, seed: int = 0) -> Sequence[Sample]:
        """The prompts, over and over until there are `count`; every split has the same ones."""
        prompts = [
            Sample(f"prompt-{i}", f"prompt {i}", columns={"answer": str(self.right[i]), "number": i})
            for i in range(PROMPTS)
        ]
        return [prompts[i % PROMPTS] for i in range(count)]

    def policy(self, *, seed: int = 0) -> CategoricalPolicy:
        """The policy that is sure of its favourites; the same for every seed."""
        module = TabularNet(PROMPTS, [ANSWERS])
        with torch.no_grad():
            module.tables[0][torch.arange(PROMPTS), torch.from_numpy(self.favourite)] = SURE
        words = [[str(i) for i in range(ANSWERS)]]
        return CategoricalPolicy(module, words, observe=_number, render=in_tags, read=from_tags)

    def rightness(self, policy: CategoricalPolicy) -> Array:
        """float64 [128]: the exact probability that a policy gives the right answer, prompt by prompt."""
        with torch.no_grad():
            chances = policy.module.tables[0].softmax(-1).double().numpy()  # type: ignore[union-attr]
        return chances[np.arange(PROMPTS), self.right]


def _number(sample: Sample) -> Array:
    return np.asarray([sample.columns["number"]], np.float32)
