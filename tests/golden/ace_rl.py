"""Golden adapter of sheet 45, ACE-RL."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from steelyard.learn.advantages import advantages_of, centre, chain, group_std, scale
from steelyard.rewards.combinators import mean_applicable
from steelyard.rewards.core import BatchReward
from steelyard.rewards.rubrics import MET_PARTLY_NOT, aggregate
from steelyard.rewards.shaping import band_fit
from steelyard.types import Array, Rollouts, Sample, Scores, Status

CREDIT = dict(zip(("full", "partial", "none"), MET_PARTLY_NOT.values(), strict=True))


def ace_rl(name: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Checklist, length, their mean and the group's advantages; a label that is none counts as not met."""
    rows = inputs["labels"]
    low, high = inputs.get("target") or (math.nan, math.nan)
    constraint = _constraint(rows)
    length = band_fit(np.array(inputs["lengths"], float), np.float64(low), np.float64(high))
    rollouts = Rollouts([Sample("s", "p")] * len(rows), [""] * len(rows), np.zeros(len(rows)))
    parts = [BatchReward(lambda _, v=values: _applying(v), "part") for values in (constraint, length)]
    reward = mean_applicable(*parts)(rollouts).values.astype(float)
    scores = Scores(reward)
    advantage = chain(centre(), scale(ddof=0, epsilon=1e-6))(advantages_of(scores), rollouts, scores).values
    judged = ~np.isnan(reward)
    return {
        "constraint_reward": _listed(constraint),
        "length_reward": _listed(length),
        "reward": _listed(reward),
        "group_std": float(group_std(np.nan_to_num(reward), judged, np.zeros(len(rows), int), ddof=0)[0]),
        "advantage": _listed(np.where(judged, advantage, np.nan)),
    }


def _constraint(rows: list[list[str]]) -> Array:
    width = max(map(len, rows))
    credits, weights = np.full((len(rows), width), np.nan), np.full((len(rows), width), np.nan)
    for i, labels in enumerate(rows):
        credits[i, : len(labels)] = [CREDIT.get(label, np.nan) for label in labels]
        weights[i, : len(labels)] = 1.0
    return aggregate(credits, weights, missing="unmet").values


def _applying(values: Array) -> Scores:
    return Scores(values, np.where(np.isnan(values), Status.NOT_APPLICABLE, Status.SCORED))


def _listed(values: Array) -> list[Any]:
    return ["nan" if math.isnan(value) else value for value in np.asarray(values, float).tolist()]
