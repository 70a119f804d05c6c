"""PaCo-RL (sheet 15): pairs of images judged for consistency, and the reward that spreads widest compressed."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Protocol

from steelyard.learn.advantages import centre, chain, keep_rows, scale
from steelyard.learn.config import TrainConfig
from steelyard.learn.curricula import uniform
from steelyard.learn.objectives import clipped
from steelyard.learn.plans import groups
from steelyard.learn.recipe import AdvantageTransform, Recipe
from steelyard.methods.arms import mean_rewards
from steelyard.methods.core import Card, Claim, Experiment, Method, Setting
from steelyard.methods.unlikeliness import no_row
from steelyard.rewards.aggregation import Threshold, log_tamed, normalised
from steelyard.rewards.core import Expression
from steelyard.worlds.tight_and_wide import TightAndWide, tight, wide


class SeveralRewards(Setting, Protocol):
    """A setting with rewards of different spread."""

    @property
    def rewards(self) -> Sequence[Expression]:
        """Each never below 0."""
        ...


def _trained_on(setting: Setting, reward: Expression, epsilon: float, *links: AdvantageTransform) -> Recipe:
    return Recipe(
        plan=groups(setting.attempts),
        reward=reward,
        advantage=chain(*links, centre(), scale(ddof=0, epsilon=0.0, floor=1e-6)),
        objective=clipped(epsilon=epsilon),
        curriculum=uniform(),
    )


def paco_rl(setting: SeveralRewards, *, threshold: Threshold = "mean", epsilon: float = 1e-4) -> Recipe:
    """Rewards whose relative spread is above the threshold become log(1 + r); then the sum, scaled in its group."""
    return _trained_on(setting, log_tamed(*setting.rewards, threshold=threshold), epsilon)


def summed(setting: SeveralRewards, *, epsilon: float = 1e-4) -> Recipe:
    """The plain sum, the released default: the baseline."""
    return _trained_on(setting, _sum(setting.rewards), epsilon)


def normalised_sum(setting: SeveralRewards, *, epsilon: float = 1e-4) -> Recipe:
    """Each reward scaled in its group before the sum."""
    return _trained_on(setting, normalised(_sum(setting.rewards), ddof=0), epsilon)


def untrained(setting: SeveralRewards) -> Recipe:
    """Nothing is learned: where the others start."""
    return _trained_on(setting, _sum(setting.rewards), 0.2, keep_rows(no_row))


def _sum(rewards: Sequence[Expression]) -> Expression:
    return functools.reduce(lambda a, b: a + b, rewards)


EPSILON = 0.2
ARMS = {
    "untrained": untrained,
    "sum": functools.partial(summed, epsilon=EPSILON),
    "log_tamed": functools.partial(paco_rl, epsilon=EPSILON),
    "fixed_0.2": functools.partial(paco_rl, threshold=0.2, epsilon=EPSILON),
    "normalised": functools.partial(normalised_sum, epsilon=EPSILON),
}
EVIDENCE = Experiment(
    name="tight-and-wide",
    world=TightAndWide,
    arms=ARMS,
    train=TrainConfig(
        steps=150, prompts=4, lr=1e-3, weight_decay=0.0, schedule="constant", grad_clip=1.0, micro_rows=96
    ),
    measure=mean_rewards(wide=wide, tight=tight),
    claims=(
        Claim("the plain sum gives the tight reward up", "tight", "sum", "untrained", at_most=-2.0),
        Claim("log-taming keeps it above 2", "tight", "log_tamed", "untrained", at_least=-0.5),
        Claim("which is 1.5 more than the sum keeps", "tight", "log_tamed", "sum", at_least=1.5),
        Claim("and raises the wide one as well", "wide", "log_tamed", "untrained", at_least=5.0),
        Claim("a fixed threshold lets the wide one out again", "tight", "fixed_0.2", "untrained", at_most=-2.0),
    ),
    data=4,
    test_count=512,
    quick={"steps": 3},
)

METHOD = Method(
    card=Card(
        number=15,
        slug="paco-rl",
        title="PaCo-RL: Advancing Reinforcement Learning for Consistent Image Generation with Pairwise Reward Modeling",
        source="arXiv 2512.04784",
        claim="Compressing the reward that spreads widest before the sum keeps it from drowning the other.",
        problem="Sets of images should share identity, style and logic. Consistency is a reward beside others, and the "
        "one with the widest spread decides alone where training goes.",
        how="A judge sees two images and answers Yes or No first; the reward is P(Yes) / (P(Yes) + P(No)), the mean "
        "over all pairs of a set. Over the batch, each reward's spread is its standard deviation over its mean; those "
        "above the mean spread become log(1 + r). The sum is scaled within its group. Images are drawn and judged at "
        "half the resolution in training.",
        settings={
            "threshold": "the mean spread (paper); the released default is the plain sum, weights 0.2, 1, 1",
            "resolution": "512 for a grid of 2 by 2, 1024 in testing; 384 and 512 for edits; 256 fails (paper)",
            "stochastic steps": "index 1 of 10, a = 0.7: `sde(sigmas, 0.7, window=(1, 2))` (code)",
            "group": "16 images, 42 prompts (code)",
            "epsilon, beta": "1e-4 and 0 (code); epsilon 0.2 in the small world",
            "scale": "of the whole step for sets, of the group for edits (code)",
            "judge's first token": "0.1 of the loss (paper); 0.1 / n in the released code",
        },
        limits=(
            "Rewards must not be below 0; shift them first.",
            "Under the mean rule one reward is always tamed, also where none dominates.",
            "With a fixed threshold a reward that dominates leaves the tamed set once its relative spread falls.",
            "The judge is not asked in both orders. Keep a second evaluator of another family.",
        ),
        usage="""# Python: images in a grid of 2 by 2, drawn at half the size, judged in pairs by an endpoint
from steelyard.policies.sd3 import load_flow_policy, resized
from steelyard.rewards.judges.image_pairs import set_consistent
setting.rewards = (set_consistent(judge, grid=(2, 2)), aligned)
policy = resized(load_flow_policy("my-sd3"), 64)
Trainer(policy, paco_rl(setting), samples, config, folder=folder).run()""",
    ),
    recipe=paco_rl,
    evidence=(EVIDENCE,),
)
