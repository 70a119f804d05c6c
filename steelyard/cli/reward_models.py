"""Train a reward model on pairs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from steelyard.cli.app import Seed, app, check_writable


@app.command("train-reward")
def train_reward(
    pairs: Annotated[Path, typer.Argument(help="JSONL, JSONL.gz or Parquet: a prompt, `chosen`, `rejected`.")],
    model: Annotated[str, typer.Option(help="A sequence classifier or an encoder: a folder or hub id.")],
    out: Annotated[Path, typer.Option(help="Where the model, its card, its measures and its run go.")],
    frozen: Annotated[bool, typer.Option("--frozen", help="Train the head alone, on kept features.")] = False,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the training pairs.")] = 1,
    batch: Annotated[int, typer.Option(min=1, help="Pairs of a step.")] = 32,
    lr: Annotated[
        float | None, typer.Option(help="Peak learning rate. [default: 2e-5, or 1e-3 with `--frozen`]")
    ] = None,
    held_out: Annotated[float, typer.Option(help="Share of the prompts that it is measured on.")] = 0.1,
    max_length: Annotated[int, typer.Option(min=8, help="Tokens of prompt and answer together.")] = 512,
    seed: Seed = 0,
) -> None:
    """Train a reward model on pairs, measure it on prompts that it never saw, and save it with its card.

    The folder is a Hugging Face sequence classifier; a call that was stopped goes on where it was.

    Example: `steelyard train-reward pairs.jsonl --model my-encoder --out my-reward --frozen --epochs 5`
    """
    from steelyard.methods.reward_training import train_reward as train

    check_writable(out)
    found = train(
        pairs, model, out, frozen=frozen, epochs=epochs, batch=batch, lr=lr, held_out=held_out,
        max_length=max_length, seed=seed,
    )  # fmt: skip
    low, high = found["interval"]
    typer.echo(
        f"accuracy on {found['pairs_held_out']} held-out pairs: {found['accuracy']:.3f} [{low:.3f}, {high:.3f}]"
        f" (before {found['accuracy_before']:.3f}, the longer answer {found['accuracy_of_length']:.3f})"
    )
    typer.echo(f"the reward model is in {out}; its card: {out / 'README.md'}")
