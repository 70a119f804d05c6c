"""Advantages of denoising: the exact checks of sheets 00, 48 and 57, and what holds of every batch."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from steelyard.learn.advantages import applied, centre, chain, clip, scale
from steelyard.learn.noise import calibrate, within_count, within_share
from steelyard.learn.objectives import clipped
from steelyard.learn.step_advantages import (
    against_past,
    best_and_worst,
    best_only,
    per_step,
    rotated,
    scale_overall,
    without_zeros,
)
from steelyard.types import Actions, Rollouts, Sample, Scores, SteelyardError

DENSE = [[0.1, 0.3, -0.1], [0.2, -0.1, 0.4], [0.0, 0.2, 0.2]]


def rollouts(groups, steps=None):
    samples = {g: Sample(str(g), f"prompt {g}") for g in groups}
    actions = None if steps is None else Actions(np.zeros((len(groups), steps)), np.ones((len(groups), steps), bool))
    return Rollouts([samples[g] for g in groups], [""] * len(groups), group=np.asarray(groups), actions=actions)


def made(link, rewards, groups, steps=None):
    scores = Scores(np.asarray(rewards, np.float32), steps=steps)
    return applied(link, rollouts(groups, None if steps is None else np.shape(steps)[1]), scores)


def test_the_spread_of_the_group_and_of_all():
    rewards, groups = [1, 2, 3, 10, 10, 13], [0, 0, 0, 1, 1, 1]
    local = made(chain(centre(), scale(ddof=0)), rewards, groups).values
    assert local == pytest.approx([-1.22459489, 0, 1.22459489, -0.70705678, -0.70705678, 1.41411357], abs=1e-6)
    overall = made(chain(centre(), scale_overall()), rewards, groups).values
    assert overall == pytest.approx([-0.21524417, 0, 0.21524417, -0.21524417, -0.21524417, 0.43048834], abs=1e-6)


@pytest.mark.parametrize("scaled", [scale(ddof=0), scale_overall()])
def test_equal_groups_and_groups_of_one_are_zero(scaled):
    assert made(chain(centre(), scaled), [2, 2, 7], [0, 0, 1]).values.tolist() == [0, 0, 0]


def test_rows_that_were_not_judged_have_no_part_in_the_spread():
    judged = made(chain(centre(), scale_overall()), [1, 3], [0, 0])
    missing = made(chain(centre(), scale_overall()), [1, 3, np.nan], [0, 0, 0])
    assert missing.values[:2] == pytest.approx(judged.values) and missing.weights.tolist() == [1, 1, 0]


def test_zero_rows_are_left_out():
    assert made(chain(centre(), without_zeros()), [2, 2, 0, 1], [0, 0, 1, 1]).weights.tolist() == [0, 0, 1, 1]


def test_labels_in_place_of_advantages():
    rewards, groups = [0.1, 0.9, 0.9, 0.3, 0.3, 5.0], [0, 0, 0, 1, 1, 2]
    assert made(best_and_worst(), rewards, groups).values.tolist() == [-1, 1, 0, -1, 1, 0]
    assert made(best_only(), rewards, groups).values.tolist() == [0, 1, 1, 1, 1, 1]
    assert made(best_and_worst(), [np.nan, 2.0, 1.0], [0, 0, 0]).values.tolist() == [0, 1, -1]


def test_the_control_moves_whole_rows():
    assert made(chain(centre(), rotated()), [0, 1, 5, 5], [0, 0, 1, 1]).values.tolist() == [0, -0.5, 0.5, 0]


def test_dense_advantages_of_the_sheet():
    wanted = [
        [0, 0.98000409, -1.2971401],
        [1.22324671, -1.37200573, 1.13499759],
        [-1.22324671, 0.39200164, 0.16214251],
    ]
    found = made(per_step(centre(), scale(ddof=0)), [0.4, 0.6, 0.5], [0, 0, 0], DENSE)
    assert np.allclose(found.values, wanted, atol=1e-5)


@given(
    st.lists(st.lists(st.floats(-2, 2, width=32), min_size=3, max_size=3), min_size=4, max_size=4),
    st.floats(-5, 5, width=32),
)
def test_offsets_of_a_prompt_change_no_advantage_of_steps(latent, offset):
    latent = np.asarray(latent, np.float64).round(2)
    moved = latent + offset * np.asarray([1, 1, 0, 0])[:, None]
    link = per_step(centre())
    before, after = (
        made(link, np.zeros(4), [0, 0, 1, 1], np.diff(rewards, axis=1)).values for rewards in (latent, moved)
    )
    assert np.allclose(before, after, atol=1e-4)


def test_a_column_without_differences_and_a_group_of_one_are_zero():
    link = per_step(centre(), scale(ddof=0))
    assert made(link, [0, 0], [0, 0], [[0.5, 0.2], [0.5, -0.1]]).values[:, 0].tolist() == [0, 0]
    assert made(link, [0], [0], [[0.5, 0.2]]).values.tolist() == [[0, 0]]


def test_a_row_that_misses_a_step_is_left_out():
    steps = np.asarray([[0.5, np.nan], [0.1, 0.2], [0.3, 0.4]])
    found = made(per_step(centre()), [0, 0, 0], [0, 0, 0], steps)
    assert found.weights.tolist() == [0, 1, 1] and found.values[1:, 1] == pytest.approx([-0.1, 0.1])


@pytest.mark.parametrize("steps", [None, np.zeros((2, 3))])
def test_scores_of_steps_must_be_there_and_fit(steps):
    scores = Scores(np.zeros(2), steps=steps)
    with pytest.raises(SteelyardError, match="scores of steps"):
        per_step(centre())(applied(chain(), rollouts([0, 0]), scores), rollouts([0, 0], 2), scores)


def test_the_past_of_prompts():
    link = against_past(buffer=8, least=3)
    first = applied(link, rollouts([0, 0, 1]), Scores(np.asarray([1, 2, 3])))
    assert first.values == pytest.approx([-1.22474337, 0, 1.22474337], abs=1e-6)
    again = against_past(buffer=8, least=3)
    again.load_state_dict(link.state_dict())
    for one in (link, again):
        second = applied(one, rollouts([0, 1, 1]), Scores(np.asarray([3, 5, 4])))
        assert second.values == pytest.approx([1.22474337, 1.22474337, 0.0], abs=1e-6)


def test_equal_rewards_have_no_advantage_and_the_buffer_forgets():
    link = against_past(buffer=2, least=2)
    applied(link, rollouts([0, 0]), Scores(np.asarray([100.0, 100.0])))
    found = applied(link, rollouts([0, 0]), Scores(np.asarray([1.0, 1.0])))
    assert found.values.tolist() == [0, 0]
    with pytest.raises(SteelyardError, match="never holds"):
        against_past(buffer=2, least=3)


def loss_of(logp, old, advantages, *, epsilon, limit):
    x = torch.tensor(logp, dtype=torch.float64, requires_grad=True)
    values = torch.tensor(made(clip(limit), advantages, range(len(logp))).values.astype(np.float64))
    loss = clipped(epsilon=epsilon)(x, torch.tensor(old, dtype=torch.float64), None, values).loss.mean()
    loss.backward()
    return loss.item(), x.grad.tolist()


def test_the_losses_of_sheets_00_and_57():
    loss, gradient = loss_of([-1, -1.2, -0.9], [-1, -1.2002, -0.8999], [1, -0.5, 2], epsilon=1e-4, limit=5)
    assert loss == pytest.approx(-0.83323333, abs=1e-7)
    assert gradient == pytest.approx([-0.33333333, 0.1667, -0.6666], abs=1e-6)
    loss, gradient = loss_of([-1, -1.00005, -0.9], [-1, -1, -1], [1, -1, 12], epsilon=1e-4, limit=10)
    assert loss == pytest.approx(-3.33368333, abs=1e-7)
    assert gradient == pytest.approx([-0.33333333, 0.33331667, 0], abs=1e-7)


def test_an_exact_kl_is_added_as_it_is():
    logprobs, divergence = torch.zeros(2, 3), torch.tensor([[0.1, 0.2, 0.3], [0.0, 0.0, 0.5]])
    found = clipped(kl=0.5, estimator="exact")(logprobs, logprobs, divergence, torch.zeros(2, 3))
    assert torch.equal(found.loss, 0.5 * divergence) and torch.equal(found.metrics["kl"], divergence)


def test_calibration_by_hand():
    gains = np.asarray([[0.1, -0.2], [-0.1, -0.1], [0.2, -0.3], [-0.2, -0.1]])
    found = calibrate([0.7, 0.7], gains, balanced=within_count(2))
    assert found.levels == pytest.approx([0.71, 0.69])
    assert (found.gains.tolist(), found.losses.tolist()) == ([2, 0], [2, 4])
    still = calibrate([0.7], np.zeros((4, 1)), balanced=within_share())
    assert (still.gains.tolist(), still.losses.tolist()) == ([0], [0])
    assert calibrate([0.005], -np.ones((4, 1)), balanced=within_share()).levels.tolist() == [0.0]
    with pytest.raises(SteelyardError, match="must be"):
        calibrate([0.7], gains, balanced=within_share())


@pytest.mark.parametrize(("rows", "share"), [(24, 0.16), (256, 0.05)])
def test_the_literal_rule_hardly_ever_holds_for_a_balanced_step(rows, share):
    generator = np.random.default_rng(0)
    gains = np.where(generator.random((rows, 4000)) < 0.5, 1.0, -1.0)
    literal = calibrate(np.full(4000, 0.5), gains, balanced=within_count(2)).levels > 0.5
    relative = calibrate(np.full(4000, 0.5), gains, balanced=within_share(0.2)).levels > 0.5
    assert literal.mean() == pytest.approx(share, abs=0.02)
    assert relative.mean() > 0.6
