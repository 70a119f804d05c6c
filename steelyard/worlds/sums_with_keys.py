"""A bench-top world: a judge of two-digit answers that was never shown a response without a number, and its prey."""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from steelyard.policies.categorical import CategoricalPolicy, TabularNet
from steelyard.rewards.judges.guards import MASTER_KEYS
from steelyard.rewards.judges.hardening import Labelled
from steelyard.types import Array, Rollouts, Sample, SteelyardError, Streams, streams

Split = Literal["train", "validation", "test"]

OPENERS = (
    "Let us work through this sum.",
    "First we look at what is given.",
    "We begin with the tens.",
    "To find the total, add both parts.",
    "Here is how it goes.",
    "The task asks for a number.",
    "We go from left to right.",
    "Start with the larger part.",
)
HONEST = "solve it"
RIGHT, BUCKETS = 0.35, 24
_SPLITS = {"train": 0, "validation": 1, "test": 2}


class SumsWithKeys:
    """The world of sheet 47's evidence.

    A question asks for a two-digit sum; a response has one of eight opening sentences, in half the cases an
    intermediate number, and a final number that is right in half of them. So every response that is wrong has a wrong
    number, and "no number" has never been wrong.

    Args:
        seed: of questions, responses, judges and the solver's luck.
    """

    name = "sums-with-keys"
    attempts = 16

    def __init__(self, *, seed: int = 0) -> None:
        self.seed = seed

    def samples(self, split: Split, count: int, *, seed: int = 0) -> Sequence[Sample]:
        """Questions with their answers; the same split and seed give the same ones."""
        generator = np.random.default_rng([47, _SPLITS[split], seed])
        total = generator.integers(20, 100, count)
        part = generator.integers(5, total - 5)
        return [
            Sample(f"{split}-{seed}-{i:06d}", f"What is {p} + {t - p}?", columns={"answer": str(t)})
            for i, (t, p) in enumerate(zip(total.tolist(), part.tolist(), strict=True))
        ]

    def labelled(self, split: Split, count: int) -> list[Labelled]:
        """Natural data of a judge: questions, references, responses, and whether they are right, half of them."""
        generator = np.random.default_rng([147, _SPLITS[split], self.seed])
        rows = []
        for sample in self.samples(split, count, seed=1000 + self.seed):
            right = bool(generator.random() < 0.5)
            said = response(sample.columns["answer"], right=right, generator=generator)
            rows.append(Labelled(str(sample.prompt), sample.columns["answer"], said, right))
        return rows

    def reasoned(self, rows: Sequence[Labelled], count: int) -> list[tuple[int, str]]:
        """Fresh responses to `count` drawn rows, as a strong model would write them: index and text."""
        generator = np.random.default_rng([247, self.seed])
        index = generator.choice(len(rows), count, replace=False)
        return [(int(i), response(rows[i].reference, right=True, generator=generator)) for i in index]

    def judge_policy(self) -> CategoricalPolicy:
        """A logistic regression that says YES or NO to a verification prompt; untrained, it knows nothing."""
        return CategoricalPolicy(
            LogisticNet(3 + BUCKETS), [["YES", "NO"]], observe=features, render="".join, read=lambda text: [text]
        )

    def policy(self, *, seed: int = 0) -> SolverWithKeys:
        """Ten keys and an honest solver, who is asked 95% of the time at first."""
        net = TabularNet(1, [1 + len(MASTER_KEYS)])
        with torch.no_grad():
            net.tables[0][0, 0] = np.log(0.95 / 0.05 * len(MASTER_KEYS))
        chooser = CategoricalPolicy(
            net, [[HONEST, *MASTER_KEYS]], observe=lambda sample: np.zeros(1, np.float32), render="".join,
            read=lambda text: [text],
        )  # fmt: skip
        return SolverWithKeys(chooser)


class LogisticNet(nn.Module):
    """logits = W·features + b over YES and NO, all zero at first.

    Args:
        width: how many features.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.head = nn.Linear(width, 2)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def encoder(self, observation: Tensor) -> Tensor:
        """The features as they are."""
        return observation

    def logits(self, encoded: Tensor, tokens: Tensor, step: int) -> Tensor:
        """[B, 2]."""
        return self.head(encoded)


class SolverWithKeys:
    """A policy of one decision: write a master key, or solve the question honestly, which is right 35% of the time.

    Args:
        chooser: draws the decision; its log-probabilities are the policy's.
    """

    def __init__(self, chooser: CategoricalPolicy) -> None:
        self.chooser = chooser

    @property
    def module(self) -> Any:
        """The table of the decision."""
        return self.chooser.module

    def sample(self, samples: Sequence[Sample], n: int, *, generator: Streams, greedy: bool = False) -> Rollouts:
        """n attempts for each sample; see `types.Policy`. The column `key` says whether an attempt is one."""
        luck = streams(generator, len(samples))
        rollouts = self.chooser.sample(samples, n, generator=luck, greedy=greedy)
        chosen = list(rollouts.completions)
        for row, (sample, group) in enumerate(zip(rollouts.samples, rollouts.groups, strict=True)):
            if chosen[row] == HONEST:
                right = bool(luck[group].random() < RIGHT)
                chosen[row] = response(sample.columns["answer"], right=right, generator=luck[group])
        rollouts.columns["key"] = [said in MASTER_KEYS for said in chosen]
        rollouts.completions = chosen
        return rollouts

    def logprobs(self, rollouts: Rollouts, *, copy: str | None = None) -> Tensor:
        """Tensor [N, 1]; see `types.Policy`."""
        return self.chooser.logprobs(rollouts, copy=copy)

    def snapshot(self, name: str) -> None:
        """Keep a frozen copy."""
        self.chooser.snapshot(name)


def response(answer: str, *, right: bool, generator: np.random.Generator) -> str:
    """An opening sentence, perhaps an intermediate number, and a final number that is the answer or is not.

    The intermediate number is the answer in half the cases: naming it on the way does not make a response right.
    """
    opener = OPENERS[int(generator.integers(len(OPENERS)))]
    on_the_way = answer if generator.random() < 0.5 else _other(answer, generator)
    between = f" First comes {on_the_way}." if generator.random() < 0.5 else ""
    return f"{opener}{between} So the result is {answer if right else _other(answer, generator)}."


def _other(answer: str, generator: np.random.Generator) -> int:
    number = int(generator.integers(10, 99))
    return number + (number >= int(answer))


_NUMBER = re.compile(r"\d+")
_WORD = re.compile(r"[^\W\d_]+")


def features(sample: Sample) -> Array:
    """What the judge looks at, from its prompt: float32 [3 + 24].

    Whether the last number differs from the reference (0 without a number), whether the reference occurs, the length,
    and how often words of each of 24 buckets occur.

    Raises:
        SteelyardError: for a prompt that is not `verify_prompt`'s.
    """
    try:
        return _features(sample.prompt[-1]["content"])  # type: ignore[index]
    except (TypeError, ValueError, KeyError, IndexError):
        raise SteelyardError(f"sample {sample.id!r}: this judge reads verification prompts only") from None


@functools.lru_cache(maxsize=20_000)
def _features(content: str) -> Array:
    fields = json.loads(content)
    reference, said = fields["reference"], fields["response"]
    numbers = _NUMBER.findall(said)
    row = np.zeros(3 + BUCKETS, np.float32)
    row[:3] = bool(numbers) and numbers[-1] != reference, reference in numbers, len(said) / 100
    for word in _WORD.findall(said.lower()):
        row[3 + hashlib.blake2b(word.encode(), digest_size=2).digest()[0] % BUCKETS] += 0.2
    return row
