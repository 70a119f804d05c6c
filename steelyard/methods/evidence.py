"""The evidence harness: arms on paired seeds, effects with intervals, and an honest verdict."""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from steelyard.learn.runs import versions
from steelyard.methods.cards import summary_table
from steelyard.methods.core import Claim, Experiment, Measurement, Method, Trial
from steelyard.methods.registry import find, slugs
from steelyard.types import Array, SteelyardError

Verdict = Literal["holds", "fails", "unclear"]
DRAWS = 10_000


def effect_of(claim: Claim, arm: Array, baseline: Array) -> Array:
    """The effect, from figures of paired seeds [..., K]: a difference of means, or a ratio of them."""
    a, b = arm.mean(axis=-1), baseline.mean(axis=-1)
    if claim.form == "difference":
        return np.asarray(a - b)
    with np.errstate(divide="ignore", invalid="ignore"):  # a baseline of 0 has no ratio: inf or NaN, which is unclear
        return np.asarray(a / b - (1.0 if claim.form == "relative" else 0.0))


def paired_bootstrap(claim: Claim, arm: Array, baseline: Array, *, draws: int = DRAWS) -> tuple[float, float]:
    """95% interval of the effect: seeds are drawn with replacement, both arms' figures of a seed together."""
    rows = np.random.default_rng(0).integers(0, len(arm), (draws, len(arm)))
    with np.errstate(invalid="ignore"):
        low, high = np.quantile(effect_of(claim, arm[rows], baseline[rows]), [0.025, 0.975])
    return float(low), float(high)


def verdict_of(claim: Claim, effect: float, interval: tuple[float, float]) -> Verdict:
    """Whether a claim stands.

    A gain (`at_least` above 0) holds if the effect reaches the threshold and the interval excludes zero; a bound
    (`at_least` at most 0, or `at_most`) holds if the whole interval keeps it. Either fails if the whole interval
    lies on the wrong side of the threshold. Otherwise it is unclear.
    """
    low, high = interval
    if not np.isfinite([effect, low, high]).all():
        return "unclear"
    if claim.at_most is not None:
        return "holds" if high <= claim.at_most else "fails" if low > claim.at_most else "unclear"
    assert claim.at_least is not None
    if high < claim.at_least:
        return "fails"
    stands = low > 0 and effect >= claim.at_least if claim.at_least > 0 else low >= claim.at_least
    return "holds" if stands else "unclear"


def overall(verdicts: Sequence[Verdict]) -> Verdict:
    """All must hold; one that fails fails the whole."""
    if "fails" in verdicts:
        return "fails"
    return "holds" if verdicts and all(verdict == "holds" for verdict in verdicts) else "unclear"


def run_evidence(
    slug: str,
    *,
    seeds: int = 5,
    first_seed: int = 0,
    out: Path | None = None,
    quick: bool = False,
    work: Path | None = None,
    workers: int | None = None,
) -> dict[str, Any]:
    """Run a method's experiments, print what came out, and write it down whichever way it went.

    Args:
        slug: of the method.
        seeds: how many paired seeds; first_seed: the first of them.
        out: the JSON file; by default `results/NN-slug.json`, and in the work folder for a quick run.
        quick: a few steps only, to see that all works; its verdict means nothing.
        work: where runs are kept, so that an interrupted call goes on; `runs/evidence/…` by default.
        workers: processes of one thread each; one a core by default.

    Raises:
        SteelyardError: for an unknown method, one without an experiment, or no seeds.
    """
    if seeds < 1 or first_seed < 0 or (workers is not None and workers < 1):
        given = f"seeds={seeds}, first_seed={first_seed}, workers={workers}"
        raise SteelyardError(f"{given}: at least one seed and one worker are needed, and no seed is negative")
    method = find(slug)
    if not method.evidence:
        raise SteelyardError(f"method {slug!r} makes no claim of its own, so there is nothing to test; try 'rova'")
    name = f"{method.card.number:02d}-{slug}"
    folder = work or Path("runs") / "evidence" / (name + ("-quick" if quick else ""))
    numbers = range(first_seed, first_seed + seeds)
    started = time.perf_counter()
    measured = _run_all(method, numbers, folder, quick, workers or os.cpu_count() or 1)
    experiments = [judge(e, measured[e.name], numbers) for e in _settled(method, quick)]
    result = {
        "method": slug,
        "title": method.card.title,
        "claim": method.card.claim,
        "verdict": overall([experiment["verdict"] for experiment in experiments]),
        "quick": quick,
        "seeds": list(numbers),
        "experiments": experiments,
        "command": f"steelyard evidence {slug} --seeds {seeds} --first-seed {first_seed}"
        + (" --quick" if quick else ""),
        "minutes": round((time.perf_counter() - started) / 60, 1),
        "versions": versions(),
    }
    target = out or (folder / "quick.json" if quick else Path("results") / f"{name}.json")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(result, indent=1) + "\n")
    show(result, target)
    return result


def run_every(*, seeds: int = 5, first_seed: int = 0, quick: bool = False, results: Path = Path("results")) -> str:
    """Run the evidence of every method that has any, and return the table of all results.

    A method whose file in `results` holds these seeds is not run again; one that was stopped goes on.
    """
    numbers = list(range(first_seed, first_seed + seeds))
    for slug in slugs():
        method = find(slug)
        path = results / f"{method.card.number:02d}-{slug}.json"
        if not method.evidence or (path.exists() and not quick and json.loads(path.read_text())["seeds"] == numbers):
            continue
        run_evidence(slug, seeds=seeds, first_seed=first_seed, quick=quick)
    return summary_table(results)


def judge(
    experiment: Experiment | Measurement, measured: Mapping[tuple[str, int], dict[str, float]], seeds: Sequence[int]
) -> dict[str, Any]:
    """All claims of one experiment, tested on its measures by (arm, seed); one seed alone settles none."""
    arms = {arm: {k: [measured[arm, s][k] for s in seeds] for k in measured[arm, seeds[0]]} for arm in experiment.arms}
    claims = []
    for claim in experiment.claims:
        arm, baseline = (np.asarray(arms[name][claim.metric], np.float64) for name in (claim.arm, claim.baseline))
        effect, interval = float(effect_of(claim, arm, baseline)), paired_bootstrap(claim, arm, baseline)
        verdict = verdict_of(claim, effect, interval) if len(seeds) > 1 else "unclear"
        claims.append(asdict(claim) | {"effect": effect, "interval": interval, "verdict": verdict})
    return {
        "name": experiment.name,
        "verdict": overall([claim["verdict"] for claim in claims]),
        "claims": claims,
        "arms": arms,
        "train": experiment.train.to_json() if isinstance(experiment, Experiment) else dict(experiment.settings),
    }


def _settled(method: Method, quick: bool) -> list[Experiment | Measurement]:
    """The experiments, made small if only their machinery is to be seen."""
    if not quick:
        return list(method.evidence)
    return [_small(e) if isinstance(e, Experiment) else e for e in method.evidence]


def _small(experiment: Experiment) -> Experiment:
    train = replace(experiment.train, warmup=0, **experiment.quick)
    return replace(experiment, train=train, data=256, test_count=16)


def _run_all(
    method: Method, seeds: Sequence[int], folder: Path, quick: bool, workers: int
) -> dict[str, dict[tuple[str, int], dict[str, float]]]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    jobs = [(e.name, arm, seed) for e in _settled(method, quick) for seed in seeds for arm in e.arms]
    measured: dict[str, dict[tuple[str, int], dict[str, float]]] = {name: {} for name, _, _ in jobs}
    context = multiprocessing.get_context("spawn")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns) as bar, ProcessPoolExecutor(min(workers, len(jobs)), mp_context=context) as pool:
        task = bar.add_task(f"evidence for {method.card.slug}", total=len(jobs))
        futures = {pool.submit(run_job, method.card.slug, *job, folder, quick): job for job in jobs}
        for future in as_completed(futures):
            name, arm, seed = futures[future]
            measured[name][arm, seed] = future.result()
            bar.advance(task)
    return measured


def run_job(slug: str, experiment_name: str, arm: str, seed: int, folder: Path, quick: bool) -> dict[str, float]:
    """Train and measure one arm with one seed, in a process of its own with one thread."""
    import torch

    from steelyard.methods.arms import quiet_loading, run_trial

    torch.set_num_threads(1)
    quiet_loading()
    experiment = next(e for e in _settled(find(slug), quick) if e.name == experiment_name)
    return run_trial(experiment, arm, Trial(seed, folder / experiment.name / f"{arm}-{seed}", quick))


def shown_measures(experiment: Mapping[str, Any]) -> list[str]:
    """The measures of a table of arms: those that the claims speak of, and the seconds of a run."""
    first = next(iter(experiment["arms"].values()))
    named = dict.fromkeys(claim["metric"] for claim in experiment["claims"])
    return [*named, *(["seconds"] if "seconds" in first and "seconds" not in named else [])]


def show(result: Mapping[str, Any], target: Path) -> None:
    """Print claim, arms, effects with intervals, and the verdict."""
    from rich.console import Console
    from rich.table import Table

    console = Console(file=sys.stdout)
    console.print(f"[bold]{result['title']}[/bold]\nClaim: {result['claim']}")
    for experiment in result["experiments"]:
        shown = shown_measures(experiment)
        arms = Table(
            "arm", *shown, title=f"{experiment['name']}: mean ± standard deviation over {len(result['seeds'])} seeds"
        )
        for name, figures in experiment["arms"].items():
            arms.add_row(name, *(f"{np.mean(figures[m]):.3f} ± {np.std(figures[m]):.3f}" for m in shown))
        console.print(arms)
        claims = Table("claim", "effect", "95% interval", "threshold", "verdict")
        for claim in experiment["claims"]:
            threshold = f"≥ {claim['at_least']:g}" if claim["at_least"] is not None else f"≤ {claim['at_most']:g}"
            low, high = claim["interval"]
            claims.add_row(
                claim["text"], f"{claim['effect']:+.3f}", f"{low:+.3f} … {high:+.3f}", threshold, claim["verdict"]
            )
        console.print(claims)
    note = " (quick: this only shows that it runs)" if result["quick"] else ""
    console.print(f"verdict: [bold]{result['verdict']}[/bold]{note}\nwritten to {target}")
