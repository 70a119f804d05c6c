"""Whether a judge says YES to strings without content: false positives by data set and key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from steelyard.rewards.judges.guards import MASTER_KEYS
from steelyard.rewards.judges.scoring import verified
from steelyard.types import Array, Judge, Reward, Rollouts, Sample, SteelyardError


@dataclass(frozen=True, eq=False)
class FalsePositives:
    """Shares of items at which a key alone is accepted.

    Never report them alone: a judge that always says NO has none. Put its agreement with a gold labeller
    (`steelyard.audits.agreement.cohen_kappa`) beside them.

    Attributes:
        rates: float64 [D, K], NaN where no item could be judged.
        datasets: names [D]; keys: [K].
        unjudged: float64 [D, K], share of items without a verdict, which count in no rate.
    """

    rates: Array
    datasets: tuple[str, ...]
    keys: tuple[str, ...]
    unjudged: Array

    @property
    def per_key(self) -> Array:
        """float64 [K], mean over data sets."""
        return _mean(self.rates, axis=0)

    @property
    def per_dataset(self) -> Array:
        """float64 [D], mean over keys."""
        return _mean(self.rates, axis=1)

    @property
    def mean(self) -> float:
        """Over all cells alike."""
        return float(_mean(self.rates.reshape(-1), axis=0))

    @property
    def worst(self) -> float:
        """The largest cell."""
        known = self.rates[~np.isnan(self.rates)]
        return float(known.max()) if len(known) else float("nan")

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; None for what is undefined."""
        table = {name: dict(zip(self.keys, map(_plain, row), strict=True)) for name, row in self.named(self.rates)}
        missing = {name: dict(zip(self.keys, map(_plain, row), strict=True)) for name, row in self.named(self.unjudged)}
        return {"rates": table, "unjudged": missing, "mean": _plain(self.mean), "worst": _plain(self.worst)}

    def named(self, table: Array) -> list[tuple[str, Array]]:
        """Rows of a [D, K] table with their data sets."""
        return list(zip(self.datasets, table, strict=True))


def _plain(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _mean(values: Array, *, axis: int) -> Array:
    known = ~np.isnan(values)
    count = known.sum(axis=axis)
    total = np.where(known, values, 0.0).sum(axis=axis)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def fpr_table(
    rates: Array, *, datasets: Sequence[str] = (), keys: Sequence[str] = (), unjudged: Array | None = None
) -> FalsePositives:
    """Rates [D, K] as a table with its means and worst cell.

    Raises:
        SteelyardError: if they are not a table of shares, or the names do not fit.
    """
    rates = np.asarray(rates, np.float64)
    if rates.ndim != 2 or not rates.size or ((rates < 0) | (rates > 1)).any():
        raise SteelyardError(f"rates of shape {rates.shape} are no table [data sets, keys] of shares from 0 to 1")
    rows = tuple(datasets) or tuple(f"data set {i + 1}" for i in range(rates.shape[0]))
    columns = tuple(keys) or tuple(f"key {i + 1}" for i in range(rates.shape[1]))
    if (len(rows), len(columns)) != rates.shape:
        raise SteelyardError(f"{len(rows)} data sets and {len(columns)} keys do not fit rates of shape {rates.shape}")
    return FalsePositives(rates, rows, columns, np.zeros_like(rates) if unjudged is None else unjudged)


def false_positives(
    judge: Judge | Reward,
    items: Sequence[Sample] | Mapping[str, Sequence[Sample]],
    keys: Sequence[str] = MASTER_KEYS,
    *,
    above: float = 0.5,
    reference: str = "answer",
) -> FalsePositives:
    """FPR(key, data set) = share of the judged items at which the response `key` alone is accepted.

    Args:
        judge: a judge, which is asked as `verified(judge)` asks it, or any reward whose value says right or wrong.
        items: samples with the columns that the reward reads (`answer`, for a judge), or several sets of them by name.
        keys: the responses to try; none of them answers anything.
        above: a reward's value above this counts as accepted.
        reference: column with the right answer, for a judge.

    Raises:
        SteelyardError: for no items, no keys, or a column that is missing.

    Source: sheet 47, "Metric".
    """
    sets = dict(items) if isinstance(items, Mapping) else {"items": items}
    if not sets or not keys or not all(len(samples) for samples in sets.values()):
        raise SteelyardError(
            f"{len(keys)} keys and the data sets {list(sets)}: give at least one key and one item each"
        )
    reward: Reward = verified(judge, reference=reference) if isinstance(judge, Judge) else judge
    rates, unjudged = np.full((2, len(sets), len(keys)), np.nan)
    for row, samples in enumerate(sets.values()):
        values = reward(_tried(list(samples), keys)).values.reshape(len(keys), len(samples))
        missing = np.isnan(values)
        accepted = ((values > above) & ~missing).sum(axis=1)
        judged = (~missing).sum(axis=1)
        rates[row] = np.where(judged > 0, accepted / np.maximum(judged, 1), np.nan)
        unjudged[row] = missing.mean(axis=1)
    return fpr_table(rates, datasets=tuple(sets), keys=tuple(keys), unjudged=unjudged)


def _tried(samples: list[Sample], keys: Sequence[str]) -> Rollouts:
    """Every key as the response to every sample, key by key."""
    return Rollouts(samples * len(keys), [key for key in keys for _ in samples])
