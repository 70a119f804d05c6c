"""What a policy did: actions and rollouts, their groups, and how scores of steps are laid onto actions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from steelyard.types.samples import Array, Sample, SteelyardError

GroupKey: TypeAlias = Sequence[str]
"""What makes a group: `group`, `branch`, or names of columns."""

PER_BRANCH: GroupKey = ("group", "branch")


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
