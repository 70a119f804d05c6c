"""Combinations of rewards row by row: the smallest, clipped, base and bonus, hybrid, pessimistic, vector."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from steelyard.rewards.core import Expression, Memo, _check_finite, _free_name, as_reward, joined
from steelyard.types import Array, Rollouts, Scores, Status, SteelyardError

Combine = Callable[[Rollouts, list[Scores]], "Array | Scores"]


class Combination(Expression):
    """Rewards put together by a function of their scores; prints as the call that made it.

    A row is NaN where the function's value is, with the status of the first input that is NaN there.

    Attributes:
        inputs: the rewards that are put together.
        combine: rollouts and one `Scores` an input to values [N], or to `Scores` where it has parts or steps to add.
    """

    def __init__(self, name: str, inputs: Sequence[Expression | float], combine: Combine) -> None:
        self.name, self.inputs, self.combine = name, tuple(map(as_reward, inputs)), combine
        if not self.inputs:
            raise SteelyardError(f"{name} has nothing to combine; give it at least one reward")

    @property
    def operands(self) -> tuple[Expression, ...]:
        """One level down."""
        return self.inputs

    def _compute(self, rollouts: Rollouts, memo: Memo) -> Scores:
        scores = [reward._evaluate(rollouts, memo) for reward in self.inputs]
        result = self.combine(rollouts, scores)
        return result if isinstance(result, Scores) else joined(result, scores, name=self.name)


def call(function: str, rewards: Sequence[Expression | float], **options: Any) -> str:
    """How a combination prints: the call with its rewards, then the options that are not None."""
    given = [f"{name}={_shown(value)}" for name, value in options.items() if value is not None]
    return f"{function}({', '.join([*(repr(as_reward(reward)) for reward in rewards), *given])})"


def _shown(value: Any) -> str:
    if isinstance(value, (tuple, list)):
        return f"({', '.join(map(_shown, value))}{',' if len(value) == 1 else ''})"
    return f"{value:g}" if isinstance(value, float) else repr(value)


def stacked(scores: Sequence[Scores]) -> Array:
    """Values of all inputs, float64 [K, N]."""
    return np.stack([score.values for score in scores]).astype(np.float64)


def with_parts(scores: Scores, parts: Mapping[str, Array]) -> Scores:
    """The same scores with these parts [N] before their own; an own one of the same name gets a number behind it."""
    named = dict(parts)
    for name, part in scores.parts.items():
        named[_free_name(name, part, named)] = part
    return Scores(scores.values, scores.status, scores.steps, scores.confidence, named, scores.seconds)


def minimum(*rewards: Expression | float) -> Expression:
    """min_k r_k, row by row: as good as its worst part. A row that one part could not judge is NaN."""
    return Combination(call("minimum", rewards), rewards, lambda _, scores: stacked(scores).min(axis=0))


def harmonic_mean(*rewards: Expression | float) -> Expression:
    """K / Σ_k 1 / r_k for r_k ≥ 0, row by row; 0 where one of them is 0: good only where all are. NaN stays NaN.

    Raises:
        SteelyardError: at the call, for a reward below 0.

    Source: sheet 51's mean of BLEU and ROUGE-L.
    """

    def combine(_: Rollouts, scores: list[Scores]) -> Array:
        values = stacked(scores)
        if (values < 0).any():
            raise SteelyardError(f"{name} met {np.nanmin(values):g}; every reward in it must be ≥ 0")
        with np.errstate(divide="ignore"):
            return len(values) / (1 / values).sum(axis=0)

    name = call("harmonic_mean", rewards)
    return Combination(name, rewards, combine)


def mean_applicable(*rewards: Expression | float) -> Expression:
    """The mean of those rewards that apply to a row: Σ_{k applies} r_k / #{k applies}.

    A reward does not apply where its status is `NOT_APPLICABLE`; a row to which none applies is not applicable itself.
    A row that a reward failed to judge is NaN.

    Source: sheet 45, R = (R_L + R_C) / 2, where an instruction may ask for no length or have no checklist.
    """

    def combine(_: Rollouts, scores: list[Scores]) -> Scores:
        applies = np.stack([score.status != Status.NOT_APPLICABLE for score in scores])
        values, count = np.where(applies, stacked(scores), 0.0), applies.sum(axis=0)
        mean = np.where(count > 0, values.sum(axis=0) / np.maximum(count, 1), np.nan)
        counted = [  # what does not apply to a row explains nothing, unless nothing applies
            replace(score, values=np.where(count > 0, part, np.nan)) for score, part in zip(scores, values, strict=True)
        ]
        return joined(mean, counted, name=name)

    name = call("mean_applicable", rewards)
    return Combination(name, rewards, combine)


def geometric_mean(*rewards: Expression | float) -> Expression:
    """(∏_k r_k)^{1/K} for r_k ≥ 0, row by row; 0 where one of them is 0: good only where all are. NaN stays NaN.

    Raises:
        SteelyardError: at the call, for a reward below 0.

    Source: sheet 15 (PaCo-RL): the square root of consistency times prompt following.
    """

    def combine(_: Rollouts, scores: list[Scores]) -> Array:
        values = stacked(scores)
        if (values < 0).any():
            raise SteelyardError(f"{name} met {np.nanmin(values):g}; every reward in it must be ≥ 0")
        with np.errstate(divide="ignore"):
            return np.exp(np.log(values).mean(axis=0))

    name = call("geometric_mean", rewards)
    return Combination(name, rewards, combine)


def clip(reward: Expression | float, low: float, high: float) -> Expression:
    """min(max(r, low), high); NaN stays NaN.

    Raises:
        SteelyardError: if `low` is above `high` or one of them is not finite.
    """
    if _check_finite(low, "clip's low end") > _check_finite(high, "clip's high end"):
        raise SteelyardError(f"clip to [{low:g}, {high:g}] leaves nothing; the low end must not be above the high end")
    name = f"clip({as_reward(reward)!r}, {low:g}, {high:g})"
    return Combination(name, [reward], lambda _, scores: stacked(scores)[0].clip(low, high))


def rescaled(reward: Expression | float, low: float, high: float) -> Expression:
    """(r − low) / (high − low), not clipped: marks of 1 to 5 become 0 to 1 with `low=1, high=5`.

    Raises:
        SteelyardError: if `low` is not below `high` or one of them is not finite.
    """
    if _check_finite(low, "rescaled's low end") >= _check_finite(high, "rescaled's high end"):
        raise SteelyardError(f"rescaled from [{low:g}, {high:g}] has no width; the low end must be below the high end")
    name = f"rescaled({as_reward(reward)!r}, {low:g}, {high:g})"
    return Combination(name, [reward], lambda _, scores: (stacked(scores)[0] - low) / (high - low))


def base_and_bonus(
    base: Expression | float,
    *bonuses: Expression | float,
    constant: float = 0.6,
    weights: Sequence[float] | None = None,
) -> Expression:
    """R = b·(c + Σ_k w_k q_k) / (c + Σ_k w_k): no bonus q pays where the base b is 0.

    All inputs are clipped to [0, 1] first, so that R is in [0, 1], never falls when an input rises, is 0 iff b is
    (for c > 0), and for one b lies between c·b / (c + Σ w) and b. With the defaults and one bonus this is CME
    (execution, consistency); QMA is `base_and_bonus(instruction, fill(quality, 1.0), constant=0.4)`, where a missing
    quality leaves the base as it is. A row that an input could not judge is NaN.

    Args:
        base: what must be there, in [0, 1].
        *bonuses: what is worth something only then, in [0, 1].
        constant: c ≥ 0, the share of the base alone.
        weights: w_k ≥ 0, one a bonus; by default they share 1 − c evenly.

    Raises:
        SteelyardError: for a wrong number of weights, or a constant or weights that are negative or all 0.

    Source: sheet 31 (FIRM, arXiv 2603.12247).
    """
    share = (1 - constant) / max(len(bonuses), 1)
    shares = [share] * len(bonuses) if weights is None else [float(weight) for weight in weights]
    if not bonuses or len(shares) != len(bonuses):
        raise SteelyardError(f"base_and_bonus has {len(shares)} weights for {len(bonuses)} bonuses; give one each")
    numbers = [_check_finite(number, "a weight of base_and_bonus") for number in (constant, *shares)]
    if min(numbers) < 0 or sum(numbers) == 0:
        raise SteelyardError(f"base_and_bonus weighs {numbers}; the constant and weights must be ≥ 0 and not all 0")

    def combine(_: Rollouts, scores: list[Scores]) -> Array:
        values = stacked(scores).clip(0.0, 1.0)
        return values[0] * (constant + np.asarray(shares) @ values[1:]) / sum(numbers)

    options = {"constant": float(constant), "weights": None if weights is None else shares}
    return Combination(call("base_and_bonus", [base, *bonuses], **options), [base, *bonuses], combine)


def hybrid(
    first: Expression | float, second: Expression | float, *, by: Expression | None = None, above: float = 0.5
) -> Expression:
    """The first reward where it can be relied on, the second elsewhere: r = r_1 if c > above, else r_2.

    c is the value of `by`, or without it the confidence of the first reward, which is 1 where it gives none and 0
    where it says NOT_APPLICABLE (a rule that returns None on a prompt without a checkable answer). A row that the
    first reward failed or could not parse stays NaN: otherwise a completion could choose the weaker judge by breaking
    the stronger one's parser. A row needs no verdict of the reward that is not asked. The part `hybrid/first` is 1
    where the first was asked.

    Source: sheet 23 (HARMO, arXiv 2510.05283), with `by` a reward that reads whether the answer is checkable.
    """
    _check_finite(above, "the threshold of hybrid")
    inputs = [first, second] if by is None else [first, second, by]
    name = call("hybrid", [first, second], by=by, above=float(above))

    def combine(_: Rollouts, scores: list[Scores]) -> Scores:
        trust = scores[2].values if by is not None else _confidence(scores[0])
        asked = trust > above
        values, status = (
            np.where(asked, *(_field(score, what) for score in scores[:2])) for what in ("values", "status")
        )
        chosen = Scores(np.where(np.isnan(trust), np.nan, values), np.where(np.isnan(trust), Status.FAILED, status))
        result = joined(chosen.values, [*scores[2:], chosen, *scores[:2]], name=name)
        if result.confidence is not None:
            result.confidence = np.where(asked, *map(_said, scores[:2]))
        return with_parts(result, {"hybrid/first": np.where(np.isnan(trust), np.nan, asked).astype(np.float32)})

    return Combination(name, inputs, combine)


def _field(scores: Scores, name: str) -> Array:
    array: Array = getattr(scores, name)
    return array


def _said(scores: Scores) -> Array:
    """float64 [N]: how sure a reward says that it is, 1 where it does not."""
    return np.ones(len(scores)) if scores.confidence is None else np.asarray(scores.confidence, np.float64)


def _confidence(scores: Scores) -> Array:
    """[N]: 0 where the reward does not apply, else what it says, infinite where it gave no verdict to be sure of."""
    said = np.where(np.isnan(scores.values), np.inf, _said(scores))
    return np.where(_field(scores, "status") == Status.NOT_APPLICABLE, -np.inf, said)


def pessimistic(*members: Expression | float, deviations: float = 1.0) -> Expression:
    """mean_k r_k − λ·std_k r_k over an ensemble, std in the population form: doubt costs.

    `minimum(*members)` is its harder sister. A row that one member could not judge is NaN. The part `spread` is the
    standard deviation, which tells where the ensemble disagrees.

    Args:
        *members: rewards of one scale.
        deviations: λ ≥ 0.

    Source: sheet 44, T9.
    """
    if _check_finite(deviations, "pessimistic's deviations") < 0:
        raise SteelyardError(f"pessimistic takes {deviations:g} deviations off the mean; the number must be ≥ 0")
    name = call("pessimistic", members, deviations=float(deviations))

    def combine(_: Rollouts, scores: list[Scores]) -> Scores:
        values = stacked(scores)
        spread = values.std(axis=0)
        result = joined(values.mean(axis=0) - deviations * spread, scores, name=name)
        return with_parts(result, {"spread": spread.astype(np.float32)})

    return Combination(name, members, combine)


class Vector(Combination):
    """Several objectives side by side. See `vector`."""

    def __init__(self, rewards: Mapping[str, Expression | float], weights: Mapping[str, float] | None) -> None:
        self.names = tuple(rewards)
        unknown = sorted(set(weights or {}) - set(rewards))
        if unknown:
            raise SteelyardError(f"vector has a weight for {unknown[0]!r}, which is none of {list(rewards)}")
        self.weights = {
            name: _check_finite(float((weights or {}).get(name, 1.0)), f"the weight of {name!r}") for name in rewards
        }
        shown = [f"{name}={as_reward(reward)!r}" for name, reward in rewards.items()]
        shown += [] if weights is None else [f"weights={dict(weights)!r}"]
        super().__init__(f"vector({', '.join(shown)})", list(rewards.values()), self._side_by_side)

    def _side_by_side(self, _: Rollouts, scores: list[Scores]) -> Scores:
        total = np.asarray(list(self.weights.values())) @ stacked(scores)
        parts = {name: score.values for name, score in zip(self.names, scores, strict=True)}
        return with_parts(joined(total, scores, name=self.name), parts)

    def matrix(self, scores: Scores) -> Array:
        """float32 [N, K]: the objectives in their order, from scores that this reward gave."""
        return np.stack([scores.parts[name] for name in self.names], axis=1)


def vector(*, weights: Mapping[str, float] | None = None, **rewards: Expression | float) -> Vector:
    """Objectives kept by name in `parts`, unweighted; the value is Σ_k w_k r_k, with w = 1 where none is given.

    A row that one objective could not judge has no total (NaN) and keeps its other objectives. `.matrix(scores)` lays
    them side by side, float32 [N, K].

    Raises:
        SteelyardError: for no objective, or a weight without one.
    """
    return Vector(rewards, weights)


def reading(reward: Expression | float, **columns: str) -> Expression:
    """The same reward reading other columns: `reading(bleu, references="gold")` takes `references` from `gold`.

    Raises:
        SteelyardError: for no column, and at the call for one that rows lack.
    """
    if not columns:
        raise SteelyardError(f"reading({as_reward(reward)!r}) renames nothing; say which column is read, as a='b'")
    return Reading(as_reward(reward), columns)


class Reading(Expression):
    """See `reading`."""

    def __init__(self, reward: Expression, columns: Mapping[str, str]) -> None:
        self.reward, self.columns = reward, dict(columns)
        self.name = call("reading", [reward], **self.columns)

    @property
    def operands(self) -> tuple[Expression, ...]:
        """One level down."""
        return (self.reward,)

    def _compute(self, rollouts: Rollouts, memo: Memo) -> Scores:
        read = {name: rollouts.column(source) for name, source in self.columns.items()}
        return self.reward(replace(rollouts, columns={**rollouts.columns, **read}))
