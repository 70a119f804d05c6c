"""Golden adapter of sheet 22, CREAM."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from steelyard.learn.preferences import PairTerms, dpo
from steelyard.rewards.intrinsic import (
    best_and_worst,
    intrinsic_reward,
    kendall_rate,
    ordinal_ranks,
    same_ends,
    same_extremes,
    spearman_rate,
)
from tests.golden.rpo import gradients, losses, pair_case


def cream(name: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """A consistency rate, a soft-label loss, or intrinsic rewards."""
    return {"consistency": _consistency, "loss": _loss, "intrinsic_reward": _intrinsic}[inputs["kind"]](inputs)


def _consistency(inputs: Mapping[str, Any]) -> dict[str, Any]:
    now, before = (np.asarray([inputs[f"reward_{when}"]], np.float64) for when in ("current", "previous"))
    chosen, rejected, kept = best_and_worst(now)
    return {
        "rank_current": ordinal_ranks(now)[0].tolist(),
        "rank_previous": ordinal_ranks(before)[0].tolist(),
        "kendall_rate": float(kendall_rate(now, before)[0]),
        "spearman_rate": float(spearman_rate(now, before)[0]),
        "toporder_as_in_code": float(same_ends(now, before)[0]),
        "toporder_as_in_paper": float(same_extremes(now, before)[0]),
        "chosen_index": int(chosen[0]),
        "rejected_index": int(rejected[0]),
        "pair_kept": bool(kept[0]),
    }


def _loss(inputs: Mapping[str, Any]) -> dict[str, Any]:
    terms = pair_case(inputs)
    if inputs["consistency"] is not None:
        label = torch.tensor(inputs["consistency"], dtype=torch.float64)
        terms = PairTerms(terms.chosen, terms.rejected, terms.lengths, label, terms.margin, terms.reference)
    loss = dpo(beta=inputs["beta"])(terms).loss
    return losses(loss, terms, inputs["beta"]) | gradients(loss.mean(), terms)


def _intrinsic(inputs: Mapping[str, Any]) -> dict[str, Any]:
    now, lengths = _padded(inputs["token_logps"])
    before = None if inputs["ref_token_logps"] is None else _padded(inputs["ref_token_logps"])[0]
    return {"reward": intrinsic_reward(now, before, lengths).tolist()}


def _padded(rows: list[list[float]]) -> tuple[np.ndarray, np.ndarray]:
    return np.asarray([sum(row) for row in rows], np.float64), np.asarray([len(row) for row in rows])
