"""Group and batch statistics: sheet 15's golden aggregation, GDPO's normalisation, ranks."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steelyard.learn.advantages import advantages_of, centre, chain, scale
from steelyard.rewards import log_tamed, normalised, ranked
from steelyard.rewards.aggregation import log_tame, ranks, standardised
from steelyard.rewards.core import BatchReward
from steelyard.types import Rollouts, Sample, Status, SteelyardError

NAN = math.nan
CONSISTENCY = [0.1, 0.9, 0.3, 0.7, 0.2, 0.8, 0.5, 0.6]
ALIGNMENT = [0.3, 0.32, 0.31, 0.29, 0.33, 0.3, 0.31, 0.32]
AGGREGATE = [0.39531018, 0.96185389, 0.57236426, 0.82062825, 0.51232156, 0.88778666, 0.71546511, 0.79000363]


def named(name: str, values: list[float]) -> BatchReward:
    return BatchReward(lambda _: np.asarray(values), name)


def grouped(group: list[int], branch: list[int] | None = None, **columns: list[object]) -> Rollouts:
    n = len(group)
    samples = [Sample(f"s{i}", "p") for i in range(n)]
    return Rollouts(samples, ["c"] * n, np.asarray(group), None if branch is None else np.asarray(branch), columns)  # type: ignore[arg-type]


PROMPTS = grouped([0] * 4 + [1] * 4)
CONSISTENT, ALIGNED = named("consistency", CONSISTENCY), named("clip_t", ALIGNMENT)


def test_log_taming_of_sheet_15() -> None:
    tamed = log_tame(np.asarray([CONSISTENCY, ALIGNMENT]))
    np.testing.assert_allclose(tamed.spread, [0.52932907, 0.03950777], rtol=1e-6)
    assert tamed.threshold == pytest.approx(0.28441842)
    assert tamed.tamed.tolist() == [True, False]
    np.testing.assert_allclose(tamed.total, AGGREGATE, rtol=1e-6)


def test_log_taming_as_a_reward_and_the_advantages_of_the_paper() -> None:
    reward = log_tamed(CONSISTENT, ALIGNED)
    scores = reward(PROMPTS)
    np.testing.assert_allclose(scores.values, AGGREGATE, rtol=1e-5)
    advantages = chain(centre(), scale(ddof=0, epsilon=1e-9))(advantages_of(scores), PROMPTS, scores).values
    expected = [-1.33514353, 1.25329654, -0.52621408, 0.60806107, -1.5526356, 1.17055395, -0.07926728, 0.46134893]
    np.testing.assert_allclose(advantages, expected, rtol=1e-5, atol=1e-6)
    assert scores.parts["tamed/consistency"].tolist() == [1] * 8
    assert scores.parts["tamed/clip_t"].tolist() == [0] * 8
    np.testing.assert_allclose(scores.parts["spread/clip_t"], 0.03950777, rtol=1e-4)
    np.testing.assert_array_equal(scores.parts["consistency"], np.float32(CONSISTENCY))
    assert repr(reward) == "log_tamed(consistency, clip_t)"


def test_a_fixed_threshold_and_weights() -> None:
    reward = log_tamed(CONSISTENT, ALIGNED, weights=(0.2, 1), threshold=0.2)
    expected = [0.31906204, 0.44837078, 0.36247285, 0.39612565, 0.36646431, 0.41755733, 0.39109302, 0.41400073]
    np.testing.assert_allclose(reward(PROMPTS).values, expected, rtol=1e-5)
    assert repr(reward) == "log_tamed(consistency, clip_t, weights=(0.2, 1), threshold=0.2)"


def test_one_reward_or_equal_spreads_are_never_tamed_under_the_mean_rule() -> None:
    assert not log_tame(np.asarray([CONSISTENCY])).tamed.any()
    equal = [0.08, 0.83, 0.79, 0.24]  # the mean of three equal h falls below them by rounding
    assert not log_tame(np.asarray([equal] * 3)).tamed.any()
    assert log_tame(np.asarray([CONSISTENCY]), threshold=0.2).tamed.all()
    assert log_tame(np.asarray([CONSISTENCY, ALIGNMENT, ALIGNMENT]), threshold="median").tamed.tolist() == [
        True, False, False,
    ]  # fmt: skip


@given(st.lists(st.floats(0.01, 10), min_size=2, max_size=8), st.floats(0.5, 20))
def test_taming_keeps_order_and_scale_leaves_the_spread(values: list[float], factor: float) -> None:
    array = np.asarray([values, np.multiply(factor, values)])
    tamed = log_tame(array, threshold=-1.0)
    assert tamed.tamed.all()
    np.testing.assert_allclose(tamed.spread[0], tamed.spread[1], rtol=1e-3, atol=1e-9)
    order = np.argsort(values, kind="stable")
    assert (np.diff(log_tame(array[:1], threshold=-1.0).total[order]) >= 0).all()


def test_rows_without_a_verdict_count_in_no_statistic_of_log_taming() -> None:
    with_gap = [*CONSISTENCY, NAN]
    scores = log_tamed(named("consistency", with_gap), named("clip_t", [*ALIGNMENT, 0.31]))(grouped([0] * 9))
    assert np.isnan(scores.values[8]) and scores.status is not None and scores.status[8] == Status.FAILED
    np.testing.assert_allclose(scores.values[:8], AGGREGATE, rtol=1e-5)
    nothing = log_tamed(named("a", [NAN, NAN]), named("b", [NAN, 1]))(grouped([0, 0]))
    assert np.isnan(nothing.values).all()


def test_log_taming_refuses_what_the_logarithm_would_expand_or_break() -> None:
    with pytest.raises(SteelyardError, match=r"'shy' is -0\.5 on row 1; shift it"):
        log_tamed(named("shy", [0, -0.5]))(grouped([0, 0]))
    with pytest.raises(SteelyardError, match="shift it"):
        log_tame(np.asarray([[1.0, -2.0]]), threshold=-100.0)
    with pytest.raises(SteelyardError, match="1 weights for 2 rewards"):
        log_tamed(CONSISTENT, ALIGNED, weights=[1])
    with pytest.raises(SteelyardError, match="'mean', 'median' or a number"):
        log_tamed(CONSISTENT, threshold="mode")  # type: ignore[arg-type]


def test_the_sum_of_advantages_of_sheet_15() -> None:
    total = normalised(CONSISTENT + ALIGNED, ddof=0, epsilon=1e-9)(PROMPTS)
    expected = [-1.71212466, 2.60655185, -0.18524194, -0.70918525, -0.15946991, -0.07147019, -0.56268365, 0.79362376]
    np.testing.assert_allclose(total.values, expected, rtol=1e-5, atol=1e-5)  # float32 parts: 0.3 − 0.305 is coarse
    np.testing.assert_array_equal(total.parts["clip_t"], np.float32(ALIGNMENT))


def test_the_plain_weighted_sum_of_sheet_15() -> None:
    scores = (CONSISTENT + ALIGNED)(PROMPTS)
    advantages = chain(centre(), scale(ddof=0, epsilon=1e-9))(advantages_of(scores), PROMPTS, scores).values
    expected = [-1.26732788, 1.29861992, -0.6101949, 0.57890286, -1.49931758, 1.25749217, -0.14509525, 0.38692067]
    np.testing.assert_allclose(advantages, expected, rtol=1e-5, atol=1e-6)


def test_the_rank_weighted_sum_of_sheet_15_cancels() -> None:
    prompts = grouped([0, 1, 0, 1, 1, 0])
    a, b, c = (
        named("a", [5, 0, 2, 9, 1, 4]), named("b", [0.5] * 6), named("c", [-0.2, 0.3, 0.1, -0.4, 0.2, 0.05]),
    )  # fmt: skip
    scores = (ranked(a) + 0.0 * ranked(b) + ranked(c))(prompts)
    np.testing.assert_allclose(scores.values, 1.0)


def test_normalising_is_part_by_part() -> None:
    reward = normalised(CONSISTENT + 2 * ALIGNED)
    assert repr(reward) == "normalised(consistency) + 2 * normalised(clip_t)"
    assert repr(normalised(ALIGNED, by=("group",), ddof=0, epsilon=0.1)) == (
        "normalised(clip_t, by=('group',), ddof=0, epsilon=0.1)"
    )
    parts = normalised(CONSISTENT)(PROMPTS).values + 2 * normalised(ALIGNED)(PROMPTS).values
    np.testing.assert_allclose(reward(PROMPTS).values, parts, rtol=1e-5, atol=1e-6)


def test_gdpo_tells_apart_what_the_sum_makes_equal() -> None:
    right, short = named("right", [1, 0, 1, 0]), named("short", [0, 1, 1, 0])
    rollouts = grouped([0] * 4)
    rare = named("rare", [0, 1, 0, 0])
    assert (right + rare)(rollouts).values[0] == (right + rare)(rollouts).values[1]
    apart = normalised(right + rare)(rollouts).values
    assert apart[1] > apart[0]  # the rare part counts for more once each has the same spread
    both = normalised(right + short)(rollouts).values
    np.testing.assert_allclose(both, [0, 0, 1.7317, -1.7317], atol=1e-3)


def test_groups_branches_columns_and_the_whole_batch() -> None:
    values = named("r", [0, 2, 10, 14, 5, 5, 7, NAN])
    rollouts = grouped([0, 0, 0, 0, 1, 1, 2, 2], [0, 0, 1, 1, 0, 0, 0, 0], kind=["x", "y"] * 4)
    options = {"ddof": 0, "epsilon": 0.0}
    each = normalised(values, **options)(rollouts)  # type: ignore[arg-type]
    np.testing.assert_array_equal(each.values, [-1, 1, -1, 1, 0, 0, 0, NAN])
    assert each.status is not None and each.status[7] == Status.FAILED
    group = normalised(values, by=("group",), **options)(rollouts).values  # type: ignore[arg-type]
    np.testing.assert_allclose(group[:4], (np.asarray([0, 2, 10, 14]) - 6.5) / np.std([0, 2, 10, 14]), rtol=1e-6)
    kind = normalised(values, by=("kind",), **options)(rollouts).values  # type: ignore[arg-type]
    np.testing.assert_allclose(kind[::2], (np.asarray([0, 10, 5, 7]) - 5.5) / np.std([0, 10, 5, 7]), rtol=1e-6)
    batch = normalised(values, by=(), **options)(rollouts).values  # type: ignore[arg-type]
    assert np.nanmean(batch) == pytest.approx(0, abs=1e-6) and np.nanstd(batch) == pytest.approx(1)


@given(
    st.lists(st.tuples(st.floats(-100, 100), st.integers(0, 3)), min_size=1, max_size=20),
    st.floats(0.1, 10),
    st.floats(-10, 10),
)
def test_standardising_does_not_see_scale_and_shift(
    pairs: list[tuple[float, int]], factor: float, shift: float
) -> None:
    values, group = (np.asarray(column) for column in zip(*pairs, strict=True))
    values = np.round(values.astype(np.float64), 3)
    once = standardised(values, group, epsilon=0.0)
    np.testing.assert_allclose(standardised(factor * values + shift, group, epsilon=0.0), once, atol=1e-6)
    np.testing.assert_allclose(np.bincount(group, once), 0, atol=1e-6)


def test_ranks_share_ties_and_skip_nan() -> None:
    values = np.asarray([3.0, 1, 1, 2, NAN, 7, 7, 4, NAN])
    group = np.asarray([0, 0, 0, 0, 0, 1, 1, 2, 3])
    np.testing.assert_allclose(ranks(values, group), [1, 1 / 6, 1 / 6, 2 / 3, NAN, 0.5, 0.5, 0, NAN])
    assert np.isnan(ranks(np.asarray([NAN]), np.asarray([0]))).all()
    assert len(ranks(np.zeros(0), np.zeros(0, np.int64))) == 0
    assert repr(ranked(CONSISTENT)) == "ranked(consistency)"


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 2)), min_size=1, max_size=12))
def test_ranks_are_how_many_one_beats(pairs: list[tuple[int, int]]) -> None:
    values, group = (np.asarray(column) for column in zip(*pairs, strict=True))
    for i, rank in enumerate(ranks(values.astype(float), group)):
        rivals = np.delete(values, i)[np.delete(group, i) == group[i]]
        beaten = (rivals < values[i]).sum() + 0.5 * (rivals == values[i]).sum()
        assert rank == pytest.approx(beaten / len(rivals) if len(rivals) else 0)
