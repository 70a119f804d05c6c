"""Combinations that need statistics of a group or of the whole batch: normalised parts, ranks, log-taming."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from steelyard.rewards.combinators import Combination, call, stacked, with_parts
from steelyard.rewards.core import Expression, Sum, _check_finite, as_reward, joined
from steelyard.types import PER_BRANCH, Array, GroupKey, Rollouts, Scores, SteelyardError, group_index

Threshold = Literal["mean", "median"] | float


def normalised(
    reward: Expression | float, *, by: GroupKey = PER_BRANCH, ddof: int = 1, epsilon: float = 1e-4
) -> Expression:
    """(r_i − mean) / (std + ε) within i's group, part by part: `normalised(a + 2 * b)` is
    `normalised(a) + 2 * normalised(b)`.

    Each part of a sum then has the same spread before its weight counts, so that a part with large numbers does not
    drown the others, and rows that differ in one part only still differ (GDPO; to normalise the total, use the
    advantage chain). NaN rows stay NaN and count in no statistic. A group of one, or of equal values, gives 0.

    Args:
        reward: the reward, or a sum of which every term is normalised.
        by: what makes a group: `group`, `branch`, or the name of a column; `()` is the whole batch.
        ddof: 1 divides by n − 1, 0 by n.
        epsilon: ≥ 0, keeps nearly equal groups near 0.

    Source: sheet 15's sum of advantages (with ddof 0); GDPO.
    """
    if _check_finite(epsilon, "normalised's epsilon") < 0:
        raise SteelyardError(f"normalised has epsilon {epsilon:g}; it must be ≥ 0")
    if isinstance(reward, Sum):
        terms = [(weight, normalised(term, by=by, ddof=ddof, epsilon=epsilon)) for weight, term in reward.terms]
        return Sum(terms)

    def combine(rollouts: Rollouts, scores: list[Scores]) -> Array:
        return standardised(stacked(scores)[0], group_index(rollouts, by), ddof=ddof, epsilon=epsilon)

    shown = {"ddof": None if ddof == 1 else ddof, "epsilon": None if epsilon == 1e-4 else epsilon}
    return Combination(call("normalised", [reward], by=_key(by), **shown), [reward], combine)


def _key(by: GroupKey) -> tuple[str, ...] | None:
    return None if tuple(by) == PER_BRANCH else tuple(by)


def standardised(values: Array, group: Array, *, ddof: int = 1, epsilon: float = 1e-4) -> Array:
    """(v − mean) / (std + ε) within groups; NaN stays NaN and counts in no statistic.

    Args:
        values: float64 [N].
        group: int64 [N], 0…K−1.
        ddof: 1 divides by n − 1, 0 by n.
        epsilon: added to the standard deviation.

    Returns:
        float64 [N]; 0 in groups of one and where all are equal.
    """
    known = ~np.isnan(values)
    count = np.bincount(group, known)
    mean = np.bincount(group, np.where(known, values, 0.0)) / np.maximum(count, 1)
    centred = values - mean[group]
    squares = np.bincount(group, np.where(known, centred, 0.0) ** 2)
    std = np.sqrt(np.where(count > ddof, squares / np.maximum(count - ddof, 1), 0.0))[group]
    flat = std <= 1e-10 * np.abs(mean[group])  # what rounding alone leaves of equal values
    return np.where(known & flat, 0.0, centred / np.where(flat, 1.0, std + epsilon))


def relative_to_best(reward: Expression | float, *, by: GroupKey = PER_BRANCH) -> Expression:
    """r_i / max_j r_j within i's group, in [0, 1]; 0 where the best is 0. NaN rows stay NaN and are no best.

    Args:
        reward: ≥ 0 on every row.
        by: what makes a group: `group`, `branch`, or the name of a column.

    Raises:
        SteelyardError: at the call, for a reward below 0.

    Source: sheet 56's normalised rubric reward; the best is taken over all rows of the group, right or wrong.
    """

    def combine(rollouts: Rollouts, scores: list[Scores]) -> Array:
        values, group = stacked(scores)[0], group_index(rollouts, by)
        if (values < 0).any():
            raise SteelyardError(f"{name} met {np.nanmin(values):g}; shift the reward so that it is never below 0")
        best = np.zeros(group.max(initial=-1) + 1)
        np.maximum.at(best, group, np.nan_to_num(values))
        top = best[group]
        return np.where(top > 0, values / np.where(top > 0, top, 1.0), values)

    name = call("relative_to_best", [reward], by=_key(by))
    return Combination(name, [reward], combine)


def ranked(reward: Expression | float, *, by: GroupKey = PER_BRANCH) -> Expression:
    """Rank within the group over (size − 1), in [0, 1]; equal values share their mean rank, a group of one gives 0.

    NaN rows stay NaN and take no rank. Source: sheet 15's rank-based aggregation; its code breaks ties by position,
    which would prefer one of two equal completions.
    """

    def combine(rollouts: Rollouts, scores: list[Scores]) -> Array:
        return ranks(stacked(scores)[0], group_index(rollouts, by))

    return Combination(call("ranked", [reward], by=_key(by)), [reward], combine)


def ranks(values: Array, group: Array) -> Array:
    """Mean rank within groups over (size − 1). See `ranked`.

    Args:
        values: float64 [N].
        group: int64 [N], 0…K−1.

    Returns:
        float64 [N] in [0, 1], NaN where the value is.
    """
    result = np.full(len(values), np.nan)
    known = np.flatnonzero(~np.isnan(values))
    if not len(known):
        return result
    order = known[np.lexsort((values[known], group[known]))]
    place, sorted_values, sorted_group = np.arange(len(order)), values[order], group[order]
    new_group = np.concatenate([[True], sorted_group[1:] != sorted_group[:-1]])
    new_value = new_group | np.concatenate([[True], sorted_values[1:] != sorted_values[:-1]])
    tie = new_value.cumsum() - 1
    mean_place = (np.bincount(tie, place) / np.bincount(tie))[tie]
    number = new_group.cumsum() - 1
    start, size = place[new_group][number], np.bincount(number)[number]
    result[order] = (mean_place - start) / np.maximum(size - 1, 1)
    return result


@dataclass(frozen=True, eq=False)
class Tamed:
    """What log-taming did.

    Attributes:
        total: float64 [N], Σ_k w_k R~_k.
        spread: float64 [K], h_k = std / mean of every reward over the batch; NaN where no row was judged.
        threshold: δ.
        tamed: bool [K], which rewards were compressed.
    """

    total: Array
    spread: Array
    threshold: float
    tamed: Array


def log_tame(rewards: Array, *, weights: Sequence[float] | None = None, threshold: Threshold = "mean") -> Tamed:
    """Σ_k w_k R~_k with R~_k = log(1 + R_k) where h_k > δ, else R_k.

    h_k = std(R_k) / (mean(R_k) + 1e-6) over all rows that were judged (population form); δ = mean or median of the h,
    or a fixed number.

    Args:
        rewards: float [K, N]; NaN where a row could not be judged, which makes its total NaN.
        weights: w_k, by default 1.
        threshold: δ.

    Raises:
        SteelyardError: if a reward that is to be tamed has a value ≤ −1.

    Source: sheet 15 (PaCo-RL, arXiv 2512.04784).
    """
    values = np.asarray(rewards, np.float64)
    known = ~np.isnan(values)
    count = np.maximum(known.sum(axis=1), 1)
    mean = np.where(known, values, 0.0).sum(axis=1) / count
    variance = (np.where(known, values - mean[:, None], 0.0) ** 2).sum(axis=1) / count
    spread = np.where(known.any(axis=1), np.sqrt(variance) / (mean + 1e-6), np.nan)
    limit = _limit(spread[~np.isnan(spread)], threshold)
    tamed = spread > limit + 1e-12 * abs(limit)  # the mean of equal h must not fall below them by rounding
    if (values[tamed] <= -1).any():
        raise SteelyardError("log_tamed has a value ≤ −1 in a reward to be tamed; shift it so that all are ≥ 0")
    compressed = values.copy()
    compressed[tamed] = np.log1p(values[tamed])
    total = (np.ones(len(values)) if weights is None else np.asarray(weights, np.float64)) @ compressed
    return Tamed(total, spread, limit, tamed)


def _limit(spread: Array, threshold: Threshold) -> float:
    if isinstance(threshold, str):
        if threshold not in ("mean", "median"):
            raise SteelyardError(f"log_tamed has the threshold {threshold!r}; it must be 'mean', 'median' or a number")
        statistic = np.mean if threshold == "mean" else np.median
        return float(statistic(spread)) if len(spread) else float("nan")
    return _check_finite(float(threshold), "the threshold of log_tamed")


def log_tamed(
    *rewards: Expression | float, weights: Sequence[float] | None = None, threshold: Threshold = "mean"
) -> Expression:
    """Σ_k w_k R~_k, where a reward that spreads wider than the others is compressed: see `log_tame`.

    The parts `tamed/NAME` (1 where the reward was tamed, the same for all rows of a batch) and `spread/NAME` (its h)
    go to the log, because which rewards are tamed changes during training. Under the mean rule a lone reward is never
    tamed; with a fixed threshold a reward that dominates leaves the tamed set once its relative spread falls.

    Args:
        *rewards: each ≥ 0 on every row.
        weights: one a reward, by default 1.
        threshold: `mean` or `median` of the h, or a fixed number.

    Raises:
        SteelyardError: for a wrong number of weights, or at the call for a reward below 0.
    """
    name = call("log_tamed", rewards, weights=weights, threshold=None if threshold == "mean" else threshold)
    if weights is not None and len(weights) != len(rewards):
        raise SteelyardError(f"log_tamed has {len(weights)} weights for {len(rewards)} rewards; give one each")
    for weight in weights or ():
        _check_finite(weight, "a weight of log_tamed")
    _limit(np.zeros(0), threshold)
    labels = [as_reward(reward).name for reward in rewards]

    def combine(_: Rollouts, scores: list[Scores]) -> Scores:
        values = stacked(scores)
        _check_not_negative(values, labels)
        tamed = log_tame(values, weights=weights, threshold=threshold)
        parts = {
            f"{what}/{label}": np.full(values.shape[1], number, np.float32)
            for what, numbers in (("tamed", tamed.tamed), ("spread", tamed.spread))
            for label, number in zip(labels, numbers, strict=True)
        }
        return with_parts(joined(tamed.total, scores, name=name), parts)

    return Combination(name, rewards, combine)


def _check_not_negative(values: Array, labels: Sequence[str]) -> None:
    if (values < 0).any():
        part, row = (int(i) for i in np.argwhere(values < 0)[0])
        raise SteelyardError(
            f"log_tamed: {labels[part]!r} is {values[part, row]:g} on row {row}; shift it so that it is never below 0"
        )
