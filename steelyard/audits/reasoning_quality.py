"""Reasoning-quality scores of disturbed completions, by a judge or by a rule."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from steelyard.rewards.answers import answer_text, think_text
from steelyard.rewards.judges.cache import forget_unread
from steelyard.rewards.judges.parsing import parse_quality
from steelyard.rewards.judges.templates import QUALITIES, quality_prompt
from steelyard.types import Judge, Sample, Status, SteelyardError

QualityRule: TypeAlias = Callable[[Sample, str, str], Mapping[str, float] | None]
"""(sample, clean completion, disturbed completion) to the five scores of `QUALITIES`, or None."""
Row: TypeAlias = dict[str, Any]


def rate(
    judge: Judge | QualityRule | None, samples: Sequence[Sample], clean: Sequence[Row], rows: Sequence[Row]
) -> list[dict[str, float] | None]:
    """Five scores for every disturbed row beside its clean one; None where there is no verdict.

    Raises:
        SteelyardError: for a judge that does not give one reply a prompt.
    """
    if judge is None:
        return [None] * len(rows)
    pairs = list(zip(samples, clean, rows, strict=True))
    if not isinstance(judge, Judge):
        return [_five(judge(sample, a["completion"], b["completion"])) for sample, a, b in pairs]
    prompts = [_quality_prompt(*pair) for pair in pairs]
    replies = judge.ask(prompts)
    if len(replies) != len(pairs):
        raise SteelyardError(f"the judge gave {len(replies)} replies to {len(pairs)} prompts; one each is needed")
    read = [parse_quality(text) for text in replies]
    forget_unread(judge, prompts, replies, [quality.status == Status.SCORED for quality in read])
    return [_five(quality.scores) for quality in read]


def _quality_prompt(sample: Sample, clean: Row, row: Row) -> Any:
    question = str(sample.columns.get("question", sample.prompt))
    disturbance = f"{row['kind']}, severity {row['severity']} of 5"
    return quality_prompt(question, str(row["answer"]), clean["completion"], row["completion"], disturbance=disturbance)


def _five(scores: Mapping[str, float] | None) -> dict[str, float] | None:
    """The five scores, or None if one is missing or no number from 0 to 5."""
    found = {name: (scores or {}).get(name) for name in QUALITIES}
    if any(score is None or not 0 <= score <= 5 for score in found.values()):
        return None
    return {name: float(score) for name, score in found.items() if score is not None}


def rule_quality(sample: Sample, clean: str, disturbed: str) -> dict[str, float]:
    """Five reasoning-quality scores without a language model, for samples that have a gold `reasoning` column.

    Fragility: 5 if the answer flipped against the clean one. Consistency: shared words with the clean reasoning.
    Belief: 5 if the answer is right or the clean one was wrong too. Recovery: 5 if a right clean answer stayed right.
    Attention: the share of the gold reasoning's words that are cited. A stand-in for a judge, not the paper's.
    """
    right = answer_text(str(sample.columns["answer"])) or str(sample.columns["answer"])
    before, after = answer_text(clean), answer_text(disturbed)
    ours, theirs = _words(think_text(disturbed)), _words(think_text(clean))
    gold = _words(str(sample.columns.get("reasoning", "")))
    return {
        "fragility": 5.0 * (after is None or after != before),
        "consistency": 5.0 * len(ours & theirs) / max(1, len(ours | theirs)),
        "belief": 5.0 * (after == right or before != right),
        "recovery": 5.0 * (after == right),
        "attention": 5.0 * len(ours & gold) / max(1, len(gold)),
    }


def _words(text: str | None) -> set[str]:
    return {word.strip(".,;:").lower() for word in (text or "").split()}
