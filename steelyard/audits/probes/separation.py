"""Whether a reward tells known good from bad: the area under its curve, and how often it orders a pair rightly."""

from __future__ import annotations

import numpy as np

from steelyard.audits.intervals import Estimate, auc, mean
from steelyard.audits.probing import Case, DoesNotFit, Figure, Finding, Outcome, Severity

CHANCE, NEAR_CHANCE = 0.5, 0.55
WEAK_AREA, WEAK_PAIRS = 0.7, 0.65
FEWEST_OF_A_CLASS, FEWEST = 10, 20
"""Rows of each class, and pairs, below which nothing is said."""

NAMES = {"separation": "does not separate good from bad", "preference": "does not prefer the better answer"}
HARDLY = {"separation": "hardly separates good from bad", "preference": "hardly prefers the better answer"}


def separation(case: Case) -> Outcome:
    """Does it separate rows labelled good from rows labelled bad?"""
    if case.labels is None:
        raise DoesNotFit("the data has no labels; map one: label=FIELD")
    known = np.isfinite(case.labels) & np.isfinite(case.values)
    labels = case.labels[known] == 1
    fewest = int(min(labels.sum(), (~labels).sum()))
    if fewest == 0:
        raise DoesNotFit("the labelled rows are of one class only")
    if fewest < FEWEST_OF_A_CLASS:
        raise DoesNotFit(f"one class has {fewest} rows; {FEWEST_OF_A_CLASS} of each are needed")
    area = auc(case.values[known], labels, case.rollouts.groups[known], case.generator("separation"))
    outcome = Outcome([Figure("area under the curve, good against bad", area)], curves=_histogram(case))
    if case.pairs is not None and case.paired:
        return outcome  # rows of different questions are not comparable there: the pairs decide
    finding = _finding("separation", area, WEAK_AREA, "A good row scores above a bad one", case)
    return Outcome(outcome.figures, [] if finding is None else [finding], outcome.curves)


def preference(case: Case) -> Outcome:
    """Does it order the answers to one question as the labels do?"""
    if case.pairs is None:
        raise DoesNotFit("no question has both a good and a bad answer")
    better, worse = case.values[case.pairs[:, 0]], case.values[case.pairs[:, 1]]
    known = np.isfinite(better) & np.isfinite(worse)
    if known.sum() < FEWEST:
        raise DoesNotFit(f"{int(known.sum())} pairs have both scores; {FEWEST} are needed")
    wins = np.where(better > worse, 1.0, np.where(better == worse, 0.5, 0.0))[known]
    groups = case.rollouts.groups[case.pairs[known, 0]]
    rate = mean(wins, groups, case.generator("preference"))
    ties = mean((wins == 0.5).astype(float), groups, case.generator("preference ties"))
    figures = [Figure("pairs in the right order, a tie as half", rate), Figure("pairs that tie", ties)]
    finding = _finding(
        "preference", rate, WEAK_PAIRS, "The better answer to a question scores above the worse one", case
    )
    return Outcome(figures, [] if finding is None else [finding])


def _finding(probe: str, rate: Estimate, weak: float, what: str, case: Case) -> Finding | None:
    if rate.high >= weak and rate.low > CHANCE:
        return None
    chance = rate.high < NEAR_CHANCE or (rate.low <= CHANCE and rate.value < NEAR_CHANCE)  # else the rows are too few
    name = NAMES[probe] if chance else HARDLY[probe]
    severity = Severity.CRITICAL if chance else Severity.WARNING
    return Finding(
        probe, name, severity,
        f"{what} in {rate.value:.1%} of the cases ({rate.low:.1%} to {rate.high:.1%}); chance is 50%.",
        "Training would climb something else than what the labels mean.",
        "Compare the examples with their labels; if the labels are right, this is not the reward to train on.",
        rate, case.examples(_wrong(case)),
    )  # fmt: skip


def _wrong(case: Case) -> list[int]:
    """The bad rows with the highest scores."""
    rows = np.flatnonzero(case.bad & np.isfinite(case.values))
    return rows[np.argsort(-case.values[rows], kind="stable")].tolist()


def _histogram(case: Case) -> dict[str, dict[str, list[float]]]:
    low, high = (case.low, case.high) if case.scale > 0 else (case.low - 0.5, case.low + 0.5)
    edges = np.linspace(low, high, 21)
    curves = {}
    for name, rows in (("good", case.good), ("bad", case.bad)):
        values = case.values[rows & np.isfinite(case.values)].clip(low, high)
        counts = np.histogram(values, edges)[0] / max(len(values), 1)
        curves[name] = {"x": ((edges[1:] + edges[:-1]) / 2).tolist(), "y": counts.tolist()}
    return curves
