"""ToolRL (sheet 30): tool calls rewarded by tool names, parameter names and values rather than as a whole."""

from __future__ import annotations

import functools
import math

from steelyard.learn.advantages import centre, chain, scale
from steelyard.learn.config import TrainConfig
from steelyard.learn.curricula import uniform
from steelyard.learn.objectives import clipped
from steelyard.learn.plans import groups
from steelyard.learn.recipe import Recipe
from steelyard.methods.arms import mean_rewards
from steelyard.methods.core import Card, Claim, Experiment, Method, Setting
from steelyard.rewards.core import Expression
from steelyard.rewards.tools import tool_call_format, tool_calls, tool_calls_coarse, tool_names
from steelyard.worlds.tool_intents import ToolIntents


def _trained_on(setting: Setting, reward: Expression) -> Recipe:
    return Recipe(
        plan=groups(setting.attempts),
        reward=reward,
        advantage=chain(centre(), scale()),
        objective=clipped(epsilon=0.2),
        curriculum=uniform(),
    )


def toolrl(setting: Setting) -> Recipe:
    """Format and fine-grained correctness under GRPO, without a KL term."""
    return _trained_on(setting, tool_call_format + tool_calls)


def coarse(setting: Setting) -> Recipe:
    """The whole call is right or nothing is."""
    return _trained_on(setting, tool_call_format + tool_calls_coarse)


def name_only(setting: Setting) -> Recipe:
    """The tool's name alone counts."""
    return _trained_on(setting, tool_call_format + tool_names)


ARMS = {"coarse": coarse, "name_only": name_only, "toolrl": toolrl}
# Every row has its intent's own table: lr = 0.5 a step of a table, times 40 intents and 9 words that the mean is over.
TRAIN = TrainConfig(
    steps=100, prompts=40, optimiser="sgd", lr=0.5 * 40 * 9, schedule="constant", grad_clip=math.inf, micro_rows=160
)
_experiment = functools.partial(
    Experiment,
    world=ToolIntents,
    measure=mean_rewards(exact=tool_calls_coarse.using(low=0.0, high=1.0), correctness=tool_calls),
    data=40,
    test_count=40,
    quick={"steps": 2},
)

EARLY = _experiment(
    name="tool-intents",
    arms=ARMS,
    train=TRAIN,
    claims=(
        Claim("exact calls after 100 steps are 0.7 more than with the coarse reward", "exact", "toolrl", "coarse", 0.7),
        Claim("names alone are not enough", "exact", "toolrl", "name_only", at_least=0.7),
    ),
)

METHOD = Method(
    card=Card(
        number=30,
        slug="toolrl",
        title="ToolRL: Reward is All Tool Learning Needs",
        source="arXiv 2504.13958",
        claim="A reward for tool names, parameter names and values, each counted, learns exact calls where a reward "
        "for the whole call starves.",
        problem="Supervised tool use copies call patterns and generalises poorly; a reward of whole calls is nearly "
        "always its lowest value at first, and groups without a difference teach nothing.",
        how="A completion is thinking, then one JSON call a line. Format is 1 for the blocks that the reference has, "
        "in order. Correctness lies in [−3, 3]: the overlap of tool names, and over the best matching of calls the "
        "overlap of parameter names and the number of right values, out of what the reference has. Scales and grains "
        "that the paper compares are parts: `equal_scale`, `two_stage_scale`, `smooth_scale`, `tool_calls_refined`, "
        "`tool_calls_intermediate`, `tool_calls_coarse`, `thinking_length`.",
        settings={
            "group": "4 (paper)",
            "lr, batch": "1e-6, 512 (paper)",
            "kl": "none (paper)",
            "matching": "optimal; the released code's greedy matching is `tool_calls.using(matching='greedy')`",
        },
        limits=(
            "Extra calls are cheap: add a penalty where calls have side effects.",
            "A needless call where none is due costs the format point only.",
            "Rewarding longer thinking does not help, and hurts small models.",
        ),
    ),
    recipe=toolrl,
    evidence=(EARLY,),
)
