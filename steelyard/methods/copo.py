"""COPO (sheet 10): groups whose attempts all fail or all succeed learn from how other prompts did."""

from __future__ import annotations

from pathlib import Path

from steelyard.learn.advantages import centre, chain, scale
from steelyard.learn.between_prompts import (
    Share,
    blend,
    by_entropy,
    centre_prompts,
    forced,
    prompt_reward,
    scale_prompts,
)
from steelyard.learn.config import TrainConfig
from steelyard.learn.curricula import uniform
from steelyard.learn.objectives import clipped
from steelyard.learn.plans import groups
from steelyard.learn.recipe import Recipe
from steelyard.methods.core import Card, Claim, Experiment, Measures, Method, Setting
from steelyard.policies.categorical import CategoricalPolicy
from steelyard.rewards.answers import INSTRUCTION, answer_text, one_of
from steelyard.worlds.stubborn_mistakes import StubbornMistakes


def _recipe(setting: Setting, share: Share | float) -> Recipe:
    within = chain(centre(), scale(epsilon=1e-6))
    between = chain(prompt_reward(agreement=answer_text), centre_prompts(), scale_prompts(epsilon=1e-6))
    return Recipe(
        plan=groups(setting.attempts),
        reward=one_of,
        advantage=blend(within, between, share=share),
        objective=clipped(epsilon=0.2, epsilon_high=0.28, dual=3.0),
        curriculum=uniform(),
    )


def copo(setting: Setting) -> Recipe:
    """Groups that differ learn within; groups without a signal, or nearly unanimous, learn between prompts."""
    return _recipe(setting, forced(by_entropy(answer_text, gamma=20.0, threshold=0.3)))


def only_forced(setting: Setting) -> Recipe:
    """Only groups without a signal learn between prompts."""
    return _recipe(setting, forced())


def paper_threshold(setting: Setting) -> Recipe:
    """The same with the paper's threshold of 1.5 bits: most mixed groups are sent between prompts too."""
    return _recipe(setting, forced(by_entropy(answer_text, gamma=20.0, threshold=1.5)))


def soft(setting: Setting) -> Recipe:
    """The paper's blend by entropy alone: wrong groups that differ have no signal again."""
    return _recipe(setting, by_entropy(answer_text, gamma=20.0, threshold=1.5))


def only_between(setting: Setting) -> Recipe:
    """Every group learns between prompts, none within."""
    return _recipe(setting, 0.0)


def within_only(setting: Setting) -> Recipe:
    """GRPO by the same objective."""
    return _recipe(setting, 1.0)


def measure(world: StubbornMistakes, policy: CategoricalPolicy, *, folder: Path, count: int, greedy: bool) -> Measures:
    """How likely the policy answers rightly, exactly: on all prompts, and on those that it began wrong."""
    right = world.rightness(policy)
    return {"right": float(right.mean()), "right_hard": float(right[world.hard].mean())}


EVIDENCE = Experiment(
    name="stubborn-mistakes",
    world=StubbornMistakes,
    arms={
        "grpo": within_only,
        "copo": copo,
        "only_forced": only_forced,
        "paper_threshold": paper_threshold,
        "soft": soft,
        "only_between": only_between,
    },
    train=TrainConfig(
        steps=300,
        prompts=32,
        optimiser="sgd",
        lr=6.4,  # 0.2 on the logits of each prompt: the loss is a mean over 32 of them
        schedule="constant",
        weight_decay=0.0,
        grad_clip=float("inf"),
        micro_rows=256,
    ),
    measure=measure,
    claims=(
        Claim(
            "twice GRPO's prompts have a gradient, or more",
            "signal_prompts",
            "copo",
            "grpo",
            at_least=2.0,
            form="share",
        ),
        Claim("COPO is right more often than GRPO", "right", "copo", "grpo", at_least=0.05),
        Claim("also on prompts that began wrong", "right_hard", "copo", "grpo", at_least=0.05),
        Claim("forcing alone is enough here", "right", "only_forced", "grpo", at_least=0.05),
        Claim("learning between prompts alone is worse than GRPO", "right", "only_between", "grpo", at_most=0.0),
        Claim("so is the paper's threshold of 1.5 bits", "right", "paper_threshold", "grpo", at_most=0.0),
    ),
    data=128,
    test_count=128,
    quick={"steps": 3},
)

METHOD = Method(
    card=Card(
        number=10,
        slug="copo",
        title="COPO: Consistency-Aware Policy Optimization",
        source="arXiv 2508.04138",
        claim="Where all attempts of a group fare alike, an advantage between prompts still moves the policy, and it "
        "ends right more often than by GRPO's advantage within groups alone.",
        problem="When all attempts of a group are wrong, or all right, GRPO's advantage is 0 and the prompt teaches "
        "nothing; for a small model that is most of the data.",
        how="Every row has two advantages: its own within its group, and its prompt's among the prompts of the step, "
        "weighed by how much the attempts agree. Each is clipped on its own; the entropy of the group's answers says "
        "how much of either counts, and a group without a signal of its own learns between prompts only.",
        settings={
            "share": "forced(by_entropy): 0 where the group has no signal (code's 'soft with forced'; recommended)",
            "gamma": "20 (paper)",
            "threshold": "0.3 bits (recommended, so that only nearly unanimous groups go between; paper 1.5)",
            "epsilon, dual": "0.2 and 0.28 (code's script), dual clip 3",
            "group": "6 (paper)",
        },
        limits=(
            "At the paper's threshold a 5:1 split goes between prompts, and its one informative answer is lost.",
            "A negative advantage between prompts pushes down all that was sampled: watch entropy and length.",
            "Results depend on which prompts share a step. Answers are compared as texts: 1/2 is not 0.5.",
        ),
    ),
    recipe=copo,
    evidence=(EVIDENCE,),
    instruction=INSTRUCTION,
)
