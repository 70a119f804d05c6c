"""Which samples of a pool are worth training on, by the score that the untrained policy gets on them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from steelyard.types import Array, Policy, Reward, Sample, SteelyardError, Streams, streams


def hardest(scores: Sequence[float] | Array, k: int) -> list[int]:
    """Positions of the k lowest scores, highest of them first; of equal scores the earlier is taken (sheet 51).

    Raises:
        SteelyardError: for k < 1, or a score that is not finite.
    """
    return _descending(_checked(scores, k), _ascending(scores)[:k])


def middling(scores: Sequence[float] | Array, k: int) -> list[int]:
    """Positions of the k scores in the middle, highest first. See `hardest`."""
    order = _ascending(scores)
    start = max(0, (len(order) - k) // 2)
    return _descending(_checked(scores, k), order[start : start + k])


def easiest(scores: Sequence[float] | Array, k: int) -> list[int]:
    """Positions of the k highest scores, highest first; of equal scores the earlier is taken. See `hardest`."""
    values = _checked(scores, k)
    return _descending(values, np.arange(len(values)))[:k]


def _checked(scores: Sequence[float] | Array, k: int) -> Array:
    values = np.asarray(scores, np.float64)
    if k < 1:
        raise SteelyardError(f"{k} samples were asked for; select at least 1")
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        raise SteelyardError(f"the score of sample {bad[0]} is {values[bad[0]]}; leave out what could not be judged")
    return values


def _ascending(scores: Sequence[float] | Array) -> Array:
    return np.argsort(np.asarray(scores, np.float64), kind="stable")


def _descending(values: Array, positions: Array) -> list[int]:
    order = np.argsort(-values[positions], kind="stable")
    return [int(i) for i in positions[order]]


def first_scores(
    policy: Policy, samples: Sequence[Sample], reward: Reward, *, generator: Streams, at_once: int = 64
) -> Array:
    """float64 [S], the reward of one draw of the policy on every sample: what `hardest` selects by.

    Args:
        policy: before training.
        samples: the pool.
        reward: what training will pay.
        generator: of the draws.
        at_once: how many samples go through the policy together.
    """
    children = streams(generator, len(samples))
    scores = []
    for start in range(0, len(samples), at_once):
        part = slice(start, start + at_once)
        scores.append(reward(policy.sample(samples[part], 1, generator=children[part])).values)
    return np.concatenate(scores).astype(np.float64)
