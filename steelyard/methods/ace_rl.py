"""ACE-RL (sheet 45): every request's own checklist, verified item by item, beside the length that it asks for."""

from __future__ import annotations

from typing import Protocol

from steelyard.learn.advantages import centre, chain, scale
from steelyard.learn.config import TrainConfig
from steelyard.learn.curricula import uniform
from steelyard.learn.objectives import clipped
from steelyard.learn.plans import groups
from steelyard.learn.recipe import Recipe
from steelyard.methods.arms import mean_rewards
from steelyard.methods.core import Card, Claim, Experiment, Method, Setting
from steelyard.rewards.combinators import mean_applicable
from steelyard.rewards.core import BatchReward, Expression
from steelyard.rewards.rubrics import rubric
from steelyard.rewards.shaping import length_in_band
from steelyard.types import Judge
from steelyard.worlds.short_demands import ShortDemands, satisfaction


class VerifiedSetting(Setting, Protocol):
    """A setting whose rows have a checklist (`rubric`) and a length (`length_band`, None where none is asked for)."""

    @property
    def verifier(self) -> Judge:
        """Who is asked whether an item is met."""
        ...


def ace_reward(verifier: Judge, *, column: str = "rubric") -> Expression:
    """R = (R_C + R_L) / 2; R_C alone where no length is asked for, R_L alone for an empty checklist.

    An item whose verdict cannot be read counts as not met, as in the paper; `rubric/unjudged` says how many those are.
    """
    return mean_applicable(rubric(verifier, column=column, missing="unmet"), length_in_band())


def _recipe(setting: Setting, reward: Expression) -> Recipe:
    return Recipe(
        plan=groups(setting.attempts),
        reward=reward,
        advantage=chain(centre(), scale(ddof=0, epsilon=1e-6)),
        objective=clipped(epsilon=0.2),
        curriculum=uniform(),
    )


def recipe(setting: VerifiedSetting) -> Recipe:
    """The checklist and the length under GRPO, without a KL term."""
    return _recipe(setting, ace_reward(setting.verifier))


def shuffled(world: ShortDemands) -> Recipe:
    """The checklist of another request: the control."""
    return _recipe(world, ace_reward(world.verifier, column="other_rubric"))


def holistic(world: ShortDemands) -> Recipe:
    """One mark for the whole text, and the length."""
    return _recipe(world, mean_applicable(world.impression, length_in_band()))


EVIDENCE = Experiment(
    name="short-demands",
    world=ShortDemands,
    seeded=True,
    arms={"shuffled": shuffled, "judge": holistic, "ace": recipe},
    train=TrainConfig(
        steps=200, prompts=16, lr=3e-3, weight_decay=0.0, schedule="constant", grad_clip=float("inf"), micro_rows=128
    ),
    measure=mean_rewards(satisfied=BatchReward(satisfaction, "satisfied"), length=length_in_band()),
    claims=(
        Claim("checklists satisfy at least 0.12 more than one mark", "satisfied", "ace", "judge", at_least=0.12),
        Claim("and 0.25 more than another request's checklists", "satisfied", "ace", "shuffled", at_least=0.25),
        Claim("lengths are kept no worse", "length", "ace", "judge", at_least=-0.05),
    ),
    data=3200,
    test_count=400,
    greedy=False,
    quick={"steps": 3},
    demo={"steps": 100},
    demo_arms=("judge", "ace"),
    labels={"judge": "one mark", "ace": "checklists", "shuffled": "checklists of another request"},
)

METHOD = Method(
    card=Card(
        number=45,
        slug="ace-rl",
        title="ACE-RL: Adaptive Constraint-Enhanced Reward for Long-form Generation Reinforcement Learning",
        source="arXiv 2509.04903",
        claim="A checklist of each request's own demands, verified item by item, teaches what a mark for the whole "
        "text does not.",
        problem="Long writing is judged by general impressions, which give a flat, noisy reward and miss what this "
        "very request demands.",
        how="A strong model reads each request once and writes a short checklist of what it states and implies. For "
        "every response a verifier is asked about each item by itself: fully, partially or not met (1, 0.5, 0). Their "
        "mean and how well the length is kept are averaged; GRPO trains on it.",
        settings={
            "items": "5.18 on average, of three dimensions (paper)",
            "length": "1 in the band (stated length ± 10%), 0 at four times its top and a third of its bottom "
            "(recommended; the paper's formula is not found)",
            "group": "32, 64 prompts a step (paper)",
            "lr, kl": "1e-6, none (paper)",
            "clip": "0.2 (recommended; the paper's is not found)",
        },
        limits=(
            "The paper argues by the larger group std, but noise raises it too: verify twice and look at what repeats.",
            "A bad text of the right length earns 0.5: watch the part `rubric` alone.",
            "An unreadable verdict counts as not met, so a broken verifier looks like a bad policy: watch "
            "`rubric/unjudged`.",
            "Items that repeat one demand, or state the length again, double its weight.",
            "One question an item and response: equal ones are asked once only with a judge's cache.",
            "To verify with the policy itself, ask a copy of its start: the moving policy moves the reward.",
        ),
        usage="steelyard evidence ace-rl --seeds 5   # the small world; your own requests: docs/judges.md",
    ),
    recipe=recipe,
    evidence=(EVIDENCE,),
)
