"""One arm of an experiment: train a recipe from the world's policy, then measure it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from steelyard.audits.cell_store import write_whole
from steelyard.learn.config import TrainConfig
from steelyard.learn.loop import refuse_other_run
from steelyard.learn.runs import Run, RunFolder, to_json
from steelyard.learn.trainer import Evaluate, Trainer, about_run
from steelyard.methods.core import Experiment, Measure, Measurement, Measures, RecipeFor, Trial, World
from steelyard.types import Array, Policy, Reward, Sample, SteelyardError

TEST_SEED = 9
"""Of the held-out rows, the same for every arm and seed."""


def quiet_loading() -> None:
    """No bar of its own for every small model that is loaded."""
    from transformers.utils import logging

    logging.disable_progress_bar()


def run_trial(experiment: Experiment | Measurement, arm: str, trial: Trial) -> dict[str, float]:
    """Measure one arm with one seed, after training it where the experiment says so; a finished one is read back.

    Raises:
        SteelyardError: if the folder holds an arm of other settings, or a measure is no number.
    """
    if isinstance(experiment, Measurement):
        return _measured(experiment, arm, trial)
    world, e = experiment.world_of(trial.seed), experiment

    def measure(policy: Policy) -> Measures:
        return e.measure(world, policy, folder=trial.folder, count=e.test_count, greedy=e.greedy)

    config = replace(e.train, seed=trial.seed)
    return train_arm(world, e.arms[arm], config, folder=trial.folder, data=e.data, measure=measure)


def train_arm(
    world: World,
    recipe: RecipeFor,
    config: TrainConfig,
    *,
    folder: Path,
    data: int,
    measure: Callable[[Policy], Measures],
    evaluate: Evaluate | None = None,
    progress: bool = False,
) -> dict[str, float]:
    """Train one arm in its run folder (or go on with it), measure it, and keep the figures in `measures.json`.

    Returns:
        What `measure` says of the trained policy, and what it cost: see `cost`.

    Raises:
        SteelyardError: if the folder holds an arm that was trained with other settings or another recipe.
    """
    done, before = folder / "measures.json", RunFolder(folder).described()
    if done.exists():
        if before is not None:
            refuse_other_run(folder, before, about_run(recipe(world), config, data))
        return dict(json.loads(done.read_text("utf-8")))
    policy = world.policy(seed=config.seed)
    samples = world.samples("train", data, seed=config.seed)
    run = Trainer(policy, recipe(world), samples, config, folder=folder, evaluate=evaluate, progress=progress).run()
    return keep_measures(folder, {**measure(policy), **cost(run)})


def keep_measures(folder: Path, measures: Measures) -> dict[str, float]:
    """Write the figures of a finished arm."""
    folder.mkdir(parents=True, exist_ok=True)
    kept = {name: float(value) for name, value in measures.items()}
    write_whole(folder / "measures.json", json.dumps(kept, indent=1) + "\n")
    return kept


def _measured(experiment: Measurement, arm: str, trial: Trial) -> dict[str, float]:
    done, about = trial.folder / "measures.json", trial.folder / "settings.json"
    settings = json.loads(to_json({**experiment.settings, "seed": trial.seed, "quick": trial.quick}))
    if done.exists():
        before = json.loads(about.read_text("utf-8")) if about.exists() else None
        if before != settings:
            raise SteelyardError(f"{trial.folder} holds an arm of other settings; take another folder or remove it")
        return dict(json.loads(done.read_text("utf-8")))
    trial.folder.mkdir(parents=True, exist_ok=True)
    write_whole(about, json.dumps(settings, indent=1) + "\n")
    return keep_measures(trial.folder, experiment.arms[arm](trial))


def mean_rewards(draws: int = 1, **rewards: Reward) -> Measure:
    """A measure: the mean of each reward over completions of held-out rows, and the share that it could not judge.

    Args:
        draws: completions of every row (1 where the experiment measures greedily).
        rewards: name to reward; `NAME` becomes the mean over judged rows, `NAME/nan` the share of the others.
    """

    def measure(world: World, policy: Policy, *, folder: Path, count: int, greedy: bool) -> Measures:
        samples = world.samples("test", count, seed=TEST_SEED)
        generator = np.random.default_rng(TEST_SEED)
        rollouts = policy.sample(samples, 1 if greedy else draws, generator=generator, greedy=greedy)
        found: dict[str, float] = {}
        for name, reward in rewards.items():
            ask(reward, policy)
            values = reward(rollouts).values
            found |= {name: mean_of_judged(values), f"{name}/nan": float(np.isnan(values).mean())}
        return found

    return measure


def ask(reward: Reward, policy: Policy) -> None:
    """Let a reward that asks the policy ask this one; without a reference, it is its own: it was not trained."""
    if hasattr(reward, "use_policy"):
        reward.use_policy(policy)
    if getattr(reward, "needs_reference", False) and "reference" not in getattr(policy, "copies", ("reference",)):
        policy.snapshot("reference")


def mean_of(samples: Sequence[Sample], reward: Reward, *, at_once: int = 64) -> Callable[[Policy], float]:
    """The mean of a reward over greedy completions of these samples, taken in batches."""

    def measure(policy: Policy) -> float:
        ask(reward, policy)
        values = []
        for start in range(0, len(samples), at_once):
            rows = [samples[i] for i in range(start, min(start + at_once, len(samples)))]
            rollouts = policy.sample(rows, 1, generator=np.random.default_rng(TEST_SEED), greedy=True)
            values.append(reward(rollouts).values)
        return mean_of_judged(np.concatenate(values))

    return measure


def mean_of_judged(values: Array) -> float:
    """The mean of the rows that could be judged; NaN where none could."""
    judged = values[~np.isnan(values)]
    return float(judged.mean()) if len(judged) else math.nan


def cost(run: Run) -> dict[str, float]:
    """What a run spent: prompts that were trained, those of them with a signal, rollouts, judging samples, seconds."""
    rows = run.rows()
    return {
        "gradient_prompts": _total(rows, "prompts_trained"),
        "signal_prompts": _total(rows, "prompts_with_signal"),
        "rollouts": _total(rows, "rollouts"),
        "judge_samples": _total(rows, "curriculum/judge_samples"),
        "seconds": sum(value for row in rows for key, value in row.items() if _is_stage(key)),
    }


def _is_stage(key: str) -> bool:
    return key.startswith("seconds/") and "reward/" not in key


def _total(rows: list[dict[str, Any]], key: str) -> float:
    return float(sum(_number(row, key) for row in rows))


def _number(row: Mapping[str, Any], key: str) -> float:
    return float(row.get(key) or 0.0)
