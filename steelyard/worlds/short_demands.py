"""A bench-top world of requests with several demands, each of which can be checked by itself (sheet 45)."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import torch

from steelyard.policies.recurrent import RecurrentNet, RecurrentPolicy
from steelyard.rewards.combinators import Combination
from steelyard.rewards.core import BatchReward, Expression
from steelyard.rewards.judges.rule import RuleJudge
from steelyard.rewards.rubrics import MET_PARTLY_NOT
from steelyard.types import Array, Prompt, Rollouts, Sample
from steelyard.worlds.noisy import Noisy

Split = Literal["train", "validation", "test"]
Words = list[str]

WORDS = list("abcdefghijklm")
LONGEST = 20
ASKED = range(6, 17)
_SPLITS = {"train": 0, "validation": 1, "test": 2}
_LABELS = {credit: label for label, credit in MET_PARTLY_NOT.items()}


class Demand(NamedTuple):
    """What a request may ask for, and how far words meet it: 1, 0.5 or 0."""

    text: str
    credit: Callable[[Words], float]


def _before(first: str, second: str) -> Demand:
    def credit(words: Words) -> float:
        return float({first, second} <= {*words} and words.index(first) < words.index(second))

    return Demand(f"says {first} before {second}", credit)


def _says(word: str) -> tuple[Demand, Demand]:
    return (
        Demand(f"says {word}", lambda words: float(word in words)),
        Demand(f"never says {word}", lambda words: float(word not in words)),
    )


def _pairs(words: Words) -> bool:
    return any(a == b for a, b in itertools.pairwise(words))


AXES: tuple[tuple[Demand, Demand], ...] = (
    (
        Demand("begins with a", lambda words: float(words[0] == "a")),
        Demand("begins with b", lambda words: float(words[0] == "b")),
    ),
    (
        Demand("ends with c", lambda words: float(words[-1] == "c")),
        Demand("ends with d", lambda words: float(words[-1] == "d")),
    ),
    (
        Demand("says e three times", lambda words: 1.0 if words.count("e") >= 3 else 0.5 * ("e" in words)),
        Demand("never says e", lambda words: float("e" not in words)),
    ),
    (_before("f", "g"), _before("g", "f")),
    _says("h"),
    _says("i"),
    (
        Demand("says no word twice in a row", lambda words: float(not _pairs(words))),
        Demand("says a word twice in a row", lambda words: float(_pairs(words))),
    ),
    (
        Demand("says both j and k", lambda words: len({"j", "k"} & {*words}) / 2),
        Demand("says neither j nor k", lambda words: 1 - len({"j", "k"} & {*words}) / 2),
    ),
)
"""Eight axes, each with two opposite demands."""
_DEMANDS = {demand.text: demand for axis in AXES for demand in axis}


class ShortDemands:
    """The world of sheet 45's evidence: texts of up to 20 words out of 13, 3 to 6 demands, 6 to 16 words asked for.

    Columns of a sample: `rubric`, its own checks; `other_rubric`, those of another request; `length_band`, the number
    of words; `demands`, the checks' texts. The verifier is exact; the impression is one noisy, compressed mark of the
    same satisfaction. The policy is a gated recurrent unit that sees which demands are made and how long the text
    should be.

    Args:
        seed: of the impression's noise.
    """

    name = "short-demands"
    attempts = 8

    def __init__(self, *, seed: int = 0) -> None:
        self.verifier = RuleJudge(verdict, name="short-demands")
        self.impression = _mark(Noisy(BatchReward(_impressed, "impression"), 1.0, seed=seed))

    def samples(self, split: Split, count: int, *, seed: int = 0) -> Sequence[Sample]:
        """Requests of this split: other ones for every seed."""
        generator = np.random.default_rng([45, _SPLITS[split], seed])
        asked = [_draw(generator) for _ in range(count)]
        return [
            _sample(f"{split}-{i}", demands, length, asked[(i + 1) % count][0])
            for i, (demands, length) in enumerate(asked)
        ]

    def policy(self, *, seed: int = 0) -> RecurrentPolicy:
        """An untrained policy; other weights for every seed."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            module = RecurrentNet(len(_DEMANDS) + len(ASKED), len(WORDS) + 1)
        return RecurrentPolicy(module, WORDS, observe=observe, longest=LONGEST)


def _draw(generator: np.random.Generator) -> tuple[list[str], int]:
    axes = sorted(generator.choice(len(AXES), generator.integers(3, 7), replace=False))
    return [AXES[axis][generator.integers(2)].text for axis in axes], int(generator.choice(ASKED))


def _sample(name: str, demands: list[str], length: int, others: list[str]) -> Sample:
    columns = {
        "demands": demands,
        "rubric": _checks(demands),
        "other_rubric": _checks(others),
        "length_band": length,
    }
    return Sample(name, f"Write {length} words. The text {', '.join(demands)}.", columns=columns)


def _checks(demands: Sequence[str]) -> list[dict[str, Any]]:
    return [{"text": demand, "levels": MET_PARTLY_NOT} for demand in demands]


def observe(sample: Sample) -> Array:
    """Which demands are made, and which length, float32 [27]."""
    demands = [text in sample.columns["demands"] for text in _DEMANDS]
    return np.asarray([*demands, *(n == sample.columns["length_band"] for n in ASKED)], np.float32)


def credit(demand: str, text: str) -> float:
    """How far a text meets a demand: 1, 0.5 or 0; an empty text meets none."""
    words = text.split()
    return float(_DEMANDS[demand].credit(words)) if words else 0.0


def verdict(prompt: Prompt) -> str:
    """The verifier: the label of one demand, exactly."""
    fields: Mapping[str, str] = json.loads(str(prompt[-1]["content"]))  # type: ignore[index]
    return json.dumps({"label": _LABELS[credit(fields["criterion"], fields["response"])]})


def satisfaction(rollouts: Rollouts) -> Array:
    """float64 [N]: the mean credit of every row's own demands."""
    asked = zip(rollouts.column("demands"), rollouts.completions, strict=True)
    return np.array([np.mean([credit(demand, text) for demand in demands]) for demands, text in asked])


def _impressed(rollouts: Rollouts) -> Array:
    return 10 * (0.45 + 0.35 * satisfaction(rollouts))


def _mark(reward: Expression) -> Expression:
    """A whole mark from 1 to 10, in tenths."""
    return Combination(
        f"mark({reward!r})", [reward], lambda _, scores: scores[0].values.astype(np.float64).round().clip(1, 10) / 10
    )
