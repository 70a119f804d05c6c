"""VeRPO (sheet 06): code tests weighted by how hard and how common they are now, anchored by the whole outcome."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Protocol

from steelyard.learn.advantages import centre, chain
from steelyard.learn.config import TrainConfig
from steelyard.learn.curricula import uniform
from steelyard.learn.fusion import fused
from steelyard.learn.objectives import clipped
from steelyard.learn.plans import groups
from steelyard.learn.recipe import AdvantageTransform, Recipe
from steelyard.methods.core import Card, Claim, Experiment, Measures, Method, Setting
from steelyard.policies.categorical import CategoricalPolicy
from steelyard.rewards.core import Expression
from steelyard.rewards.dense import WeighTests, calibrated, dense_tests, difficulty
from steelyard.worlds.stub_or_real import StubOrReal

INSTRUCTION = "\nAnswer with one program in a ```python block."


class Checked(Setting, Protocol):
    """A setting whose answers are judged by many checks."""

    @property
    def checks(self) -> Expression:
        """A reward whose steps are the checks that pass, such as `code_tests`."""
        ...


def _recipe(setting: Checked, reward: Expression, advantage: AdvantageTransform) -> Recipe:
    return Recipe(
        plan=groups(setting.attempts),
        reward=reward,
        advantage=chain(advantage),
        objective=clipped(epsilon=0.2, kl=0.0),
        curriculum=uniform(),
    )


def verpo(setting: Checked, *, weigh: WeighTests | None = None, beta: float = 1.0) -> Recipe:
    """Difficulty over density for every test, the outcome on top, no standard deviation."""
    return _recipe(setting, dense_tests(setting.checks, weigh=weigh or calibrated(alpha=3.0)), fused(beta=beta))


def pass_rate(setting: Checked) -> Recipe:
    """The share of tests that pass, as every dense code reward before."""
    return _recipe(setting, setting.checks, centre())


def measure(world: StubOrReal, policy: CategoricalPolicy, *, folder: Path, count: int, greedy: bool) -> Measures:
    """Exact figures; nothing is drawn."""
    return world.figures(policy)


EVIDENCE = Experiment(
    name="stub-or-real",
    world=StubOrReal,
    arms={
        "outcome": functools.partial(verpo, beta=0.0),
        "pass_rate": pass_rate,
        "pass_rate_and_outcome": functools.partial(verpo, weigh=difficulty(alpha=0.0)),
        "difficulty": functools.partial(verpo, weigh=difficulty(alpha=3.0)),
        "density": functools.partial(verpo, weigh=calibrated(alpha=0.0)),
        "reversed": functools.partial(verpo, weigh=calibrated(alpha=-5.0)),
        "verpo": verpo,
    },
    train=TrainConfig(
        steps=400, prompts=8, optimiser="sgd", lr=240.0, schedule="constant", grad_clip=float("inf"), micro_rows=80
    ),
    measure=measure,  # type: ignore[arg-type]
    claims=(
        Claim("VeRPO solves more than the outcome alone", "pass_at_1", "verpo", "outcome", at_least=0.3),
        Claim("and far more than the pass rate", "pass_at_1", "verpo", "pass_rate", at_least=0.5),
        Claim("also with the outcome added", "pass_at_1", "verpo", "pass_rate_and_outcome", at_least=0.5),
        Claim("difficulty alone is not enough", "pass_at_1", "verpo", "difficulty", at_least=0.1),
        Claim("nor is density alone", "pass_at_1", "verpo", "density", at_least=0.5),
        Claim("the pass rate ends with stubs", "stub", "pass_rate", "verpo", at_least=0.5),
        Claim("weights that rise with the pass rate fail", "pass_at_1", "reversed", "verpo", at_most=-0.5),
    ),
    data=8,
    test_count=8,
    quick={"steps": 3},
    demo={"steps": 100},
)

METHOD = Method(
    card=Card(
        number=6,
        slug="verpo",
        title="VeRPO: Verifiable Dense Reward Policy Optimization for Code Generation",
        source="arXiv 2601.03525",
        claim="Weighting each test by its present difficulty over the density of tests at its pass rate, with the "
        "outcome on top, solves more than the outcome alone and does not stop at the many easy tests as the pass rate "
        "does.",
        problem="A reward for passing every test is the same for most groups, and no gradient flows. The share of "
        "tests that pass revives it, but points at the many easy tests.",
        how="Each test's pass rate in the group gives its weight: exp(-alpha rate), divided by the number of tests "
        "near that rate. A turn earns the weights of the tests that it passes, a trajectory earns 1 if it solves the "
        "task. Both are centred, not scaled, and added.",
        settings={
            "alpha": "3 (recommended; the paper's is not found; 3 to 8 are alike, 1 is too weak)",
            "sigma, delta": "0.1, 1e-6 (recommended)",
            "beta": "1 (recommended)",
            "gamma": "0.95 with several turns, else 1 (recommended)",
            "normaliser": "1, not the standard deviation (paper)",
            "group": "10 of temperature 1, 32 problems a step (paper)",
        },
        limits=(
            "A flaky test looks rare, hence precious: vet and deduplicate the tests first.",
            "Small groups make pass rates coarse; a sigma below that step turns the density off between neighbours.",
            "Weights are a function of the policy: compute them anew for every batch, never for replayed data.",
            "The turn reward has no fixed range: set beta anew if alpha or sigma change.",
        ),
    ),
    recipe=verpo,
    evidence=(EVIDENCE,),
    instruction=INSTRUCTION,
)
