"""RLCM (sheet 57): a consistency model's few steps as a short decision process, trained by clipped policy gradients."""

from __future__ import annotations

import functools
from dataclasses import replace

from steelyard.learn.advantages import chain, clip
from steelyard.learn.config import TrainConfig
from steelyard.learn.curricula import uniform
from steelyard.learn.objectives import clipped
from steelyard.learn.plans import groups
from steelyard.learn.recipe import Recipe
from steelyard.learn.step_advantages import against_past
from steelyard.methods.core import Card, Claim, Measurement, Method
from steelyard.methods.generation import GenerationSetting, curve, wanted
from steelyard.worlds.eight_modes import in_few_steps, in_many_steps


def rlcm(setting: GenerationSetting, *, epsilon: float = 1e-4, buffer: int = 32, least: int = 16) -> Recipe:
    """Rewards against the past of their prompt, clipped to 10; ratios of steps clipped; no KL."""
    return Recipe(
        plan=groups(setting.attempts),
        reward=wanted(setting),
        advantage=chain(against_past(buffer=buffer, least=least), clip(10.0)),
        objective=clipped(epsilon=epsilon),
        curriculum=uniform(),
    )


EPSILON = 0.2
TRAIN = TrainConfig(
    steps=100,
    prompts=8,
    lr=4e-3,
    weight_decay=0.0,
    schedule="constant",
    grad_clip=5.0,
    micro_rows=4096,
    evaluate_every=5,
)
MANY = replace(TRAIN, lr=6e-3)

EVIDENCE = Measurement(
    name="few-step-modes",
    arms={
        "rlcm": functools.partial(
            curve, world=in_few_steps(), recipe=functools.partial(rlcm, epsilon=EPSILON, buffer=48), train=TRAIN
        ),
        "ddpo": functools.partial(
            curve, world=in_many_steps(), recipe=functools.partial(rlcm, epsilon=EPSILON, buffer=24), train=MANY
        ),
    },
    claims=(
        Claim(
            "a reward of 0.8 needs a third of the network calls of 50-step DDPO",
            "calls_to_goal",
            "rlcm",
            "ddpo",
            at_most=1 / 3,
            form="share",
        ),
        Claim("half of them will do", "calls_to_goal", "rlcm", "ddpo", at_most=0.5, form="share"),
        Claim("the reward at the end is at most 0.1 lower", "reward", "rlcm", "ddpo", at_least=-0.1),
    ),
    settings={"train": TRAIN.to_json(), "train_ddpo": MANY.to_json(), "epsilon": EPSILON, "goal": 0.8},
)

METHOD = Method(
    card=Card(
        number=57,
        slug="rlcm",
        title="RL for Consistency Models: Faster Reward Guided Text-to-Image Generation",
        source="arXiv 2404.03673",
        claim="Training a consistency model's 8-step sampler reaches a reward with a fraction of the network calls "
        "that training a 50-step sampler takes.",
        problem="Reinforcement learning on diffusion models pays for 50 steps of every image, in sampling and "
        "in training.",
        how="A consistency model predicts the final image from any noise level; its sampler adds fresh noise of the "
        "next level and predicts again. Each of these draws is a Gaussian action; the last prediction draws nothing "
        "and is no action. Rewards are compared with their prompt's past.",
        settings={
            "steps": "8, 16 for prompt alignment (paper)",
            "epsilon, advantage clip": "1e-4 with the mean of log-probabilities, 10 (paper)",
            "buffer, least": "16 or 32 rewards a prompt, 16 of them before they count (paper)",
            "optimiser": "AdamW 1e-4, gradient norm 5, LoRA rank 8 or 16 (paper)",
            "guidance": "8, distilled into the model (paper)",
        },
        limits=(
            "No KL: it over-fits the reward; watch the images.",
            "The last prediction gets no gradient of its own and moves with shared weights: few steps are unstable.",
            "Rewards of older policies in the buffer bias advantages while the reward rises fast.",
            "In the small world it saves network calls; per image judged, DDPO needs no more.",
        ),
        usage="""# Python: a network that predicts the noise, sampled as the paper's latent consistency models are
from steelyard.policies.flow import DenoisingPolicy
from steelyard.policies.kernels import drawless, lcm
kernel = lcm(alpha_bar, steps=8)
policy = DenoisingPolicy(backbone, kernel, evaluation=drawless(kernel))
Trainer(policy, rlcm(setting), samples, config, folder=folder).run()""",
    ),
    recipe=rlcm,
    evidence=(EVIDENCE,),
)
