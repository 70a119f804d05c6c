"""A recipe carried into another trainer: what fits it, and what that trainer has to be told."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from steelyard.engines.trl import TrlReward, to_trl
from steelyard.engines.verl import VerlReward, reward_manager, to_verl
from steelyard.learn.curricula import Uniform
from steelyard.learn.plans import Groups
from steelyard.learn.recipe import Recipe
from steelyard.types import SteelyardError


@dataclass(frozen=True)
class TrlExport:
    """A recipe for TRL.

    Attributes:
        trainer: makes a `SteelyardGRPOTrainer` with the recipe's chain and objective; takes GRPOTrainer's arguments.
        reward_funcs: for its `reward_funcs`.
        arguments: for `GRPOConfig`.
    """

    trainer: Callable[..., Any]
    reward_funcs: Sequence[TrlReward]
    arguments: Mapping[str, Any]


@dataclass(frozen=True)
class VerlExport:
    """A recipe for verl.

    Attributes:
        compute_score: the reward for verl's own managers; use it or `reward_manager`.
        reward_manager: the reward as a manager class, which also gives it the prompt and the data set's columns.
        overrides: words for the command line of `verl.trainer.main_ppo`.
    """

    compute_score: VerlReward
    reward_manager: type
    overrides: Sequence[str]


def export_trl(recipe: Recipe) -> TrlExport:
    """The recipe inside TRL's GRPOTrainer: plan, reward, advantage and objective.

    Raises:
        SteelyardError: for what is no `Recipe`, a plan other than `groups(n)`, a curriculum other than `uniform()`, or
            a reward that asks the policy.

    Example:
        >>> run = export_trl(recipe)  # doctest: +SKIP
        >>> trainer = run.trainer(
        ...     "my-model",
        ...     reward_funcs=run.reward_funcs,
        ...     args=GRPOConfig("out", **run.arguments),
        ...     train_dataset=data,
        ... )
    """
    from steelyard.engines.trl_trainer import SteelyardGRPOTrainer

    n = _attempts(recipe, "TRL")
    trainer = functools.partial(SteelyardGRPOTrainer, advantage=recipe.advantage, objective=recipe.objective)
    # TRL loads the reference where beta is not 0; how much its KL counts is the objective's own business.
    beta = float(getattr(recipe.objective, "kl", 1.0)) if recipe.objective.needs_reference else 0.0
    return TrlExport(trainer, [to_trl(recipe.reward)], {"num_generations": n, "beta": beta})


def export_verl(
    recipe: Recipe,
    *,
    module: str,
    manager: str = "RewardManager",
    name: str = "steelyard",
    ground_truth: str = "answer",
) -> VerlExport:
    """The recipe inside verl: registers its advantage and objective under a name, and says what verl is to be told.

    Call it in a module that every process of verl imports (`VERL_USE_EXTERNAL_MODULES=my_verl`), and keep the manager
    there: `RewardManager = export_verl(recipe, module="my_verl").reward_manager`.

    Args:
        recipe: what to train.
        module: the importable name of the module from which this is called.
        manager: the name under which that module keeps `reward_manager`.
        name: of estimator and policy loss in verl's configuration.
        ground_truth: the column under which the reward looks for verl's ground truth.

    Raises:
        SteelyardError: for a plan other than `groups(n)`, a curriculum other than `uniform()`, a reward with a
            scheduled weight, or an objective that verl's policy loss cannot hold.
    """
    from steelyard.engines.verl_training import AGGREGATION, register_advantage, register_objective

    n, objective = _attempts(recipe, "verl"), recipe.objective
    register_advantage(name, recipe.advantage, objective=objective)
    register_objective(name, objective)
    actor = "actor_rollout_ref.actor"
    overrides = [
        f"actor_rollout_ref.rollout.n={n}",
        f"algorithm.adv_estimator={name}",
        "algorithm.use_kl_in_reward=False",
        f"{actor}.policy_loss.loss_mode={name}",
        f"{actor}.loss_agg_mode={AGGREGATION[objective.average]}",  # type: ignore[attr-defined]
        f"{actor}.entropy_coeff=0",
        f"{actor}.use_kl_loss={objective.needs_reference}",
        "reward.reward_manager.source=importlib",
        f"reward.reward_manager.module.path=pkg://{module}",
        f"reward.reward_manager.name={manager}",
    ]
    if objective.needs_reference:
        kl, estimator = objective.kl, objective.estimator  # type: ignore[attr-defined]
        overrides += [f"{actor}.kl_loss_coef={kl}", f"{actor}.kl_loss_type={estimator}"]
    score = to_verl(recipe.reward, ground_truth=ground_truth, unjudged="nan")
    return VerlExport(score, reward_manager(recipe.reward, ground_truth=ground_truth), overrides)


def _attempts(recipe: Recipe, engine: str) -> int:
    """n of `groups(n)`, if plan and curriculum are what every trainer does by itself."""
    if not isinstance(recipe, Recipe):
        raise SteelyardError(
            f"{engine} is given a {type(recipe).__name__}; it can carry a steelyard.learn.recipe.Recipe"
        )
    plan, own = recipe.plan, "train this recipe with steelyard.learn.trainer"
    if getattr(recipe.reward, "asks_policy", False):
        words = f"{engine} gives its rewards no policy, which {recipe.reward.name!r} asks"
        raise SteelyardError(f"{words}; {own}, or give the likelihoods in it a policy= of their own")
    if getattr(recipe.objective, "exact_kl", False):
        raise SteelyardError(f"{engine} knows a KL by k1, k2 and k3, and no exact one as denoising steps have; {own}")
    if not isinstance(plan, Groups) or plan.perturb is not None:
        shape = "a perturbed groups()" if isinstance(plan, Groups) else type(plan).__name__
        raise SteelyardError(f"{engine} samples n attempts at every prompt as it is, and not {shape}; {own}")
    if not isinstance(recipe.curriculum, Uniform):
        words = f"{engine} walks through the data set, and cannot follow {type(recipe.curriculum).__name__}"
        raise SteelyardError(f"{words}; {own}")
    return plan.n
