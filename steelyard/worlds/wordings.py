"""A bench-top world: answers of fourteen facts, each of which can be worded in two ways (sheet 51)."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Literal

import numpy as np

from steelyard.policies.categorical import CategoricalPolicy, TabularNet
from steelyard.rewards.core import Expression, reward
from steelyard.types import Array, Rollouts, Sample

Split = Literal["train", "validation", "test"]

SLOTS, RIGHT, FACTS = 14, 2, 6
FILLERS, STOP = ("well", "indeed"), "<stop>"
VOCABULARIES = [[*(f"fact{slot}{'abcdef'[j]}" for j in range(FACTS)), *FILLERS, STOP] for slot in range(SLOTS)]


class Wordings:
    """Ten prompts; two of a slot's six facts are right, differently for every prompt, and mean the same.

    A reference picks one of the two for every slot. An answer's quality is right slots / 14 − 0.02 · wrong words. The
    policy is a table, so that training and test prompts are the same.

    Args:
        prompts: how many there are.
        references: how many each has.
    """

    name = "wordings"
    attempts = 8

    def __init__(self, *, prompts: int = 10, references: int = 5) -> None:
        generator = np.random.default_rng([51, prompts])
        self.right = np.stack(
            [[generator.choice(FACTS, RIGHT, replace=False) for _ in range(SLOTS)] for _ in range(prompts)]
        )
        picks = generator.integers(0, RIGHT, (prompts, 5, SLOTS))
        self._samples = [_prompt(i, self.right[i], picks[i, :references]) for i in range(prompts)]

    def samples(self, split: Split, count: int, *, seed: int = 0) -> Sequence[Sample]:
        """The first `count` prompts, the same in every split and for every seed."""
        return self._samples[:count]

    def policy(self, *, seed: int = 0) -> CategoricalPolicy:
        """A table that says any word of a slot alike."""
        module = TabularNet(len(self._samples), [len(words) for words in VOCABULARIES])
        return CategoricalPolicy(module, VOCABULARIES, observe=observe, render=render, read=read)

    def answers(self, count: int, generator: np.random.Generator) -> Rollouts:
        """Answers of random quality and length to random prompts, two in a row to the same one: pairs for a judge."""
        rows, texts = [], []
        for prompt in generator.integers(0, len(self._samples), count):
            for _ in range(2):
                rows.append(self._samples[prompt])
                texts.append(_answer(self.right[prompt], generator))
        return Rollouts(rows, texts, group=np.repeat(np.arange(count), 2))


def _prompt(number: int, right: Array, picks: Array) -> Sample:
    words = [[VOCABULARIES[slot][right[slot][pick[slot]]] for slot in range(SLOTS)] for pick in picks]
    facts = {VOCABULARIES[slot][j] for slot in range(SLOTS) for j in right[slot]}
    references = [" ".join(line) for line in words]
    columns = {"number": number, "references": references, "gold": references[:1], "facts": frozenset(facts)}
    return Sample(f"prompt-{number}", f"Tell fourteen facts about thing {number}.", columns=columns)


def _answer(right: Array, generator: np.random.Generator) -> str:
    length, skill = int(generator.integers(4, SLOTS + 1)), generator.random()
    words = []
    for slot in range(length):
        if generator.random() < 0.1:
            words.append(FILLERS[generator.integers(len(FILLERS))])
        elif generator.random() < skill:
            words.append(VOCABULARIES[slot][right[slot][generator.integers(RIGHT)]])
        else:
            wrong = [j for j in range(FACTS) if j not in right[slot]]
            words.append(VOCABULARIES[slot][wrong[generator.integers(len(wrong))]])
    return " ".join(words)


def quality_of(completion: str, facts: frozenset[str]) -> float:
    """Right slots / 14 − 0.02 · wrong facts."""
    said = [word for word in completion.split() if word not in FILLERS]
    right = sum(word in facts for word in said)
    return right / SLOTS - 0.02 * (len(said) - right)


@reward
def quality(completion: str, facts: frozenset[str]) -> float:
    """The answer's true quality, which no reward of the method sees."""
    return quality_of(completion, facts)


@reward
def length(completion: str) -> float:
    """Words / 14, in [0, 1]."""
    return len(completion.split()) / SLOTS


@reward(batch=True)
def reward_model(rollouts: Rollouts, *, noise: float = 0.15) -> Array:
    """The true quality with Gaussian noise that is fixed for an answer to a prompt, as a reward model's error is."""
    values = []
    for sample, text in zip(rollouts.samples, rollouts.completions, strict=True):
        generator = np.random.default_rng(zlib.crc32(f"{sample.id}|{text}".encode()))
        values.append(quality_of(text, sample.columns["facts"]) + generator.normal(0, noise))
    return np.asarray(values)


def agreement(judge: Expression, answers: Rollouts, generator: np.random.Generator, *, noise: float) -> float:
    """How often a reward prefers of two answers the one that a noisy person prefers; half a point for a tie.

    Args:
        judge: the reward.
        answers: two in a row to the same prompt.
        generator: of the person's doubts.
        noise: standard deviation of what a person adds to an answer's quality.
    """
    truth = quality(answers).values.astype(np.float64)
    seen = (truth + generator.normal(0, noise, len(truth))).reshape(-1, 2)
    scores = judge(answers).values.reshape(-1, 2)
    likes = np.sign(scores[:, 0] - scores[:, 1]) * np.sign(seen[:, 0] - seen[:, 1])
    return float((likes / 2 + 0.5).mean())


def observe(sample: Sample) -> Array:
    """The prompt's number, float32 [1]."""
    return np.asarray([sample.columns["number"]], np.float32)


def render(words: Sequence[str]) -> str:
    """The words before the first stop."""
    return " ".join(words[: words.index(STOP)] if STOP in words else words)


def read(completion: str) -> Sequence[str]:
    """An answer back to words, with stops behind it."""
    words = completion.split()
    return words + [STOP] * (SLOTS - len(words))
