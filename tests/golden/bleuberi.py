"""Golden adapter of sheet 51, BLEUBERI."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from steelyard.learn.selection import easiest, hardest, middling
from steelyard.rewards.aggregation import normalised
from steelyard.rewards.combinators import harmonic_mean
from steelyard.rewards.core import reward, score_one
from steelyard.rewards.form import tag_format
from steelyard.rewards.ngrams import tokens_13a
from steelyard.rewards.overlap import _answer, bleuberi, rouge
from steelyard.types import Rollouts, Sample

SELECT = {"hard": hardest, "medium": middling, "easy": easiest}


@reward(batch=True)
def judged(rollouts: Rollouts) -> Any:
    """The reward model's scores, from the column."""
    return np.asarray(rollouts.column("rm_scores"), np.float64)


def bleuberi_case(name: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Dispatch on what the inputs hold."""
    if "mode" in inputs:
        return {"kept_in_order": SELECT[inputs["mode"]](inputs["score"], inputs["num_examples"])}
    if "rm_scores" in inputs:
        return _mix(inputs)
    if "references" not in inputs:  # the released pattern takes no line break, and no white space around the blocks
        text = inputs["completion"].removesuffix("\n")
        return {
            "format": float("\n" not in text and text == text.strip()) * _value(tag_format.using(between=""), inputs)
        }
    if "rouge" in name:
        parts = {"bleu": bleuberi, "rougeL": rouge, "harmonic_mean": harmonic_mean(bleuberi, rouge)}
        return {key: _value(part, inputs) for key, part in parts.items()}
    return _bleu(inputs)


def _mix(inputs: Mapping[str, Any]) -> dict[str, Any]:
    samples = [Sample("s", "", columns={"references": texts}) for texts in inputs["references"]]
    rollouts = Rollouts(samples, inputs["completions"], columns={"rm_scores": inputs["rm_scores"]})
    return {"reward": (normalised(bleuberi + judged, by=(), epsilon=1e-6) / 2)(rollouts).values.tolist()}


def _value(part: Any, inputs: Mapping[str, Any]) -> float:
    return float(score_one(part, **inputs).values[0])


def _bleu(inputs: Mapping[str, Any]) -> dict[str, Any]:
    parts = {key: array[0] for key, array in score_one(bleuberi, **inputs).parts.items()}
    if not parts["bleuberi"]:
        return {"reward": 0.0}
    return {
        "reward": float(parts["bleuberi"]),
        "tokens": tokens_13a(_answer(inputs["completion"])),
        "precisions": [float(parts[f"precision_{n}"]) for n in (1, 2, 3, 4)],
        "brevity_penalty": float(parts["brevity"]),
        "shortest_reference_length": int(parts["reference_words"]),
    }
