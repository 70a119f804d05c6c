"""How far two labellers agree beyond chance."""

from __future__ import annotations

import math
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
    if a.ndim != 1 or a.shape != b.shape:
        raise SteelyardError(f"labels of shapes {a.shape} and {b.shape} cannot be compared; give two of one length")
    both = ~(np.isnan(a) | np.isnan(b))
    a, b = a[both], b[both]
    if not len(a):
        return Agreement(math.nan, math.nan, 0)
    classes = np.unique(np.concatenate([a, b]))
    observed = float((a == b).mean())
    chance = float(sum((a == c).mean() * (b == c).mean() for c in classes))
    kappa = (observed - chance) / (1 - chance) if len(classes) > 1 else math.nan
    return Agreement(observed, kappa, len(a))
