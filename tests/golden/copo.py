"""Golden adapter of sheet 10, COPO."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from steelyard.learn.advantages import advantages_of, centre, chain, scale
from steelyard.learn.between_prompts import (
    Share,
    answer_entropy,
    blend,
    centre_prompts,
    entropy_share,
    forced,
    numbered_answers,
    prompt_reward,
    rewarded,
    scale_prompts,
)
from steelyard.learn.objectives import clipped
from steelyard.types import Advantages, Array, Rollouts, Sample, Scores

Inputs = Mapping[str, Any]


def copo(name: str, inputs: Inputs) -> dict[str, Any]:
    """Dispatch on what the case is given."""
    if "global_flag" in inputs:
        return _loss(inputs)
    return _weights(inputs) if "gamma" in inputs else _advantages(inputs)


def _said(completion: str) -> str:
    return completion


def _rollouts(inputs: Inputs) -> tuple[Rollouts, Scores]:
    names = list(dict.fromkeys(inputs["prompt_index"]))
    group = np.array([names.index(name) for name in inputs["prompt_index"]])
    answers = [str(answer) for answer in inputs["answers"]]
    return Rollouts([Sample("s", "p")] * len(group), answers, group), Scores(np.asarray(inputs["rewards"]))


def _advantages(inputs: Inputs) -> dict[str, Any]:
    rollouts, scores = _rollouts(inputs)
    reward = prompt_reward(agreement=_said if inputs["reward_coef_flag"] else None)
    scaled = inputs["norm_by_std"]
    local = chain(centre(keep_single=True), *[scale(epsilon=1e-6)] * scaled)
    across = chain(reward, centre_prompts(), *[scale_prompts(epsilon=1e-6)] * scaled)
    given = {name: link(advantages_of(scores), rollouts, scores).values.tolist() for name, link in [
        ("local_advantage", local), ("global_advantage", across), ("global_reward", reward)
    ]}  # fmt: skip
    entropy = answer_entropy(numbered_answers(rollouts, _said), rollouts.groups)
    return given | {"entropy_bits": entropy[rollouts.groups].tolist()}


def _weights(inputs: Inputs) -> dict[str, Any]:
    rollouts, _ = _rollouts(inputs)
    numbers = numbered_answers(rollouts, _said)
    entropy = answer_entropy(numbers, rollouts.groups, base=inputs["log_base"])
    share = entropy_share(entropy, gamma=inputs["gamma"], threshold=inputs["rho"])
    names = dict.fromkeys(inputs["prompt_index"])
    return {name: {"H": float(h), "w_local": float(w)} for name, h, w in zip(names, entropy, share, strict=True)}


def _loss(inputs: Inputs) -> dict[str, Any]:
    soft = entropy_share(np.asarray(inputs["entropy_bits"]), gamma=inputs["k"], threshold=inputs["b"])
    mask = np.asarray(inputs["mask"], bool)
    scores = Scores(np.asarray(inputs["local_reward"]))
    flag = inputs["global_flag"].replace("-", " ")
    # The flags' names for what is a share here; two of them leave one loss alone and still report the soft share.
    named: dict[str, Share | float] = {
        "only soft": _given(soft),
        "soft with forced": forced(_given(soft)),
        "only forced": forced(),
        "soft with zero": rewarded(_given(soft)),
        "only zero": rewarded(),
        "no global": 1.0,
        "only global": 0.0,
    }
    sides = [_steps(inputs[key]) for key in ("local_advantage", "global_advantage")]
    rollouts = Rollouts([Sample("s", "p")] * len(mask), [""] * len(mask))
    blended = blend(*sides, share=named[flag])(advantages_of(scores), rollouts, scores)
    loss, gradient = _step(inputs, blended, mask)
    share = named[flag]
    reported = soft if isinstance(share, float) else share(sides[0](blended, rollouts, scores), rollouts, scores)
    return {"loss": loss, "weight_local": np.asarray(reported).tolist(), "grad_new_log_prob": gradient}


def _given(share: Array) -> Share:
    return lambda first, rollouts, scores: share


def _steps(values: list[list[float]]):  # type: ignore[no-untyped-def]
    """A link that gives a row the advantage of its first step: the cases have the same one on all steps of a row."""
    rows = np.asarray(values)
    assert (rows == rows[:, :1]).all()
    return lambda advantages, rollouts, scores: Advantages(rows[:, 0], np.ones(len(rows)))


def _step(inputs: Inputs, advantages: Advantages, mask: Array) -> tuple[float, list[list[float]]]:
    objective = clipped(epsilon=0.2, epsilon_high=0.28, dual=3.0, average="tokens")
    old = torch.tensor(inputs["old_log_prob"], dtype=torch.float64)
    new = torch.tensor(inputs["new_log_prob"], dtype=torch.float64, requires_grad=True)
    terms = torch.from_numpy(np.stack(advantages.terms)).double()[:, :, None].expand(-1, -1, mask.shape[1])
    weights = torch.from_numpy(objective.weights(mask, advantages.weights))
    loss = (objective(new, old, None, terms).loss * weights).sum()
    loss.backward()
    assert new.grad is not None
    return float(loss.detach()), new.grad.tolist()
