"""Whether the same rows get the same scores: asked twice, and asked in another order."""

from __future__ import annotations

import numpy as np

from steelyard.audits.intervals import share
from steelyard.audits.probing import MOVED, Case, DoesNotFit, Example, Figure, Finding, Outcome, Severity
from steelyard.types import Array

SOME = 0.01


def determinism(case: Case) -> Outcome:
    """Do the same rows score the same twice?"""
    differs = case.differs(case.scores.values, case.again.values)
    rate = share(differs)
    figures = [Figure("rows that score otherwise when asked again", rate)]
    if not differs.any():
        return Outcome(figures)
    again = case.again.values.astype(np.float64)
    far = np.nan_to_num(np.abs(again - case.values), nan=np.inf) > MOVED * case.scale
    found = Finding(
        "determinism", "not deterministic", Severity.CRITICAL if share(far).low > SOME else Severity.WARNING,
        f"{rate.value:.1%} of the rows score otherwise when the same rows are asked again.",
        "Chance in the reward is noise in every advantage, and no result can be made again.",
        "Seed what draws, set a judge's temperature to 0, or average several answers of it.",
        rate, _changed(case, differs, again),
    )  # fmt: skip
    return Outcome(figures, [found])


def batch_order(case: Case) -> Outcome:
    """Do rows score the same in another order?"""
    if case.noisy:
        raise DoesNotFit("the reward gives the same rows other scores each time")
    n = len(case.values)
    if n < 2:
        raise DoesNotFit("there is only one row")
    order = case.generator("batch_order").permutation(n)
    scores = np.empty(n)
    scores[order] = case.ask(case.rollouts.take(order)).values
    differs = case.differs(case.values, scores)
    rate = share(differs)
    figures = [Figure("rows that score otherwise in another order", rate)]
    if rate.value <= SOME / 2:
        return Outcome(figures)
    found = Finding(
        "batch_order", "position bias", Severity.CRITICAL,
        f"{rate.value:.1%} of the rows score otherwise when the same rows come in another order.",
        "A row is paid for where it stands; the same rollout is good in one batch and bad in the next.",
        "Look for state between rows, for padding, or a judge that prefers the first answer; ask in both orders.",
        rate, _changed(case, differs, scores),
    )  # fmt: skip
    return Outcome(figures, [found])


def _changed(case: Case, differs: Array, after: Array) -> tuple[Example, ...]:
    rows = np.flatnonzero(differs)
    rows = rows[np.argsort(-np.abs(np.nan_to_num(after[rows] - case.values[rows])))]
    return case.examples(rows.tolist(), after=after)
