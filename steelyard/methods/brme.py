"""BRME (sheet 18): the surest head's reward mixed with the worst head's, so that no overrating estimate leads away."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from steelyard.audits.optimal import optimal_policy
from steelyard.learn.advantages import centre, chain
from steelyard.learn.config import TrainConfig
from steelyard.learn.curricula import uniform
from steelyard.learn.objectives import clipped
from steelyard.learn.plans import groups
from steelyard.learn.recipe import Recipe
from steelyard.methods.core import Card, Claim, Experiment, Measurement, Measures, Method, Setting, Trial
from steelyard.policies.categorical import CategoricalPolicy
from steelyard.rewards.ensembles import robust, robust_heads, uncertainty_weighted
from steelyard.types import Array, Rollouts
from steelyard.worlds.estimated_rewards import EstimatedRewards, estimated_rewards

BETA, WORLDS = 0.1, 60
Combine = Callable[[Array, Array], Array]


def nominal_and_worst(weight: float) -> Combine:
    """The robust reward with this nominal weight."""
    return lambda mu, sigma: robust(mu, sigma, nominal_weight=weight).reward


ARMS: dict[str, Combine] = {
    "nominal": nominal_and_worst(1.0),
    "mostly_nominal": nominal_and_worst(0.8),
    "brme": nominal_and_worst(0.4),
    "worst": nominal_and_worst(0.0),
    "mean": lambda mu, sigma: mu.mean(axis=0),
    "uwo": lambda mu, sigma: uncertainty_weighted(mu, penalty=1.0),
}


def best_response(trial: Trial, *, combine: Combine) -> Mapping[str, float]:
    """True reward of the policy that is best for the combined reward, over small worlds; and with a broken head."""
    found: dict[str, float] = {}
    for name, broken in (("", False), ("_broken", True)):
        generator = np.random.default_rng([18, trial.seed, broken])
        rows = [_in_one_world(generator, combine, broken) for _ in range(5 if trial.quick else WORLDS)]
        truth, proxy = np.mean(rows, axis=0)
        found |= {f"truth{name}": float(truth), f"overrated{name}": float(proxy - truth)}
    return found


def _in_one_world(generator: np.random.Generator, combine: Combine, broken: bool) -> tuple[float, float]:
    world = estimated_rewards(generator, broken=broken)
    heads = len(world.mu)
    reward = combine(world.mu.reshape(heads, -1), world.sigma.reshape(heads, -1)).reshape(world.truth.shape)
    policy = optimal_policy(reward, beta=BETA)
    return float((policy * world.truth).sum(1).mean()), float((policy * reward).sum(1).mean())


def in_columns(rollouts: Rollouts) -> tuple[Array, Array]:
    """The heads' estimates of each answer, from the samples' columns `mu` and `sigma` [K, R]."""
    answers = np.asarray([int(text) for text in rollouts.completions])
    rows = range(len(rollouts))
    mu, sigma = (rollouts.column(name) for name in ("mu", "sigma"))
    return np.stack([mu[i][:, answers[i]] for i in rows], 1), np.stack([sigma[i][:, answers[i]] for i in rows], 1)


def brme(setting: Setting, *, nominal_weight: float = 0.4) -> Recipe:
    """Policy gradient on the robust reward of an ensemble's heads, held near the reference."""
    return Recipe(
        plan=groups(setting.attempts),
        reward=robust_heads(nominal_weight=nominal_weight, estimate=in_columns),
        advantage=chain(centre()),
        objective=clipped(epsilon=0.2, kl=BETA),
        curriculum=uniform(),
    )


def true_reward(
    world: EstimatedRewards, policy: CategoricalPolicy, *, folder: Path, count: int, greedy: bool
) -> Measures:
    """A measure: the policy's exact expected true reward."""
    return {"truth": world.expected_truth(policy)}


CLOSED_FORM = Measurement(
    name="best-response",
    arms={name: functools.partial(best_response, combine=combine) for name, combine in ARMS.items()},
    claims=(
        Claim("true reward is above the nominal reward's by 0.2", "truth", "brme", "nominal", at_least=0.2),
        Claim("it is overrated less", "overrated", "brme", "nominal", at_most=-0.3),
        Claim("true reward is not below the mean ensemble's", "truth", "brme", "mean", at_least=0.0),
        Claim("with a broken head some caution helps", "truth_broken", "mostly_nominal", "nominal", at_least=0.01),
        Claim("and pure worst case is led by it", "truth_broken", "worst", "nominal", at_most=-0.2),
    ),
    settings={"beta": BETA, "worlds": WORLDS},
)

TRAINED = Experiment(
    name="estimated-rewards",
    world=EstimatedRewards,
    seeded=True,
    arms={
        "nominal": functools.partial(brme, nominal_weight=1.0),
        "brme": brme,
        "worst": functools.partial(brme, nominal_weight=0.0),
    },
    train=TrainConfig(
        steps=100, prompts=64, optimiser="sgd", lr=100.0, weight_decay=0.0, schedule="constant", micro_rows=4096
    ),
    measure=true_reward,
    claims=(Claim("a trained policy's true reward is higher too", "truth", "brme", "nominal", at_least=0.1),),
    data=64,
    test_count=64,
    quick={"steps": 3},
)

METHOD = Method(
    card=Card(
        number=18,
        slug="brme",
        title="Reward-Robust RLHF with Bayesian Reward Model Ensembles",
        source="arXiv 2409.15360",
        claim="Mixing the surest head's reward with the worst head's gives a higher true reward than the surest head "
        "alone, and one that is overrated less.",
        problem="A single reward model is wrong somewhere, and policy optimisation finds that place.",
        how="Several heads on one body each give a mean and a deviation. The nominal reward is the mean of the surest "
        "head; the robust one is α times that plus 1 − α times the lowest mean.",
        settings={
            "nominal_weight": "0.4 (recommended; the sources differ in its direction: 1 is the nominal reward here)",
            "heads": "5, each on its own part of the data (paper)",
            "level": "per answer (recommended; not found in the paper), or the batch's worst head",
            "head loss": "Gaussian likelihood on the first stage's standardised score (recommended)",
        },
        limits=(
            "Heads on one body agree in their mistakes: report their correlation; near-copies protect from nothing.",
            "One broken head rules a pure worst case; give the nominal reward some weight.",
            "The surest head is the most over-confident one where deviations are not calibrated.",
        ),
        usage="""# Python: heads' means and deviations [K, N] of the rollouts, from your ensemble
from steelyard.rewards.ensembles import robust_heads
reward = robust_heads(nominal_weight=0.4, estimate=my_heads)""",
    ),
    recipe=brme,
    evidence=(CLOSED_FORM, TRAINED),
)
