"""Where the figures of a run are shown: TensorBoard, Weights & Biases, trackio, and the terminal."""

from __future__ import annotations

import importlib
import importlib.util
import json
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from steelyard.types import SteelyardError


class Tracker(Protocol):
    """Something that shows figures by step."""

    def show(self, step: int, figures: Mapping[str, float]) -> None:
        """The finite figures of one step."""
        ...

    def close(self) -> None:
        """Nothing comes any more."""
        ...


class TensorBoard:
    """Event files in `folder/tensorboard`; those of steps that a resumed run repeats are purged."""

    def __init__(self, folder: Path, *, first_step: int) -> None:
        # Imported late: it takes a second, and a machine without TensorBoard has no use for it.
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=first_step + 1 if first_step else None)

    def show(self, step: int, figures: Mapping[str, float]) -> None:
        """One scalar a figure."""
        for name, value in figures.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Flush and close."""
        self._writer.close()


class Logged:
    """A library with `init`, `log` and `finish`: Weights & Biases or trackio."""

    def __init__(self, library: str, folder: Path, config: Mapping[str, Any]) -> None:
        if importlib.util.find_spec(library) is None:
            raise SteelyardError(f"tracker {library!r} is asked for but not installed; pip install {library}")
        self._library = importlib.import_module(library)
        start = {"project": "steelyard", "name": folder.name, "config": dict(config), "resume": "allow"}
        if library == "wandb":
            start["id"] = _identity(folder / "wandb.json")
        self._library.init(**start)

    def show(self, step: int, figures: Mapping[str, float]) -> None:
        """One call a step."""
        self._library.log(dict(figures), step=step)

    def close(self) -> None:
        """Tell the library that the run is over."""
        self._library.finish()


def _identity(path: Path) -> str:
    """The run's id at the service, the same after a resume."""
    if not path.exists():
        path.write_text(json.dumps({"id": uuid.uuid4().hex}), encoding="utf-8")
    return str(json.loads(path.read_text(encoding="utf-8"))["id"])


class Terminal:
    """A live line: steps, reward, KL, time left."""

    SHOWN = ("reward", "kl")

    def __init__(self, *, steps: int, first_step: int, name: str, console: Console | None = None) -> None:
        columns = (BarColumn(bar_width=24), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        words = (TextColumn("{task.description}"), *columns, TextColumn("{task.fields[figures]}"))
        self._progress = Progress(*words, console=console)
        self._progress.start()
        self._task = self._progress.add_task(name, total=steps, completed=first_step, figures="")

    def show(self, step: int, figures: Mapping[str, float]) -> None:
        """Move the bar to the step."""
        words = "  ".join(f"{name} {figures[name]:.3f}" for name in self.SHOWN if name in figures)
        self._progress.update(self._task, completed=step, figures=words)

    def close(self) -> None:
        """Leave the last line standing."""
        self._progress.stop()


def open_trackers(
    names: Sequence[str], folder: Path, config: Mapping[str, Any], *, first_step: int, steps: int, progress: bool
) -> list[Tracker]:
    """TensorBoard where it is installed, what `names` asks for, and the terminal's line.

    Raises:
        SteelyardError: if a tracker that was asked for is not installed.
    """
    trackers: list[Tracker] = [Logged(name, folder, config) for name in names]
    if importlib.util.find_spec("tensorboard") is not None:
        trackers.append(TensorBoard(folder, first_step=first_step))
    if progress:
        trackers.append(Terminal(steps=steps, first_step=first_step, name=folder.name))
    return trackers
