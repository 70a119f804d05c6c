"""Golden adapter of sheet 20, FAPO."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from steelyard.learn.advantages import advantages_of, centre, chain, scale
from steelyard.rewards import boxed_match, first_error, first_error_found, flaw_penalty, reward, score_one
from steelyard.rewards.boxed import boxed_answer
from steelyard.rewards.core import Expression
from steelyard.rewards.flaws import TAIL, Mixture
from steelyard.rewards.judges import RuleJudge, parse_first_error
from steelyard.types import Rollouts, Sample

KINDS = {"c": (1.0, 0.0), "f": (1.0, 1.0), "n": (0.0, 0.0)}


@reward
def outcome(kind: str) -> float:
    """Whether the answer is right."""
    return KINDS[kind][0]


@reward
def flaw(kind: str) -> float:
    """Whether the way there is wrong."""
    return KINDS[kind][1]


def fapo(name: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Groups of sound, flawed and wrong rollouts; one rollout and its judge; a critique; the closed form."""
    if "rollouts" in inputs:
        return _groups(inputs["rollouts"])
    if "solution" in inputs:
        return _judged(inputs)
    return _critique(inputs) if "response" in inputs else _closed_form(inputs)


def _groups(groups: list[str]) -> dict[str, Any]:
    kinds = [kind for group in groups for kind in group]
    samples = [Sample("s", "p", columns={"kind": kind}) for kind in kinds]
    number = np.repeat(np.arange(len(groups)), [len(group) for group in groups])
    rollouts, found = Rollouts(samples, [""] * len(kinds), number), {}
    for label, each in (("fapo", flaw_penalty(outcome, flaw)), ("plain", flaw_penalty(outcome, flaw, penalty=0.0))):
        scores = each(rollouts)
        advantage = chain(centre(), scale(epsilon=1e-6))(advantages_of(scores), rollouts, scores)
        found[f"{label}_reward"], found[f"{label}_advantage"] = scores.values.tolist(), advantage.values.tolist()
    return found


def _judged(inputs: Mapping[str, Any]) -> dict[str, Any]:
    asked: Expression = first_error(RuleJudge(lambda prompt: inputs["judge_response"]))
    scores = score_one(
        flaw_penalty(boxed_match, asked), completion=inputs["solution"], prompt="?", answer=inputs["ground_truth"]
    )
    said = boxed_answer(inputs["solution"])
    return {
        "score": float(scores.values[0]),
        "correct": bool(scores.parts["flaws/wrong"][0] == 0),
        "flawed_positive": bool(scores.parts["flaws/flawed"][0]),
        "pred": "[INVALID]" if said is None else said,
    }


def _critique(inputs: Mapping[str, Any]) -> dict[str, Any]:
    label, steps = inputs["true_first_error"], inputs["total_steps"]
    said = parse_first_error(inputs["response"][-TAIL:], steps=steps).value
    scores = score_one(first_error_found, completion=inputs["response"], first_error=label, steps=steps)
    return {
        "score": float(scores.values[0]),
        "acc": bool(scores.values[0] > 0),
        "pred": None if np.isnan(said) else int(said),
    }


def _closed_form(inputs: Mapping[str, Any]) -> dict[str, Any]:
    shares = (inputs[key] for key in ("alpha_full", "gamma_flawed", "beta_negative"))
    mix, penalty = Mixture(*(np.asarray([share]) for share in shares)), inputs["lambda"]
    ours, plain = mix.advantages(penalty)[:, 0], mix.advantages(0.0)[:, 0]
    return {
        "rho": float(mix.ratio[0]),
        "mean": float(mix.mean(penalty)[0]),
        "std": float(mix.std(penalty)[0]),
        **dict(zip(("adv_full", "adv_flawed", "adv_negative"), map(float, ours), strict=True)),
        "std_plain_grpo": float(mix.std(0.0)[0]),
        "adv_positive_plain_grpo": float(plain[0]),
    }
