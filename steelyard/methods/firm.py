"""FIRM (sheet 31): what was asked for is the base of the reward, everything else a bonus on top of it."""

from __future__ import annotations

import functools
import math
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np

from steelyard.learn.advantages import centre, chain, clip, keep_rows, scale
from steelyard.learn.config import TrainConfig
from steelyard.learn.curricula import uniform
from steelyard.learn.forward_process import negative_aware
from steelyard.learn.objectives import clipped
from steelyard.learn.plans import groups
from steelyard.learn.recipe import AdvantageTransform, Recipe
from steelyard.learn.step_advantages import rotated, scale_overall
from steelyard.methods.arms import TEST_SEED, mean_rewards
from steelyard.methods.core import Card, Claim, Experiment, Measures, Method, Setting
from steelyard.methods.generation import GenerationSetting, wanted
from steelyard.methods.unlikeliness import no_row
from steelyard.policies.control import ControlPolicy
from steelyard.rewards.combinators import base_and_bonus, hybrid
from steelyard.rewards.core import Expression
from steelyard.worlds.eight_modes import by_noised_copies, near_own_mode
from steelyard.worlds.side_effects import SideEffects, mildly


class Marked(Setting, Protocol):
    """A setting whose completions get marks from 1 to 5."""

    @property
    def execution(self) -> Expression:
        """Of what was asked for."""
        ...

    @property
    def consistency(self) -> Expression:
        """Of what else should be so: nothing else changed, or good quality."""
        ...


def _trained_on(setting: Marked, reward: Expression, *links: AdvantageTransform) -> Recipe:
    return Recipe(
        plan=groups(setting.attempts),
        reward=reward,
        advantage=chain(*links, centre(), scale(ddof=0), clip(5.0)),
        objective=clipped(epsilon=0.2),
        curriculum=uniform(),
    )


def firm(setting: Marked, *, constant: float = 0.6) -> Recipe:
    """Execution times (0.6 + 0.4 consistency), marks over 5. Image generation takes `constant=0.4`."""
    base, bonus = 0.2 * setting.execution, 0.2 * setting.consistency
    return _trained_on(setting, base_and_bonus(base, bonus, constant=constant))


def generated_by_firm(setting: GenerationSetting, *, limit: float = 5.0, control: bool = False) -> Recipe:
    """For a `ForwardPolicy`: any reward of images, such as `base_and_bonus`, under DiffusionNFT.

    With `control` every row gets another row's advantage, and nothing can be learned.
    """
    links = (centre(), scale_overall())
    return Recipe(
        plan=groups(setting.attempts),
        reward=wanted(setting),
        advantage=chain(*links, rotated()) if control else chain(*links),
        objective=negative_aware(limit=limit),
        curriculum=uniform(),
    )


def summed(setting: Marked, *, share: float) -> Recipe:
    """The weighted sum of both marks: the baseline."""
    return _trained_on(setting, share / 5 * setting.execution + (1 - share) / 5 * setting.consistency)


def guarded_sum(setting: Marked) -> Recipe:
    """The even sum, but execution alone where its mark is 3 or less: the released code's optional guard."""
    execution = 0.1 * setting.execution
    reward = hybrid(execution + 0.1 * setting.consistency, execution, by=setting.execution, above=3.0)
    return _trained_on(setting, reward)


def swapped(setting: Marked) -> Recipe:
    """The roles exchanged: consistency is the base. It must fail."""
    return _trained_on(setting, base_and_bonus(0.2 * setting.consistency, 0.2 * setting.execution))


def untrained(setting: Marked) -> Recipe:
    """Nothing is learned: where the others start."""
    return _trained_on(setting, setting.execution, keep_rows(no_row))


def measure(world: SideEffects, policy: ControlPolicy, *, folder: Path, count: int, greedy: bool) -> Measures:
    """Marks of the mean edit, without the judge's error and not rounded."""
    drawn = policy.sample(world.samples("test", count), 1, generator=np.random.default_rng(TEST_SEED), greedy=greedy)
    execution, consistency = (1 + 4 * float(part.mean()) for part in world.truth(drawn))
    return {"execution": execution, "consistency": consistency}


ARMS = {
    "untrained": untrained,
    "sum_55": functools.partial(summed, share=0.5),
    "sum_64": functools.partial(summed, share=0.6),
    "guard": guarded_sum,
    "cme": firm,
    "swapped": swapped,
}
TRAIN = TrainConfig(
    steps=300, prompts=8, optimiser="sgd", lr=0.003, schedule="constant", grad_clip=math.inf, micro_rows=192
)
_experiment = functools.partial(
    Experiment,
    train=TRAIN,
    measure=measure,  # type: ignore[arg-type]
    data=8,
    test_count=1,
    quick={"steps": 3},
)


EVIDENCE = _experiment(
    name="side-effects",
    world=SideEffects,
    arms=ARMS,
    claims=(
        Claim("execution is 2 marks higher than with the even sum", "execution", "cme", "sum_55", at_least=2.0),
        Claim("and 1.5 higher than with 0.6 and 0.4", "execution", "cme", "sum_64", at_least=1.5),
        Claim("the even sum ends no better executed than it began", "execution", "sum_55", "untrained", at_most=0.2),
        Claim("with the roles swapped it ends below the start", "execution", "swapped", "untrained", at_most=-0.4),
        Claim("consistency pays for it", "consistency", "cme", "sum_55", at_most=-2.0),
    ),
)
MILD = _experiment(
    name="mild-side-effects",
    world=mildly,
    arms={name: ARMS[name] for name in ("sum_55", "sum_64", "cme")},
    train=replace(TRAIN, lr=0.01),
    claims=(
        Claim("where both can be had the even sum executes as well", "execution", "sum_55", "cme", at_least=-0.3),
        Claim("and keeps more consistency", "consistency", "cme", "sum_55", at_most=-0.3),
    ),
)
NFT = Experiment(
    name="noised-modes",
    world=by_noised_copies,
    arms={"nft": generated_by_firm, "rotated": functools.partial(generated_by_firm, control=True)},
    train=TrainConfig(
        steps=60, prompts=8, lr=3e-3, weight_decay=0.0, schedule="constant", grad_clip=1.0, micro_rows=4096
    ),
    measure=mean_rewards(reward=near_own_mode),
    data=8,
    test_count=512,
    quick={"steps": 3},
    claims=(Claim("trained on noised copies, points find their modes", "reward", "nft", "rotated", at_least=0.5),),
)

METHOD = Method(
    card=Card(
        number=31,
        slug="firm",
        title="Trust Your Critic: Robust Reward Modeling and Reinforcement Learning for Faithful Image Editing and "
        "Generation",
        source="arXiv 2603.12247",
        claim="With what was asked for as the base and the rest as a bonus, an editor does not settle for the easy "
        "mark by leaving the image as it was, as it does with the sum of both.",
        problem="Judges' marks are noisy, and where two are added, the policy raises the easy one: an editor learns "
        "to return its input.",
        how="Two marks from 1 to 5: execution E (the change is there) and consistency C (nothing else changed), or "
        "instruction following and quality for generation. The reward is E (0.6 + 0.4 C), or I (0.4 + 0.6 Q): nothing "
        "is earned without the base. Judges look at differences, or a plan, before they mark. Training needs no "
        "log-probabilities: samples are noised again, and the velocity is drawn to the good and pushed from the bad.",
        settings={
            "constant": "0.6 for edits, 0.4 for generation (paper)",
            "scale of marks": "s / 5 for edits, (s - 1) / 4 for generation (code)",
            "group": "16 images; batch 16, 150 steps for edits, 48, 600 steps for generation (paper)",
            "A_max, b": "5 and 1, b = 0.1 in some configurations (code)",
            "beta_KL": "1e-4 (code): `ForwardPolicy(anchor=2e-5)` with A_max = 5",
        },
        limits=(
            "It buys execution with consistency: where both could be had, the sum keeps more of it.",
            "With s / 5 a complete failure still earns 0.14 to 0.2; use `rescaled(mark, 1, 5)` where it must be 0.",
            "A mark that cannot be read is left out of training; the released servers pay it 0.",
            "v_old is the policy that drew the sample; the paper's slow average of it is not kept.",
            "Integer marks tie often, and a group of equal marks teaches nothing.",
        ),
        usage="""# Python: a flow model, a judge behind an endpoint, prompts
from steelyard.policies.forward_process import ForwardPolicy
from steelyard.rewards import base_and_bonus, fill, rescaled
from steelyard.rewards.judges.pictures import image_aligned, image_quality
quality = fill(rescaled(image_quality(judge), 1, 5), 1.0)
setting.reward = base_and_bonus(rescaled(image_aligned(judge), 1, 5), quality, constant=0.4)
Trainer(ForwardPolicy(load_flow_policy("my-sd3")), generated_by_firm(setting), samples, config, folder=folder).run()""",
    ),
    recipe=firm,
    evidence=(EVIDENCE, MILD, NFT),
)
