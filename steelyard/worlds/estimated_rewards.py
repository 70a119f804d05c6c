"""A bench-top world: several estimates of one reward, good where data covered an answer and wild elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from steelyard.policies.categorical import CategoricalPolicy, TabularNet, chances, choosing
from steelyard.types import Array, Sample

Split = Literal["train", "validation", "test"]


@dataclass(frozen=True)
class Estimated:
    """The true reward [P, R], which answers data covered, and K heads' means and deviations [K, P, R]."""

    truth: Array
    covered: Array
    mu: Array
    sigma: Array


def estimated_rewards(
    generator: np.random.Generator, *, heads: int = 5, prompts: int = 8, responses: int = 8, broken: bool = False
) -> Estimated:
    """The world of sheet 18's evidence.

    Truth ~ N(0, 1); an answer is covered with probability 0.6. A head says truth + 0.15 e where it is covered and
    0.3 truth + 1.5 e elsewhere, with e = ½ e_shared + √¾ e_own; its σ is that error's size times a lognormal(0.3).

    Args:
        generator: of everything.
        heads: K. prompts: P. responses: R.
        broken: the last head says −truth, and is as sure of it as the others are.
    """
    truth = generator.normal(size=(prompts, responses))
    covered = generator.random((prompts, responses)) < 0.6
    shared, own = generator.normal(size=(prompts, responses)), generator.normal(size=(heads, prompts, responses))
    size = np.where(covered, 0.15, 1.5)
    mu = np.where(covered, truth, 0.3 * truth) + size * (0.5 * shared + np.sqrt(0.75) * own)
    sigma = size * generator.lognormal(0.0, 0.3, (heads, prompts, responses))
    if broken:
        mu[-1] = -truth
    return Estimated(truth, covered, mu, sigma)


class EstimatedRewards:
    """The same as a task for a trainer: 64 prompts, 8 answers each, a tabular policy that begins uniform.

    A sample's columns hold `prompt`, and `mu` and `sigma` [K, 8] of its answers.

    Args:
        seed: of truth and estimates.
    """

    name = "estimated-rewards"
    attempts = 8
    prompts, responses = 64, 8

    def __init__(self, *, seed: int = 0) -> None:
        self.drawn = estimated_rewards(np.random.default_rng([18, seed]), prompts=self.prompts)

    def samples(self, split: Split, count: int, *, seed: int = 0) -> Sequence[Sample]:
        """The prompts, over and over; splits do not differ."""
        return [self._sample(split, i) for i in range(count)]

    def _sample(self, split: str, i: int) -> Sample:
        row = i % self.prompts
        columns = {"prompt": row, "mu": self.drawn.mu[:, row], "sigma": self.drawn.sigma[:, row]}
        return Sample(f"{split}-{i}", f"prompt {row}", columns=columns)

    def policy(self, *, seed: int = 0) -> CategoricalPolicy:
        """The uniform policy."""
        return choosing(TabularNet(self.prompts, [self.responses]), [str(i) for i in range(self.responses)])

    def expected_truth(self, policy: CategoricalPolicy) -> float:
        """Exact: Σ_r π(r|x) r*(x, r), the mean over prompts."""
        return float((chances(policy, range(self.prompts)) * self.drawn.truth).sum(1).mean())
