"""Pages, and the version."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from steelyard.cli.app import app, show_version


@app.command()
def report(folder: Annotated[Path, typer.Argument(help="The folder of a study or of a single run.")]) -> None:
    """Make the HTML page of a study or a run (again); one file that needs no network.

    Example: `steelyard report runs/demo`
    """
    from steelyard.report import build_report

    typer.echo(build_report(folder))


@app.command()
def version() -> None:
    """Print the version.

    Example: `steelyard version`
    """
    show_version()
