"""What experiments on generators are measured by: reward, distance from the data, network calls, and curves of both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from steelyard.learn.config import TrainConfig
from steelyard.learn.trainer import Trainer
from steelyard.methods.arms import TEST_SEED, mean_of_judged
from steelyard.methods.core import Measures, RecipeFor, Setting, Trial
from steelyard.policies.flow import DenoisingPolicy
from steelyard.types import Reward, SteelyardError
from steelyard.worlds.eight_modes import EightModes, distance_to_modes

DRAWS = 512


def wanted(setting: Any, part: str = "reward") -> Any:
    """The reward of a setting, or another part that a recipe for images needs of it.

    Raises:
        SteelyardError: for a setting that has none, as a table of texts.
    """
    found = getattr(setting, part, None)
    if found is None:
        raise SteelyardError("this method makes images: `--model` and `--data` are for texts; see docs/images.md")
    return found


class GenerationSetting(Setting, Protocol):
    """A setting whose policy makes things that a reward can judge."""

    @property
    def reward(self) -> Reward:
        """What is asked for."""
        ...


def generated(world: EightModes, policy: DenoisingPolicy, *, folder: Path, count: int, greedy: bool) -> Measures:
    """A measure: reward and distance to the nearest mode of `DRAWS` deterministic samples, and network calls so far."""
    spent = policy.calls
    samples = world.samples("test", count, seed=TEST_SEED)
    drawn = policy.sample(samples, DRAWS // count, generator=np.random.default_rng(TEST_SEED), greedy=greedy)
    policy.calls = spent
    distance = distance_to_modes(np.stack(list(drawn.completions)))
    reward = mean_of_judged(world.reward(drawn).values)
    return {"reward": reward, "distance": float(distance.mean()), "network_calls": float(spent)}


def curve(
    trial: Trial, *, world: EightModes, recipe: RecipeFor, train: TrainConfig, prompts: int = 8, goal: float = 0.8
) -> Mapping[str, float]:
    """An arm trained with the trainer and evaluated on its schedule.

    Returns:
        What `generated` says at the end; `reward@STEP` of every evaluation; `calls_to_goal`: network calls of sampling
        until the evaluated reward reached the goal, those of the whole run where it never did.
    """
    config = replace(
        train, steps=2 if trial.quick else train.steps, evaluate_every=1 if trial.quick else train.evaluate_every
    )
    config = replace(config, seed=trial.seed)
    policy = world.policy(seed=trial.seed)

    def evaluate(_: Any) -> dict[str, float]:
        return dict(generated(world, policy, folder=trial.folder, count=prompts, greedy=True))

    run = Trainer(
        policy,
        recipe(world),
        world.samples("train", prompts),
        config,
        folder=trial.folder / "run",
        evaluate=evaluate,
        progress=False,
    ).run()
    rows = run.evaluations()
    reached = [row["network_calls"] for row in rows if row["reward"] >= goal]
    found = {name: rows[-1][name] for name in ("reward", "distance", "network_calls")}
    found |= {f"reward@{row['step']}": row["reward"] for row in rows}
    return found | {
        "calls_to_goal": reached[0] if reached else rows[-1]["network_calls"],
        "reached": float(bool(reached)),
    }
