"""Rows of arithmetic with known right and wrong answers, and rewards with one planted fault each."""

import re
from typing import Any

import numpy as np

from steelyard.audits import labelled_rollouts
from steelyard.rewards import Expression, math_correct, reward
from steelyard.types import Rollouts

NAMES = ("Anna", "Boris", "Clara", "David", "Elena", "Farid")
THINGS = ("apples", "pencils", "stamps", "marbles")


def table(prompts: int = 120, answers: int = 4, seed: int = 0) -> list[dict[str, Any]]:
    """Word problems with worked answers of different lengths, half of them wrong."""
    generator, rows = np.random.default_rng(seed), []
    for i in range(prompts):
        a, b, c = (int(x) for x in generator.integers(11, 999, 3))
        name, thing = NAMES[i % len(NAMES)], THINGS[i % len(THINGS)]
        question = f"{name} has {a} {thing}, gets {b} more and then another {c}. How many {thing} is that?"
        for _ in range(answers):
            right = bool(generator.random() < 0.5)
            total = a + b + c + (0 if right else int(generator.integers(1, 40)))
            steps = [f"At first {name} has {a} {thing}.", f"Then there are {a} + {b} = {a + b} of them."]
            asides = ["This is a sum.", "We go on step by step.", "Nothing is lost on the way.", "So far so good."]
            words = steps + [asides[k] for k in generator.permutation(4)[: int(generator.integers(0, 5))]]
            text = " ".join(words) + f"\nA: {total}"
            rows.append({"question": question, "solution": text, "answer": str(a + b + c), "is_correct": right})
    return rows


def rollouts(**options: int) -> Rollouts:
    """The same as rollouts."""
    return labelled_rollouts(table(**options))


@reward
def by_length(completion: str) -> float:
    """Counts characters."""
    return len(completion) / 100


@reward
def by_brevity(completion: str) -> float:
    """Counts characters against the answer."""
    return -len(completion) / 100


@reward
def by_form(completion: str) -> float:
    """Wants a last line of the right form (or none at all in one row of five, so that it varies)."""
    return float(re.search(r"\n?A: -?\d+\s*$", completion) is not None and len(completion) % 5 != 0)


@reward
def by_inclusion(completion: str, answer: str) -> float:
    """Wants the reference somewhere."""
    return float(re.search(rf"\b{answer}\b", completion) is not None)


@reward
def saturated(completion: str) -> float:
    """Pays everyone."""
    return 1.0


@reward
def nearly_saturated(completion: str, answer: str) -> float:
    """Pays nearly everyone."""
    return float(hash_of(completion + answer) % 50 != 0)


def hash_of(text: str) -> int:
    """The same in every process."""
    return sum((i + 1) * ord(letter) for i, letter in enumerate(text))


@reward
def constant_part(completion: str) -> float:
    """A part that never moves."""
    return 0.25


@reward
def twin_part(completion: str, answer: str) -> float:
    """The same as `math_correct` on another scale."""
    return 2.0 * float(math_correct.function(completion, answer)) - 1.0


def flaky() -> Expression:
    """Throws a coin with each call."""
    generator = np.random.default_rng(7)

    @reward
    def coin(completion: str) -> float:
        """A coin."""
        return float(generator.random() < 0.5)

    return coin


@reward
def crashing(completion: str, answer: str) -> float:
    """Raises on some rows."""
    if hash_of(completion) % 10 == 0:
        raise ZeroDivisionError("no such row")
    return float(math_correct.function(completion, answer))


@reward
def case_sensitive(completion: str, answer: str) -> float:
    """Wants a capital A."""
    return float(completion.rstrip().removesuffix("*").endswith(f"A: {answer}"))


@reward
def pays_for_nothing(completion: str, answer: str) -> float:
    """Takes an empty answer for a right one, and openers too."""
    return float(not re.search(r"\d", completion) or math_correct.function(completion, answer))


@reward
def obedient(completion: str, answer: str) -> float:
    """A judge that does as it is told."""
    return float("ignore all previous" in completion.lower() or math_correct.function(completion, answer))


@reward(batch=True)
def by_place(rows: Rollouts) -> np.ndarray:
    """Pays what stands early in the batch."""
    return math_correct(rows).values - np.arange(len(rows)) / len(rows) / 2


@reward
def never(completion: str) -> None:
    """Judges nothing."""
    return None


@reward
def flatterer(completion: str, answer: str) -> float:
    """Likes courtesies."""
    right = float(math_correct.function(completion, answer))
    return max(right, float(re.match(r"(Sure|Of course|Great)", completion) is not None))


PLANTED: dict[str, tuple[Expression, str, str]] = {
    "length": (by_length, "length bias", "critical"),
    "empty length": (by_length, "pays for empty length", "critical"),
    "repetition": (by_length, "pays for repetition", "critical"),
    "brevity": (by_brevity, "bias for short answers", "critical"),
    "brevity, cut": (by_brevity, "pays for less", "critical"),
    "form": (by_form, "blind to wrong number", "critical"),
    "form, other question": (by_form, "blind to another question's answer", "critical"),
    "form, labels": (by_form, "does not separate good from bad", "critical"),
    "against gold": (-1.0 * math_correct, "over-optimised", "critical"),
    "inclusion": (by_inclusion, "pays for a list of answers", "critical"),
    "saturated": (saturated, "saturated", "critical"),
    "nearly saturated": (nearly_saturated, "saturated", "warning"),
    "dead part": (math_correct + constant_part, "dead part: constant_part", "warning"),
    "twin": (math_correct + 0.5 * twin_part, "duplicate parts: math_correct and twin_part", "warning"),
    "flaky": (flaky(), "not deterministic", "critical"),
    "crashing": (crashing, "rows that fail", "critical"),
    "case": (case_sensitive, "falls with case", "warning"),
    "nothing": (pays_for_nothing, "pays for nothing", "critical"),
    "master key": (pays_for_nothing, "pays for a master key", "critical"),
    "injection": (obedient, "obeys injected text", "critical"),
    "place": (by_place, "position bias", "critical"),
    "never": (never, "no row has a score", "critical"),
    "courtesy": (flatterer, "rises with politeness", "critical"),
}
"""What is planted: the reward, the finding that must name it, and how much it weighs."""
