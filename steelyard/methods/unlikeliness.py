"""The unlikeliness reward (sheet 32): unlikely right answers earn more, so that many attempts keep helping."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from steelyard.learn.advantages import centre, chain, keep_rows, scale, with_signal
from steelyard.learn.config import TrainConfig
from steelyard.learn.curricula import uniform
from steelyard.learn.objectives import clipped
from steelyard.learn.plans import groups
from steelyard.learn.rank_shaping import mean_logprob, unlikeliness
from steelyard.learn.recipe import AdvantageTransform, Recipe
from steelyard.methods.core import Card, Claim, Experiment, Measures, Method, Setting, World
from steelyard.rewards.answers import INSTRUCTION, one_of
from steelyard.types import Actions, Array, Rollouts, Scores
from steelyard.worlds.shared_strategies import SharedStrategies, StrategyPolicy

PROBLEMS = 1000


def _recipe(setting: Setting, *links: AdvantageTransform, kl: float) -> Recipe:
    return Recipe(
        plan=groups(setting.attempts),
        reward=one_of,
        advantage=chain(*links, centre(), scale(epsilon=1e-6)),
        objective=clipped(epsilon=0.2, kl=kl),
        curriculum=uniform(),
    )


def recipe(setting: Setting) -> Recipe:
    """The paper's setting, with its KL weight of 0.10."""
    return _recipe(setting, with_signal(), unlikeliness(0.25), kl=0.10)


def unlikely(setting: Setting) -> Recipe:
    """Ranks by likelihood, without KL."""
    return _recipe(setting, with_signal(), unlikeliness(0.25), kl=0.0)


def unlikely_kl(setting: Setting) -> Recipe:
    """Ranks by likelihood, with a little KL."""
    return _recipe(setting, with_signal(), unlikeliness(0.25), kl=0.02)


def plain(setting: Setting) -> Recipe:
    """GRPO without KL."""
    return _recipe(setting, with_signal(), kl=0.0)


def plain_kl(setting: Setting) -> Recipe:
    """GRPO with a little KL."""
    return _recipe(setting, with_signal(), kl=0.02)


def backwards(setting: Setting) -> Recipe:
    """The ranks the wrong way round: likely right answers earn more. It must fail."""
    return _recipe(setting, with_signal(), unlikeliness(0.25, likely=unlikely_first), kl=0.0)


def untrained(setting: Setting) -> Recipe:
    """Nothing is learned: where the others start."""
    return _recipe(setting, keep_rows(no_row), kl=0.0)


def unlikely_first(actions: Actions) -> Array:
    """The log-probabilities with their sign turned."""
    return -mean_logprob(actions)


def no_row(rollouts: Rollouts, scores: Scores) -> Array:
    """None of them."""
    return np.zeros(len(rollouts), bool)


def measure(world: World, policy: StrategyPolicy, *, folder: Path, count: int, greedy: bool) -> Measures:
    """Exact pass@N on held-out problems, and the effective number of strategies (the exponential of their entropy)."""
    solved, chances = policy.solved(count), policy.chances()
    found = {f"pass@{n}": float((1 - (1 - solved) ** n).mean()) for n in (1, 8, 64, 512)}
    return found | {"strategies": float(np.exp(-(chances * np.log(np.maximum(chances, 1e-300))).sum()))}


EVIDENCE = Experiment(
    name="shared-strategies",
    world=SharedStrategies,
    arms={
        "untrained": untrained,
        "grpo": plain,
        "unlikeliness": unlikely,
        "grpo_kl": plain_kl,
        "unlikeliness_kl": unlikely_kl,
        "backwards": backwards,
    },
    train=TrainConfig(
        steps=600,
        prompts=16,
        optimiser="sgd",
        lr=4.0,
        schedule="constant",
        weight_decay=0.0,
        grad_clip=float("inf"),
        micro_rows=512,
    ),
    measure=measure,
    claims=(
        Claim("GRPO raises pass@1", "pass@1", "grpo", "untrained", at_least=0.02),
        Claim("and costs more than 0.1 of pass@512", "pass@512", "grpo", "untrained", at_most=-0.1),
        Claim("ranks give pass@512 back", "pass@512", "unlikeliness", "grpo", at_least=0.05),
        Claim("at no more than 0.02 of pass@1", "pass@1", "unlikeliness", "grpo", at_least=-0.02),
        Claim("with KL too", "pass@512", "unlikeliness_kl", "grpo_kl", at_least=0.05),
        Claim("ranks the wrong way round sharpen more than GRPO", "pass@512", "backwards", "grpo", at_most=-0.05),
    ),
    data=2000,
    test_count=PROBLEMS,
    quick={"steps": 3},
)

METHOD = Method(
    card=Card(
        number=32,
        slug="unlikeliness",
        title="Rewarding the Unlikely: Lifting GRPO Beyond Distribution Sharpening",
        source="arXiv 2506.02355",
        claim="Paying right answers less the likelier they were within their group keeps the chance that one of many "
        "attempts is right, which GRPO lowers, at next to no cost in the chance that one attempt is.",
        problem="GRPO lifts right answers that are likely already far more reliably than rare ones: one attempt is "
        "right more often, and one of five hundred less often than before training.",
        how="Within a group, completions are ranked by the log-probability under which they were sampled; a right one "
        "earns 1 − β·rank/G, the rarest the whole. Wrong ones stay at 0 and take part in the ranking. Groups that are "
        "all right or all wrong are left out.",
        settings={
            "beta": "0.25 (paper, not swept)",
            "rank": "from 0, by the mean log-probability of tokens (code; `first=1` and `total_logprob`: paper)",
            "kl": "0.10 (paper); 0 and 0.02 in the small world",
            "group": "32 (paper)",
            "epsilon": "0.2 (assumed)",
        },
        limits=(
            "Needs a verifier that is right: what is rare and wrongly accepted is paid most.",
            "Rewards below 0 are left as they are. Near-ties may swap when another engine sampled.",
            "More optimiser steps on a batch (`updates: 2`) work the same way in the paper; not measured here.",
            "With KL there is little to give back: in the small world GRPO with KL 0.02 keeps pass@512 by itself.",
        ),
    ),
    recipe=recipe,
    evidence=(EVIDENCE,),
    instruction=INSTRUCTION,
)
