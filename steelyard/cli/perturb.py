"""Change data the way the world outside does."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from steelyard.cli.app import app

perturb_app = typer.Typer(no_args_is_help=True, help="Change data the way the world outside does.")
app.add_typer(perturb_app, name="perturb")


@perturb_app.command("video")
def perturb_video(
    source: Annotated[Path | None, typer.Argument(metavar="[IN]", help="A video file.")] = None,
    target: Annotated[
        Path | None, typer.Argument(metavar="[OUT]", help="The video to write; a folder with `--kind all`.")
    ] = None,
    kind: Annotated[
        str, typer.Option(help="What goes wrong; `--list` prints the kinds, `all` is every one of them.")
    ] = "fog",
    severity: Annotated[int, typer.Option(min=1, max=5, help="From 1, hardly seen, to 5.")] = 3,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same pixels.")] = 0,
    grid: Annotated[Path | None, typer.Option(help="Draw a contact sheet into this PNG instead of a video.")] = None,
    show: Annotated[bool, typer.Option("--list", help="Print the kinds, one a line.")] = False,
) -> None:
    """Corrupt a video file: weather, lighting, occlusion or camera trouble, smooth in time; the sound is kept.

    Example: `steelyard perturb video in.mp4 out.mp4 --kind fog --severity 3 --seed 0`

    A contact sheet of all kinds: `steelyard perturb video in.mp4 --kind all --grid sheet.png`
    """
    from steelyard.perturb.video import KINDS

    if show:
        typer.echo("\n".join(KINDS))
        return
    if source is None or (target is None and grid is None):
        raise typer.BadParameter("give IN and OUT, or IN and --grid FILE.png, or --list")
    from steelyard.perturb.video.files import perturb_command

    for path in perturb_command(source, target, kind=kind, severity=severity, seed=seed, grid=grid):
        typer.echo(path)
