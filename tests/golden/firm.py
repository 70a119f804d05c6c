"""Golden adapter of sheet 31, FIRM."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from steelyard.learn.forward_process import optimality
from steelyard.rewards import base_and_bonus, rescaled, reward
from steelyard.rewards.combinators import clip
from steelyard.rewards.core import Expression
from steelyard.rewards.judges.marks import (
    released_alignment_mark,
    released_edit_mark,
    released_quality,
    released_quality_marks,
)
from steelyard.types import Rollouts, Sample

Inputs = Mapping[str, Any]


def firm(name: str, inputs: Inputs) -> dict[str, Any]:
    """Dispatch on the case's kind."""
    return {
        "cme": _edit,
        "qma": _generated,
        "parse_edit": lambda case: {"score": released_edit_mark(case["text"])},
        "parse_gen": lambda case: {"score": released_alignment_mark(case["text"])},
        "parse_quality": _quality_marks,
        "nft_optimality": _optimality,
    }[inputs["kind"]](inputs)


def _column(name: str) -> Expression:
    def read(sample: Sample) -> float:
        return float(sample.columns[name])

    return reward(read, name=name)  # type: ignore[call-overload, no-any-return]


def _values(expression: Expression, **columns: Any) -> list[float]:
    count = len(next(iter(columns.values())))
    samples = [Sample(str(i), "", columns={name: column[i] for name, column in columns.items()}) for i in range(count)]
    return expression(Rollouts(samples, [""] * count)).values.astype(float).tolist()


def _edit(inputs: Inputs) -> dict[str, Any]:
    # The released servers turn a mark that could not be read into 0.
    marks = {name: [mark or 0 for mark in inputs[name]] for name in ("execution", "consistency")}
    scaled = {name: _scaled(_column(name), inputs["normalisation"]) for name in marks}
    base, bonus = scaled["execution"], scaled["consistency"]
    combined = base_and_bonus(base, bonus, constant=inputs["w1"], weights=[inputs["w2"]])
    return {
        "execution_norm": _values(base, **marks),
        "consistency_norm": _values(bonus, **marks),
        "reward": _values(combined, **marks),
        "linear_05_05": _values(0.5 * base + 0.5 * bonus, **marks),
    }


def _scaled(mark: Expression, how: str) -> Expression:
    if how in ("range_1_5_0.2_1", "minmax_0.2_1"):
        return 0.2 + 0.8 * rescaled(mark, 1, 5)
    return rescaled(mark, 1, 5) if how in ("range_1_5", "minmax") else rescaled(mark, 0, 5)


def _generated(inputs: Inputs) -> dict[str, Any]:
    quality = released_quality(inputs["quality_subscores"], inputs["quality_total"])
    mark = inputs["instruction_following"]
    columns = {"mark": [0 if mark is None else mark], "quality": [quality]}
    base = clip(rescaled(_column("mark"), 1, 5), 0, 1)
    missing, constant = {"qma_0.4_0.6": (1.0, 0.4), "0.5_0.5": (0.0, 0.5)}.get(inputs["mode"], (1.0, 1.0))
    shown = missing if quality is None else quality
    total = base if constant == 1 else base_and_bonus(base, _column("quality"), constant=constant)
    reward_value = _values(total, **{**columns, "quality": [shown]})[0]
    if inputs["mode"] == "0.5_0.5" and quality is None:
        quality = 0.0
    return {
        "reward": reward_value,
        "ins_norm": _values(base, **columns)[0],
        "quality_norm": quality,
        "server_score": 1 + 4 * reward_value,
    }


def _quality_marks(inputs: Inputs) -> dict[str, Any]:
    marks = released_quality_marks(inputs["text"])
    return {"score": None if marks is None else sum(marks), "subscores": marks}


def _optimality(inputs: Inputs) -> dict[str, Any]:
    advantage = torch.tensor(np.asarray(inputs["advantage"], np.float64))
    return {"r": optimality(advantage, limit=inputs["adv_clip_max"]).tolist()}
