"""Whether a score between 0 and 1 can be read as the probability that an answer is good."""

from __future__ import annotations

import numpy as np

from steelyard.audits.intervals import resampled
from steelyard.audits.probing import Case, DoesNotFit, Figure, Finding, Outcome, Severity
from steelyard.types import Array

BINS = 10
OFF = 0.1
FEWEST = 50


def calibration(case: Case) -> Outcome:
    """Can its scores be read as probabilities?"""
    if case.labels is None:
        raise DoesNotFit("the data has no labels; map one: label=FIELD")
    if case.paired:
        raise DoesNotFit("rows were compared in pairs: a label holds against the other row only")
    known = np.isfinite(case.labels) & np.isfinite(case.values)
    values, labels = case.values[known], case.labels[known]
    if len(values) < FEWEST:
        raise DoesNotFit(f"{len(values)} labelled rows have a score; {FEWEST} are needed")
    if values.min() < 0 or values.max() > 1:
        raise DoesNotFit("scores are not between 0 and 1")
    groups = case.rollouts.groups[known]
    error = resampled(lambda rows: expected_error(values[rows], labels[rows]), groups, case.generator("calibration"))
    brier = resampled(lambda rows: float(((values - labels) ** 2)[rows].mean()), groups, case.generator("brier"))
    figures = [Figure("expected calibration error", error), Figure("Brier score", brier)]
    outcome = Outcome(figures, curves=_reliability(values, labels))
    if error.low > OFF and len(np.unique(values)) > 2:
        outcome.findings.append(
            Finding(
                "calibration",
                "not calibrated",
                Severity.NOTE,
                f"Scores are off the share of good rows by {error.value:.2f} on average.",
                "A threshold or a mixture with other rewards does not mean what it seems to mean.",
                "Fit a monotone map on labelled rows if the score is used as a probability; ranks are not touched.",
                error,
            )
        )
    return outcome


def expected_error(values: Array, labels: Array) -> float:
    """Σ_b n_b / n · |mean label − mean score| over ten equal bins of the score; 1 falls into the last."""
    bins = np.minimum((values * BINS).astype(int), BINS - 1)
    return float(np.abs(np.bincount(bins, labels - values)).sum() / len(values))


def _reliability(values: Array, labels: Array) -> dict[str, dict[str, list[float]]]:
    bins = np.minimum((values * BINS).astype(int), BINS - 1)
    filled = np.unique(bins)
    x, y = ([float(column[bins == b].mean()) for b in filled] for column in (values, labels))
    return {"share of good rows by score": {"x": x, "y": y}}
