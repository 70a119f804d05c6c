"""Denoising as a chain of Gaussian steps: schedules of noise, and what each step makes of a state and a prediction."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Literal, TypeAlias, get_args

import numpy as np
import torch
from torch import Tensor

from steelyard.types import Array, SteelyardError

Reduction: TypeAlias = Literal["mean", "sum"]
Network: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""States [B, …] and times [B] to a prediction [B, …]."""

LOG_ROOT_2PI = 0.5 * math.log(2 * math.pi)


def shifted_sigmas(steps: int, *, shift: float = 3.0, train_steps: int = 1000) -> Array:
    """The noise levels of Stable Diffusion 3's scheduler, float32 [steps + 1], from 1 to 0.

    f(u) = k u / (1 + (k − 1) u); `steps` equal distances between f(1) and f(1/train_steps), f once more, and a 0.

    Raises:
        SteelyardError: for no steps, or a shift that is not positive.

    Source: sheet 00; diffusers' FlowMatchEulerDiscreteScheduler.
    """
    if steps < 1 or train_steps < 1 or not shift > 0:
        raise SteelyardError(f"a schedule of {steps} steps with shift {shift}: it needs a step and a positive shift")

    def shifted(u: Array) -> Array:
        return shift * u / (1 + (shift - 1) * u)

    ends = shifted(np.asarray([1.0, 1.0 / train_steps]))
    return np.append(shifted(np.linspace(ends[0], ends[1], steps)), 0.0).astype(np.float32)


def even_sigmas(steps: int) -> Array:
    """float32 [steps + 1]: equal distances from 1 to 0."""
    if steps < 1:
        raise SteelyardError(f"a schedule of {steps} steps goes nowhere; give at least 1")
    return np.linspace(1.0, 0.0, steps + 1, dtype=np.float32)


@dataclass(frozen=True)
class Kernel:
    """Every step i of a sampler: next = state_weight_i · x + output_weight_i · net(x, time_i) + noise_i · z.

    All fields are float32 [T]. log-probability of a step: reduce over dimensions of −fit_i (next − mean)² − constant_i.

    Attributes:
        time: what the network is told.
        state_weight, output_weight: of the mean.
        noise: standard deviation of the step; 0 where it is deterministic, and then it has no log-probability.
        fit, constant: 1/(2 noise²) and log noise + ½ log 2π for a Gaussian.
        divergence: what squared differences of means are multiplied with in the KL to a reference.
        reduction: `mean` over dimensions (the released code; a clip of 1e-4 belongs to it) or `sum` (the true density).
    """

    time: Array
    state_weight: Array
    output_weight: Array
    noise: Array
    fit: Array
    constant: Array
    divergence: Array
    reduction: Reduction = "mean"

    def __post_init__(self) -> None:
        if self.reduction not in get_args(Reduction):
            raise SteelyardError(f"a kernel's reduction is {self.reduction!r}; it is mean or sum")
        for name in self._arrays():
            array = np.asarray(getattr(self, name), np.float32)
            object.__setattr__(self, name, array)
            if array.shape != np.shape(self.time) or array.ndim != 1 or not np.isfinite(array).all():
                raise SteelyardError(f"a kernel's {name} is {array}; it must be one finite number a step")

    def __len__(self) -> int:
        return len(self.time)

    @property
    def random(self) -> Array:
        """bool [T]: the steps that add noise, which are the policy's actions."""
        return self.noise > 0

    def mean(self, x: Tensor, output: Tensor, step: Tensor) -> Tensor:
        """[B, …] float32 from states and predictions [B, …] and the number of each row's step [B]."""
        return self.at("state_weight", step, x) * x + self.at("output_weight", step, x) * output

    def logprob(self, following: Tensor, mean: Tensor, step: Tensor) -> Tensor:
        """[B]: of steps to `following` [B, …], which takes no gradient.

        Raises:
            SteelyardError: for a step without noise, which has no density.
        """
        if not self.random[step.cpu().numpy()].all():
            raise SteelyardError("a step without noise has no log-probability; leave it out of the actions' mask")
        squared = (following.detach() - mean).square()
        values = -self.at("fit", step, mean) * squared - self.at("constant", step, mean)
        return self._reduce(values)

    def kl(self, mean: Tensor, reference: Tensor, step: Tensor) -> Tensor:
        """[B]: KL between the steps of two policies with the same noise, in closed form."""
        return self._reduce(self.at("divergence", step, mean) * (mean - reference).square())

    def at(self, name: str, step: Tensor, like: Tensor) -> Tensor:
        """One of the arrays at each row's step, shaped to multiply states like this one."""
        array = torch.as_tensor(getattr(self, name), device=like.device)[step.to(like.device)]
        return array.view(-1, *[1] * (like.ndim - 1))

    def take(self, steps: slice) -> Kernel:
        """Some of the steps."""
        return replace(self, **{name: getattr(self, name)[steps] for name in self._arrays()})

    def _reduce(self, values: Tensor) -> Tensor:
        flat = values.flatten(1)
        return flat.mean(1) if self.reduction == "mean" else flat.sum(1)

    def _arrays(self) -> list[str]:
        return [field.name for field in fields(self) if field.name != "reduction"]


def _gaussian(time: Array, state: Array, output: Array, noise: Array, *, spread: Array | None = None) -> Kernel:
    """A kernel with the Gaussian's own log-probability; `spread` [T] replaces the noise in the KL."""
    random = noise > 0
    safe = np.where(random, noise, 1.0)
    spread = np.where(random, safe if spread is None else spread, 1.0)
    fit, constant = np.where(random, 0.5 / safe**2, 0.0), np.where(random, np.log(safe) + LOG_ROOT_2PI, 0.0)
    return Kernel(time, state, output, noise, fit, constant, np.where(random, 0.5 / spread**2, 0.0))


def _checked_sigmas(sigmas: Array | Sequence[float]) -> Array:
    """float64 [T + 1]."""
    levels = np.asarray(sigmas, np.float64)
    if levels.ndim != 1 or len(levels) < 2 or not (np.diff(levels) < 0).all() or levels[0] > 1 or levels[-1] < 0:
        raise SteelyardError(f"the noise levels {levels} must fall from at most 1 to at least 0, two of them or more")
    return levels


def sde_levels(sigmas: Array | Sequence[float], a: float) -> Array:
    """Flow-GRPO's noise levels: a √(σ_i / (1 − σ_i)), float64 [T]; where σ_i = 1 the denominator uses σ_{i+1}."""
    levels = _checked_sigmas(sigmas)
    now, following = levels[:-1], levels[1:]
    return a * np.sqrt(now / (1 - np.where(now == 1.0, following, now)))


def ode(sigmas: Array | Sequence[float]) -> Kernel:
    """Euler steps of the flow: next = x + (σ_{i+1} − σ_i) v. Nothing is random.

    Args:
        sigmas: [T + 1], falling to 0.
    """
    levels = _checked_sigmas(sigmas)
    return _gaussian(levels[:-1], np.ones(len(levels) - 1), np.diff(levels), np.zeros(len(levels) - 1))


def sde(
    sigmas: Array | Sequence[float],
    levels: float | Array | Sequence[float] = 0.7,
    *,
    window: tuple[int, int] | None = None,
    released_kl: bool = False,
    reduction: Reduction = "mean",
) -> Kernel:
    """The flow's stochastic sampler with the same marginals as its ODE (sheet 00; sheet 48 with free levels).

    mean = x (1 + ς² dt / 2σ) + v (1 + ς² (1 − σ) / 2σ) dt, noise ς √−dt, with dt = σ_{i+1} − σ_i < 0.

    Args:
        sigmas: σ, [T + 1], falling to 0.
        levels: a number a gives ς_i = a √(σ_i/(1 − σ_i)); an array [T] is ς itself (DenseGRPO's ψ).
        window: noise in the steps from the first to before the second only, ODE steps elsewhere (“fast”).
        released_kl: measure the KL in ς², as the released code does, and not in the step's variance ς²|dt|. A
            coefficient does not carry over between both.
        reduction: see `Kernel`.

    Raises:
        SteelyardError: for levels of another length, negative ones, or a window that is outside.

    Source: sheets 00 and 48; arXiv 2505.05470.
    """
    grid = _checked_sigmas(sigmas)
    steps = len(grid) - 1
    level = sde_levels(grid, float(levels)) if np.ndim(levels) == 0 else np.asarray(levels, np.float64)
    if level.shape != (steps,) or not (level >= 0).all():
        raise SteelyardError(f"noise levels {level} for {steps} steps; one number of at least 0 a step is needed")
    if window is not None:
        if not 0 <= window[0] < window[1] <= steps:
            raise SteelyardError(f"the window {window} does not lie in {steps} steps; give a first and an end step")
        level = np.where((np.arange(steps) >= window[0]) & (np.arange(steps) < window[1]), level, 0.0)
    now, dt = grid[:-1], np.diff(grid)
    state = 1 + level**2 * dt / (2 * now)
    output = (1 + level**2 * (1 - now) / (2 * now)) * dt
    kernel = _gaussian(now, state, output, level * np.sqrt(-dt), spread=level if released_kl else None)
    return replace(kernel, reduction=reduction)


def cps(sigmas: Array | Sequence[float], a: float = 0.8) -> Kernel:
    """Coefficient-preserving sampling: of each step's noise a part is drawn anew, the rest is the prediction's.

    noise = σ' sin(aπ/2); mean = (1 − σ')(x − σv) + √(σ'² − noise²) (x + (1 − σ)v); the log-probability is
    −mean (next − mean)² without constants. The last step, to σ' = 0, is not random.

    Args:
        sigmas: [T + 1], falling to 0.
        a: share of the noise drawn anew, in (0, 1].

    Raises:
        SteelyardError: for an a outside (0, 1].

    Source: sheet 00, variant (i).
    """
    if not 0 < a <= 1:
        raise SteelyardError(f"cps: a={a} is no share of the noise; it must lie in (0, 1]")
    grid = _checked_sigmas(sigmas)
    now, following = grid[:-1], grid[1:]
    noise = following * np.sin(a * np.pi / 2)
    kept = np.sqrt(following**2 - noise**2)
    state = (1 - following) + kept
    kernel = _gaussian(now, state, kept * (1 - now) - (1 - following) * now, noise)
    return replace(kernel, fit=(noise > 0).astype(np.float32), constant=np.zeros(len(now)))


def consistency(taus: Array | Sequence[float]) -> Kernel:
    """A flow's few-step sampler by a network f that predicts the end: next = (1 − τ') f(x, τ) + τ' z; the last is f.

    Args:
        taus: [H + 1], falling to 0.

    Raises:
        SteelyardError: for fewer than 2 steps: the last one draws nothing, so a single one is no action.

    Source: sheet 57.
    """
    grid = _checked_sigmas(taus)
    _refuse_one_step(len(grid) - 1)
    following = grid[1:]
    return _gaussian(grid[:-1], np.zeros(len(following)), 1 - following, following)


def lcm(alpha_bar: Array | Sequence[float], steps: int, *, origin_steps: int = 50) -> Kernel:
    """A latent consistency model's sampler, for a network that predicts the noise.

    d = c_skip x + c_out (x − √(1 − ᾱ) ε)/√ᾱ; next = √ᾱ' d + √(1 − ᾱ') z; the last is d.

    Args:
        alpha_bar: ᾱ of every training time, [train_steps].
        steps: H, at least 2; see `lcm_timesteps`.
        origin_steps: of the sampler that the model was distilled from.

    Source: sheet 57; arXiv 2404.03673.
    """
    _refuse_one_step(steps)
    table = np.asarray(alpha_bar, np.float64)
    times = lcm_timesteps(steps, origin_steps=origin_steps, train_steps=len(table))
    now = table[times]
    return lcm_step(now, np.append(now[1:], 1.0), times)


def lcm_step(
    alpha_bar: Array,
    following: Array | Sequence[float],
    times: Array,
    *,
    sigma_data: float = 0.5,
    scaling: float = 10.0,
) -> Kernel:
    """The kernel of single steps from ᾱ [T] at `times` [T] to ᾱ' [T]; see `lcm`."""
    there = np.asarray(following, np.float64)
    state, output = lcm_denoised(alpha_bar, times, sigma_data=sigma_data, scaling=scaling)
    scale = np.sqrt(there)
    return _gaussian(np.asarray(times, np.float64), scale * state, scale * output, np.sqrt(1 - there))


def lcm_timesteps(steps: int, *, origin_steps: int = 50, train_steps: int = 1000) -> Array:
    """int64 [H], from the noisiest: of the base steps (train_steps/origin_steps) k − 1, every (origin_steps // H)-th.

    Raises:
        SteelyardError: for no steps, or more than there are base steps.

    Source: sheet 57.
    """
    if not 1 <= steps <= origin_steps <= train_steps:
        raise SteelyardError(f"{steps} steps of {origin_steps} base steps; give at least 1 and at most as many")
    base = np.arange(1, origin_steps + 1) * (train_steps // origin_steps) - 1
    return base[:: -(origin_steps // steps)][:steps].astype(np.int64)


def lcm_denoised(
    alpha_bar: Array, times: Array, *, sigma_data: float = 0.5, scaling: float = 10.0
) -> tuple[Array, Array]:
    """What a latent consistency model's denoised estimate takes of the state and of the predicted noise, each [T].

    c_skip = σ_d²/((s τ)² + σ_d²), c_out = s τ/√((s τ)² + σ_d²); d = (c_skip + c_out/√ᾱ) x − c_out √((1 − ᾱ)/ᾱ) ε.
    """
    skip, out = boundary(times, sigma_data=sigma_data, scaling=scaling)
    return skip + out / np.sqrt(alpha_bar), -out * np.sqrt((1 - alpha_bar) / alpha_bar)


def boundary(times: Array, *, sigma_data: float = 0.5, scaling: float = 10.0) -> tuple[Array, Array]:
    """c_skip and c_out of sheet 57, [T] each."""
    scaled = np.asarray(times, np.float64) * scaling
    return sigma_data**2 / (scaled**2 + sigma_data**2), scaled / np.sqrt(scaled**2 + sigma_data**2)


def drawless(kernel: Kernel) -> Kernel:
    """The same kernel without its noise: every step goes to its mean."""
    nothing = np.zeros(len(kernel), np.float32)
    return replace(kernel, noise=nothing, fit=nothing, constant=nothing, divergence=nothing)


def _refuse_one_step(steps: int) -> None:
    if steps < 2:
        raise SteelyardError(
            f"a consistency policy of {steps} step has no action, its last step draws nothing; give 2 or more"
        )


def completion_grid(start: int, end: int, steps: int | None = None) -> list[int]:
    """The points of a schedule that a completion from `start` to `end` visits.

    Args:
        start, end: numbers of noise levels, start < end.
        steps: n; every point between where it is None or as many as there are, else evenly spread ones.

    Raises:
        SteelyardError: for no steps, or a start that is not before the end.
    """
    if not 0 <= start < end or (steps is not None and steps < 1):
        raise SteelyardError(f"a completion from {start} to {end} in {steps} steps; start before the end, in 1 or more")
    count = end - start if steps is None else min(steps, end - start)
    return [int(point) for point in np.linspace(start, end, count + 1).round()]


def complete(network: Network, x: Tensor, sigmas: Array | Sequence[float], points: Sequence[int]) -> Tensor:
    """States [B, …] at the first of these points, finished by Euler steps through the others (sheet 48, ODE_n)."""
    grid = np.asarray(sigmas, np.float64)
    for here, there in itertools.pairwise(points):
        time = torch.full((len(x),), float(grid[here]), device=x.device, dtype=x.dtype)
        x = x + float(grid[there] - grid[here]) * network(x, time)
    return x
