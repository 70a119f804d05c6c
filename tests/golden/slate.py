"""Golden adapter of sheet 67, SLATE."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from steelyard.learn.advantages import advantages_of, centre, chain, even, scale
from steelyard.learn.branching import best, by_advantage
from steelyard.learn.objectives import clipped_surrogate, step_weights
from steelyard.rewards.agent_steps import step_rewards
from steelyard.rewards.judges import released_tagged_score
from steelyard.types import Rollouts, Sample, Scores

Inputs = Mapping[str, Any]
GROUP = ("group", "step")


def slate(name: str, inputs: Inputs) -> dict[str, Any]:
    """Dispatch on what the case is given."""
    if "rewards" in inputs:
        return _group(inputs)
    if "judge_reply" in inputs:
        return {"score": released_tagged_score(inputs["judge_reply"])}
    if "step_advantages" in inputs:
        return {"objective_mean_over_steps": _objective(inputs)}
    return {"reward": _reward(inputs)}


def _rows(steps: list[int]) -> Rollouts:
    return Rollouts([Sample("q", "")] * len(steps), [""] * len(steps), [0] * len(steps), columns={"step": steps})


def _group(inputs: Inputs) -> dict[str, Any]:
    scores = Scores(np.array(inputs["rewards"]))
    transform = chain(centre(by=GROUP), scale(by=GROUP, epsilon=1e-6))
    advantages = transform(advantages_of(scores), _rows([0] * len(scores)), scores).values
    row = np.array([inputs["rewards"]], np.float64)
    return {
        "advantages": advantages.tolist(),
        "selection_probs": by_advantage(inputs["eta"])(row)[0].tolist(),
        "best_of_k": int(best()(row)[0].argmax()),
    }


def _reward(inputs: Inputs) -> float:
    answers = "r_answer" in inputs
    act = inputs["r_answer"] if answers else inputs["r_query"]
    value = step_rewards(
        np.array([inputs["r_think"]]), np.array([act]), np.array([answers]),
        np.array([inputs.get("step_zero_based", 0)]),
        budget=inputs.get("budget", 4), bonus=inputs.get("lambda", 0.1),
    )  # fmt: skip
    return float(value[0])


def _objective(inputs: Inputs) -> float:
    """−Σ w (L + β KL) with the weights that the trainer would give: every step's group alike, its rows alike."""
    steps = [t for t, row in enumerate(inputs["step_advantages"]) for _ in row]
    log_ratios, advantages = _flat(inputs["step_log_ratios"]), _flat(inputs["step_advantages"])
    loss = clipped_surrogate(log_ratios.exp(), advantages, inputs["clip"], inputs["clip"])
    if inputs["step_kl"] is not None:
        loss = loss + inputs["kl_coef"] * _flat(inputs["step_kl"])
    alike = even(by=GROUP)(advantages_of(Scores(np.ones(len(steps)))), _rows(steps), Scores(np.ones(len(steps))))
    weights = step_weights(np.ones((len(steps), 1), bool), alike.weights, "rows")[:, 0]
    return float(-(loss * torch.from_numpy(weights).double()).sum())


def _flat(rows: list[list[float]]) -> torch.Tensor:
    return torch.tensor([value for row in rows for value in row], dtype=torch.float64)
