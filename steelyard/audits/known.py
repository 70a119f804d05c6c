"""What is known of the right answers: as short texts, and whether they are numbers, letters of options, a few words."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from steelyard.perturb.text.functional import last_number
from steelyard.rewards.final_answers import final_answer, last_box, told
from steelyard.types import Rollouts

LONGEST = 80
"""Characters of an answer that can be swapped for another and listed among others."""
LOOKED_AT = 500

_LETTER = re.compile(r"\W?[A-Za-z]\W?")


def stated_answers(rollouts: Rollouts) -> list[str] | None:
    """The answers as texts, empty where one is missing: a worked solution's is the final answer that it announces."""
    return [_stated(answer) for answer in rollouts.column("answer")] if rollouts.has("answer") else None


def _stated(given: object) -> str:
    first = (
        next(iter(given), None) if isinstance(given, list | tuple) else given
    )  # of several right answers one will do
    answer = "" if first is None else str(first)
    worked = len(answer) > LONGEST or "\n" in answer
    return (final_answer(answer) or answer) if worked and _announces(answer) else answer


def _announces(answer: str) -> bool:
    """Whether a box, a block or a line says which is the answer: the last number of any text is none."""
    return last_box(answer)[0] is not None or "</answer>" in answer or told(answer) is not None


def _some(answers: Sequence[str] | None) -> list[str]:
    return [answer for answer in answers or () if answer.strip()][:LOOKED_AT]


def are_numbers(answers: Sequence[str] | None) -> bool:
    """Whether most answers hold a number: then a turned statement or another name may leave an answer right."""
    gold = _some(answers)
    return 2 * sum(last_number(text) is not None for text in gold) > len(gold)


def are_letters(answers: Sequence[str] | None) -> bool:
    """Whether most answers are letters of options: then too, and a capital is more than a way to write."""
    gold = _some(answers)
    return 2 * sum(_LETTER.fullmatch(text.strip()) is not None for text in gold) > len(gold)


def are_short(answers: Sequence[str] | None) -> bool:
    """Whether most answers are a few words: then a reward need not read more than a completion's end."""
    gold = _some(answers)
    return 2 * sum(len(text.strip()) <= LONGEST for text in gold) > len(gold)


def commonest(answers: Sequence[str] | None) -> float:
    """The share of rows that always giving the commonest answer gets right: about a quarter for four options."""
    return max(Counter(answers).values()) / len(answers) if answers else 0.0
