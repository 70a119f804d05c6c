"""URLVR (sheet 26): rewards without labels sharpen what a policy prefers: they help first, and collapse then."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from steelyard.audits.collapse import collapse, label_free_signs, vote_probe
from steelyard.learn.advantages import centre, chain, keep_rows, scale
from steelyard.learn.config import TrainConfig
from steelyard.learn.curricula import uniform
from steelyard.learn.objectives import clipped
from steelyard.learn.plans import groups
from steelyard.learn.recipe import AdvantageTransform, Recipe
from steelyard.learn.runs import Run
from steelyard.methods.arms import train_arm
from steelyard.methods.core import (
    Card,
    Claim,
    Experiment,
    Measurement,
    Measures,
    Method,
    RecipeFor,
    Setting,
    Trial,
    World,
)
from steelyard.rewards import Expression
from steelyard.rewards.answers import INSTRUCTION, one_of
from steelyard.rewards.certainty import negative_entropy, own_likelihood, self_certainty
from steelyard.rewards.likelihood import product_probability
from steelyard.rewards.voting import majority
from steelyard.types import Array, Policy, Rollouts, Scores
from steelyard.worlds.letter_chains import LetterChains, in_order
from steelyard.worlds.shared_votes import PROMPTS, SharedVotes

THRESHOLD = 0.5
"""Reward accuracy that counts as collapse here: among six answers scattered votes keep it far above the paper's 1%."""


def _recipe(setting: Setting, reward: Expression, *links: AdvantageTransform) -> Recipe:
    return Recipe(
        plan=groups(setting.attempts),
        reward=reward,
        advantage=chain(*links, centre(), scale(epsilon=1e-6)),
        objective=clipped(epsilon=0.2),
        curriculum=uniform(),
    )


def recipe(setting: Setting) -> Recipe:
    """The majority vote of each group as its label, without KL: the setting in which the collapse step is measured."""
    return _recipe(setting, majority())


def truth(setting: Setting) -> Recipe:
    """The right answers, which none of the others may read."""
    return _recipe(setting, one_of)


def untrained(setting: Setting) -> Recipe:
    """Nothing is learned: where the others start."""
    return _recipe(setting, majority(), keep_rows(no_row))


def untrained_chains(setting: Setting) -> Recipe:
    """The same for chains, which have no answers."""
    return _recipe(setting, in_order, keep_rows(no_row))


def no_row(rollouts: Rollouts, scores: Scores) -> Array:
    """None of them."""
    return np.zeros(len(rollouts), bool)


def by_reward(reward: Expression) -> RecipeFor:
    """GRPO on this reward, the same for all."""
    return functools.partial(_recipe, reward=reward)


VOTES = TrainConfig(
    steps=600, prompts=32, lr=0.01, schedule="constant", weight_decay=0.0, micro_rows=512, evaluate_every=5
)
CHAINS = TrainConfig(
    steps=120, prompts=32, lr=0.05, schedule="constant", weight_decay=0.0, micro_rows=512, evaluate_every=10
)


def voting(
    trial: Trial, *, recipe: RecipeFor, prior: float = 0.12, prompts: int = PROMPTS, steps: int = VOTES.steps
) -> Measures:
    """Train in `SharedVotes` and read the run's evaluations; accuracy is exact, on the prompts that are trained on."""
    world = SharedVotes(prior=prior, seed=trial.seed)
    samples = world.samples("train", prompts)
    probe = vote_probe(samples)

    def evaluate(policy: Any) -> dict[str, float]:
        return probe(policy) | {"accuracy": float(world.rightness(policy)[:prompts].mean())}

    return _trained(trial, world, recipe, VOTES, data=prompts, evaluate=evaluate, steps=steps, read=of_votes)


def of_votes(run: Run) -> Measures:
    """Rise and fall of accuracy, the largest fall of the majority reward, reward accuracy, and the collapse step."""
    rows = run.evaluations()
    found = collapse(rows, threshold=THRESHOLD)
    agreed = np.asarray([row["majority_reward"] for row in rows])
    at, last = found.collapsed_at, rows[-1]
    return {
        "accuracy": found.end,
        "peak": found.peak,
        "peak_at": found.peak_at,
        "rise": found.peak - found.start,
        "fall": found.peak - found.end,
        "agreement": last["majority_reward"],
        "agreement_lost": float((np.maximum.accumulate(agreed) - agreed).max()),
        "reward_accuracy": last["reward_accuracy"],
        "label_accuracy": last["label_accuracy"],
        "collapse": last["step"] if at is None else at,
        "never": float(at is None),
    }


def chained(trial: Trial, *, recipe: RecipeFor) -> Measures:
    """Train in `LetterChains` and measure the chains at the end."""
    world = LetterChains(seed=trial.seed)
    samples = world.samples("test", 256)

    def evaluate(policy: Policy) -> dict[str, float]:
        rollouts = policy.sample(samples, 4, generator=np.random.default_rng(9))
        return label_free_signs(rollouts) | {"in_order": float(in_order(rollouts).values.mean())}

    return _trained(trial, world, recipe, CHAINS, data=64, evaluate=evaluate, steps=CHAINS.steps, read=at_the_end)


def at_the_end(run: Run) -> Measures:
    """The last evaluation; a chain without a second letter repeats nothing."""
    return {name: 0.0 if value is None else value for name, value in run.metrics.items()}


def _trained(
    trial: Trial,
    world: World,
    recipe: RecipeFor,
    config: TrainConfig,
    *,
    data: int,
    evaluate: Callable[[Any], dict[str, float]],
    steps: int,
    read: Callable[[Run], Measures],
) -> Measures:
    settings = replace(config, steps=3 if trial.quick else steps, seed=trial.seed)
    folder = trial.folder / "run"
    train_arm(world, recipe, settings, folder=folder, data=data, measure=lambda policy: {}, evaluate=evaluate)
    return read(Run(folder))


def measure(world: SharedVotes, policy: Any, *, folder: Path, count: int, greedy: bool) -> Measures:
    """What votes on the prompts are worth, and the exact accuracy."""
    found = vote_probe(world.samples("test", count))(policy)
    return found | {"accuracy": float(world.rightness(policy)[:count].mean())}


RISE_AND_FALL = Measurement(
    name="rise-and-fall",
    arms={
        "untrained": functools.partial(voting, recipe=untrained, steps=10),
        "majority": functools.partial(voting, recipe=recipe),
        "truth": functools.partial(voting, recipe=truth),
        "majority_16": functools.partial(voting, recipe=recipe, prompts=16),
        "majority_64": functools.partial(voting, recipe=recipe, prompts=64),
    },
    claims=(
        Claim("votes first raise accuracy by 0.05", "rise", "majority", "untrained", at_least=0.05),
        Claim("then it falls by 0.05 from its peak", "fall", "majority", "untrained", at_least=0.05),
        Claim("while agreement never falls", "agreement_lost", "majority", "untrained", at_most=0.02),
        Claim("and reward accuracy falls", "reward_accuracy", "majority", "untrained", at_most=-0.2),
        Claim("true rewards raise accuracy far higher", "accuracy", "truth", "untrained", at_least=0.4),
        Claim("16 prompts do not fall as 512 do", "fall", "majority", "majority_16", at_least=0.03),
    ),
    settings={"train": VOTES.to_json(), "threshold": THRESHOLD, "prompts": PROMPTS},
)

COLLAPSE_STEP = Measurement(
    name="collapse-step",
    arms={
        f"prior_{name}": functools.partial(voting, recipe=recipe, prior=prior, steps=350)
        for name, prior in {"0.05": 0.05, "0.12": 0.12, "0.20": 0.2, "0.30": 0.3}.items()
    },
    claims=(
        Claim(
            "who knows 0.12 collapses later than who knows 0.05", "collapse", "prior_0.12", "prior_0.05", at_least=10
        ),
        Claim("0.20 later than 0.12", "collapse", "prior_0.20", "prior_0.12", at_least=5),
        Claim("0.30 later than 0.20, if within 350 steps", "collapse", "prior_0.30", "prior_0.20", at_least=5),
    ),
    settings={"train": VOTES.to_json() | {"steps": 350}, "threshold": THRESHOLD},
)

HOW_IT_COLLAPSES = Measurement(
    name="letter-chains",
    arms={
        "untrained": functools.partial(chained, recipe=untrained_chains),
        "probability": functools.partial(chained, recipe=by_reward(own_likelihood(product_probability))),
        "entropy": functools.partial(chained, recipe=by_reward(negative_entropy())),
        "self_certainty": functools.partial(chained, recipe=by_reward(self_certainty())),
        "unsure": functools.partial(chained, recipe=by_reward(-self_certainty())),
        "truth": functools.partial(chained, recipe=by_reward(in_order)),
    },
    claims=(
        Claim("probability ends in one step", "length", "probability", "untrained", at_most=-4.0),
        Claim("token entropy ends in repetition", "repeats", "entropy", "untrained", at_least=0.3),
        Claim("self-certainty lowers entropy", "entropy", "self_certainty", "untrained", at_most=-0.3),
        Claim("and far more than with its sign turned", "entropy", "self_certainty", "unsure", at_most=-0.2),
        Claim("the task's reward does not repeat", "repeats", "truth", "untrained", at_most=0.0),
        Claim("and writes longer chains", "length", "truth", "untrained", at_least=2.0),
    ),
    settings={"train": CHAINS.to_json()},
)

DEMO = Experiment(
    name="shared-votes",
    world=SharedVotes,
    arms={"truth": truth, "urlvr": recipe},
    train=VOTES,
    measure=measure,
    claims=(),
    data=PROMPTS,
    test_count=PROMPTS,
    quick={"steps": 3},
    demo={"steps": 300},
    labels={"truth": "true reward", "urlvr": "majority vote"},
)

METHOD = Method(
    card=Card(
        number=26,
        slug="urlvr",
        title="How Far Can Unsupervised RLVR Scale LLM Training?",
        source="arXiv 2603.08660",
        claim="Rewards that a policy gives itself sharpen what it prefers already: accuracy rises, then falls while "
        "the reward goes on rising, and the step of the collapse tells how much the policy knew.",
        problem="Without labels a policy is paid for agreeing with itself or for being sure. The reward only goes up, "
        "and nothing in it says when it has stopped helping.",
        how="The answer that most attempts of a group give is taken for the label (or certainty is paid: "
        "`self_certainty`, `negative_entropy`, `probability_gap`, `own_likelihood`). A small labelled probe measures "
        "reward accuracy on the way; the first step at which it is below 1% is the Model Collapse Step, a cheap "
        "forecast of how well a base model can be trained. `steelyard collapse RUN` reads it.",
        settings={
            "group": "8 (paper); TTRL votes over 64 and trains 32 of them",
            "kl": "0 (paper)",
            "prompts": "64 a step (paper); a collapse run has 1 (paper's aggressive setting)",
            "threshold": "reward accuracy below 1% (paper)",
            "probe": "256 rows, every 2 steps (recommended)",
            "no answer": "no vote and reward 0 (recommended); the code lets failed extractions vote",
        },
        limits=(
            "In theory the final accuracy is the share of prompts whose FIRST majority is right; where prompts share "
            "parameters it can end far below.",
            "Small data (32 to 128 prompts) is what it is good for; stop at the peak that the probe shows.",
            "Answers that mean the same must compare as equal, or they split the vote: give `majority(answer=…)`.",
            "The sum or product of log-probabilities ends in completions of one token, entropy in repetition.",
            "KL and entropy bonuses delay the collapse and do not prevent it.",
            "On a few answers the paper's threshold of 1% is never met: scattered wrong answers rightly earn 0.",
        ),
    ),
    recipe=recipe,
    evidence=(RISE_AND_FALL, COLLAPSE_STEP, HOW_IT_COLLAPSES),
    demos=(DEMO,),
    instruction=INSTRUCTION,
    probe=vote_probe,
)
