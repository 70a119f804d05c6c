"""Rewards in order of priority: a lower one counts only where every higher one has cleared its threshold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from steelyard.rewards.combinators import Combination, call, with_parts
from steelyard.rewards.core import Expression, _check_finite, as_reward, joined
from steelyard.types import Array, Rollouts, Scores, Status, SteelyardError


@dataclass(frozen=True, eq=False)
class Gated:
    """What the gates left.

    Attributes:
        open: bool [K, N], whether a channel counts; the top one always does.
        steps: float64 [N, T], gated rewards of every step, 0 where nothing was emitted.
        value: float64 [N], the gated return.
        direct: float64 [N], the return without gates.
    """

    open: Array
    steps: Array
    value: Array
    direct: Array


def gate_channels(
    channels: Array, *, above: Sequence[float], strict: bool = True, outcomes: Array | None = None
) -> Gated:
    """R~^(i)_t = R^(i)_t · Π_{j>i} 1[v_j > δ_j], R = Σ_t Σ_i R~^(i)_t.

    Args:
        channels: float [K, N, T], lowest priority first; NaN where a channel emitted nothing.
        above: δ of every channel but the lowest [K − 1].
        strict: whether v must be above δ; otherwise it may be equal.
        outcomes: v, float [K, N], the value that gates; NaN = never emitted, which is closed. By default the last
            one that the channel emitted.

    Source: sheet 46 (G-RA, arXiv 2508.10548).
    """
    rewards = np.asarray(channels, np.float64)
    values = _last(rewards) if outcomes is None else np.asarray(outcomes, np.float64)
    opened = _opened(values, above, strict)
    known = np.where(np.isnan(rewards), 0.0, rewards)
    steps = (known * opened[:, :, None]).sum(axis=0)
    return Gated(opened, steps, steps.sum(axis=1), known.sum(axis=(0, 2)))


def _opened(outcomes: Array, above: Sequence[float], strict: bool) -> Array:
    """bool [K, N], whether all gates above a channel are open; NaN is shut."""
    limits = np.asarray(above, np.float64)[:, None]
    passed = outcomes[1:] > limits if strict else outcomes[1:] >= limits
    lower = np.logical_and.accumulate(passed[::-1], axis=0)[::-1]
    return np.concatenate([lower, np.ones((1, outcomes.shape[1]), bool)])


def _last(rewards: Array) -> Array:
    """The last number of every channel and row [K, N]; NaN where there is none."""
    place = _last_place(~np.isnan(rewards))
    return np.take_along_axis(rewards, place[..., None], axis=-1)[..., 0]


def _last_place(present: Array) -> Array:
    """Index of the last True along the last axis; 0 where there is none."""
    return np.where(present.any(axis=-1), present.shape[-1] - 1 - present[..., ::-1].argmax(axis=-1), 0)


def gated(*channels: Expression | float, above: float | Sequence[float] = 0.0, strict: bool = True) -> Expression:
    """Σ_i r_i · Π_{j>i} 1[r_j > δ_j], from the lowest to the highest priority: steps pay only where the outcome does.

    A channel with process scores (`Scores.steps`) counts with their sum, and its value is what gates; one without
    stands on the row's last step. Process scores of the result are the gated ones [N, S].

    A channel that says NOT_APPLICABLE never came: it adds nothing and shuts what is below it. One that failed makes
    the row NaN, unless a higher gate is shut and its verdict is not needed. Timeouts and crashes of an episode must
    be a level of the outcome, not missing. The parts `open/NAME` and `direct_return` (the sum without gates) go to
    the log: a direct return that rises while the outcome falls is what the gate prevents.

    Args:
        *channels: two or more, lowest priority first, the outcome last.
        above: δ of every channel but the lowest, or one number for all.
        strict: whether a gate's value must be above δ; otherwise it may be equal.

    Raises:
        SteelyardError: for fewer than two channels or a wrong number of thresholds.

    Source: sheet 46 (G-RA, arXiv 2508.10548).
    """
    limits = [float(above)] * (len(channels) - 1) if isinstance(above, (int, float)) else [float(x) for x in above]
    name = call("gated", channels, above=limits, strict=None if strict else False)
    if len(channels) < 2 or len(limits) != len(channels) - 1:
        counts = f"{len(channels)} channels and {len(limits)} thresholds"
        raise SteelyardError(
            f"gated has {counts}; it needs two channels or more and a threshold for all but the lowest"
        )
    for limit in limits:
        _check_finite(limit, "a threshold of gated")
    labels = [as_reward(channel).name for channel in channels]

    def combine(_: Rollouts, scores: list[Scores]) -> Scores:
        outcomes = np.stack([score.values for score in scores]).astype(np.float64)
        result = gate_channels(_laid_out(scores), above=limits, strict=strict, outcomes=outcomes)
        wanted = _needed(scores, outcomes, limits, strict)
        nothing = np.isnan(outcomes).all(axis=0)
        value = np.where(wanted.any(axis=0) | nothing, np.nan, result.value)
        reasons = [Scores(np.where(w, np.nan, 0.0), s.status) for w, s in zip(wanted, scores, strict=True)]
        total = joined(value, [*reasons, *scores], name=name)
        if any(score.steps is not None for score in scores):
            total.steps = np.where(np.isnan(value)[:, None], np.nan, result.steps).astype(np.float32)
        failed = np.stack([_failed(score) for score in scores]).any(axis=0)
        parts = {"direct_return": np.where(failed | nothing, np.nan, result.direct).astype(np.float32)}
        parts |= {f"open/{label}": o.astype(np.float32) for label, o in zip(labels[:-1], result.open, strict=False)}
        return with_parts(total, parts)

    return Combination(name, channels, combine)


def _failed(scores: Scores) -> Array:
    return np.isnan(scores.values) & (scores.status != Status.NOT_APPLICABLE)


def _needed(scores: Sequence[Scores], outcomes: Array, limits: Sequence[float], strict: bool) -> Array:
    """bool [K, N]: where a channel failed and no higher gate is known to be shut."""
    failed = np.stack([_failed(score) for score in scores])
    return failed & _opened(np.where(failed, np.inf, outcomes), limits, strict)


def _laid_out(scores: Sequence[Scores]) -> Array:
    """Rewards of all channels on one row of steps, float64 [K, N, S]; a channel without steps is on the last one."""
    n, width = len(scores[0]), max((score.steps.shape[1] for score in scores if score.steps is not None), default=1)
    laid = np.full((len(scores), n, width), np.nan)
    for channel, score in zip(laid, scores, strict=True):
        if score.steps is not None:
            channel[:, : score.steps.shape[1]] = score.steps
    last = _last_place(np.asarray((~np.isnan(laid)).any(axis=0)))
    for channel, score in zip(laid, scores, strict=True):
        if score.steps is None:
            channel[np.arange(n), last] = score.values
    return laid
