"""Golden adapter of sheet 56, CaRR and C-GRPO."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from steelyard.learn.advantages import advantages_of, centre, chain, scale
from steelyard.methods.carr import c_grpo, credit_for_all, released
from steelyard.rewards.core import BatchReward
from steelyard.rewards.evidence import evidence_credit, filled, placeholders, without_references
from steelyard.rewards.judges.parsing import is_entities
from steelyard.types import Array, Rollouts, Sample, Scores

RELEASED_CITATION = re.compile(r"\[\d+\]\((?:view-source:)?(https?://.+?)\)[\],]")
"""What the released server takes for a citation; ours is `cited_urls`, which loses none."""

Inputs = Mapping[str, Any]


def carr(name: str, inputs: Inputs) -> dict[str, Any]:
    """One rollout's rubric reward, or a group's mixed rewards and advantages."""
    return _group(inputs) if "outcome" in inputs else _rollout(inputs)


def _rollout(inputs: Inputs) -> dict[str, Any]:
    statements, entities = inputs["rubrics"], inputs["entity_values"]
    if not statements:
        return _failed("No rubrics")
    if not is_entities(entities, placeholders(statements)):
        return _failed("LLM judge fails to extract entity identities")
    said = [k for k, statement in enumerate(statements) if filled(statement, entities) is not None]
    opened = {url for url, _, _ in inputs["pages_opened"]}
    usable = opened & set(RELEASED_CITATION.findall(without_references(inputs["response"])))
    verdicts, error = list(inputs["supported_of_identified"]), None
    if usable and said and not (len(verdicts) == len(said) and all(isinstance(v, bool) for v in verdicts)):
        error, verdicts = "LLM judge fails to judge rubrics", []
    flags = np.zeros(len(statements), bool)
    if usable and error is None:
        flags[said] = verdicts
    found = evidence_credit(statements, entities, flags)
    shown = {key: getattr(found, key).astype(int).tolist() for key in ("identified", "supported", "connected")}
    return {"reward": found.value, "error": error, **shown}


def _failed(error: str) -> dict[str, Any]:
    return {"reward": 0, "error": error, "identified": [], "supported": [], "connected": []}


def _group(inputs: Inputs) -> dict[str, Any]:
    n, alpha = len(inputs["outcome"]), inputs["alpha"]
    rollouts = Rollouts([Sample("q", "")] * n, [""] * n, np.zeros(n))
    outcome, credit = (BatchReward(lambda _, v=inputs[key]: np.array(v, float), key) for key in ("outcome", "rubric"))
    mixed: dict[str, Array] = {
        mix.__name__: mix(outcome, credit, alpha=alpha)(rollouts).values for mix in (c_grpo, released, credit_for_all)
    }
    scores = Scores(mixed["c_grpo"])
    advantages = chain(centre(), scale(epsilon=1e-6))(advantages_of(scores), rollouts, scores).values
    return {
        "c_grpo_reward": mixed["c_grpo"].tolist(),
        "released_code_reward": mixed["released"].tolist(),
        "rubric_for_all_ablation": mixed["credit_for_all"].tolist(),
        "c_grpo_advantage": advantages.tolist(),
    }
