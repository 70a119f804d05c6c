"""Golden adapter of sheet 46, G-RA."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from steelyard.learn.advantages import advantages_of, centre, chain, scale
from steelyard.rewards.priority import Gated, gate_channels
from steelyard.types import Array, Rollouts, Sample, Scores


def g_ra(name: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """One trajectory, or a group of them with its advantages."""
    if "group" not in inputs:
        gated = _gated([inputs["levels_low_to_high"]], inputs)
        return {
            "open": gated.open[:, 0].tolist(),
            "per_step_reward": gated.steps[0].tolist(),
            "gated_return": float(gated.value[0]),
            "direct_return": float(gated.direct[0]),
        }
    gated = _gated(inputs["group"], inputs)
    returns = {"gated": gated.value, "direct": gated.direct}
    outputs = {f"{name}_returns": values.tolist() for name, values in returns.items()}
    return outputs | {f"{name}_advantages": _advantages(values) for name, values in returns.items()}


def _gated(trajectories: list[list[list[float | None]]], inputs: Mapping[str, Any]) -> Gated:
    channels = np.asarray(trajectories, np.float64).swapaxes(0, 1)
    return gate_channels(channels, above=inputs["thresholds"][1:], strict=inputs["open_when"] == "greater")


def _advantages(returns: Array) -> list[float]:
    n = len(returns)
    rollouts = Rollouts([Sample("s", "p")] * n, [""] * n, np.zeros(n))
    scores = Scores(returns)
    advantages: list[float] = chain(centre(), scale(epsilon=1e-6))(
        advantages_of(scores), rollouts, scores
    ).values.tolist()
    return advantages
