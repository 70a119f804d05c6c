"""The command line's application: its options, how misuse is told, and what several commands check."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from steelyard import __version__

MISUSE = 2


class Commands(TyperGroup):
    """The commands, with misuse told in one sentence, as every other error is."""

    def make_context(self, *given: Any, **named: Any) -> Any:
        """The context of the options before the command."""
        return _told(super().make_context, *given, **named)

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        return _told(super().invoke, ctx)


def _told(step: Callable[..., Any], *given: Any, **named: Any) -> Any:
    try:
        return step(*given, **named)
    except typer.TyperException as error:
        message = error.format_message() if hasattr(error, "format_message") else ""
        context = getattr(error, "ctx", None)
        if not message or context is None or type(error).__name__ == "NoArgsIsHelpError":
            raise
        complain(_in_our_words(message, context.command_path))
        raise typer.Exit(MISUSE) from None


def _in_our_words(message: str, command: str) -> str:
    """The parser's message as the middle of a sentence, with where to read on."""
    what = (message[:1].lower() + message[1:]).removeprefix("invalid value: ").partition(", unable to parse")[0]
    what = what.replace("Input should be", "it must be").replace(". Did", "; did").rstrip(".")
    return what if what.endswith("?") else f"{what}; see {command} --help"


app = typer.Typer(
    name="steelyard",
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="""Build a reward, audit whether it can be trusted, train a policy with it, carry it into your trainer.

    Start with `steelyard run rova`: it trains GRPO, GRPO with augmentation and ROVA on the small video world,
    tests all of them under twelve corruptions, and writes a page that shows what came out.
    """,
)

Model = Annotated[str | None, typer.Option(help="A model folder or hub id; the world's own small model if left out.")]
Seed = Annotated[int, typer.Option(min=0, help="Of the data's order, the perturbations and the sampling.")]


def _show_version(asked: bool) -> None:
    if asked:
        show_version()
        raise typer.Exit


@app.callback()
def options(
    asked: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error. May stand anywhere.")] = False,
) -> None:
    """Options that every command takes; `main` reads `--debug`, it stands here for `--help`."""


def show_version() -> None:
    """Print the version."""
    typer.echo(f"steelyard {__version__}")


def check_writable(folder: Path) -> None:
    """End a long command at its start, not at its end, where what it makes could not be kept."""
    from steelyard.types import SteelyardError

    standing = next(place for place in (folder, *folder.parents) if place.exists())
    if not standing.is_dir():
        raise SteelyardError(f"{standing} is a file; give a folder to write into")
    if not os.access(standing, os.W_OK):
        raise SteelyardError(f"the folder {standing} cannot be written to; choose another")


def complain(sentence: str) -> None:
    """One red line on standard error."""
    from rich.console import Console
    from rich.text import Text

    Console(stderr=True, soft_wrap=True).print(Text(f"steelyard: {sentence}", style="red"))
