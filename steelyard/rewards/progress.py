"""Progress through annotated stages (SARM, sheet 37): labels, windows of frames, smoothing, and RA-BC's weights."""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from steelyard.types import Array, SteelyardError

CAP = 0.999
"""τ at the end of the last stage, so that k + τ stays below K."""


class Stage(NamedTuple):
    """One annotated stage of an episode: its name, its first and its last frame (or second)."""

    name: str
    start: float
    end: float


def temporal_proportions(episodes: Sequence[Sequence[Stage]], order: Sequence[str] | None = None) -> dict[str, float]:
    """The prior of each stage: ᾱ_k = mean_i L_{i,k} / T_i over the episodes that have it, renormalised to sum to one.

    T_i is the sum of an episode's stages; an episode of length 0 says nothing. A stage that is annotated twice in one
    episode counts with its last span, as in the port: annotate each once.

    Args:
        episodes: the stages of each episode.
        order: of the names that come out; a name that no episode has is left out.

    Source: sheet 37, equation 1.
    """
    shares: dict[str, list[float]] = {}
    for stages in episodes:
        lengths = {name: end - start for name, start, end in stages}
        total = sum(end - start for _, start, end in stages)
        if total > 0:
            for name, length in lengths.items():
                shares.setdefault(name, []).append(length / total)
    means = {name: sum(found) / len(found) for name, found in shares.items()}
    whole = sum(means.values())
    means = {name: mean / whole for name, mean in means.items()} if whole > 0 else means
    return {name: means[name] for name in order if name in means} if order else means


def complete(stages: Sequence[Stage], order: Sequence[str]) -> bool:
    """Whether an episode has every stage once, in order, none before the last one's end: others are to be discarded."""
    names = [stage.name for stage in stages]
    spans = [edge for _, start, end in stages for edge in (start, end)]
    return names == list(order) and all(a <= b for a, b in itertools.pairwise(spans))


def stage_and_tau(
    frames: Array, stages: Sequence[Stage] | None, order: Sequence[str], *, length: int
) -> tuple[Array, Array]:
    """The stage k of frames, counted from 0, and how far into it they are.

    τ = clip((t − s_k) / (e_k − s_k), 0, 1), and 1 in a stage of length 0. Before the first stage: k = 0, τ = 0; between
    two: the one before, τ = 1; after the last: K − 1, τ = 0.999. The first stage that holds a frame wins. With one
    stage in all, τ = t / (T − 1) whatever is annotated. Without annotation of several stages: 0, 0.

    Args:
        frames: t, numbers [n] counted from the episode's start.
        stages: in the order of time. order: the names of all K stages.
        length: T, frames of the episode.

    Returns:
        int64 [n] and float64 [n].

    Raises:
        SteelyardError: for no stages in `order`.
    """
    t = np.asarray(frames, np.float64)
    if not order:
        raise SteelyardError("progress needs the names of all stages, at least one; order is empty")
    k, tau = np.zeros(t.shape, np.int64), np.zeros(t.shape)
    if len(order) == 1:
        return k, np.clip(t / max(length - 1, 1), 0.0, 1.0)
    if not stages:
        return k, tau
    place = {name: i for i, name in reversed(list(enumerate(order)))}
    for j, (stage, following) in reversed(list(enumerate(itertools.pairwise(stages)))):
        gap = (t > stage.end) & (t < following.start)
        k, tau = np.where(gap, place.get(stage.name, j), k), np.where(gap, 1.0, tau)
    for name, start, end in reversed(stages):
        inside = (t >= start) & (t <= end)
        far = np.clip((t - start) / (end - start), 0.0, 1.0) if end > start else np.ones_like(t)
        k, tau = np.where(inside, place.get(name, 0), k), np.where(inside, far, tau)
    before, after = t < stages[0].start, t > stages[-1].end
    k = np.where(before, 0, np.where(after, len(order) - 1, k))
    return k, np.where(before, 0.0, np.where(after, CAP, tau))


def stage_targets(frames: Array, stages: Sequence[Stage] | None, order: Sequence[str], *, length: int) -> Array:
    """k + τ [n], at most K − 1 + 0.999; see `stage_and_tau`.

    Mind that the last frame of a stage and the first of the next have the same number: train on (k, τ) apart.
    """
    k, tau = stage_and_tau(frames, stages, order, length=length)
    return np.where((k >= len(order) - 1) & (tau >= 1.0), len(order) - 1 + CAP, k + tau)


def breakpoints_of(proportions: Sequence[float]) -> Array:
    """P_0 … P_K: the priors' running sum, renormalised; 0 first and 1 last."""
    alpha = np.asarray(proportions, np.float64)
    total = alpha.sum()
    if not len(alpha) or not (np.isfinite(alpha) & (alpha >= 0)).all() or total <= 0:
        raise SteelyardError(f"priors are {list(proportions)}; they are numbers of 0 or more, not all 0")
    edges = np.concatenate([[0.0], np.cumsum(alpha / total)])
    edges[-1] = 1.0
    return edges


def normalised_progress(target: Array, breakpoints: Sequence[float] | Array) -> Array:
    """y = P_k + (P_{k+1} − P_k) τ from k + τ: 0 below 0, 1 from K on, NaN stays.

    Args:
        target: k + τ, any shape.
        breakpoints: P_0 … P_K [K + 1], as `breakpoints_of` makes them of priors.
    """
    edges = np.asarray(breakpoints, np.float64)
    progress: Array = np.interp(target, np.arange(len(edges)), edges)
    return np.clip(np.where(np.asarray(target) >= len(edges) - 1, 1.0, progress), 0.0, 1.0)


# Windows of frames.


def centred_window(
    frame: int | Array, *, start: int | Array, end: int | Array, frames: int = 8, gap: int = 30
) -> tuple[Array, Array]:
    """`frames` + 1 indices around a frame, `gap` apart, held inside the episode; and which had to be held (1).

    It looks into the future: right for relabelling, wrong for a reward while acting.

    Args:
        frame: one, or as many as you like [b]; start, end: the episode's first frame, and the one after its last.

    Returns:
        int64 [frames + 1] or [b, frames + 1], twice.
    """
    half = frames // 2
    wanted = np.asarray(frame)[..., None] + gap * np.arange(-half, half + 1)
    held = np.clip(wanted, np.asarray(start)[..., None], np.asarray(end)[..., None] - 1)
    return held, (held != wanted).astype(np.int64)


def causal_window(frame: int | Array, *, start: int | Array, frames: int = 8, gap: int = 30) -> Array:
    """The episode's first frame and `frames` that end at `frame`, `gap` apart, or evenly spaced in a short history.

    Returns:
        int64 [frames + 1] or [b, frames + 1].
    """
    last, first = np.broadcast_arrays(np.asarray(frame), np.asarray(start))
    oldest = np.maximum(first, last - (frames - 1) * gap)
    spaced = np.linspace(oldest, last, frames, axis=-1).round().astype(np.int64)
    return np.concatenate([first[..., None], spaced], axis=-1)


def rewind_frames(frame: int, *, start: int, steps: int, most: int = 4, frames: int = 8, gap: int = 30) -> Array:
    """Frames before the centred window, backwards: what to append so that a model sees progress fall.

    Args:
        steps: how many are wanted; fewer come where `most` or the history does not allow them, none without history.
    """
    return rewound(frame - (frames // 2) * gap, start=start, steps=min(steps, most), gap=gap)


def rewound(earliest: int, *, start: int, steps: int, gap: int) -> Array:
    """Up to `steps` frames before a window's earliest one, backwards, `gap` apart: int64 [≤ steps]."""
    count = max(0, min(steps, (earliest - start) // gap))
    return earliest - gap * np.arange(1, count + 1)


# Smoothing while acting.


class ConfidenceSmoother:
    """A running mean of progress in which each value counts by its confidence to the power β.

    ŷ = Σ c_j^β y_j / (Σ c_j^β + ε) over the last `window` values that were accepted; one whose confidence lies under
    `least` changes nothing and gets the last ŷ. State: `state_dict`, plain JSON.

    Source: sheet 37, the authors' code.
    """

    def __init__(self, *, window: int = 10, beta: float = 3.0, least: float = 0.9, epsilon: float = 1e-6) -> None:
        if window < 1:
            raise SteelyardError(f"a smoother's window is {window}; it holds at least one value")
        self.beta, self.least, self.epsilon = beta, least, epsilon
        self.kept: deque[tuple[float, float]] = deque(maxlen=window)
        self.last: float | None = None

    def __call__(self, value: float, confidence: float) -> float:
        """The smoothed value after one more."""
        sure = max(0.0, min(1.0, float(confidence)))
        if sure >= self.least:
            self.kept.append((float(value), sure))
            self.last = self._mean()
        elif self.last is None:
            self.last = float(value)
        return self.last

    def _mean(self) -> float:
        weights = [max(self.epsilon, sure) ** self.beta for _, sure in self.kept]
        total = sum(w * value for w, (value, _) in zip(weights, self.kept, strict=True))
        return total / (sum(weights) + self.epsilon)

    def state_dict(self) -> dict[str, Any]:
        """What was kept, and the last value."""
        return {"kept": [list(pair) for pair in self.kept], "last": self.last}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        self.kept.clear()
        self.kept.extend((float(value), float(sure)) for value, sure in state["kept"])
        self.last = state["last"]


# RA-BC.


def gains(progress: Array, chunk: int) -> Array:
    """r_t = φ_{min(t + Δ, T − 1)} − φ_t of one episode, float64 [T]; NaN where either is.

    Raises:
        SteelyardError: for an empty episode or a chunk below 1.
    """
    phi = np.asarray(progress, np.float64)
    if phi.ndim != 1 or not len(phi) or chunk < 1:
        raise SteelyardError(f"gains of progress {phi.shape} over {chunk} frames; give [T], T ≥ 1, and at least one")
    return phi[np.minimum(np.arange(len(phi)) + chunk, len(phi) - 1)] - phi


class GainStatistics(NamedTuple):
    """μ of gains, floored at 0, and their standard deviation σ, floored at ε."""

    mean: float
    deviation: float


def gain_statistics(gain: Array, *, epsilon: float = 1e-6) -> GainStatistics:
    """μ and σ over all finite gains; 0 and ε where there is none."""
    known = np.asarray(gain, np.float64)
    known = known[np.isfinite(known)]
    if not len(known):
        return GainStatistics(0.0, epsilon)
    return GainStatistics(max(float(known.mean()), 0.0), max(float(known.std()), epsilon))


def gain_weights(
    gain: Array, statistics: GainStatistics, *, kappa: float, missing: float = 1.0, epsilon: float = 1e-6
) -> Array:
    """The weight of each frame: 1 where r > κ, 0 where r < 0, and between them w̃.

    w̃ = clip((r − (μ − 2σ)) / (4σ + ε), 0, 1). Idling (r = 0) keeps that soft weight; only losing ground has 0.

    Args:
        gain: r [n]; compared in float32, as in the port.
        kappa: κ. 0.01 belongs to episodes of 90 s; set it near μ or μ + σ, or nearly all weights are 1.
        missing: weight of a frame whose gain is NaN: 1 in the port; 0 leaves it out.

    Source: sheet 37, equations 8 and 9.
    """
    r = np.asarray(gain, np.float32)
    low = statistics.mean - 2 * statistics.deviation
    soft = np.clip((r - low) / (4 * statistics.deviation + epsilon), 0.0, 1.0)
    weights = np.where(r > kappa, 1.0, np.where(r >= 0, soft, 0.0))
    return np.where(np.isnan(r), missing, weights).astype(np.float32)


def batch_scaled(weights: Array, *, epsilon: float = 1e-6) -> Array:
    """w_i B / (Σ w + ε): the weights of a batch, which sum to its size B; all 0 where all are."""
    w = np.asarray(weights, np.float64)
    return w * len(w) / (w.sum() + epsilon)


class RunningGainWeights:
    """RA-BC weights with statistics over the gains seen so far: a part of a run, saved and resumed with it.

    Called with the rows of a step it first counts their gains, then weighs them. Mean and variance are kept by
    Welford's recurrence, merged batch by batch.

    Args:
        gain: r [N] of every row of the data.
        kappa: κ; None takes the running μ.
        missing, epsilon: see `gain_weights`.
    """

    def __init__(self, gain: Array, *, kappa: float | None = None, missing: float = 1.0, epsilon: float = 1e-6) -> None:
        self.gain, self.kappa, self.missing, self.epsilon = np.asarray(gain), kappa, missing, epsilon
        self.count, self.mean, self.squares = 0, 0.0, 0.0

    def __repr__(self) -> str:
        return f"RunningGainWeights(kappa={self.kappa}, missing={self.missing:g}, epsilon={self.epsilon:g})"

    @property
    def statistics(self) -> GainStatistics:
        """μ and σ so far."""
        if not self.count:
            return GainStatistics(0.0, self.epsilon)
        deviation = math.sqrt(max(self.squares, 0.0) / self.count)
        return GainStatistics(max(self.mean, 0.0), max(deviation, self.epsilon))

    def __call__(self, rows: Array) -> Array:
        """float32 [n]: the weights of these rows."""
        gain = self.gain[rows]
        self._count(gain[np.isfinite(gain)].astype(np.float64))
        now = self.statistics
        kappa = now.mean if self.kappa is None else self.kappa
        return gain_weights(gain, now, kappa=kappa, missing=self.missing, epsilon=self.epsilon)

    def _count(self, gain: Array) -> None:
        if not len(gain):
            return
        total, shift = self.count + len(gain), float(gain.mean()) - self.mean
        self.squares += float(((gain - gain.mean()) ** 2).sum()) + shift**2 * self.count * len(gain) / total
        self.mean += shift * len(gain) / total
        self.count = total

    def state_dict(self) -> dict[str, Any]:
        """Count, mean and sum of squared deviations."""
        return {"count": self.count, "mean": self.mean, "squares": self.squares}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        self.count, self.mean, self.squares = int(state["count"]), float(state["mean"]), float(state["squares"])
