"""DiffusionNFT: optimality, the errors for and against a sample, and the policy that gives them to the trainer."""

from pathlib import Path

import numpy as np
import pytest
import torch

from steelyard.learn.config import TrainConfig
from steelyard.learn.forward_process import negative_aware, optimality
from steelyard.learn.trainer import Trainer
from steelyard.methods.firm import generated_by_firm
from steelyard.policies.forward_process import ForwardPolicy, errors_for_and_against
from steelyard.types import SteelyardError
from steelyard.worlds.eight_modes import by_noised_copies, with_prompts

CONFIG = TrainConfig(
    steps=4, prompts=8, lr=1e-3, weight_decay=0.0, schedule="constant", grad_clip=1.0, micro_rows=500, seed=7
)


def draws(seed=0):
    generator = torch.Generator().manual_seed(seed)
    start, noise, velocity, old = (torch.randn(5, 2, 3, generator=generator, dtype=torch.float64) for _ in range(4))
    time = torch.rand(5, generator=generator, dtype=torch.float64)
    late = time[:, None, None]
    return velocity, old, (1 - late) * start + late * noise, start, time


def test_optimality_of_advantages() -> None:
    advantages = torch.tensor([-7.0, -2.5, 0.0, 1.0, 9.0])
    assert optimality(advantages).tolist() == pytest.approx([0.0, 0.25, 0.5, 0.6, 1.0])


@pytest.mark.parametrize("mix", [0.1, 0.5, 1.0])
def test_equal_velocities_fit_alike(mix: float) -> None:
    _, old, *rest = draws()
    plus, minus = errors_for_and_against(old, old, *rest, mix=mix)
    assert torch.allclose(plus, minus)


@pytest.mark.parametrize("mix", [0.1, 1.0])
def test_the_loss_is_the_written_one(mix: float) -> None:
    velocity, old, x, start, time = draws(1)
    advantages = torch.tensor([[-7.0], [-2.0], [0.0], [3.0], [9.0]], dtype=torch.float64)
    late, share = time[:, None, None], (advantages[:, 0] / 10 + 0.5).clamp(0, 1)
    terms = []
    for sign in (1, -1):
        off = x - late * ((1 - sign * mix) * old + sign * mix * velocity) - start
        terms.append((off**2 / off.abs().mean((1, 2), keepdim=True) / mix).mean((1, 2)))
    written = 5 * (share * terms[0] + (1 - share) * terms[1])
    plus, minus = errors_for_and_against(velocity, old, x, start, time, mix=mix)
    loss = negative_aware()(((minus - plus) / 2)[:, None], torch.zeros(5, 1), ((minus + plus) / 2)[:, None], advantages)
    assert torch.allclose(loss.loss[:, 0], written)


def test_a_good_sample_draws_the_velocity_and_a_bad_one_pushes_it() -> None:
    _, old, x, start, time = draws(2)
    right = (x - start) / time[:, None, None]
    for advantage, sign in ((5.0, 1), (-5.0, -1)):
        velocity = old.clone().requires_grad_()
        plus, minus = errors_for_and_against(velocity, old, x, start, time)
        given = torch.full((5, 1), advantage, dtype=torch.float64)
        step = negative_aware()(((minus - plus) / 2)[:, None], given, ((minus + plus) / 2)[:, None], given)
        step.loss.sum().backward()
        assert velocity.grad is not None
        towards = -(velocity.grad * (right - old)).flatten(1).sum(1)
        assert (sign * towards > 0).all()


def run(folder: Path, policy: ForwardPolicy, config: TrainConfig = CONFIG):
    world = by_noised_copies()
    recipe = generated_by_firm(world)
    return Trainer(policy, recipe, world.samples("train", 8), config, folder=folder, progress=False).run().rows()


def test_it_learns_and_starts_on_policy(tmp_path: Path) -> None:
    policy = by_noised_copies().policy()
    config = TrainConfig(**{**CONFIG.to_json(), "steps": 40, "lr": 3e-3, "micro_rows": 4096, "trackers": ()})
    rows = run(tmp_path, policy, config)
    assert rows[0]["sampler_gap"] < 1e-6 and rows[0]["fit"] == pytest.approx(0, abs=1e-6)
    assert np.mean([row["reward"] for row in rows[-5:]]) > rows[0]["reward"] + 0.3


def test_micro_batches_change_nothing(tmp_path: Path) -> None:
    ends = []
    for rows in (24, 4096):
        policy = by_noised_copies().policy()
        run(tmp_path / str(rows), policy, TrainConfig(**{**CONFIG.to_json(), "micro_rows": rows, "trackers": ()}))
        ends.append(torch.nn.utils.parameters_to_vector(policy.module.parameters()))
    assert torch.allclose(*ends, atol=1e-5)


def test_the_anchor_holds_the_reference(tmp_path: Path) -> None:
    moved = []
    for anchor in (0.0, 10.0):
        policy = ForwardPolicy(with_prompts().policy(), copies=2, anchor=anchor)
        before = torch.nn.utils.parameters_to_vector(policy.module.parameters()).detach().clone()
        run(tmp_path / str(anchor), policy, TrainConfig(**{**CONFIG.to_json(), "steps": 12, "trackers": ()}))
        after = torch.nn.utils.parameters_to_vector(policy.module.parameters()).detach()
        rollouts = policy.sample(by_noised_copies().samples("train", 8), 4, generator=np.random.default_rng(0))
        apart = policy.means(rollouts) - policy.means(rollouts, copy="reference")
        moved.append(float(apart.detach().square().mean()))
        assert not torch.equal(before, after)
    assert moved[1] < moved[0]


def test_samples_are_the_samplers_own_and_noised_by_the_formula() -> None:
    policy = by_noised_copies().policy()
    samples = by_noised_copies().samples("train", 3)
    rollouts = policy.sample(samples, 2, generator=np.random.default_rng(1))
    assert rollouts.actions is not None
    data = rollouts.actions.data
    assert np.allclose(data["start"][:, 0], np.stack(list(rollouts.completions)))
    late = data["time"][..., None]
    noise = (data["x"] - (1 - late) * data["start"]) / late
    assert abs(float(noise.mean())) < 0.6 and 0.5 < float(noise.std()) < 1.5
    again = policy.sample(samples, 2, generator=np.random.default_rng(1))
    assert again.actions is not None and np.array_equal(again.actions.data["x"], data["x"])
    assert policy.sample(samples, 1, generator=np.random.default_rng(1), greedy=True).actions is None
    assert policy.logprobs(rollouts).abs().max() < 1e-5


def test_bad_options_are_refused() -> None:
    inner = with_prompts().policy()
    for options in ({"copies": 0}, {"mix": 0.0}, {"mix": 2.0}, {"anchor": -1.0}):
        with pytest.raises(SteelyardError, match="a copy, a mix"):
            ForwardPolicy(inner, **options)
    with pytest.raises(SteelyardError, match="must be positive"):
        negative_aware(limit=0)
    with pytest.raises(SteelyardError, match="trains a ForwardPolicy"):
        negative_aware()(torch.zeros(2, 1), torch.zeros(2, 1), None, torch.zeros(2, 1))
    rollouts = inner.sample(with_prompts().samples("train", 2), 2, generator=np.random.default_rng(0))
    with pytest.raises(SteelyardError, match="ForwardPolicy sampled"):
        ForwardPolicy(inner).logprobs(rollouts)
