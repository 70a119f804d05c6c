"""Methods: run one, train as a file says, measure its evidence, show its card."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from steelyard.cli.app import Model, Seed, app, check_writable


@app.command()
def run(
    method: Annotated[str, typer.Argument(help="A method's slug; `steelyard methods` lists them.")],
    world: Annotated[str | None, typer.Option(help="The small task to run on; the method's own if left out.")] = None,
    model: Model = None,
    data: Annotated[Path | None, typer.Option(help="A JSONL file of samples, for your own model.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Training steps of each arm.")] = None,
    out: Annotated[Path | None, typer.Option(help="Where runs, table and page go; `runs/METHOD` if left out.")] = None,
    seed: Seed = 0,
) -> None:
    """Run a method once, beside its baselines, and write the page that shows what came out.

    On the small world this takes minutes and no GPU. A run that was stopped goes on where it was.

    Example: `steelyard run rova --out runs/demo`

    On your own model and data: `steelyard run rova --model Qwen/Qwen2.5-VL-7B-Instruct --data mine.jsonl --steps 500`
    """
    from steelyard.methods.study import run_study

    check_writable(out := out or Path("runs") / method)
    study = run_study(method, out=out, world=world, model=model, data=data, steps=steps, seed=seed)
    typer.echo(study)


@app.command()
def train(
    config: Annotated[Path, typer.Argument(help="A YAML file; see the documentation's page on training.")],
) -> None:
    """Train one policy as a YAML file says; a run that was stopped goes on where it was.

    Example: `steelyard train rova.yaml`, and on several devices `accelerate launch -m steelyard.cli train rova.yaml`

    The shortest file, which trains on the small video world:

    ```yaml
    method: rova
    model: world             # or a hub id, or a folder
    data: video-questions    # or a JSONL file
    out: runs/first
    train: {steps: 20, prompts: 16, lr: 1e-4}
    ```
    """
    from steelyard.methods.training import train_from_file

    typer.echo(train_from_file(config))


@app.command()
def evidence(
    method: Annotated[str | None, typer.Argument(help="A method's slug; `steelyard methods` lists them.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Every method that is not measured yet.")] = False,
    seeds: Annotated[int, typer.Option(min=1, help="How many paired seeds.")] = 5,
    first_seed: Annotated[int, typer.Option(min=0, help="The first of them.")] = 0,
    out: Annotated[
        Path | None,
        typer.Option(help="The JSON file; `results/NN-METHOD.json` if left out, the work folder with `--quick`."),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A small run that only shows that all works.")] = False,
) -> None:
    """Measure whether a method keeps its paper's claim, beside its baselines and on the same seeds.

    Every arm is trained and measured on every seed, one a core, and a call that was stopped goes on where it was.
    Prints the claim, all arms, the effect with its 95% interval, and a verdict: `holds`, `fails` or `unclear`.
    It is written down whichever it is.

    Example: `steelyard evidence rova --seeds 5`, and of all methods with their table: `steelyard evidence --all`
    """
    from steelyard.methods.evidence import run_every, run_evidence
    from steelyard.types import SteelyardError

    check_writable((out or Path("results") / "result.json").parent)
    if every == (method is not None) or (every and out is not None):
        raise SteelyardError("give one method, or --all (which keeps every method's own file, so without --out)")
    if out is not None and out.is_dir():
        raise SteelyardError(f"{out} is a folder; give the path of a JSON file")
    if method is None:
        typer.echo(run_every(seeds=seeds, first_seed=first_seed, quick=quick))
        return
    run_evidence(method, seeds=seeds, first_seed=first_seed, out=out, quick=quick)


@app.command()
def methods(
    which: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME or WORDS]", help="A method, or what goes wrong, in words.")
    ] = None,
) -> None:
    """List the methods, show one, or find those that fit a trouble: its claim, recipe, evidence, and how to use it.

    Example: `steelyard methods rova`

    By meaning and by word: `steelyard methods "judge gives a high score to an empty answer"`
    """
    from rich.console import Console
    from rich.markdown import Markdown

    from steelyard.methods.cards import card_page, listing
    from steelyard.methods.registry import slugs
    from steelyard.methods.search import result_table, search

    words = " ".join(which or ())
    if not words:
        page = listing()
    elif words in slugs() or (" " not in words and _near(words, slugs())):
        page = card_page(words)
    else:
        page = result_table(search(words))
    Console().print(Markdown(page))


def _near(word: str, names: list[str]) -> bool:
    """Whether a word is meant as a name: then a slip in it is told, rather than searched for."""
    import difflib

    return bool(difflib.get_close_matches(word, names, n=1))
