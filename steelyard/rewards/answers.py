"""Answers in <think>…</think><answer>…</answer>: taking them out, checking their form, scoring by question type."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from steelyard.rewards.core import RowReward, reward
from steelyard.rewards.golds import NO_GOLD, gold_texts, is_missing
from steelyard.rewards.overlap import rouge_mean, word_error_rate
from steelyard.types import Status, SteelyardError, Verdict

INSTRUCTION = "Reason in <think> </think> and answer in <answer> </answer>."
"""What a prompt ends with, so that completions have the form that this file reads."""

_BETWEEN = re.compile(r"</think>\s*<answer>")


def answer_text(completion: str) -> str | None:
    """What stands in the first answer block, stripped; None where there is no complete block."""
    return _first_block(completion, "answer")


def think_text(completion: str) -> str | None:
    """What stands in the first think block, stripped; None where there is no complete block."""
    return _first_block(completion, "think")


def _first_block(text: str, tag: str) -> str | None:
    _, opened, behind = text.partition(f"<{tag}>")
    inside, closed, _ = behind.partition(f"</{tag}>")
    return inside.strip() if opened and closed else None


@reward
def think_format(completion: str) -> float:
    """1 iff the text is a think block, optional white space, an answer block (sheet 01, r^F); empty blocks count."""
    opens, closes = completion.startswith("<think>"), completion.endswith("</answer>")
    between = (
        _BETWEEN.search(completion, len("<think>"), len(completion) - len("</answer>")) if opens and closes else None
    )
    return float(between is not None)


@reward
def one_of(completion: str, answer: str | Sequence[str]) -> float | Verdict:
    """1 iff the answer block is the answer, or one of them where there are several; 0 without a block."""
    golds = gold_texts(answer)
    return float(answer_text(completion) in [gold.strip() for gold in golds]) if golds else NO_GOLD


def tagged_in_order(text: str, tags: Sequence[str], *, prefix: bool = False) -> bool:
    """Whether a text holds `<tag>` and `</tag>` of every tag exactly once, one block after the other.

    Args:
        text: may go on after the last block.
        tags: names, in the order of their blocks.
        prefix: whether it may begin with something else than the first block.
    """
    marks = [mark for tag in tags for mark in (f"<{tag}>", f"</{tag}>")]
    if any(text.count(mark) != 1 for mark in marks):
        return False
    places = [text.index(mark) for mark in marks]
    return places == sorted(places) and (prefix or places[0] == 0)


def _judge_tags(completion: str, *, tags: Sequence[str], prefix: bool) -> float:
    return float(tagged_in_order(completion, tags, prefix=prefix))


def tags_in_order(*tags: str, prefix: bool = False) -> RowReward:
    """1 iff every tag opens and closes exactly once, in this order: `tags_in_order("think", "answer")`.

    Unlike `think_format`, text may stand between the blocks and behind them, and blocks must not be doubled.

    Args:
        *tags: names, in the order of their blocks.
        prefix: whether text may stand before the first block too.

    Raises:
        SteelyardError: without a tag.

    Source: sheet 40 (RLPR), the authors' format reward (with `prefix` and the answer alone: their mode without think).
    """
    if not tags:
        raise SteelyardError("tags_in_order needs at least one tag, as tags_in_order('think', 'answer')")
    return RowReward(_judge_tags, "tags_in_order", options={"tags": tags, "prefix": prefix})


def parse_number(text: str) -> float | None:
    """A plain number with optional thousands commas, or None."""
    try:
        return float(text.replace(",", ""))
    except ValueError:
        return None


def _has_decimals(text: str) -> bool:
    return "." in text or "," in text


def choice_accuracy(answer: str, gold: str) -> float:
    """1 iff both name the same option, surrounding white space aside."""
    return float(answer.strip() == gold.strip())


def numerical_accuracy(answer: str, gold: str) -> float:
    """1 iff equal after rounding to 2 decimals; 0 if one has a point or comma and the other has none."""
    if _has_decimals(answer) != _has_decimals(gold):
        return 0.0
    ours, truth = parse_number(answer), parse_number(gold)
    return float(ours is not None and truth is not None and round(ours, 2) == round(truth, 2))


def ocr_accuracy(answer: str, gold: str) -> float:
    """1 − word error rate, clipped to [0, 1]."""
    return min(1.0, max(0.0, 1.0 - word_error_rate(gold, answer)))


def regression_accuracy(answer: str, gold: str, *, epsilon: float = 0.0) -> float:
    """1 − min(1, (|ŷ − y| + ε) / (|y| + ε)).

    With ε = 0 an exact prediction of y = 0 scores 1. The authors' code has ε = 1e-9, which gives it 0.
    """
    ours, truth = parse_number(answer), parse_number(gold)
    if ours is None or truth is None:
        return 0.0
    error, scale = abs(ours - truth) + epsilon, abs(truth) + epsilon
    if scale == 0:
        return float(error == 0)
    relative = error / scale
    return 1.0 - min(1.0, relative) if relative == relative else 0.0


def free_form_accuracy(answer: str, gold: str) -> float:
    """Mean F-measure of ROUGE-1, ROUGE-2 and ROUGE-L with stemming."""
    return rouge_mean(gold, answer)


ACCURACY: Mapping[str, Callable[[str, str], float]] = {
    "multiple choice": choice_accuracy,
    "numerical": numerical_accuracy,
    "OCR": ocr_accuracy,
    "free-form": free_form_accuracy,
    "regression": regression_accuracy,
}
"""Question type to accuracy in [0, 1] (sheet 01, r^Acc)."""


def problem_accuracy(completion: str, answer: str, problem_type: str, *, regression_epsilon: float = 0.0) -> float:
    """Accuracy in [0, 1] of a completion's answer block by question type; 0 where there is no such block.

    Args:
        completion: the whole text.
        answer: the gold answer, bare or in an answer block.
        problem_type: a key of `ACCURACY`.
        regression_epsilon: of `regression_accuracy`.

    Raises:
        KeyError: for a type that is not in `ACCURACY`.
    """
    ours, gold = answer_text(completion), answer_text(answer)
    gold = answer.strip() if gold is None else gold
    if ours is None:
        return 0.0
    if problem_type == "regression":
        return regression_accuracy(ours, gold, epsilon=regression_epsilon)
    return ACCURACY[problem_type](ours, gold)


@reward
def correct(
    completion: str, answer: str, problem_type: str = "multiple choice", *, regression_epsilon: float = 0.0
) -> float | Verdict:
    """Accuracy by question type (sheet 01, r^Acc): without a gold answer or a rule for the type it is NaN."""
    if is_missing(answer):
        return NO_GOLD
    if problem_type not in ACCURACY:
        return Verdict(float("nan"), Status.NOT_APPLICABLE, f"no rule for problem type {problem_type!r}")
    return problem_accuracy(completion, str(answer), problem_type, regression_epsilon=regression_epsilon)
