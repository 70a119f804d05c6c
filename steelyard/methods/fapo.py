"""FAPO (sheet 20): a right answer reached wrongly is worth half, which helps it at first and hurts it later."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from steelyard.learn.advantages import centre, chain, scale
from steelyard.learn.config import TrainConfig
from steelyard.learn.curricula import uniform
from steelyard.learn.objectives import clipped
from steelyard.learn.plans import groups
from steelyard.learn.recipe import Recipe
from steelyard.methods.core import Card, Claim, Experiment, Measures, Method, Setting
from steelyard.rewards.boxed import boxed_match
from steelyard.rewards.core import Expression
from steelyard.rewards.flaws import first_error_found, flaw_penalty
from steelyard.rewards.shaping import overlong_penalty
from steelyard.worlds.guess_or_reason import GuessingPolicy, GuessOrReason

INSTRUCTION = "\nReason step by step, with a blank line between steps, and put the final answer in \\boxed{}."


class Reviewed(Setting, Protocol):
    """A setting whose right answers a judge reads."""

    @property
    def flawed(self) -> Expression:
        """Above 0.5 where the way to an answer is wrong, such as `first_error(judge)`."""
        ...


def _recipe(setting: Setting, reward: Expression, measured: Expression) -> Recipe:
    return Recipe(
        plan=groups(setting.attempts),
        reward=reward + overlong_penalty(longest=8192, buffer=4096),
        advantage=chain(centre(), scale(epsilon=1e-6)),
        objective=clipped(epsilon=0.2, epsilon_high=0.28, dual=10.0),
        curriculum=uniform(),
        measured=measured,
    )


def _penalised(setting: Reviewed, flawed: Expression, penalty: float = 1.0) -> Recipe:
    return _recipe(setting, flaw_penalty(boxed_match, flawed, penalty=penalty), 1.0 * boxed_match)


def fapo(setting: Reviewed) -> Recipe:
    """Wrong −1, right and flawed 0, right and sound 1."""
    return _penalised(setting, setting.flawed)


def grpo(setting: Reviewed) -> Recipe:
    """The same without the penalty."""
    return _penalised(setting, setting.flawed, penalty=0.0)


def double(setting: Reviewed) -> Recipe:
    """Right and flawed is as bad as wrong."""
    return _penalised(setting, setting.flawed, penalty=2.0)


def critic(setting: Setting) -> Recipe:
    """How the judge itself is trained: rows are critiques' prompts with `first_error` and `steps`."""
    return _recipe(setting, 1.0 * first_error_found, 1.0 * first_error_found)


def by_judge(*, misses: float = 0.0, alarms: float = 0.0, turned: bool = False) -> Callable[[GuessOrReason], Recipe]:
    """FAPO with a judge that errs; see `GuessOrReason.judged_by`."""

    def recipe(world: GuessOrReason) -> Recipe:
        return _penalised(world, world.judged_by(misses=misses, alarms=alarms, turned=turned, name="erring rule"))

    return recipe


def measure(world: GuessOrReason, policy: GuessingPolicy, *, folder: Path, count: int, greedy: bool) -> Measures:
    """Exact figures; nothing is drawn."""
    return world.figures(policy)


LATE = Experiment(
    name="guess-or-reason",
    world=GuessOrReason,
    seeded=True,
    arms={
        "grpo": grpo,
        "fapo": fapo,
        "double": double,
        "misses": by_judge(misses=0.3),
        "alarms": by_judge(alarms=0.3),
        "misses_and_alarms": by_judge(misses=0.3, alarms=0.1),
        "blind": by_judge(misses=1.0),
        "turned": by_judge(turned=True),
    },
    train=TrainConfig(
        steps=150,
        prompts=32,
        optimiser="sgd",
        lr=90.0,
        schedule="constant",
        weight_decay=0.0,
        grad_clip=float("inf"),
        micro_rows=256,
    ),
    measure=measure,  # type: ignore[arg-type]
    claims=(
        Claim("FAPO generalises where GRPO guesses", "held_out", "fapo", "grpo", at_least=0.4),
        Claim("flawed answers vanish from the right ones", "flawed_share", "fapo", "grpo", at_most=-0.8),
        Claim("as well as with flawed as bad as wrong", "held_out", "fapo", "double", at_least=-0.05),
        Claim("a judge that misses 30% does too", "held_out", "misses", "grpo", at_least=0.4),
        Claim("so does one with 30% false alarms", "held_out", "alarms", "grpo", at_least=0.4),
        Claim("both errors together cost", "held_out", "misses_and_alarms", "fapo", at_most=-0.1),
        Claim("a blind judge gains nothing", "held_out", "blind", "grpo", at_most=0.05),
        Claim("a judge turned round fails", "held_out", "turned", "fapo", at_most=-0.4),
    ),
    data=32,
    test_count=32,
    quick={"steps": 3},
    demo={"steps": 60},
    demo_arms=("grpo", "fapo"),
)

EARLY = replace(
    LATE,
    name="guess-or-reason-early",
    arms={"grpo": grpo, "fapo": fapo, "double": double},
    train=replace(LATE.train, steps=10),
    claims=(
        Claim("at first flawed answers still teach: more is right", "accuracy", "fapo", "double", at_least=0.1),
        Claim("because guesses are kept for a while", "flawed_share", "fapo", "double", at_least=0.4),
    ),
)

METHOD = Method(
    card=Card(
        number=20,
        slug="fapo",
        title="FAPO: Flawed-Aware Policy Optimization for Efficient and Reliable Reasoning",
        source="arXiv 2510.22543",
        claim="Paying a right answer reached wrongly 0, between wrong (−1) and sound (1), keeps the early speed of "
        "outcome rewards and ends with reasoning that holds on problems never seen, where outcome rewards end with "
        "guesses.",
        problem="With a reward for the final answer alone, many right rollouts guessed it or skipped steps, and they "
        "are paid like sound ones.",
        how="A judge reads right answers only and names the first wrong step. A flawed one loses 1 of its reward. "
        "Normalised in its group its advantage is (β − α)/σ, with α the share of sound and β that of wrong rollouts: "
        "it is pulled up while failures are the majority and pushed down once sound solutions are. No schedule.",
        settings={
            "λ": "1 for outcomes of ±1 (paper); 1/2 for 0 and 1",
            "answer check": "the last box within 300 characters, normalised, equal as a text (code)",
            "epsilon": "0.2 and 0.28, dual clip 10, mean over tokens (code)",
            "kl": "0 (code)",
            "overlong": "grows to −1 over the last 4,096 of 8,192 tokens (code)",
            "group": "8 of temperature 1, 512 prompts a step (code)",
            "judge": "16 of temperature 1.2; paid 1 less its distance to the first wrong step over all steps (code): "
            "`critic`",
        },
        limits=(
            "False alarms hurt more than misses once sound solutions are the majority: measure the judge's precision.",
            "The judge is frozen while the policy moves: watch `flaws/flawed` beside accuracy for hacking.",
            "A judge that fails counts as finding no flaw: watch `flaws/unread`.",
            "The threshold is each group's own; a batch can be past it while hard prompts are not.",
            "The released code shows the judge the solution unsplit; here it is split at blank lines.",
        ),
        usage="# a training file with `method: fapo`, and under `judge:` who reads right answers\n"
        "steelyard train fapo.yaml",
    ),
    recipe=fapo,
    evidence=(EARLY, LATE),
    instruction=INSTRUCTION,
)
