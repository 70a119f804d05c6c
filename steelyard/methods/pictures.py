"""What experiments on images are measured by, and the grid of samples before and after that their page shows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from steelyard.learn.runs import RunFolder, load_checkpoint, load_weights
from steelyard.methods.arms import TEST_SEED, mean_of_judged
from steelyard.methods.core import Measures
from steelyard.policies.flow import DenoisingPolicy
from steelyard.types import Array, Rollouts, Sample, SteelyardError
from steelyard.worlds.shapes import Shapes, clear

DRAWS, SHOWN, SIDE = 8, 8, 64


def pictured(world: Shapes, policy: DenoisingPolicy, *, folder: Path, count: int, greedy: bool) -> Measures:
    """A measure: shares of deterministic samples that show what was asked for, and that show any shape clearly."""
    drawn = _drawn(policy, world.samples("test", count, seed=TEST_SEED), DRAWS)
    return {name: mean_of_judged(part(drawn).values) for name, part in (("asked_for", world.reward), ("clear", clear))}


def write_grid(world: Shapes, study: Path, arm: str, count: int) -> None:
    """Samples of the base and of every trained arm from the same noise, a row a prompt, for a study's page.

    Args:
        world: of the study. study: its folder, with `study.json` and the arms' runs; the grid goes into `samples`.
        arm: the arm that the study is about; count: rows of the test split.
    """
    arms = json.loads((study / "study.json").read_text("utf-8"))["arms"]
    samples = world.samples("test", count, seed=TEST_SEED)
    folder = study / "samples"
    folder.mkdir(exist_ok=True)
    rows: list[dict[str, Any]] = [{"prompt": str(sample.prompt), "images": [], "rewards": []} for sample in samples]
    for about in arms:
        drawn = _drawn(trained_policy(world, study / about["folder"]), samples, SHOWN)
        rewards = world.reward(drawn).values.reshape(len(samples), SHOWN)
        images = np.stack(list(drawn.completions)).reshape(len(samples), SHOWN, *drawn.completions[0].shape)
        for i, row in enumerate(rows):
            name = f"{i:02d}-{about['name']}.png"
            _write_strip(folder / name, images[i])
            row["images"].append(name)
            row["rewards"].append(round(float(rewards[i].mean()), 4))
    table = {"columns": [about["label"] for about in arms], "rows": rows}
    (folder / "samples.json").write_text(json.dumps(table, indent=1) + "\n")


def trained_policy(world: Shapes, run: Path) -> DenoisingPolicy:
    """The world's policy with the weights of a run's newest checkpoint; as it is where the folder holds no run.

    Raises:
        SteelyardError: for a run that has no checkpoint.
    """
    policy = world.policy()
    if (run / "run.json").exists():
        place = RunFolder(run).newest()
        if place is None:
            raise SteelyardError(f"{run} holds no checkpoint; let the run finish")
        load_weights(policy.module, load_checkpoint(place).model)
    return policy


def _drawn(policy: DenoisingPolicy, samples: Sequence[Sample], draws: int) -> Rollouts:
    return policy.sample(samples, draws, generator=np.random.default_rng(TEST_SEED), greedy=True)


def _write_strip(path: Path, images: Array) -> None:
    """Images [K, H, W, 3] side by side, small ones enlarged without smoothing."""
    from PIL import Image

    whole = np.concatenate(list(np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=255)), axis=1)
    factor = max(1, SIDE // images.shape[1])
    Image.fromarray(whole.repeat(factor, axis=0).repeat(factor, axis=1)).save(path)
