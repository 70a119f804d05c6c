"""Golden adapter of sheet 26, URLVR."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from steelyard.audits.collapse import collapse_step, sharpened, votes
from steelyard.audits.optimal import optimal_policy
from steelyard.policies.categorical import CategoricalPolicy
from steelyard.policies.certainty import CERTAINTIES
from steelyard.rewards.certainty import negative_entropy, own_likelihood, probability_gap, self_certainty
from steelyard.rewards.likelihood import product_probability, total_logprob
from steelyard.rewards.voting import majority
from steelyard.types import Actions, Rollouts, Sample

Inputs = Mapping[str, Any]


def urlvr(name: str, inputs: Inputs) -> dict[str, Any]:
    """Dispatch on what the case is given."""
    if "answers" in inputs:
        return _votes(inputs)
    if "logits" in inputs:
        return _intrinsic(inputs)
    if "p0" in inputs:
        return _map(inputs)
    if "pi_ref" in inputs:
        found = optimal_policy(inputs["reward"], beta=inputs["beta"], reference=inputs["pi_ref"])
        return {"pi": found.tolist()}
    return {"step": collapse_step(inputs["reward_accuracy"], threshold=inputs["threshold"])}


def _votes(inputs: Inputs) -> dict[str, Any]:
    answers = [str(answer) for answer in inputs["answers"]]  # the code lets a failed extraction vote, as a string
    n, truth = len(answers), str(inputs["ground_truth"])
    group = np.zeros(n, np.int64)
    rollouts = Rollouts([Sample("case", "")] * n, answers, group)
    found = votes(answers, [truth] * n, group)
    ratio = float(found.majority_reward[0])
    return {
        "rewards": majority(answer=str)(rollouts).values.tolist(),
        "label_accuracy": float(found.label_accuracy[0]),
        "reward_accuracy": float(found.reward_accuracy[0]),
        "majority_ratio": ratio,
        "ground_truth_ratio": float(found.accuracy[0]),
        "majority_voting_reward": ratio,
        f"pass@{n}": float(found.solved[0]),
    }


def _intrinsic(inputs: Inputs) -> dict[str, Any]:
    logits = torch.tensor([inputs["logits"]], dtype=torch.float64)
    tokens, mask = np.asarray([inputs["tokens"]]), np.asarray([inputs["mask"]], bool)
    logprobs = logits.log_softmax(-1).gather(2, torch.from_numpy(tokens)[..., None])[..., 0].numpy()
    rollouts = Rollouts([Sample("case", "")], [""], actions=Actions(logprobs, mask, {"tokens": tokens}))

    class Known(CategoricalPolicy):
        def __init__(self) -> None: ...

        def certainty(self, rollouts: Rollouts, kind: str) -> np.ndarray:
            return CERTAINTIES[kind](logits).numpy()

    rewards = {
        "self_certainty": self_certainty(policy=Known()),
        "neg_token_entropy": negative_entropy(policy=Known()),
        "trajectory_logprob_mean": own_likelihood(),
        "trajectory_logprob_sum": own_likelihood(total_logprob),
        "probability": own_likelihood(product_probability),
        "prob_disparity": probability_gap(policy=Known()),
    }
    return {name: float(rule(rollouts).values[0]) for name, rule in rewards.items()}


def _map(inputs: Inputs) -> dict[str, Any]:
    p = sharpened([inputs["p0"], 1 - inputs["p0"]], [1.0, 0.0], beta=inputs["beta"], steps=inputs["steps"])
    return {"p": p[:, 0].tolist(), "one_minus_p_ratio": (p[1:, 1] / p[:-1, 1]).tolist()}
