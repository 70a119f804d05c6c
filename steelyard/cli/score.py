"""Score a whole data set with a reward."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from steelyard.cli.app import app, check_writable

if TYPE_CHECKING:
    from steelyard.engines.scoring import Summary


@app.command()
def score(
    data: Annotated[Path, typer.Argument(help="A table: .jsonl, .jsonl.gz or .parquet, of any size.")],
    reward: Annotated[str, typer.Option(help="my_rewards.py:NAME or package.module:NAME. Its code is run.")],
    out: Annotated[Path, typer.Option(help="The file to write: .jsonl, .jsonl.gz or .parquet.")],
    columns: Annotated[
        list[str] | None,
        typer.Option("--map", metavar="COLUMN=FIELD", help="The reward's column is this field of the table."),
    ] = None,
    group: Annotated[
        str | None,
        typer.Option(help="The field whose rows compete, for rewards that compare; they must follow each other."),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes, or Ray's actors, that judge.")] = 1,
    ray: Annotated[bool, typer.Option("--ray", help="Judge on a Ray cluster: RAY_ADDRESS, else this machine.")] = (
        False
    ),
    resume: Annotated[bool, typer.Option("--resume", help="Go on where a job that was stopped or killed was.")] = False,
    chunk: Annotated[int, typer.Option(min=1, help="Rows that are judged and kept at once.")] = 1000,
    prefix: Annotated[str, typer.Option(help="Before the names of the added columns, where they are taken.")] = "",
) -> None:
    """Score every row of a table: each is written with `reward`, `status` and `part/NAME`, in the same order.

    Example: `steelyard score answers.jsonl --reward steelyard.rewards:math_correct --out scored.jsonl`

    The table is streamed. A job that was killed loses and doubles no row: the same command with `--resume` goes on.
    """
    from steelyard.engines.ray import on_ray
    from steelyard.engines.scoring import Job, in_order, in_processes, is_done
    from steelyard.engines.scoring import score as run_job
    from steelyard.rewards.loading import read_mapping

    check_writable(out.parent)
    job = Job(data, reward, out, read_mapping(columns or []), group, chunk, prefix)
    if resume and is_done(job):
        typer.echo(f"{out} is there already, whatever made it; nothing is left to do. To score again, remove it")
        return
    run = on_ray(workers) if ray else in_processes(workers) if workers > 1 else in_order
    with _progress(data) as told:
        summary = run_job(job, run=run, resume=resume, told=told)
    _show(summary, out)


@contextmanager
def _progress(data: Path) -> Iterator[Callable[[Summary, int], None]]:
    """A bar on standard error while the job runs."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    from steelyard.engines.tables import extent_of

    words = TextColumn("{task.fields[rows]:,} rows, {task.fields[without]:,} without a reward")
    console = Console(stderr=True)
    shown = (BarColumn(), TaskProgressColumn(), words, TimeElapsedColumn())
    with Progress(*shown, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=None, rows=0, without=0)

        def told(summary: Summary, extent: int) -> None:
            if bar.tasks[task].total is None:
                bar.update(task, total=extent_of(data))
            bar.update(task, advance=extent, rows=summary.rows, without=summary.rows - summary.judged)

        yield told


def _show(summary: Summary, out: Path) -> None:
    here = summary.rows - summary.before
    typer.echo(f"{out}: {summary.rows} rows, mean reward {summary.mean:.4f}")
    if summary.before:
        typer.echo(f"{summary.before} rows were scored before")
    if summary.rows > summary.judged:
        typer.echo(f"{summary.rows - summary.judged} rows have no reward (NaN)")
    if set(summary.statuses) != {"scored"}:
        typer.echo(", ".join(f"{status} {count}" for status, count in sorted(summary.statuses.items())))
    typer.echo(f"{here / max(summary.seconds, 1e-9):.0f} rows a second in {summary.seconds:.1f} s")
