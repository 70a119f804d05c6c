"""RLPR (sheet 40): reasoning is paid by how probable it makes the known reference answer; no verifier is needed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from steelyard.audits.separation import separation
from steelyard.learn.advantages import centre, chain, keep_rows, scale
from steelyard.learn.config import TrainConfig
from steelyard.learn.curricula import uniform
from steelyard.learn.filters import spread_filter
from steelyard.learn.objectives import clipped
from steelyard.learn.plans import groups
from steelyard.learn.recipe import AdvantageTransform, Recipe
from steelyard.methods.core import Card, Claim, Experiment, Measurement, Measures, Method, Setting, Trial, World
from steelyard.rewards import Expression, clip
from steelyard.rewards.answers import INSTRUCTION, one_of, tags_in_order
from steelyard.rewards.likelihood import (
    base_likelihood,
    geometric_probability,
    product_probability,
    reference_likelihood,
)
from steelyard.rewards.shaping import repeats
from steelyard.types import Array, Rollouts, Scores
from steelyard.worlds.reference_answers import ReferenceAnswers, TellingPolicy, reasoned_right


def _recipe(setting: Setting, reward: Expression, *links: AdvantageTransform) -> Recipe:
    return Recipe(
        plan=groups(setting.attempts),
        reward=0.9 * reward + 0.1 * tags_in_order("think", "answer") - repeats(window=10, limit=10),
        advantage=chain(*links, centre(), scale(epsilon=1e-6)),
        objective=clipped(epsilon=0.2, epsilon_high=0.27),
        curriculum=uniform(),
    )


def rlpr(setting: Setting) -> Recipe:
    """The mean probability of the reference's words, less what it is without reasoning; prompts that differ."""
    return _recipe(setting, clip(reference_likelihood() - base_likelihood(), 0, 1), spread_filter())


def mean(setting: Setting) -> Recipe:
    """The mean probability alone, on all prompts."""
    return _recipe(setting, reference_likelihood())


def product(setting: Setting) -> Recipe:
    """The probability of the whole reference: one improbable word decides."""
    return _recipe(setting, reference_likelihood(average=product_probability))


def geometric(setting: Setting) -> Recipe:
    """The mean over log-probabilities."""
    return _recipe(setting, reference_likelihood(average=geometric_probability))


def exact(setting: Setting) -> Recipe:
    """1 where the answer is the reference, word for word."""
    return _recipe(setting, one_of)


def untrained(setting: Setting) -> Recipe:
    """Nothing is learned: where the others start."""
    return _recipe(setting, one_of, keep_rows(no_row))


def no_row(rollouts: Rollouts, scores: Scores) -> Array:
    """None of them."""
    return np.zeros(len(rollouts), bool)


def measure(world: World, policy: TellingPolicy, *, folder: Path, count: int, greedy: bool) -> Measures:
    """How likely the policy reasons rightly, exactly, on hard and on easy questions."""
    right, easy = policy.rightness(), policy.questions.easy
    return {"right_hard": float(right[~easy].mean()), "right_easy": float(right[easy].mean())}


def _separation(make: Callable[[], Expression]) -> Callable[[Trial], Measures]:
    def measured(trial: Trial) -> Mapping[str, float]:
        world, draws = ReferenceAnswers(), 8 if trial.quick else 256
        policy = world.policy(seed=trial.seed)
        questions = world.samples("test", 32, seed=trial.seed)
        rollouts = policy.sample(questions, draws, generator=np.random.default_rng(trial.seed))
        policy.snapshot("reference")
        reward = make()
        reward.use_policy(policy)
        values, right = reward(rollouts).values, reasoned_right(rollouts)
        hard = ~np.asarray(rollouts.column("easy"), bool)
        return {"auc_hard": separation(values[hard], right[hard]), "auc_all": separation(values, right)}

    return measured


REWARDS: Mapping[str, Callable[[], Expression]] = {
    "exact": lambda: 1.0 * one_of,
    "product": lambda: reference_likelihood(average=product_probability),
    "geometric": lambda: reference_likelihood(average=geometric_probability),
    "mean": lambda: reference_likelihood(),
    "debiased": lambda: clip(reference_likelihood() - base_likelihood(), 0, 1),
}

QUALITY = Measurement(
    name="reward-quality",
    arms={name: _separation(make) for name, make in REWARDS.items()},
    claims=(
        Claim("the mean tells right reasoning better than the product", "auc_hard", "mean", "product", at_least=0.08),
        Claim("and better than the geometric mean", "auc_hard", "mean", "geometric", at_least=0.08),
        Claim("taking the base off helps", "auc_hard", "debiased", "mean", at_least=0.02),
        Claim("also over easy and hard questions together", "auc_all", "debiased", "product", at_least=0.08),
        Claim("an exact match tells nothing", "auc_hard", "exact", "product", at_most=-0.2),
    ),
    settings={"world": "reference-answers", "draws": 256},
)

TRAINING = Experiment(
    name="reference-answers",
    world=ReferenceAnswers,
    arms={
        "rlpr": rlpr,
        "mean": mean,
        "product": product,
        "geometric": geometric,
        "exact": exact,
        "untrained": untrained,
    },
    train=TrainConfig(
        steps=20,
        prompts=32,
        optimiser="sgd",
        lr=128.0,  # 2 on the logits of each question: the loss is a mean over 32 prompts and 2 steps
        schedule="constant",
        weight_decay=0.0,
        grad_clip=float("inf"),
        micro_rows=256,
    ),
    measure=measure,
    claims=(
        Claim(
            "the mean learns what the product does not, in 20 updates", "right_hard", "mean", "product", at_least=0.3
        ),
        Claim("so does RLPR whole", "right_hard", "rlpr", "product", at_least=0.3),
        Claim("base and filter cost nothing", "right_hard", "rlpr", "mean", at_least=-0.05),
        Claim("an exact match stays at chance", "right_hard", "exact", "untrained", at_most=0.01),
    ),
    data=32,
    test_count=32,
    quick={"steps": 3},
)

METHOD = Method(
    card=Card(
        number=40,
        slug="rlpr",
        title="RLPR: Extrapolating RLVR to General Domains without Verifiers",
        source="arXiv 2506.18254",
        claim="The mean probability of a reference's words after a reasoning tells right from wrong where no rule "
        "can, better than the product of their probabilities, and trains the policy to reason rightly.",
        problem="Training on checkable answers ends where no checker exists.",
        how="The sampled answer is replaced by the reference; the policy that sampled says how probable each of its "
        "words is, and their mean is the reward, less the same mean without any reasoning. Prompts whose rewards "
        "hardly differ are left out, by a threshold that follows the run.",
        settings={
            "reward": "0.9 · clip(r − r', 0, 1) + 0.1 · format − repetition (code)",
            "repetition": "a run of 10 words 10 times (code's trainer; its function has 6)",
            "base r'": "the starting policy's, once a prompt (code; the paper writes the policy itself)",
            "spread filter": "β 0.5, decay 0.99, from step 11 (code)",
            "epsilon": "0.2 and 0.27 (code)",
            "kl": "0 (code)",
            "group": "8 (code)",
        },
        limits=(
            "Long references dilute the words that matter; answers that are easy to guess have r ≈ r'.",
            "Where the prompt shows the reference, a reasoning that copies it is paid.",
            "The base needs a copy of the starting weights (none with LoRA); `base_likelihood(copy=None)` needs none.",
            "The authors' trainer draws further prompts for those it drops; here a step is then smaller.",
        ),
    ),
    recipe=rlpr,
    evidence=(QUALITY, TRAINING),
    instruction=INSTRUCTION,
)
