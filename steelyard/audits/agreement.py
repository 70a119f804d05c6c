"""How far two labellers agree beyond chance, and how far their marks lie apart."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np

from steelyard.types import Array, SteelyardError


class Agreement(NamedTuple):
    """Share of equal labels, Cohen's κ (NaN where it is undefined), and on how many rows both gave one."""

    agreement: float
    kappa: float
    rows: int


def cohen_kappa(judge: Array, gold: Array) -> Agreement:
    """κ = (p_o − p_e) / (1 − p_e), p_o the share of equal labels, p_e = Σ_c p_judge(c) p_gold(c).

    Rows where either label is NaN are left out. Both labellers saying one and the same class only leaves κ undefined
    (NaN): there is nothing to agree on. A constant judge beside a gold of two classes has κ 0.

    Args:
        judge, gold: labels [N], numbers.

    Raises:
        SteelyardError: for arrays of different lengths.

    Source: sheet 47, "Exact checks"; Cohen 1960.
    """
    a, b = np.asarray(judge, np.float64), np.asarray(gold, np.float64)
    _check_alike(a, b)
    both = ~(np.isnan(a) | np.isnan(b))
    a, b = a[both], b[both]
    if not len(a):
        return Agreement(math.nan, math.nan, 0)
    classes = np.unique(np.concatenate([a, b]))
    observed = float((a == b).mean())
    chance = float(sum((a == c).mean() * (b == c).mean() for c in classes))
    kappa = (observed - chance) / (1 - chance) if len(classes) > 1 else math.nan
    return Agreement(observed, kappa, len(a))


class MarkError(NamedTuple):
    """How far marks lie from gold: mean of |judge − gold|, the same of every stratum, and what was left out.

    Attributes:
        mean: over all rows that were judged; NaN where none was.
        strata: name to the mean over its rows.
        rows: how many were judged. unjudged: the share that was not.
    """

    mean: float
    strata: dict[Hashable, float]
    rows: int
    unjudged: float


def mark_error(judge: Array, gold: Array, strata: Sequence[Hashable] | None = None) -> MarkError:
    """Mean absolute error of a judge's marks; rows without a mark (NaN) are left out and counted.

    Args:
        judge, gold: marks [N]; a gold mark is never NaN.
        strata: what each row belongs to (a task, a level of difficulty) [N].

    Raises:
        SteelyardError: for arrays of different lengths, or a gold mark that is no finite number.

    Source: sheet 31 (FIRM-Bench).
    """
    a, b = np.asarray(judge, np.float64), np.asarray(gold, np.float64)
    _check_alike(a, b)
    if not np.isfinite(b).all():
        row = int((~np.isfinite(b)).argmax())
        raise SteelyardError(f"the gold mark of row {row} is {b[row]}; every row needs a finite one")
    names = [""] * len(a) if strata is None else list(strata)
    if len(names) != len(a):
        raise SteelyardError(f"{len(names)} strata for {len(a)} marks; give one each")
    known = ~np.isnan(a)
    apart = np.abs(a - b)
    belongs = {name: known & np.asarray([other == name for other in names], bool) for name in dict.fromkeys(names)}
    of_strata = {name: float(apart[rows].mean()) if rows.any() else math.nan for name, rows in belongs.items()}
    mean = float(apart[known].mean()) if known.any() else math.nan
    unjudged = float((~known).mean()) if len(a) else math.nan
    return MarkError(mean, {} if strata is None else of_strata, int(known.sum()), unjudged)


def _check_alike(a: Array, b: Array) -> None:
    if a.ndim != 1 or a.shape != b.shape:
        raise SteelyardError(f"labels of shapes {a.shape} and {b.shape} cannot be compared; give two of one length")
