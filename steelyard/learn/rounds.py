"""Training in rounds: a policy labels pairs of its own answers, learns from them, and begins again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from steelyard.learn.config import TrainConfig
from steelyard.learn.pairs import PairTrainer, PolicyPairs, ScoringPolicy
from steelyard.learn.preferences import PairObjective
from steelyard.types import Array, Pairs, Rollouts, Sample, SteelyardError


@dataclass(frozen=True)
class Answers:
    """What a round's labels are made from.

    Attributes:
        rollouts: N answers to each of P prompts, those of one beside each other.
        current, previous, initial: float64 [P, N], log π(y|x) summed over steps, of the policy as the round begins,
            as the round before began, and as it was before any training.
        lengths: int64 [P, N], steps of every answer.
        round: 1 for the first; there `previous` and `initial` are the same policy.
    """

    rollouts: Rollouts
    current: Array
    previous: Array
    initial: Array
    lengths: Array
    round: int


Label = Callable[[Answers], Pairs]


def in_rounds(
    policy: ScoringPolicy,
    prompts: Sequence[Sequence[Sample]],
    *,
    n: int,
    label: Label,
    objective: PairObjective,
    config: TrainConfig,
    folder: Path,
    after: Callable[[int], None] = lambda number: None,
    progress: bool = True,
) -> None:
    """Self-rewarding training: sample, label, train on the pairs, once for each round.

    The policy must have the copies `initial` and `previous` (see `Policy.snapshot`); `previous` becomes the policy as
    every round began. The reference of the objective is the policy as its round begins. A run that was stopped goes on
    in the round where it was: rounds are drawn again from their seeds, and finished ones are read back.

    Args:
        policy: trained in place.
        prompts: of every round.
        n: answers to each prompt.
        label: makes pairs of answers; see `Answers`.
        objective, config: of each round's training.
        folder: each round trains in `round-K`.
        after: called with the number of every round that is done.
        progress: whether to show a live line.

    Raises:
        SteelyardError: for a round whose labels give no pair.
    """
    for number, samples in enumerate(prompts, 1):
        answers = answered(policy, samples, n, number, np.random.default_rng([config.seed, number]))
        pairs = label(answers)
        if not len(pairs):
            raise SteelyardError(f"round {number}: no prompt's answers differ in reward, so there is nothing to learn")
        policy.snapshot("previous")
        place = Path(folder) / f"round-{number}"
        PairTrainer(PolicyPairs(policy), objective, pairs, config, folder=place, progress=progress).run()
        after(number)


def answered(
    policy: ScoringPolicy, samples: Sequence[Sample], n: int, number: int, generator: np.random.Generator
) -> Answers:
    """N answers to each sample, with what three iterations of the policy say of them."""
    with torch.no_grad():
        rollouts = policy.sample(samples, n, generator=generator)
        assert rollouts.actions is not None
        mask = rollouts.actions.mask
        copies = (None, "previous", "initial")
        sums = [_sums(policy.logprobs(rollouts, copy=copy), mask).reshape(-1, n) for copy in copies]
    return Answers(rollouts, sums[0], sums[1], sums[2], mask.sum(1).reshape(-1, n), number)


def _sums(logprobs: torch.Tensor, mask: Array) -> Array:
    return np.where(mask, logprobs.detach().cpu().double().numpy(), 0.0).sum(axis=1)


def pairs_of(answers: Answers, best: Array, worst: Array, rows: Array, probability: Array) -> Pairs:
    """Pairs of one answer to each of some prompts.

    Args:
        best, worst: int [P], which of a prompt's N answers is chosen and rejected.
        rows: int [K], prompts that give a pair. probability: float [P], that its label is right.
    """
    n = answers.current.shape[1]
    chosen, rejected = rows * n + best[rows], rows * n + worst[rows]
    texts = answers.rollouts.completions
    return Pairs(
        [answers.rollouts.samples[i] for i in chosen],
        [texts[i] for i in chosen],
        [texts[i] for i in rejected],
        probability=probability[rows],
    )
