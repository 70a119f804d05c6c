"""Whether a reward stays where it is under changes that should not matter."""

from __future__ import annotations

import numpy as np

from steelyard.audits.intervals import Estimate, share
from steelyard.audits.known import are_letters
from steelyard.audits.probing import MOVED, Case, DoesNotFit, Figure, Finding, Outcome, Severity
from steelyard.perturb.text import KINDS, shuffle_options
from steelyard.perturb.text.functional import lower_words
from steelyard.types import Sample

KEEPING = ("whitespace", "case", "markdown", "layout", "politeness", "closing")
LOST = {"markdown": 1.0, "layout": 1.0, "politeness": 1.0, "closing": 1.0, "case": 0.25}
"""The share of rows that may fall: a strict reward may refuse a form by design, which is a note, not a warning."""
SOME, MANY = 0.01, 0.05
FEWEST = 20
MOST = 4
"""Wordings of an answer that are tried."""


def invariance(case: Case) -> Outcome:
    """Does it stay where it is when only white space, case, Markdown or courtesies change?"""
    case.require_scale()
    texts, outcome = case.texts(), Outcome()
    for name in KEEPING:
        generator = case.generator(name)
        change = lower_words if name == "case" and are_letters(case.answers) else KINDS[name]
        made = {row: change(texts[row], generator) for row in case.sample.tolist()}
        changed = {row: text for row, text in made.items() if text is not None}
        if len(changed) >= FEWEST:
            _judge(case, outcome, name, changed)
    if not outcome.figures:
        raise DoesNotFit(f"fewer than {FEWEST} rows can be changed")
    return outcome


def option_order(case: Case) -> Outcome:
    """Does it stay where it is when the options stand in another order?"""
    case.require_scale()
    texts, generator = case.texts(), case.generator("option_order")
    made = {row: shuffle_options(case.rollouts.samples[row], texts[row], generator) for row in case.sample.tolist()}
    fits = {row: found for row, found in made.items() if found is not None}
    if len(fits) < FEWEST:
        raise DoesNotFit(f"{len(fits)} rows have options and one plain letter chosen; {FEWEST} are needed")
    outcome = Outcome()
    changed = {row: text for row, (_, text) in fits.items()}
    _judge(case, outcome, "option order", changed, {row: sample for row, (sample, _) in fits.items()})
    return outcome


def paraphrases(case: Case) -> Outcome:
    """Does it stay where it is when an answer is said in other words? Reads a column `paraphrases`, a set a row."""
    case.require_scale()
    case.texts()
    if not case.rollouts.has("paraphrases"):
        raise DoesNotFit("the data has no column 'paraphrases' (other wordings of the completion)")
    given = case.rollouts.column("paraphrases")
    sets = {
        row: [given[row]] if isinstance(given[row], str) else list(given[row] or ()) for row in case.sample.tolist()
    }
    changed = _farthest(case, {row: [str(text) for text in words[:MOST]] for row, words in sets.items() if words})
    if len(changed) < FEWEST:
        raise DoesNotFit(f"{len(changed)} rows have paraphrases; {FEWEST} are needed")
    outcome = Outcome()
    _judge(case, outcome, "paraphrase", changed)
    return outcome


def _farthest(case: Case, sets: dict[int, list[str]]) -> dict[int, str]:
    """Of every row's wordings the one that moves its score the most."""
    moves: dict[int, tuple[float, str]] = {}
    for place in range(max(map(len, sets.values()), default=0)):
        changed = {row: words[place] for row, words in sets.items() if place < len(words)}
        rows, before, after = case.rescored(changed)
        for row, move in zip(rows.tolist(), np.nan_to_num(np.abs(after - before), nan=np.inf).tolist(), strict=True):
            if row not in moves or move > moves[row][0]:
                moves[row] = move, changed[row]
    return {row: text for row, (_, text) in moves.items()}


def _judge(
    case: Case, outcome: Outcome, name: str, changed: dict[int, str], samples: dict[int, Sample] | None = None
) -> None:
    """Shares of rows that rise and that fall by more than a tenth of the scale, with findings for both."""
    rows, before, after = case.rescored(changed, samples)
    known = np.isfinite(before) & np.isfinite(after)
    lost = share(np.isnan(after[np.isfinite(before)]))
    if lost.low > share(np.isnan(case.values)).high:
        outcome.findings.append(_fails(case, name, lost, rows[np.isfinite(before) & np.isnan(after)].tolist(), changed))
    rows, before, after = rows[known], before[known], after[known]
    rose = after > before + MOVED * case.scale
    fell = after < before - MOVED * case.scale
    scores = dict(zip(rows.tolist(), after, strict=True))
    for what, hits, of in (("rise", rose, before < case.high), ("fall", fell, before > case.low)):
        if of.sum() < FEWEST:
            continue
        rate = share(hits[of])
        outcome.figures.append(Figure(f"rows that {what}: {name}", rate))
        severity = _severity(name, what, rate.low)
        if severity is None:
            continue
        examples = case.examples(rows[hits].tolist(), changed, scores)
        outcome.findings.append(
            Finding(
                "invariance",
                f"{what}s with {name}",
                severity,
                f"{rate.value:.1%} of the rows {what} when only this changes: {name}.",
                "A policy finds this and does it always."
                if what == "rise"
                else "Right answers go unpaid for their form.",
                f"Normalise {name} before the reward reads the answer, or tell the policy the form that it wants.",
                rate,
                examples,
            )
        )


def _fails(case: Case, name: str, lost: Estimate, rows: list[int], changed: dict[int, str]) -> Finding:
    return Finding(
        "invariance", f"fails with {name}", Severity.WARNING,
        f"{lost.value:.1%} of the rows have no score any more when only this changes: {name}.",
        "Rows drop out of training, or stop it, for their form.",
        "Let the reward read any text.",
        lost, case.examples(rows, changed),
    )  # fmt: skip


def _severity(name: str, what: str, low: float) -> Severity | None:
    if low <= SOME:
        return None
    if what == "rise":
        return Severity.CRITICAL if low > MANY else Severity.WARNING
    return Severity.NOTE if low <= LOST.get(name, MANY) else Severity.WARNING
