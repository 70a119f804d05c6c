"""A bench-top world of chains of letters that end when the policy says so (sheet 26)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from steelyard.policies.categorical import CategoricalPolicy
from steelyard.rewards.core import reward
from steelyard.types import Array, Rollouts, Sample

Split = Literal["train", "validation", "test"]

LETTERS, END, LONGEST = "abcd", "end", 12
START_NOISE, ENDING = 0.3, -0.6


class LetterChains:
    """Chains of up to 12 letters of four, written by a table of what follows what; a word more ends them.

    A policy starts with logits of N(0, 0.3), 0.6 less for the end, so that chains of every length are met. What is
    wanted, and no label-free reward knows, is the alphabet over and over: `in_order`. Every seed starts another table.

    Args:
        seed: of the table.
    """

    name = "letter-chains"
    attempts = 8

    def __init__(self, *, seed: int = 0) -> None:
        generator = np.random.default_rng([26, seed])
        self.start = generator.normal(0.0, START_NOISE, (len(LETTERS) + 1, len(LETTERS) + 1))
        self.start[:, -1] += ENDING

    def samples(self, split: Split, count: int, *, seed: int = 0) -> Sequence[Sample]:
        """The one prompt, `count` times."""
        return [Sample(f"{split}-{i}", "Write the letters in order.") for i in range(count)]

    def policy(self, *, seed: int = 0) -> ChainPolicy:
        """The table as it starts; the same for every seed."""
        return ChainPolicy(self.start)


class FollowingNet(nn.Module):
    """logits = W[the word before], the last row of W for the first word.

    Args:
        start: W at first, float [V, V], V words of which the last ends a chain, and so follows nothing.
    """

    def __init__(self, start: Array) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.as_tensor(start, dtype=torch.float32))

    def encoder(self, observation: Tensor) -> Tensor:
        """The observation, which tells nothing."""
        return observation

    def logits(self, encoded: Tensor, tokens: Tensor, step: int) -> Tensor:
        """[B, V]."""
        before = tokens[:, step - 1] if step else torch.full((len(encoded),), len(self.table) - 1)
        return self.table[before]


class ChainPolicy(CategoricalPolicy):
    """Writes letters until it says that it ends; steps behind the end are no steps."""

    def __init__(self, start: Array) -> None:
        words = [[*LETTERS, END]] * LONGEST
        super().__init__(FollowingNet(start), words, observe=_nothing, render=_render, read=_read)

    def _rollouts(self, samples: list[Sample], tokens: Array, logprobs: Array, group: Array) -> Rollouts:
        rollouts = super()._rollouts(samples, tokens, logprobs, group)
        assert rollouts.actions is not None
        ended = (tokens == len(LETTERS)).cumsum(axis=1) - (tokens == len(LETTERS))
        rollouts.actions.mask = ended == 0
        return rollouts


@reward
def in_order(completion: str) -> float:
    """The share of 11 places in which the next letter of the alphabet follows (a after d)."""
    return sum((ord(b) - ord(a)) % len(LETTERS) == 1 for a, b in itertools.pairwise(completion)) / 11


def _render(words: Sequence[str]) -> str:
    return "".join(words[: list(words).index(END)] if END in words else words)


def _read(completion: str) -> Sequence[str]:
    return [*completion, *[END] * (LONGEST - len(completion))]


def _nothing(sample: Sample) -> Array:
    return np.zeros(1, np.float32)
