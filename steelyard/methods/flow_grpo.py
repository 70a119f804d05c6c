"""Flow-GRPO (sheet 00): every denoising step of a flow model is an action, and a group of images its own baseline."""

from __future__ import annotations

import functools
from collections.abc import Mapping

import torch

from steelyard.learn.advantages import centre, chain, clip
from steelyard.learn.config import TrainConfig
from steelyard.learn.curricula import uniform
from steelyard.learn.objectives import clipped
from steelyard.learn.plans import groups
from steelyard.learn.recipe import Recipe
from steelyard.learn.step_advantages import rotated, scale_overall, without_zeros
from steelyard.methods.core import Card, Claim, Experiment, Measurement, Method, Trial
from steelyard.methods.generation import GenerationSetting, generated, wanted
from steelyard.methods.pictures import pictured, write_grid
from steelyard.policies.kernels import Kernel, even_sigmas, ode, sde
from steelyard.worlds.eight_modes import without_prompts
from steelyard.worlds.shapes import Shapes

ROWS = 50_000


def flow_grpo(
    setting: GenerationSetting, *, beta: float = 0.04, epsilon: float = 1e-4, control: bool = False
) -> Recipe:
    """Group advantages scaled by the whole step's spread, clipped ratios of denoising steps, KL in closed form.

    With `control` every row gets another row's advantage, and nothing can be learned.
    """
    links = (centre(), scale_overall(), without_zeros(), clip(5.0))
    return Recipe(
        plan=groups(setting.attempts),
        reward=wanted(setting),
        advantage=chain(*links, rotated()) if control else chain(*links),
        objective=clipped(epsilon=epsilon, kl=beta, estimator="exact"),
        curriculum=uniform(),
    )


def spread_of(trial: Trial, *, kernel: Kernel, data_spread: float = 0.5) -> Mapping[str, float]:
    """How far the spread of samples by the exact velocity of N(1.5, 0.5²) is from 0.5."""
    generator = torch.Generator().manual_seed(trial.seed)
    x = torch.randn(1000 if trial.quick else ROWS, 1, generator=generator)
    for i in range(len(kernel)):
        t = float(kernel.time[i])
        variance = (1 - t) ** 2 * data_spread**2 + t**2
        velocity = (t - (1 - t) * data_spread**2) / variance * (x - (1 - t) * 1.5) - 1.5
        mean = kernel.mean(x, velocity, torch.full((len(x),), i))
        x = mean + float(kernel.noise[i]) * torch.randn(x.shape, generator=generator)
    return {"spread": float(x.std()), "off": abs(float(x.std()) - data_spread)}


def wrong_sign(steps: int) -> Kernel:
    """The SDE with the correction of its drift turned round: the marginals must be lost."""
    grid = even_sigmas(steps)
    right, plain = sde(grid, 0.7), ode(grid)
    weights = {n: 2 * getattr(plain, n) - getattr(right, n) for n in ("state_weight", "output_weight")}
    return Kernel(**{**vars(right), **weights})


EPSILON = 1e-2
ARMS = {"no_kl": 0.0, "weak_kl": 0.5, "strong_kl": 2.0}

MARGINALS = Measurement(
    name="marginals",
    arms={
        name: functools.partial(spread_of, kernel=kernel)
        for name, kernel in {
            "ode": ode(even_sigmas(50)),
            "sde": sde(even_sigmas(50), 0.7),
            "sde_10": sde(even_sigmas(10), 0.7),
            "wrong_sign": wrong_sign(50),
        }.items()
    },
    claims=(
        Claim("50 SDE steps keep the spread as well as 50 ODE steps", "off", "sde", "ode", at_most=0.01),
        Claim("10 of them lose at most 0.05 of it", "off", "sde_10", "sde", at_most=0.05),
        Claim("with the correction's sign turned it is lost", "off", "wrong_sign", "sde", at_least=0.5),
    ),
    settings={"steps": [10, 50], "noise_level": 0.7, "rows": ROWS},
)

POINTS = Experiment(
    name="eight-modes",
    world=without_prompts,
    arms={name: functools.partial(flow_grpo, beta=beta, epsilon=EPSILON) for name, beta in ARMS.items()}
    | {"control": functools.partial(flow_grpo, beta=0.0, epsilon=EPSILON, control=True)},
    train=TrainConfig(
        steps=120, prompts=4, lr=3e-4, weight_decay=0.0, schedule="constant", grad_clip=1.0, micro_rows=4096
    ),
    measure=generated,
    claims=(
        Claim("the reward rises by 1 over shuffled advantages", "reward", "weak_kl", "control", at_least=1.0),
        Claim("without KL it rises most", "reward", "no_kl", "weak_kl", at_least=0.3),
        Claim("and points leave the data most", "distance", "no_kl", "weak_kl", at_least=0.3),
        Claim("more KL keeps them nearer", "distance", "strong_kl", "weak_kl", at_most=-0.05),
    ),
    data=4,
    test_count=4,
    quick={"steps": 3},
)

IMAGES = Experiment(
    name="shapes",
    world=Shapes,
    arms={"no_kl": functools.partial(flow_grpo, beta=0.0), "flow-grpo": flow_grpo},
    train=TrainConfig(
        steps=60, prompts=6, lr=3e-4, weight_decay=1e-4, schedule="constant", grad_clip=1.0, micro_rows=72
    ),
    measure=pictured,
    claims=(
        Claim("KL costs at most 0.1 of what was asked for", "asked_for", "flow-grpo", "no_kl", at_least=-0.1),
        Claim("and pictures stay as clear", "clear", "flow-grpo", "no_kl", at_least=0.0),
    ),
    data=12,
    test_count=12,
    quick={"steps": 2, "prompts": 2},
    labels={"no_kl": "without KL", "flow-grpo": "Flow-GRPO"},
    examples=write_grid,
)

METHOD = Method(
    card=Card(
        number=0,
        slug="flow-grpo",
        title="Flow-GRPO: Training Flow Matching Models via Online RL",
        source="arXiv 2505.05470",
        claim="A flow model sampled by an SDE with the ODE's marginals learns from any reward of its images by GRPO, "
        "and the KL term decides how far it leaves its data.",
        problem="A flow model samples by a deterministic ODE: a sample has no step probabilities and nothing explores.",
        how="The ODE becomes an SDE with the same marginals, every denoising step a Gaussian action. A prompt's images "
        "are compared with each other; ratios of steps are clipped, and each step's KL to the reference is exact. "
        "Training takes 10 steps, evaluation 40 steps of the ODE.",
        settings={
            "noise level a": "0.7 (code)",
            "steps": "10 in training, the last one not trained; 40 ODE steps in evaluation (code)",
            "guidance": "4.5, gradients through the conditional half only (code)",
            "epsilon": "1e-4 with the mean of log-probabilities over dimensions (code); 1e-2 in the small world",
            "beta": "0.04, 0.01 for PickScore, with the KL in ς² (code: `sde(…, released_kl=True)`)",
            "group": "24 images, 48 prompts (code)",
            "advantage": "mean of the group, spread of the whole step, clipped to 5 (code)",
            "optimiser": "AdamW 3e-4, weight decay 1e-4, LoRA rank 32 alpha 64, gradient norm 1 (code)",
        },
        limits=(
            "Without KL a weak reward is hacked within some ten steps; that is a test of a port, not a setting.",
            "Summed log-probabilities (`reduction='sum'`) change what epsilon means by the number of dimensions.",
            "The released KL lacks a factor 1/|dt|: a beta does not carry over to the exact one.",
        ),
        usage="""# Python: a folder of Stable Diffusion 3 parts, a reward of images, a list of samples
from steelyard.policies.sd3 import load_flow_policy
policy = load_flow_policy("my-sd3", guidance=4.5)
Trainer(policy, flow_grpo(setting), samples, config, folder=folder).run()""",
    ),
    recipe=flow_grpo,
    evidence=(MARGINALS, POINTS),
    demos=(IMAGES,),
)
