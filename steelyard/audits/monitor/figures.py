"""What one step's rows come to: the figures that every detector reads and every log keeps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from steelyard.types import Array, SteelyardError

Figures = dict[str, Any]
"""One step's figures as plain JSON: a number, None where it could not be measured, and `parts` by name."""

FEWEST = 8
"""Rows below which parts are not weighed against each other."""


def step_figures(
    step: int,
    values: Any,
    *,
    parts: Mapping[str, Any] | None = None,
    lengths: Any = None,
    group: Any = None,
    completions: Sequence[Any] | None = None,
    gold: Any = None,
) -> Figures:
    """Figures of one step.

    Args:
        step: its number.
        values: float [N], the rewards; NaN or None where a row could not be judged.
        parts: name to float [N].
        lengths: [N], of the completions, in tokens or characters; of text completions' characters if left out.
        group: int [N]; rows of one prompt share a number. None: the step is one group.
        completions: [N]; only their lengths and how often they repeat are read.
        gold: float [N], what the reward stands for, or one number (an evaluation's).

    Returns:
        rows; reward, std (over judged rows) and failed (the share of others); max, top (share of judged rows at the
        step's maximum); spread (mean standard deviation within a group), flat (share of groups of at least two judged
        rows that all score the same); length, follows (correlation of reward and length within groups); distinct
        (distinct completions by rows), common (share of the most frequent completion, where there are two prompts or
        more); outcome (mean of gold); and for each part mean, std, failed, max, min, share and weight. With total R
        and parts r_k, all centred within groups, w = argmin |R − Σ_k w_k r_k|² and share_k = w_k ⟨r_k, R⟩ / ⟨R, R⟩:
        shares add up to the explained part of R's variance (Pratt 1987, Dividing the indivisible).

    Raises:
        SteelyardError: if something has another number of rows than the rewards.
    """
    rewards = as_floats(values)
    n = len(rewards)
    arrays = {name: as_floats(part) for name, part in (parts or {}).items()}
    index = _index(group, n)
    length = _lengths(lengths, completions)
    for name, array in {"group": index, "lengths": length, "completions": completions, **arrays}.items():
        if array is not None and len(array) != n:
            raise SteelyardError(f"monitor: {name!r} has {len(array)} rows for {n} rewards; they must be equal")
    judged = np.isfinite(rewards)
    figures: Figures = {"step": int(step), "rows": n, **_of_rewards(rewards[judged], n), "length": _mean(length)}
    centred, within = _centred(rewards[judged], index[judged])
    figures |= within
    figures["follows"] = None if length is None else _correlation(centred, length[judged], index[judged])
    figures |= _variety(completions, index)
    figures["outcome"] = None if gold is None else _mean(as_floats(np.atleast_1d(gold)))
    figures["parts"] = _parts(rewards, arrays, index)
    return figures


def as_floats(values: Any) -> Array:
    """float64 [N]; None becomes NaN, scalars of numpy and torch their number.

    Raises:
        ValueError: for more than one number a row.
    """
    if not isinstance(values, np.ndarray):
        values = [np.nan if value is None else value.item() if hasattr(value, "item") else value for value in values]
    array = np.asarray(values, np.float64)
    if array.size != len(array):
        raise ValueError(f"shape {array.shape} has more than one number a row")
    return array.ravel()


def _index(group: Any, n: int) -> Array:
    """Groups counted from 0."""
    if group is None:
        return np.zeros(n, np.int64)
    return np.unique(np.asarray(group), return_inverse=True)[1].reshape(-1)


def _lengths(lengths: Any, completions: Sequence[Any] | None) -> Array | None:
    if lengths is not None:
        return np.asarray(lengths, np.float64)
    if completions is None or not all(isinstance(text, str) for text in completions):
        return None
    return np.fromiter(map(len, completions), np.float64, len(completions))


def _mean(values: Array | None) -> float | None:
    finite = None if values is None else values[np.isfinite(values)]
    return None if finite is None or not len(finite) else float(finite.mean())


def _of_rewards(judged: Array, n: int) -> Figures:
    failed = float(1 - len(judged) / n) if n else 0.0
    if not len(judged):
        return {"reward": None, "std": None, "failed": failed, "max": None, "min": None, "top": None}
    high, low = float(judged.max()), float(judged.min())
    top = float((judged >= high - 1e-6 * max(1.0, abs(high))).mean())
    mean, std = float(judged.mean()), float(judged.std())
    return {"reward": mean, "std": std, "failed": failed, "max": high, "min": low, "top": top}


def _means_taken(values: Array, index: Array) -> Array:
    """[n] minus the mean of each row's group."""
    if not len(values):
        return values
    counts = np.bincount(index)
    return values - (np.bincount(index, values) / np.maximum(counts, 1))[index]


def _centred(judged: Array, index: Array) -> tuple[Array, Figures]:
    centred = _means_taken(judged, index)
    if not len(judged):
        return centred, {"spread": None, "flat": None}
    counts = np.bincount(index)
    several = counts >= 2
    if not several.any():
        return centred, {"spread": None, "flat": None}
    variance = np.bincount(index, centred**2)[several] / counts[several]
    scale = max(1.0, float(np.abs(judged).max()))
    std = np.sqrt(variance)
    return centred, {"spread": float(std.mean()), "flat": float((std <= 1e-6 * scale).mean())}


def _correlation(centred: Array, lengths: Array, index: Array) -> float | None:
    other = _means_taken(lengths, index)
    size = float(np.sqrt((centred @ centred) * (other @ other)))
    return float(centred @ other / size) if size > 1e-9 else None


def _variety(completions: Sequence[Any] | None, index: Array) -> Figures:
    nothing = {"distinct": None, "common": None}
    if not completions or not all(isinstance(text, str) for text in completions):
        return nothing
    counts = Counter(completions)
    several = int(index.max()) > 0
    common = max(counts.values()) / len(completions) if several else None
    return {"distinct": len(counts) / len(completions), "common": common}


def _parts(rewards: Array, arrays: Mapping[str, Array], index: Array) -> dict[str, Figures]:
    if not arrays:
        return {}
    weights, shares = _shares(rewards, np.stack(list(arrays.values()), axis=1), index)
    return {
        name: {**_of_part(array), "share": shares[k], "weight": weights[k]}
        for k, (name, array) in enumerate(arrays.items())
    }


def _of_part(array: Array) -> Figures:
    judged = array[np.isfinite(array)]
    failed = float(1 - len(judged) / len(array)) if len(array) else 0.0
    if not len(judged):
        return {"mean": None, "std": None, "failed": failed, "max": None, "min": None}
    ends = {"max": float(judged.max()), "min": float(judged.min())}
    return {"mean": float(judged.mean()), "std": float(judged.std()), "failed": failed, **ends}


def _shares(rewards: Array, parts: Array, index: Array) -> tuple[list[float | None], list[float | None]]:
    """Weight and share of each part [K]; None where the total does not vary or there are too few rows."""
    unknown: list[float | None] = [None] * parts.shape[1]
    rows = np.isfinite(rewards) & np.isfinite(parts).all(axis=1)
    if rows.sum() < FEWEST:
        return unknown, unknown
    total = _means_taken(rewards[rows], index[rows])
    columns = np.stack([_means_taken(part, index[rows]) for part in parts[rows].T], axis=1)
    power = float(total @ total)
    if power <= 1e-12 * max(1.0, float(np.abs(rewards[rows]).max()) ** 2) * len(total):
        return unknown, unknown
    weights = np.linalg.lstsq(columns, total, rcond=1e-6)[0]
    alive = (columns**2).sum(axis=0) > 1e-12
    shares = weights * (total @ columns) / power
    return [float(w) if a else None for w, a in zip(weights, alive, strict=True)], [float(s) for s in shares]
