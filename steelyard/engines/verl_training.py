"""Steelyard's advantage chains and objectives in verl's registries."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from steelyard.engines.unseen import MaskedActions, Unseen
from steelyard.engines.verl import OURS
from steelyard.learn.advantages import applied, single
from steelyard.learn.objectives import step_weights
from steelyard.learn.recipe import AdvantageTransform, Objective
from steelyard.types import Array, Rollouts, Sample, Scores, SteelyardError

AGGREGATION = {"tokens": "token-mean", "rows": "seq-mean-token-mean"}
"""An objective's average to verl's `loss_agg_mode`."""

WHY = (
    "verl gives an advantage estimator rewards, masks and uids only; use links that read no text and no log-probability"
)

PolicyLoss = Callable[..., tuple[Tensor, dict[str, Any]]]
Estimator = Callable[..., tuple[Tensor, Tensor]]


def register_advantage(name: str, advantage: AdvantageTransform, *, objective: Objective | None = None) -> Estimator:
    """Let verl's `algorithm.adv_estimator` name a chain.

    The score of a row is the sum of its token-level rewards, rows of one `uid` are a group, and a NaN row has weight 0.
    A row of weight w trains with w·A, 0 where it is left out. verl's mean still counts such a row's tokens; with an
    objective that says how it averages, advantages are made larger by just as much, A_t · share_t / share'_t, so that
    the surrogate equals the house's mean over the rows that count (the KL and entropy terms do not).

    Args:
        name: what the configuration calls it.
        advantage: the chain; its links see groups, scores and the response mask, but no texts, columns or
            log-probabilities. State of links lives as long as verl's driver process: verl saves none of it.
        objective: the recipe's, for its weights.

    Returns:
        The estimator: (token_level_rewards [N, T], response_mask [N, T], index [N]) to advantages and returns [N, T].

    Raises:
        SteelyardError: for a name that verl itself uses, an objective whose average verl has no name for, and at the
            call for what the chain refuses.
    """
    from verl.trainer.ppo.core_algos import ADV_ESTIMATOR_REGISTRY, register_adv_est

    _check_average(objective)
    _make_room(ADV_ESTIMATOR_REGISTRY, name, "advantage estimator")

    def estimator(
        token_level_rewards: Tensor, response_mask: Tensor, index: Array | None = None, **_: Any
    ) -> tuple[Tensor, Tensor]:
        mask = response_mask.detach().bool().cpu().numpy()
        scores = Scores(token_level_rewards.detach().sum(dim=-1).float().cpu().numpy())
        result = single(applied(advantage, _rollouts(mask, index), scores), "verl")
        values = np.where(result.weights[:, None] > 0, _by_token(result.values, mask.shape), 0.0) * mask
        values = values * _weights(mask, result.weights, objective)
        tensor = torch.as_tensor(values, dtype=torch.float32, device=token_level_rewards.device)
        return tensor, tensor.clone()

    setattr(estimator, OURS, True)
    estimator.__doc__ = f"Steelyard's {advantage!r}."
    return register_adv_est(name)(estimator)


def register_objective(name: str, objective: Objective) -> PolicyLoss:
    """Let verl's `actor.policy_loss.loss_mode` name an objective.

    verl averages the loss of each token as `actor.loss_agg_mode` says and adds its own KL term: an objective's KL
    goes into `actor.use_kl_loss`, `kl_loss_coef` and `kl_loss_type`, see `export`.

    Returns:
        The policy loss: (old_log_prob, log_prob, advantages, response_mask, all [N, T]) to a scalar and figures.

    Raises:
        SteelyardError: for a name that verl itself uses, or an objective that needs the reference for anything but its
            KL term.
    """
    from verl.trainer.ppo.core_algos import POLICY_LOSS_REGISTRY, agg_loss, register_policy_loss

    _make_room(POLICY_LOSS_REGISTRY, name, "policy loss")
    if objective.needs_reference and not hasattr(objective, "kl"):
        raise SteelyardError(f"verl's policy losses are given no reference, which {objective!r} needs; train it in TRL")

    def policy_loss(
        old_log_prob: Tensor, log_prob: Tensor, advantages: Tensor, response_mask: Tensor,
        loss_agg_mode: str = "token-mean", config: Any = None, rollout_is_weights: Tensor | None = None, **_: Any,
    ) -> tuple[Tensor, dict[str, Any]]:  # fmt: skip
        weighted = advantages if rollout_is_weights is None else advantages * rollout_is_weights
        loss, figures = objective(log_prob, old_log_prob, None, weighted)
        valid = response_mask > 0
        loss = torch.where(valid, loss, 0.0)
        batch = {} if config is None else config.global_batch_info
        metrics = {f"actor/{key}": value[valid].float().mean().item() for key, value in figures.items() if valid.any()}
        return agg_loss(loss_mat=loss, loss_mask=response_mask, loss_agg_mode=loss_agg_mode, **batch), metrics

    setattr(policy_loss, OURS, True)
    policy_loss.__doc__ = f"Steelyard's {objective!r}, without its KL term."
    return register_policy_loss(name)(policy_loss)


def _make_room(registry: dict[str, Any], name: str, what: str) -> None:
    """Forget what we registered ourselves: verl may run a person's file twice, as a module and by its path."""
    if name in registry and not hasattr(registry[name], OURS):
        raise SteelyardError(f"verl has a {what} {name!r} of its own; choose another name")
    registry.pop(name, None)


def _check_average(objective: Objective | None) -> None:
    if objective is not None and getattr(objective, "average", None) not in AGGREGATION:
        raise SteelyardError(f"verl has no mean that weighs steps as {objective!r} does; use 'tokens' or 'rows'")


def _rollouts(mask: Array, index: Array | None) -> Rollouts:
    group = np.arange(len(mask)) if index is None else np.unique(np.asarray(index).astype(str), return_inverse=True)[1]
    samples = [Sample(f"verl-{number}", "") for number in range(int(group.max(initial=-1)) + 1)]
    texts = Unseen(len(mask), WHY)
    return Rollouts([samples[number] for number in group], texts, group=group, actions=MaskedActions(mask, WHY))


def _by_token(values: Array, shape: tuple[int, ...]) -> Array:
    return values if values.ndim == 2 else np.broadcast_to(values[:, None], shape)


def _weights(mask: Array, row_weight: Array, objective: Objective | None) -> Array:
    """[N, 1] the rows' own weights, or [N, T] how much larger the objective's shares are than verl's."""
    if objective is None:
        return row_weight[:, None]
    shares = objective.weights(mask, row_weight).astype(np.float64)
    theirs = step_weights(mask, np.ones_like(row_weight), objective.average).astype(np.float64)  # type: ignore[attr-defined]
    return np.divide(shares, theirs, out=np.zeros_like(shares), where=theirs > 0)
