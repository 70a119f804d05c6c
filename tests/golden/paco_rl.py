"""Golden adapter of sheet 15, PaCo-RL."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from steelyard.learn.advantages import advantages_of, centre, chain, scale
from steelyard.learn.step_advantages import scale_overall
from steelyard.learn.supervised import first_token, released_first_token_weights
from steelyard.rewards.aggregation import log_tame, ranks
from steelyard.rewards.judges.endpoint import first_token_probabilities
from steelyard.rewards.judges.scoring import share_of_first
from steelyard.types import Rollouts, Sample, Scores

Inputs = Mapping[str, Any]


def paco_rl(name: str, inputs: Inputs) -> dict[str, Any]:
    """Dispatch on the case's kind."""
    return {
        "log_tame": _log_tame,
        "weighted_sum": lambda case: {"advantages": _advantages(_weights(case) @ _stacked(case), case)},
        "sum_of_advantages": _sum_of_advantages,
        "rank_weighted_sum": _ranked,
        "yes_prob": _yes,
        "first_token_weighted_sft": _first_token,
    }[inputs["kind"]](inputs)


def _stacked(inputs: Inputs) -> np.ndarray:
    return np.asarray(list(inputs["rewards"].values()), np.float64)


def _weights(inputs: Inputs) -> np.ndarray:
    return np.asarray([inputs["weights"].get(name, 1.0) for name in inputs["rewards"]], np.float64)


def _groups(inputs: Inputs) -> np.ndarray:
    return np.unique(inputs["prompts"], return_inverse=True)[1]


def _advantages(values: np.ndarray, inputs: Inputs) -> list[float]:
    scaled = scale_overall if inputs["global_std"] else lambda **options: scale(ddof=0, **options)
    samples = [Sample(str(i), "") for i in range(len(values))]
    rollouts, scores = Rollouts(samples, [""] * len(values), group=_groups(inputs)), Scores(values)
    link = chain(centre(), scaled(epsilon=0.0, floor=1e-6))
    return link(advantages_of(scores), rollouts, scores).values.astype(float).tolist()


def _log_tame(inputs: Inputs) -> dict[str, Any]:
    found = log_tame(_stacked(inputs), weights=_weights(inputs).tolist(), threshold=inputs["threshold"])
    names = list(inputs["rewards"])
    return {
        "h": dict(zip(names, found.spread.tolist(), strict=True)),
        "threshold_value": found.threshold,
        "tamed": [name for name, tamed in zip(names, found.tamed, strict=True) if tamed],
        "aggregate": found.total.tolist(),
        "advantages_paper": _advantages(found.total, inputs),
        "code_returns_unnormalised": found.total.tolist(),
    }


def _sum_of_advantages(inputs: Inputs) -> dict[str, Any]:
    each = np.asarray([_advantages(row, inputs) for row in _stacked(inputs)])
    return {"advantages": (_weights(inputs) @ each).tolist()}


def _ranked(inputs: Inputs) -> dict[str, Any]:
    # The released code breaks ties by position; `ranks` gives equal values their mean rank.
    group = _groups(inputs)
    broken = [np.argsort(np.argsort(row, kind="stable")).astype(float) for row in _stacked(inputs)]
    ranked = np.stack([ranks(row, group) for row in broken])
    return {"advantages": _advantages(_weights(inputs) @ ranked, inputs)}


def _yes(inputs: Inputs) -> dict[str, Any]:
    both = first_token_probabilities(inputs["top_logprobs"], ("Yes", "No"), canonical=inputs["canonicalize"])
    return {"yes_prob": float(np.nan_to_num(share_of_first(both[None]))[0])}  # the released code: no verdict is 0


def _first_token(inputs: Inputs) -> dict[str, Any]:
    logits = torch.tensor(inputs["logits"], dtype=torch.float64)[:, :-1]
    labels = torch.tensor(inputs["labels"])[:, 1:]
    mask, alpha = labels != -100, inputs["alpha"]
    losses = -logits.log_softmax(-1).gather(2, labels.clamp(min=0)[..., None])[..., 0]
    weighted = losses * first_token(alpha)(mask)
    released = released_first_token_weights(mask, alpha)
    rows = int((mask.sum(1) > 0).sum())
    return {
        "loss_paper_mean_over_sequences": float(weighted.sum()),
        "loss_paper_per_sequence": (weighted.sum(1) * rows).tolist(),
        "loss_code": float((losses * released).sum() / mask.sum()),
        "weights_code": released.tolist(),
    }
