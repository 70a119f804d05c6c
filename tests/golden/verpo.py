"""Golden adapter of sheet 06, VeRPO."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from steelyard.learn.advantages import advantages_of, centre, chain, scale
from steelyard.learn.fusion import fused_turns
from steelyard.learn.recipe import AdvantageTransform
from steelyard.rewards.dense import WeighTests, calibrated, dense_rewards, density, difficulty
from steelyard.types import Array, Rollouts, Sample, Scores


def verpo(name: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The attempts of one prompt: statistics of its tests, rewards and advantages, ragged as they came."""
    lengths = [len(attempts) for attempts in inputs["passed"]]
    passed, group = _padded(inputs["passed"]), np.zeros(len(lengths), np.int64)
    alpha = inputs.get("alpha", 3.0) if inputs.get("difficulty", True) else 0.0
    found = dense_rewards(passed, group, weigh=_weighing(alpha, inputs), gamma=inputs.get("gamma", 1.0))
    there = np.ones_like(found.pass_rate, bool)
    rollouts = Rollouts([Sample("s", "p")] * len(lengths), [""] * len(lengths), group)
    scores = Scores(found.trajectory, steps=found.turn)
    each = chain(centre(), scale(epsilon=1e-6)) if inputs.get("norm") == "std" else centre()
    start = advantages_of(scores)

    def ragged(array: Array) -> list[list[float]]:
        return [row[:length].tolist() for row, length in zip(array, lengths, strict=True)]

    turn = fused_turns(start, rollouts, scores, beta=1.0, each=_of_turns_alone(each))
    return {
        "pass_rate": found.pass_rate[0].tolist(),
        "density": density(found.pass_rate, there, sigma=inputs.get("sigma", 0.1))[0].tolist(),
        "difficulty_weight": difficulty(alpha=alpha)(found.pass_rate, there)[0].tolist(),
        "calibrated_weight": found.weight[0].tolist(),
        "turn_reward": ragged(found.turn),
        "turn_baseline": float(np.nanmean(found.turn)),
        "turn_advantage": ragged(turn),
        "trajectory_reward": found.trajectory.tolist(),
        "trajectory_advantage": each(start, rollouts, scores).values.tolist(),
        "advantage": ragged(fused_turns(start, rollouts, scores, beta=inputs.get("beta", 1.0), each=each)),
    }


def _weighing(alpha: float, inputs: Mapping[str, Any]) -> WeighTests:
    if not inputs.get("calibrate", True):
        return difficulty(alpha=alpha)
    return calibrated(alpha=alpha, sigma=inputs.get("sigma", 0.1), delta=inputs.get("delta", 1e-6))


def _of_turns_alone(each: AdvantageTransform) -> AdvantageTransform:
    """The same on the level of turns, nothing on that of trajectories (whose rows have no steps of their own here)."""

    def transform(advantages: Any, rollouts: Any, scores: Any) -> Any:
        result = each(advantages, rollouts, scores)
        return result if scores.steps is None else type(result)(np.zeros_like(result.values), result.weights)

    return transform


def _padded(passed: list[list[list[float]]]) -> Array:
    turns, tests = max(map(len, passed)), max((len(attempt) for row in passed for attempt in row), default=0)
    cube = np.full((len(passed), turns, tests), np.nan)
    for i, attempts in enumerate(passed):
        for t, attempt in enumerate(attempts):
            cube[i, t, : len(attempt)] = attempt
    return cube
