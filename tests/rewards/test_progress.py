"""Labels of progress and RA-BC weights: sheet 37's exact checks, properties, and state."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steelyard.rewards.progress import (
    ConfidenceSmoother,
    GainStatistics,
    RunningGainWeights,
    Stage,
    batch_scaled,
    breakpoints_of,
    causal_window,
    centred_window,
    complete,
    gain_statistics,
    gain_weights,
    gains,
    normalised_progress,
    rewind_frames,
    stage_and_tau,
    stage_targets,
    temporal_proportions,
)
from steelyard.types import SteelyardError

ORDER = ["grab", "flatten", "fold"]
STAGES = [Stage("grab", 0, 10), Stage("flatten", 11, 49), Stage("fold", 50, 99)]
PRIORS = [0.3, 0.325, 0.375]


def lengths(*seconds: float) -> list[Stage]:
    edges = np.concatenate([[0], np.cumsum(seconds)])
    return [Stage(name, a, b) for name, a, b in zip(ORDER, edges, edges[1:], strict=False)]


def test_priors_are_the_mean_shares() -> None:
    found = temporal_proportions([lengths(10, 40, 50), lengths(20, 10, 10)], ORDER)
    assert list(found) == ORDER and np.allclose(list(found.values()), PRIORS)


def test_priors_of_missing_and_empty_episodes() -> None:
    episodes = [lengths(10, 30), lengths(10, 10, 20), lengths(0, 0, 0), []]
    found = temporal_proportions(episodes, ["fold", "wash", "grab"])
    whole = 0.25 + (0.75 + 0.25) / 2 + 0.5  # each stage over the episodes that have it
    assert list(found) == ["fold", "grab"] and np.allclose(list(found.values()), [0.5 / whole, 0.25 / whole])
    assert temporal_proportions([]) == {}


def test_only_whole_episodes_are_complete() -> None:
    assert complete(STAGES, ORDER) and not complete(STAGES[:2], ORDER)
    assert not complete([STAGES[1], STAGES[0], STAGES[2]], ORDER)
    assert not complete([STAGES[0], Stage("flatten", 5, 49), STAGES[2]], ORDER)


def test_targets_of_the_sheet() -> None:
    frames = np.asarray([0, 5, 10, 11, 30, 49, 50, 75, 99, 120])
    found = stage_targets(frames, STAGES, ORDER, length=121)
    assert np.allclose(found, [0, 0.5, 1, 1, 1.5, 2, 2, 2.51020408, 2.999, 2.999])


def test_the_end_of_a_stage_and_the_beginning_of_the_next_stay_apart() -> None:
    k, tau = stage_and_tau(np.asarray([10, 11]), STAGES, ORDER, length=121)
    assert k.tolist() == [0, 1] and tau.tolist() == [1.0, 0.0]


def test_frames_outside_the_stages() -> None:
    stages = [Stage("grab", 3, 5), Stage("unheard", 9, 9), Stage("fold", 12, 14)]
    k, tau = stage_and_tau(np.asarray([0, 7, 9, 10, 20]), stages, ORDER, length=21)
    assert k.tolist() == [0, 0, 0, 1, 2]  # an unknown name counts as the first stage, as its place in the gap behind it
    assert tau.tolist() == [0.0, 1.0, 1.0, 1.0, 0.999]
    assert stage_targets(np.asarray([4]), None, ORDER, length=9).tolist() == [0.0]
    with pytest.raises(SteelyardError, match="names of all stages"):
        stage_targets(np.asarray([4]), None, [], length=9)


def test_one_stage_is_time() -> None:
    found = stage_targets(np.arange(5), None, ["task"], length=5)
    assert np.allclose(found, [0, 0.25, 0.5, 0.75, 0.999])
    assert np.allclose(stage_and_tau(np.arange(5), None, ["task"], length=5)[1], np.arange(5) / 4)
    assert stage_targets(np.asarray([0]), None, ["task"], length=1).tolist() == [0.0]


def test_progress_of_the_sheet() -> None:
    found = normalised_progress(np.asarray([0.5, 1.5, 2.5, 2.999, 3.0, 7.0, -1.0, np.nan]), breakpoints_of(PRIORS))
    assert np.allclose(found, [0.15, 0.4625, 0.8125, 0.999625, 1, 1, 0, np.nan], equal_nan=True)
    assert np.allclose(breakpoints_of([3, 3.25, 3.75]), breakpoints_of(PRIORS))
    for wrong in ([], [0.0, 0.0], [1.0, -0.1], [np.nan]):
        with pytest.raises(SteelyardError, match="priors are"):
            breakpoints_of(wrong)


@given(st.lists(st.floats(0.01, 1), min_size=1, max_size=6), st.lists(st.floats(-1, 8), min_size=2, max_size=20))
def test_progress_grows_with_the_target_and_stays_in_the_unit_interval(priors: list[float], x: list[float]) -> None:
    found = normalised_progress(np.sort(x), breakpoints_of(priors))
    assert (np.diff(found) >= 0).all() and (found >= 0).all() and (found <= 1).all()


def test_windows_of_the_sheet() -> None:
    held, clamped = centred_window(990, start=0, end=1000)
    assert held.tolist() == [870, 900, 930, 960, 990, 999, 999, 999, 999] and clamped.sum() == 4
    assert rewind_frames(300, start=0, steps=3).tolist() == [150, 120, 90]
    assert rewind_frames(200, start=0, steps=4).tolist() == [50, 20]
    assert rewind_frames(100, start=0, steps=3).tolist() == [] == rewind_frames(300, start=0, steps=0).tolist()


def test_a_causal_window_never_looks_ahead() -> None:
    assert causal_window(300, start=7).tolist() == [7, 90, 120, 150, 180, 210, 240, 270, 300]
    assert causal_window(14, start=0).tolist() == [0, 0, 2, 4, 6, 8, 10, 12, 14]


def smoothed(smoother: ConfidenceSmoother) -> list[float]:
    values, confidences = (0.1, 0.2, 0.9, 0.3, 0.35), (0.95, 0.99, 0.5, 0.92, 1.0)
    return [smoother(*pair) for pair in zip(values, confidences, strict=True)]


def test_smoother_of_the_sheet() -> None:
    found = smoothed(ConfidenceSmoother())
    assert np.allclose(found, [0.09999988, 0.1530892, 0.1530892, 0.19698089, 0.2394112], atol=1e-8)
    assert ConfidenceSmoother()(0.7, 0.1) == 0.7  # nothing was kept yet
    with pytest.raises(SteelyardError, match="window"):
        ConfidenceSmoother(window=0)


def test_the_smoother_goes_on_from_its_state() -> None:
    first, second = ConfidenceSmoother(window=3), ConfidenceSmoother(window=3)
    smoothed(first)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert smoothed(second) == smoothed(first)


EPISODES = [[0, 0.1, 0.2, 0.3, 0.4], [0, 0.005, 0.004, 0.004, 0.3]]


def test_weights_of_the_sheet() -> None:
    gain = np.concatenate([gains(np.asarray(episode), 2) for episode in EPISODES])
    statistics = gain_statistics(gain)
    assert np.allclose(statistics, [0.1295, 0.11728022])
    asked = gain[[0, 3, 4, 5, 6, 7, 9]]
    assert np.allclose(asked, [0.2, 0.1, 0, 0.004, -0.001, 0.296, 0])
    weights = gain_weights(asked, statistics, kappa=0.01)
    assert np.allclose(weights, [1, 1, 0.22395128, 0.23247784, 0, 1, 0.22395128])
    assert np.allclose(batch_scaled(weights)[:3], [1.9019767, 1.9019767, 0.42595011])


def test_constant_progress_keeps_a_soft_weight() -> None:
    gain = gains(np.full(6, 0.3), 2)
    assert np.allclose(gain_weights(gain, gain_statistics(gain), kappa=0.01), 0.4)


def test_a_batch_of_regressions_weighs_nothing() -> None:
    weights = gain_weights(np.asarray([-0.1, -0.2]), GainStatistics(0.1, 0.1), kappa=0.01)
    assert weights.tolist() == [0, 0] and batch_scaled(weights).tolist() == [0, 0]


def test_frames_without_progress() -> None:
    gain = gains(np.asarray([0.0, np.nan, 0.2]), 1)
    assert np.isnan(gain[:2]).all() and gain_statistics(gain[:2]) == (0.0, 1e-6)
    found = [gain_weights(gain, GainStatistics(0.1, 0.1), kappa=0.01, missing=m)[0] for m in (1.0, 0.0)]
    assert found == [1.0, 0.0]
    with pytest.raises(SteelyardError, match="gains of progress"):
        gains(np.zeros(0), 2)


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=40), st.integers(1, 7), st.floats(0, 0.5))
def test_weights_lie_in_the_unit_interval_and_grow_with_the_gain(gain: list[float], batch: int, kappa: float) -> None:
    data = np.sort(gain)
    weigh = RunningGainWeights(data, kappa=kappa)
    for start in range(0, len(data), batch):
        found = weigh(np.arange(start, min(start + batch, len(data))))
        assert (found >= 0).all() and (found <= 1).all() and (np.diff(found) >= 0).all()
    assert np.allclose(weigh.statistics, gain_statistics(data), atol=1e-7)


def test_running_weights_go_on_from_their_state() -> None:
    data = np.random.default_rng(0).normal(size=64)
    first, second = RunningGainWeights(data), RunningGainWeights(data)
    first(np.arange(32))
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert (first(np.arange(32, 64)) == second(np.arange(32, 64))).all()
    assert RunningGainWeights(np.full(3, np.nan))(np.arange(3)).tolist() == [1, 1, 1]
