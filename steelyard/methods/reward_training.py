"""`steelyard train-reward`: a reward model from a file of pairs, measured on prompts that it never saw."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from steelyard.audits.cell_store import write_whole
from steelyard.audits.intervals import wilson
from steelyard.learn.config import TrainConfig
from steelyard.learn.pairs import PairTrainer, pair_accuracy
from steelyard.learn.preferences import bradley_terry
from steelyard.methods.arms import quiet_loading
from steelyard.rewards.loading import PROMPTS, read_rows
from steelyard.rewards.models.sequence import RewardModel, plain
from steelyard.types import Array, Pairs, Sample, SteelyardError


def train_reward(
    file: Path,
    model: str,
    out: Path,
    *,
    frozen: bool = False,
    epochs: int = 1,
    batch: int = 32,
    lr: float | None = None,
    held_out: float = 0.1,
    max_length: int = 512,
    seed: int = 0,
    progress: bool = True,
) -> dict[str, Any]:
    """Train on pairs and save the model with its card; a call that was stopped goes on.

    Args:
        file: JSONL, JSONL.gz or Parquet; a row has a prompt, `chosen`, `rejected`, perhaps `probability`, `margin`.
        model: a sequence classifier or an encoder: a folder or hub id.
        out: gets the model, `measures.json`, and the run in `run/`.
        frozen: train the head alone on the encoder's kept features.
        epochs: over the training pairs. batch: pairs of a step. lr: 1e-3 for a frozen encoder, else 2e-5.
        held_out: share of the prompts that are kept for measuring.
        max_length: tokens of prompt and answer. seed: of the order and the head's first weights.
        progress: whether to show a live line.

    Returns:
        What `measures.json` holds: accuracy on held-out pairs with its 95% interval, before training, and of length.

    Raises:
        SteelyardError: for rows that are no pairs, a split without rows, or a model that cannot be loaded.
    """
    import torch

    started = time.perf_counter()
    pairs = read_pairs(file)
    training, testing = split(pairs, held_out)
    quiet_loading()
    torch.manual_seed(seed)  # of the fresh head's weights
    reward = RewardModel.from_pretrained(model, max_length=max_length, batch=batch)
    if frozen:
        reward.freeze_encoder()
    before = pair_accuracy(reward, testing)
    steps = max(1, epochs * len(training) // batch)
    config = TrainConfig(
        steps=steps,
        prompts=min(batch, len(training)),
        lr=lr or (1e-3 if frozen else 2e-5),
        warmup=min(10, steps // 10),
        checkpoint_every=max(1, steps // 5),
        micro_rows=batch,
        seed=seed,
    )
    PairTrainer(reward, bradley_terry(), training, config, folder=out / "run", progress=progress).run()
    accuracy = pair_accuracy(reward, testing)
    measures = {
        "accuracy": accuracy,
        "interval": list(wilson(accuracy, len(testing))),
        "accuracy_before": before,
        "accuracy_of_length": _longer_wins(testing),
        "pairs_trained": len(training),
        "pairs_held_out": len(testing),
        "seconds": round(time.perf_counter() - started, 1),
    }
    facts = {"base model": Path(model).name, "data": file.name, "frozen encoder": frozen, "epochs": epochs}
    reward.save_pretrained(out, card=facts | {"learning rate": config.lr, **measures})
    write_whole(out / "measures.json", json.dumps(measures, indent=1) + "\n")
    return measures


def read_pairs(file: Path) -> Pairs:
    """Pairs of a table.

    Raises:
        SteelyardError: naming the row that lacks a prompt or an answer, or whose number is out of range.
    """
    rows = read_rows(file)
    prompt = next((name for name in PROMPTS if name in rows[0]), None)
    if prompt is None:
        raise SteelyardError(f"{file}, row 0 has no prompt; it needs one of the fields {', '.join(PROMPTS)}")
    for number, row in enumerate(rows):
        for name in (prompt, "chosen", "rejected"):
            if not row.get(name) or (name != prompt and not isinstance(row[name], str)):
                raise SteelyardError(f"{file}, row {number}: {name!r} is {row.get(name)!r:.60}; it must be a text")
    samples = [Sample(str(row.get("id", i)), row[prompt]) for i, row in enumerate(rows)]
    return Pairs(
        samples,
        [row["chosen"] for row in rows],
        [row["rejected"] for row in rows],
        margin=_numbers(file, rows, "margin", 0.0, np.inf),
        probability=_numbers(file, rows, "probability", 0.0, 1.0),
    )


def _numbers(file: Path, rows: Sequence[Mapping[str, Any]], name: str, low: float, high: float) -> Array | None:
    if not any(name in row for row in rows):
        return None
    for number, row in enumerate(rows):
        value = row.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise SteelyardError(
                f"{file}, row {number}: {name} is {value!r}; a number from {low:g} to {high:g} is needed"
            )
    return np.asarray([row[name] for row in rows], np.float32)


def split(pairs: Pairs, held_out: float) -> tuple[Pairs, Pairs]:
    """Training and held-out pairs: a hash of the prompt decides, so that no prompt is on both sides.

    Raises:
        SteelyardError: for a side without a pair.
    """
    if not 0 < held_out < 1:
        raise SteelyardError(
            f"held_out is {held_out}; a share between 0 and 1 of the prompts must be kept for measuring"
        )
    prompts = [plain(sample).encode() for sample in pairs.samples]
    share = np.asarray([int.from_bytes(hashlib.blake2b(p, digest_size=4).digest()) / 2**32 for p in prompts])
    kept = share < held_out
    if kept.all() or not kept.any():
        raise SteelyardError(f"{len(pairs)} pairs leave no row to train on or none to measure with; give more prompts")
    return pairs.take(np.flatnonzero(~kept)), pairs.take(np.flatnonzero(kept))


def _longer_wins(pairs: Pairs) -> float:
    chosen, rejected = (np.asarray([len(text) for text in side]) for side in (pairs.chosen, pairs.rejected))
    return float(np.mean((chosen > rejected) + 0.5 * (chosen == rejected)))
