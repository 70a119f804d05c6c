"""A bench-top world: a log-linear policy that has seen a few good answers and must go on from its own judgement."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from steelyard.learn.supervised import supervised
from steelyard.policies.categorical import CategoricalPolicy, LinearNet, chances, choosing
from steelyard.types import Array, Sample

Split = Literal["train", "validation", "test"]
WIDTH, CANDIDATES, PROMPTS, SHOWN, FRESH = 20, 30, 150, 300, 300
_FIRST = {"train": 0, "validation": PROMPTS, "test": PROMPTS + SHOWN}


class SelfTaught:
    """The world of sheet 22's evidence: utility w·φ with ‖w‖ = 1.5 over 30 candidates a prompt, d = 20.

    Args:
        seed: of features, w and the policy's start θ_0 = 0.3 w + 0.35 ε.
    """

    name = "self-taught"
    attempts = 5

    def __init__(self, *, seed: int = 0) -> None:
        generator = np.random.default_rng([22, seed])
        direction = generator.normal(size=WIDTH)
        self.direction: Array = 1.5 * direction / np.linalg.norm(direction)
        self.start: Array = 0.3 * self.direction + 0.35 * generator.normal(size=WIDTH)
        self.features: Array = generator.normal(size=(PROMPTS + SHOWN + FRESH, CANDIDATES, WIDTH)).astype(np.float32)
        self.utility: Array = self.features @ self.direction
        self._order = generator

    def samples(self, split: Split, count: int, *, seed: int = 0) -> Sequence[Sample]:
        """The first prompts of a split: 150 to train on, 300 with a good answer shown, 300 fresh ones."""
        first = _FIRST[split]
        return [Sample(f"{split}-{i}", f"prompt {first + i}", columns={"prompt": first + i}) for i in range(count)]

    def policy(self, *, seed: int = 0) -> CategoricalPolicy:
        """θ_1: the start after supervision on one good answer to each of 300 prompts; its copy `initial` is θ_0."""
        answers = [f"answer {i}" for i in range(CANDIDATES)]
        policy = choosing(LinearNet(self.features, self.start), answers)
        policy.snapshot("initial")
        policy.snapshot("previous")
        shown = self.samples("validation", SHOWN)
        best = [f"answer {int(self.utility[sample.columns['prompt']].argmax())}" for sample in shown]
        generator = np.random.default_rng([1, seed])
        supervised(policy, shown, best, steps=60, batch=100, lr=0.05, generator=generator, progress=False)
        return policy

    def expected_utility(self, policy: CategoricalPolicy) -> float:
        """Exact: Σ_r π(r|x) w·φ(x, r), the mean over fresh prompts."""
        rows = np.arange(_FIRST["test"], _FIRST["test"] + FRESH)
        return float((chances(policy, rows) * self.utility[rows]).sum(1).mean())
