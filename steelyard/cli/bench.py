"""Run a paper's benchmark on any policy."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from steelyard.cli.app import Seed, app, check_writable

bench_app = typer.Typer(no_args_is_help=True, help="Run a paper's benchmark on any policy.")
app.add_typer(bench_app, name="bench")


@bench_app.command("pvr")
def bench_pvr(
    videos: Annotated[Path, typer.Option(help="The folder of clips.")],
    questions: Annotated[Path, typer.Option(help="JSONL: video, question, answer, problem_type and, if any, options.")],
    model: Annotated[str, typer.Option(help="A model folder or hub id.")],
    out: Annotated[Path, typer.Option(help="Where figures and completions go; a second call goes on from there.")],
    kinds: Annotated[
        list[str] | None,
        typer.Option(
            "--kinds", "--kind", help="Only these corruptions: `fog,rain`, or the option again. [default: all]"
        ),
    ] = None,
    severities: Annotated[
        list[str] | None,
        typer.Option("--severities", "--severity", help="From 1 to 5: `1,3,5`, or the option again. [default: 3]"),
    ] = None,
    frames: Annotated[int, typer.Option(min=1, help="Frames of a clip that the model sees.")] = 16,
    size: Annotated[int, typer.Option(min=1, help="Side of the frames in pixels.")] = 224,
    max_tokens: Annotated[
        int | None,
        typer.Option(min=1, help="The longest completion. [default: 768, or a quarter of a shorter model's context]"),
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Questions at a time; changes no result.")] = 8,
    seed: Seed = 0,
    judge_model: Annotated[
        str | None,
        typer.Option("--judge-model", "--judge", help="A model behind an OpenAI-compatible endpoint: rates reasoning."),
    ] = None,
    judge_url: Annotated[str | None, typer.Option(help="That endpoint's address, ending in `/v1` for most.")] = None,
    judge_key_env: Annotated[
        str, typer.Option(help="The environment variable that holds its key; empty for an endpoint without one.")
    ] = "OPENAI_API_KEY",
) -> None:
    """Run PVRBench: how much accuracy a video model loses under twelve corruptions in four families.

    Example: `steelyard bench pvr --videos clips --questions questions.jsonl --model my-model --out pvr`

    A line of the questions: `{"video": "a.mp4", "question": "Which way?", "options": ["A. left", "B. right"],
    "answer": "B", "problem_type": "multiple choice"}`
    """
    from steelyard.audits.pvrbench import pvr_command

    check_writable(out)
    pvr_command(
        videos,
        questions,
        model,
        out,
        kinds=tuple(_listed(kinds or ())),
        severities=tuple(_severity(word) for word in _listed(severities or ("3",))),
        frames=frames,
        size=size,
        seed=seed,
        batch=batch,
        max_tokens=max_tokens,
        judge_model=judge_model,
        judge_url=judge_url,
        judge_key_env=judge_key_env or None,
    )


def _listed(given: Iterable[str]) -> list[str]:
    """The words of an option that takes a list: between commas, or one an option."""
    return [word.strip() for words in given for word in words.split(",") if word.strip()]


def _severity(word: str) -> int:
    from steelyard.types import SteelyardError

    if word not in "12345" or len(word) != 1:
        raise SteelyardError(f"--severities has {word!r}; give whole numbers from 1 to 5")
    return int(word)
