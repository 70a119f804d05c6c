"""The unlikeliness reward: sheet 32's exact checks."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steelyard.learn.advantages import advantages_of, centre, chain, scale, with_signal
from steelyard.learn.rank_shaping import ascending_ranks, mean_logprob, total_logprob, unlikeliness
from steelyard.types import Actions, Rollouts, Sample, Scores, SteelyardError

MEANS = [-0.15, -1.5, -0.5, -2.0]
GRPO = (centre(keep_single=True), scale(epsilon=1e-6))


def run(link, rewards, logprobs, group=None, mask=None):
    logprobs = np.array(logprobs, np.float32)
    logprobs = logprobs[:, None] if logprobs.ndim == 1 else logprobs
    mask = np.ones(logprobs.shape, bool) if mask is None else np.array(mask, bool)
    n = len(rewards)
    group = np.zeros(n) if group is None else np.array(group)
    rollouts = Rollouts([Sample("s", "p")] * n, [""] * n, group, actions=Actions(logprobs, mask))
    scores = Scores(np.array(rewards, np.float32))
    return link(advantages_of(scores), rollouts, scores)


def test_the_sheets_group():
    rewards = [1, 1, 0, 1]
    assert ascending_ranks(np.array(MEANS), np.zeros(4, int)).tolist() == [3, 1, 2, 0]
    assert run(unlikeliness(0.25), rewards, MEANS).values.tolist() == [0.8125, 0.9375, 0, 1]
    assert run(unlikeliness(0.25, first=1), rewards, MEANS).values.tolist() == [0.75, 0.875, 0, 0.9375]
    got = run(chain(unlikeliness(0.25), *GRPO), rewards, MEANS).values
    assert got == pytest.approx([0.26886585, 0.53773171, -1.47876215, 0.67216462], abs=1e-5)
    got = run(chain(unlikeliness(0.0), *GRPO), rewards, MEANS).values
    assert got == pytest.approx([0.5, 0.5, -1.5, 0.5], abs=1e-5)


def test_groups_that_are_all_right_train_unless_they_are_dropped_before():
    shaped = run(unlikeliness(0.25), [1, 1, 1], MEANS[:3]).values
    assert shaped == pytest.approx([0.8333, 1, 0.9167], abs=1e-4)
    assert run(chain(unlikeliness(0.25), *GRPO), [1, 1, 1], MEANS[:3]).values == pytest.approx([-1, 1, 0], abs=2e-5)
    assert run(chain(with_signal(), unlikeliness(0.25), *GRPO), [1, 1, 1], MEANS[:3]).weights.tolist() == [0] * 3
    assert run(chain(unlikeliness(0.25), *GRPO), [0, 0, 0], MEANS[:3]).values.tolist() == [0] * 3


def test_ranks_are_by_the_mean_over_valid_steps():
    logprobs = [[-0.2, -9, -9], [-0.3, -0.3, -0.3], [-1, -1, -9]]
    mask = [[1, 0, 0], [1, 1, 1], [1, 1, 0]]
    assert run(unlikeliness(0.25), [1, 1, 0], logprobs, mask=mask).values == pytest.approx(
        [0.8333, 0.9167, 0], abs=1e-4
    )
    got = run(chain(unlikeliness(0.25), *GRPO), [1, 1, 0], logprobs, mask=mask).values
    assert got == pytest.approx([0.49319601, 0.65759474, -1.15079057], abs=1e-5)
    actions = Actions(np.array([[-0.9, 0], [-0.5, -0.5]]), np.array([[1, 0], [1, 1]]))
    assert mean_logprob(actions).argmax() == 1 and total_logprob(actions).argmax() == 0
    by_sum = unlikeliness(0.5, likely=total_logprob)
    assert run(by_sum, [1, 1], [[-0.9, 0], [-0.5, -0.5]], mask=[[1, 0], [1, 1]]).values.tolist() == [0.75, 1]
    assert repr(by_sum) == "unlikeliness(beta=0.5, likely=total_logprob)"


def test_a_group_of_one_keeps_its_reward():
    assert run(chain(unlikeliness(0.25), *GRPO), [1], [-0.5]).values[0] == pytest.approx(1 / (1 + 1e-6))
    assert run(chain(unlikeliness(0.25), centre(), scale()), [1], [-0.5]).values[0] == 0


def test_groups_are_ranked_apart():
    got = run(unlikeliness(0.5), [1, 1, 1, 1], [-1, -2, -10, -20], group=[0, 0, 1, 1])
    assert got.values.tolist() == [0.75, 1, 0.75, 1]


def test_duplicates_share_their_rank_and_unjudged_rows_take_none():
    assert run(unlikeliness(0.4), [1, 1, 1, 1], [-1, -1, -3, -1]).values == pytest.approx([0.8, 0.8, 1, 0.8])
    got = run(unlikeliness(0.5), [1, np.nan, 1], [-1, -2, -3])
    assert got.values[[0, 2]].tolist() == [0.75, 1] and got.weights.tolist() == [1, 0, 1]


def test_only_positive_rewards_are_shaped():
    assert run(unlikeliness(0.5), [-1, 0.5], [-1, -2]).values.tolist() == [-1, 0.5]


rows = st.lists(st.tuples(st.integers(0, 2), st.booleans(), st.integers(-40, -1)), min_size=1, max_size=14)


@given(rows, st.sampled_from([lambda x: 3 * x, lambda x: x / 7 - 2, lambda x: -np.exp(-x / 10), lambda x: x**3]))
def test_invariant_to_what_keeps_the_order(rows, change):
    group, rewards = [g for g, _, _ in rows], [float(r) for _, r, _ in rows]
    logprobs = np.array([x for _, _, x in rows], np.float64)
    plain = run(unlikeliness(0.25), rewards, logprobs, group).values
    assert np.array_equal(run(unlikeliness(0.25), rewards, change(logprobs), group).values, plain)


@given(rows)
def test_an_unlikelier_wrong_sample_lowers_the_pay_of_every_right_one(rows):
    rewards = [float(r) for _, r, _ in rows]
    logprobs = [float(x) for _, _, x in rows]
    before = run(unlikeliness(0.25), rewards, logprobs).values
    after = run(unlikeliness(0.25), [*rewards, 0.0], [*logprobs, -99.0]).values[:-1]
    right = np.array(rewards) > 0
    assert (after[right] < before[right]).all() and (after[~right] == before[~right]).all()


def test_bad_settings():
    with pytest.raises(SteelyardError, match=r"beta must lie in \[0, 1\]"):
        unlikeliness(1.5)
    with pytest.raises(SteelyardError, match="carry no actions"):
        scores = Scores(np.ones(1))
        unlikeliness()(advantages_of(scores), Rollouts([Sample("s", "p")], [""]), scores)
    with pytest.raises(SteelyardError, match="of these rollouts are unknown"):
        run(unlikeliness(), [1, 1], [np.nan, -1])
    assert repr(unlikeliness(0.25, first=1)) == "unlikeliness(beta=0.25, first=1)"
