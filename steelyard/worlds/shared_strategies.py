"""A bench-top world of problems that many strategies solve now and then: likely ones often, rare ones seldom."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch

from steelyard.policies.categorical import CategoricalPolicy, TabularNet, from_tags, in_tags
from steelyard.types import Array, Sample

Split = Literal["train", "validation", "test"]

STRATEGIES, LIKELY = 64, 8
_SPLITS = {"train": 0, "validation": 1, "test": 2}


class SharedStrategies:
    """The world of sheet 32's evidence: 64 strategies shared by all problems, one softmax, start weights 1/rank.

    Each strategy works on a problem at random: the 8 most likely on a share of 0.22 to 0.30 of them, the others on
    0.05 to 0.22. To solve more problems with many attempts, a policy must keep many strategies. Every seed has
    other shares and problems.
    """

    name = "shared-strategies"
    attempts = 32

    def samples(self, split: Split, count: int, *, seed: int = 0) -> Sequence[Sample]:
        """Problems, with the strategies that solve them as their right answers."""
        solved = [[str(i) for i in np.flatnonzero(row)] for row in works(split, count, seed=seed)]
        return [
            Sample(f"{split}-{seed}-{i:05d}", "Choose a strategy.", columns={"answer": answers})
            for i, answers in enumerate(solved)
        ]

    def policy(self, *, seed: int = 0) -> StrategyPolicy:
        """One softmax over the strategies, whose weight falls with their rank."""
        return StrategyPolicy(seed)


def works(split: Split, count: int, *, seed: int) -> Array:
    """bool [count, 64]: which strategies solve each problem of a split; the same seed gives the same problems."""
    shares = np.random.default_rng([32, seed])
    likely, rest = shares.uniform(0.22, 0.30, LIKELY), shares.uniform(0.05, 0.22, STRATEGIES - LIKELY)
    generator = np.random.default_rng([32, seed, _SPLITS[split]])
    found: Array = generator.random((count, STRATEGIES)) < np.concatenate([likely, rest])
    return found


class StrategyPolicy(CategoricalPolicy):
    """Takes a strategy without looking at the problem.

    Args:
        seed: of the problems that it is for.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        module = TabularNet(1, [STRATEGIES])
        with torch.no_grad():
            module.tables[0][0] = -torch.arange(1, STRATEGIES + 1).log()
        words = [[str(i) for i in range(STRATEGIES)]]
        super().__init__(module, words, observe=_nothing, render=in_tags, read=from_tags)

    def chances(self) -> Array:
        """float64 [64]: how likely it takes each strategy."""
        with torch.no_grad():
            found: Array = self.module.tables[0][0].softmax(-1).double().numpy()
        return found

    def solved(self, count: int) -> Array:
        """float64 [count]: the exact chance that one attempt solves each held-out problem."""
        found: Array = works("test", count, seed=self.seed) @ self.chances()
        return found


def _nothing(sample: Sample) -> Array:
    return np.zeros(1, np.float32)
