"""Golden adapter of sheet 30, ToolRL."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from steelyard.rewards.core import Expression, score_one
from steelyard.rewards.json_text import NotJson
from steelyard.rewards.tools import (
    equal_scale,
    growing_words,
    read_calls,
    smooth_scale,
    thinking_length,
    tool_call_format,
    tool_calls,
    tool_calls_coarse,
    tool_calls_intermediate,
    tool_calls_refined,
    two_stage_scale,
)

GRAIN = {
    "COARSEREWARD": tool_calls_coarse,
    "REFINEDREWARD": tool_calls_refined,
    "INTERMEDIATEREWARD": tool_calls_intermediate,
}
SCALE = {"CORRECTMAX1": equal_scale, "MAX1STEP30MAX3": two_stage_scale, "SCHEDULEREWARD": smooth_scale}


def toolrl(name: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Format, correctness and length under the switches, each at its step; the released code matches greedily."""
    variants = set(inputs["variants"])
    calls = next((GRAIN[v] for v in GRAIN if v in variants), tool_calls.using(matching="greedy")).using(form="lines")
    scale = next((SCALE[v] for v in SCALE if v in variants), None)
    form, correctness = scale(calls) if scale else (tool_call_format, calls)
    length = thinking_length(growing_words if "SCHEDULELENGTH" in variants else 512)
    outputs = {key: _value(part, inputs) for key, part in (("format", form), ("correctness", correctness))}
    outputs["length"] = _value(length, inputs) if "WITHLENGTH" in variants else 0.0
    outputs["total"] = sum(outputs.values())
    if not variants and "<response>" not in inputs["reference"] and _is_well_formed(inputs):
        outputs["correctness_optimal_matching"] = _value(tool_calls.using(form="lines"), inputs)
    return outputs


def _is_well_formed(inputs: Mapping[str, Any]) -> bool:
    """Whether the file has the optimal matching's value too: for readable calls in a text of the right form."""
    try:
        calls = read_calls(inputs["completion"], form="lines")
    except NotJson:
        return False
    return calls is not None and _value(tool_call_format, inputs) == 1


def _value(part: Expression, inputs: Mapping[str, Any]) -> float:
    part.at_step(inputs["step"])
    scores = score_one(part, completion=inputs["completion"], reference=inputs["reference"])
    return float(scores.values[0])
