"""Golden adapter of sheet 32, the unlikeliness reward."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from steelyard.learn.advantages import advantages_of, centre, chain, scale
from steelyard.learn.rank_shaping import ascending_ranks, mean_logprob
from steelyard.learn.rank_shaping import unlikeliness as shaped
from steelyard.types import Actions, Rollouts, Sample, Scores


def unlikeliness(name: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """One batch: ranks, both forms of the reward, and the advantages laid on tokens."""
    _, group = np.unique(inputs["groups"], return_inverse=True)
    mask = np.asarray(inputs["response_mask"], bool)
    actions = Actions(np.asarray(inputs["token_logprobs"]), mask)
    rollouts = Rollouts([Sample("s", "p")] * len(mask), [""] * len(mask), group, actions=actions)
    scores, beta = Scores(np.asarray(inputs["rewards"])), inputs["beta_rank"]
    means = mean_logprob(actions)
    forms = {"code": shaped(beta), "paper": shaped(beta, first=1)}
    given = {f"shaped_reward_{form}": link(advantages_of(scores), rollouts, scores) for form, link in forms.items()}
    grpo = chain(shaped(beta), centre(keep_single=True), scale(epsilon=1e-6))
    values = grpo(advantages_of(scores), rollouts, scores).values
    return {
        "mean_token_logprob": means.tolist(),
        "ascending_rank": ascending_ranks(means, group).astype(int).tolist(),
        **{key: advantages.values.tolist() for key, advantages in given.items()},
        "advantage_token": (values[:, None] * mask).tolist(),
    }
