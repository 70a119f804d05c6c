"""What a training step is made of besides the recipe's parts: micro-batches, figures for the log, seeds, signals."""

from __future__ import annotations

import math
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from steelyard.types import Advantages, Array, Rollouts, Scores, Status

NOT_JUDGED = (Status.UNPARSED, Status.TIMED_OUT, Status.FAILED)


@dataclass
class MicroBatch:
    """Rows that go through the model together; all tensors [n, t], `advantages` [K, n, t] where rows have several.

    `weights` are shares of the whole step's batch, so micro-batch losses add up to the step's.
    """

    rollouts: Rollouts
    mask: Tensor
    old: Tensor
    advantages: Tensor
    weights: Tensor
    reference: Tensor | None = None


def micro_batch(
    rollouts: Rollouts, advantages: Advantages, shares: Array, rows: Array, device: torch.device
) -> MicroBatch:
    """The given rows as tensors, cut to their longest completion.

    Args:
        rollouts: N rows with actions.
        advantages: values [N] or [N, T], and others of either shape.
        shares: float32 [N, T], the objective's weights.
        rows: int [n].
        device: of the policy.
    """
    part = rollouts.take(rows)
    assert part.actions is not None
    width = part.actions.mask.shape[1]
    laid = [_on_steps(values[rows], width) for values in advantages.terms]
    values = laid[0] if len(laid) == 1 else np.stack(laid)

    def tensor(array: Array) -> Tensor:
        return torch.as_tensor(np.ascontiguousarray(array), device=device)

    actions = part.actions
    return MicroBatch(
        part, tensor(actions.mask), tensor(actions.logprobs), tensor(values), tensor(shares[rows, :width])
    )


def _on_steps(values: Array, width: int) -> Array:
    """[n, t] from [n] or [n, T]."""
    return values[:, :width] if values.ndim == 2 else np.repeat(values[:, None], width, axis=1)


class Stopwatch:
    """Seconds by stage, for the log only."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Count the time inside to a stage."""
        start = time.perf_counter()
        yield
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - start


def trained_prompts(rollouts: Rollouts, shares: Array) -> list[Array]:
    """Row numbers of every prompt that counts, prompt by prompt, so that its rows can share a forward pass.

    Args:
        rollouts: N rows; a prompt is one branch of one group.
        shares: float [N, T], the objective's weights; a row without any is left out.
    """
    rows = np.flatnonzero((shares > 0).any(axis=1))
    if len(rows) == 0:
        return []
    keys = np.stack([rollouts.groups[rows], rollouts.branches[rows]])
    order = np.lexsort((rows, keys[1], keys[0]))
    rows, keys = rows[order], keys[:, order]
    return np.split(rows, np.flatnonzero((keys[:, 1:] != keys[:, :-1]).any(axis=0)) + 1)


def prompts_with_signal(rollouts: Rollouts, advantages: Advantages) -> int:
    """How many prompts have a counted row whose advantage is not 0: the others teach nothing, trained or not."""
    flat = np.concatenate([values.reshape(len(rollouts), -1) for values in advantages.terms], axis=1)
    moved = (np.abs(flat) > 1e-8).any(axis=1) & (advantages.weights > 0)
    return len({int(group) for group in rollouts.groups[moved]})


def pack(prompts: Sequence[Array], limit: int) -> list[Array]:
    """Whole prompts together, up to `limit` rows; a prompt is cut only where it alone has more."""
    packs: list[list[Array]] = []
    filled = limit
    for piece in (p[i : i + limit] for p in prompts for i in range(0, len(p), limit)):
        if filled + len(piece) > limit:
            packs.append([])
            filled = 0
        packs[-1].append(piece)
        filled += len(piece)
    return [np.concatenate(pieces) for pieces in packs]


def rollout_figures(rollouts: Rollouts, scores: Scores) -> dict[str, float]:
    """What the log says of rollouts and their scores; means are over the rows that were judged."""
    assert rollouts.actions is not None and scores.status is not None
    figures = {
        "rollouts": len(rollouts),
        "reward": _mean(scores.values),
        "nan_rows": int(np.isin(scores.status, NOT_JUDGED).sum()),
        "completion_length": float(rollouts.actions.mask.sum(axis=1).mean()),
    }
    return figures | {f"part/{name}": _mean(part) for name, part in scores.parts.items()}


@contextmanager
def fixed_torch_seed(*seeds: int, device: torch.device) -> Iterator[None]:
    """Make torch's own randomness (dropout) a function of the seeds alone, and leave the caller's as it was."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(int(np.random.SeedSequence(seeds).generate_state(1, np.uint64)[0] >> 1))
        yield


@contextmanager
def asked_to_stop() -> Iterator[threading.Event]:
    """An event that the first Ctrl-C (or SIGTERM) sets; a second one stops at once."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return

    def on_signal(number: int, frame: Any) -> None:
        if event.is_set():
            raise KeyboardInterrupt
        event.set()
        print("finishing this step and saving; press Ctrl-C again to stop at once", file=sys.stderr)

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield event
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _mean(values: Array) -> float:
    finite = np.asarray(values, np.float64)[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else math.nan
