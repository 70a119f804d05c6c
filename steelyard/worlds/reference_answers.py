"""A bench-top world of questions whose reference answers no rule can check: reasonings to choose, words to expect."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch

from steelyard.policies.categorical import CategoricalPolicy, TabularNet
from steelyard.types import Array, Rollouts, Sample, SteelyardError, TextScores

Split = Literal["train", "validation", "test"]

QUESTIONS, REASONINGS, TELLINGS = 32, 8, 1024
CONTENT, WORDING = 3, 9
_COMPLETION = re.compile(r"<think>way (\d+) told (\d+)</think><answer>in my own words</answer>")
_THOUGHT = re.compile(r"<think>way (\d+) told (\d+)</think>")


class Questions:
    """32 questions, what each one's right reasoning is, and how its reference's words depend on a reasoning.

    Args:
        seed: of all of it.
    """

    def __init__(self, seed: int) -> None:
        generator = np.random.default_rng([40, seed])
        self.right = generator.integers(0, REASONINGS, QUESTIONS)
        self.easy = np.arange(QUESTIONS) % 4 == 0
        self.wording = generator.normal(-1.0, 1.5, (QUESTIONS, WORDING))
        self.noise = generator.normal(0.0, 2.0, (QUESTIONS, TELLINGS, WORDING))
        self.spread = generator.uniform(-0.05, 0.05, (QUESTIONS, TELLINGS, CONTENT))

    def probabilities(self, questions: Array, ways: Array, tellings: Array) -> Array:
        """float64 [N, 12]: how probable the reference's words are after a reasoning; way −1 is none at all.

        Args:
            questions, ways, tellings: int64 [N].
        """
        without = ways < 0
        content = np.where((ways == self.right[questions])[:, None], 0.7, 0.15)
        content = np.where(self.easy[questions][:, None], 0.85, content)
        told = np.where(without, 0, tellings)
        content = content + np.where(without[:, None], 0.0, self.spread[questions, told])
        noise = np.where(without[:, None], 0.0, self.noise[questions, told])
        return np.concatenate([content, 1 / (1 + np.exp(-self.wording[questions] - noise))], axis=1)

    def sample(self, number: int) -> Sample:
        """One of them as a row."""
        words = [f"fact{number}-{i}" for i in range(CONTENT)] + [f"word{number}-{i}" for i in range(WORDING)]
        columns = {"answer": " ".join(words), "right": int(self.right[number]), "easy": bool(self.easy[number])}
        return Sample(f"question-{number}", f"question {number}", columns=columns | {"number": number})


class ReferenceAnswers:
    """The world of sheet 40's evidence: 32 questions, 8 ways of reasoning each, one of them right.

    A reference has 3 words of content, whose probability is 0.7 after the right reasoning and 0.15 after another (each
    ± 0.05), and 9 words of wording, whose logit is a mean of the question's N(−1, 1.5) and, for each way of telling a
    reasoning, noise of deviation 2: how an answer is worded says nothing of whether it is right. A quarter of the
    questions are easy: their content has 0.85 whatever the reasoning. Answers are never word for word the reference,
    so that an exact match is never found. A policy chooses the reasoning; the telling is drawn and cannot be trained.
    Every seed has other questions.
    """

    name = "reference-answers"
    attempts = 8

    def samples(self, split: Split, count: int, *, seed: int = 0) -> Sequence[Sample]:
        """The questions, over and over until there are `count`; every split has the same ones."""
        questions = Questions(seed)
        rows = [questions.sample(number) for number in range(QUESTIONS)]
        return [rows[i % QUESTIONS] for i in range(count)]

    def policy(self, *, seed: int = 0) -> TellingPolicy:
        """A softmax over the reasonings of every question, uniform at first, for the questions of this seed."""
        return TellingPolicy(Questions(seed))


class TellingPolicy(CategoricalPolicy):
    """Chooses a reasoning and how to tell it, and says how probable a question's reference then is."""

    def __init__(self, questions: Questions) -> None:
        self.questions = questions
        module = TabularNet(QUESTIONS, [REASONINGS, TELLINGS])
        module.tables[1].requires_grad_(False)
        words = [[str(i) for i in range(size)] for size in (REASONINGS, TELLINGS)]
        super().__init__(module, words, observe=_number, render=render, read=read)

    def score_texts(
        self, samples: Sequence[Sample], texts: Sequence[str], *, spans: Array | None = None, copy: str | None = None
    ) -> TextScores:
        """Scores of the reference's words in texts that hold it; see `types.TextScorer`.

        How probable a reference is follows from the reasoning alone, so a copy answers as the policy itself does.

        Raises:
            SteelyardError: for a span that is not the sample's reference.
        """
        given = [(0, len(text)) for text in texts] if spans is None else np.asarray(spans).tolist()
        for sample, text, (start, end) in zip(samples, texts, given, strict=True):
            if text[start:end] != sample.columns["answer"]:
                raise SteelyardError(
                    f"{text[start:end]!r:.40} is not the reference of {sample.id!r}; it alone is known"
                )
        found = [_THOUGHT.match(text) for text in texts]
        thoughts = np.asarray([(-1, 0) if f is None else (int(f[1]), int(f[2])) for f in found], np.int64)
        questions = np.asarray([sample.columns["number"] for sample in samples], np.int64)
        p = self.questions.probabilities(questions, thoughts[:, 0], thoughts[:, 1])
        offsets = np.stack([word_offsets(text[a:b], a) for text, (a, b) in zip(texts, given, strict=True)])
        return TextScores(np.log(p).astype(np.float32), np.ones(p.shape, bool), offsets)

    def rightness(self) -> Array:
        """float64 [32]: the exact probability of taking the right reasoning, question by question."""
        with torch.no_grad():
            chances = self.module.tables[0].softmax(-1).double().numpy()
        return chances[np.arange(QUESTIONS), self.questions.right]


def word_offsets(text: str, start: int) -> Array:
    """int64 [T, 2]: where the words of a text that begins at character `start` stand."""
    return np.asarray([(start + word.start(), start + word.end()) for word in re.finditer(r"\S+", text)], np.int64)


def reasoned_right(rollouts: Rollouts) -> Array:
    """bool [N]: whether each completion's reasoning is the question's right one, which no reward is told."""
    rights = rollouts.column("right")
    return np.asarray([int(read(text)[0]) == right for text, right in zip(rollouts.completions, rights, strict=True)])


def render(words: Sequence[str]) -> str:
    """Reasoning and telling to a completion."""
    return f"<think>way {words[0]} told {words[1]}</think><answer>in my own words</answer>"


def read(completion: str) -> Sequence[str]:
    """A completion back to reasoning and telling."""
    found = _COMPLETION.fullmatch(completion)
    if found is None:
        raise SteelyardError(f"{completion!r:.80} is not of the form {render(('0', '0'))}")
    return found.groups()


def _number(sample: Sample) -> Array:
    return np.asarray([sample.columns["number"]], np.float32)
