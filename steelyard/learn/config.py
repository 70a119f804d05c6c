"""Settings of a training run: the trainer's own, and the YAML file of `steelyard train`."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

import yaml

from steelyard.types import SteelyardError

OptimiserKind = Literal["adamw", "sgd"]
Schedule = Literal["cosine", "constant"]
TRACKERS = ("wandb", "trackio")
FREE_TO_CHANGE = frozenset({"checkpoint_every", "keep_checkpoints", "trackers"})
"""Settings that a resumed run may change, because no figure depends on them."""

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """What the trainer needs to know besides the recipe.

    Attributes:
        steps: optimisation steps (a step without candidates counts).
        prompts: how many candidates a step asks the curriculum for.
        optimiser: `adamw`, or `sgd` (plain gradient descent, for tabular policies).
        lr: peak learning rate.
        betas: of AdamW.
        weight_decay: of AdamW, decoupled.
        schedule: `cosine` to zero at the last step, or `constant`.
        warmup: steps over which the rate rises from 0 to `lr`.
        grad_clip: the gradient's largest norm; `inf` to only measure it.
        micro_rows: rows in one forward and backward pass.
        updates: optimiser steps over the same rollouts.
        evaluate_every: steps between evaluations; 0 evaluates before the first and after the last step only.
        checkpoint_every: steps between checkpoints; 0 keeps the last step's only.
        keep_checkpoints: how many of the newest checkpoints stay on disk.
        seed: of the order of the data, perturbations and sampling.
        trackers: beside TensorBoard: `wandb`, `trackio`.

    Raises:
        SteelyardError: naming the first setting that is out of range.
    """

    steps: int
    prompts: int = 32
    optimiser: OptimiserKind = "adamw"
    lr: float = 1e-6
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.01
    schedule: Schedule = "cosine"
    warmup: int = 0
    grad_clip: float = 5.0
    micro_rows: int = 64
    updates: int = 1
    evaluate_every: int = 0
    checkpoint_every: int = 0
    keep_checkpoints: int = 2
    seed: int = 0
    trackers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("steps", "prompts", "micro_rows", "updates", "keep_checkpoints"):
            _whole(name, getattr(self, name), least=1)
        for name in ("warmup", "evaluate_every", "checkpoint_every", "seed"):
            _whole(name, getattr(self, name), least=0)
        object.__setattr__(self, "betas", _betas(self.betas))
        object.__setattr__(self, "trackers", _trackers(self.trackers))
        for name in ("lr", "weight_decay", "grad_clip"):
            object.__setattr__(self, name, _positive(name, getattr(self, name), zero=name != "grad_clip"))
        for name in ("lr", "weight_decay"):
            if math.isinf(getattr(self, name)):
                raise SteelyardError(f"{name} is infinite; it must be a finite number")
        if self.schedule not in get_args(Schedule):
            raise SteelyardError(f"schedule is {self.schedule!r}; it must be one of {', '.join(get_args(Schedule))}")
        if self.optimiser not in get_args(OptimiserKind):
            raise SteelyardError(
                f"optimiser is {self.optimiser!r}; it must be one of {', '.join(get_args(OptimiserKind))}"
            )
        if self.warmup > self.steps:
            raise SteelyardError(f"warmup is {self.warmup} steps of {self.steps}; it must not be longer than the run")

    def rate(self, step: int) -> float:
        """The learning rate of a step counted from 0.

        warmup: lr·(step+1)/warmup; then `constant`: lr, `cosine`: lr·(1+cos(π·t))/2 with t from 0 to 1 over the rest.
        """
        if step < self.warmup:
            return self.lr * (step + 1) / self.warmup
        if self.schedule == "constant":
            return self.lr
        done = (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.lr * 0.5 * (1.0 + math.cos(math.pi * min(1.0, done)))

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        plain = asdict(self)
        return plain | {"betas": list(self.betas), "trackers": list(self.trackers)}


@dataclass(frozen=True, kw_only=True)
class LoraSettings:
    """Low-rank adapters: `rank`, `alpha` (scale = alpha / rank), `dropout`, `targets` (empty: the usual layers)."""

    rank: int = 16
    alpha: float = 32.0
    dropout: float = 0.0
    targets: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _whole("lora.rank", self.rank, least=1)
        object.__setattr__(self, "alpha", _positive("lora.alpha", self.alpha, zero=False))
        object.__setattr__(self, "dropout", _positive("lora.dropout", self.dropout, zero=True))
        if not self.dropout < 1.0:
            raise SteelyardError(f"lora.dropout is {self.dropout}; it must lie in [0, 1)")
        object.__setattr__(self, "targets", _words("lora.targets", self.targets))


@dataclass(frozen=True, kw_only=True)
class SamplingSettings:
    """How completions are drawn; handed to the policy."""

    max_tokens: int = 768
    temperature: float = 1.0
    top_p: float = 1.0
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _whole("sampling.max_tokens", self.max_tokens, least=1)
        for name in ("temperature", "top_p"):
            object.__setattr__(self, name, _positive(f"sampling.{name}", getattr(self, name), zero=False))
        if self.top_p > 1.0:
            raise SteelyardError(f"sampling.top_p is {self.top_p}; it must lie in (0, 1]")
        object.__setattr__(self, "stop", _words("sampling.stop", self.stop))


@dataclass(frozen=True, kw_only=True)
class JudgeSettings:
    """Who compares reasonings: `model` behind an OpenAI-compatible `url`, whose key is in the variable `key_env`."""

    model: str
    url: str | None = None
    key_env: str | None = None

    def __post_init__(self) -> None:
        for name in ("model", "url", "key_env"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, str) or not value):
                raise SteelyardError(f"judge.{name} is {value!r}; it must be a text")


@dataclass(frozen=True, kw_only=True)
class TrainFile:
    """What a training file says.

    Attributes:
        method: slug of the recipe, `rova`.
        model: folder or hub id, or `world` for the world's own small model.
        data: a JSONL file (see `steelyard.learn.data.load_samples`), or the name of a world.
        out: the run folder.
        train: the trainer's settings.
        evaluate: JSONL file for the evaluation on a schedule, or none.
        options: what the method's recipe takes, by name.
        sampling: how completions are drawn.
        lora: adapters instead of all weights, or none.
        judge: compares reasonings in methods that reward agreement; without one, they are compared word by word.
        dtype: of the weights: `auto`, `bfloat16`, `float32`, …
        gradient_checkpointing: less memory for more time.
        frames: how many frames of a clip are kept.
        size: side of the frames in pixels.
    """

    method: str
    model: str
    data: str
    out: Path
    train: TrainConfig
    evaluate: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    sampling: SamplingSettings = field(default_factory=lambda: SamplingSettings())
    lora: LoraSettings | None = None
    judge: JudgeSettings | None = None
    dtype: str = "auto"
    gradient_checkpointing: bool = False
    frames: int = 16
    size: int = 224

    def __post_init__(self) -> None:
        _whole("frames", self.frames, least=1)
        _whole("size", self.size, least=1)
        if not isinstance(self.options, Mapping):
            raise SteelyardError(f"options is {self.options!r}; it must be a mapping of names to values")
        if not isinstance(self.out, Path):
            raise SteelyardError(f"out is {self.out!r}; it must be the path of a folder")
        if not isinstance(self.gradient_checkpointing, bool):
            raise SteelyardError(f"gradient_checkpointing is {self.gradient_checkpointing!r}; it must be true or false")
        for name in ("method", "model", "data", "dtype"):
            if not isinstance(getattr(self, name), str) or not getattr(self, name):
                raise SteelyardError(f"{name} is {getattr(self, name)!r}; it must be a text")


def load_train_config(path: Path | str) -> TrainFile:
    """Read and check a training file. Paths in it are relative to the file's own folder.

    Raises:
        SteelyardError: naming the file and the key, with the nearest known key where one is misspelt.
    """
    path = Path(path)
    try:
        return _train_file(_read_yaml(path), path.parent)
    except SteelyardError as error:
        raise SteelyardError(f"{path}: {error}") from None


def _train_file(values: dict[str, Any], folder: Path) -> TrainFile:
    sections: dict[str, type[Any]] = {"train": TrainConfig, "sampling": SamplingSettings}
    sections |= {"lora": LoraSettings, "judge": JudgeSettings}
    for name, kind in sections.items():
        if values.get(name) is not None:
            values[name] = make(kind, values[name], where=name)
        elif name != "train":
            values.pop(name, None)
    for name in ("data", "evaluate", "model"):
        values[name] = _beside(values.get(name), folder)
    if isinstance(values.get("options"), dict) and "corpus" in values["options"]:
        values["options"] |= {"corpus": _beside(values["options"]["corpus"], folder)}
    if isinstance(values.get("out"), str):
        values["out"] = folder / values["out"]
    return make(TrainFile, values, where="the file")


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise SteelyardError(
            f"the training file cannot be read ({error.__class__.__name__}); give a YAML text file"
        ) from None
    except yaml.YAMLError as error:
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None) or "no text"
        where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "the file"
        raise SteelyardError(f"{where} is not YAML ({problem}); mend it there") from None
    if not isinstance(values, dict):
        raise SteelyardError("the training file holds no mapping; start with method:, model:, data:, out: and train:")
    return values


def _beside(value: Any, folder: Path) -> Any:
    """A path that exists beside the file, or the word as it is (a hub id, a world)."""
    return str(folder / value) if isinstance(value, str) and value and (folder / value).exists() else value


def make(kind: type[T], values: Any, *, where: str) -> T:
    """Build a settings dataclass from a mapping, refusing unknown and missing keys.

    Raises:
        SteelyardError: naming the key; an unknown one with its nearest known neighbour.
    """
    if not isinstance(values, Mapping):
        raise SteelyardError(f"{where} is {values!r}; it must be a mapping of settings")
    known = {f.name: f for f in fields(kind)}  # type: ignore[arg-type]
    for key in values:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
            raise SteelyardError(f"{where} has an unknown key {key!r}; {hint}")
    given = {key: value for key, value in values.items() if value is not None}
    try:
        return kind(**given)
    except TypeError as error:
        missing = str(error).rpartition(": ")[2]
        raise SteelyardError(f"{where} lacks {missing}; give it a value") from None


def _whole(name: str, value: Any, *, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise SteelyardError(f"{name} is {value!r}; it must be a whole number of at least {least}")


def _positive(name: str, value: Any, *, zero: bool) -> float:
    """A float; YAML reads 1e-6 as a text, so a text that is a number counts."""
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not (number > 0 or (zero and number == 0)):
        raise SteelyardError(
            f"{name} is {value!r}; it must be a {'number of at least 0' if zero else 'positive number'}"
        )
    return number


def _betas(value: Any) -> tuple[float, float]:
    pair = tuple(value) if isinstance(value, list | tuple) else ()
    if len(pair) != 2 or not all(isinstance(beta, int | float) and 0 <= beta < 1 for beta in pair):
        raise SteelyardError(f"betas is {value!r}; it must be two numbers in [0, 1)")
    return float(pair[0]), float(pair[1])


def _words(name: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not all(isinstance(word, str) for word in value):
        raise SteelyardError(f"{name} is {value!r}; it must be a list of texts")
    return tuple(value)


def _trackers(value: Any) -> tuple[str, ...]:
    names = _words("trackers", value)
    for name in names:
        if name not in TRACKERS:
            raise SteelyardError(f"trackers names {name!r}; known are {', '.join(TRACKERS)}")
    return names
