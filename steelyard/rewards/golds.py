"""Gold answers as tables hold them: missing, one, or several of which any will do."""

from __future__ import annotations

import math
from typing import Any

from steelyard.types import Status, SteelyardError, Verdict

NO_GOLD = Verdict(math.nan, Status.NOT_APPLICABLE, "there is no answer to compare with")
"""What a reward says of a row without a gold answer."""


def is_missing(value: Any) -> bool:
    """Whether a table holds nothing in this place (None, NaN): its text, "None" or "nan", is no answer."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def gold_texts(answer: Any) -> list[str]:
    """The gold answers of a row as texts: one, each of a list, none where it is missing.

    Raises:
        SteelyardError: for what is no text, number or list of them.
    """
    given = list(answer) if isinstance(answer, (list, tuple)) else [answer]
    present = [gold for gold in given if not is_missing(gold)]
    if not all(isinstance(gold, (str, int, float)) for gold in present):
        raise SteelyardError(f"the answer is {answer!r:.60}; it must be a text, a number or a list of them")
    return [str(gold) for gold in present]
