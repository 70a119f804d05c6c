"""A bench-top world: instructions that share their wording and differ in one concept, and a small reward model."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from steelyard.rewards.core import Expression, Memo
from steelyard.types import Array, Pairs, Rollouts, Sample, Scores

CONCEPTS, SYNONYMS, CONTEXT, POOR = 10, 12, 30, 4
VOCABULARY = CONCEPTS * SYNONYMS + CONTEXT + POOR
_CONTEXT, _POOR = CONCEPTS * SYNONYMS, CONCEPTS * SYNONYMS + CONTEXT


class LookAlikes:
    """The world of sheet 04's evidence: texts of numbered tokens; ten concepts with twelve synonyms each.

    An instruction is four context tokens and one concept token; a good answer six tokens, three of them synonyms of
    its concept; a bad one speaks of another concept (60%) or has three tokens of poor style (40%).

    Args:
        seed: of everything; the encoder's clusters too.
    """

    name = "look-alikes"

    def __init__(self, *, seed: int = 0) -> None:
        self.generator = np.random.default_rng([4, seed])
        centres = self.generator.normal(size=(CONCEPTS, 16))
        spread = 0.35 * self.generator.normal(size=(CONCEPTS, SYNONYMS, 16))
        others = self.generator.normal(size=(CONTEXT + POOR, 16))
        self.vectors: Array = np.concatenate([(centres[:, None] + spread).reshape(-1, 16), others])

    def embed(self, texts: Sequence[str]) -> Array:
        """The fixed encoder of a text's lines: of each the mean of its tokens' vectors, length 1 [N, 16 · lines].

        Synonyms lie near each other, so instructions with one context and two concepts have a cosine of about 0.8.
        """
        return np.stack([np.concatenate([self._direction(line) for line in text.split("\n")]) for text in texts])

    def _direction(self, line: str) -> Array:
        mean = self.vectors[tokens(line)].mean(axis=0)
        return mean / np.linalg.norm(mean)

    def pairs(self, count: int) -> Pairs:
        """A good and a bad answer to each of `count` instructions."""
        rows = [self._pair(i) for i in range(count)]
        return Pairs([row[0] for row in rows], [row[1] for row in rows], [row[2] for row in rows])

    def look_alikes(self, count: int) -> tuple[list[list[Sample]], list[list[str]]]:
        """Two instructions with the same context and different concepts, and a good answer to each, `count` times."""
        instructions, answers = [], []
        for i in range(count):
            context = self._context(4)
            two = self.generator.permutation(CONCEPTS)[:2]
            instructions.append([self._instruction(f"c{i}-{side}", context, c) for side, c in enumerate(two)])
            answers.append([self._answer(c) for c in two])
        return instructions, answers

    def rewrites(self, answer: str, count: int) -> list[str]:
        """The same answer with about half of its concept tokens replaced by synonyms; the meaning stays."""
        given = tokens(answer)
        drawn = np.where(given < _CONTEXT, given // SYNONYMS * SYNONYMS, given)
        other = drawn + self.generator.integers(0, SYNONYMS, (count, len(given)))
        change = (given < _CONTEXT) & (self.generator.random((count, len(given))) < 0.5)
        return [" ".join(map(str, row)) for row in np.where(change, other, given)]

    def _pair(self, i: int) -> tuple[Sample, str, str]:
        concept, other = self.generator.permutation(CONCEPTS)[:2]
        off_topic = self.generator.random() < 0.6
        bad = self._answer(other) if off_topic else self._answer(concept, poor=True)
        return self._instruction(f"i{i}", self._context(4), concept), self._answer(concept), bad

    def _context(self, count: int) -> Array:
        return _CONTEXT + self.generator.integers(0, CONTEXT, count)

    def _words(self, concept: int, count: int) -> Array:
        return concept * SYNONYMS + self.generator.integers(0, SYNONYMS, count)

    def _instruction(self, name: str, context: Array, concept: int) -> Sample:
        return Sample(name, " ".join(map(str, [*context, *self._words(concept, 1)])))

    def _answer(self, concept: int, *, poor: bool = False) -> str:
        rest = _POOR + self.generator.integers(0, POOR, 3) if poor else self._context(3)
        return " ".join(map(str, [*self._words(concept, 3), *rest]))


@functools.lru_cache(maxsize=1 << 16)
def tokens(text: str) -> Array:
    """The numbers of a text's tokens."""
    return np.asarray(text.split(), np.int64)


class BagNet(nn.Module):
    """r(i, y) = MLP([i, y, i·y]) of the means of learned token vectors, 16 wide."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.EmbeddingBag(VOCABULARY, 16, mode="mean")
        self.head = nn.Sequential(nn.Linear(48, 32), nn.ReLU(), nn.Linear(32, 1))

    def forward(self, instructions: Tensor, answers: Tensor) -> Tensor:
        """[B] from tokens [B, 5] and [B, 6]."""
        i, y = self.tokens(instructions), self.tokens(answers)
        return self.head(torch.cat([i, y, i * y], dim=1))[:, 0]


class BagReward(Expression):
    """A `BagNet` as a reward, and as a model that pairs train.

    Args:
        seed: of its first weights.
    """

    def __init__(self, *, seed: int = 0, name: str = "bag") -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.module = BagNet()
        self.name = name

    def both(self, pairs: Pairs, *, copy: str | None = None) -> tuple[Tensor, Tensor]:
        """Scores [B, 2] and lengths of 1; see `learn.pairs.PairModel`."""
        scores = [self._scores(pairs.samples, side) for side in (pairs.chosen, pairs.rejected)]
        both = torch.stack(scores, dim=1)
        return both, torch.ones_like(both)

    def snapshot(self, name: str) -> None:
        """Nothing: reward models are trained without a reference."""

    def _scores(self, samples: Sequence[Sample], answers: Sequence[str]) -> Tensor:
        instructions = torch.from_numpy(np.stack([tokens(str(sample.prompt)) for sample in samples]))
        return self.module(instructions, torch.from_numpy(np.stack([tokens(answer) for answer in answers])))

    def _compute(self, rollouts: Rollouts, memo: Memo) -> Scores:
        with torch.inference_mode():
            values = self._scores(rollouts.samples, [str(c) for c in rollouts.completions]).numpy()
        return Scores(values, parts={self.name: values})
