"""The reward algebra's core: what a reward is, the `@reward` decorator, sums, products, gates and how they print."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, get_args, overload

import numpy as np

from steelyard.rewards.chat import as_texts
from steelyard.rewards.rows import Outcome, Run, judge_rows
from steelyard.types import Array, Rollouts, Sample, Scores, Status, SteelyardError

OnError = Literal["raise", "nan"]
Memo = dict[int, Scores]


class Expression:
    """A reward that can be added, multiplied and gated; every combination is one again and prints as it was written.

    A part that stands twice in an expression is computed once a call.

    Raises:
        SteelyardError: for an operand that is no reward and no finite number, and at the call for a value that a
            float32 cannot hold.
    """

    name: str
    __array_ufunc__ = None  # numpy's numbers leave arithmetic to us, its arrays are refused

    def __call__(self, rollouts: Rollouts, /) -> Scores:
        """Scores [N]; `parts` holds every named leaf, unweighted."""
        return self._evaluate(rollouts, {})

    @property
    def operands(self) -> tuple[Expression, ...]:
        """The rewards that this one is made of, one level down; none for a leaf."""
        return ()

    def at_step(self, step: int) -> None:
        """Tell every part whose weight is scheduled which step of training it is, counted from 0."""
        for part in self.operands:
            part.at_step(step)

    def use_policy(self, policy: Any) -> None:
        """Give every part that asks the policy the one that is being trained, as it is now."""
        for part in self.operands:
            part.use_policy(policy)

    @property
    def asks_policy(self) -> bool:
        """Whether some part asks the policy that is being trained."""
        return any(part.asks_policy for part in self.operands)

    @property
    def needs_reference(self) -> bool:
        """Whether some part asks the policy as it was when training began, its copy `reference`."""
        return any(part.needs_reference for part in self.operands)

    def state_dict(self) -> dict[str, Any]:
        """What the parts keep from step to step, by their place in the expression; plain JSON."""
        states = {str(place): part.state_dict() for place, part in enumerate(self.operands)}
        return {place: state for place, state in states.items() if state}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken."""
        for place, part in state.items():
            self.operands[int(place)].load_state_dict(part)

    def _evaluate(self, rollouts: Rollouts, memo: Memo) -> Scores:
        if id(self) not in memo:
            memo[id(self)] = self._compute(rollouts, memo)
        return memo[id(self)]

    def _compute(self, rollouts: Rollouts, memo: Memo) -> Scores:
        raise TypeError(f"{type(self).__name__} does not say how it is computed")

    def __add__(self, other: Expression | float) -> Expression:
        return Sum([*_terms(self), *_terms(other)])

    def __radd__(self, other: float) -> Expression:
        return self if isinstance(other, int) and other == 0 else Sum([*_terms(other), *_terms(self)])

    def __sub__(self, other: Expression | float) -> Expression:
        return Sum([*_terms(self), *((-weight, term) for weight, term in _terms(other))])

    def __rsub__(self, other: float) -> Expression:
        return Sum([*_terms(other), *((-weight, term) for weight, term in _terms(self))])

    def __neg__(self) -> Expression:
        return -1.0 * self

    def __mul__(self, other: Expression | float) -> Expression:
        if isinstance(other, Expression):
            return Product(self, other)
        factor = _number(other)
        return Sum([(factor * weight, term) for weight, term in _terms(self)])

    __rmul__ = __mul__

    def __truediv__(self, other: float) -> Expression:
        if isinstance(other, Expression) or _number(other) == 0:
            raise SteelyardError(f"{self!r} cannot be divided by {other!r}; divide by a number that is not 0")
        return self * (1.0 / _number(other))

    def __repr__(self) -> str:
        return self.name


def _terms(value: Expression | float) -> list[tuple[float, Expression]]:
    if isinstance(value, Sum):
        return value.terms
    return [(1.0, as_reward(value))]


def as_reward(value: Any) -> Expression:
    """The reward itself, or the constant that a number is.

    Raises:
        SteelyardError: for anything else.
    """
    return value if isinstance(value, Expression) else Constant(_number(value))


def _number(value: Any) -> float:
    if not isinstance(value, (int, float, np.number, np.bool_)) or isinstance(value, np.complexfloating):
        what = f"{type(value).__name__} {value!r:.60}"
        raise SteelyardError(f"{what} is no reward and no number; decorate a function with @reward to use it as one")
    return float(value)


def _check_finite(value: float, what: str) -> float:
    if not math.isfinite(value):
        raise SteelyardError(f"{what} is {value}; it must be a finite number")
    return value


class Constant(Expression):
    """The same number for every row."""

    def __init__(self, value: float) -> None:
        self.value = _check_finite(value, "a constant in a reward")
        self.name = f"{value:g}"

    def _compute(self, rollouts: Rollouts, memo: Memo) -> Scores:
        return Scores(np.full(len(rollouts), self.value, np.float32))


class Sum(Expression):
    """Σ_k w_k r_k. A row that one part could not judge is NaN as a whole and takes that part's status."""

    def __init__(self, terms: Sequence[tuple[float, Expression]]) -> None:
        self.terms = [(_check_finite(weight, f"the weight of {term!r}"), term) for weight, term in terms]

    @property
    def name(self) -> str:  # type: ignore[override]
        """The sum as it was written."""
        return repr(self)

    @property
    def operands(self) -> tuple[Expression, ...]:
        """One level down."""
        return tuple(term for _, term in self.terms)

    def _compute(self, rollouts: Rollouts, memo: Memo) -> Scores:
        scores = [term._evaluate(rollouts, memo) for _, term in self.terms]
        values = np.zeros(len(rollouts), np.float64)
        for (weight, _), score in zip(self.terms, scores, strict=True):
            values += np.multiply(weight, score.values, dtype=np.float64)
        return joined(values, scores, name=self.name)

    def __repr__(self) -> str:
        text = ""
        for weight, term in self.terms:
            sign = " - " if weight < 0 else " + "
            factor = "" if abs(weight) == 1 else f"{abs(weight):g} * "
            text += (sign if text else sign.strip(" +")) + factor + repr(term)
        return text


class Product(Expression):
    """r_1 · r_2, row by row."""

    def __init__(self, left: Expression, right: Expression) -> None:
        self.left, self.right = left, right
        self.name = " * ".join(f"({side!r})" if isinstance(side, Sum) else repr(side) for side in (left, right))

    @property
    def operands(self) -> tuple[Expression, ...]:
        """One level down."""
        return self.left, self.right

    def _compute(self, rollouts: Rollouts, memo: Memo) -> Scores:
        left, right = self.left._evaluate(rollouts, memo), self.right._evaluate(rollouts, memo)
        return joined(left.values.astype(np.float64) * right.values, [left, right], name=self.name)


class Gate(Expression):
    """The reward where the gate is open, another number where it is shut. See `gate`."""

    def __init__(self, reward: Expression, by: Expression, above: float, otherwise: float) -> None:
        self.reward, self.by = reward, by
        self.above = _check_finite(above, "the threshold of a gate")
        self.otherwise = _check_finite(otherwise, "the number behind a shut gate")
        self.name = f"gate({reward!r}, by={by!r}, above={above:g}" + (
            f", otherwise={otherwise:g})" if otherwise else ")"
        )

    @property
    def operands(self) -> tuple[Expression, ...]:
        """One level down."""
        return self.reward, self.by

    def _compute(self, rollouts: Rollouts, memo: Memo) -> Scores:
        scores, by = self.reward._evaluate(rollouts, memo), self.by._evaluate(rollouts, memo)
        opened = by.values > self.above
        values = np.where(np.isnan(by.values), np.nan, np.where(opened, scores.values, self.otherwise))
        return joined(values, [by, scores], name=self.name)


def gate(reward: Expression, *, by: Expression, above: float = 0.0, otherwise: float = 0.0) -> Expression:
    """r where by > above, else `otherwise`.

    A row whose gate could not be judged is NaN; a row whose gate is shut needs no verdict of `reward`.

    Raises:
        SteelyardError: for a threshold or another value that is not finite.
    """
    _check_finite(above, "the threshold of gate")
    _check_finite(otherwise, "what gate gives otherwise")
    return Gate(as_reward(reward), as_reward(by), above, otherwise)


class Fill(Expression):
    """Another number where a reward could not judge. See `fill`."""

    def __init__(self, reward: Expression, value: float) -> None:
        self.reward, self.value = reward, _check_finite(value, "the number that fill puts in")
        self.name = f"fill({reward!r}, {value:g})"

    @property
    def operands(self) -> tuple[Expression, ...]:
        """One level down."""
        return (self.reward,)

    def _compute(self, rollouts: Rollouts, memo: Memo) -> Scores:
        scores = self.reward._evaluate(rollouts, memo)
        values = np.where(np.isnan(scores.values), self.value, scores.values)
        return Scores(values, scores.status, confidence=scores.confidence, parts=scores.parts, seconds=scores.seconds)


def fill(reward: Expression, value: float) -> Expression:
    """Give rows that could not be judged this value, by explicit choice; their status still says what happened."""
    return Fill(as_reward(reward), value)


def joined(values: Array, scores: Sequence[Scores], *, name: str) -> Scores:
    """Scores of a combination: values [N], the parts of all, and for NaN rows the first status that explains them.

    It is as sure as the least sure of the scores that say how sure they are.

    Raises:
        SteelyardError: for a value that is infinite as a float32.
    """
    _check_range(values, name)
    status = np.where(np.isnan(values), Status.FAILED, Status.SCORED).astype(np.int8)
    unexplained = np.isnan(values)
    parts: dict[str, Array] = {}
    seconds: dict[str, Array] = {}
    for score in scores:
        assert score.status is not None
        explains = unexplained & np.isnan(score.values)
        status[explains] = score.status[explains]
        unexplained &= ~explains
        for source, kept in ((score.parts, parts), (score.seconds, seconds)):
            for part, array in source.items():
                kept[_free_name(part, array, kept)] = array
    sure = [score.confidence for score in scores if score.confidence is not None]
    return Scores(values, status, confidence=np.min(sure, axis=0) if sure else None, parts=parts, seconds=seconds)


def _check_range(values: Array, name: str) -> None:
    too_large = np.abs(np.asarray(values, np.float64)) > np.finfo(np.float32).max
    if too_large.any():
        row = int(too_large.argmax())
        raise SteelyardError(f"reward {name!r} gives {values[row]} on row {row}; a finite number or NaN is needed")


def _free_name(name: str, part: Array, parts: Mapping[str, Array]) -> str:
    """The name itself, or with a number behind it where another array already bears it."""
    candidates = (name if i == 1 else f"{name}#{i}" for i in range(1, len(parts) + 2))
    return next(c for c in candidates if c not in parts or parts[c] is part)


def leaves(reward: Expression) -> list[Expression]:
    """The rewards that an expression is made of in the end, each once, from left to right."""
    found = {id(leaf): leaf for part in reward.operands for leaf in leaves(part)} or {id(reward): reward}
    return list(found.values())


class BatchReward(Expression):
    """A leaf that sees all rollouts at once, with their groups and branches."""

    def __init__(
        self, function: Callable[..., Scores | Array], name: str, options: Mapping[str, Any] | None = None
    ) -> None:
        self.function, self.options = function, dict(options or {})
        self.base, self.name = name, _with_options(name, self.options)
        self.__doc__ = function.__doc__

    def using(self, **options: Any) -> BatchReward:
        """The same reward with some options set."""
        return BatchReward(self.function, self.base, self.options | options)

    def _compute(self, rollouts: Rollouts, memo: Memo) -> Scores:
        scores = self._called(rollouts)
        if len(scores) != len(rollouts):
            counts = f"{len(scores)} values for {len(rollouts)} rows"
            raise SteelyardError(f"reward {self.name!r} returned {counts}; return one a row")
        parts = {self.base: scores.values, **scores.parts}
        return Scores(scores.values, scores.status, scores.steps, scores.confidence, parts, scores.seconds)

    def _called(self, rollouts: Rollouts) -> Scores:
        try:
            result = self.function(rollouts, **self.options)
            if not isinstance(result, Scores):
                result = np.asarray(result, np.float64)
                _check_range(result.ravel(), self.name)
                return Scores(result)
        except SteelyardError as error:
            words = str(error)
            raise SteelyardError(words if self.name in words else f"reward {self.name!r}: {words}") from error
        except Exception as error:
            raise SteelyardError(f"reward {self.name!r}: {type(error).__name__}: {error}; mend it") from error
        _check_range(result.values, self.name)
        return result


class RowReward(Expression):
    """A leaf that judges one row at a time. See `reward`."""

    def __init__(
        self,
        function: Callable[..., Any],
        name: str,
        *,
        on_error: OnError = "raise",
        run: Run = "order",
        workers: int = 8,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self.function, self.on_error, self.run, self.workers = function, on_error, run, workers
        self.options = dict(options or {})
        self.base, self.name = name, _with_options(name, self.options)
        self.__doc__ = function.__doc__
        self._columns, self._optional = _columns_read(function, name, self.options)
        parameters = inspect.signature(function).parameters.values()
        self._texts = frozenset(p.name for p in parameters if p.annotation in (str, "str"))

    @property
    def texts(self) -> frozenset[str]:
        """Columns that the function takes as `str` by its annotation."""
        return self._texts

    @property
    def reads(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Names of the columns that must be there, and of those that are read where they exist."""
        return tuple(self._columns), tuple(self._optional)

    def using(self, *, on_error: OnError | None = None, **options: Any) -> RowReward:
        """The same reward with some options set."""
        return RowReward(
            self.function,
            self.base,
            on_error=on_error or self.on_error,
            run=self.run,
            workers=self.workers,
            options=self.options | options,
        )

    def _compute(self, rollouts: Rollouts, memo: Memo) -> Scores:
        names = self._columns + [name for name in self._optional if rollouts.has(name)]
        try:
            columns = [rollouts.column(name) for name in names]
        except SteelyardError as error:
            raise SteelyardError(f"reward {self.name!r}: {error}") from None
        outcomes = self._judged(names, columns, len(rollouts))
        for row, outcome in enumerate(outcomes):
            if outcome.error and self.on_error == "raise":
                where = f"reward {self.name!r}, row {row} (sample {rollouts.samples[row].id!r})"
                raise SteelyardError(f"{where}: {outcome.error}; mend it, or let on_error='nan' count such rows as NaN")
        values = np.asarray([outcome.value for outcome in outcomes], np.float32)
        seconds = np.asarray([outcome.seconds for outcome in outcomes], np.float64)
        status = np.asarray([outcome.status for outcome in outcomes], np.int8)
        notes = np.asarray([outcome.error or outcome.note for outcome in outcomes], object)
        return Scores(values, status, parts={self.base: values}, seconds={self.base: seconds}, notes=notes)

    def _judged(self, names: list[str], columns: list[Sequence[Any]], count: int) -> list[Outcome]:
        """One outcome a row; a row whose completion should be a text and is none fails without being judged."""
        unread: dict[int, str] = {}
        if "completion" in self._texts and "completion" in names:
            place = names.index("completion")
            columns[place], unread = as_texts(columns[place])
        rows = list(zip(*columns, strict=True)) if columns else [()] * count
        readable = [row for place, row in enumerate(rows) if place not in unread] if unread else rows
        try:
            judged = judge_rows(
                self.function, tuple(names), self.options, readable,
                run=self.run, workers=self.workers, count=len(readable),
            )  # fmt: skip
        except SteelyardError as error:
            raise SteelyardError(f"reward {self.name!r}: {error}") from error
        rest = iter(judged)
        failed = {row: Outcome(math.nan, Status.FAILED, 0.0, reason) for row, reason in unread.items()}
        return [failed.get(row) or next(rest) for row in range(count)] if unread else judged


def _with_options(name: str, options: Mapping[str, Any]) -> str:
    return f"{name}({', '.join(f'{k}={v!r}' for k, v in options.items())})" if options else name


def _columns_read(function: Callable[..., Any], name: str, options: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Names of the columns that must be there, and of those with a default."""
    parameters = inspect.signature(function).parameters.values()
    if any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters):
        raise SteelyardError(f"reward {name!r} takes *args or **kwargs; name the columns that it reads as parameters")
    unknown = set(options) - {p.name for p in parameters}
    if unknown:
        known = [p.name for p in parameters]
        raise SteelyardError(f"reward {name!r} has no option {sorted(unknown)[0]!r}; it has {known}")
    open_ = [p for p in parameters if p.name not in options]
    required = [p.name for p in open_ if p.default is p.empty]
    return required, [p.name for p in open_ if p.default is not p.empty and p.kind != p.KEYWORD_ONLY]


@overload
def reward(function: Callable[..., Any], /) -> RowReward: ...
@overload
def reward(
    *, name: str | None = None, on_error: OnError = "raise", run: Run = "order", workers: int = 8
) -> Callable[[Callable[..., Any]], RowReward]: ...
@overload
def reward(*, batch: Literal[True], name: str | None = None) -> Callable[[Callable[..., Any]], BatchReward]: ...
def reward(
    function: Callable[..., Any] | None = None,
    /,
    *,
    batch: bool = False,
    name: str | None = None,
    on_error: OnError = "raise",
    run: Run = "order",
    workers: int = 8,
) -> Any:
    """Make a function a reward.

    A row-wise function's parameters name the columns that it reads (`completion`, `prompt`, `sample`, or any
    column of the samples); a parameter with a default is read where the column exists; a keyword-only one is an
    option, set by `.using(option=…)`. A parameter `completion: str` gets the text of chat messages. The function
    returns a number, a bool, a `Verdict`, or None (not applicable → NaN). With `batch=True` it takes `Rollouts` and
    returns `Scores` or an array [N].

    Args:
        function: what to decorate.
        batch: whether it sees all rows at once.
        name: how logs call it; the function's own name by default.
        on_error: `raise` names reward, row and sample; `nan` counts the row as failed.
        run: rows in order, in threads (for waiting on others), or in processes (for computing).
        workers: how many threads or processes.

    Raises:
        SteelyardError: at once for a setting that is none of these; at the call, for a missing column, an exception,
            an infinite value or a wrong type.
    """

    if on_error not in get_args(OnError) or run not in get_args(Run) or workers < 1:
        given = f"on_error={on_error!r}, run={run!r}, workers={workers}"
        known = f"on_error is one of {get_args(OnError)}, run one of {get_args(Run)}, workers at least 1"
        raise SteelyardError(f"a reward cannot have {given}: {known}")

    def decorate(inner: Callable[..., Any]) -> Expression:
        label = name or inner.__name__
        if batch:
            return BatchReward(inner, label)
        return RowReward(inner, label, on_error=on_error, run=run, workers=workers)

    return decorate(function) if function is not None else decorate


def score_one(reward: Expression, *, completion: Any, prompt: Any = "", **columns: Any) -> Scores:
    """Judge a single completion, to try a reward out."""
    return reward(Rollouts([Sample("try", prompt, columns=columns)], [completion]))
