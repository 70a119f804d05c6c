"""DenseGRPO (sheet 48): every denoising step is paid what it added to the reward of the finished image."""

from __future__ import annotations

import functools

from steelyard.learn.advantages import centre, chain, clip, scale
from steelyard.learn.config import TrainConfig
from steelyard.learn.curricula import uniform
from steelyard.learn.objectives import clipped
from steelyard.learn.plans import groups
from steelyard.learn.recipe import Recipe
from steelyard.learn.step_advantages import per_step
from steelyard.methods.core import Card, Claim, Measurement, Method
from steelyard.methods.generation import GenerationSetting, curve, wanted
from steelyard.rewards.denoising import dense_steps
from steelyard.worlds.eight_modes import with_prompts


def densegrpo(
    setting: GenerationSetting, *, steps: int | None = None, epsilon: float = 1e-4, beta: float = 0.04
) -> Recipe:
    """Advantages of steps: each step's gain against the same step of the group. `steps` shortens the completions."""
    return Recipe(
        plan=groups(setting.attempts),
        reward=dense_steps(wanted(setting), steps=steps),
        advantage=chain(per_step(centre(), scale(ddof=0)), clip(5.0)),
        objective=clipped(epsilon=epsilon, kl=beta, estimator="exact"),
        curriculum=uniform(),
    )


def terminal(setting: GenerationSetting, *, epsilon: float = 1e-4, beta: float = 0.04) -> Recipe:
    """The same with the final reward for every step: the baseline."""
    return Recipe(
        plan=groups(setting.attempts),
        reward=wanted(setting),
        advantage=chain(centre(), scale(ddof=0), clip(5.0)),
        objective=clipped(epsilon=epsilon, kl=beta, estimator="exact"),
        curriculum=uniform(),
    )


EPSILON = 0.2
TRAIN = TrainConfig(
    steps=100,
    prompts=8,
    lr=1e-3,
    weight_decay=0.0,
    schedule="constant",
    grad_clip=1.0,
    micro_rows=4096,
    evaluate_every=20,
)
RECIPES = {
    "terminal": functools.partial(terminal, epsilon=EPSILON, beta=0.0),
    "dense": functools.partial(densegrpo, epsilon=EPSILON, beta=0.0),
    "dense_1": functools.partial(densegrpo, steps=1, epsilon=EPSILON, beta=0.0),
}

EVIDENCE = Measurement(
    name="prompted-modes",
    arms={n: functools.partial(curve, world=with_prompts(), recipe=r, train=TRAIN) for n, r in RECIPES.items()},
    claims=(
        Claim("after 80 updates its reward is higher by 0.2", "reward@80", "dense", "terminal", at_least=0.2),
        Claim("and after 100 it still is", "reward", "dense", "terminal", at_least=0.1),
        Claim("completions of one step are worse than whole ones", "reward", "dense_1", "dense", at_most=-0.01),
        Claim("it costs 6.5 times the network calls", "network_calls", "dense", "terminal", at_least=6.0, form="share"),
    ),
    settings={"train": TRAIN.to_json(), "epsilon": EPSILON},
)

METHOD = Method(
    card=Card(
        number=48,
        slug="densegrpo",
        title="DenseGRPO: From Sparse to Dense Reward for Flow Matching Model Alignment",
        source="arXiv 2601.20218",
        claim="Paying every denoising step the gain that it brought, judged on images finished without noise, reaches "
        "a reward in fewer updates than paying every step the final reward.",
        problem="Flow-GRPO gives all steps of an image the same reward: a step that did harm is paid like one that "
        "helped.",
        how="Each intermediate state is finished by the ODE and judged. A step's reward is what it added; the steps of "
        "an image sum to the whole gain. A step is compared with the same step of the group. The signs of the gains "
        "also say how much noise a step bears (`learn.noise.calibrated`, once before training).",
        settings={
            "completion": "every remaining step of the grid (paper); 1 or 2 are cheaper and worse",
            "noise levels": "calibrated: +0.01 where gains and losses balance, else −0.01 (paper)",
            "balance": "n₊ and n₋ differ by 0.2 N at most, N ≥ 256 (recommended); below 2 in the paper",
            "first levels": "Flow-GRPO's with a = 0.7 (recommended; not found in the paper)",
            "epsilon, clip": "1e-4 and 5, Flow-GRPO's (recommended); epsilon 0.2 in the small world",
            "beta": "0.04, 0.01 for PickScore (paper)",
        },
        limits=(
            "Of T steps it asks the reward T + 1 times and the network T(T + 1)/2 times more: 6.5 times at T = 10.",
            "Late steps with tiny gains get as much gradient as decisive ones.",
            "A short completion shows the reward a half-formed image; its noise then enters every step.",
        ),
        usage="""# Python: noise calibrated once, then any trainer settings
from steelyard.learn.noise import calibrated
from steelyard.rewards.denoising import dense_steps
calibrated(policy, samples, dense_steps(reward), sde_levels(sigmas, 0.7), rounds=20, generator=generator)
Trainer(policy, densegrpo(setting), samples, config, folder=folder).run()""",
    ),
    recipe=densegrpo,
    evidence=(EVIDENCE,),
)
