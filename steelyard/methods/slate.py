"""SLATE (sheet 67): candidates for the next step from one shared prefix, scored one step at a time."""

from __future__ import annotations

import functools
import math
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np

from steelyard.environments import Environment
from steelyard.learn.advantages import advantages_of, centre, chain, scale
from steelyard.learn.branching import Selection, at_random, best, by_advantage, truncated_steps
from steelyard.learn.config import TrainConfig
from steelyard.learn.curricula import uniform
from steelyard.learn.objectives import clipped
from steelyard.learn.recipe import Plan, Recipe
from steelyard.learn.trajectories import trajectories
from steelyard.methods.core import Card, Claim, Experiment, Measurement, Measures, Method, Setting, Trial
from steelyard.policies.stateful import StatePolicy
from steelyard.rewards.agent_steps import final_answer_match
from steelyard.rewards.core import Expression
from steelyard.rewards.stepwise import on_the_way, stepwise
from steelyard.types import GroupKey, Rollouts, Sample, Scores
from steelyard.worlds.search_questions import HOPS, QUESTIONS, SearchQuestions

FORCE = "No search is left; the answer is due now.\n"
STEP: GroupKey = ("group", "step")


class AgentSetting(Setting, Protocol):
    """A setting whose policy searches."""

    @property
    def environment(self) -> Environment:
        """What answers its steps."""
        ...

    @property
    def steps(self) -> Expression:
        """What a step is worth."""
        ...

    @property
    def budget(self) -> int:
        """The most steps of an attempt."""
        ...


def _recipe(plan: Plan, reward: Expression, *, by: GroupKey, kl: float = 0.0) -> Recipe:
    return Recipe(
        plan=plan,
        reward=reward,
        advantage=chain(centre(by=by), scale(by=by, epsilon=1e-6)),
        objective=clipped(epsilon=0.2, kl=kl, average="rows"),
        curriculum=uniform(),
    )


def _truncated(setting: AgentSetting, select: Selection | None = None, *, kl: float = 0.0, force: str = "") -> Recipe:
    plan = truncated_steps(
        environment=setting.environment, score=setting.steps, k=setting.attempts, budget=setting.budget,
        select=select, force=force,
    )  # fmt: skip
    return _recipe(plan, on_the_way(setting.steps), by=STEP, kl=kl)


def _whole(setting: AgentSetting, reward: Expression) -> Recipe:
    plan = trajectories(environment=setting.environment, n=setting.attempts, budget=setting.budget)
    return _recipe(plan, reward, by=("group",))


def recipe(setting: AgentSetting) -> Recipe:
    """The paper's setting: softmax selection at 0.7, KL weight 0.001, an answer forced at the end."""
    return _truncated(setting, by_advantage(0.7), kl=0.001, force=FORCE)


def slate(setting: AgentSetting) -> Recipe:
    """The same without KL and forced answers."""
    return _truncated(setting, by_advantage(0.7))


def greedy(setting: AgentSetting) -> Recipe:
    """The best candidate goes on."""
    return _truncated(setting, best())


def unselected(setting: AgentSetting) -> Recipe:
    """Any candidate goes on."""
    return _truncated(setting, at_random())


def whole_dense(setting: AgentSetting) -> Recipe:
    """Whole attempts, the sum of the same step rewards on all their steps."""
    return _whole(setting, stepwise(setting.steps))


def whole_sparse(setting: AgentSetting) -> Recipe:
    """Whole attempts, the answer alone rewarded."""
    return _whole(setting, final_answer_match)


def measure(world: SearchQuestions, policy: StatePolicy, *, folder: Path, count: int, greedy: bool) -> Measures:
    """The exact probability that every step of an attempt is right."""
    return {"solved": world.solved(policy)}


def advantage_variance(trial: Trial, *, whole: bool) -> Measures:
    """Variance of the centred advantage of a step in groups of five, its own reward alone or the whole attempt's."""
    draws, k, found = 2_000 if trial.quick else 200_000, 5, {}
    for steps in (2, 4, 8):
        rewards = np.random.default_rng([67, trial.seed, steps]).integers(-1, 2, (draws // k * k, steps))
        scores = Scores((rewards.sum(axis=1) if whole else rewards[:, 0]).astype(np.float32))
        rows = Rollouts([Sample("draw", "")] * len(scores), [""] * len(scores), np.arange(len(scores)) // k)
        found[f"variance/{steps}"] = float(centre()(advantages_of(scores), rows, scores).values.var())
    return found


EARLY_ARMS = {"uniform": unselected, "slate": slate}
ARMS = {"sparse": whole_sparse, "dense": whole_dense, "greedy": greedy, **EARLY_ARMS}
GENERATED = QUESTIONS * HOPS * SearchQuestions.attempts
"""Steps that every arm writes in one step of training: 240."""
# Every state has its own softmax: lr = 0.12 a written step of a state, times the 240 that the mean is over.
TRAIN = TrainConfig(
    steps=50, prompts=QUESTIONS, optimiser="sgd", lr=0.12 * GENERATED, schedule="constant", weight_decay=0.0,
    grad_clip=math.inf, micro_rows=512,
)  # fmt: skip
_experiment = functools.partial(
    Experiment,
    world=SearchQuestions,
    seeded=True,
    measure=measure,
    data=QUESTIONS,
    test_count=QUESTIONS,
    quick={"steps": 2},
    demo_arms=("dense", "slate"),
)
EARLY = _experiment(
    name="search-questions-6k",
    arms=EARLY_ARMS,
    train=replace(TRAIN, steps=25),
    claims=(
        Claim("after 6,000 written steps, choosing by score is ahead of choosing at random", "solved", "slate",
              "uniform", at_least=0.2),
    ),
)  # fmt: skip
LATER = _experiment(
    name="search-questions",
    arms=ARMS,
    train=TRAIN,
    claims=(
        Claim("after 12,000 written steps, truncated steps solve 0.5 more than whole attempts with the same rewards",
              "solved", "slate", "dense", at_least=0.5),
        Claim("and whole attempts rewarded for the answer alone have not begun", "solved", "sparse", "dense",
              at_most=0.0),
    ),
)  # fmt: skip
VARIANCE = Measurement(
    name="variance",
    arms={
        "whole": functools.partial(advantage_variance, whole=True),
        "truncated": functools.partial(advantage_variance, whole=False),
    },
    claims=tuple(
        Claim(f"over {steps} alike steps a whole attempt's advantage varies {steps} times as much",
              f"variance/{steps}", "whole", "truncated", at_least=0.97 * steps, form="share")
        for steps in (2, 4, 8)
    ),
    settings={"draws": 200_000, "k": 5, "rewards": "uniform over -1, 0, 1"},
)  # fmt: skip

METHOD = Method(
    card=Card(
        number=67,
        slug="slate",
        title="SLATE: Truncated Step-Level Sampling with Process Rewards for Retrieval-Augmented Reasoning",
        source="arXiv 2602.23440",
        claim="Several candidates for the next step from one shared prefix, each scored on its own, learn a searching "
        "agent's steps many times faster than whole attempts with the same step rewards.",
        problem="With whole attempts the advantage of one step carries the luck of all the others: its variance grows "
        "with their number.",
        how="At every step k candidates are drawn from the prefix they share. A judge grades thought and query, or "
        "thought and answer, with −1, 0 or 1 each; advantages are taken among the k of one step. All k are trained "
        "on, behind their masked prefix; one is drawn by softmax of its advantage, only its search is run, and the "
        "passages join the next prefix.",
        settings={
            "k, budget": "5, 4 (paper)",
            "eta": "0.7, on the normalised advantage (code; the paper's text has the raw score)",
            "bonus": "0.1, an early answer's, t from 0 (code)",
            "kl, clip": "0.001, 0.2 (paper); no KL in the small world",
            "lr": "1e-6, LoRA of rank 16 (paper)",
            "passages": "3 (paper)",
        },
        limits=(
            "A good search step outweighs a wrong answer (2 against 0 and less): a lenient judge keeps the agent "
            "searching until the budget ends.",
            "Step scores are not tied to the outcome: watch `final_answer_match`, or gate by it.",
            "Selection shifts the prefixes away from the policy's own: measure without it (`attempts`).",
            "Two questions to the judge a candidate; equal ones are asked once.",
            "The released trainer does not read the step rewards; this follows the algorithm.",
        ),
        usage="steelyard evidence slate --seeds 5   # the small world; your own model and corpus: docs/agents.md",
    ),
    recipe=recipe,
    evidence=(VARIANCE, EARLY, LATER),
    instruction="Think in <think> </think>, then either search with <search> query </search> or give the answer alone "
    "in <answer> </answer>, and stop.",
)
