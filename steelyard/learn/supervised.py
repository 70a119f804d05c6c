"""Teacher forcing: warm starts and the bases of small worlds."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from steelyard.types import Array, Policy, Rollouts, Sample, SteelyardError

TokenWeights = Callable[[torch.Tensor], torch.Tensor]
"""A mask [N, T] to weights [N, T] of tokens, which sum to one."""


class TeachablePolicy(Policy, Protocol):
    """A policy that can be shown what it should have written."""

    def encode(self, samples: Sequence[Sample], completions: Sequence[str]) -> Rollouts:
        """Given completions, one a sample, as rollouts."""
        ...

    def save_pretrained(self, folder: str | Path) -> None:
        """Write what `from_pretrained` reads."""
        ...


def adamw(module: torch.nn.Module, lr: float) -> list[torch.optim.Optimizer]:
    """AdamW (betas 0.9, 0.98) that decays matrices by 0.05, not gains and biases; for models already trained."""
    trained = [p for p in module.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": 0.05},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return [torch.optim.AdamW([group for group in groups if group["params"]], lr=lr, betas=(0.9, 0.98))]


def muon(module: torch.nn.Module, lr: float) -> list[torch.optim.Optimizer]:
    """Muon (Jordan, 2024) at 4/3 of the rate for inner matrices, AdamW for the rest; for small models from nothing.

    On the video world it reaches a loss in 150 steps for which AdamW needs 250.
    """
    named = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
    inner = [p for name, p in named if p.ndim == 2 and "embed" not in name and "head" not in name]
    chosen = set(map(id, inner))
    rest = [p for _, p in named if id(p) not in chosen]
    return [
        torch.optim.Muon(inner, lr=lr * 4 / 3, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, lr=lr, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def tokens_alike(mask: torch.Tensor) -> torch.Tensor:
    """Every token of the batch counts alike."""
    return mask / mask.sum()


def first_token(alpha: float) -> TokenWeights:
    """Every row counts alike; α of it is its first token's, the others share 1 − α evenly.

    L = −mean over rows of [α log p(y₀) + (1 − α)/(n − 1) Σ_{i≥1} log p(y_i)]; α = 1/n is plain likelihood. The only
    token of a row has all of its weight, and a row without tokens counts nowhere.

    Args:
        alpha: α in [0, 1].

    Raises:
        SteelyardError: for another α.

    Source: sheet 15 (PaCo-RL, arXiv 2512.04784), α = 0.1. Its code: `released_first_token_weights`.
    """
    if not 0 <= alpha <= 1:
        raise SteelyardError(f"first_token({alpha}): the share of the first token must lie in [0, 1]")

    def weigh(mask: torch.Tensor) -> torch.Tensor:
        count = mask.sum(1, keepdim=True)
        first = mask & (mask.cumsum(1) == 1)
        rest = (1 - alpha) / (count - 1).clamp(min=1)
        weights = torch.where(first, torch.where(count == 1, 1.0, alpha), torch.where(mask, rest, 0.0))
        return weights / (count > 0).sum().clamp(min=1)

    return weigh


def released_first_token_weights(mask: torch.Tensor, alpha: float) -> torch.Tensor:
    """What the released code multiplies tokens with before it divides by their number [N, T]; for comparison only.

    α for the first token and n(1 − α)/(n − 1) for every other: the first one's share of the loss is α/n. In float32
    the weight of an only token cancels to 0. Source: sheet 15, "Code versus paper".
    """
    shown = mask.float()
    count = shown.sum(1, keepdim=True)
    others = torch.ones_like(shown) * (count * (1.0 - alpha) / torch.clamp(count - 1, min=1e-8))
    first = (mask & (mask.cumsum(1) == 1)).float()
    return (others + first * (alpha - others)) * shown


def supervised(
    policy: TeachablePolicy,
    samples: Sequence[Sample],
    completions: Sequence[str] | None = None,
    *,
    steps: int,
    batch: int,
    lr: float,
    generator: np.random.Generator,
    folder: Path | None = None,
    progress: bool = True,
    warmup: int = 40,
    grad_clip: float = 1.0,
    optimisers: Callable[[torch.nn.Module, float], list[torch.optim.Optimizer]] = adamw,
    weigh: TokenWeights = tokens_alike,
) -> list[float]:
    """Train a policy to write given completions: loss = −mean log-probability of their tokens, end token included.

    The learning rate has a linear warm-up and a cosine that ends at 5% of `lr`. Every epoch is a fresh
    permutation, so with `steps · batch ≤ len(samples)` no row is seen twice.

    Args:
        policy: with `encode`; its `module` is trained in place.
        samples: may be lazy.
        completions: one a sample; None reads each sample's `solution` column.
        steps: updates. batch: rows of each. lr: the highest learning rate.
        generator: of the order of the rows.
        folder: where `supervised.jsonl` gets a row a step, and `policy.save_pretrained` writes at the end.
        progress: draw a bar.
        warmup: steps. grad_clip: largest norm of the gradient.
        optimisers: `adamw`, `muon`, or any function of (module, lr).
        weigh: what each token counts; `first_token(0.1)` for judges that say Yes or No first.

    Returns:
        The loss of every step in nats a token.

    Raises:
        SteelyardError: if there are no rows, the lengths differ, or a loss is not finite.
    """
    if not len(samples) or (completions is not None and len(completions) != len(samples)):
        given = "no" if completions is None else len(completions)
        raise SteelyardError(
            f"{len(samples)} samples and {given} completions were given; at least one of each is needed"
        )
    updates = optimisers(policy.module, lr)
    schedules = [
        torch.optim.lr_scheduler.LambdaLR(update, lambda step: schedule(step, steps, warmup)) for update in updates
    ]
    losses: list[float] = []
    with _bar(progress) as bar:
        task = bar.add_task("supervised", total=steps, loss=math.nan)
        for step, rows in enumerate(_batches(len(samples), steps, batch, generator)):
            chosen = [samples[int(row)] for row in rows]
            texts = [_solution(s) for s in chosen] if completions is None else [completions[int(row)] for row in rows]
            losses.append(_step(policy, chosen, texts, updates, grad_clip, weigh))
            _log(folder, {"step": step, "loss": losses[-1], "lr": lr * schedule(step, steps, warmup)})
            for each in schedules:
                each.step()
            bar.update(task, advance=1, loss=losses[-1])
    if folder is not None:
        policy.save_pretrained(folder)
    return losses


def schedule(step: int, steps: int, warmup: int) -> float:
    """Share of the highest learning rate: linear from 1/warmup to 1, times a cosine from 1 to 0.05."""
    return min(1.0, (step + 1) / max(warmup, 1)) * (0.05 + 0.475 * (1 + math.cos(math.pi * step / max(steps, 1))))


def _step(
    policy: TeachablePolicy,
    samples: list[Sample],
    texts: list[str],
    updates: list[torch.optim.Optimizer],
    clip: float,
    weigh: TokenWeights,
) -> float:
    rollouts = policy.encode(samples, texts)
    assert rollouts.actions is not None
    mask = torch.from_numpy(rollouts.actions.mask)
    logprobs = policy.logprobs(rollouts)
    mask = mask.to(logprobs.device)
    loss = -(logprobs * weigh(mask)).sum()
    if not torch.isfinite(loss):
        raise SteelyardError(f"the loss of the batch from sample {samples[0].id!r} on is not finite; try a smaller lr")
    policy.module.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(policy.module.parameters(), clip)
    for update in updates:
        update.step()
    return float(loss.detach())


def _solution(sample: Sample) -> str:
    if "solution" not in sample.columns:
        raise SteelyardError(
            f"sample {sample.id!r} has no column 'solution'; give completions, or samples that have it"
        )
    return str(sample.columns["solution"])


def _batches(count: int, steps: int, batch: int, generator: np.random.Generator) -> Iterator[Array]:
    """Row indices [batch] for every step, epoch after epoch."""
    queue = np.zeros(0, np.int64)
    for _ in range(steps):
        while len(queue) < batch:
            queue = np.concatenate([queue, generator.permutation(count)])
        yield queue[:batch]
        queue = queue[batch:]


def _log(folder: Path | None, row: dict[str, float]) -> None:
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "supervised.jsonl").open("a") as log:
            log.write(json.dumps(row) + "\n")


def _bar(shown: bool) -> Progress:
    loss = TextColumn("loss {task.fields[loss]:.3f}")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), loss)
    return Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), disable=not shown)
