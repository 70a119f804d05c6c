"""A judge that is a policy of the house: a trained verdict model, or a frozen copy of the one in training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from steelyard.types import Policy, Prompt, Sample, SteelyardError


class PolicyJudge:
    """Asks a policy for its most likely completion of each prompt.

    With a copy of the weights that the trainer changes it is self-judgement of the start; with the policy itself, the
    judge moves with it.

    Args:
        policy: anything that can `sample`; it must read text or chat messages.
        name: how logs call it.
        batch: prompts that are put to it at once.
    """

    def __init__(self, policy: Policy, *, name: str = "policy", batch: int = 64) -> None:
        if batch < 1:
            raise SteelyardError(f"judge {name!r}: batch is {batch}; it must be at least 1")
        self.policy, self.name, self.batch = policy, name, batch
        self.failures: Counter[str] = Counter()

    def __repr__(self) -> str:
        return f"PolicyJudge({self.name!r})"

    def ask(self, prompts: Sequence[Prompt]) -> list[str | None]:
        """One greedy completion a prompt, in order; None (counted in `failures`) where it is empty."""
        answers: list[str | None] = []
        samples = [Sample(f"judged-{i}", prompt) for i, prompt in enumerate(prompts)]
        for start in range(0, len(samples), self.batch):
            rows = samples[start : start + self.batch]
            said = self.policy.sample(rows, 1, generator=np.random.default_rng(0), greedy=True).completions
            answers += [text if isinstance(text, str) and text.strip() else None for text in said]
        self.failures["empty reply"] += sum(answer is None for answer in answers)
        return answers
