"""Advantages of two levels put together: how a trajectory did, and how each of its turns did."""

from __future__ import annotations

import numpy as np

from steelyard.learn.advantages import Link, advantages_of, centre
from steelyard.learn.recipe import AdvantageTransform
from steelyard.types import PER_BRANCH, Advantages, Array, GroupKey, Rollouts, Scores, SteelyardError, broadcast_steps


def fused(
    *, beta: float = 1.0, each: AdvantageTransform | None = None, by: GroupKey = PER_BRANCH, span: str = "turn"
) -> AdvantageTransform:
    """A[i, t] = A_traj[i] + β A_turn[i, t], laid onto the actions of turn t.

    A_traj is `each` of the scores' values over the trajectories of a group, A_turn is `each` of the scores' steps over
    all turns of all trajectories of a group. With `centre()`, its default, both have mean 0 and are not scaled.

    A row that was left out before counts in neither mean. Where rows have one turn and no such span, the result is [N];
    otherwise [N, T] over actions.

    Args:
        beta: what the turns weigh.
        each: a transformation that works on groups, applied on both levels; `centre(by=by)` by default.
        by: what makes a group. span: the name of the rollouts' spans, one a turn.

    Raises:
        SteelyardError: at the call, for scores without steps, or several turns without spans.

    Source: sheet 06, steps 6 and 7.
    """
    level = each or centre(by=by)

    def fuse(advantages: Advantages, rollouts: Rollouts, scores: Scores) -> Advantages:
        turns = fused_turns(advantages, rollouts, scores, beta=beta, each=level)
        if span not in rollouts.spans:
            if turns.shape[1] != 1:
                raise SteelyardError(f"fused: rows have {turns.shape[1]} turns and no spans {span!r} that say where")
            return Advantages(np.nan_to_num(turns[:, 0]), advantages.weights)
        spans = rollouts.spans[span]
        if spans.shape[1] < turns.shape[1] or rollouts.actions is None:
            raise SteelyardError(f"fused: spans {span!r} {spans.shape} do not cover {turns.shape[1]} turns of actions")
        padded = np.pad(np.nan_to_num(turns), ((0, 0), (0, spans.shape[1] - turns.shape[1])))
        return Advantages(broadcast_steps(padded, spans, rollouts.actions.mask.shape[1]), advantages.weights)

    return Link(f"fused(beta={beta:g})" if each is None else f"fused(beta={beta:g}, each={each!r})", fuse)


def fused_turns(
    advantages: Advantages, rollouts: Rollouts, scores: Scores, *, beta: float, each: AdvantageTransform
) -> Array:
    """A_traj + β A_turn, float64 [N, T]; NaN for turns that a row has not, and for rows that are left out.

    Args:
        advantages: of the trajectories before centring [N]; scores: with steps [N, T], NaN where a row has fewer turns.
        beta, each: see `fused`.

    Raises:
        SteelyardError: for scores without steps [N, T], or advantages that are not one a row.
    """
    if scores.steps is None or np.ndim(scores.steps) != 2 or advantages.values.ndim != 1:
        given = None if scores.steps is None else np.shape(scores.steps)
        raise SteelyardError(
            f"fused needs steps [N, T] and one advantage a row, not {given} and {advantages.values.shape}"
        )
    trajectory = each(advantages, rollouts, scores).values.astype(np.float64)
    steps = np.asarray(scores.steps, np.float64)
    row, turn = np.nonzero(~np.isnan(steps) & (advantages.weights > 0)[:, None])
    result = np.full(steps.shape, np.nan)
    if len(row):
        attempts = _rows_of(rollouts, row)
        own = Scores(steps[row, turn])
        result[row, turn] = trajectory[row] + beta * each(advantages_of(own), attempts, own).values
    return result


def _rows_of(rollouts: Rollouts, rows: Array) -> Rollouts:
    """One row a turn, with what groups are made of."""
    return Rollouts(
        [rollouts.samples[i] for i in rows], [""] * len(rows), rollouts.groups[rows], rollouts.branches[rows],
        {name: [column[i] for i in rows] for name, column in rollouts.columns.items()},
    )  # fmt: skip
