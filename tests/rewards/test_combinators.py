"""Combinations row by row: the sheets' worked numbers, NaN, parts, printing, errors."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steelyard.rewards import (
    base_and_bonus,
    clip,
    fill,
    gate,
    harmonic_mean,
    hybrid,
    linear,
    minimum,
    pessimistic,
    reading,
    rescaled,
    reward,
    scheduled,
    vector,
)
from steelyard.rewards.core import BatchReward, Expression
from steelyard.types import Rollouts, Sample, Scores, Status, SteelyardError

UNIT = st.floats(0, 1, width=32)
MARKS = ([1, 1, 3, 5, 5], [5, 1, 3, 1, 5])  # execution, consistency


def rows(count: int, **columns: list[object]) -> Rollouts:
    return Rollouts([Sample(f"s{i}", "p") for i in range(count)], ["c"] * count, columns=columns)  # type: ignore[arg-type]


def given_values(name: str, values: list[float], status: list[int] | None = None, **fields: object) -> BatchReward:
    """A reward with these values, whatever it is asked."""
    marks = None if status is None else np.asarray(status, np.int8)
    return BatchReward(lambda _: Scores(np.asarray(values, np.float32), marks, **fields), name)  # type: ignore[arg-type]


def values_of(expression: Expression, count: int) -> list[float]:
    return expression(rows(count)).values.tolist()


NAN = math.nan
A, B = given_values("a", [1, 2, 3, NAN]), given_values("b", [2, 1, NAN, 0], [0, 0, Status.TIMED_OUT, 0])


def test_minimum_takes_the_worst_part_and_nan_wins() -> None:
    scores = minimum(A, B, 1.5)(rows(4))
    np.testing.assert_array_equal(scores.values, [1, 1, NAN, NAN])
    assert scores.status is not None and scores.status.tolist() == [0, 0, Status.TIMED_OUT, Status.FAILED]
    np.testing.assert_array_equal(scores.parts["b"], B(rows(4)).values)
    assert set(scores.parts) == {"a", "b"}


def test_clip_and_rescaled_keep_nan() -> None:
    np.testing.assert_array_equal(clip(A, 1.5, 2.5)(rows(4)).values, [1.5, 2, 2.5, NAN])
    np.testing.assert_array_equal(rescaled(A, 1, 5)(rows(4)).values, [0, 0.25, 0.5, NAN])


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        (minimum(A, 2 * B, 0.5), "minimum(a, 2 * b, 0.5)"),
        (0.5 * clip(A + B, 0, 1), "0.5 * clip(a + b, 0, 1)"),
        (rescaled(A, 1, 5) - B, "rescaled(a, 1, 5) - b"),
        (base_and_bonus(A, B), "base_and_bonus(a, b, constant=0.6)"),
        (base_and_bonus(A, A, B, constant=1, weights=[1, 2]), "base_and_bonus(a, a, b, constant=1, weights=(1, 2))"),
        (base_and_bonus(A, B, weights=(0.4,)), "base_and_bonus(a, b, constant=0.6, weights=(0.4,))"),
        (hybrid(A, B), "hybrid(a, b, above=0.5)"),
        (hybrid(A, B, by=gate(A, by=B), above=0), "hybrid(a, b, by=gate(a, by=b, above=0), above=0)"),
        (pessimistic(A, B, deviations=2), "pessimistic(a, b, deviations=2)"),
        (vector(x=A, y=2 * B, weights={"y": 3.0}), "vector(x=a, y=2 * b, weights={'y': 3.0})"),
    ],
)
def test_a_combination_prints_as_the_call_that_made_it(expression: Expression, text: str) -> None:
    assert repr(expression) == text
    names = {f.__name__: f for f in (minimum, clip, rescaled, base_and_bonus, hybrid, pessimistic, vector, gate)}
    assert repr(eval(text, {"a": A, "b": B, **names})) == text


@pytest.mark.parametrize(
    ("normalise", "expected"),
    [((0, 5), [0.2, 0.136, 0.504, 0.68, 1.0]), ((1, 5), [0.0, 0.0, 0.4, 0.6, 1.0])],
)
def test_cme_of_sheet_31(normalise: tuple[float, float], expected: list[float]) -> None:
    execution, consistency = given_values("e", MARKS[0]), given_values("c", MARKS[1])  # type: ignore[arg-type]
    combined = base_and_bonus(rescaled(execution, *normalise), rescaled(consistency, *normalise))
    np.testing.assert_allclose(values_of(combined, 5), expected, rtol=1e-5)


def test_the_linear_sum_of_sheet_31_cannot_tell_a_lazy_edit_from_an_honest_one() -> None:
    execution, consistency = given_values("e", MARKS[0]), given_values("c", MARKS[1])  # type: ignore[arg-type]
    linear = 0.5 * rescaled(execution, 0, 5) + 0.5 * rescaled(consistency, 0, 5)
    np.testing.assert_allclose(values_of(linear, 5), [0.6, 0.2, 0.6, 0.6, 1.0], rtol=1e-5)


@pytest.mark.parametrize(
    ("instruction", "marks", "constant", "expected"),
    [(5, [5, 4, 4], 0.4, 0.85), (5, [1, 1, 2], 0.4, 0.4), (5, [1, 1, 2], 0.5, 0.5), (2, [NAN] * 3, 0.4, 0.25)],
)
def test_qma_of_sheet_31(instruction: float, marks: list[float], constant: float, expected: float) -> None:
    quality = rescaled(minimum(*(given_values(f"q{i}", [mark]) for i, mark in enumerate(marks))), 1, 5)
    base = rescaled(given_values("instruction", [instruction]), 1, 5)
    combined = base_and_bonus(base, fill(quality, 1.0), constant=constant)
    assert values_of(combined, 1) == pytest.approx([expected])


def test_qma_from_a_total_of_three_marks() -> None:
    base, quality = rescaled(given_values("i", [4]), 1, 5), rescaled(given_values("total", [12]), 3, 15)
    assert values_of(base_and_bonus(base, quality, constant=0.4), 1) == pytest.approx([0.6375])


def test_marks_below_the_scale_are_clipped_before_they_are_combined() -> None:
    failed = rescaled(given_values("mark", [0]), 1, 5)  # −0.25
    assert values_of(base_and_bonus(failed, 1.0), 1) == [0]
    assert values_of(base_and_bonus(1.0, failed), 1) == pytest.approx([0.6])


@given(st.tuples(UNIT, UNIT), st.tuples(UNIT, UNIT), st.floats(0.1, 1), st.floats(0, 1))
def test_base_and_bonus_is_monotone_and_bounded(
    low: tuple[float, float], high: tuple[float, float], constant: float, weight: float
) -> None:
    pairs = np.sort([low, high], axis=0)
    base, bonus = (given_values(name, column.tolist()) for name, column in zip("bq", pairs.T, strict=True))
    less, more = values_of(base_and_bonus(base, bonus, constant=constant, weights=[weight]), 2)
    assert less <= more + 1e-6
    floor = constant / (constant + weight)
    for value, base_value in zip((less, more), pairs[:, 0], strict=True):
        assert floor * base_value - 1e-6 <= value <= base_value + 1e-6


def test_a_bonus_that_could_not_be_judged_is_no_bonus_of_zero() -> None:
    scores = base_and_bonus(A, B)(rows(4))
    assert np.isnan(scores.values).tolist() == [False, False, True, True]
    assert scores.status is not None and scores.status[2] == Status.TIMED_OUT


def test_hybrid_of_sheet_23_asks_by_the_flag() -> None:
    @reward
    def checkable(verifiable: int) -> int:
        return verifiable

    rule, model = given_values("rule", [1, 0, NAN, 0]), given_values("model", [0.2, NAN, 0.7, 0.5])
    scores = hybrid(rule, model, by=checkable)(rows(4, verifiable=[1, 1, 0, 0]))
    np.testing.assert_array_equal(scores.values, np.float32([1, 0, 0.7, 0.5]))
    assert scores.status is not None and not scores.status.any()
    np.testing.assert_array_equal(scores.parts["hybrid/first"], [1, 1, 0, 0])
    assert {"rule", "model", "checkable"} <= set(scores.parts)


def test_hybrid_without_a_flag_does_not_let_a_broken_answer_choose_its_judge() -> None:
    states = [Status.SCORED, Status.NOT_APPLICABLE, Status.UNPARSED, Status.NOT_APPLICABLE]
    rule = given_values("rule", [0, NAN, NAN, NAN], [int(s) for s in states])
    model = given_values("model", [9, 0.5, 9, NAN], [0, 0, 0, Status.TIMED_OUT])
    scores = hybrid(rule, model)(rows(4))
    np.testing.assert_array_equal(scores.values, [0, 0.5, NAN, NAN])
    assert scores.status is not None
    assert scores.status.tolist() == [0, 0, Status.UNPARSED, Status.TIMED_OUT]


def test_hybrid_by_confidence() -> None:
    sure = given_values("sure", [1, 1, 1], confidence=np.asarray([0.9, 0.5, 0.1], np.float32))
    assert values_of(hybrid(sure, 0.0), 3) == [1, 0, 0]
    assert values_of(hybrid(sure, 0.0, above=0.3), 3) == [1, 1, 0]


def test_hybrid_is_nan_where_the_flag_is() -> None:
    flag = given_values("flag", [NAN], [Status.UNPARSED])
    scores = hybrid(1.0, 0.0, by=flag)(rows(1))
    assert np.isnan(scores.values[0]) and scores.status is not None and scores.status[0] == Status.UNPARSED


def test_pessimistic_is_the_lower_bound_of_sheet_44() -> None:
    members = [given_values(f"m{i}", v) for i, v in enumerate([[1.0, 0.5], [0.8, 0.9], [1.2, 0.1]])]
    scores = pessimistic(*members)(rows(2))
    np.testing.assert_allclose(scores.values, [0.83670068, 0.17340137], rtol=1e-5)
    np.testing.assert_allclose(scores.parts["spread"], [0.16329932, 0.32659863], rtol=1e-5)
    np.testing.assert_allclose(values_of(minimum(*members), 2), [0.8, 0.1], rtol=1e-6)
    np.testing.assert_allclose(values_of(pessimistic(*members, deviations=0), 2), [1.0, 0.5], rtol=1e-6)


def test_vector_keeps_its_objectives_side_by_side() -> None:
    both = vector(helpful=A, safe=2 * B)
    scores = both(rows(4))
    np.testing.assert_array_equal(scores.values, [5, 4, NAN, NAN])
    np.testing.assert_array_equal(both.matrix(scores), [[1, 4], [2, 2], [3, NAN], [NAN, 0]])
    np.testing.assert_array_equal(scores.parts["safe"], [4, 2, NAN, 0])
    np.testing.assert_array_equal(vector(helpful=A, safe=B, weights={"safe": 0.0})(rows(4)).values, [1, 2, NAN, NAN])


def test_an_objective_that_bears_a_leafs_name_does_not_hide_the_leaf() -> None:
    scores = vector(a=3 * A)(rows(4))
    np.testing.assert_array_equal(scores.parts["a"], [3, 6, 9, NAN])
    np.testing.assert_array_equal(scores.parts["a#2"], [1, 2, 3, NAN])


def test_combinations_nest_and_judge_a_part_once() -> None:
    asked = []
    counted = BatchReward(lambda r: asked.append(1) or np.ones(len(r)), "counted")  # type: ignore[func-returns-value]
    expression = minimum(counted, clip(counted, 0, 0.5)) + vector(x=counted, y=pessimistic(counted, counted))
    assert values_of(expression, 2) == [2.5, 2.5]
    assert len(asked) == 1


def test_no_rows_are_no_trouble() -> None:
    empty = BatchReward(lambda _: np.zeros(0), "empty")
    for expression in (minimum(empty, empty), base_and_bonus(empty, empty), hybrid(empty, 1.0), pessimistic(empty)):
        assert len(expression(rows(0))) == 0


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: minimum(), "nothing to combine"),
        (lambda: vector(), "nothing to combine"),
        (lambda: clip(A, 2, 1), "above the high end"),
        (lambda: clip(A, NAN, 1), "finite"),
        (lambda: rescaled(A, 1, 1), "no width"),
        (lambda: base_and_bonus(A), "0 bonuses"),
        (lambda: base_and_bonus(A, B, weights=[1, 2]), "2 weights for 1 bonuses"),
        (lambda: base_and_bonus(A, B, constant=1.5), "must be ≥ 0"),
        (lambda: base_and_bonus(A, B, constant=0, weights=[0]), "not all 0"),
        (lambda: pessimistic(A, deviations=-1), "must be ≥ 0"),
        (lambda: vector(x=A, weights={"y": 1}), "none of \\['x'\\]"),
        (lambda: minimum(A, "b"), "decorate a function with @reward"),
    ],
)
def test_errors_say_what_would_be_right(make: object, words: str) -> None:
    with pytest.raises(SteelyardError, match=words):
        make()  # type: ignore[operator]


def test_the_harmonic_mean_is_good_only_where_all_are() -> None:
    a, b = given_values("a", [1, 0.5, 0, math.nan]), given_values("b", [1, 1, 1, 1])
    assert values_of(harmonic_mean(a, b), 4) == pytest.approx([1, 2 / 3, 0, math.nan], nan_ok=True)
    assert repr(harmonic_mean(a, b)) == "harmonic_mean(a, b)"
    with pytest.raises(SteelyardError, match="met -1; every reward in it must be ≥ 0"):
        values_of(harmonic_mean(given_values("c", [-1])), 1)


def test_a_reward_can_read_another_column() -> None:
    @reward
    def mark(answer: float) -> float:
        """Of a column."""
        return answer

    both = mark + 10 * reading(mark, answer="other")
    assert both(rows(2, answer=[1.0, 2.0], other=[3.0, 4.0])).values.tolist() == [31, 42]
    assert repr(both) == "mark + 10 * reading(mark, answer='other')"
    with pytest.raises(SteelyardError, match="no column 'other'"):
        both(rows(1, answer=[1.0]))
    with pytest.raises(SteelyardError, match="renames nothing"):
        reading(mark)


def test_confidence_passes_through_what_is_put_together() -> None:
    @reward(batch=True)
    def unsure(rollouts: Rollouts) -> Scores:
        return Scores(np.ones(3), confidence=np.array([0.9, 0.2, 0.6], np.float32))

    @reward(batch=True)
    def surer(rollouts: Rollouts) -> Scores:
        return Scores(np.ones(3), confidence=np.array([0.5, 0.8, 1.0], np.float32))

    rollouts = Rollouts([Sample("s", "p")] * 3, [""] * 3)
    for same in (clip(unsure, 0, 1), 0.5 * unsure, fill(unsure, 0.0), scheduled(unsure, linear(1, 0, steps=2))):
        np.testing.assert_allclose(same(rollouts).confidence, [0.9, 0.2, 0.6])
        np.testing.assert_allclose(hybrid(same, 0.25)(rollouts).values[1], 0.25)
    np.testing.assert_allclose((unsure + surer)(rollouts).confidence, [0.5, 0.2, 0.6])
    np.testing.assert_allclose(hybrid(unsure, surer, above=0.7)(rollouts).confidence, [0.9, 0.8, 1.0])
    assert minimum(1.0, 2.0)(rollouts).confidence is None


@pytest.mark.parametrize("wrong", [{"above": math.nan}, {"above": math.inf}, {"otherwise": math.nan}])
def test_a_gate_has_a_finite_threshold(wrong: dict[str, float]) -> None:
    part = reward(name="part")(lambda completion: 1.0)
    with pytest.raises(SteelyardError, match="must be a finite number"):
        gate(part, by=part, **wrong)
