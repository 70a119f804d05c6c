"""Gated accumulation: sheet 46's worked numbers, missing channels, failures."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steelyard.rewards import gated
from steelyard.rewards.core import BatchReward
from steelyard.rewards.priority import gate_channels
from steelyard.types import Rollouts, Sample, Scores, Status, SteelyardError

NAN = math.nan
NEVER, FAILED = int(Status.NOT_APPLICABLE), int(Status.FAILED)


def rows(count: int) -> Rollouts:
    return Rollouts([Sample(f"s{i}", "p") for i in range(count)], ["c"] * count)


def channel(name: str, values: list[float], status: list[int] | None = None) -> BatchReward:
    marks = None if status is None else np.asarray(status, np.int8)
    return BatchReward(lambda _: Scores(np.asarray(values), marks), name)


def stepped(name: str, steps: list[list[float]], values: list[float] | None = None) -> BatchReward:
    array = np.asarray(steps, np.float32)
    return BatchReward(lambda _: Scores(np.nansum(array, axis=1) if values is None else values, steps=array), name)


OUTCOME = channel("outcome", [-1, 0, 0.5, 1])
STEPS = stepped("steps", [[0.1, 0.1, 0.1, 0.1], [0.1, -0.1, 0.1, 0], [0.1, 0.1, 0, 0.1], [0.1, 0.1, 0.1, 0.1]])


def test_steps_pay_only_where_the_outcome_does() -> None:
    reward = gated(STEPS, OUTCOME)
    scores = reward(rows(4))
    np.testing.assert_allclose(scores.values, [-1, 0, 0.8, 1.4], rtol=1e-6)
    assert scores.steps is not None
    np.testing.assert_allclose(
        scores.steps, [[0, 0, 0, -1], [0, 0, 0, 0], [0.1, 0.1, 0, 0.6], [0.1, 0.1, 0.1, 1.1]], rtol=1e-6
    )
    np.testing.assert_allclose(scores.parts["direct_return"], [-0.6, 0.1, 0.8, 1.4], rtol=1e-5)
    np.testing.assert_array_equal(scores.parts["open/steps"], [0, 0, 1, 1])
    np.testing.assert_array_equal(scores.parts["outcome"], [-1, 0, 0.5, 1])
    assert repr(reward) == "gated(steps, outcome, above=(0,))"


def test_a_gate_may_open_at_its_threshold() -> None:
    reward = gated(STEPS, OUTCOME, strict=False)
    np.testing.assert_allclose(reward(rows(4)).values, [-1, 0.1, 0.8, 1.4], rtol=1e-6)
    assert repr(reward) == "gated(steps, outcome, above=(0,), strict=False)"


def test_bad_steps_are_hidden_too_and_ragged_rows_end_where_they_end() -> None:
    scores = gated(stepped("s", [[-0.5, -0.5, NAN], [0.1, NAN, NAN]]), channel("o", [-1, 1]))(rows(2))
    np.testing.assert_allclose(scores.values, [-1, 1.1], rtol=1e-6)
    assert scores.steps is not None
    np.testing.assert_allclose(scores.steps, [[0, -1, 0], [1.1, 0, 0]], rtol=1e-6)


@pytest.mark.parametrize(("middle", "expected"), [([0.2, NAN, 0.2], 1.7), ([0, NAN, 0], 1.0)])
def test_three_levels(middle: list[float], expected: float) -> None:
    reward = gated(stepped("low", [[0.1] * 3]), stepped("middle", [middle]), channel("o", [1]), above=(0.1, 0))
    assert reward(rows(1)).values[0] == pytest.approx(expected)


def test_the_gate_reads_the_value_of_a_channel_and_not_its_sum() -> None:
    reward = gated(1.0, stepped("middle", [[5, -5.5]], values=[2.0]), above=1.0)
    assert reward(rows(1)).values[0] == pytest.approx(0.5)


def test_whole_rows_need_no_steps() -> None:
    scores = gated(channel("style", [0.3, 0.3]), channel("right", [0, 1]))(rows(2))
    np.testing.assert_allclose(scores.values, [0, 1.3], rtol=1e-6)
    assert scores.steps is None


def test_what_never_came_is_shut_and_what_failed_is_nan() -> None:
    low = channel("low", [1, NAN, NAN, 1, NAN], [0, NEVER, FAILED, 0, NEVER])
    high = channel("high", [NAN, 1, 1, NAN, NAN], [NEVER, 0, 0, Status.TIMED_OUT, NEVER])
    scores = gated(low, high)(rows(5))
    np.testing.assert_array_equal(scores.values, [0, 1, NAN, NAN, NAN])
    assert scores.status is not None
    assert scores.status.tolist() == [0, 0, FAILED, Status.TIMED_OUT, NEVER]
    np.testing.assert_array_equal(scores.parts["direct_return"], [1, 1, NAN, NAN, NAN])


def test_the_status_is_that_of_the_part_that_failed() -> None:
    never, failed = channel("never", [NAN], [NEVER]), channel("failed", [NAN], [Status.TIMED_OUT])
    scores = gated(never, failed, 1.0)(rows(1))
    assert np.isnan(scores.values[0]) and scores.status is not None and scores.status[0] == Status.TIMED_OUT


def test_a_failure_below_a_shut_gate_is_not_needed() -> None:
    low, middle = channel("low", [1, NAN], [0, FAILED]), channel("middle", [NAN, NAN], [FAILED, FAILED])
    scores = gated(low, middle, channel("high", [-1, 1]))(rows(2))
    np.testing.assert_array_equal(scores.values, [-1, NAN])
    assert scores.status is not None and scores.status.tolist() == [0, FAILED]


@given(
    st.lists(st.lists(st.floats(-2, 2, width=32), min_size=3, max_size=3), min_size=2, max_size=3),
    st.floats(-1, 1),
)
def test_far_thresholds_are_the_plain_sum_and_the_outcome_alone(levels: list[list[float]], above: float) -> None:
    channels = np.asarray(levels)[:, None, :]
    limits = len(levels) - 1
    direct = gate_channels(channels, above=[-1e9] * limits)
    np.testing.assert_allclose(direct.value, direct.direct)
    outcome = gate_channels(channels, above=[1e9] * limits)
    np.testing.assert_allclose(outcome.value, channels[-1].sum())
    some = gate_channels(channels, above=[above] * limits)
    assert some.open[-1].all() and (np.diff(some.open.astype(int), axis=0) >= 0).all()


@given(st.lists(st.floats(-1, 1), min_size=3, max_size=3), st.floats(0, 1), st.floats(-1, 1))
def test_raising_the_lowest_channel_never_lowers_the_return(values: list[float], more: float, above: float) -> None:
    before = np.asarray(values)[:, None, None]
    after = before + np.asarray([more, 0, 0])[:, None, None]
    limits = [above, above]
    assert gate_channels(after, above=limits).value[0] >= gate_channels(before, above=limits).value[0] - 1e-12


def test_errors_count_channels_and_thresholds() -> None:
    with pytest.raises(SteelyardError, match="1 channels and 0 thresholds"):
        gated(OUTCOME)
    with pytest.raises(SteelyardError, match="2 channels and 2 thresholds"):
        gated(STEPS, OUTCOME, above=(0, 0))
    with pytest.raises(SteelyardError, match="finite"):
        gated(STEPS, OUTCOME, above=NAN)
