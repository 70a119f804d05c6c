"""A study: a method beside its baselines on one task, measured, with its page."""

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

from steelyard.learn.config import TrainConfig
from steelyard.learn.trainer import Evaluate
from steelyard.methods.arms import keep_measures, quiet_loading, train_arm
from steelyard.methods.core import Experiment, Measures, Method, RecipeFor, World
from steelyard.methods.own import OwnTask
from steelyard.methods.registry import find
from steelyard.methods.video import validation
from steelyard.types import Policy, SteelyardError

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

    @property
    def experiment_of(self) -> Experiment | None:
        """The experiment, or None for a person's own task."""
        return None if self.own else trained_experiment(find(self.slug), self.experiment)

    def world(self) -> World:
        """The world, or the person's own task as one."""
        return self.own or self._given.world_of(self.train.seed)

    def recipe(self, arm: str) -> RecipeFor:
        """The recipe of an arm."""
        return recipe_of(find(self.slug)) if self.own else self._given.arms[arm]

    def measure(self, world: World, policy: Policy, folder: Path) -> Measures:
        """Figures of a policy, as the experiment measures them."""
        probe = find(self.slug).probe
        if self.own and probe is not None:
            return probe(self.own.samples("test", self.test_count))(policy)
        how = self.own.measure(self.recipe(self.slug)) if self.own else self._given.measure
        greedy = True if self.own else self._given.greedy
        return how(world, policy, folder=folder, count=self.test_count, greedy=greedy)

    def label(self, arm: str) -> str:
        """What people call an arm."""
        if arm == "base":
            return "base model"
        return arm if self.own else self._given.labels.get(arm, arm)

    @property
    def _given(self) -> Experiment:
        assert self.experiment_of is not None
        return self.experiment_of


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
    _train_all(plan)
    _measure_base(plan)
    names = _write_study(plan, find(slug), seed)
    examples = plan.own.examples if plan.own else plan._given.examples
    if examples is not None:
        examples(plan.world(), out, plan.arms[-1] if slug not in plan.arms else slug, plan.test_count)
    _print_table(plan, names)
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
        own = OwnTask(model, data, instruction=method.instruction)
        recipe_of(method)(own)
        return Plan(method.card.slug, "", own, (method.card.slug,), train, own.train_rows, own.test_rows, out)
    experiment = trained_experiment(method, world)
    train = replace(experiment.train, **experiment.demo, seed=seed)
    train = replace(train, steps=steps or train.steps, warmup=min(train.warmup, steps or train.steps))
    train = replace(train, evaluate_every=max(1, train.steps // 5), checkpoint_every=max(1, train.steps // 4))
    arms = tuple(experiment.demo_arms or experiment.arms)
    return Plan(method.card.slug, experiment.name, None, arms, train, experiment.data, experiment.test_count, out)


def trained_experiment(method: Method, name: str | None = None) -> Experiment:
    """The experiment of that name in which recipes are trained; the last one by default.

    Raises:
        SteelyardError: for a name that the method has not, or a method that trains nothing here.
    """
    trained = method.trained
    found = [experiment for experiment in trained if name in (None, experiment.name)]
    if found:
        return found[-1]
    if not trained:
        other = "measure it with `steelyard evidence`" if method.evidence else "run 'rova', which trains it too"
        raise SteelyardError(f"{method.card.slug!r} trains in no world; give --model and --data, or {other}")
    known = ", ".join(e.name for e in trained)
    raise SteelyardError(f"method {method.card.slug!r} has no world {name!r}; it has {known}")


def recipe_of(method: Method) -> RecipeFor:
    """What makes the method's recipe.

    Raises:
        SteelyardError: for a method that is no recipe of the trainer.
    """
    if method.recipe is None:
        told = f"`steelyard methods {method.card.slug}` tells its use"
        raise SteelyardError(f"{method.card.slug!r} is no training recipe; {told}")
    return method.recipe


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
        measure=lambda policy: plan.measure(world, policy, plan.out / arm),
        evaluate=validation_of(world),
        progress=plan.own is not None,
    )


def validation_of(world: World) -> Evaluate | None:
    """Accuracy on a video world's validation rows, clean and under corruption; other worlds show their rewards only."""
    if not getattr(world, "of_videos", True):
        return None
    corruptions = getattr(world, "test_corruptions", None)
    return corruptions and validation(world.samples("validation", VALIDATION_ROWS, seed=1), corruptions)


def _watch(plan: Plan, futures: Mapping[str, Future[dict[str, float]]]) -> None:
    """Show every arm's steps until all are done; the first error ends it."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description:<20}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns) as bar:
        tasks = {arm: bar.add_task(plan.label(arm), total=plan.train.steps) for arm in futures}
        while pending := [arm for arm, future in futures.items() if not future.done()]:
            for arm in pending:
                bar.update(tasks[arm], completed=_logged(plan.out / arm / "log.jsonl"))
            time.sleep(0.5)
        for arm, future in futures.items():
            future.result()
            bar.update(tasks[arm], completed=plan.train.steps)


def _logged(log: Path) -> int:
    return log.read_bytes().count(b"\n") if log.exists() else 0


def _measure_base(plan: Plan) -> None:
    folder, world = plan.out / "base", plan.world()
    if not (folder / "measures.json").exists():
        quiet_loading()
        keep_measures(folder, plan.measure(world, world.policy(seed=plan.train.seed), folder))


def _write_study(plan: Plan, method: Method, seed: int) -> list[str]:
    """Write what the page reads; returns the measures of its table."""
    names = ("base", *plan.arms)
    command = f"steelyard run {plan.slug} --out {shlex.quote(str(plan.out))} --seed {seed} --steps {plan.train.steps}"
    if plan.own is not None:
        command += f" --model {shlex.quote(plan.own.model)} --data {shlex.quote(str(plan.own.data))}"
    shown = metrics(plan.experiment_of, _kept(plan, plan.arms[-1]))
    study = {
        "title": method.card.title,
        "claim": method.card.claim,
        "card": asdict(method.card),
        "arms": [{"name": name, "label": plan.label(name), "folder": name} for name in names],
        "metrics": shown,
        "command": command,
    }
    (plan.out / "study.json").write_text(json.dumps(study, indent=1) + "\n")
    return shown


def metrics(experiment: Experiment | None, measured: Mapping[str, float]) -> list[str]:
    """What a table shows: the measures that claims speak of, else all that stand under no heading of their own."""
    claimed = dict.fromkeys(claim.metric for claim in (experiment.claims if experiment else ()))
    return list(claimed) or [name for name in measured if "/" not in name]


def _kept(plan: Plan, arm: str) -> dict[str, float]:
    return dict(json.loads((plan.out / arm / "measures.json").read_text("utf-8")))


def _print_table(plan: Plan, names: Sequence[str]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("", *(name.replace("_", " ") for name in names), title="on held-out rows")
    for arm in ("base", *plan.arms):
        measured = _kept(plan, arm)
        table.add_row(plan.label(arm), *(f"{measured[m]:.3f}" if m in measured else "–" for m in names))
    Console(file=sys.stdout).print(table)
