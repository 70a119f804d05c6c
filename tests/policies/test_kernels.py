"""Denoising steps: the exact checks of sheets 00, 48 and 57, and what holds of every kernel."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from steelyard.policies import kernels
from steelyard.types import SteelyardError


def rows(values, *, step: int = 0):
    x = torch.tensor(values, dtype=torch.float32)
    return x, torch.full((len(x),), step)


def test_the_schedule_of_stable_diffusion_3():
    wanted = [1, 0.960129, 0.913349, 0.857692, 0.790368, 0.707278, 0.602151, 0.464876, 0.278049, 0.008929, 0]
    assert kernels.shifted_sigmas(10) == pytest.approx(wanted, abs=1e-6)


def test_the_schedule_is_diffusers_own():
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
    scheduler.set_timesteps(7)
    assert kernels.shifted_sigmas(7) == pytest.approx(scheduler.sigmas.numpy(), abs=1e-6)


def test_a_middle_step_by_hand():
    kernel = kernels.sde([0.5, 0.25, 0.0], 1.0)
    x, step = rows([[2.0, -1.0]])
    v = torch.tensor([[1.0, 4.0]])
    mean = kernel.mean(x, v, step)
    assert mean.tolist()[0] == pytest.approx([0.75 * 2 - 0.375, -0.75 - 0.375 * 4])
    assert kernel.noise[0] == pytest.approx(0.5)
    assert kernel.logprob(mean, mean, step).item() == pytest.approx(-0.22579135, abs=1e-7)


@given(st.floats(0.05, 0.98), st.floats(0.05, 2.0))
def test_the_first_step_draws_a_and_takes_the_velocity_once(following, a):
    kernel = kernels.sde([1.0, following, 0.0], a)
    assert kernel.noise[0] == pytest.approx(a, rel=1e-5)
    assert kernel.output_weight[0] == pytest.approx(following - 1, rel=1e-5)


def test_no_noise_is_the_ode_and_has_no_logprob():
    sigmas = kernels.even_sigmas(4)
    still, euler = kernels.sde(sigmas, 0.0), kernels.ode(sigmas)
    for name in ("state_weight", "output_weight", "noise"):
        assert getattr(still, name) == pytest.approx(getattr(euler, name))
    x, step = rows([[1.0]])
    with pytest.raises(SteelyardError, match="no log-probability"):
        euler.logprob(x, x, step)


def test_a_stored_step_scores_the_same_bit_for_bit():
    kernel = kernels.sde(kernels.shifted_sigmas(10), 0.7)
    generator = torch.Generator().manual_seed(0)
    x, v, z = (torch.randn(64, 3, 4, 4, generator=generator) for _ in range(3))
    for i in range(10):
        step = torch.full((64,), i)
        mean = kernel.mean(x, v, step)
        following = mean + float(kernel.noise[i]) * z
        old = kernel.logprob(following, mean, step)
        again = kernel.logprob(following, kernel.mean(x, v, step), step)
        assert torch.equal(torch.exp(again - old), torch.ones(64))


def test_free_noise_levels_by_hand():
    kernel = kernels.sde([1, 0.75, 0.5, 0.25, 0], [0.9] * 4)
    x, step = rows([[0.2, -0.4]], step=1)
    mean = kernel.mean(x, torch.tensor([[1.0, 0.5]]), step)
    assert mean.tolist()[0] == pytest.approx([-0.11075, -0.487875])
    assert kernel.noise[1] == pytest.approx(0.45)
    following = mean + 0.45 * torch.tensor([[0.3, -1.2]])
    assert following.tolist()[0] == pytest.approx([0.02425, -1.027875])


def moments(kernel, rows=50_000):
    """Standard deviation of samples by the exact velocity of N(1.5, 0.5²)."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(rows, 1, generator=generator)
    for i in range(len(kernel)):
        t = float(kernel.time[i])
        v = (t - (1 - t) * 0.25) / ((1 - t) ** 2 * 0.25 + t * t) * (x - (1 - t) * 1.5) - 1.5
        mean = kernel.mean(x, v, torch.full((rows,), i))
        x = mean + float(kernel.noise[i]) * torch.randn(x.shape, generator=generator)
    return float(x.std())


@pytest.mark.parametrize(
    ("steps", "stochastic", "deterministic"), [(10, 0.4795, 0.431), (50, 0.499, 0.485), (1000, 0.5015, 0.499)]
)
def test_the_sde_keeps_the_marginals_of_the_ode(steps, stochastic, deterministic):
    grid = kernels.even_sigmas(steps)
    assert moments(kernels.sde(grid, 0.7)) == pytest.approx(stochastic, abs=0.006)
    assert moments(kernels.ode(grid)) == pytest.approx(deterministic, abs=0.006)


def test_the_turned_sign_loses_them():
    from steelyard.methods.flow_grpo import wrong_sign

    assert moments(wrong_sign(10)) == pytest.approx(1.84, abs=0.05)


def test_the_kl_of_two_gaussians_and_the_released_one():
    sigmas, moved = [0.5, 0.25, 0.0], torch.tensor([[0.1, 0.3, -0.2]])
    x, step = rows([[0.0, 0.0, 0.0]])
    exact = kernels.sde(sigmas, 1.0)
    normal = torch.distributions.Normal
    wanted = torch.distributions.kl_divergence(normal(moved, 0.5), normal(x, 0.5)).mean()
    assert exact.kl(moved, x, step).item() == pytest.approx(wanted.item())
    released = kernels.sde(sigmas, 1.0, released_kl=True).kl(moved, x, step)
    assert (exact.kl(moved, x, step) / released).item() == pytest.approx(1 / 0.25)
    assert exact.kl(moved[:, [2, 0, 1]], x, step).item() == pytest.approx(wanted.item())
    assert exact.kl(moved, moved, step).item() == 0.0


def test_the_kl_by_velocities():
    """|dt|/2 (1/ς + ς(1 − t)/(2t))² (Δv)², the paper's form."""
    kernel, difference = kernels.sde([0.6, 0.4, 0.0], 0.7), torch.tensor([[0.3]])
    x, step = rows([[0.2]])
    means = kernel.mean(x, difference, step), kernel.mean(x, 0 * difference, step)
    level, t, dt = kernels.sde_levels([0.6, 0.4, 0.0], 0.7)[0], 0.6, 0.2
    wanted = dt / 2 * (1 / level + level * (1 - t) / (2 * t)) ** 2 * 0.3**2
    assert kernel.kl(*means, step).item() == pytest.approx(wanted, rel=1e-5)


def test_summed_logprobs_are_the_density():
    kernel = kernels.sde([0.5, 0.25, 0.0], 1.0, reduction="sum")
    x, step = rows([[0.1, 0.7]])
    wanted = torch.distributions.Normal(torch.zeros(1, 2), 0.5).log_prob(x).sum()
    assert kernel.logprob(x, torch.zeros(1, 2), step).item() == pytest.approx(wanted.item())


def test_cps_keeps_the_amount_of_noise():
    kernel = kernels.cps(kernels.even_sigmas(4), 0.8)
    assert kernel.noise[:-1] == pytest.approx(kernels.even_sigmas(4)[1:-1] * math.sin(0.4 * math.pi), rel=1e-5)
    # x = σ e with v = e: what is kept and what is drawn have the variance σ'² together.
    x, v = torch.tensor([[0.75]]), torch.tensor([[1.0]])
    mean = kernel.mean(x, v, torch.tensor([1]))
    assert mean.item() ** 2 + kernel.noise[1] ** 2 == pytest.approx(0.25)
    assert not kernel.random[-1]


def test_a_window_has_noise_inside_and_none_outside():
    kernel = kernels.sde(kernels.even_sigmas(6), 0.7, window=(2, 4))
    assert kernel.random.tolist() == [False, False, True, True, False, False]
    assert kernel.state_weight[[0, 1, 4, 5]] == pytest.approx(1.0)


def test_the_timesteps_of_consistency_models():
    assert kernels.lcm_timesteps(8).tolist() == [999, 879, 759, 639, 519, 399, 279, 159]
    assert kernels.lcm_timesteps(2).tolist() == [999, 499]
    assert kernels.lcm_timesteps(16).tolist()[:2] == [999, 939] and kernels.lcm_timesteps(16)[-1] == 99
    assert kernels.lcm_timesteps(3, origin_steps=20).tolist() == [999, 699, 399]


def test_a_latent_consistency_step_by_hand():
    kernel = kernels.lcm_step(np.asarray([0.00466009508818388]), [0.05221289023756981], np.asarray([999]))
    step, x = torch.zeros(1, dtype=torch.long), torch.tensor([[0.5, -1.0]], dtype=torch.float64)
    mean = kernel.mean(x, torch.tensor([[0.3, -0.8]]), step)
    assert mean.tolist()[0] == pytest.approx([0.67179768, -0.67570186], abs=2e-6)
    assert kernel.noise[0] == pytest.approx(0.97354358)
    following = torch.tensor([[0.4, -0.9]])
    assert kernel.logprob(following, mean, step).item() == pytest.approx(-0.92488206, abs=1e-6)


def test_a_whole_lcm_sampler_ends_at_the_denoised_estimate():
    alpha_bar = np.cumprod(1 - np.linspace(0.00085, 0.012, 1000))
    kernel = kernels.lcm(alpha_bar, 4)
    assert kernel.time.tolist() == [999, 759, 519, 279] and kernel.random.tolist() == [True, True, True, False]
    skip, out = kernels.lcm_denoised(alpha_bar[[279]], np.asarray([279]))
    assert kernel.state_weight[-1] == pytest.approx(skip[0], rel=1e-5)
    assert kernel.output_weight[-1] == pytest.approx(out[0], rel=1e-5)


def test_one_consistency_step_is_refused():
    for make in (lambda: kernels.consistency([1.0, 0.0]), lambda: kernels.lcm(np.linspace(1, 0.1, 1000), 1)):
        with pytest.raises(SteelyardError, match="no action"):
            make()


def test_the_score_function_has_mean_zero():
    kernel = kernels.consistency(kernels.even_sigmas(4))
    mean = torch.zeros(100_000, 1, requires_grad=True)
    step = torch.zeros(len(mean), dtype=torch.long)
    noise = torch.randn(mean.shape, generator=torch.Generator().manual_seed(0))
    kernel.logprob(mean.detach() + float(kernel.noise[0]) * noise, mean, step).mean().backward()
    assert mean.grad.sum().item() == pytest.approx(0.0, abs=0.02)


def test_completions_use_the_grid():
    assert kernels.completion_grid(1, 4) == [1, 2, 3, 4] == kernels.completion_grid(1, 4, 9)
    assert kernels.completion_grid(1, 4, 1) == [1, 4]
    line = lambda x, t: x * torch.tensor([0.5, -0.2]) + torch.tensor([0.1, 0.0])  # noqa: E731
    x, sigmas = torch.tensor([[1.0, -0.5]]), [1.0, 0.75, 0.5, 0.25, 0.0]
    whole = kernels.complete(line, x, sigmas, kernels.completion_grid(1, 4))
    assert whole.tolist()[0] == pytest.approx([0.60390625, -0.5788125])
    short = kernels.complete(line, x, sigmas, kernels.completion_grid(1, 4, 1))
    assert short.tolist()[0] == pytest.approx([0.55, -0.575])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: kernels.shifted_sigmas(0), "needs a step"),
        (lambda: kernels.even_sigmas(0), "goes nowhere"),
        (lambda: kernels.sde([0.0, 1.0]), "must fall"),
        (lambda: kernels.sde([1.0, 0.0], [0.1, 0.2]), "one number of at least 0 a step"),
        (lambda: kernels.sde([1.0, 0.5, 0.0], 0.7, window=(1, 3)), "does not lie"),
        (lambda: kernels.sde([1.0, 0.5, 0.0], 0.7, reduction="max"), "mean or sum"),
        (lambda: kernels.cps([1.0, 0.0], 2.0), "share of the noise"),
        (lambda: kernels.lcm_timesteps(60), "at most as many"),
        (lambda: kernels.completion_grid(3, 3), "start before the end"),
    ],
)
def test_bad_input_is_one_sentence(make, words):
    with pytest.raises(SteelyardError, match=words):
        make()
