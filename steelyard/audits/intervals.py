"""Figures with their 95% intervals: shares (Wilson), means and areas under the curve (bootstrap over groups)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from steelyard.audits.separation import separation
from steelyard.types import Array

Z = 1.959963984540054
RESAMPLES = 1000


class Estimate(NamedTuple):
    """A figure, its 95% interval, and `n`, how many rows (or pairs, or groups) it rests on."""

    value: float
    low: float
    high: float
    n: int


def share(hits: Array) -> Estimate:
    """A share of yes among bool [N], with Wilson's interval, which is honest at 0, at 1 and for few rows."""
    n = len(hits)
    if not n:
        return Estimate(math.nan, 0.0, 1.0, 0)
    p = float(np.mean(hits))
    return Estimate(p, *wilson(p, n), n)


def wilson(p: float, n: int) -> tuple[float, float]:
    """Wilson's 95% interval of a mean p of n numbers in [0, 1]; exact in form for 0/1, too wide for fractions."""
    centre, spread = p + Z**2 / (2 * n), Z * math.sqrt(p * (1 - p) / n + Z**2 / (4 * n**2))
    low, high = ((centre + sign * spread) / (1 + Z**2 / n) for sign in (-1, 1))
    return min(max(low, 0.0), p), max(min(high, 1.0), p)


def mean(values: Array, groups: Array, generator: np.random.Generator) -> Estimate:
    """The mean of float [N], with the interval of a bootstrap over the groups int [N]."""
    weights = group_weights(groups, generator)
    return bootstrapped(float(np.mean(values)), (weights @ values) / weights.sum(axis=1), len(values))


def auc(values: Array, labels: Array, groups: Array, generator: np.random.Generator) -> Estimate:
    """P(score of a good row > score of a bad one) + ½ P(equal), with the interval of a bootstrap over the groups.

    Args:
        values: float [N]; labels: bool [N], True = good, both kinds present.
        groups: int [N]; rows of one group are drawn together.
        generator: of the bootstrap.
    """
    _, place = np.unique(values, return_inverse=True)
    draws = _areas(group_weights(groups, generator), place, labels)
    return bootstrapped(separation(values, labels), draws, len(values))


def _areas(weights: Array, place: Array, labels: Array) -> Array:
    """Weighted areas [R] from weights [R, N], the rank of every row's value [N] and labels [N]."""
    counts = []
    for kind in (labels, ~labels):
        count = np.zeros((len(weights), int(place.max()) + 1))
        np.add.at(count.T, place[kind], weights[:, kind].T)
        counts.append(count)
    good, bad = counts
    below = bad.cumsum(axis=1) - bad / 2
    with np.errstate(invalid="ignore", divide="ignore"):  # a draw without one of the classes has no area
        area: Array = (good * below).sum(axis=1) / (good.sum(axis=1) * bad.sum(axis=1))
    return area


def group_weights(groups: Array, generator: np.random.Generator, resamples: int = RESAMPLES) -> Array:
    """How often every row [N] stands in each of R resamples of the groups: float [R, N]."""
    _, index = np.unique(groups, return_inverse=True)
    count = int(index.max()) + 1
    drawn = generator.multinomial(count, np.full(count, 1 / count), size=resamples)
    return drawn[:, index].astype(np.float64)


def bootstrapped(value: float, draws: Array, count: int) -> Estimate:
    """The figure with the 2.5% and 97.5% quantiles of its resamples; those that have no value do not count."""
    known = draws[np.isfinite(draws)]
    if not len(known):
        return Estimate(value, -math.inf, math.inf, count)
    low, high = np.quantile(known, (0.025, 0.975))
    return Estimate(value, float(min(low, value)), float(max(high, value)), count)


def resampled(
    statistic: Callable[[Array], float], groups: Array, generator: np.random.Generator, resamples: int = 200
) -> Estimate:
    """Any statistic of row numbers int [n], with the interval of a bootstrap over groups; slower than the others."""
    order = np.argsort(groups, kind="stable")
    _, starts = np.unique(groups[order], return_index=True)
    members = np.split(order, starts[1:])
    picks = generator.integers(len(members), size=(resamples, len(members)))
    draws = np.asarray([statistic(np.concatenate([members[i] for i in pick])) for pick in picks])
    return bootstrapped(statistic(np.arange(len(groups))), draws, len(groups))


def ranks(values: Array) -> Array:
    """Ranks [N] from 0, ties share their mean rank."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    last = count.cumsum()
    middle: Array = (last - (count + 1) / 2)[place]
    return middle


def correlation(x: Array, y: Array) -> float:
    """Pearson's; 0 where one of them does not vary."""
    x, y = x - x.mean(), y - y.mean()
    size = math.sqrt(float(x @ x) * float(y @ y))
    return float(x @ y) / size if size > 1e-12 else 0.0


def correlation_interval(value: float, count: int) -> Estimate:
    """Fisher's interval of a correlation over `count` independent rows."""
    if count < 4:
        return Estimate(value, -1.0, 1.0, count)
    middle, half = math.atanh(min(max(value, -0.999999), 0.999999)), Z / math.sqrt(count - 3)
    return Estimate(value, min(math.tanh(middle - half), value), max(math.tanh(middle + half), value), count)
