"""What rewards and judges say of rollouts, and what training makes of it: status, scores, verdicts, advantages."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np

from steelyard.types.samples import Array, SteelyardError


class Status(IntEnum):
    """What became of a row's judgement. Only `SCORED` and `TIE` rows have a finite value, unless it was filled in."""

    SCORED = 0
    UNPARSED = 1
    TIMED_OUT = 2
    TIE = 3
    NOT_APPLICABLE = 4
    FAILED = 5


@dataclass(frozen=True)
class Verdict:
    """One answer of a judge: a value, or none with the reason in `status`."""

    value: float
    status: Status = Status.SCORED
    text: str = ""


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
