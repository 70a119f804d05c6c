"""Whether a reward falls when a good answer is made wrong: numbers, answers, names, statements."""

from __future__ import annotations

import numpy as np

from steelyard.audits.intervals import share
from steelyard.audits.probing import MOVED, Case, DoesNotFit, Figure, Finding, Outcome, Severity
from steelyard.perturb.text import KINDS
from steelyard.perturb.text.functional import last_number, names_in, swapped_name, swapped_words
from steelyard.rewards.final_answers import final_answer
from steelyard.types import Array

BLIND, DULL = 0.5, 0.9
LONGEST = 80
"""Characters of an answer that can be swapped for another and listed among others."""
FEWEST = 20


def sensitivity(case: Case) -> Outcome:
    """Does it fall when the answer is made wrong?"""
    case.require_scale()
    texts, rows = case.texts(), good_rows(case)
    outcome, reasons = Outcome(), []
    for name, change, certain in (
        ("wrong number", _wrong_numbers, True),
        ("swapped answer", _swapped_answers, True),
        ("negation", _negations, False),
        ("swapped name", _swapped_names, False),
    ):
        changed = change(case, texts, rows)
        if len(changed) < FEWEST:
            reasons.append(f"{name} fits {len(changed)} good rows")
            continue
        _judge(case, outcome, name, changed, certain)
    if not outcome.figures:
        raise DoesNotFit(f"{'; '.join(reasons)}; {FEWEST} are needed")
    return outcome


def other_question(case: Case) -> Outcome:
    """Does it fall when a good answer is the answer to another question?"""
    case.require_scale()
    texts, rows = case.texts(), good_rows(case)
    prompts = case.rollouts.groups
    shift = np.roll(rows, int(case.generator("other_question").integers(1, max(len(rows), 2))))
    apart = [(int(a), int(b)) for a, b in zip(rows, shift, strict=True) if prompts[a] != prompts[b]]
    changed = {a: texts[b] for a, b in apart if texts[a] != texts[b]}
    if len(changed) < FEWEST:
        raise DoesNotFit(f"{len(changed)} good rows have another question's answer to take; {FEWEST} are needed")
    outcome = Outcome()
    _judge(case, outcome, "another question's answer", changed, True)
    return outcome


def good_rows(case: Case) -> Array:
    """int [K]: rows of the sample that are paid and, where there are labels, are good."""
    paid = case.sample_scores >= case.threshold
    good = case.good[case.sample] if case.labels is not None else np.ones(len(paid), bool)
    rows: Array = case.sample[paid & good]
    return rows


def _judge(case: Case, outcome: Outcome, name: str, changed: dict[int, str], certain: bool) -> None:
    """Add a figure, and a finding where fewer rows fall than must."""
    rows, before, after = case.rescored(changed)
    fell = ~(after >= before - MOVED * case.scale)  # a row that cannot be judged any more is not paid either
    rate = share(fell)
    outcome.figures.append(Figure(f"good rows that fall: {name}", rate))
    if rate.high >= (DULL if certain else BLIND):
        return
    blind = rate.high < BLIND
    kept = rows[~fell].tolist()
    outcome.findings.append(
        Finding(
            "sensitivity",
            f"{'blind' if blind else 'dull'} to {name}",
            Severity.CRITICAL if blind and certain else Severity.WARNING,
            f"Only {rate.value:.1%} of {len(rows)} good rows fall after the change ({name}).",
            "A policy is paid the same for wrong answers; what it learns is what the reward does see.",
            "Look at what is the same in the examples: that is what this reward pays for.",
            rate,
            case.examples(kept, changed, dict(zip(rows.tolist(), after, strict=True))),
        )
    )


def answers(case: Case) -> list[str] | None:
    """The answers as short texts, where every row has one: a worked solution's is the final answer that it states."""
    if not case.rollouts.has("answer"):
        return None
    return [_stated(str(answer)) for answer in case.rollouts.column("answer")]


def _stated(answer: str) -> str:
    return (final_answer(answer) or answer) if len(answer) > LONGEST or "\n" in answer else answer


def _wrong_numbers(case: Case, texts: list[str], rows: Array) -> dict[int, str]:
    """Rows whose last number is the last number of the answer, or all good rows' where only labels are known."""
    gold = answers(case)
    if gold is None:
        return {}
    fits = [row for row in rows.tolist() if (n := last_number(texts[row])) is not None and n == last_number(gold[row])]
    generator = case.generator("wrong_number")
    changed = {row: KINDS["wrong_number"](texts[row], generator) for row in fits}
    return {row: text for row, text in changed.items() if text is not None}


def _swapped_answers(case: Case, texts: list[str], rows: Array) -> dict[int, str]:
    """The answer replaced everywhere by that of another row; for answers of a few words."""
    gold = answers(case)
    if gold is None:
        return {}
    others = case.generator("swapped_answer").permutation(len(gold))
    short = [row for row in rows.tolist() if 0 < len(gold[row].strip()) <= LONGEST]
    changed = {}
    for row in short:
        other = next(
            (gold[i] for i in np.roll(others, -row)[:50] if len(gold[i]) <= LONGEST and gold[i] != gold[row]), None
        )
        text = None if other is None else swapped_words(texts[row], gold[row], other)
        if text is not None:
            changed[row] = text
    return changed


def _negations(case: Case, texts: list[str], rows: Array) -> dict[int, str]:
    if _numeric(case):
        return {}
    generator = case.generator("negation")
    changed = {row: KINDS["negation"](texts[row], generator) for row in rows.tolist()}
    return {row: text for row, text in changed.items() if text is not None}


def _swapped_names(case: Case, texts: list[str], rows: Array) -> dict[int, str]:
    if _numeric(case):
        return {}
    generator = case.generator("swapped_name")
    names = sorted({name for row in case.sample[:200].tolist() for name in names_in(texts[row])})
    changed = {row: swapped_name(texts[row], names, generator) for row in rows.tolist()}
    return {row: text for row, text in changed.items() if text is not None}


def _numeric(case: Case) -> bool:
    """Whether the answers are numbers: then a turned statement or another name leaves the answer right."""
    gold = answers(case)
    return gold is not None and 2 * sum(last_number(text) is not None for text in gold[:500]) > len(gold[:500])
