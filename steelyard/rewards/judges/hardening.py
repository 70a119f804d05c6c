"""Training data that teaches a judge to say NO to beginnings without an answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from steelyard.rewards.judges.guards import MASTER_KEYS, first_sentence
from steelyard.rewards.judges.templates import verify_prompt
from steelyard.types import Sample, SteelyardError


@dataclass(frozen=True)
class Labelled:
    """One row of a judge's training data: question, reference, response, and whether the response is right."""

    question: str
    reference: str
    response: str
    label: bool

    def sample(self, name: str) -> Sample:
        """The row as a judge's prompt with its verdict as the solution, for supervised training."""
        prompt = verify_prompt(self.question, self.reference, self.response)
        return Sample(name, prompt, columns={"solution": "YES" if self.label else "NO"})


@dataclass(frozen=True)
class Augmented:
    """Rows with truncated responses behind them.

    Attributes:
        rows: the originals, untouched and in order, then the truncated ones, all labelled NO.
        dropped: truncated responses that were empty or an evaluation key, and were left out.
    """

    rows: tuple[Labelled, ...]
    dropped: int

    def share(self, originals: int) -> float:
        """The truncated rows' share of all."""
        return (len(self.rows) - originals) / len(self.rows) if self.rows else 0.0


def augmented(
    rows: Sequence[Labelled], written: Sequence[tuple[int, str]], *, keys: Sequence[str] = MASTER_KEYS
) -> Augmented:
    """Add the first sentence of reasoned responses as answers that are wrong.

    Args:
        rows: the judge's training data.
        written: index of a row, and a response with its reasoning to that row's question (the paper: 20,000 of
            160,000 rows, written by a strong model). Only the first sentence is kept.
        keys: what the judge is going to be measured with. A truncated response that is one of them is dropped, so
            that the measure is not of what was trained on.

    Raises:
        SteelyardError: for an index that no row has.

    Source: sheet 47, "Defence".
    """
    added, dropped = [], 0
    for index, response in written:
        if not 0 <= index < len(rows):
            raise SteelyardError(f"a response was written to row {index}; there are {len(rows)}")
        opening = first_sentence(response).strip()
        if not opening or _is_key(opening, keys):
            dropped += 1
            continue
        added.append(Labelled(rows[index].question, rows[index].reference, opening, False))
    return Augmented((*rows, *added), dropped)


def check_disjoint(rows: Sequence[Labelled], keys: Sequence[str] = MASTER_KEYS) -> None:
    """Refuse training data that holds an evaluation key as a response.

    Raises:
        SteelyardError: naming the first such row.
    """
    for number, row in enumerate(rows):
        if _is_key(row.response, keys):
            raise SteelyardError(f"row {number} of the training data is the evaluation key {row.response!r}; drop it")


def _is_key(response: str, keys: Sequence[str]) -> bool:
    return response in keys or response.strip() in {key.strip() for key in keys}
