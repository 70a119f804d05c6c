"""Golden adapter of sheet 04, Contrast Instructions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from steelyard.audits.contrast import contrast, cosines, mine_contrast_pairs
from steelyard.rewards.models.convex import convex_select, principal_plane
from steelyard.rewards.models.fusion import fuse, nearest


def contrast_instructions(name: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Fusion, consistency, hull or mining."""
    kinds = {"fusion": _fusion, "consistency": _consistency, "hull": _hull, "mining": _mining}
    return kinds[name.split(":")[0]](inputs)


def _fusion(inputs: Mapping[str, Any]) -> dict[str, Any]:
    own = np.asarray([inputs["self_reward"]])
    near = inputs["neighbours"]
    if not near:
        empty = np.zeros((1, 0))
        value = float(fuse(own, empty, empty, empty.astype(bool))[0])
        return {"fused_reward": value, "fused_reward_without_deduplication": value}
    found = {}
    named = {
        "fused_reward": [n["text"] for n in near],
        "fused_reward_without_deduplication": list(map(str, range(len(near)))),
    }
    similarity = np.asarray([[n["similarity"] for n in near]])
    rewards = np.asarray([n["reward"] for n in near], np.float64)
    for key, texts in named.items():
        index, counts = nearest(similarity, texts, k=inputs["top_k"], above=inputs["threshold"])
        found[key] = float(fuse(own, rewards[index], np.take_along_axis(similarity, index, axis=1), counts)[0])
    return found


def _consistency(inputs: Mapping[str, Any]) -> dict[str, Any]:
    scores = np.asarray(inputs["scores[n][instruction][response]"], np.float64)
    plain, both = contrast(scores), contrast(scores, both_sides=True)
    return {
        "c_res": plain.response,
        "c_ins": plain.instruction,
        "c_res_ties_as_correct": contrast(scores, ties_count=True).response,
        "c_res_both_sides": both.response,
        "c_ins_both_sides": both.instruction,
    }


def _hull(inputs: Mapping[str, Any]) -> dict[str, Any]:
    points = np.asarray(inputs["embeddings"], np.float64)
    return {"vertices_sorted": convex_select(points).tolist(), "pca2_abs": np.abs(principal_plane(points)).tolist()}


def _mining(inputs: Mapping[str, Any]) -> dict[str, Any]:
    points = np.asarray(inputs["instruction_embeddings"], np.float64)
    pairs = mine_contrast_pairs(points, low=inputs["low"], high=inputs["high"])
    return {"pairs_i_lt_j": [list(pair) for pair in pairs], "cosine": cosines(points).tolist()}
