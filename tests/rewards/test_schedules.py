"""Weights that change over training, and that a run resumes."""

import math

import numpy as np
import pytest

from steelyard.rewards import (
    Expression,
    clip,
    cosine,
    fill,
    gate,
    linear,
    minimum,
    piecewise,
    reward,
    scheduled,
    schedules,
)
from steelyard.types import Rollouts, Sample, SteelyardError


@reward
def length(completion: str) -> float | None:
    """Letters, none of an empty text."""
    return float(len(completion)) or None


ROWS = Rollouts([Sample("a", "p"), Sample("b", "p")], ["xx", ""])


def weights(schedule: object, steps: list[int]) -> list[float]:
    return [schedule(step) for step in steps]  # type: ignore[operator]


def test_schedules_start_end_and_stay() -> None:
    assert weights(linear(1, 0, steps=4), [0, 1, 2, 4, 9]) == [1, 0.75, 0.5, 0, 0]
    np.testing.assert_allclose(weights(cosine(0, 2, steps=4), [0, 1, 2, 4, 9]), [0, 1 - math.sqrt(0.5), 1, 2, 2])
    assert weights(piecewise({10: 0.5, 0: 1.0, 20: 0.0}), [0, 9, 10, 19, 20, 99]) == [1, 1, 0.5, 0.5, 0, 0]
    assert weights(piecewise({5: 0.5}), [0]) == [0.5]


def test_a_weight_moves_with_the_step_and_nan_stays() -> None:
    part = scheduled(length, linear(1, 0, steps=2))
    seen = []
    for _ in range(3):
        scores = part(ROWS)
        seen.append(float(scores.values[0]))
        assert np.isnan(scores.values[1])
        np.testing.assert_array_equal(scores.parts["length"], [2, math.nan])
        part.advance()
    assert seen == [2, 1, 0]


def half(step: int) -> float:
    return 0.5


def test_it_prints_as_it_was_written() -> None:
    assert repr(2 * scheduled(length, linear(1, 0, steps=2))) == "2 * scheduled(length, linear(1, 0, steps=2))"
    assert repr(scheduled(length, cosine(0.5, 1, steps=3))) == "scheduled(length, cosine(0.5, 1, steps=3))"
    assert repr(scheduled(length, piecewise({0: 1.0}))) == "scheduled(length, piecewise({0: 1.0}))"
    assert repr(scheduled(length, half)) == "scheduled(length, half)"


def build() -> Expression:
    warm = scheduled(length, linear(0, 1, steps=10))
    cold = scheduled(minimum(length, 3.0), cosine(1, 0, steps=10))
    return 0.5 * warm + gate(clip(cold, 0, 1), by=fill(length, 0.0) * warm)


def test_every_schedule_of_an_expression_is_found_once_and_resumes() -> None:
    first = build()
    parts = schedules(first)
    assert [part.name for part in parts] == [
        "scheduled(length, linear(0, 1, steps=10))",
        "scheduled(minimum(length, 3), cosine(1, 0, steps=10))",
    ]
    for part in parts:
        part.advance(3)
    again = build()
    assert not np.array_equal(again(ROWS).values, first(ROWS).values, equal_nan=True)
    for part, state in zip(schedules(again), [part.state_dict() for part in parts], strict=True):
        part.load_state_dict(state)
    np.testing.assert_array_equal(again(ROWS).values, first(ROWS).values)


def test_schedules_inside_schedules_are_found() -> None:
    outer = scheduled(scheduled(length, half), half)
    assert len(schedules(outer)) == 2
    assert outer(ROWS).values[0] == 0.5


def test_errors_say_what_would_be_right() -> None:
    with pytest.raises(SteelyardError, match="at least 1"):
        linear(0, 1, steps=0)
    with pytest.raises(SteelyardError, match="at least 1"):
        cosine(0, 1, steps=-1)
    with pytest.raises(SteelyardError, match="no weights"):
        piecewise({})
    with pytest.raises(SteelyardError, match="at step 0 is nan"):
        scheduled(length, lambda step: math.nan)(ROWS)
