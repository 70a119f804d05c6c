"""The `steelyard` command: every job of the house from a terminal. Each command imports what it needs when it runs."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from steelyard.cli.app import MISUSE, app, complain

# Every module adds its commands to the application; help lists them in this order.
# isort: off
from steelyard.cli import methods  # noqa: F401
from steelyard.cli import reward_models  # noqa: F401
from steelyard.cli import trying  # noqa: F401
from steelyard.cli import score  # noqa: F401
from steelyard.cli import serve  # noqa: F401
from steelyard.cli import audit  # noqa: F401
from steelyard.cli import bench  # noqa: F401
from steelyard.cli import perturb  # noqa: F401
from steelyard.cli import watch  # noqa: F401
from steelyard.cli import collapse  # noqa: F401
from steelyard.cli import report  # noqa: F401
# isort: on

__all__ = ["app", "main"]

FAULT, INTERRUPTED = 1, 130
EXTRAS = {
    "train": ("torch", "transformers", "peft", "accelerate", "safetensors", "tensorboard", "tokenizers"),
    "video": ("cv2", "av", "PIL"),
    "judge": ("openai", "diskcache"),
    "search": ("bm25s",),
    "data": ("pyarrow",),
    "language": ("py3langid",),
    "schema": ("jsonschema", "jsonschema_specifications"),
    "report": ("plotly", "jinja2"),
    "flow": ("diffusers",),
    "control": ("gymnasium", "gymnasium_robotics", "mujoco"),
    "trl": ("trl", "datasets"),
    "verl": ("verl", "tensordict", "omegaconf"),
    "serve": ("starlette", "uvicorn", "prometheus_client"),
    "scale": ("ray",),
}


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
            complain("stopped")
        raise SystemExit(INTERRUPTED) from None
    except Exception as error:
        if debug:
            raise
        sentence = _sentence(error)
        complain(sentence or _fault(error))
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
