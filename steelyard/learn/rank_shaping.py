"""Rewards of a group reshaped by how likely its completions were: the unlikely right ones earn more."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import numpy as np

from steelyard.learn.advantages import Link, rows_of
from steelyard.learn.recipe import AdvantageTransform
from steelyard.types import PER_BRANCH, Actions, Advantages, Array, GroupKey, Rollouts, Scores, SteelyardError


def mean_logprob(actions: Actions) -> Array:
    """float64 [N]: mean of the log-probabilities under which a row's steps were drawn; 0 without steps."""
    return total_logprob(actions) / np.maximum(actions.mask.sum(axis=1), 1)


def total_logprob(actions: Actions) -> Array:
    """float64 [N]: their sum, the log-probability of the whole; long rows are the unlikely ones."""
    total: Array = np.where(actions.mask, actions.logprobs, 0.0).sum(axis=1, dtype=np.float64)
    return total


def ascending_ranks(values: Array, group: Array) -> Array:
    """float64 [N]: place within the group from 0 (the smallest); equal values share their mean place.

    Args:
        values: float [N], finite.
        group: int64 [N].
    """
    order = np.lexsort((values, group))
    new_group = np.diff(group[order], prepend=group[order[:1]] - 1) != 0
    new_value = new_group | (np.diff(values[order], prepend=np.nan) != 0)
    tie, place = new_value.cumsum() - 1, np.arange(len(order))
    shared = np.bincount(tie, place) / np.maximum(np.bincount(tie), 1) if len(order) else np.zeros(0)
    ranks = np.empty(len(values))
    ranks[order] = shared[tie] - place[new_group][new_group.cumsum() - 1]
    return ranks


def unlikeliness(
    beta: float = 0.25,
    *,
    first: Literal[0, 1] = 0,
    likely: Callable[[Actions], Array] = mean_logprob,
    by: GroupKey = PER_BRANCH,
) -> AdvantageTransform:
    """r_i·(1 − β a_i / G) where r_i > 0: of the right completions of a group, the likely ones earn less.

    a_i is the rank of completion i among the G counted rows of its group by the log-probability under which it was
    sampled, from `first` (the rarest) upwards. Rows that earned nothing keep their reward and take part in the
    ranking; equal log-probabilities share their mean rank. It reads the actions' log-probabilities, so it can stand
    anywhere before the values are centred; drop groups without signal before it (`with_signal`), or groups that are
    all right are trained too, against their likely members.

    Args:
        beta: β in [0, 1]: above 1, likely right completions would be punished.
        first: 0 leaves the rarest its full reward (the authors' code); 1 takes β/G off it too (the paper).
        likely: how likely a row was: `mean_logprob` (the code) or `total_logprob` (the probability that the paper
            speaks of).
        by: what makes a group.

    Raises:
        SteelyardError: for a β outside [0, 1] or another `first`; at the call, for rollouts without actions.

    Source: sheet 32 (Rewarding the Unlikely, arXiv 2506.02355).
    """
    if not 0 <= beta <= 1 or first not in (0, 1):
        raise SteelyardError(f"unlikeliness(beta={beta}, first={first}): beta must lie in [0, 1], first be 0 or 1")

    def shape(advantages: Advantages, rollouts: Rollouts, scores: Scores) -> Advantages:
        if rollouts.actions is None:
            raise SteelyardError("unlikeliness ranks by sampled log-probabilities; these rollouts carry no actions")
        values, counted, group = rows_of(advantages, rollouts, by)
        rows = np.flatnonzero(counted)
        chances = likely(rollouts.actions)[rows]
        if not np.isfinite(chances).all():
            raise SteelyardError("unlikeliness ranks by sampled log-probabilities; those of these rollouts are unknown")
        rank = ascending_ranks(chances, group[rows])
        size = np.bincount(group[rows])[group[rows]] if len(rows) else rank
        factor = np.ones(len(values))
        factor[rows] = 1 - beta * (rank + first) / size
        return replace(advantages, values=np.where(values > 0, values * factor, values))

    options = [f"beta={beta:g}"] + [f"first={first}"] * bool(first)
    options += [f"likely={getattr(likely, '__name__', repr(likely))}"] * (likely is not mean_logprob)
    return Link(f"unlikeliness({', '.join(options)})", shape)
