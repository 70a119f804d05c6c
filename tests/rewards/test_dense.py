"""VeRPO's rewards: worked numbers of sheet 06, its exact checks, ragged turns, groups and missing judgements."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from steelyard.learn.advantages import advantages_of, centre, chain
from steelyard.learn.fusion import fused
from steelyard.rewards import calibrated, dense_tests, difficulty, reward
from steelyard.rewards.dense import dense_rewards, density
from steelyard.types import Actions, Array, Rollouts, Sample, Scores, Status, SteelyardError

ROWS = np.array([[1, 1, 1, 1, 0], [1, 1, 1, 1, 0], [1, 1, 1, 0, 1], [0, 1, 1, 1, 0]], np.float64)
ONE = calibrated(alpha=1.0)


def single(passed: Array, **options: object) -> Array:
    found = dense_rewards(passed[:, None], np.zeros(len(passed), int), **{"weigh": ONE, **options})  # type: ignore[arg-type]
    return found.turn[:, 0]


def test_the_sheet_s_worked_numbers() -> None:
    found = dense_rewards(ROWS[:, None], np.zeros(4, int), weigh=ONE)
    np.testing.assert_allclose(found.pass_rate[0], [0.75, 1, 1, 0.75, 0.25])
    np.testing.assert_allclose(found.weight[0], [0.22624235, 0.17619803, 0.17619803, 0.22624235, 0.77879420], atol=1e-8)
    np.testing.assert_allclose(found.turn[:, 0], [0.80488076, 0.80488076, 1.35743261, 0.57863841], atol=1e-8)
    assert found.trajectory.tolist() == [0, 0, 0, 0]


@given(st.integers(1, 4), st.integers(1, 20))
def test_a_cluster_weighs_as_much_as_one_test(passes: int, copies: int) -> None:
    passed = np.array([[1, 1], [1, 0], [1, 1], [1, 0], [0, 0]], np.float64)
    passed[:, 0] = np.arange(5) < passes
    more = np.concatenate([np.repeat(passed[:, :1], copies, axis=1), passed[:, 1:]], axis=1)
    alone = calibrated(alpha=1.0, sigma=1e-3, delta=1e-6)
    if passes != 2:
        np.testing.assert_allclose(single(passed, weigh=alone), single(more, weigh=alone), atol=1e-5)
    weight = dense_rewards(more[:, None], np.zeros(5, int), weigh=alone).weight[0, :copies].sum()
    together = copies + (passes == 2)
    np.testing.assert_allclose(weight, np.exp(-passes / 5) * copies / (together + 1e-6))


@given(arrays(np.int8, (5, 4), elements=st.integers(0, 1)), st.floats(0, 5))
def test_limits_of_the_kernel(passed: Array, alpha: float) -> None:
    wide = dense_rewards(passed[:, None], np.zeros(5, int), weigh=calibrated(alpha=alpha, sigma=1e9))
    np.testing.assert_allclose(wide.weight, np.exp(-alpha * wide.pass_rate) / (4 + 1e-6))
    rate = single(passed, weigh=calibrated(alpha=0.0, sigma=1e9, delta=1e-12))
    np.testing.assert_allclose(rate, passed.mean(axis=1))


def test_density_counts_what_is_near() -> None:
    rate, present = np.array([[0.5, 0.5, 0.9]]), np.array([[True, True, False]])
    assert density(rate, present, sigma=0.1).tolist() == [[2, 2, 0]]
    np.testing.assert_allclose(density(rate, present | True, sigma=0.4)[0, 2], 1 + 2 * math.exp(-0.5), rtol=1e-12)


def test_groups_do_not_mix_and_may_have_other_numbers_of_tests() -> None:
    passed = np.full((5, 1, 3), np.nan)
    passed[:3, 0] = [[1, 0, 1], [1, 1, 0], [0, 0, 0]]
    passed[3:, 0, :2] = [[1, 1], [0, 1]]
    both = dense_rewards(passed, np.array([0, 0, 0, 1, 1]), weigh=ONE)
    first = dense_rewards(passed[:3], np.zeros(3, int), weigh=ONE)
    second = dense_rewards(passed[3:, :, :2], np.zeros(2, int), weigh=ONE)
    np.testing.assert_array_equal(both.turn[:3], first.turn)
    np.testing.assert_array_equal(both.turn[3:], second.turn)
    assert both.trajectory.tolist() == [0, 0, 0, 1, 0] and both.weight[1, 2] == 0 and np.isnan(both.pass_rate[1, 2])


def test_ragged_turns_decay_and_unjudged_turns() -> None:
    passed = np.full((3, 3, 2), np.nan)
    passed[0, :2] = [[1, 0], [1, 1]]
    passed[1, :3] = [[1, 1], [0, 1], [1, 0]]
    passed[2, :2] = [[1, 1], [1, np.nan]]
    found = dense_rewards(passed, np.zeros(3, int), weigh=difficulty(alpha=0.0), gamma=0.5)
    np.testing.assert_array_equal(found.trajectory, [0.25, 0, np.nan])
    np.testing.assert_array_equal(found.turn, [[1, 2, np.nan], [2, 1, 1], [np.nan] * 3])
    assert found.pass_rate[0].tolist() == [4 / 5, 3 / 5]


@pytest.mark.parametrize("shape", [(0, 1, 3), (2, 1, 0), (2, 0, 3)])
def test_nothing_to_count(shape: tuple[int, ...]) -> None:
    found = dense_rewards(np.zeros(shape), np.zeros(shape[0], int), weigh=ONE)
    assert found.turn.shape == shape[:2] and np.nan_to_num(found.trajectory).tolist() == [0.0] * shape[0]


def test_bad_settings_are_refused() -> None:
    with pytest.raises(SteelyardError, match="gamma is 0"):
        dense_rewards(ROWS[:, None], np.zeros(4, int), weigh=ONE, gamma=0)
    with pytest.raises(SteelyardError, match=r"\[N, T, K\]"):
        dense_rewards(ROWS, np.zeros(4, int), weigh=ONE)
    with pytest.raises(SteelyardError, match="sigma"):
        calibrated(sigma=0)
    with pytest.raises(SteelyardError, match="no steps"):
        dense_tests(reward(lambda completion: 1.0))(Rollouts([Sample("a", "p")], ["x"]))


def checked(passed: Array) -> object:
    @reward(batch=True, name="checks")
    def checks(rollouts: Rollouts) -> Scores:
        lost = np.isnan(passed).all(axis=tuple(range(1, passed.ndim)))
        return Scores(np.where(lost, np.nan, 0.5), np.where(lost, Status.TIMED_OUT, Status.SCORED), steps=passed)

    return checks


def rollouts(group: list[int], spans: Array | None = None, length: int = 0) -> Rollouts:
    n = len(group)
    actions = Actions(np.zeros((n, length)), np.ones((n, length), bool)) if length else None
    return Rollouts([Sample("s", "p")] * n, [""] * n, np.array(group), actions=actions,
                    spans={} if spans is None else {"turn": spans})  # fmt: skip


def test_the_reward_keeps_parts_and_status() -> None:
    passed = np.array([[1, 1], [1, 0], [np.nan, np.nan], [0, 0]])
    scores = dense_tests(checked(passed), weigh=ONE)(rollouts([0, 0, 0, 1]))  # type: ignore[arg-type]
    np.testing.assert_array_equal(scores.values, [1, 0, np.nan, 0])
    assert scores.status is not None and scores.status.tolist() == [0, 0, Status.TIMED_OUT, 0]
    assert set(scores.parts) == {"checks", "solved", "turn_reward"}
    assert repr(dense_tests(checked(passed), weigh=ONE)) == (  # type: ignore[arg-type]
        "dense_tests(checks, weigh=calibrated(alpha=1, sigma=0.1, delta=1e-06), gamma=1)"
    )


def advantages(passed: Array, group: list[int], *, beta: float = 1.0, gamma: float = 1.0) -> Array:
    given = rollouts(group)
    scores = dense_tests(checked(passed), weigh=ONE, gamma=gamma)(given)  # type: ignore[arg-type]
    return chain(fused(beta=beta))(advantages_of(scores), given, scores).values


def test_fused_advantages_of_the_sheet() -> None:
    found = advantages(ROWS, [0] * 4)
    np.testing.assert_allclose(found, [-0.08157738, -0.08157738, 0.47097448, -0.30781972], atol=1e-6)
    solved = np.vstack([ROWS, np.ones(5)])
    np.testing.assert_allclose(advantages(solved, [0] * 5, beta=0.0), [-0.2] * 4 + [0.8], atol=1e-7)


@given(arrays(np.int8, (6, 4), elements=st.integers(0, 1)))
def test_single_turn_advantages_sum_to_zero_in_every_group(passed: Array) -> None:
    found = advantages(passed.astype(float), [0, 0, 0, 1, 1, 1])
    np.testing.assert_allclose([found[:3].sum(), found[3:].sum()], 0, atol=1e-5)


@given(arrays(np.int8, 4, elements=st.integers(0, 1)), st.integers(1, 7))
def test_equal_attempts_and_single_ones_have_none(attempt: Array, n: int) -> None:
    assert advantages(np.tile(attempt.astype(float), (n, 1)), [0] * n).tolist() == [0.0] * n


def test_a_test_that_all_or_none_pass_adds_nothing() -> None:
    found = advantages(np.hstack([ROWS[:, 3:], np.ones((4, 1)), np.zeros((4, 1))]), [0] * 4)
    lone = calibrated(alpha=1.0, sigma=1e-3)
    assert np.isfinite(found).all()
    a = single(np.hstack([ROWS[:, 3:], np.ones((4, 1)), np.zeros((4, 1))]), weigh=lone)
    b = single(ROWS[:, 3:], weigh=lone)
    np.testing.assert_allclose(a - a.mean(), b - b.mean(), atol=1e-12)


def test_turns_lie_on_their_actions_and_unjudged_rows_count_nowhere() -> None:
    ragged = [[[1, 0, 0], [1, 1, 1]], [[1, 1, 1]], [[0, 0, 0], [1, 0, 0]], [[1, 1, 0], [1, 1, 0], [1, 1, 1]]]
    passed = np.full((5, 3, 3), np.nan)
    spans = np.full((5, 3, 2), -1)
    for i, turns in enumerate(ragged):
        for t, turn in enumerate(turns):
            passed[i, t], spans[i, t] = turn, (2 * t, 2 * t + 2)
    given = rollouts([0] * 5, spans, length=6)
    scores = dense_tests(checked(passed), weigh=ONE, gamma=0.95)(given)  # type: ignore[arg-type]
    found = fused()(advantages_of(scores), given, scores)
    expected = np.array([[-0.27945477, 0.87092989, 0], [0.91842989, 0, 0], [-1.58127021, -1.18195477, 0],
                         [0.16744504, 0.16744504, 0.82580489], [0, 0, 0]])  # fmt: skip
    np.testing.assert_allclose(found.values, np.repeat(expected, 2, axis=1), atol=1e-6)
    assert found.weights.tolist() == [1, 1, 1, 1, 0]


def test_fused_refuses_what_it_cannot_place() -> None:
    scores = Scores(np.zeros(2), steps=np.zeros((2, 3)))
    with pytest.raises(SteelyardError, match="no spans 'turn'"):
        fused()(advantages_of(scores), rollouts([0, 0]), scores)
    bare = Scores(np.zeros(2))
    with pytest.raises(SteelyardError, match="steps"):
        fused(each=centre())(advantages_of(bare), rollouts([0, 0]), bare)
