"""The policy of denoising steps: sampling, recomputing, exact KL, guidance, completing."""

import numpy as np
import pytest
import torch

from steelyard.policies.flow import DenoisingPolicy
from steelyard.policies.kernels import even_sigmas, ode, sde
from steelyard.policies.points import ConsistencyNet, Points, VelocityNet
from steelyard.types import Rollouts, Sample, SteelyardError

SAMPLES = [Sample(f"s{i}", f"prompt {i}", columns={"number": i}) for i in range(3)]


def policy(*, guidance=1.0, kernel=None, **options):
    torch.manual_seed(0)
    backbone = Points(VelocityNet(2, prompts=3, width=16))
    kernel = kernel or sde(even_sigmas(5), 0.7)
    return DenoisingPolicy(backbone, kernel, evaluation=ode(even_sigmas(8)), guidance=guidance, **options)


def drawn(acting, *, n=4, seed=0, **options):
    return acting.sample(SAMPLES, n, generator=np.random.default_rng(seed), **options)


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_logprobs_are_what_sampling_said(guidance):
    acting = policy(guidance=guidance, trained=0.9)
    rollouts = drawn(acting)
    assert rollouts.actions.mask.tolist()[0] == [True, True, True, True, False]
    again = acting.logprobs(rollouts).detach().numpy()
    assert np.abs(again - rollouts.actions.logprobs).max() < 1e-5
    part = acting.logprobs(rollouts.take([7, 2])).detach().numpy()
    assert np.abs(part - again[[7, 2], :4]).max() < 1e-5


def test_a_step_follows_from_state_and_noise():
    acting, kernel = policy(), sde(even_sigmas(5), 0.7)
    data = drawn(acting).actions.data
    assert np.array_equal(data["next"][:, :-1], data["x"][:, 1:])
    assert data["x"].shape == (12, 5, 2)
    z = (data["next"][:, 2] - data["x"][:, 2]) / kernel.noise[2]
    assert 0.3 < z.std() < 3


def test_the_batch_changes_nothing():
    whole, cut = drawn(policy()), drawn(policy(batch=5))
    assert np.allclose(np.stack(whole.completions), np.stack(cut.completions), atol=1e-6)
    alone = policy().sample(SAMPLES[1:2], 4, generator=[_stream(1)])
    assert np.allclose(np.stack(whole.completions)[4:8], np.stack(alone.completions), atol=1e-6)


def _stream(index):
    from steelyard.types import streams

    return streams(np.random.default_rng(0), 3)[index]


def test_greedy_samples_have_no_actions_and_follow_the_ode():
    acting = policy()
    rollouts = drawn(acting, greedy=True)
    assert rollouts.actions is None
    assert np.array_equal(np.stack(rollouts.completions), np.stack(drawn(acting, greedy=True).completions))
    with pytest.raises(SteelyardError, match="hold no 'x'"):
        acting.logprobs(rollouts)


def test_the_kl_is_zero_at_the_reference_and_exact_away_from_it():
    acting = policy()
    rollouts = drawn(acting)
    acting.snapshot("reference")
    with torch.no_grad():
        reference = acting.means(rollouts, copy="reference")
        assert acting.logprobs_and_kl(rollouts, reference)[1].abs().max() == 0
        acting.module.layers[-1].bias += 0.1
        logprobs, kl = acting.logprobs_and_kl(rollouts, reference)
    kernel = acting.kernel
    wanted = (0.1 * kernel.output_weight) ** 2 / (2 * kernel.noise**2)
    assert np.allclose(kl.numpy(), wanted[None], rtol=1e-3)
    assert torch.equal(logprobs, acting.logprobs(rollouts).detach())


def test_gradients_reach_the_conditional_half_only():
    acting = policy(guidance=2.0)
    rollouts = drawn(acting)
    acting.logprobs(rollouts).sum().backward()
    guided = acting.module.layers[0].weight.grad.clone()
    # By hand: the unconditional half as a constant.
    acting.module.zero_grad()
    x = torch.tensor(rollouts.actions.data["x"]).flatten(0, 1)
    step = torch.arange(5).repeat(12)
    time = torch.tensor(acting.kernel.time)[step]
    number = torch.tensor([s.columns["number"] for s in rollouts.samples]).repeat_interleave(5)
    plain = acting.module(x, time, torch.zeros_like(number)).detach()
    velocity = plain + 2.0 * (acting.module(x, time, number) - plain)
    mean = acting.kernel.mean(x, velocity, step)
    following = torch.tensor(rollouts.actions.data["next"]).flatten(0, 1)
    acting.kernel.logprob(following, mean, step).sum().backward()
    assert torch.allclose(guided, acting.module.layers[0].weight.grad, rtol=1e-3, atol=1e-4)


def test_a_window_trains_its_steps_only_and_shares_what_comes_before():
    acting = policy(kernel=sde(even_sigmas(5), 0.7, window=(2, 4)), shared_start=True)
    rollouts = drawn(acting)
    assert rollouts.actions.mask.tolist()[0] == [False, False, True, True, False]
    x = rollouts.actions.data["x"].reshape(3, 4, 5, 2)
    assert np.allclose(x[:, :, :3], x[:, :1, :3], atol=1e-6) and not np.allclose(x[:, 1, 3], x[:, 0, 3])
    assert (acting.logprobs(rollouts)[:, [0, 1, 4]] == 0).all()


def test_completions_of_states():
    acting = policy(kernel=sde(even_sigmas(5), [0.0, 0.7, 0.7, 0.0, 0.0]))
    rollouts = drawn(acting)
    calls = acting.calls
    ends = [np.stack(row) for row in acting.completed(rollouts)]
    assert acting.calls - calls == 12 * 15 and len(ends) == 5
    final = np.stack(rollouts.completions)
    # Steps without noise are the completion's own: nothing changes by them.
    assert np.allclose(ends[0], ends[1], atol=1e-5)
    assert np.allclose(ends[3], final, atol=1e-5) and np.allclose(ends[4], final, atol=1e-5)
    assert not np.allclose(ends[1], final, atol=1e-2)
    short = [np.stack(row) for row in acting.completed(rollouts, steps=1)]
    assert np.allclose(short[4], ends[4], atol=1e-5) and not np.allclose(short[0], ends[0], atol=1e-3)
    whole = [np.stack(row) for row in acting.completed(rollouts, steps=9)]
    assert all(np.allclose(a, b, atol=1e-5) for a, b in zip(whole, ends, strict=True))


def test_a_consistency_network_keeps_clean_states():
    torch.manual_seed(0)
    module, x = ConsistencyNet(2, prompts=3), torch.randn(4, 2)
    assert torch.equal(module(x, torch.zeros(4), torch.zeros(4, dtype=torch.long)), x)


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (lambda p: p.sample([], 1, generator=np.random.default_rng(0)), "must be at least 1"),
        (lambda p: p.logprobs(drawn(p), copy="reference"), "no copy 'reference'"),
        (lambda p: p.logprobs(Rollouts(SAMPLES, ["", "", ""])), "hold no 'x'"),
        (lambda p: p.save_pretrained("there"), "no form on disk"),
        (lambda p: policy(kernel=ode(even_sigmas(5))), "nothing to train"),
        (lambda p: policy(trained=2.0), "share of the steps"),
    ],
)
def test_bad_input_is_one_sentence(act, words):
    with pytest.raises(SteelyardError, match=words):
        act(policy())
