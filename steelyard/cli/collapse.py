"""Read from a run without labels whether, and when, it stopped helping."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from steelyard.cli.app import app


@app.command()
def collapse(
    run: Annotated[Path, typer.Argument(help="The folder of a run that was evaluated by a probe.")],
    threshold: Annotated[float, typer.Option(help="Reward accuracy that counts as collapse.", min=0.0, max=1.0)] = 0.01,
) -> None:
    """Say when training without labels helped most, and when it collapsed: the Model Collapse Step.

    Example: `steelyard collapse runs/votes`

    Reads `evaluations.jsonl` of a run of `urlvr` (or of any run that `vote_probe` measured).
    """
    from rich.console import Console
    from rich.table import Table

    from steelyard.audits.collapse import UNANIMOUS
    from steelyard.audits.collapse import collapse as read
    from steelyard.learn.runs import Run
    from steelyard.types import SteelyardError

    if not (run / "evaluations.jsonl").is_file():
        raise SteelyardError(
            f"{run} holds no evaluations.jsonl; name the folder of a run that was evaluated by a probe"
        )
    rows = Run(run).evaluations()
    found = read(rows, threshold=threshold)
    table = Table("step", "what", "figure")
    table.add_row(str(rows[0]["step"]), "accuracy at first", f"{found.start:.3f}")
    table.add_row(str(found.peak_at), "highest accuracy", f"{found.peak:.3f}")
    table.add_row(_step(found.unanimous_at), "attempts agree (needs no labels)", f"≥ {UNANIMOUS:g}")
    table.add_row(_step(found.collapsed_at), "collapse: reward accuracy", f"< {threshold:g}")
    table.add_row(str(rows[-1]["step"]), "accuracy at last", f"{found.end:.3f}")
    Console(soft_wrap=True).print(table)


def _step(step: int | None) -> str:
    return "never" if step is None else str(step)
