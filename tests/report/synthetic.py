"""A made-up study in the real layout, so that the page can be built and looked at without training anything."""

import json
import math
from pathlib import Path

import cv2
import numpy as np

from steelyard.audits.pvr_result import summarise
from steelyard.perturb.video import KINDS, VideoPerturbation
from steelyard.types import Sample

ARMS = {
    "base": ("Base model", 0.66, 0.41),
    "grpo": ("GRPO", 0.80, 0.50),
    "grpo-augmented": ("GRPO + augmentation", 0.79, 0.63),
    "rova": ("ROVA", 0.81, 0.68),
}
CARD = {
    "number": 1,
    "slug": "rova",
    "title": "Are Video Reasoning Models Ready to Go Outside?",
    "source": "arXiv 2603.10652",
}
CLAIM = "Training on pairs of a clean clip and a corrupted one, and only on corruptions that are neither trivial nor "
CLAIM += "hopeless, "
CLAIM += "keeps a video reasoner right in fog, darkness, behind an occluder and on a shaking camera."


def write_study(folder: Path, *, steps: int = 80, questions: int = 60, seed: int = 0) -> Path:
    """A study of four arms with logs, evaluations, PVRBench results and three examples."""
    generator = np.random.default_rng(seed)
    arms = []
    for name, (label, clean, corrupted) in ARMS.items():
        target = folder / "arms" / name
        target.mkdir(parents=True)
        (target / "pvr.json").write_text(json.dumps(_pvr(generator, clean, corrupted, questions)))
        if name != "base":
            write_run(target, generator, name, steps, clean, corrupted)
        arms.append({"name": name, "label": label, "folder": f"arms/{name}"})
    for i, kind in enumerate(("fog", "dynamic_occlusion", "lens")):
        _write_example(folder / "examples" / f"{i:02d}", kind, generator)
    study = {"title": "ROVA on the video world", "claim": CLAIM, "card": CARD, "arms": arms}
    (folder / "study.json").write_text(json.dumps(study | {"command": "steelyard run rova --out runs/demo"}))
    return folder


def write_run(
    folder: Path, generator: np.random.Generator, name: str, steps: int, clean: float, corrupted: float
) -> None:
    """One run's log and evaluations, as the trainer writes them."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [_log_row(generator, name, step, steps, corrupted) for step in range(1, steps + 1)]
    (folder / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    evaluations = []
    for step in range(0, steps + 1, max(1, steps // 8)):
        done = 1 - math.exp(-3 * step / steps)
        now = {"clean": 0.66 + (clean - 0.66) * done, "corrupted": 0.41 + (corrupted - 0.41) * done}
        now["reasoning_agreement"] = 0.5 + (0.3 if name == "rova" else 0.1) * done
        evaluations.append({"step": step} | {k: v + generator.normal(0, 0.012) for k, v in now.items()})
    (folder / "evaluations.jsonl").write_text("".join(json.dumps(row) + "\n" for row in evaluations))
    (folder / "run.json").write_text(json.dumps({"status": "finished", "config": {"steps": steps}}))


def _log_row(generator: np.random.Generator, name: str, step: int, steps: int, corrupted: float) -> dict:
    done = 1 - math.exp(-3 * step / steps)
    noise = lambda scale: float(generator.normal(0, scale))  # noqa: E731
    accuracy, form = 0.41 + (corrupted - 0.41) * done + noise(0.05), 0.97 + 0.03 * done - abs(noise(0.01))
    row = {"step": step, "loss": noise(0.02), "kl": 0.04 * done + abs(noise(0.004)), "lr": 1e-4, "grad_norm": 1.0}
    row |= {"completion_length": 22 + 3 * done + noise(0.6), "nan_rows": 0, "clip_fraction": abs(noise(0.01))}
    row |= {"part/think_format": form, "part/correct": accuracy, "reward": form + accuracy}
    trained, judged = 32, 0
    if name == "rova":
        easy, hard = 0.25 + 0.35 * done + noise(0.04), 0.3 - 0.18 * done + noise(0.03)
        shares = {"easy": easy, "informative": 1 - easy - hard, "difficult": hard}
        trained, judged = round(32 * shares["informative"]), 256
        row |= {f"curriculum/{label}": share for label, share in shares.items()}
        row |= {"curriculum/memory": min(100.0, 3.0 * step % 100), "curriculum/train": float(trained)}
        row |= {"curriculum/judge_samples": 256.0, "part/alignment": 0.5 + 0.3 * done + noise(0.04)}
        row["reward"] = row["reward"] + 0.3 * row["part/alignment"]
        row["kl"] = None if step == 7 else row["kl"]
    row |= {"rollouts": 8 * trained * (2 if name == "rova" else 1), "prompts_trained": trained}
    seconds = {
        "curriculum": 0.002 * judged + 0.01,
        "sample": 0.9,
        "reward": 0.05,
        "reference": 0.12,
        "update": 0.02 * trained,
    }
    return row | {f"seconds/{stage}": value for stage, value in seconds.items()} | {"seconds/reward/correct": 0.01}


def _pvr(generator: np.random.Generator, clean: float, corrupted: float, questions: int) -> dict:
    rows = []
    for kind in ("clean", *KINDS):
        level = clean if kind == "clean" else float(np.clip(corrupted + generator.normal(0, 0.09), 0.1, 0.95))
        family = "none" if kind == "clean" else KINDS[kind].family
        for i in range(questions):
            row = {"sample": f"s{i}", "kind": kind, "family": family, "severity": 3, "completion": ""}
            rows.append(
                row
                | {"accuracy": float(generator.random() < level), "answer_agrees": float(generator.random() < level)}
            )
            if kind != "clean":
                rows[-1]["reasoning_agreement"] = 0.5 + 0.5 * level
                names = ("fragility", "consistency", "belief", "recovery", "attention")
                rows[-1]["quality"] = {name: 5 * float(generator.random() < level) for name in names}
    return summarise(rows, config={}).to_json()


def _write_example(folder: Path, kind: str, generator: np.random.Generator) -> None:
    folder.mkdir(parents=True)
    video = _clip(generator)
    corrupted = VideoPerturbation(kind, 4, 3)(Sample("x", "?", video)).video
    for name, frames in (("clean", video), ("corrupted", corrupted)):
        cv2.imwrite(str(folder / f"{name}.png"), np.concatenate(list(frames), axis=1)[:, :, ::-1])
    say = "<think> the camera moves {} and the {} ball leaves on the {} </think> <answer> {} </answer>"
    about = {"kind": kind, "severity": 4, "question": "Which way does the camera turn?", "answer": "B"}
    about |= {"options": ["A. left", "B. right", "C. not at all"], "before": say.format("left", "red", "right", "A")}
    about |= {"after": say.format("right", "red", "left", "B"), "arm_before": "GRPO", "arm_after": "ROVA"}
    (folder / "example.json").write_text(json.dumps(about))


def _clip(generator: np.random.Generator) -> np.ndarray:
    """Eight frames of 56 pixels: a ball before a hill, seen by a turning camera."""
    frames = np.empty((8, 56, 56, 3), np.uint8)
    hue = generator.integers(60, 220, 3)
    for t in range(8):
        frames[t, :28], frames[t, 28:] = (150, 190, 230), (110, 140, 90)
        cv2.circle(frames[t], (50 - 6 * t, 34), 7, hue.tolist(), -1, cv2.LINE_AA)
    return frames
