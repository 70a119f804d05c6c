"""Weights of rewards that change over training."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from steelyard.rewards.combinators import Combination
from steelyard.rewards.core import Expression, Fill, Gate, Product, Sum, _check_finite, as_reward
from steelyard.types import Array, Rollouts, Scores, SteelyardError

WeightOfStep = Callable[[int], float]


def _check_steps(steps: int, name: str) -> None:
    if steps < 1:
        raise SteelyardError(f"{name} lasts {steps} steps; it must last at least 1")


@dataclass(frozen=True)
class Linear:
    """start → end on a straight line over `steps` steps, then end."""

    start: float
    end: float
    steps: int

    def __post_init__(self) -> None:
        _check_steps(self.steps, "a linear schedule")

    def __call__(self, step: int) -> float:
        """The weight at a step."""
        return self.start + (self.end - self.start) * min(step / self.steps, 1.0)

    def __repr__(self) -> str:
        return f"linear({self.start:g}, {self.end:g}, steps={self.steps})"


@dataclass(frozen=True)
class Cosine:
    """start → end on half a cosine over `steps` steps, then end."""

    start: float
    end: float
    steps: int

    def __post_init__(self) -> None:
        _check_steps(self.steps, "a cosine schedule")

    def __call__(self, step: int) -> float:
        """The weight at a step."""
        share = (1 - math.cos(math.pi * min(step / self.steps, 1.0))) / 2
        return self.start + (self.end - self.start) * share

    def __repr__(self) -> str:
        return f"cosine({self.start:g}, {self.end:g}, steps={self.steps})"


@dataclass(frozen=True)
class Piecewise:
    """The weight of the latest step that has come; the first one before it."""

    weights: Mapping[int, float]

    def __post_init__(self) -> None:
        if not self.weights:
            raise SteelyardError("a piecewise schedule has no weights; give it at least one, as {0: 1.0}")

    def __call__(self, step: int) -> float:
        """The weight at a step."""
        steps = sorted(self.weights)
        return float(self.weights[steps[max(bisect_right(steps, step) - 1, 0)]])

    def __repr__(self) -> str:
        return f"piecewise({dict(self.weights)!r})"


def linear(start: float, end: float, *, steps: int) -> Linear:
    """w(t) = start + (end − start)·min(t / steps, 1)."""
    return Linear(start, end, steps)


def cosine(start: float, end: float, *, steps: int) -> Cosine:
    """w(t) = start + (end − start)·(1 − cos(π·min(t / steps, 1))) / 2."""
    return Cosine(start, end, steps)


def piecewise(weights: Mapping[int, float]) -> Piecewise:
    """Constant between steps: `piecewise({0: 1.0, 100: 0.5})` is 1 until step 99 and 0.5 from step 100 on."""
    return Piecewise(weights)


class Scheduled(Combination):
    """A reward whose weight changes over training. See `scheduled`."""

    def __init__(self, reward: Expression | float, weight_fn: WeightOfStep) -> None:
        self.weight_fn, self.step = weight_fn, 0
        shown = weight_fn.__name__ if hasattr(weight_fn, "__name__") else repr(weight_fn)
        super().__init__(f"scheduled({as_reward(reward)!r}, {shown})", [reward], self._weighted)

    def _weighted(self, _: Rollouts, scores: list[Scores]) -> Array:
        return np.multiply(self.weight, scores[0].values, dtype=np.float64)

    @property
    def weight(self) -> float:
        """w at the present step.

        Raises:
            SteelyardError: if it is not finite.
        """
        return _check_finite(float(self.weight_fn(self.step)), f"the weight of {self.name} at step {self.step}")

    def advance(self, steps: int = 1) -> None:
        """Go on to the next step of training."""
        self.step += steps

    def state_dict(self) -> dict[str, Any]:
        """The step."""
        return {"step": self.step}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken."""
        self.step = int(state["step"])


def scheduled(reward: Expression | float, weight_fn: WeightOfStep) -> Scheduled:
    """w(t)·r, t the step of training: 0 at first, one more at every `advance()`.

    Whoever trains calls `advance()` once a step on all of `schedules(reward)` and saves their state. The part keeps
    the unweighted reward; a NaN row is NaN whatever the weight, 0 included.

    Args:
        reward: what is weighted.
        weight_fn: step → weight, as `linear`, `cosine` and `piecewise` give; it prints by its name or repr.
    """
    return Scheduled(reward, weight_fn)


def operands(reward: Expression) -> tuple[Expression, ...]:
    """The rewards that an expression is made of, one level down; none for a leaf."""
    match reward:
        case Sum():
            return tuple(term for _, term in reward.terms)
        case Product():
            return reward.left, reward.right
        case Gate():
            return reward.reward, reward.by
        case Fill():
            return (reward.reward,)
        case Combination():
            return reward.inputs
    return ()


def schedules(reward: Expression) -> list[Scheduled]:
    """Every scheduled part of an expression, each once, in the order in which it prints."""
    found: dict[int, Scheduled] = {}

    def walk(part: Expression) -> Iterator[Expression]:
        yield part
        for operand in operands(part):
            yield from walk(operand)

    for part in walk(reward):
        if isinstance(part, Scheduled):
            found.setdefault(id(part), part)
    return list(found.values())
