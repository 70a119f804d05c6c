"""A bench-top world of generation: points near eight places on a circle, by flow or in few steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any, Literal

import numpy as np
from safetensors.torch import load

from steelyard.policies.flow import DenoisingPolicy
from steelyard.policies.forward_process import ForwardPolicy
from steelyard.policies.kernels import Kernel, consistency, drawless, even_sigmas, ode, sde
from steelyard.policies.points import ConsistencyNet, Points, VelocityNet
from steelyard.rewards.core import reward
from steelyard.types import Array, Reward, Rollouts, Sample

Split = Literal["train", "validation", "test"]

MODES = 2.0 * np.stack([np.cos(np.arange(8) * np.pi / 4), np.sin(np.arange(8) * np.pi / 4)], axis=1)
"""float64 [8, 2]: where the points lie, with a standard deviation of `SPREAD` each."""

SPREAD = 0.15
NETWORKS = {"flow": VelocityNet, "prompted": VelocityNet, "few-steps": ConsistencyNet}
SIZES = {
    "flow": {"prompts": 1, "width": 64, "layers": 2},
    "prompted": {"prompts": 8, "width": 64, "layers": 3},
    "few-steps": {"prompts": 8, "width": 128, "layers": 3},
}
ASSETS = resources.files("steelyard.worlds") / "assets" / "eight_modes"


@reward(batch=True)
def first_coordinate(rollouts: Rollouts) -> Array:
    """How far to the right a point lies: unbounded, so it can be hacked by leaving every mode."""
    return np.stack(list(rollouts.completions))[:, 0]


@reward(batch=True)
def near_own_mode(rollouts: Rollouts) -> Array:
    """exp(−‖x − mode of the prompt‖² / 0.72), in (0, 1]."""
    points, numbers = np.stack(list(rollouts.completions)), np.asarray(rollouts.column("number"))
    return np.exp(-((points - MODES[numbers]) ** 2).sum(axis=1) / 0.72)


def distance_to_modes(points: Array) -> Array:
    """[N]: from points [N, 2] to the nearest place; 0.19 on average for a perfect generator."""
    return np.linalg.norm(points[:, None] - MODES[None], axis=2).min(axis=1)


def untrained(kind: str) -> VelocityNet:
    """The network of a kind, with torch's own first weights."""
    return NETWORKS[kind](2, **SIZES[kind])


@dataclass(frozen=True)
class EightModes:
    """One network and how it is sampled. See `without_prompts`, `with_prompts`, `in_few_steps` and `in_many_steps`.

    Attributes:
        name: of the world. kind: of the network. kernel: of training. evaluation: of measuring.
        attempts: the group size. reward: what is asked for.
        trained: share of the steps that are trained.
        noised: copies of each sample that a `ForwardPolicy` is trained on; 0 trains the sampler's steps.
    """

    name: str
    kind: str
    kernel: Kernel
    evaluation: Kernel
    attempts: int = 24
    reward: Reward = near_own_mode
    trained: float = 1.0
    noised: int = 0

    def samples(self, split: Split, count: int, *, seed: int = 0) -> Sequence[Sample]:
        """The prompts, over and over; splits do not differ."""
        prompts = SIZES[self.kind]["prompts"]
        return [
            Sample(f"{split}-{i}", f"mode {i % prompts}" if prompts > 1 else "a point", columns={"number": i % prompts})
            for i in range(count)
        ]

    def policy(self, *, seed: int = 0) -> Any:
        """The base that ships with the library; the seed changes nothing."""
        module = untrained(self.kind)
        module.load_state_dict(load((ASSETS / f"{self.kind}.safetensors").read_bytes()))
        policy = DenoisingPolicy(Points(module), self.kernel, evaluation=self.evaluation, trained=self.trained)
        return ForwardPolicy(policy, copies=self.noised) if self.noised else policy


def without_prompts() -> EightModes:
    """The world of sheet 00: 10 SDE steps with a = 0.7, measured by 40 ODE steps."""
    return EightModes(
        "eight-modes",
        "flow",
        sde(even_sigmas(10), 0.7, released_kl=True),
        ode(even_sigmas(40)),
        reward=first_coordinate,
        trained=0.99,
    )


def with_prompts() -> EightModes:
    """The world of sheet 48: each prompt asks for one mode, and the base does not listen."""
    return EightModes("prompted-modes", "prompted", sde(even_sigmas(10), 0.7), ode(even_sigmas(20)))


def by_noised_copies() -> EightModes:
    """The world of sheet 48 for DiffusionNFT (sheet 31): trained on noised copies of its samples."""
    return EightModes("noised-modes", "prompted", sde(even_sigmas(10), 0.7), ode(even_sigmas(20)), noised=4)


def in_few_steps() -> EightModes:
    """The world of sheet 57: the prompted flow distilled into a consistency network of 8 steps."""
    kernel = consistency(even_sigmas(8))
    return EightModes("few-step-modes", "few-steps", kernel, drawless(kernel), attempts=48)


def in_many_steps() -> EightModes:
    """The prompted flow in 50 SDE steps, as DDPO trains it."""
    return EightModes("many-step-modes", "prompted", sde(even_sigmas(50), 0.7), ode(even_sigmas(50)))
