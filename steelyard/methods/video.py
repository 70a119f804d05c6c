"""What experiments on clips are measured by: PVRBench on held-out rows, clean and under corruption."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from steelyard.audits.pvrbench import PVRBench, PVRResult, rule_quality, save_result
from steelyard.learn.plans import groups
from steelyard.learn.runs import read_jsonl
from steelyard.learn.trainer import Evaluate
from steelyard.methods.arms import TEST_SEED, mean_of
from steelyard.methods.core import Measures, VideoWorld
from steelyard.rewards.answers import correct
from steelyard.types import PerturbationSampler, Policy, Sample


def bench_for(world: VideoWorld, count: int, *, split: str = "test") -> PVRBench:
    """PVRBench on a world's held-out rows, the same for every arm and seed."""
    corruptions = world.test_corruptions
    samples = world.samples(split, count, seed=TEST_SEED)  # type: ignore[arg-type]
    return PVRBench(samples, kinds=corruptions.kinds, severities=corruptions.severities, seed=TEST_SEED)


def pvr(world: VideoWorld, policy: Policy, *, folder: Path, count: int, greedy: bool) -> Measures:
    """A measure: PVRBench's figures (see `figures`) on the world's held-out clips."""
    return figures(evaluate_pvr(world, policy, bench_for(world, count), folder, model=folder.name, greedy=greedy))


def evaluate_pvr(
    world: VideoWorld, policy: Policy, bench: PVRBench, folder: Path, *, model: str = "", greedy: bool = True
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


def validation(samples: Sequence[Sample], corruptions: PerturbationSampler, *, draws: int = 4) -> Evaluate:
    """Accuracy of greedy completions on samples as they are, and under `draws` drawn corruptions each."""
    generator, plan = np.random.default_rng(17), groups(1, perturb=corruptions)
    rows = list(samples)
    disturbed = [plan.draw(sample, generator).view for _ in range(draws) for sample in rows]
    clean, corrupted = mean_of(rows, correct), mean_of(disturbed, correct)
    return lambda policy: {"clean": clean(policy), "corrupted": corrupted(policy)}


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


Row = dict[str, Any]


def write_examples(world: VideoWorld, study: Path, arm: str, count: int, *, most: int = 6) -> None:
    """Clips that the base model got wrong under a corruption and the arm right, one a family first, and one miss.

    Args:
        world: whose held-out clips the study used; count: how many.
        study: its folder, with `base/rows.jsonl` and `ARM/rows.jsonl`; examples go into `examples/NN`.
        arm: the arm that the study is about.
    """
    bench, labels = bench_for(world, count), _labels(study)
    before, after = _rows(study / "base" / "rows.jsonl"), _rows(study / arm / "rows.jsonl")
    pairs = [(old, after[key]) for key, old in before.items() if key in after and old["kind"] != "clean"]
    won = [pair for pair in pairs if pair[0]["accuracy"] == 0 and pair[1]["accuracy"] == 1]
    missed = [pair for pair in pairs if pair[1]["accuracy"] == 0]
    cells = {(cell.kind, cell.severity): cell for cell in bench.cells}
    samples = {sample.id: sample for sample in bench.samples}
    for number, (old, new) in enumerate(_varied(won, most - 1) + _varied(missed, 1)):
        sample = samples[old["sample"]]
        folder = study / "examples" / f"{number:02d}"
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
            "arm_before": labels.get("base", "base"),
            "arm_after": labels.get(arm, arm),
        }
        (folder / "example.json").write_text(json.dumps(about, indent=1) + "\n")


def _labels(study: Path) -> dict[str, str]:
    arms = json.loads((study / "study.json").read_text("utf-8"))["arms"]
    return {arm["name"]: arm["label"] for arm in arms}


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
