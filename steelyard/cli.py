"""The `steelyard` command: every job of the house from a terminal. Each command imports what it needs when it runs."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from steelyard import __version__

FAULT, MISUSE, INTERRUPTED = 1, 2, 130
EXTRAS = {
    "train": ("torch", "transformers", "peft", "accelerate", "safetensors", "tensorboard", "tokenizers"),
    "video": ("cv2", "av", "PIL"),
    "judge": ("openai",),
    "report": ("plotly", "jinja2"),
    "trl": ("trl", "datasets"),
}


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
        _complain(_in_our_words(message, context.command_path))
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
perturb_app = typer.Typer(no_args_is_help=True, help="Change data the way the world outside does.")
bench_app = typer.Typer(no_args_is_help=True, help="Run a paper's benchmark on any policy.")
app.add_typer(perturb_app, name="perturb")
app.add_typer(bench_app, name="bench")

Model = Annotated[str | None, typer.Option(help="A model folder or hub id; the world's own small model if left out.")]
Seed = Annotated[int, typer.Option(min=0, help="Of the data's order, the perturbations and the sampling.")]


def _show_version(asked: bool) -> None:
    if asked:
        version()
        raise typer.Exit


@app.callback()
def options(
    asked: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error. May stand anywhere.")] = False,
) -> None:
    """Options that every command takes; `main` reads `--debug`, it stands here for `--help`."""


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

    _check_writable(out := out or Path("runs") / method)
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
    method: Annotated[str, typer.Argument(help="A method's slug; `steelyard methods` lists them.")],
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

    Example: `steelyard evidence rova --seeds 5`
    """
    from steelyard.methods.evidence import run_evidence
    from steelyard.types import SteelyardError

    _check_writable((out or Path("results") / "result.json").parent)
    if out is not None and out.is_dir():
        raise SteelyardError(f"{out} is a folder; give the path of a JSON file")
    run_evidence(method, seeds=seeds, first_seed=first_seed, out=out, quick=quick)


@app.command()
def methods(slug: Annotated[str | None, typer.Argument(help="Show this method's card.")] = None) -> None:
    """List the methods, or show one: its claim, recipe, evidence, and how to use it with a real model.

    Example: `steelyard methods rova`
    """
    from rich.console import Console
    from rich.markdown import Markdown

    from steelyard.methods.cards import card_page, listing

    Console().print(Markdown(listing() if slug is None else card_page(slug)))


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
    typer.echo(f"steelyard {__version__}")


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

    _check_writable(out)
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


def _check_writable(folder: Path) -> None:
    """End a long command at its start, not at its end, where what it makes could not be kept."""
    from steelyard.types import SteelyardError

    standing = next(place for place in (folder, *folder.parents) if place.exists())
    if not standing.is_dir():
        raise SteelyardError(f"{standing} is a file; give a folder to write into")
    if not os.access(standing, os.W_OK):
        raise SteelyardError(f"the folder {standing} cannot be written to; choose another")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave with its exit code: 0, 2 for misuse or bad input, 1 for a fault, 130 for Ctrl-C.

    Args:
        arguments: what was typed behind `steelyard`; the process's own if left out.

    Raises:
        SystemExit: always, but for errors under `--debug`, which pass through with their traceback.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if debug := "--debug" in words or bool(os.environ.get("STEELYARD_DEBUG")):
        words = [word for word in words if word != "--debug"]
    try:
        app(words, prog_name="steelyard")
    except SystemExit as left:
        if (stop := _interrupt(left)) is None:
            raise
        if not str(stop):  # the trainer has said what it saved where the interrupt has words
            _complain("stopped")
        raise SystemExit(INTERRUPTED) from None
    except Exception as error:
        if debug:
            raise
        sentence = _sentence(error)
        _complain(sentence or _fault(error))
        raise SystemExit(MISUSE if sentence else FAULT) from None


def _interrupt(left: SystemExit) -> KeyboardInterrupt | None:
    """The Ctrl-C that typer turned into an exit."""
    cause = getattr(left.__context__, "__cause__", None)
    return cause if isinstance(cause, KeyboardInterrupt) else None


def _sentence(error: Exception) -> str | None:
    """What to tell the person, or None where the error is a fault of ours."""
    from steelyard.types import SteelyardError

    if isinstance(error, SteelyardError):
        return str(error)
    if isinstance(error, ImportError):
        return _missing(error.name or "")
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}; give a path that can be read and written"
    return None


def _fault(error: Exception) -> str:
    """A sentence about an error that nobody foresaw."""
    said = " ".join(str(error).split())[:300]
    name = type(error).__name__
    return f"{name}: {said}; this should not happen: the same command with --debug shows where it did"


def _missing(module: str) -> str | None:
    """A sentence that names the extra of a module that is not installed."""
    package = module.partition(".")[0]
    extra = next((name for name, modules in EXTRAS.items() if package in modules), None)
    return extra and f"this needs the package {package!r}; install it with: pip install 'steelyard[{extra}]'"


def _complain(sentence: str) -> None:
    from rich.console import Console
    from rich.text import Text

    Console(stderr=True, soft_wrap=True).print(Text(f"steelyard: {sentence}", style="red"))


if __name__ == "__main__":
    main()
