"""Whether every part of a combined reward does something that no other part does."""

from __future__ import annotations

from itertools import combinations

import numpy as np

from steelyard.audits.intervals import Estimate, correlation, correlation_interval, ranks
from steelyard.audits.probing import Case, DoesNotFit, Figure, Finding, Outcome, Severity
from steelyard.types import Array

SAME = 0.98
FEWEST = 20


def dead_parts(case: Case) -> Outcome:
    """Does every part vary?"""
    outcome = Outcome()
    for name, values in _parts(case).items():
        known = values[np.isfinite(values)]
        spread = float(known.max() - known.min()) if len(known) else 0.0
        outcome.figures.append(
            Figure(f"spread of the part {name}", Estimate(spread, spread, spread, len(known)), "score")
        )
        if spread > 1e-6:
            continue
        what = f"always {known[0]:g}" if len(known) else "never there"
        outcome.findings.append(
            Finding(
                "dead_parts",
                f"dead part: {name}",
                Severity.WARNING,
                f"The part {name!r} is {what} on {len(values)} rows.",
                "It shifts every score by the same amount and teaches nothing.",
                "See whether it reads the right column; else leave it out.",
                Estimate(spread, spread, spread, len(known)),
                case.examples([0]),
            )
        )
    return outcome


def duplicate_parts(case: Case) -> Outcome:
    """Does every part say something of its own?"""
    outcome = Outcome()
    for (one, left), (other, right) in combinations(_parts(case).items(), 2):
        known = np.isfinite(left) & np.isfinite(right)
        left, right = left[known].astype(np.float64), right[known].astype(np.float64)
        if known.sum() < FEWEST or not left.std() or not right.std():
            continue
        straight, bent = correlation(left, right), correlation(ranks(left), ranks(right))
        by_rank = abs(bent) > abs(straight)  # any monotone map of a part says what the part says
        rho = correlation_interval(bent if by_rank else straight, int(known.sum()))
        how = "rank correlation" if by_rank else "correlation"
        outcome.figures.append(Figure(f"{how} of {one} and {other}", rho, "correlation"))
        if max(rho.low, -rho.high) < SAME:
            continue
        outcome.findings.append(
            Finding(
                "duplicate_parts",
                f"duplicate parts: {one} and {other}",
                Severity.WARNING,
                f"The parts {one!r} and {other!r} have a {how} of {rho.value:+.3f}.",
                _twice(rho.value, by_rank),
                "Keep one of them and give it the weight that was meant.",
                rho,
            )
        )
    return outcome


def _twice(rho: float, by_rank: bool) -> str:
    if by_rank:
        return "They put the rows in the same order" + (", turned round." if rho < 0 else ", on another scale.")
    return "They are one part with both weights" + (" that cancel." if rho < 0 else ".")


def _parts(case: Case) -> dict[str, Array]:
    parts = case.scores.parts
    if len(parts) < 2:
        raise DoesNotFit("the reward has one part")
    if len(case.values) < FEWEST:
        raise DoesNotFit(f"there are {len(case.values)} rows; {FEWEST} are needed")
    return parts
