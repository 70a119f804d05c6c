"""BLEUBERI (sheet 51): smoothed BLEU against good references as the reward for following instructions."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping

import numpy as np

from steelyard.learn.advantages import centre, chain, scale
from steelyard.learn.config import TrainConfig
from steelyard.learn.curricula import uniform
from steelyard.learn.objectives import clipped
from steelyard.learn.plans import groups
from steelyard.learn.recipe import Recipe
from steelyard.methods.arms import mean_rewards
from steelyard.methods.core import Card, Claim, Experiment, Measurement, Method, Setting, Trial
from steelyard.rewards.combinators import reading
from steelyard.rewards.core import Expression
from steelyard.rewards.overlap import bleuberi as bleu
from steelyard.worlds.wordings import Wordings, agreement, length, quality, reward_model

PAIRS, DOUBT = 400, 0.15
BLEU_1 = reading(bleu, references="gold")


def _trained_on(setting: Setting, reward: Expression) -> Recipe:
    return Recipe(
        plan=groups(setting.attempts),
        reward=reward,
        advantage=chain(centre(), scale()),
        objective=clipped(epsilon=0.2, kl=0.04),
        curriculum=uniform(),
    )


def bleuberi(setting: Setting) -> Recipe:
    """BLEU against the column `references` under GRPO, on prompts that `steelyard.learn.selection` found hard."""
    return _trained_on(setting, bleu)


def rewarded_by(setting: Setting, *, reward: Expression) -> Recipe:
    """The same with another reward."""
    return _trained_on(setting, reward)


def agrees(trial: Trial, *, reward: Expression, references: int = 1) -> Mapping[str, float]:
    """How often a reward and a noisy person prefer the same of two answers."""
    generator = np.random.default_rng([trial.seed, 51])
    answers = Wordings(references=references).answers(PAIRS // (20 if trial.quick else 1), generator)
    return {"agreement": agreement(reward, answers, generator, noise=DOUBT)}


AGREEMENT = Measurement(
    name="agreement",
    arms={
        "length": functools.partial(agrees, reward=length),
        "bleu_1": functools.partial(agrees, reward=bleu),
        "bleu_2": functools.partial(agrees, reward=bleu, references=2),
        "bleu_5": functools.partial(agrees, reward=bleu, references=5),
        "reward_model": functools.partial(agrees, reward=reward_model),
    },
    claims=(
        Claim("BLEU agrees with people more often than length", "agreement", "bleu_1", "length", 0.05),
        Claim("five references are better than one", "agreement", "bleu_5", "bleu_1", at_least=0.04),
        Claim("BLEU with five is within 0.05 below a reward model", "agreement", "bleu_5", "reward_model", -0.05),
        Claim("and within 0.05 above it", "agreement", "bleu_5", "reward_model", at_most=0.05),
    ),
    settings={"pairs": PAIRS, "doubt": DOUBT, "noise of the reward model": 0.15},
)

# Every row has its prompt's own table: a rate of 1 for each of 10 prompts and 14 words that the mean is over.
TRAINING = Experiment(
    name="wordings",
    world=Wordings,
    arms={
        "length": functools.partial(rewarded_by, reward=length),
        "reward_model": functools.partial(rewarded_by, reward=reward_model),
        "bleu_1": functools.partial(rewarded_by, reward=BLEU_1),
        "bleuberi": bleuberi,
    },
    train=TrainConfig(
        steps=150, prompts=10, optimiser="sgd", lr=10 * 14, schedule="constant", grad_clip=math.inf, micro_rows=80
    ),
    measure=mean_rewards(draws=16, quality=quality, length=length),
    claims=(
        Claim("BLEU trains as good answers as the reward model", "quality", "bleuberi", "reward_model", -0.03),
        Claim("so it does with one reference", "quality", "bleu_1", "reward_model", at_least=-0.03),
        Claim("a length reward does not", "quality", "bleuberi", "length", at_least=0.5),
    ),
    data=10,
    test_count=10,
    greedy=False,
    quick={"steps": 2},
)

METHOD = Method(
    card=Card(
        number=51,
        slug="bleuberi",
        title="BLEUBERI: BLEU is a surprisingly effective reward for instruction following",
        source="arXiv 2505.11080",
        claim="Smoothed BLEU against one or a few good answers agrees with people about as often as a reward model, "
        "and trains a policy about as well.",
        problem="Reward models for following instructions are costly to make and to run.",
        how="Every prompt has one or more good answers. The reward is sentence BLEU with add-one smoothing at every "
        "order, the shortest reference in the brevity penalty and the largest count over references. Train on the "
        "prompts on which the base model's first answer scores lowest (`first_scores`, `hardest`).",
        settings={
            "group, temperature": "8, 0.9 (paper's code)",
            "lr": "1e-6 constant after 5% of warm-up (paper's code)",
            "kl": "0.04 (the trainer's default then; not stated in the paper's code)",
            "selection": "the 5,000 lowest of 50,000 prompts (paper)",
            "with a reward model": "normalised(bleuberi + model, epsilon=1e-6) / 2, by group; the paper's code takes "
            "the mean over the whole batch (by=())",
        },
        limits=(
            "On references of a few words unrelated short answers score high (0.84 for one word): leave such prompts "
            "out.",
            "It is blind to paraphrase and to a wrong number in a long match, and copies the references' style.",
            "Length is held down by n-gram precision only.",
        ),
    ),
    recipe=bleuberi,
    evidence=(AGREEMENT, TRAINING),
)
