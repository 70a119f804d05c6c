"""Preference data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from steelyard.types.samples import Array, Sample, SteelyardError


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
