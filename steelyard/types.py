"""The words of the house as types: samples, rollouts, scores, advantages, pairs and the protocols between stages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]
"""A numpy array; its shape stands in the comment or docstring at the border."""

Streams: TypeAlias = np.random.Generator | Sequence[np.random.Generator]
"""Where randomness comes from: one generator, or one per sample (so that a batch can be cut anywhere)."""

Prompt: TypeAlias = str | Sequence[Mapping[str, Any]]
"""A text, or chat messages `{"role": ..., "content": text or parts}`."""


GroupKey: TypeAlias = Sequence[str]
"""What makes a group: `group`, `branch`, or names of columns."""

PER_BRANCH: GroupKey = ("group", "branch")


class SteelyardError(ValueError):
    """Bad input: one sentence that says what was wrong, where, and what would be right."""


class Status(IntEnum):
    """What became of a row's judgement. Only `SCORED` and `TIE` rows have a finite value, unless it was filled in."""

    SCORED = 0
    UNPARSED = 1
    TIMED_OUT = 2
    TIE = 3
    NOT_APPLICABLE = 4
    FAILED = 5


def streams(generator: Streams, count: int) -> list[np.random.Generator]:
    """One independent generator per sample.

    A single generator is advanced once per sample, so that the streams of a batch do not depend on
    how the batch is cut into pieces afterwards; a sequence is taken as it is.

    Raises:
        SteelyardError: if a sequence of another length than `count` is given.
    """
    if isinstance(generator, np.random.Generator):
        seeds = generator.integers(0, 2**63, size=count)
        return [np.random.Generator(np.random.Philox(int(seed))) for seed in seeds]
    if len(generator) != count:
        raise SteelyardError(f"{len(generator)} generators for {count} samples; give one each, or one for all")
    return list(generator)


@dataclass(frozen=True, eq=False)
class Prefix:
    """What stands behind a prompt already, steps of an attempt and what they brought; a policy goes on behind it.

    Attributes:
        text: all of it; steps: how many of the policy's own it holds.
        data: name to [P, …], the same as the policy wrote and read it (token ids); without any it reads the text.
    """

    text: str
    steps: int = 0
    data: Mapping[str, Array] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Sample:
    """One row of a task.

    Attributes:
        id: unique within its data set; what memories and logs refer to.
        prompt: a text or chat messages. A chat message may hold `{"type": "video"}` and
            `{"type": "image"}` parts, filled in order from `video` and `images`.
        video: uint8 [T, H, W, 3], or None.
        images: uint8 arrays [H, W, 3].
        columns: what rewards read: answer, tests, references, tools, …
        prefix: what of the answer stands already, if anything.
    """

    id: str
    prompt: Prompt
    video: Array | None = None
    images: tuple[Array, ...] = ()
    columns: Mapping[str, Any] = field(default_factory=dict)
    prefix: Prefix | None = None

    def __post_init__(self) -> None:
        if self.video is not None:
            check_frames(self.video, where=f"sample {self.id!r}: video")

    def with_video(self, video: Array) -> Sample:
        """The same row seen through other frames [T, H, W, 3]."""
        return replace(self, video=video)


def check_frames(frames: Array, *, where: str) -> None:
    """Refuse anything but [T, H, W, 3] with at least one frame."""
    shape = getattr(frames, "shape", None)
    if shape is None or len(shape) != 4 or shape[3] != 3 or 0 in shape:
        raise SteelyardError(f"{where} has shape {shape}; frames are [T, H, W, 3] with none of them zero")


@dataclass(eq=False)
class Actions:
    """What a policy did, step by step. A step is a token, a denoising step, an action chunk or an environment step.

    Attributes:
        logprobs: float32 [N, T], log-probability of each step under the distribution it was drawn from.
        mask: bool [N, T], True where the policy acted (False: padding, tool output, forced text).
        data: arrays [N, T, …] that the policy needs to score the steps again (token ids, latents, …).
        temperature: of the distribution the steps were drawn from.
    """

    logprobs: Array
    mask: Array
    data: dict[str, Array] = field(default_factory=dict)
    temperature: float = 1.0

    def __post_init__(self) -> None:
        self.logprobs = np.asarray(self.logprobs, np.float32)
        self.mask = np.asarray(self.mask, bool)
        if self.logprobs.ndim != 2 or self.logprobs.shape != self.mask.shape:
            shapes = f"logprobs {self.logprobs.shape} and mask {self.mask.shape}"
            raise SteelyardError(f"actions: {shapes} must both be [N, T]")
        self.data = {name: np.asarray(array) for name, array in self.data.items()}
        for name, array in self.data.items():
            if array.shape[:2] != self.mask.shape:
                raise SteelyardError(f"actions: {name!r} is {array.shape}; its first axes must be {self.mask.shape}")

    def take(self, rows: Array) -> Actions:
        """The given rows, cut to their longest."""
        mask = self.mask[rows]
        width = int(np.flatnonzero(mask.any(axis=0)).max(initial=0)) + 1 if mask.size else mask.shape[1]
        data = {name: array[rows, :width] for name, array in self.data.items()}
        return Actions(self.logprobs[rows, :width], mask[:, :width], data, self.temperature)

    @staticmethod
    def concatenate(parts: Sequence[Actions]) -> Actions:
        """Rows of all parts, padded to the longest."""
        if not parts:
            raise SteelyardError("no actions to join; give at least one part")
        width = max(part.mask.shape[1] for part in parts)
        if len({tuple(sorted(part.data)) for part in parts}) > 1:
            raise SteelyardError(f"actions with data {_names(part.data for part in parts)} cannot be joined")
        if len({part.temperature for part in parts}) > 1:
            raise SteelyardError("actions drawn at different temperatures cannot be joined; sample them alike")
        data = {name: _stack([part.data[name] for part in parts], width) for name in parts[0].data}
        return Actions(
            _stack([part.logprobs for part in parts], width),
            _stack([part.mask for part in parts], width),
            data,
            parts[0].temperature,
        )


def _names(parts: Iterable[Iterable[str]]) -> str:
    return " and ".join(dict.fromkeys(f"[{', '.join(sorted(part))}]" for part in parts))


def _stack(arrays: Sequence[Array], width: int) -> Array:
    """Concatenate [n, t, …] arrays along rows, right-padding the second axis with zeros to `width`."""
    return np.concatenate([np.pad(a, [(0, 0), (0, width - a.shape[1])] + [(0, 0)] * (a.ndim - 2)) for a in arrays])


@dataclass(eq=False)
class Rollouts:
    """N attempts, column-wise.

    Attributes:
        samples: the prompt of every row [N] (rows of one prompt share one object).
        completions: what came out [N]: texts, images, trajectories.
        group: int64 [N]; rows of one prompt compete.
        branch: int64 [N]; 0 is the sample as it is, 1… are perturbed, paraphrased, shuffled copies.
        columns: name to [N] sequences, beside the samples' own columns.
        actions: what the policy did, if known.
        spans: name (step, turn, …) to int64 [N, S, 2]: start and end over actions, −1 where absent.
    """

    samples: Sequence[Sample]
    completions: Sequence[Any]
    group: Array | None = None
    branch: Array | None = None
    columns: dict[str, Sequence[Any]] = field(default_factory=dict)
    actions: Actions | None = None
    spans: dict[str, Array] = field(default_factory=dict)

    def __post_init__(self) -> None:
        n = len(self.completions)
        self.group = np.arange(n) if self.group is None else np.asarray(self.group, np.int64)
        self.branch = np.zeros(n, np.int64) if self.branch is None else np.asarray(self.branch, np.int64)
        for name, numbers in (("group", self.group), ("branch", self.branch)):
            if numbers.ndim != 1:
                raise SteelyardError(f"rollouts: {name} has shape {numbers.shape}; one number a row [{n}] is needed")
        lengths = {"samples": len(self.samples), "group": len(self.group), "branch": len(self.branch)}
        lengths |= {f"column {name!r}": len(column) for name, column in self.columns.items()}
        lengths |= {f"spans {name!r}": len(span) for name, span in self.spans.items()}
        if self.actions is not None:
            lengths["actions"] = len(self.actions.mask)
        for name, length in lengths.items():
            if length != n:
                raise SteelyardError(f"rollouts: {name} has {length} rows, completions has {n}; they must be equal")

    def __len__(self) -> int:
        return len(self.completions)

    @property
    def groups(self) -> Array:
        """int64 [N], the group of every row."""
        assert self.group is not None
        return self.group

    @property
    def branches(self) -> Array:
        """int64 [N], the branch of every row."""
        assert self.branch is not None
        return self.branch

    def column(self, name: str) -> Sequence[Any]:
        """One value a row [N]: `completion`, `prompt`, `sample`, a column of the rollouts, or of the samples.

        Raises:
            SteelyardError: naming the column and the first row that lacks it.
        """
        if name == "completion":
            return self.completions
        if name == "sample":
            return self.samples
        if name in self.columns:
            return self.columns[name]
        if name == "prompt":
            return [sample.prompt for sample in self.samples]
        try:
            return [sample.columns[name] for sample in self.samples]
        except KeyError:
            row = next(i for i, sample in enumerate(self.samples) if name not in sample.columns)
            known = ", ".join(sorted({*self.columns, *self.samples[row].columns, "prompt", "completion"}))
            raise SteelyardError(f"row {row} has no column {name!r}; it has {known}") from None

    def has(self, name: str) -> bool:
        """Whether every row has this column."""
        known = name in self.columns or name in ("prompt", "completion", "sample")
        return known or all(name in sample.columns for sample in self.samples)

    def take(self, rows: Array | Sequence[int]) -> Rollouts:
        """The given rows (indices or a bool mask), every field moved together.

        Raises:
            SteelyardError: for a mask of another length, or what is no index of a row.
        """
        rows = np.asarray(rows)
        if rows.size and rows.dtype.kind not in "iub":
            raise SteelyardError(f"rollouts: rows are picked by whole numbers or a mask, not by {rows.dtype}")
        if rows.dtype == bool and rows.shape != (len(self),):
            raise SteelyardError(f"rollouts: a mask of shape {rows.shape} cannot pick from {len(self)} rows")
        index = rows.nonzero()[0] if rows.dtype == bool else rows.astype(np.int64)
        outside = index[(index < -len(self)) | (index >= len(self))]
        if len(outside):
            raise SteelyardError(f"rollouts: there is no row {outside[0]}; there are {len(self)}")
        return Rollouts(
            samples=[self.samples[i] for i in index],
            completions=[self.completions[i] for i in index],
            group=self.groups[index],
            branch=self.branches[index],
            columns={name: [column[i] for i in index] for name, column in self.columns.items()},
            actions=None if self.actions is None else self.actions.take(index),
            spans={name: span[index] for name, span in self.spans.items()},
        )

    @staticmethod
    def concatenate(parts: Sequence[Rollouts]) -> Rollouts:
        """All rows of all parts; group numbers are kept as they are, so give them apart where they differ.

        Raises:
            SteelyardError: if there are no parts, or they differ in their columns, spans, or in having actions.
        """
        if not parts:
            raise SteelyardError("no rollouts to join; give at least one part")
        for what in ("columns", "spans"):
            named = [getattr(part, what) for part in parts]
            if len({tuple(sorted(names)) for names in named}) > 1:
                raise SteelyardError(
                    f"rollouts with the {what} {_names(named)} cannot be joined; they must be the same"
                )
        actions = [part.actions for part in parts if part.actions is not None]
        if 0 < len(actions) < len(parts):
            raise SteelyardError(f"{len(actions)} of {len(parts)} parts have actions; all or none of them must")
        return Rollouts(
            samples=[sample for part in parts for sample in part.samples],
            completions=[completion for part in parts for completion in part.completions],
            group=np.concatenate([part.groups for part in parts]),
            branch=np.concatenate([part.branches for part in parts]),
            columns={name: [v for part in parts for v in part.columns[name]] for name in parts[0].columns},
            actions=Actions.concatenate(actions) if actions else None,
            spans={name: _join_spans([part.spans[name] for part in parts]) for name in parts[0].spans},
        )


def _join_spans(spans: Sequence[Array]) -> Array:
    width = max(span.shape[1] for span in spans)
    return np.concatenate([np.pad(s, ((0, 0), (0, width - s.shape[1]), (0, 0)), constant_values=-1) for s in spans])


def group_index(rollouts: Rollouts, by: GroupKey) -> Array:
    """int64 [N], 0…K−1: rows with equal keys share a number. A key is `group`, `branch` or a column's name.

    Raises:
        SteelyardError: for a column that rows lack, or whose values cannot be compared.
    """
    index = np.zeros(len(rollouts), np.int64)
    for key in by:
        column = (
            rollouts.groups if key == "group" else rollouts.branches if key == "branch" else _numbered(rollouts, key)
        )
        _, inverse = np.unique(column, return_inverse=True)
        _, index = np.unique(index * (inverse.max(initial=0) + 1) + inverse, return_inverse=True)
    return index


def _numbered(rollouts: Rollouts, name: str) -> Array:
    """int64 [N]: equal values of a column, of whatever kind they are, share a number."""
    numbers: dict[Any, int] = {}
    try:
        return np.asarray([numbers.setdefault(value, len(numbers)) for value in rollouts.column(name)], np.int64)
    except TypeError:
        raise SteelyardError(
            f"rows cannot be grouped by column {name!r}; it must hold texts, numbers or tuples"
        ) from None


def broadcast_steps(values: Array, spans: Array, length: int) -> Array:
    """Lay one number a span onto the actions that the span covers.

    Args:
        values: float [N, S], one score a span.
        spans: int64 [N, S, 2], start and end (exclusive) over actions; −1 where a row has fewer spans.
        length: T.

    Returns:
        float32 [N, T]; 0 where no span covers an action, sums where several do; NaN where one of them has no value.
    """
    n, s = spans.shape[:2]
    if values.shape != (n, s):
        raise SteelyardError(f"step values {values.shape} do not fit spans {spans.shape}; both need [N, S]")
    present = spans[..., 0] >= 0
    rows = np.broadcast_to(np.arange(n)[:, None], (n, s))[present]
    start, end = np.minimum(spans[present], length).T
    known = np.where(np.isnan(values[present]), 0.0, values[present])

    def laid(numbers: Array) -> Array:
        edges = np.zeros((n, length + 1), np.float64)
        np.add.at(edges, (rows, start), numbers)
        np.add.at(edges, (rows, end), -numbers)
        return edges.cumsum(axis=1)[:, :length]

    unknown, covered = laid(np.isnan(values[present]).astype(float)), laid(np.ones(len(rows)))
    return np.where(unknown > 0, np.nan, np.where(covered > 0, laid(known), 0.0)).astype(np.float32)


@dataclass(eq=False)
class Scores:
    """What a reward returns.

    Attributes:
        values: float32 [N]; NaN = could not be judged, never silently 0.
        status: int8 [N] of `Status`; made from the NaNs where it is not given; a NaN is never `SCORED` or `TIE`.
        steps: process scores float32 [N, S], NaN where a row has fewer steps.
        confidence: float32 [N] in [0, 1].
        parts: name to float32 [N], for logs; the combined value stays apart in `values`.
        seconds: name to float64 [N], what each row of a slow reward took.
        notes: text [N], why a row has no value, where the reward itself says it.
    """

    values: Array
    status: Array | None = None
    steps: Array | None = None
    confidence: Array | None = None
    parts: dict[str, Array] = field(default_factory=dict)
    seconds: dict[str, Array] = field(default_factory=dict)
    notes: Array | None = None

    def __post_init__(self) -> None:
        self.values = np.asarray(self.values, np.float32)
        if self.values.ndim != 1:
            raise SteelyardError(f"scores: values have shape {self.values.shape}; one number a row [N] is needed")
        if self.status is None:
            self.status = np.where(np.isnan(self.values), Status.FAILED, Status.SCORED).astype(np.int8)
        self.status = np.asarray(self.status, np.int8)
        n = len(self.values)
        fields = {name: getattr(self, name) for name in ("status", "steps", "confidence", "notes")} | self.parts
        fields |= {f"seconds of {name}": array for name, array in self.seconds.items()}
        for name, array in fields.items():
            if array is not None and len(array) != n:
                raise SteelyardError(f"scores: {name!r} has {len(array)} rows, values has {n}; they must be equal")
        scored = np.isin(self.status, (Status.SCORED, Status.TIE))
        self.status = np.where(np.isnan(self.values) & scored, Status.FAILED, self.status).astype(np.int8)

    def __len__(self) -> int:
        return len(self.values)

    def take(self, rows: Array) -> Scores:
        """The given rows, every field moved together."""
        some = lambda array: None if array is None else array[rows]  # noqa: E731
        return Scores(
            self.values[rows],
            some(self.status),
            some(self.steps),
            some(self.confidence),
            {name: part[rows] for name, part in self.parts.items()},
            {name: part[rows] for name, part in self.seconds.items()},
            some(self.notes),
        )


@dataclass(eq=False)
class Advantages:
    """How much better a row did than expected.

    Attributes:
        values: float32 [N] or [N, T]; finite wherever `weight` is positive.
        weight: float32 [N]; 0 = left out (does not apply), which is not an advantage of 0.
        others: further advantages of the same rows, float32 [N] or [N, T] each. The objective clips every one on its
            own and adds the losses up, L(values) + Σ_k L(others_k): so two signals can pull one row different ways.
    """

    values: Array
    weight: Array | None = None
    others: tuple[Array, ...] = ()

    def __post_init__(self) -> None:
        self.values = np.asarray(self.values, np.float32)
        n = len(self.values)
        self.weight = np.ones(n, np.float32) if self.weight is None else np.asarray(self.weight, np.float32)
        self.others = tuple(np.asarray(values, np.float32) for values in self.others)
        for values in (self.values, *self.others):
            if values.ndim not in (1, 2) or self.weight.shape != (n,) or len(values) != n:
                shapes = f"values {values.shape} and weight {self.weight.shape}"
                raise SteelyardError(f"advantages: {shapes} must be [N] or [N, T], and [N]")

    @property
    def weights(self) -> Array:
        """float32 [N]."""
        assert self.weight is not None
        return self.weight

    @property
    def terms(self) -> tuple[Array, ...]:
        """`values` and `others`."""
        return self.values, *self.others


@dataclass(eq=False)
class Pairs:
    """Preference data, row by row.

    Attributes:
        samples: the prompts [P].
        chosen, rejected: the two answers [P].
        margin: float32 [P], how much better; probability: float32 [P] that the label is right.
        grades: float32 [P, 2], graded scores of both; dimensions: name to float32 [P] of +1, 0, −1.
        ids: str [P], for state that follows a pair (label tables).
    """

    samples: Sequence[Sample]
    chosen: Sequence[Any]
    rejected: Sequence[Any]
    margin: Array | None = None
    probability: Array | None = None
    grades: Array | None = None
    dimensions: dict[str, Array] = field(default_factory=dict)
    ids: Sequence[str] | None = None

    def __post_init__(self) -> None:
        n = len(self.samples)
        fields = {"chosen": self.chosen, "rejected": self.rejected, "margin": self.margin, "ids": self.ids}
        fields |= {"probability": self.probability, "grades": self.grades, **self.dimensions}
        for name, column in fields.items():
            if column is not None and len(column) != n:
                raise SteelyardError(f"pairs: {name} has {len(column)} rows where samples has {n}; they must be equal")

    def __len__(self) -> int:
        return len(self.samples)

    def take(self, rows: Array | Sequence[int]) -> Pairs:
        """The given rows, every field moved together."""
        index = np.asarray(rows, np.int64)

        def picked(column: Array | None) -> Array | None:
            return None if column is None else np.asarray(column)[index]

        return Pairs(
            [self.samples[i] for i in index],
            [self.chosen[i] for i in index],
            [self.rejected[i] for i in index],
            picked(self.margin),
            picked(self.probability),
            picked(self.grades),
            {name: column[index] for name, column in self.dimensions.items()},
            None if self.ids is None else [self.ids[i] for i in index],
        )


@runtime_checkable
class Perturbation(Protocol):
    """A seeded change of a sample: a pure function, the same pixels or words at every call."""

    @property
    def keeps_answer(self) -> bool:
        """Whether the right answer survives the change."""
        ...

    def __call__(self, sample: Sample) -> Sample:
        """The changed sample."""
        ...

    def spec(self) -> dict[str, Any]:
        """Plain JSON from which the same perturbation is made again; never pixels."""
        ...


class PerturbationSampler(Protocol):
    """A distribution over perturbations."""

    def draw(self, generator: np.random.Generator) -> Perturbation:
        """One perturbation."""
        ...

    def restore(self, spec: Mapping[str, Any]) -> Perturbation:
        """The perturbation that gave this spec."""
        ...


@runtime_checkable
class Reward(Protocol):
    """Rollouts in, scores out."""

    @property
    def name(self) -> str:
        """How logs and errors call it."""
        ...

    def __call__(self, rollouts: Rollouts, /) -> Scores:
        """One score a row."""
        ...


@dataclass(frozen=True)
class Verdict:
    """One answer of a judge: a value, or none with the reason in `status`."""

    value: float
    status: Status = Status.SCORED
    text: str = ""


@runtime_checkable
class Judge(Protocol):
    """Prompts in, texts out: an endpoint, a local model or a rule."""

    def ask(self, prompts: Sequence[Prompt]) -> list[str | None]:
        """One answer a prompt; None where none came."""
        ...


class Policy(Protocol):
    """Anything that acts and can say how likely its acts were.

    `module` is the torch module whose trainable parameters the trainer updates and saves.
    """

    @property
    def module(self) -> Any:
        """A `torch.nn.Module`."""
        ...

    def sample(self, samples: Sequence[Sample], n: int, *, generator: Streams, greedy: bool = False) -> Rollouts:
        """n attempts for each sample, those of one beside each other; `group` = its index in `samples`."""
        ...

    def logprobs(self, rollouts: Rollouts, *, copy: str | None = None) -> Any:
        """Tensor [N, T] aligned with `rollouts.actions`; a named copy's carry no gradients."""
        ...

    def snapshot(self, name: str) -> None:
        """Keep a frozen copy of the policy as it is now under a name (reference, previous, …)."""
        ...


Direction: TypeAlias = Literal["up", "down"]
"""Which way a metric should move."""
