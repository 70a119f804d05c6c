"""The bench-top world: its clips, its gold, and a warm start that corruption hurts."""

import numpy as np
import pytest

from steelyard.perturb.video import VideoPerturbation
from steelyard.rewards.answers import correct
from steelyard.types import Rollouts, Sample, SteelyardError
from steelyard.worlds.moving_blob import DIRECTIONS, MovingBlob, clips, observe


def accuracy(policy, samples) -> float:
    return float(correct(policy.sample(samples, 1, generator=np.random.default_rng(0), greedy=True)).values.mean())


def test_the_blob_moves_as_it_is_said() -> None:
    videos = clips(np.arange(4).repeat(8), np.random.default_rng(0)).astype(float)[..., 0] - 40
    weight = np.clip(videos, 0, None)
    grid = np.arange(12)
    x = (weight * grid).sum((2, 3)) / weight.sum((2, 3))
    y = (weight * grid[:, None]).sum((2, 3)) / weight.sum((2, 3))
    moved = np.stack([x[:, -1] - x[:, 0], y[:, -1] - y[:, 0]], axis=1)
    for index, name in enumerate(DIRECTIONS):
        axis, sign = DIRECTIONS[name]
        along = moved[index * 8 : index * 8 + 8, int(axis == "vertical")] * (1 if sign == "positive" else -1)
        assert (along > 2).all(), name


def test_the_gold_completion_is_right_and_splits_differ() -> None:
    world = MovingBlob()
    samples = world.samples("test", 16)
    gold = Rollouts(samples, [sample.columns["solution"] for sample in samples])
    assert (correct(gold).values == 1).all()
    assert not np.array_equal(samples[0].video, world.samples("train", 1)[0].video)
    assert np.array_equal(samples[3].video, world.samples("test", 8)[3].video) or len(samples) == 16


def test_the_warm_start_is_right_on_clean_clips_and_hurt_by_snow() -> None:
    world = MovingBlob(warmup=60)
    policy, samples = world.policy(seed=1), world.samples("test", 128)
    clean = accuracy(policy, samples)
    snow = accuracy(policy, [VideoPerturbation("snow", 5, i)(s) for i, s in enumerate(samples)])
    assert clean > 0.9 and snow < clean - 0.2


def test_sampled_and_scored_log_probabilities_agree() -> None:
    import torch

    world = MovingBlob(warmup=1)
    policy, samples = world.policy(), world.samples("test", 4)
    rollouts = policy.sample(samples, 3, generator=np.random.default_rng(0))
    assert rollouts.actions is not None
    with torch.no_grad():
        np.testing.assert_allclose(policy.logprobs(rollouts).numpy(), rollouts.actions.logprobs, atol=1e-5)
    one = policy.sample(samples[1:2], 3, generator=[np.random.Generator(np.random.Philox(7))])
    two = policy.sample(samples[:2], 3, generator=[np.random.Generator(np.random.Philox(k)) for k in (1, 7)])
    assert two.completions[3:] == one.completions, "a row's draw does not depend on its neighbours"


def test_bad_input_is_refused() -> None:
    with pytest.raises(SteelyardError, match="has no video"):
        observe(Sample("x", "p"))
    policy, rows, generator = MovingBlob(warmup=0).policy(), MovingBlob().samples("test", 2), np.random.default_rng(0)
    for samples, n in (([], 1), (rows, 0)):
        with pytest.raises(SteelyardError, match="both must be at least 1"):
            policy.sample(samples, n, generator=generator)
    rollouts = policy.sample(rows, 1, generator=generator)
    with pytest.raises(SteelyardError, match="no copy 'reference'"):
        policy.logprobs(rollouts, copy="reference")
    rollouts.actions = None
    with pytest.raises(SteelyardError, match="hold no tokens"):
        policy.logprobs(rollouts)
    with pytest.raises(SteelyardError, match="cannot say"):
        MovingBlob(warmup=0).policy().encode([], ["<think>a b</think><answer>c</answer>"])
