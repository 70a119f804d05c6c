"""GRPO, the baseline that papers compare with, and GRPO on corrupted samples as plain augmentation."""

from __future__ import annotations

from steelyard.learn.advantages import centre, chain, scale
from steelyard.learn.curricula import uniform
from steelyard.learn.objectives import clipped
from steelyard.learn.plans import groups
from steelyard.learn.recipe import Recipe
from steelyard.methods.core import Card, Method, Setting, VideoSetting
from steelyard.rewards.answers import INSTRUCTION, correct, think_format


def grpo(setting: Setting) -> Recipe:
    """Group-relative policy optimisation on the samples as they are."""
    return Recipe(
        plan=groups(setting.attempts),
        reward=think_format + correct,
        advantage=chain(centre(), scale()),
        objective=clipped(epsilon=0.2, kl=0.04),
        curriculum=uniform(),
    )


def grpo_augmented(setting: VideoSetting) -> Recipe:
    """The same, every sample under a drawn corruption: plain augmentation without alignment."""
    return Recipe(
        plan=groups(setting.attempts, perturb=setting.corruptions),
        reward=think_format + correct,
        advantage=chain(centre(), scale()),
        objective=clipped(epsilon=0.2, kl=0.04),
        curriculum=uniform(),
    )


METHOD = Method(
    card=Card(
        number=0,
        slug="grpo",
        title="DeepSeekMath: Pushing the Limits of Mathematical Reasoning in Open Language Models",
        source="arXiv 2402.03300",
        claim="The baseline of most methods here; no claim of its own is tested.",
        problem="A critic as large as the policy is costly; its value estimate is one more thing to go wrong.",
        how="Several attempts at one prompt; each is compared with its group's mean; a clipped step with a KL penalty.",
        settings={"epsilon": "0.2", "kl": "0.04 with the k3 estimator", "std": "unbiased + 1e-4"},
    ),
    recipe=grpo,
    instruction=INSTRUCTION,
)
