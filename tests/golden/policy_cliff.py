"""Golden adapter of sheet 16, Policy Cliff."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from steelyard.audits import stability as s
from steelyard.audits.optimal import q_soft
from steelyard.types import Array


def policy_cliff(name: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """A problem as it is, bumped at one action, with a missing part, mixed of several rewards, or a length penalty."""
    if "epsilon" in inputs:
        return _bumped(inputs)
    if "R_missing" in inputs:
        return _slacker(inputs)
    if "R_tuple" in inputs:
        return _mixed(inputs)
    return _penalty(inputs) if "penalty" in inputs else _plain(inputs)


def _plain(inputs: Mapping[str, Any]) -> dict[str, Any]:
    problem = s.Problem(inputs["R"], inputs["P"], inputs["gamma"])
    q, alpha = problem.q, inputs["alpha"]
    return {
        "Q_star": q.tolist(),
        "optimal_actions": _listed(s.optimal_actions(q)),
        "uniform_optimal_policy": s.uniform_over(s.optimal_actions(q)).tolist(),
        "gap": s.gaps(q).tolist(),
        "Q_soft": q_soft(problem.reward, problem.kernel, problem.discount, alpha).tolist(),
        "soft_policy": problem.soft_policy(alpha).tolist(),
    }


def _bumped(inputs: Mapping[str, Any]) -> dict[str, Any]:
    before = s.Problem(inputs["R"], inputs["P"], inputs["gamma"])
    state, epsilon, alpha = inputs["state"], inputs["epsilon"], inputs["alpha"]
    after = s.tie_break(before, state, inputs["action"], epsilon)
    norm = float(np.abs(after.reward - before.reward).max())
    sets = [s.optimal_actions(problem.q, tolerance=1e-12) for problem in (before, after)]
    left = 1 - before.discount
    return {
        "perturbed_reward": after.reward.tolist(),
        "sup_norm": norm,
        "sup_norm_bound": (1 + before.discount) * epsilon,
        "Q_shift": float(np.abs(after.q - before.q).max()),
        "q_lipschitz_bound": norm / left,
        "actions_before": _listed(sets[0])[state],
        "actions_after": _listed(sets[1])[state],
        "tv_uniform": float(s.total_variation(*map(s.uniform_over, sets))[state]),
        "tv_soft_max": float(s.total_variation(before.soft_policy(alpha), after.soft_policy(alpha)).max()),
        "soft_bound": norm / (2 * alpha * left),
    }


def _slacker(inputs: Mapping[str, Any]) -> dict[str, Any]:
    train = s.Problem(inputs["R_train"], inputs["P"], inputs["gamma"])
    missing, policy = np.asarray(inputs["R_missing"], np.float64), np.asarray(inputs["policy"], np.float64)
    true = train.with_reward(train.reward + missing)
    reached, best = s.value(true, policy), true.q.max(axis=1)
    return {
        "train_optimal_actions": _listed(s.optimal_actions(train.q)),
        "advantage_missing": s.missing_advantage(train, missing, policy).tolist(),
        "true_value": reached.tolist(),
        "true_optimal_value": best.tolist(),
        "regret": float(np.asarray(inputs["mu"]) @ (best - reached)),
    }


def _mixed(inputs: Mapping[str, Any]) -> dict[str, Any]:
    effective = s.effective_reward(inputs["R_tuple"], inputs["weights"])
    found: dict[str, Any] = {"effective": effective.tolist()}
    if len(effective) == 1:  # the golden files list the best actions of problems with one state only
        found["optimal_actions"] = _listed(s.optimal_actions(effective))
    return found


def _penalty(inputs: Mapping[str, Any]) -> dict[str, Any]:
    correct = np.asarray(inputs["correct"], np.float64)
    reward = correct - inputs["penalty"] * np.asarray(inputs["length"])
    before, after = (_listed(s.optimal_actions(s.answers(scores).q))[0] for scores in (correct, reward))
    return {"reward": reward.tolist(), "optimal_before": before, "optimal_after": after}


def _listed(sets: Array) -> list[list[int]]:
    return [np.flatnonzero(row).tolist() for row in sets]
