"""What tables hold: gold answers (missing, one, or several of which any will do), and lists as arrays."""

from __future__ import annotations

import math
from numbers import Number
from typing import Any

import numpy as np

from steelyard.types import Status, SteelyardError, Verdict

NO_GOLD = Verdict(math.nan, Status.NOT_APPLICABLE, "there is no answer to compare with")
"""What a reward says of a row without a gold answer."""


def is_missing(value: Any) -> bool:
    """Whether a table holds nothing in this place (None, NaN): its text, "None" or "nan", is no answer."""
    return value is None or (isinstance(value, Number) and value != value)


def listed(value: Any) -> Any:
    """A list where a table holds it as an array, as pandas reads Parquet; anything else as it is."""
    return value.tolist() if isinstance(value, np.ndarray) else value


def gold_texts(answer: Any) -> list[str]:
    """The gold answers of a row as texts: one, each of a list, none where it is missing.

    Raises:
        SteelyardError: for what is no text, number or list of them.
    """
    answer = listed(answer)
    given = list(answer) if isinstance(answer, (list, tuple)) else [answer]
    present = [gold for gold in given if not is_missing(gold)]
    if not all(isinstance(gold, (str, Number)) for gold in present):
        raise SteelyardError(f"the answer is {answer!r:.60}; it must be a text, a number or a list of them")
    return [str(gold) for gold in present]
