"""Golden adapter of sheet 40, RLPR."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from steelyard.learn.advantages import advantages_of, centre, chain, group_std, scale, with_signal
from steelyard.learn.filters import spread_filter
from steelyard.rewards import clip, reward
from steelyard.rewards.answers import tags_in_order
from steelyard.rewards.core import Expression
from steelyard.rewards.likelihood import geometric_probability, mean_logprob, mean_probability, product_probability
from steelyard.rewards.shaping import repeats
from steelyard.types import Rollouts, Sample, Scores

Inputs = Mapping[str, Any]
AVERAGES = {
    "mean_prob": mean_probability,
    "mean_logprob": mean_logprob,
    "seq_prob": product_probability,
    "geo_mean_prob": geometric_probability,
}
FORMATS = {"R1": tags_in_order("think", "answer"), "R1_nothink": tags_in_order("answer", prefix=True)}


def rlpr(name: str, inputs: Inputs) -> dict[str, Any]:
    """Dispatch on what the case is given."""
    if "token_logprobs" in inputs:
        return _averages(inputs)
    if "prob_with_reasoning" in inputs:
        return _combination(inputs)
    if "mode" in inputs:
        return {"format": _value(FORMATS[inputs["mode"]], completion=inputs["text"])}
    if "window" in inputs:
        rule = -repeats(window=inputs["window"], limit=inputs["limit"])
        return {"penalty": _value(rule, completion=inputs["text"])}
    return _filter(inputs) if "group_std_by_step" in inputs else _advantage(inputs)


def _averages(inputs: Inputs) -> dict[str, Any]:
    logprobs, mask = np.array([inputs["token_logprobs"]]), np.array([inputs["answer_mask"]], bool)
    exact = {name: float(average(logprobs, mask)[0]) for name, average in AVERAGES.items()}
    rounded = {name: float(torch.tensor(value, dtype=torch.bfloat16)) for name, value in exact.items()}
    return {"exact": exact, "as_in_code_rounded_to_bfloat16": rounded}


def _combination(inputs: Inputs) -> dict[str, Any]:
    debiased = clip(_column("prob_with_reasoning") - _column("prob_without_reasoning"), 0, 1)
    share = inputs["format_coefficient"]
    total = (1 - share) * debiased + share * _column("format_ok")
    return {"reward": _value(total, **inputs), "debiased": _value(debiased, **inputs)}


def _column(name: str) -> Expression:
    def read(sample: Sample) -> float:
        return float(sample.columns[name])

    return reward(name=name)(read)


def _value(rule: Expression, *, completion: str = "", **columns: Any) -> float:
    return float(rule(Rollouts([Sample("case", "", columns=columns)], [completion])).values[0])


def _advantage(inputs: Inputs) -> dict[str, Any]:
    values, n = np.asarray(inputs["reward"], np.float32), len(inputs["reward"])
    _, group = np.unique(inputs["groups"], return_inverse=True)
    rollouts, scores = Rollouts([Sample("s", "p")] * n, [""] * n, group), Scores(values)
    start = advantages_of(scores)
    spread = group_std(start.values.astype(np.float64), start.weights > 0, group)
    kept = with_signal(tolerance=1e-6)(start, rollouts, scores).weights
    return {
        "advantage": chain(centre(), scale(epsilon=1e-6))(start, rollouts, scores).values.tolist(),
        "group_std": spread[group].tolist(),
        "filtered_share": float((kept == 0).mean()),
    }


def _filter(inputs: Inputs) -> dict[str, Any]:
    spread = spread_filter(
        beta=inputs["beta"],
        decay=inputs["ema_ratio"],
        collect_from=inputs["ema_start_step"],
        filter_from=inputs["filter_start_step"],
    )
    steps = []
    for step, found in enumerate(inputs["group_std_by_step"], 1):
        kept = spread.keep(np.asarray(found, np.float64))
        steps.append({"step": step, "threshold": spread.metrics()["spread_threshold"], "keep": kept.tolist()})
    return {"steps": steps}
