"""The run folder: logs, atomic checkpoints, and what a killed run needs to go on to the same numbers."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from steelyard.types import SteelyardError

LOGS = ("log.jsonl", "evaluations.jsonl")
MODEL, OPTIMISER, STATE = "model.safetensors", "optimizer.safetensors", "state.json"
INITIAL = "initial.safetensors"
UNFINISHED = ".unfinished-"


@dataclass(frozen=True)
class Run:
    """A run folder to read from: rows of the log, evaluations, metrics at the end."""

    folder: Path

    def rows(self) -> list[dict[str, Any]]:
        """One dict a step; None where a figure was not finite or not measured."""
        return read_jsonl(self.folder / "log.jsonl")

    def evaluations(self) -> list[dict[str, Any]]:
        """One dict an evaluation: `step` and the metrics."""
        return read_jsonl(self.folder / "evaluations.jsonl")

    @property
    def about(self) -> dict[str, Any]:
        """`run.json`: config, versions, number of data rows, status (running, interrupted, finished)."""
        return read_json(self.folder / "run.json")

    @property
    def metrics(self) -> dict[str, float]:
        """The last evaluation's metrics, empty where nothing was evaluated."""
        rows = self.evaluations()
        return {name: value for name, value in rows[-1].items() if name != "step"} if rows else {}


@dataclass(frozen=True)
class Checkpoint:
    """What one checkpoint holds.

    Attributes:
        model: trainable parameters and persistent buffers by name.
        optimiser: the optimiser's tensors by name.
        state: JSON of everything else.
    """

    model: Mapping[str, Tensor]
    optimiser: Mapping[str, Tensor]
    state: dict[str, Any]


class RunFolder:
    """Writes a run folder such that the process may die at any instruction.

    A checkpoint is written beside its place, synced, and renamed into it, so that it is either whole or absent. Logs
    are only appended to; a checkpoint remembers how long they were.

    Args:
        folder: made by `prepare` if it is not there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)

    @property
    def _checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    def append(self, log: str, row: Mapping[str, Any]) -> None:
        """One line more in `log.jsonl` or `evaluations.jsonl`; figures that are not finite become null."""
        with open(self.folder / log, "a", encoding="utf-8") as file:
            file.write(to_json(row) + "\n")

    def describe(self, about: Mapping[str, Any]) -> None:
        """Write `run.json` whole or not at all."""
        _write(self.folder / "run.json", to_json(about, indent=2) + "\n")

    def described(self) -> dict[str, Any] | None:
        """What `run.json` says, None in a new folder."""
        path = self.folder / "run.json"
        return read_json(path) if path.exists() else None

    def keep_initial(self, module: nn.Module) -> None:
        """Save the weights that the run starts from, which are also its reference, once."""
        path = self.folder / INITIAL
        if not path.exists():
            _save_tensors(path.with_name(UNFINISHED + INITIAL), weights(module))
            os.replace(path.with_name(UNFINISHED + INITIAL), path)
            _sync(self.folder)

    def initial(self) -> dict[str, Tensor]:
        """The weights that the run started from.

        Raises:
            SteelyardError: if the file is damaged.
        """
        try:
            return load_file(self.folder / INITIAL)
        except (OSError, SafetensorError) as error:
            where = self.folder / INITIAL
            raise SteelyardError(f"{where} cannot be read ({error}); restore it, or begin in another folder") from None

    def save(self, step: int, checkpoint: Checkpoint, *, keep: int) -> None:
        """Write the checkpoint of a step, then delete all but the newest `keep`."""
        place = self._place(step)
        if not _is_whole(place):
            shutil.rmtree(place, ignore_errors=True)
            fresh = self._checkpoints / f"{UNFINISHED}{place.name}"
            shutil.rmtree(fresh, ignore_errors=True)
            fresh.mkdir()
            _save_tensors(fresh / MODEL, checkpoint.model)
            _save_tensors(fresh / OPTIMISER, checkpoint.optimiser)
            state = {**checkpoint.state, "logs": self._lengths(), "bytes": _sizes(fresh)}
            _write(fresh / STATE, to_json(state, exact=True))
            _sync(fresh)
            os.rename(fresh, place)
            _sync(self._checkpoints)
        for old in self._complete()[:-keep]:
            shutil.rmtree(old)

    def newest(self) -> Path | None:
        """The newest whole checkpoint."""
        return next(reversed(self._complete()), None)

    def prepare(self) -> None:
        """Make the folder, or remove what a killed process left half written in it."""
        self._checkpoints.mkdir(parents=True, exist_ok=True)
        for rest in [*self._checkpoints.glob(f"{UNFINISHED}*"), *self.folder.glob(f"{UNFINISHED}*")]:
            shutil.rmtree(rest) if rest.is_dir() else rest.unlink()

    def rewind(self, logs: Mapping[str, int]) -> None:
        """Cut the logs to the length that a checkpoint remembers (absent: to nothing).

        Raises:
            SteelyardError: if a log is shorter than that.
        """
        for name in LOGS:
            path, length = self.folder / name, int(logs.get(name, 0))
            if (path.stat().st_size if path.exists() else 0) < length:
                raise SteelyardError(
                    f"{path} is shorter than its checkpoint says ({length} bytes); restore it or start anew"
                )
            if path.exists():
                os.truncate(path, length)

    def _place(self, step: int) -> Path:
        return self._checkpoints / f"step-{step:06d}"

    def _complete(self) -> list[Path]:
        folders = (path for path in self._checkpoints.glob("step-*") if _is_whole(path))
        return sorted(folders, key=lambda path: int(path.name.removeprefix("step-")))

    def _lengths(self) -> dict[str, int]:
        for name in LOGS:
            _sync(self.folder / name)
        return {name: (self.folder / name).stat().st_size if (self.folder / name).exists() else 0 for name in LOGS}


def load_checkpoint(folder: Path) -> Checkpoint:
    """Read one checkpoint folder.

    Raises:
        SteelyardError: if a file of it is damaged.
    """
    try:
        return Checkpoint(load_file(folder / MODEL), load_file(folder / OPTIMISER), read_json(folder / STATE))
    except (OSError, SafetensorError) as error:
        raise SteelyardError(
            f"the checkpoint {folder} cannot be read ({error}); delete it to go on from an older one"
        ) from None


def weights(module: nn.Module) -> dict[str, Tensor]:
    """Trainable parameters and persistent buffers by name: what training can change."""
    kept = module.state_dict(keep_vars=True)
    buffers = {name for name, _ in module.named_buffers()}
    trained = {name: p for name, p in module.named_parameters() if p.requires_grad}
    return trained | {name: tensor for name, tensor in kept.items() if name in buffers}


def load_weights(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Put saved weights into the module.

    Raises:
        SteelyardError: naming the first weight that is missing, superfluous or of another shape.
    """
    places = weights(module)
    for name in sorted(places.keys() ^ tensors.keys()):
        side = "the run's checkpoint lacks" if name in places else "this policy lacks"
        raise SteelyardError(f"{side} the weight {name!r}; resume with the policy that the run began with")
    with torch.no_grad():
        for name, place in places.items():
            if place.shape != tensors[name].shape:
                shapes = f"{tuple(tensors[name].shape)} in the checkpoint and {tuple(place.shape)} in the policy"
                raise SteelyardError(f"weight {name!r} is {shapes}; resume with the policy that the run began with")
            place.copy_(tensors[name])


def versions() -> dict[str, str]:
    """Of the packages that decide the numbers."""
    found = {}
    for name in ("steelyard", "torch", "numpy", "transformers", "peft", "accelerate"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def to_json(value: Any, *, exact: bool = False, indent: int | None = None) -> str:
    """Strict JSON: numpy numbers and arrays as plain ones, figures that are not finite as null.

    Args:
        value: mappings, sequences, texts and numbers.
        exact: keep NaN and infinities as Python's json does, for state that is read back.
        indent: as in `json.dumps`.

    Raises:
        SteelyardError: if something in it is not data.
    """
    try:
        return json.dumps(_plain(value, exact), allow_nan=exact, indent=indent, ensure_ascii=False)
    except TypeError as error:
        raise SteelyardError(f"state that is saved with a run must be plain JSON, but {error}") from None


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """All whole lines of a log, none where there is no log.

    Raises:
        SteelyardError: naming the line that is no JSON.
    """
    if not path.exists():
        return []
    rows = []
    # Not splitlines, which also cuts at characters that may stand inside a JSON text.
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n")[:-1], 1):
        try:
            rows.append(json.loads(line))
        except ValueError as error:
            raise SteelyardError(
                f"{path}, line {number} is damaged ({error}); each line must be one JSON object"
            ) from None
    return rows


def read_json(path: Path) -> dict[str, Any]:
    """One JSON object.

    Raises:
        SteelyardError: if the file is missing or damaged.
    """
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise SteelyardError(f"{path} cannot be read ({error}); it must hold one JSON object") from None


def _plain(value: Any, exact: bool) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item, exact) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist(), exact)
    if isinstance(value, list | tuple):
        return [_plain(item, exact) for item in value]
    if isinstance(value, float) and not exact and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value


def _save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    save_file({name: t.detach().cpu().contiguous() for name, t in tensors.items()}, path)
    _sync(path)


def _write(path: Path, text: str) -> None:
    fresh = path.with_name(UNFINISHED + path.name)
    fresh.write_text(text, encoding="utf-8")
    _sync(fresh)
    os.replace(fresh, path)
    _sync(path.parent)


def _sync(path: Path) -> None:
    """Wait until a file or folder is on the disk; one that is not there needs no waiting."""
    if not path.exists():
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sizes(folder: Path) -> dict[str, int]:
    return {name: (folder / name).stat().st_size for name in (MODEL, OPTIMISER)}


def _is_whole(folder: Path) -> bool:
    """Whether every file is there at the length that was written."""
    try:
        return bool(_sizes(folder) == json.loads((folder / STATE).read_text(encoding="utf-8"))["bytes"])
    except (OSError, ValueError, KeyError):
        return False
