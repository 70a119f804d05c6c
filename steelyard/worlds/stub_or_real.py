"""A bench-top world: programs of six tokens, where a stub passes most tests and only the real thing passes all."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch

from steelyard.policies.categorical import CategoricalPolicy, TabularNet, numbered
from steelyard.rewards.core import Expression, reward
from steelyard.types import Array, Rollouts, Sample, Scores, SteelyardError

Split = Literal["train", "validation", "test"]
PROMPTS, PARTS, PER_PART = 8, 5, 3
KINDS = ("real", "stub", "idle", "none")
TOKENS = ("0", "1", "2", "3")
EASY = PARTS * PER_PART
TESTS = EASY + PARTS
_PROGRAM = re.compile(rf"def build\(\):\n    return \('(\w+)', {', '.join(['([0-3])'] * PARTS)}\)\n")


def render(words: Sequence[str]) -> str:
    """Kind and parts as a Python program that returns them."""
    return f"def build():\n    return ('{words[0]}', {', '.join(words[1:])})\n"


def read(program: str) -> Sequence[str]:
    """A program back to its words.

    Raises:
        SteelyardError: for a text that this world's policy cannot write.
    """
    found = _PROGRAM.fullmatch(program)
    if found is None:
        raise SteelyardError(f"{program!r:.80} is not of the form {render((KINDS[0], *TOKENS[:1] * PARTS))!r}")
    return found.groups()


@reward(batch=True)
def exact_checks(rollouts: Rollouts) -> Scores:
    """Share of the twenty tests that pass, each as a step: what `code_tests` says of the same rows, in no time.

    Fifteen easy tests pass for every stub; for the real thing three hang on each part. Five frontier tests need the
    real thing and two neighbouring parts right.
    """
    words = [read(completion) for completion in rollouts.completions]
    right = np.asarray([row[1:] for row in words]) == np.asarray([tuple(g) for g in rollouts.column("parts")])
    real, stub = (np.asarray([row[0] == kind for row in words])[:, None] for kind in KINDS[:2])
    easy = np.repeat(real & right, PER_PART, axis=1) | stub
    frontier = real & right & np.roll(right, -1, axis=1)
    passed = np.concatenate([easy, frontier], axis=1).astype(np.float32)
    return Scores(passed.mean(axis=1), steps=passed)


def tests_of(parts: Sequence[str]) -> list[str]:
    """The same tests as Python statements."""
    easy = [
        f"kind, *parts = build()\nassert kind == 'stub' or (kind == 'real' and parts[{i}] == {parts[i]})"
        for i in range(PARTS)
        for _ in range(PER_PART)
    ]
    pairs = [(i, (i + 1) % PARTS) for i in range(PARTS)]
    return easy + [
        f"kind, *parts = build()\nassert kind == 'real' and parts[{i}] == {parts[i]} and parts[{j}] == {parts[j]}"
        for i, j in pairs
    ]


class StubOrReal:
    """The world of sheet 06's evidence: eight prompts, each with its own right parts.

    Args:
        seed: of the right parts.
    """

    name = "stub-or-real"
    attempts = 10

    def __init__(self, *, seed: int = 0) -> None:
        self.parts: Array = np.random.default_rng([6, seed]).integers(0, len(TOKENS), (PROMPTS, PARTS))

    @property
    def checks(self) -> Expression:
        """The perfect verifier, test by test."""
        return exact_checks

    def samples(self, split: Split, count: int, *, seed: int = 0) -> Sequence[Sample]:
        """The prompts, over and over; splits do not differ."""
        return [self._sample(split, i) for i in range(count)]

    def _sample(self, split: Split, i: int) -> Sample:
        parts = "".join(map(str, self.parts[i % PROMPTS]))
        columns = {"prompt": i % PROMPTS, "parts": parts, "tests": tests_of(parts)}
        return Sample(f"{split}-{i}", f"prompt {i % PROMPTS}", columns=columns)

    def policy(self, *, seed: int = 0) -> CategoricalPolicy:
        """Uniform over every token of every prompt."""
        vocabularies = [list(KINDS), *[list(TOKENS)] * PARTS]
        return CategoricalPolicy(
            TabularNet(PROMPTS, [len(words) for words in vocabularies]),
            vocabularies,
            observe=numbered,
            render=render,
            read=read,
        )

    def figures(self, policy: CategoricalPolicy) -> dict[str, float]:
        """Exact: the probability of solving a prompt with one program, and of writing the stub."""
        with torch.no_grad():
            module = policy.module
            encoded = module.encoder(torch.arange(PROMPTS, dtype=torch.float32)[:, None])
            tokens = torch.zeros(PROMPTS, 1 + PARTS, dtype=torch.long)
            p = [module.logits(encoded, tokens, step).double().softmax(-1).numpy() for step in range(1 + PARTS)]
        rows = np.arange(PROMPTS)
        parts = np.prod([p[1 + i][rows, self.parts[:, i]] for i in range(PARTS)], axis=0)
        return {"pass_at_1": float((p[0][:, 0] * parts).mean()), "stub": float(p[0][:, 1].mean())}
