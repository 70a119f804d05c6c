"""What another trainer does not hand over: counted, but refused to whoever reads it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np

from steelyard.types import Actions, Array, SteelyardError


class Unseen(Sequence[Any]):
    """N values that were not handed over.

    Args:
        count: N.
        why: the sentence that a reader is told.
    """

    def __init__(self, count: int, why: str) -> None:
        self.count, self.why = count, why

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: Any) -> NoReturn:
        raise SteelyardError(self.why)


class MaskedActions(Actions):
    """Actions of which only the mask is known.

    Args:
        mask: bool [N, T].
        why: the sentence that a reader of the log-probabilities is told.
    """

    def __init__(self, mask: Array, why: str) -> None:
        self.mask, self.data, self.temperature, self.why = np.asarray(mask, bool), {}, 1.0, why

    @property
    def logprobs(self) -> NoReturn:  # type: ignore[override]
        """Refused.

        Raises:
            SteelyardError: always.
        """
        raise SteelyardError(self.why)
