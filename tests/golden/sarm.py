"""Golden adapter of sheet 37, SARM and RA-BC."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from steelyard.rewards import progress
from steelyard.rewards.progress import Stage


def sarm(name: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """One of the sheet's operations."""
    return {
        "temporal_proportions": _proportions,
        "stage_plus_tau": _targets,
        "normalise": _normalise,
        "rabc_weights": _weights,
        "confidence_smoother": _smoothed,
        "rewind": _rewind,
        "observation_indices": _window,
    }[inputs["op"]](inputs)


def _seconds(time: Any) -> float:
    """Seconds, or the port's MM:SS."""
    minutes, _, seconds = str(time).rpartition(":")
    return 60 * float(minutes or 0) + float(seconds)


def _proportions(inputs: Mapping[str, Any]) -> dict[str, Any]:
    episodes = [[Stage(n, _seconds(start), _seconds(end)) for n, start, end in e] for e in inputs["episodes"]]
    return {"proportions": progress.temporal_proportions(episodes, inputs.get("order"))}


def _targets(inputs: Mapping[str, Any]) -> dict[str, Any]:
    names = inputs["subtasks"]
    stages = names and [Stage(*row) for row in zip(names, inputs["starts"], inputs["ends"], strict=True)]
    frames, order = np.asarray(inputs["frames"]), inputs["all_subtasks"]
    return {"target": progress.stage_targets(frames, stages, order, length=inputs["episode_length"]).tolist()}


def _normalise(inputs: Mapping[str, Any]) -> dict[str, Any]:
    edges = inputs.get("breakpoints")
    if edges is None:
        priors = inputs.get("temporal_proportions")
        priors = list(priors.values()) if isinstance(priors, Mapping) else priors
        edges = progress.breakpoints_of(priors if priors is not None else [1.0] * inputs["num_stages"])
    return {"progress": progress.normalised_progress(np.asarray(inputs["x"], float), edges).tolist()}


def _weights(inputs: Mapping[str, Any]) -> dict[str, Any]:
    episodes = [np.asarray([np.nan if p is None else p for p in e], float) for e in inputs["progress_per_episode"]]
    gain, epsilon = np.concatenate([progress.gains(e, inputs["chunk"]) for e in episodes]), inputs.get("epsilon", 1e-6)
    statistics = progress.gain_statistics(gain, epsilon=epsilon)
    asked = gain[np.asarray(inputs["query_frames"], int)]
    missing = inputs.get("fallback_weight", 1.0)
    weights = progress.gain_weights(asked, statistics, kappa=inputs["kappa"], missing=missing, epsilon=epsilon)
    return {
        "delta_mean": statistics.mean,
        "delta_std": statistics.deviation,
        "deltas": asked.tolist(),
        "raw_weights": weights.tolist(),
        "batch_weights": progress.batch_scaled(weights, epsilon=epsilon).tolist(),
    }


def _smoothed(inputs: Mapping[str, Any]) -> dict[str, Any]:
    smoother = progress.ConfidenceSmoother(
        window=inputs["window"], beta=inputs["beta"], least=inputs["low_conf"], epsilon=inputs.get("eps", 1e-6)
    )
    return {"smoothed": [smoother(*pair) for pair in zip(inputs["values"], inputs["confidences"], strict=True)]}


def _rewind(inputs: Mapping[str, Any]) -> dict[str, Any]:
    found = progress.rewind_frames(
        inputs["frame"],
        start=inputs["ep_start"],
        steps=inputs["rewind_step"],
        most=inputs["max_rewind"],
        frames=inputs["n_obs"],
        gap=inputs["gap"],
    )
    return {"step": len(found), "indices": found.tolist()}


def _window(inputs: Mapping[str, Any]) -> dict[str, Any]:
    held, clamped = progress.centred_window(
        inputs["frame"], start=inputs["ep_start"], end=inputs["ep_end"], frames=inputs["n_obs"], gap=inputs["gap"]
    )
    return {"indices": held.tolist(), "out_of_bounds": clamped.tolist()}
