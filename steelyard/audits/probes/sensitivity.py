"""Whether a reward falls when a good answer is made wrong: numbers, answers, names, statements."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from steelyard.audits.intervals import share
from steelyard.audits.known import LONGEST, are_letters, are_numbers, are_short
from steelyard.audits.probing import MOVED, Case, DoesNotFit, Figure, Finding, Outcome, Severity
from steelyard.perturb.text import KINDS
from steelyard.perturb.text.functional import last_number, names_in, swapped_name, swapped_words
from steelyard.types import Array

BLIND, DULL = 0.5, 0.9
FEWEST = 20
Change: TypeAlias = Callable[[Case, list[str], Array], dict[int, str]]
"""Case, texts and rows that are paid to the rows' wrong texts, where the change applies."""


def sensitivity(case: Case) -> Outcome:
    """Does it fall when the answer is made wrong?"""
    case.require_scale()
    texts, rows = case.texts(), good_rows(case)
    outcome, reasons = Outcome(), []
    for name, change, certain in (
        ("wrong number", _changed_number("wrong_number"), are_short(case.answers)),
        ("wrong sign", _changed_number("wrong_sign"), False),
        ("wrong scale", _changed_number("wrong_scale"), False),
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
    prompts, gold = case.rollouts.groups, case.answers
    shift = np.roll(rows, int(case.generator("other_question").integers(1, max(len(rows), 2))))
    apart = [(int(a), int(b)) for a, b in zip(rows, shift, strict=True) if prompts[a] != prompts[b]]
    changed = {a: texts[b] for a, b in apart if texts[a] != texts[b] and (gold is None or gold[a] != gold[b])}
    if len(changed) < FEWEST:
        raise DoesNotFit(f"{len(changed)} good rows have another question's answer to take; {FEWEST} are needed")
    outcome = Outcome()
    _judge(case, outcome, "another question's answer", changed, True)
    return outcome


def good_rows(case: Case) -> Array:
    """int [K]: rows of the sample that are paid, can fall and, where there are labels, are good."""
    paid = case.sample_scores >= case.bars[case.sample]
    paid &= case.sample_scores > case.low + MOVED * case.scale
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


def _changed_number(kind: str) -> Change:
    """Rows whose last number is the last number of the answer, with another one; none where answers are unknown."""

    def change(case: Case, texts: list[str], rows: Array) -> dict[int, str]:
        gold = case.answers
        if gold is None:
            return {}
        numbers = {row: last_number(texts[row]) for row in rows.tolist()}
        generator = case.generator(kind)
        fits = [row for row, number in numbers.items() if number is not None and number == last_number(gold[row])]
        changed = {row: KINDS[kind](texts[row], generator) for row in fits}
        return {row: text for row, text in changed.items() if text is not None}

    return change


def _swapped_answers(case: Case, texts: list[str], rows: Array) -> dict[int, str]:
    """The answer replaced everywhere by that of another row; for answers of a few words."""
    gold = case.answers
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
    if are_numbers(case.answers) or are_letters(case.answers):
        return {}
    generator = case.generator("negation")
    changed = {row: KINDS["negation"](texts[row], generator) for row in rows.tolist()}
    return {row: text for row, text in changed.items() if text is not None}


def _swapped_names(case: Case, texts: list[str], rows: Array) -> dict[int, str]:
    if are_numbers(case.answers) or are_letters(case.answers):
        return {}
    generator = case.generator("swapped_name")
    names = sorted({name for row in case.sample[:200].tolist() for name in names_in(texts[row])})
    changed = {row: swapped_name(texts[row], names, generator) for row in rows.tolist()}
    return {row: text for row, text in changed.items() if text is not None}
