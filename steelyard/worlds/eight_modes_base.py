"""Makes the shipped networks of the eight modes again: `python -m steelyard.worlds.eight_modes_base --out DIR`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from safetensors.torch import save_file
from torch import Tensor, nn

from steelyard.policies.kernels import complete, even_sigmas
from steelyard.worlds.eight_modes import MODES, SPREAD, untrained

Batch = Callable[[torch.Generator], tuple[Tensor, Tensor, Tensor, Tensor]]
"""A draw of states [B, 2], times [B], prompts [B] and what the network should say [B, 2]."""


def points(count: int, generator: torch.Generator) -> Tensor:
    """[count, 2] of the eight modes."""
    which = torch.randint(8, (count,), generator=generator)
    return torch.as_tensor(MODES, dtype=torch.float32)[which] + SPREAD * torch.randn(count, 2, generator=generator)


def flow_batch(generator: torch.Generator, *, rows: int = 512) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Flow matching: x_t = (1 − t) x_0 + t e, the target e − x_0; the prompt is drawn apart from x_0."""
    end, noise = points(rows, generator), torch.randn(rows, 2, generator=generator)
    time = torch.rand(rows, generator=generator)
    prompt = torch.randint(8, (rows,), generator=generator)
    return (1 - time[:, None]) * end + time[:, None] * noise, time, prompt, noise - end


def distilled_from(module: nn.Module, generator: torch.Generator, *, paths: int = 40_000, steps: int = 20) -> Batch:
    """States of stored ODE paths of a flow, whose ends the consistency network should say."""
    sigmas = even_sigmas(steps)
    x, prompt = torch.randn(paths, 2, generator=generator), torch.randint(8, (paths,), generator=generator)
    states = [x]
    with torch.no_grad():
        for i in range(steps):
            states.append(complete(lambda s, t: module(s, t, prompt), states[-1], sigmas, [i, i + 1]))
    stored, times = torch.stack(states, 1), torch.as_tensor(sigmas)

    def draw(source: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        row = torch.randint(paths, (512,), generator=source)
        step = torch.randint(steps, (512,), generator=source)
        return stored[row, step], times[step], prompt[row], stored[row, -1]

    return draw


def fit(module: nn.Module, batch: Batch, generator: torch.Generator, *, steps: int) -> float:
    """Least squares by Adam, 1e-3 falling to 0 by a cosine; returns the mean loss of the last 100 steps."""
    optimiser = torch.optim.Adam(module.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    losses = []
    for _ in range(steps):
        *inputs, target = batch(generator)
        loss = (module(*inputs) - target).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        losses.append(float(loss.detach()))
    return float(np.mean(losses[-100:]))


def main(
    out: Annotated[Path, typer.Option(help="Folder for the three networks.")],
    seed: Annotated[int, typer.Option(help="Of weights and draws.")] = 0,
) -> None:
    """Train the flow without prompts, the flow with prompts, and distil that one for few steps."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    out.mkdir(parents=True, exist_ok=True)
    trained: dict[str, nn.Module] = {}
    for kind in ("flow", "prompted", "few-steps"):
        trained[kind] = module = untrained(kind)
        batch = distilled_from(trained["prompted"], generator) if kind == "few-steps" else flow_batch
        loss = fit(module, batch, generator, steps=6000 if kind == "few-steps" else 3000)
        save_file(module.state_dict(), out / f"{kind}.safetensors")
        typer.echo(f"{kind}: loss {loss:.4f}")


if __name__ == "__main__":
    typer.run(main)
