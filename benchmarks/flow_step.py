"""One step of flow RL beside Flow-GRPO's own loop: same tiny Stable Diffusion 3, same prompts, steps taken in turn.

    python benchmarks/flow_step.py --pairs 5 --threads 1 --out benchmarks/flow_step.json

A step is 48 images (4 prompts × 12) of 10 SDE steps with guidance, a reward, group advantages, 9 trained steps with
the KL to a reference, and one AdamW update. The other loop is written from sheet 00: in every denoising step both
halves of the guidance go through the network as one batch; in training each timestep is a micro-step of its own, with
one pass of the policy (both halves, the unconditional one detached behind it) and one of the reference. Case `released`
gives it 8 images at a time (9 in its configuration for one machine), case `whole` all 48. Both are given the same
noise, and states, log-probabilities, loss and gradient are compared.
"""

from __future__ import annotations

import argparse
import copy
import json
import platform
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from steelyard.learn.config import TrainConfig
from steelyard.learn.trainer import Trainer
from steelyard.methods.flow_grpo import flow_grpo
from steelyard.policies.flow import DenoisingPolicy
from steelyard.policies.kernels import shifted_sigmas
from steelyard.rewards import reward
from steelyard.types import Array, Rollouts
from steelyard.worlds.shapes import Shapes

PROMPTS, ATTEMPTS, STEPS, TRAINED, LEVEL, RATE, BETA, EPSILON = 4, 12, 10, 9, 0.7, 3e-4, 0.04, 1e-4
WANTED = {"released": 1.5, "whole": 1.0}
IMAGES = {"released": 8, "whole": PROMPTS * ATTEMPTS}


@reward(batch=True)
def redness(rollouts: Rollouts) -> Array:
    """How red an image is: no two images of a group are equal in it."""
    return np.stack(list(rollouts.completions))[..., 0].mean(axis=(1, 2)) / 255


class Recipe:
    """The loop of sheet 00 on diffusers' transformer, without any part of the house."""

    def __init__(self, policy: DenoisingPolicy) -> None:
        self.backbone = policy.backbone
        self.guidance = policy.guidance
        self.model = copy.deepcopy(policy.module)
        self.reference = copy.deepcopy(policy.module).requires_grad_(False)
        self.optimiser = torch.optim.AdamW(self.model.parameters(), lr=RATE, weight_decay=1e-4)
        self.sigmas = torch.from_numpy(shifted_sigmas(STEPS))

    def velocity(self, model: torch.nn.Module, x: Tensor, i: int, embeds: Tensor, pooled: Tensor) -> Tensor:
        """Both halves in one batch; the unconditional one is detached."""
        time_ = torch.full((2 * len(x),), float(self.sigmas[i]) * 1000)
        out = model(
            hidden_states=torch.cat([x, x]),
            timestep=time_,
            encoder_hidden_states=embeds,
            pooled_projections=pooled,
            return_dict=False,
        )[0]
        plain, asked = out.chunk(2)
        return plain.detach() + self.guidance * (asked - plain.detach())

    def step(
        self, v: Tensor, x: Tensor, i: int, *, noise: Tensor | None = None, following: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """The SDE step: where it leads, its log-probability, its mean and its noise level."""
        sigma, dt = self.sigmas[i], self.sigmas[i + 1] - self.sigmas[i]
        std = torch.sqrt(sigma / (1 - (self.sigmas[1] if sigma == 1 else sigma))) * LEVEL
        mean = x * (1 + std**2 / (2 * sigma) * dt) + v * (1 + std**2 * (1 - sigma) / (2 * sigma)) * dt
        spread = std * torch.sqrt(-dt)
        if following is None:
            following = mean + spread * noise
        logp = -((following.detach() - mean) ** 2) / (2 * spread**2)
        logp = logp - torch.log(spread) - torch.log(torch.sqrt(2 * torch.as_tensor(torch.pi)))
        return following, logp.mean(dim=tuple(range(1, logp.ndim))), mean, std

    def conditions(self, samples: list[Any]) -> tuple[Tensor, Tensor]:
        """Embeddings of the empty prompt and of the prompts, one behind the other."""
        asked, plain = self.backbone.conditions(samples), self.backbone.unconditional(len(samples))
        return tuple(torch.cat(pair) for pair in zip(plain, asked, strict=True))  # type: ignore[return-value]

    def sample(self, samples: list[Any], noise: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """States [T + 1] and log-probabilities [T]."""
        embeds, pooled = self.conditions(samples)
        states, logps = [noise[:, 0]], []
        with torch.no_grad():
            for i in range(STEPS):
                v = self.velocity(self.model, states[-1], i, embeds, pooled)
                x, logp, *_ = self.step(v, states[-1], i, noise=noise[:, i + 1])
                states.append(x)
                logps.append(logp)
        return states, logps

    def losses(
        self, samples: list[Any], states: list[Tensor], old: list[Tensor], advantages: Tensor, *, share: float = 1.0
    ) -> float:
        """Gradients of all trained timesteps of a batch, one micro-step each; returns its share of the loss."""
        embeds, pooled = self.conditions(samples)
        total = 0.0
        for i in range(TRAINED):
            v = self.velocity(self.model, states[i], i, embeds, pooled)
            _, logp, mean, std = self.step(v, states[i], i, following=states[i + 1])
            with torch.no_grad():
                v_reference = self.velocity(self.reference, states[i], i, embeds, pooled)
                _, _, mean_reference, _ = self.step(v_reference, states[i], i, following=states[i + 1])
            ratio = torch.exp(logp - old[i])
            clipped = torch.clamp(ratio, 1 - EPSILON, 1 + EPSILON)
            policy_loss = torch.maximum(-advantages * ratio, -advantages * clipped).mean()
            kl = ((mean - mean_reference) ** 2).mean(dim=(1, 2, 3), keepdim=True) / (2 * std**2)
            loss = (policy_loss + BETA * kl.mean()) / TRAINED * share
            loss.backward()
            total += float(loss.detach())
        return total

    def train_step(self, samples: list[Any], generator: np.random.Generator, at_once: int) -> None:
        """A whole step, this many images at a time."""
        noise = torch.from_numpy(generator.standard_normal((len(samples), STEPS + 1, 3, 16, 16), dtype=np.float32))
        cuts = [slice(i, i + at_once) for i in range(0, len(samples), at_once)]
        parts = [self.sample(samples[cut], noise[cut]) for cut in cuts]
        ends = torch.cat([states[-1] for states, _ in parts])
        rewards = redness(Rollouts(samples, self.backbone.decode(ends))).values.reshape(-1, ATTEMPTS)
        advantages = (rewards - rewards.mean(axis=1, keepdims=True)) / (rewards.std() + 1e-4)
        given = torch.from_numpy(advantages.ravel()).clamp(-5, 5)
        for cut, (states, old) in zip(cuts, parts, strict=True):
            self.losses(samples[cut], states, old, given[cut], share=at_once / len(samples))
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimiser.step()
        self.optimiser.zero_grad()


def rows(world: Shapes) -> list[Any]:
    """The prompts of a step, each as often as it is tried."""
    return [sample for sample in world.samples("train", PROMPTS) for _ in range(ATTEMPTS)]


def same_thing(world: Shapes) -> dict[str, float]:
    """Both samplers on one noise, both losses and gradients on one batch, with the policy away from its reference."""
    policy = world.policy()
    policy.snapshot("reference")
    generator = torch.Generator().manual_seed(0)
    theirs = Recipe(policy)
    with torch.no_grad():
        for parameter in policy.module.parameters():
            parameter += 0.01 * parameter.std().nan_to_num() * torch.randn(parameter.shape, generator=generator)
    theirs.model.load_state_dict(policy.module.state_dict())
    rollouts = policy.sample(world.samples("train", PROMPTS), ATTEMPTS, generator=np.random.default_rng(0))
    data = rollouts.actions.data
    kernel = policy.kernel
    start = torch.from_numpy(data["x"][:, 0])
    embeds, pooled = theirs.conditions(list(rollouts.samples))
    apart, noises = 0.0, [start]
    with torch.no_grad():
        for i in range(STEPS):
            x, following = torch.from_numpy(data["x"][:, i]), torch.from_numpy(data["next"][:, i])
            _, logp, mean, _ = theirs.step(
                theirs.velocity(theirs.model, x, i, embeds, pooled), x, i, following=following
            )
            noises.append((following - mean) / float(kernel.noise[i]))
            if i < TRAINED:
                apart = max(apart, float((logp - torch.from_numpy(rollouts.actions.logprobs[:, i])).abs().max()))
    states, old = theirs.sample(list(rollouts.samples), torch.stack(noises, 1))
    images = float((states[-1] - torch.from_numpy(data["next"][:, -1])).abs().max())
    advantages = torch.randn(len(rollouts), generator=generator)
    their_loss = theirs.losses(list(rollouts.samples), states, old, advantages)
    objective = flow_grpo(world).objective
    with torch.no_grad():
        reference = policy.means(rollouts, copy="reference")
    logprobs, kl = policy.logprobs_and_kl(rollouts, reference)
    weights = torch.from_numpy(objective.weights(rollouts.actions.mask, np.ones(len(rollouts), np.float32)))
    given = torch.from_numpy(rollouts.actions.logprobs)
    loss = (objective(logprobs, given, kl, advantages[:, None].expand_as(logprobs)).loss * weights).sum()
    loss.backward()
    mine, other = flat_gradient(policy.module), flat_gradient(theirs.model)
    return {
        "loss_recipe": their_loss,
        "loss_steelyard": float(loss.detach()),
        "gradient_cosine": float(torch.nn.functional.cosine_similarity(mine, other, dim=0)),
        "logprob_difference": apart,
        "state_difference": images,
    }


def flat_gradient(model: torch.nn.Module) -> Tensor:
    """All gradients in one float64 vector."""
    return torch.cat([p.grad.flatten().double() for p in model.parameters() if p.grad is not None])


def clocks() -> np.ndarray:
    """Wall seconds, and seconds that this process computed (which other processes on the machine do not change)."""
    return np.array([time.perf_counter(), time.process_time()])


def measure(world: Shapes, pairs: int, warmup: int, folder: Path, at_once: int) -> dict[str, Any]:
    """Seconds of both, a step of each in turn."""
    policy = world.policy()
    theirs, samples = Recipe(policy), rows(world)
    config = TrainConfig(
        steps=pairs + warmup, prompts=PROMPTS, lr=RATE, weight_decay=1e-4, schedule="constant", grad_clip=1.0,
        micro_rows=ATTEMPTS,
    )  # fmt: skip
    ours = Trainer(policy, flow_grpo(world), world.samples("train", 12), config, folder=folder, progress=False)
    generator, seconds = np.random.default_rng(0), []
    for _ in range(pairs + warmup):
        start = clocks()
        ours.train_step()
        middle = clocks()
        theirs.train_step(samples, generator, at_once)
        seconds.append([middle - start, clocks() - middle])
    mine, other = np.asarray(seconds[warmup:]).transpose(1, 0, 2)
    return {
        clock: {
            "seconds_steelyard": float(mine[:, i].min()),
            "seconds_recipe": float(other[:, i].min()),
            "ratio": float(other[:, i].min() / mine[:, i].min()),
            "median_ratio": float(np.median(other[:, i] / mine[:, i])),
        }
        for i, clock in enumerate(("wall", "processor"))
    }


def main() -> None:
    """Measure, print, write JSON, and fail if the two do not compute the same thing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=5, help="timed steps of each")
    parser.add_argument("--warmup", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    world = Shapes(steps=STEPS)
    world.attempts, world.reward = ATTEMPTS, redness
    with tempfile.TemporaryDirectory() as folder:
        cases = {
            case: {"wanted": WANTED[case]}
            | measure(world, arguments.pairs, arguments.warmup, Path(folder) / case, at_once)
            for case, at_once in IMAGES.items()
        }
    same = same_thing(world)
    report = {
        "settings": {k: v for k, v in vars(arguments).items() if k != "out"} | {"images": PROMPTS * ATTEMPTS},
        "machine": {"python": platform.python_version(), "shared": "best of the steps; other work ran beside"},
        "versions": {name: version(name) for name in ("torch", "diffusers", "numpy")},
        "cases": {case: found | same for case, found in cases.items()},
    }
    print(json.dumps(report["cases"], indent=1))
    if arguments.out:
        arguments.out.write_text(json.dumps(report, indent=2) + "\n")
    if same["gradient_cosine"] < 0.9999 or max(same["logprob_difference"], same["state_difference"]) > 1e-3:
        raise SystemExit("the two loops do not compute the same thing")


if __name__ == "__main__":
    main()
