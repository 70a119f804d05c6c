"""Rewards from many checks per attempt, weighted by how hard and how common each is now (VeRPO, sheet 06)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from steelyard.rewards.combinators import Combination, call
from steelyard.rewards.core import Expression
from steelyard.types import PER_BRANCH, Array, GroupKey, Rollouts, Scores, Status, SteelyardError, group_index


@dataclass(frozen=True)
class WeighTests:
    """Pass rates [G, K] and which tests there are, bool [G, K], to weights [G, K]; prints as the call that made it."""

    name: str
    function: Callable[[Array, Array], Array]

    def __call__(self, rate: Array, present: Array) -> Array:
        """Weights [G, K]."""
        return self.function(rate, present)

    def __repr__(self) -> str:
        return self.name


class DenseRewards(NamedTuple):
    """What the checks of a batch are worth; G groups, K tests, N trajectories, T turns.

    Attributes:
        pass_rate: ρ [G, K], NaN for tests that a group has not.
        weight: w' [G, K], 0 for those.
        turn: R_turn [N, T], NaN for turns that a trajectory has not, or that could not be judged.
        trajectory: R_traj [N], NaN where a turn could not be judged.
    """

    pass_rate: Array
    weight: Array
    turn: Array
    trajectory: Array


def density(rate: Array, present: Array, *, sigma: float) -> Array:
    """N̂_j = Σ_{j'} exp(−(ρ_j − ρ_{j'})² / 2σ²), itself included: how many tests sit near a pass rate.

    Args:
        rate: ρ [G, K]; present: bool [G, K]; sigma: the kernel's width.

    Returns:
        float64 [G, K]; 0 for tests that are not there.

    Raises:
        SteelyardError: for a width that is not positive.
    """
    if not sigma > 0:
        raise SteelyardError(f"the density of tests needs a width sigma above 0, not {sigma}")
    known = np.where(present, rate, 0.0)
    near = np.exp(-((known[:, :, None] - known[:, None, :]) ** 2) / (2 * sigma**2))
    return (near * present[:, None, :]).sum(axis=2) * present


def difficulty(*, alpha: float) -> WeighTests:
    """w_j = exp(−α ρ_j): rare passes weigh more; α = 0 counts every test once."""

    def weigh(rate: Array, present: Array) -> Array:
        return np.where(present, np.exp(-alpha * np.where(present, rate, 0.0)), 0.0)

    return WeighTests(f"difficulty(alpha={alpha:g})", weigh)


def calibrated(*, alpha: float = 3.0, sigma: float = 0.1, delta: float = 1e-6) -> WeighTests:
    """w'_j = exp(−α ρ_j) / (N̂_j + δ): difficulty, divided by how many tests share it.

    Raises:
        SteelyardError: for a sigma or delta that is not positive.
    """
    if not (sigma > 0 and delta > 0):
        raise SteelyardError(f"calibrated(sigma={sigma}, delta={delta}) divides by nothing; both must be positive")
    rare = difficulty(alpha=alpha)

    def weigh(rate: Array, present: Array) -> Array:
        return rare(rate, present) / (density(rate, present, sigma=sigma) + delta)

    return WeighTests(f"calibrated(alpha={alpha:g}, sigma={sigma:g}, delta={delta:g})", weigh)


def dense_rewards(passed: Array, group: Array, *, weigh: WeighTests, gamma: float = 1.0) -> DenseRewards:
    """R_turn[i, t] = Σ_j w'_j p[i, t, j] and R_traj[i] = 1{the last turn passes all} · γ^{T_i}.

    ρ_j is the mean of p over all turns of all trajectories of a group that could be judged.

    Args:
        passed: p [N, T, K], 1 or 0; NaN where a trajectory has fewer turns (all K), a group fewer tests (all rows), or
            a turn could not be judged.
        group: int [N], 0…G−1.
        weigh: pass rates to weights.
        gamma: γ in (0, 1], what each further turn costs.

    Raises:
        SteelyardError: for shapes that do not fit, or a γ outside (0, 1].

    Source: sheet 06, steps 1–5.
    """
    passed, group = np.asarray(passed, np.float64), np.asarray(group, np.int64)
    if passed.ndim != 3 or group.shape != passed.shape[:1]:
        raise SteelyardError(f"passes {passed.shape} with groups {group.shape}; [N, T, K] and [N] are needed")
    if not 0 < gamma <= 1:
        raise SteelyardError(f"gamma is {gamma}; it lies in (0, 1]")
    groups = int(group.max(initial=-1)) + 1
    known = ~np.isnan(passed)
    present = _per_group(known.any(axis=1), group, groups) > 0
    there = known.any(axis=2)
    judged = there & (known | ~present[group][:, None, :]).all(axis=2)
    whole = there.any(axis=1) & (judged | ~there).all(axis=1)
    counted = judged & whole[:, None]
    p = np.where(known & counted[..., None], passed, 0.0)
    attempts = np.bincount(group, counted.sum(axis=1), minlength=groups)[:, None]
    rate = _per_group(p.sum(axis=1), group, groups) / np.maximum(attempts, 1)
    weight = weigh(rate, present)
    turn = np.where(counted, np.einsum("ntk,nk->nt", p, weight[group]), np.nan)
    trajectory = np.where(whole, _solved(p, present[group], there) * gamma ** there.sum(axis=1), np.nan)
    return DenseRewards(np.where(present & (attempts > 0), rate, np.nan), weight, turn, trajectory)


def _per_group(rows: Array, group: Array, groups: int) -> Array:
    """Sums [G, K] of rows [N, K]."""
    total = np.zeros((groups, rows.shape[1]))
    np.add.at(total, group, rows)
    return total


def _solved(p: Array, present: Array, there: Array) -> Array:
    """bool [N]: the last turn that a trajectory has passes every test of its group, and there is one."""
    n, turns = there.shape
    last = turns - 1 - there[:, ::-1].argmax(axis=1) if turns else np.zeros(n, np.int64)
    final = p[np.arange(n), last] if turns else np.zeros((n, p.shape[2]))
    solved = ((final > 0) | ~present).all(axis=1) & present.any(axis=1)
    return np.asarray(solved)


def dense_tests(
    reward: Expression, *, weigh: WeighTests | None = None, gamma: float = 1.0, by: GroupKey = PER_BRANCH
) -> Expression:
    """The trajectory's outcome as value and the turns' weighted passes as steps; `fused` makes advantages of both.

    values = R_traj [N], steps = R_turn [N, T] (NaN where a row has fewer turns). Parts: those of the reward, `solved`,
    and `turn_reward`, the mean over a row's turns. A row that the reward could not judge is NaN and counts nowhere.

    Args:
        reward: whose steps are passes, [N, K] or [N, T, K], such as `code_tests`.
        weigh: pass rates to weights; `calibrated()` by default.
        gamma: what each further turn costs; by: whose pass rates are taken together, the prompt's.

    Raises:
        SteelyardError: at the call, if the reward has no steps.
    """
    weighing = weigh or calibrated()

    def combine(rollouts: Rollouts, scores: list[Scores]) -> Scores:
        passed, status = scores[0].steps, scores[0].status
        if passed is None or np.ndim(passed) not in (2, 3):
            raise SteelyardError(f"{reward!r} has no steps; dense_tests needs one a test, [N, K] or [N, T, K]")
        assert status is not None
        cube = np.asarray(passed, np.float64)
        cube = cube[:, None, :] if cube.ndim == 2 else cube
        cube = np.where(np.isnan(scores[0].values)[:, None, None], np.nan, cube)
        found = dense_rewards(cube, group_index(rollouts, by), weigh=weighing, gamma=gamma)
        turns = (~np.isnan(found.turn)).sum(axis=1)
        mean = np.where(turns > 0, np.nansum(found.turn, axis=1) / np.maximum(turns, 1), np.nan)
        solved = np.where(np.isnan(found.trajectory), np.nan, found.trajectory > 0)
        parts = {**scores[0].parts, "solved": solved.astype(np.float32), "turn_reward": mean.astype(np.float32)}
        status = np.where(np.isnan(found.trajectory), status, Status.SCORED)
        return Scores(found.trajectory, status, found.turn, parts=parts, seconds=scores[0].seconds)

    return Combination(call("dense_tests", [reward], weigh=weighing, gamma=gamma), [reward], combine)
