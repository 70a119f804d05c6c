"""Rewards told from how probable the policy finds a reference answer: no verifier, any question with a reference."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from steelyard.rewards.answers import tagged_in_order
from steelyard.rewards.core import Expression, Memo, joined
from steelyard.types import Array, Rollouts, Sample, Scores, Status, SteelyardError, TextScorer

Average = Callable[[Array, Array], Array]
"""Log-probabilities float [N, T] and a mask bool [N, T] to one number a row [N]; 0 where the mask is empty."""

_OPENED = re.compile(r"<answer>(\s*)")


def mean_probability(logprobs: Array, mask: Array) -> Array:
    """(1/n) Σ p_i: one bad token costs its share and no more. RLPR's choice."""
    return _mean(np.exp(_known(logprobs, mask)), mask)


def mean_logprob(logprobs: Array, mask: Array) -> Array:
    """(1/n) Σ log p_i."""
    return _mean(_known(logprobs, mask), mask)


def total_logprob(logprobs: Array, mask: Array) -> Array:
    """Σ log p_i, the log-probability of the whole: a long text costs more."""
    total: Array = _known(logprobs, mask).sum(axis=1)
    return total


def product_probability(logprobs: Array, mask: Array) -> Array:
    """Π p_i, the probability of the whole: falls with every token."""
    return np.where(mask.any(axis=1), np.exp(_known(logprobs, mask).sum(axis=1)), 0.0)


def geometric_probability(logprobs: Array, mask: Array) -> Array:
    """(Π p_i)^(1/n), the exponential of the mean log-probability."""
    return np.where(mask.any(axis=1), np.exp(mean_logprob(logprobs, mask)), 0.0)


def _known(logprobs: Array, mask: Array) -> Array:
    return np.where(mask, np.asarray(logprobs, np.float64), 0.0)


def _mean(values: Array, mask: Array) -> Array:
    total: Array = np.where(mask, values, 0.0).sum(axis=1)
    return total / np.maximum(mask.sum(axis=1), 1)


class Spliced(NamedTuple):
    """A text and the characters [start, end) in which its reference stands."""

    text: str
    start: int
    end: int


def splice(completion: str, reference: str, *, tags: Sequence[str] = ("think", "answer")) -> Spliced | None:
    """The completion with the reference in its answer block's place, cut behind the block.

    What stands before the block, and the white space that opened the sampled answer, stay (one space if there was
    none); the tag is closed right behind the reference.

    Args:
        completion: the sampled text.
        reference: y*, taken as it is.
        tags: blocks that must stand in the completion once each and in order, the last of them being `answer`; with
            the answer alone, anything may stand before it.

    Returns:
        None if the completion's structure does not allow it.

    Source: sheet 40 (RLPR, arXiv 2506.18254), step 1.
    """
    if not tagged_in_order(completion, tags, prefix=tuple(tags) == ("answer",)):
        return None
    opened = _OPENED.search(completion)
    assert opened is not None
    before = completion[: opened.start()] + "<answer>" + (opened[1] or " ")
    return Spliced(f"{before}{reference}</answer>", len(before), len(before) + len(reference))


class AsksPolicy(Expression):
    """A leaf that asks a policy: the one it was given, or the one that the trainer trains.

    Args:
        name: how logs call it.
        policy: who is asked; None waits for `use_policy`.
        asked: the method that the policy must have; about: what it says, for errors.
    """

    def __init__(self, name: str, policy: Any, *, asked: str, about: str) -> None:
        self.name, self.asked, self.about = name, asked, about
        self.policy, self._fixed = policy, policy is not None

    def use_policy(self, policy: Any) -> None:
        """Ask this policy from now on, unless one was given when the reward was made."""
        if not self._fixed:
            self.policy = policy

    @property
    def asks_policy(self) -> bool:
        """Unless it was given one of its own."""
        return not self._fixed

    def _answering(self) -> Any:
        """The policy.

        Raises:
            SteelyardError: where there is none, or it cannot say what it is asked.
        """
        if self.policy is None:
            raise SteelyardError(
                f"reward {self.name!r} asks a policy and has none; the trainer gives it its own, elsewhere give policy="
            )
        if not hasattr(self.policy, self.asked):
            kind = type(self.policy).__name__
            raise SteelyardError(f"reward {self.name!r}: {kind} cannot say {self.about} ({self.asked})")
        return self.policy


class _OfReference(AsksPolicy):
    """A leaf that asks a policy how likely texts are in which a reference stands."""

    def __init__(self, name: str, policy: TextScorer | None, average: Average, column: str) -> None:
        super().__init__(name, policy, asked="score_texts", about="how likely a text is")
        self.average, self.column = average, column

    def _likelihood(self, samples: Sequence[Sample], texts: Sequence[Spliced], copy: str | None = None) -> Array:
        """float64 [n]: the average over the tokens that overlap each text's reference."""
        policy = self._answering()
        spans = np.asarray([(text.start, text.end) for text in texts], np.int64).reshape(-1, 2)
        found = policy.score_texts(samples, [text.text for text in texts], spans=spans, copy=copy)
        return self.average(found.logprobs, found.mask)

    def _references(self, rollouts: Rollouts) -> list[str | None]:
        try:
            column = rollouts.column(self.column)
        except SteelyardError as error:
            raise SteelyardError(f"reward {self.name!r}: {error}") from None
        return [None if reference is None else str(reference) for reference in column]

    def _scores(self, values: Array, references: Sequence[str | None]) -> Scores:
        """Rows without a reference are not applicable."""
        absent = np.asarray([reference is None for reference in references], bool)
        values = np.where(absent, np.nan, values)
        status = np.where(absent, Status.NOT_APPLICABLE, np.where(np.isnan(values), Status.FAILED, Status.SCORED))
        scores = joined(values, [], name=self.name)
        return Scores(scores.values, status, parts={self.name: scores.values})


class ReferenceLikelihood(_OfReference):
    """See `reference_likelihood`."""

    def __init__(self, policy: TextScorer | None, average: Average, column: str, tags: tuple[str, ...]) -> None:
        super().__init__("likelihood", policy, average, column)
        self.tags = tags

    def __repr__(self) -> str:
        given = [_named("average", self.average, mean_probability), _named("column", self.column, "answer")]
        return f"reference_likelihood({', '.join([*filter(None, given), f'tags={self.tags}'])})"

    def _compute(self, rollouts: Rollouts, memo: Memo) -> Scores:
        references = self._references(rollouts)
        pairs = zip(rollouts.completions, references, strict=True)
        texts = [None if y is None else splice(str(c), y, tags=self.tags) for c, y in pairs]
        rows = [row for row, text in enumerate(texts) if text is not None]
        values = np.zeros(len(rollouts))
        if rows:
            values[rows] = self._likelihood([rollouts.samples[row] for row in rows], [t for t in texts if t])
        return self._scores(values, references)


def reference_likelihood(
    *,
    policy: TextScorer | None = None,
    average: Average = mean_probability,
    column: str = "answer",
    tags: Sequence[str] = ("think", "answer"),
) -> ReferenceLikelihood:
    """r = average over i of π(t_i | prompt, the completion's own reasoning, t_<i): how probable the reference then is.

    The completion's answer is replaced by the reference (`splice`) and the policy reads the whole once, without
    gradient; the tokens of the reference are found by their characters. A completion whose structure does not allow
    splicing, or an empty reference, gives 0; a row without a reference (None) is NaN, not applicable.

    Args:
        policy: who is asked; in the trainer, without it, the policy that is being trained, with the weights that
            sampled.
        average: `mean_probability` (the paper's), `product_probability`, `geometric_probability`, `mean_logprob`.
        column: of the references.
        tags: see `splice`.

    Source: sheet 40 (RLPR, arXiv 2506.18254), steps 1 and 2.
    """
    return ReferenceLikelihood(policy, average, column, tuple(tags))


class BaseLikelihood(_OfReference):
    """See `base_likelihood`."""

    def __init__(
        self, policy: TextScorer | None, average: Average, column: str, opening: str, copy: str | None
    ) -> None:
        super().__init__("base_likelihood", policy, average, column)
        self.opening, self.copy = opening, copy
        self._kept: dict[str, dict[str, float]] = {}

    def __repr__(self) -> str:
        given = [_named("average", self.average, mean_probability), _named("column", self.column, "answer")]
        given += [_named("opening", self.opening, ""), _named("copy", self.copy, "reference")]
        return f"base_likelihood({', '.join(filter(None, given))})"

    @property
    def needs_reference(self) -> bool:
        """Whether the trainer must keep the policy as it was when training began."""
        return self.copy == "reference" and not self._fixed

    def state_dict(self) -> dict[str, Any]:
        """What was computed so far, by sample and reference."""
        return {"kept": self._kept}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken."""
        self._kept = {name: dict(values) for name, values in state["kept"].items()}

    def _compute(self, rollouts: Rollouts, memo: Memo) -> Scores:
        references = self._references(rollouts)
        asked = [(s, y) for s, y in zip(rollouts.samples, references, strict=True) if y is not None]
        fresh = {(s.id, y): s for s, y in asked if y not in self._kept.get(s.id, {})}
        if fresh:
            texts = [Spliced(self.opening + y, len(self.opening), len(self.opening) + len(y)) for _, y in fresh]
            values = self._likelihood(list(fresh.values()), texts, self.copy if not self._fixed else None)
            for (name, reference), value in zip(fresh, values, strict=True):
                self._kept.setdefault(name, {})[reference] = float(value)
        pairs = zip(rollouts.samples, references, strict=True)
        return self._scores(np.asarray([np.nan if y is None else self._kept[s.id][y] for s, y in pairs]), references)


def base_likelihood(
    *,
    policy: TextScorer | None = None,
    average: Average = mean_probability,
    column: str = "answer",
    opening: str = "",
    copy: str | None = "reference",
) -> BaseLikelihood:
    """r' = average over i of π(t_i | prompt, t_<i): how probable the reference is without any reasoning.

    What `reference_likelihood` is compared with: `clip(reference_likelihood() - base_likelihood(), 0, 1)`. Computed
    once for every sample and reference, and kept with the run.

    Args:
        policy: who is asked; in the trainer, without it, the policy that is being trained.
        average, column: as in `reference_likelihood`.
        opening: what stands between prompt and reference, as `"<answer> "`.
        copy: `reference` asks the policy as it was when training began (the authors' code; the trainer keeps a copy
            of its weights), None as it is when a sample is first met.

    Source: sheet 40 (RLPR, arXiv 2506.18254), step 3.
    """
    return BaseLikelihood(policy, average, column, opening, copy)


def _named(name: str, value: Any, usual: Any) -> str:
    return "" if value == usual else f"{name}={getattr(value, '__name__', repr(value))}"
