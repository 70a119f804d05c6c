"""One arm of an experiment: train a recipe from the world's policy, then measure it clean and under corruption."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from steelyard.audits.cell_store import write_whole
from steelyard.audits.pvrbench import PVRBench, PVRResult, rule_quality, save_result
from steelyard.learn.config import TrainConfig
from steelyard.learn.plans import groups
from steelyard.learn.runs import Run, RunFolder
from steelyard.learn.trainer import Evaluate, Trainer, about_run, refuse_other_run
from steelyard.methods.core import RecipeFor, World
from steelyard.rewards.answers import correct
from steelyard.types import PerturbationSampler, Policy, Sample

TEST_SEED = 9
AT_ONCE = 64
"""Clips that a validation puts through the policy together."""


def quiet_loading() -> None:
    """No bar of its own for every small model that is loaded."""
    from transformers.utils import logging

    logging.disable_progress_bar()


def bench_for(world: World, count: int, *, split: str = "test") -> PVRBench:
    """PVRBench on a world's held-out rows, the same for every arm and seed."""
    corruptions = world.test_corruptions
    samples = world.samples(split, count, seed=TEST_SEED)  # type: ignore[arg-type]
    return PVRBench(samples, kinds=corruptions.kinds, severities=corruptions.severities, seed=TEST_SEED)


def measure(
    world: World, policy: Policy, bench: PVRBench, folder: Path, *, model: str = "", greedy: bool = True
) -> PVRResult:
    """Evaluate a policy and write `pvr.json` and `rows.jsonl`; reasoning is scored by rule where the gold is known."""

    def reasoning_agreement(clean: str, disturbed: str) -> float:
        return float(world.similarity([clean], [disturbed])[0])

    judged = rule_quality if "reasoning" in bench.samples[0].columns else None
    result = bench.evaluate(
        policy, judge=judged, agreement=reasoning_agreement, batch=256, greedy=greedy, folder=folder, model=model
    )
    save_result(result, folder)
    return result


def train_arm(
    world: World,
    recipe: RecipeFor,
    config: TrainConfig,
    *,
    folder: Path,
    data: int,
    bench: PVRBench,
    evaluate: Evaluate | None = None,
    greedy: bool = True,
    progress: bool = False,
) -> dict[str, float]:
    """Train one arm in its run folder (or go on with it), measure it, and keep the figures in `measures.json`.

    Returns:
        clean, corrupted (mean over families), agreement of the reasoning and answers with the clean completion's,
        and what it cost: `gradient_prompts`, `rollouts`, `judge_samples`, `seconds`.

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
    result = measure(world, policy, bench, folder, model=folder.name, greedy=greedy)
    measures = figures(result) | cost(run)
    write_whole(done, json.dumps(measures, indent=1) + "\n")
    return measures


def validation(samples: Sequence[Sample], corruptions: PerturbationSampler, *, draws: int = 4) -> Evaluate:
    """Accuracy of greedy completions on samples as they are, and under `draws` drawn corruptions each."""
    generator, plan = np.random.default_rng(17), groups(1, perturb=corruptions)
    rows = list(samples)
    disturbed = [plan.draw(sample, generator).view for _ in range(draws) for sample in rows]

    def accuracy(policy: Policy, views: Sequence[Sample]) -> float:
        parts = (views[start : start + AT_ONCE] for start in range(0, len(views), AT_ONCE))
        drawn = [policy.sample(part, 1, generator=np.random.default_rng(0), greedy=True) for part in parts]
        values = np.concatenate([correct(rollouts).values for rollouts in drawn])
        judged = values[~np.isnan(values)]
        return float(judged.mean()) if len(judged) else math.nan

    def evaluate(policy: Policy) -> dict[str, float]:
        return {"clean": accuracy(policy, rows), "corrupted": accuracy(policy, disturbed)}

    return evaluate


def figures(result: PVRResult) -> dict[str, float]:
    """The measures of a benchmark result by which arms are compared."""
    return {
        "clean": result.clean,
        "corrupted": result.mean,
        "agreement": result.reasoning_agreement,
        "answer_agreement": result.answer_agreement,
        **{f"family/{name}": value for name, value in result.families.items()},
        **{f"kind/{name}": value for name, value in result.kinds.items()},
    }


def cost(run: Run) -> dict[str, float]:
    """What a run spent: prompts that got a gradient, rollouts, label-free judging samples, seconds."""
    rows = run.rows()
    return {
        "gradient_prompts": _total(rows, "prompts_trained"),
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
