"""What a probe is and what it sees: the case (reward, rows, scores, labels), findings, figures."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from functools import cached_property
from typing import Any, Protocol, TypeAlias

import numpy as np

from steelyard.audits.intervals import Estimate
from steelyard.audits.known import stated_answers
from steelyard.rewards.judges.templates import prompt_text
from steelyard.types import Array, Rollouts, Scores, SteelyardError

MOVED = 0.1
"""A score has moved when it moved by more than this share of the scale, the spread of the scores on the data."""

EXAMPLES = 3
"""How many rows are shown with a finding."""

Rewarding: TypeAlias = Callable[[Rollouts], Scores]


class Severity(IntEnum):
    """How much a finding weighs: a note is told, a warning wants a look, a critical one says do not train."""

    NOTE = 0
    WARNING = 1
    CRITICAL = 2


@dataclass(frozen=True)
class Example:
    """One row that shows a finding: its number and id, the text before and after, both scores, what was asked."""

    row: int
    id: str
    before: str
    after: str | None = None
    score: float | None = None
    score_after: float | None = None
    prompt: str = ""


@dataclass(frozen=True)
class Finding:
    """Something that is wrong with a reward.

    Attributes:
        probe: which probe found it; name: what it found, unique in an audit; severity: how much it weighs.
        says: what was measured, one sentence; means: what it would do to training; advice: what to do.
        figure: the number behind it with its interval.
        examples: rows that show it.
    """

    probe: str
    name: str
    severity: Severity
    says: str
    means: str
    advice: str
    figure: Estimate | None = None
    examples: tuple[Example, ...] = ()


@dataclass(frozen=True)
class Figure:
    """A number that a probe measured, whether or not it is a finding."""

    name: str
    estimate: Estimate
    unit: str = "share"


@dataclass
class Outcome:
    """What a probe brings back: figures, findings, and curves (name to x, y, low, high) for the page."""

    figures: list[Figure] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    curves: dict[str, dict[str, list[float]]] = field(default_factory=dict)


class DoesNotFit(Exception):
    """A probe cannot say anything about this reward on these rows; the message is the reason, told in the report."""


class Probe(Protocol):
    """One question to a reward. A function with a one-sentence docstring is one; its name is the probe's name."""

    __name__: str

    def __call__(self, case: Case, /) -> Outcome:
        """Ask.

        Raises:
            DoesNotFit: where the question makes no sense for this data, or the data cannot answer it.
        """
        ...


@dataclass(eq=False)
class Case:
    """What every probe sees.

    Attributes:
        name: of the reward.
        ask: scores of any rollouts; rows that the reward could not judge are NaN, it never raises.
        complaint: what the reward itself stops with on some rollouts; empty where it does not.
        rollouts: all rows [N]; scores: of them; again: of the same rows, asked a second time.
        errors: what the reward said about rows that it failed, row to words.
        seconds: what scoring all rows took, once.
        labels: float [N], 1 good, 0 bad, NaN unknown; None without labels.
        pairs: int [P, 2], rows (better, worse) of one question; None without any.
        gold: float [N], another judgement that is trusted; None without one.
        sample: int [M], sorted, the rows that are perturbed and attacked.
        seed: of everything that is drawn.
    """

    name: str
    ask: Rewarding
    complaint: Callable[[Rollouts], str]
    rollouts: Rollouts
    scores: Scores
    again: Scores
    errors: dict[int, str]
    seconds: float
    labels: Array | None
    pairs: Array | None
    gold: Array | None
    sample: Array
    seed: int

    def __post_init__(self) -> None:
        self.values: Array = self.scores.values.astype(np.float64)
        self.low, self.high = _ends(self.values)
        self.asked = 2 * len(self.rollouts)
        """Rows that were put to the reward so far."""
        self.ask = self._counted(self.ask)
        self.sample_scores = self.ask(self.rollouts.take(self.sample)).values.astype(np.float64)
        """Of the sample on its own, which is what changed rows are compared with."""
        self.rowwise = self._is_rowwise()
        """Whether a row's score is the same without the other rows."""

    def _counted(self, ask: Rewarding) -> Rewarding:
        def counting(rollouts: Rollouts) -> Scores:
            self.asked += len(rollouts)
            return ask(rollouts)

        return counting

    def _is_rowwise(self) -> bool:
        half = np.sort(self.generator("half").permutation(self.sample)[: (len(self.sample) + 1) // 2])
        alone = self.ask(self.rollouts.take(half)).values
        return bool(np.allclose(alone, self.values[half], rtol=1e-4, atol=1e-6, equal_nan=True))

    def generator(self, name: str) -> np.random.Generator:
        """The stream of a probe or a change: the same for the same seed and name, whatever else runs."""
        return np.random.Generator(np.random.Philox([self.seed, zlib.crc32(name.encode())]))

    @property
    def scale(self) -> float:
        """The spread of the scores: from their 1% to their 99% quantile, or from end to end where those are equal."""
        return self.high - self.low

    @property
    def noisy(self) -> bool:
        """Whether asking twice gives different scores in more than 1 row of 100."""
        return bool(np.mean(self.differs(self.scores.values, self.again.values)) > 0.01)

    def differs(self, one: Array, other: Array) -> Array:
        """bool [N]: further apart than float32's rounding explains, or only one of them could be judged."""
        scale = self.scale if np.isfinite(self.scale) else 0.0
        same = np.isclose(one, other, rtol=1e-4, atol=1e-6 * max(scale, 1e-3), equal_nan=True)
        return ~same

    @property
    def good(self) -> Array:
        """bool [N]: labelled good."""
        return np.zeros(len(self.rollouts), bool) if self.labels is None else self.labels == 1

    @property
    def bad(self) -> Array:
        """bool [N]: labelled bad."""
        return np.zeros(len(self.rollouts), bool) if self.labels is None else self.labels == 0

    @cached_property
    def answers(self) -> list[str] | None:
        """The right answers as short texts; None where a row has none."""
        return stated_answers(self.rollouts)

    @property
    def paired(self) -> bool:
        """Whether rows were compared in pairs: then scores and labels mean something within a pair alone."""
        return "pair" in self.rollouts.columns

    @cached_property
    def bars(self) -> Array:
        """float [N]: the score from which on an answer to a row's prompt counts as paid.

        The middle between the ends of the scale; in a pair, the score of the better answer.
        """
        bars = np.full(len(self.values), (self.low + self.high) / 2)
        if self.paired:
            _, index = np.unique(np.asarray(self.rollouts.columns["pair"]), return_inverse=True)
            best = np.full(int(index.max()) + 1, -np.inf)
            preferred = self.good | ~self.bad  # of a pair without a label, both
            known = preferred & np.isfinite(self.values)
            np.maximum.at(best, index[known], self.values[known])
            bars = np.where(np.isfinite(best[index]), best[index], bars)
        return bars

    @property
    def poor(self) -> Array:
        """int [K], sorted: rows of the sample that are not paid."""
        rows: Array = self.sample[self.sample_scores < self.bars[self.sample]]
        return rows

    def paid(self, rows: Array, before: Array, after: Array) -> Array:
        """bool [K]: rows whose new answer is paid; where rows are judged together, better than their old one was."""
        if not self.rowwise:
            return after > before + MOVED * self.scale
        beyond = 1e-6 * self.scale  # on the bar itself stands what is neither good nor bad, as 0 of ±1
        paid: Array = after > self.bars[rows] + beyond
        return paid

    def texts(self) -> list[str]:
        """All completions.

        Raises:
            DoesNotFit: where one of them is no text.
        """
        if not all(isinstance(completion, str) for completion in self.rollouts.completions):
            raise DoesNotFit("completions are not texts")
        return list(self.rollouts.completions)

    def require_scale(self) -> None:
        """Refuse to perturb a reward whose scores are all the same or change by themselves.

        Raises:
            DoesNotFit: with the reason.
        """
        if not np.isfinite(self.scale):
            raise DoesNotFit("no row has a score")
        if self.scale <= 0:
            raise DoesNotFit("the reward gives every row the same score")
        if self.noisy:
            raise DoesNotFit("the reward gives the same rows other scores each time")

    def rescored(self, changed: dict[int, str], columns: dict[int, Any] | None = None) -> tuple[Array, Array, Array]:
        """Rows int [K], their scores [K] and those of the rows with other completions [K].

        Where rows are judged together, only one row of each group is changed, so that the others stand as they were.

        Args:
            changed: row to its new completion; rows must be of the `sample`.
            columns: row to another sample, where the prompt or columns change too.
        """
        rows = np.asarray(sorted(changed), np.int64)
        if not self.rowwise and len(rows):
            rows = np.sort(rows[np.unique(self.rollouts.groups[rows], return_index=True)[1]])
            changed = {row: changed[row] for row in rows.tolist()}
        places = np.searchsorted(self.sample, rows)
        asked = rows if self.rowwise else self.sample
        taken = self.rollouts.take(asked)
        completions, samples = list(taken.completions), list(taken.samples)
        own = dict(taken.columns)
        for place, row in enumerate(asked.tolist()):
            completions[place] = changed.get(row, completions[place])
            if row in changed:
                samples[place] = (columns or {}).get(row, samples[place])
        made = Rollouts(samples, completions, taken.group, taken.branch, own)
        after = self.ask(made).values.astype(np.float64) if len(rows) else np.zeros(0)
        return rows, self.sample_scores[places], after if self.rowwise else after[places]

    def examples(
        self, rows: Sequence[int], changed: dict[int, str] | None = None, after: Any = None
    ) -> tuple[Example, ...]:
        """The first few rows as examples; `after` maps a row to its new score."""
        return tuple(self._example(int(row), changed, after) for row in rows[:EXAMPLES])

    def _example(self, row: int, changed: dict[int, str] | None, after: Any) -> Example:
        known = (self.values[row], None if after is None else after[row])
        scores = [None if value is None or not math.isfinite(value) else float(value) for value in known]
        text = shown(self.rollouts.completions[row])
        new = None if changed is None else shown(changed[row])
        sample = self.rollouts.samples[row]
        return Example(row, sample.id, text, new, scores[0], scores[1], shown(prompt_text(sample.prompt)))


def _ends(values: Array) -> tuple[float, float]:
    known = values[np.isfinite(values)]
    if not len(known):
        return math.nan, math.nan
    low, high = np.quantile(known, (0.01, 0.99))
    return (float(low), float(high)) if high > low else (float(known.min()), float(known.max()))


def shown(value: Any, most: int = 280) -> str:
    """A completion for a report: its beginning and its end, where the answer mostly is."""
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= most else f"{text[: most * 2 // 3]} … {text[-most // 3 :]}"


def check_column(values: Sequence[Any], name: str, rows: int) -> Array:
    """float [N] of a column of numbers, bools or None.

    Raises:
        SteelyardError: for another length, or naming the first row that is none of these.
    """
    if len(values) != rows:
        raise SteelyardError(f"{name} has {len(values)} values for {rows} rows; give one a row")
    found = np.full(rows, np.nan)
    for row, value in enumerate(values):
        if value is None:
            continue
        if not isinstance(value, (bool, int, float, np.number, np.bool_)):
            raise SteelyardError(f"{name} is {value!r:.40} in row {row}; it must be a number, true, false or null")
        found[row] = float(value)
    return found
