"""A study: a method beside its baselines on one task, measured clean and under corruption, with its page."""

from __future__ import annotations

import json
import multiprocessing
import os
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from steelyard.audits.pvrbench import PVRBench, PVRResult
from steelyard.learn.config import TrainConfig
from steelyard.learn.runs import read_jsonl
from steelyard.methods.arms import bench_for, figures, measure, quiet_loading, train_arm, validation
from steelyard.methods.core import Experiment, Method, RecipeFor, World
from steelyard.methods.own import OwnTask
from steelyard.methods.registry import find
from steelyard.types import SteelyardError

LABELS = {"base": "base model", "grpo": "GRPO", "grpo_augmented": "GRPO + augmentation", "rova": "ROVA"}
DEMO_ARMS = ("grpo", "grpo_augmented", "rova")
VALIDATION_ROWS = 32


@dataclass(frozen=True)
class Plan:
    """What a study runs; small enough to be sent to a worker.

    Attributes:
        slug: of the method; experiment: the name of its experiment, or empty for a person's own task.
        own: the person's model and data, or None.
        arms: names of the arms.
        train: settings of each.
        data, test_count: rows of the training and test split.
        out: the study's folder.
    """

    slug: str
    experiment: str
    own: OwnTask | None
    arms: tuple[str, ...]
    train: TrainConfig
    data: int
    test_count: int
    out: Path

    def world(self) -> World:
        """The world, or the person's own task as one."""
        return self.own or _experiment(find(self.slug), self.experiment).world()

    def recipe(self, arm: str) -> RecipeFor:
        """The recipe of an arm."""
        method = find(self.slug)
        return method.recipe if self.own else _experiment(method, self.experiment).arms[arm]


def run_study(
    slug: str,
    *,
    out: Path,
    world: str | None = None,
    model: str | None = None,
    data: Path | None = None,
    steps: int | None = None,
    seed: int = 0,
) -> str:
    """Train a method and its baselines, measure them and the base model, and write the page.

    Args:
        slug: of the method.
        out: the study's folder; a study that was stopped there goes on.
        world: which of the method's worlds; the last one by default.
        model, data: a model and a JSONL file of your own instead; then only the method itself is trained.
        steps: training steps of each arm.
        seed: of data order, corruptions and sampling.

    Returns:
        The path of the page, as a line to print.

    Raises:
        SteelyardError: for an unknown method or world, or a model without data.
    """
    plan = _plan(find(slug), out, world, model, data, steps, seed)
    out.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    bench = bench_for(plan.world(), plan.test_count)
    _train_all(plan)
    base = _measure_base(plan, bench)
    _write_study(plan, find(slug), seed)
    _write_examples(plan, bench, base)
    _print_table(plan, base)
    from steelyard.report import build_report

    minutes = (time.perf_counter() - started) / 60
    return f"done in {minutes:.1f} minutes; open the page: {build_report(out)}"


def _plan(
    method: Method, out: Path, world: str | None, model: str | None, data: Path | None, steps: int | None, seed: int
) -> Plan:
    if (model is None) != (data is None):
        raise SteelyardError("--model and --data go together: a model of your own needs a JSONL file of samples")
    if model is not None and data is not None:
        train = TrainConfig(steps=steps or 500, prompts=8, lr=1e-6, seed=seed, micro_rows=8, checkpoint_every=50)
        own = OwnTask(model, data)
        return Plan(method.card.slug, "", own, (method.card.slug,), train, own.train_rows, own.test_rows, out)
    experiment = _experiment(method, world)
    train = replace(experiment.train, **experiment.demo, seed=seed)
    train = replace(train, steps=steps or train.steps, warmup=min(train.warmup, steps or train.steps))
    train = replace(train, evaluate_every=max(1, train.steps // 5), checkpoint_every=max(1, train.steps // 4))
    arms = tuple(arm for arm in DEMO_ARMS if arm in experiment.arms)
    return Plan(method.card.slug, experiment.name, None, arms, train, experiment.data, experiment.test_count, out)


def _experiment(method: Method, name: str | None) -> Experiment:
    for experiment in reversed(method.evidence):
        if name in (None, experiment.name):
            return experiment
    if not method.evidence:
        raise SteelyardError(
            f"{method.card.slug!r} has no world; give --model and --data, or run 'rova', which trains it too"
        )
    known = ", ".join(e.name for e in method.evidence)
    raise SteelyardError(f"method {method.card.slug!r} has no world {name!r}; it has {known}")


def _train_all(plan: Plan) -> None:
    """Own models one after another on all devices; small worlds side by side, one thread each."""
    if plan.own is not None:
        for arm in plan.arms:
            run_arm(plan, arm, 0)
        return
    workers = max(1, min(len(plan.arms), os.cpu_count() or 1))
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        futures = {arm: pool.submit(run_arm, plan, arm, 1) for arm in plan.arms}
        _watch(plan, futures)


def run_arm(plan: Plan, arm: str, threads: int) -> dict[str, float]:
    """Train and measure one arm; `threads` 0 leaves torch as it is."""
    import torch

    if threads:
        torch.set_num_threads(threads)
        quiet_loading()
    world = plan.world()
    return train_arm(
        world,
        plan.recipe(arm),
        plan.train,
        folder=plan.out / arm,
        data=plan.data,
        bench=bench_for(world, plan.test_count),
        evaluate=validation(world.samples("validation", VALIDATION_ROWS, seed=1), world.test_corruptions),
        progress=plan.own is not None,
    )


def _watch(plan: Plan, futures: Mapping[str, Future[dict[str, float]]]) -> None:
    """Show every arm's steps until all are done; the first error ends it."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description:<20}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns) as bar:
        tasks = {arm: bar.add_task(LABELS.get(arm, arm), total=plan.train.steps) for arm in futures}
        while pending := [arm for arm, future in futures.items() if not future.done()]:
            for arm in pending:
                bar.update(tasks[arm], completed=_logged(plan.out / arm / "log.jsonl"))
            time.sleep(0.5)
        for arm, future in futures.items():
            future.result()
            bar.update(tasks[arm], completed=plan.train.steps)


def _logged(log: Path) -> int:
    return log.read_bytes().count(b"\n") if log.exists() else 0


def _measure_base(plan: Plan, bench: PVRBench) -> PVRResult:
    world = plan.world()
    quiet_loading()
    return measure(world, world.policy(seed=plan.train.seed), bench, plan.out / "base", model="base")


def _write_study(plan: Plan, method: Method, seed: int) -> None:
    names = ("base", *plan.arms)
    command = f"steelyard run {plan.slug} --out {shlex.quote(str(plan.out))} --seed {seed} --steps {plan.train.steps}"
    if plan.own is not None:
        command += f" --model {shlex.quote(plan.own.model)} --data {shlex.quote(str(plan.own.data))}"
    study = {
        "title": method.card.title,
        "claim": method.card.claim,
        "card": asdict(method.card),
        "arms": [{"name": name, "label": LABELS.get(name, name), "folder": name} for name in names],
        "command": command,
    }
    (plan.out / "study.json").write_text(json.dumps(study, indent=1) + "\n")


def _write_examples(plan: Plan, bench: PVRBench, base: PVRResult, *, most: int = 6) -> None:
    """Clips that the base model got wrong under a corruption and the method right, one a family first, and one miss."""
    after = _rows(plan.out / plan.slug / "rows.jsonl")
    pairs = [(old, after[key]) for key, old in _keyed(base.rows).items() if key in after and old["kind"] != "clean"]
    won = [pair for pair in pairs if pair[0]["accuracy"] == 0 and pair[1]["accuracy"] == 1]
    missed = [pair for pair in pairs if pair[1]["accuracy"] == 0]
    chosen = _varied(won, most - 1) + _varied(missed, 1)
    cells = {(cell.kind, cell.severity): cell for cell in bench.cells}
    samples = {sample.id: sample for sample in bench.samples}
    for number, (old, new) in enumerate(chosen):
        sample = samples[old["sample"]]
        folder = plan.out / "examples" / f"{number:02d}"
        folder.mkdir(parents=True, exist_ok=True)
        disturbed = bench.perturbed(sample, cells[old["kind"], old["severity"]])
        _write_strip(folder / "clean.png", sample.video)
        _write_strip(folder / "corrupted.png", disturbed.video)
        about = {
            "kind": old["kind"],
            "severity": old["severity"],
            "question": sample.columns.get("question", ""),
            "options": list(sample.columns.get("options", ())),
            "answer": sample.columns["answer"],
            "before": old["completion"],
            "after": new["completion"],
            "arm_before": "base model",
            "arm_after": LABELS.get(plan.slug, plan.slug),
        }
        (folder / "example.json").write_text(json.dumps(about, indent=1) + "\n")


Row = dict[str, Any]


def _keyed(rows: Sequence[Row]) -> dict[tuple[str, str, int], Row]:
    return {(row["sample"], row["kind"], row["severity"]): row for row in rows}


def _rows(path: Path) -> dict[tuple[str, str, int], Row]:
    return _keyed(read_jsonl(path))


def _varied(pairs: Sequence[tuple[Row, Row]], count: int) -> list[tuple[Row, Row]]:
    """Pairs of different kinds first, in the order of the kinds."""
    seen: dict[str, int] = {}
    ranked = []
    for position, pair in enumerate(pairs):
        kind = pair[0]["kind"]
        seen[kind] = seen.get(kind, 0) + 1
        ranked.append((seen[kind], position, pair))
    ranked.sort(key=lambda entry: entry[:2])
    first = [pair for _, _, pair in ranked]
    spread = np.linspace(0, max(0, min(len(seen), len(first)) - 1), min(count, len(first))).round().astype(int)
    return [first[i] for i in dict.fromkeys(spread.tolist())]


def _write_strip(path: Path, video: Any, *, frames: int = 8) -> None:
    """Up to eight frames side by side; small ones enlarged without smoothing."""
    import cv2

    picked = video[np.linspace(0, len(video) - 1, min(frames, len(video))).round().astype(int)]
    strip = np.concatenate(list(picked), axis=1)
    if strip.shape[0] < 112:
        strip = strip.repeat(2, axis=0).repeat(2, axis=1)
    cv2.imwrite(str(path), strip[..., ::-1])


def _print_table(plan: Plan, base: PVRResult) -> None:
    from rich.console import Console
    from rich.table import Table

    measured = {"base": figures(base)} | {
        arm: json.loads((plan.out / arm / "measures.json").read_text()) for arm in plan.arms
    }
    table = Table("", "clean", "corrupted", "agreement", "gradient prompts", title="accuracy on held-out clips")
    for name, row in measured.items():
        prompts = f"{row['gradient_prompts']:.0f}" if "gradient_prompts" in row else "–"
        shown = (f"{row[key]:.3f}" for key in ("clean", "corrupted", "agreement"))
        table.add_row(LABELS.get(name, name), *shown, prompts)
    Console(file=sys.stdout).print(table)
