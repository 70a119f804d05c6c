"""How well a reward tells right from wrong where the truth is known."""

from __future__ import annotations

import numpy as np

from steelyard.types import Array


def separation(values: Array, right: Array) -> float:
    """AUC: the chance that a right row scores higher than a wrong one, ties counted half; 0.5 tells nothing.

    Args:
        values: float [N]; rows that could not be judged (NaN) are left out.
        right: bool [N], the truth.

    Returns:
        NaN where there is no right row or no wrong one.
    """
    known = ~np.isnan(values)
    values, right = np.asarray(values, np.float64)[known], np.asarray(right, bool)[known]
    pairs = right.sum() * (~right).sum()
    if not pairs:
        return float("nan")
    wrong = np.sort(values[~right])
    below, up_to = (np.searchsorted(wrong, values[right], side=side) for side in ("left", "right"))  # type: ignore[call-overload]
    return float((below + up_to).sum() / 2 / pairs)
