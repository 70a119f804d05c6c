"""Whether a reward works at all: rows that it fails, scores that are all the same, and what a row takes."""

from __future__ import annotations

import numpy as np

from steelyard.audits.intervals import Estimate, share
from steelyard.audits.probing import Case, DoesNotFit, Figure, Finding, Outcome, Severity
from steelyard.types import Array, Status

MANY_FAILURES, SOME_FAILURES = 0.2, 0.01
MOST_EQUAL = 0.95
SLOW = 1.0
"""Seconds a row from which a reward is slow."""


def failures(case: Case) -> Outcome:
    """Does it judge every row?"""
    status = np.asarray(case.scores.status)
    failed = np.isnan(case.values) & (status != Status.NOT_APPLICABLE)
    figures = [Figure("rows without a score", share(failed))]
    if (status == Status.NOT_APPLICABLE).any():
        figures.append(Figure("rows it does not apply to", share(status == Status.NOT_APPLICABLE)))
    if np.isnan(case.values).all():
        return Outcome(figures, [_none(case, failed)])
    if not failed.any():
        return Outcome(figures)
    rows = [*case.errors, *(row for row in np.flatnonzero(failed).tolist() if row not in case.errors)]
    words = sorted(set(case.errors.values()))[:2]
    rate = share(failed)
    stops = bool(case.errors)
    heavy = stops or rate.low > MANY_FAILURES
    found = Finding(
        "failures", "rows that fail", Severity.CRITICAL if heavy else _weight(rate),
        f"{int(failed.sum())} of {len(failed)} rows have no score: {'; '.join(words) or _reasons(status[failed])}.",
        "The first such row stops the run." if stops else "Training sees fewer rows than it samples.",
        "Mend the function for these rows; say on_error='nan' only for those that truly cannot be judged."
        if stops
        else "Look at these rows; of a judge, at its `failures`, and whether its parser fits what it says.",
        rate, case.examples(rows),
    )  # fmt: skip
    return Outcome(figures, [found])


def _reasons(status: Array) -> str:
    """What became of rows without a score, the commonest first: `80 failed, 40 unparsed`."""
    known, counts = np.unique(status, return_counts=True)
    order = np.argsort(-counts)
    return ", ".join(f"{counts[i]} {Status(int(known[i])).name.lower().replace('_', ' ')}" for i in order)


def _none(case: Case, failed: Array) -> Finding:
    words = sorted(set(case.errors.values()))[:2] or [_reasons(np.asarray(case.scores.status))]
    return Finding(
        "failures", "no row has a score", Severity.CRITICAL,
        f"None of {len(failed)} rows has a score: {'; '.join(words)}.",
        "There is nothing to train on.",
        "Look at the columns that the reward reads: are they mapped to the right fields?",
        share(failed), case.examples(list(range(len(failed)))[:1]),
    )  # fmt: skip


def _weight(rate: Estimate) -> Severity:
    return Severity.WARNING if rate.low > SOME_FAILURES else Severity.NOTE


def saturation(case: Case) -> Outcome:
    """Do its scores vary?"""
    known = case.values[np.isfinite(case.values)]
    if len(known) < 2:
        raise DoesNotFit("fewer than two rows have a score")
    values, counts = np.unique(known, return_counts=True)
    top = values[counts.argmax()]
    at = share(known == top)
    flat = _flat_groups(case)
    figures = [Figure("rows with the commonest score", at)] + ([] if flat is None else [flat])
    if len(values) > 1 and at.low <= MOST_EQUAL:
        return Outcome(figures)
    constant = len(values) == 1
    says = f"{'All' if constant else f'{at.value:.1%} of'} {len(known)} rows score {top:g}."
    found = Finding(
        "saturation", "saturated", Severity.CRITICAL if constant and not _one_class(case) else Severity.WARNING, says,
        "Rows that score alike have no advantage over each other: there is nothing to learn from.",
        "Use harder prompts, or a reward that tells these rows apart.",
        at, case.examples(np.flatnonzero(case.values == top).tolist()),
    )  # fmt: skip
    return Outcome(figures, [found])


def _one_class(case: Case) -> bool:
    """Whether the labels are all good or all bad: then a reward is right to pay all rows the same."""
    return case.labels is not None and len(np.unique(case.labels[np.isfinite(case.labels)])) == 1


def _flat_groups(case: Case) -> Figure | None:
    """The share of groups of two or more rows in which all score alike: no gradient in group-relative training."""
    known = np.isfinite(case.values)
    _, index = np.unique(case.rollouts.groups[known], return_inverse=True)
    order = np.argsort(index, kind="stable")
    values, starts = case.values[known][order], np.unique(index[order], return_index=True)[1]
    sizes = np.diff([*starts, len(values)])
    spread = np.maximum.reduceat(values, starts) - np.minimum.reduceat(values, starts)
    several = sizes > 1
    return Figure("groups in which all rows score alike", share(spread[several] == 0)) if several.any() else None


def speed(case: Case) -> Outcome:
    """How long does a row take?"""
    n = len(case.values)
    seconds = case.seconds / max(n, 1)
    figures = [Figure("seconds a row", Estimate(seconds, seconds, seconds, n), "seconds")]
    rows = {name: times for name, times in case.scores.seconds.items() if len(times)}
    for name, times in rows.items():
        late = float(np.quantile(times, 0.99))
        figures.append(Figure(f"{name}: seconds of the slowest row in 100", Estimate(late, late, late, n), "seconds"))
    if seconds <= SLOW:
        return Outcome(figures)
    slowest = np.argsort(-next(iter(rows.values())))[:3].tolist() if rows else []
    found = Finding(
        "speed", "slow", Severity.WARNING, f"A row takes {seconds:.2f} seconds.",
        f"A step of 1,024 rollouts waits {1024 * seconds / 60:.0f} minutes for its reward.",
        "Judge in threads (waiting) or processes (computing), or make the row cheaper.",
        figures[0].estimate, case.examples(slowest),
    )  # fmt: skip
    return Outcome(figures, [found])
