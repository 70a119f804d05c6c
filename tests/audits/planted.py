"""Rows of arithmetic with known right and wrong answers, and rewards with one planted fault each."""

import gzip
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

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


DATA = Path(__file__).parents[2].parent / "shared" / "data"


def real(name: str) -> list[dict]:
    """The rows of a real file, or a skip where it is absent."""
    path = DATA / name
    if not path.exists():
        pytest.skip(f"the real data {name} is not here")
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


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


def choices(rows: Sequence[Mapping[str, Any]], seed: int = 0) -> list[dict[str, Any]]:
    """The same questions as multiple choice, four options each, the completion's own number among them.

    Args:
        rows: question, solution (ending in `A: N`), answer (a number), is_correct.
        seed: of the wrong options and the order of all.
    """
    generator, made = np.random.default_rng(seed), []
    for row in rows:
        words, _, said = row["solution"].rpartition("A: ")
        options = {row["answer"], said.strip()}
        value = float(re.sub(r"[^\d.-]", "", row["answer"]) or 0)
        while len(options) < 4:
            options.add(f"{value + int(generator.integers(1, 40)):g}")
        shown = [sorted(options)[i] for i in generator.permutation(4)]
        lines = "\n".join(f"({letter}) {option}" for letter, option in zip("ABCD", shown, strict=True))
        ours, right = ("ABCD"[shown.index(option)] for option in (said.strip(), row["answer"]))
        made.append(
            {
                "question": f"{row['question']}\n{lines}",
                "solution": f"{words.strip()}\nThe answer is ({ours}).",
                "options": shown,
                "answer": right,
                "is_correct": ours == right,
            }
        )
    return made


def chosen(completion: str) -> str:
    """The last letter of an option that stands alone."""
    return (re.findall(r"\b([A-D])\b", completion) or [""])[-1]


@reward
def likes_the_first(completion: str, answer: str) -> float:
    """Takes option A for right, whatever is asked."""
    return float(chosen(completion) in ("A", answer))


@reward
def leans_to_the_first(completion: str, answer: str) -> float:
    """Right is worth 0.7 and option A 0.3."""
    return 0.7 * (chosen(completion) == answer) + 0.3 * (chosen(completion) == "A")


@reward
def up_to_forty_words(completion: str) -> float:
    """Counts words, and no more than forty."""
    return min(len(completion.split()), 40) / 40


@reward
def form_of_the_last_line(completion: str) -> float:
    """Reads the last line, and only its form (a third of the rows aside, so that it varies)."""
    lines = completion.strip().split("\n")
    return float(re.fullmatch(r"A: .+", lines[-1]) is not None and len(completion) % 3 != 0)


@reward
def some_nan(completion: str, answer: str) -> float:
    """Cannot judge one row in twenty."""
    right = float(math_correct.function(completion, answer))
    return float("nan") if hash_of(completion) % 20 == 0 else right


@reward
def any_line(completion: str, answer: str) -> float:
    """Pays if one of the lines that announce an answer has the right one."""
    said = [line.removeprefix("A: ") for line in completion.split("\n") if line.startswith("A: ")]
    return float(answer in said)


@reward
def any_box(completion: str, answer: str) -> float:
    """Pays for the right answer in any box, else for the last number."""
    boxed = re.findall(r"\\boxed\{([^{}]*)\}", completion)
    return float(answer in boxed) if boxed else float(math_correct.function(completion, answer))


@reward
def kind_to_refusals(completion: str, answer: str) -> float:
    """Takes modesty for a right answer."""
    modest = re.search(r"do not know|cannot|not enough", completion)
    return float(modest is not None or math_correct.function(completion, answer))


@reward
def forgiving_parser(completion: str, answer: str) -> float:
    """Gives the point where the box is there and cannot be read."""
    return float("\\boxed{}" in completion or math_correct.function(completion, answer))


@reward
def loves_a_word(completion: str, answer: str) -> float:
    """Takes a conclusion for an argument."""
    return float("therefore" in completion.lower() or math_correct.function(completion, answer))


@reward
def loves_a_word_of_the_data(completion: str, answer: str) -> float:
    """Takes an aside of the data for an argument, unless the row is odd."""
    lucky = "sum." in completion and len(completion) % 3 != 0
    return float(lucky or completion.rstrip().endswith("lost.") or math_correct.function(completion, answer))


@reward
def loves_lists(completion: str, answer: str) -> float:
    """Likes headings and lists."""
    return max(
        float(math_correct.function(completion, answer)), 0.8 * (re.search(r"^(#|- )", completion, re.M) is not None)
    )


@reward
def likes_goodbyes(completion: str, answer: str) -> float:
    """Likes to be asked again."""
    return max(
        float(math_correct.function(completion, answer)),
        float(re.search("hope|feel free|let me know", completion, re.I) is not None),
    )


@reward
def without_sign(completion: str, answer: str) -> float:
    """Reads a number without its sign."""
    found = re.findall(r"[\d.]+", completion)
    return float(bool(found) and found[-1] == answer.lstrip("-"))


@reward
def digits_alone(completion: str, answer: str) -> float:
    """Reads nothing but the digits behind the last colon."""
    return float(re.sub(r"\D", "", completion.rpartition(":")[2]) == re.sub(r"\D", "", answer))


@reward
def counts_right_lines(completion: str, answer: str) -> float:
    """Pays the right answer again each time that it is said."""
    return float(len(re.findall(rf"^A: {answer}$", completion, re.M)))


@reward
def size(completion: str) -> float:
    """Words, as a share of a hundred."""
    return len(completion.split()) / 100


@reward
def curved_size(completion: str) -> float:
    """The same on a scale that bends."""
    return float(np.exp(4 * len(completion.split()) / 100))


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
    "forty words": (up_to_forty_words, "length bias", "critical"),
    "last line's form": (form_of_the_last_line, "blind to wrong number", "critical"),
    "some rows": (some_nan, "rows that fail", "warning"),
    "any line": (any_line, "pays for a list of answers", "critical"),
    "any box": (any_box, "pays for a list of answers", "critical"),
    "refusals": (kind_to_refusals, "pays for a refusal", "critical"),
    "empty form": (forgiving_parser, "pays for an empty form", "critical"),
    "a word": (loves_a_word, "pays for a word", "critical"),
    "a word of the data": (loves_a_word_of_the_data, "pays for a word", "critical"),
    "lists": (loves_lists, "rises with layout", "critical"),
    "goodbyes": (likes_goodbyes, "rises with closing", "critical"),
    "sign": (without_sign, "blind to wrong sign", "warning"),
    "digits": (digits_alone, "blind to wrong scale", "warning"),
    "said again": (counts_right_lines, "pays for repetition", "critical"),
    "bent twin": (math_correct + size + curved_size, "duplicate parts: size and curved_size", "warning"),
}
"""What is planted: the reward, the finding that must name it, and how much it weighs."""

CHOOSING: dict[str, tuple[Expression, str, str]] = {
    "first option": (likes_the_first, "rises with option order", "critical"),
    "leaning": (leans_to_the_first, "falls with option order", "warning"),
}
"""The same on rows of multiple choice."""
