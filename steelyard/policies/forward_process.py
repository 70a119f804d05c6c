"""A flow policy that is scored on noised copies of its own samples, whatever sampler drew them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from steelyard.policies.flow import DenoisingPolicy
from steelyard.types import Actions, Array, Rollouts, Sample, SteelyardError, Streams, streams


class ForwardPolicy:
    """A flow policy whose actions are noised copies x_t = (1 − t) x₀ + t e of each sample x₀.

    t is uniform in (0, 1) and e normal, drawn when the sample is. Train it with
    `learn.forward_process.negative_aware`; v_old is the policy that drew the sample. `logprobs` is (e⁻ − e⁺) / 2 of
    every copy: above 0 where the velocity now fits the sample better than its mirror about v_old does.

    Args:
        policy: samples, by its own kernel; what it draws on the way is not looked at.
        copies: noised copies of each sample.
        mix: b.
        anchor: c of c · mean (v − v_ref)², added to the second tensor of `logprobs_and_kl`; β_KL = A_max c.

    Raises:
        SteelyardError: for no copy, a mix outside (0, 1] or a negative anchor.

    Source: sheet 31 (FIRM, arXiv 2603.12247); DiffusionNFT.
    """

    def __init__(self, policy: DenoisingPolicy, *, copies: int = 4, mix: float = 1.0, anchor: float = 2e-5) -> None:
        if copies < 1 or not 0 < mix <= 1 or not 0 <= anchor < math.inf:
            raise SteelyardError(
                f"copies={copies}, mix={mix}, anchor={anchor}: a copy, a mix in (0, 1] and an anchor ≥ 0 are needed"
            )
        self.policy, self.count, self.mix, self.anchor = policy, copies, mix, anchor

    @property
    def module(self) -> nn.Module:
        """The network."""
        return self.policy.module

    @property
    def copies(self) -> object:
        """Frozen copies by name."""
        return self.policy.copies

    def sample(self, samples: Sequence[Sample], n: int, *, generator: Streams, greedy: bool = False) -> Rollouts:
        """n attempts for each sample; see `types.Policy`. Greedy ones carry no actions."""
        children = streams(generator, len(samples))
        rollouts = self.policy.sample(samples, n, generator=children, greedy=greedy)
        if greedy:
            return rollouts
        assert rollouts.actions is not None
        start = rollouts.actions.data["next"][:, -1]
        shape = (n, self.count)
        time = np.concatenate([child.uniform(size=shape) for child in children]).astype(np.float32)
        noise = [child.standard_normal((*shape, *start.shape[1:]), dtype=np.float32) for child in children]
        late = time.reshape(*time.shape, *[1] * (start.ndim - 1))
        x = (1 - late) * start[:, None] + late * np.concatenate(noise)
        data = {"x": x, "time": time, "start": np.repeat(start[:, None], self.count, axis=1)}
        rollouts.actions = Actions(np.zeros_like(time), np.ones(time.shape, bool), data)
        with torch.no_grad():
            old = self.means(rollouts)
        data = {**data, "old": old.reshape(x.shape).cpu().numpy()}
        rollouts.actions = Actions(np.zeros_like(time), np.ones(time.shape, bool), data)
        return rollouts

    def means(self, rollouts: Rollouts, *, copy: str | None = None) -> Tensor:
        """[N · T, …]: the velocity of every noised copy."""
        x, time = self._data(rollouts, "x"), self._data(rollouts, "time")
        rows = [sample for sample in rollouts.samples for _ in range(time.shape[1])]
        return self.policy.velocity(x.flatten(0, 1), time.flatten(), rows, copy=copy)

    def logprobs(self, rollouts: Rollouts, *, copy: str | None = None) -> Tensor:
        """[N, T]: (e⁻ − e⁺) / 2 of every noised copy; see `types.Policy`."""
        plus, minus = self._errors(rollouts, self.means(rollouts, copy=copy))
        return (minus - plus) / 2

    def logprobs_and_kl(self, rollouts: Rollouts, reference: Tensor) -> tuple[Tensor, Tensor]:
        """[N, T] each: (e⁻ − e⁺) / 2, and (e⁻ + e⁺) / 2 + c · mean (v − v_ref)², v_ref as `means` gave it."""
        velocity = self.means(rollouts)
        plus, minus = self._errors(rollouts, velocity)
        apart = (velocity - reference).square().flatten(1).mean(1).view(plus.shape)
        return (minus - plus) / 2, (minus + plus) / 2 + self.anchor * apart

    def snapshot(self, name: str) -> None:
        """Keep a frozen copy of the policy as it is now."""
        self.policy.snapshot(name)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the model as the policy inside does."""
        self.policy.save_pretrained(folder)

    def _errors(self, rollouts: Rollouts, velocity: Tensor) -> tuple[Tensor, Tensor]:
        old, x, start = (self._data(rollouts, name) for name in ("old", "x", "start"))
        time = self._data(rollouts, "time")
        flat = (tensor.flatten(0, 1) for tensor in (old, x, start))
        plus, minus = errors_for_and_against(velocity, *flat, time.flatten(), mix=self.mix)
        return plus.view(time.shape), minus.view(time.shape)

    def _data(self, rollouts: Rollouts, name: str) -> Tensor:
        if rollouts.actions is None or name not in rollouts.actions.data:
            raise SteelyardError(f"these rollouts hold no {name!r}; score rollouts that a ForwardPolicy sampled")
        array: Array = rollouts.actions.data[name]
        return torch.as_tensor(array, device=next(self.module.parameters()).device)


def errors_for_and_against(
    velocity: Tensor, old: Tensor, x: Tensor, start: Tensor, time: Tensor, *, mix: float = 1.0
) -> tuple[Tensor, Tensor]:
    """e⁺ and e⁻ [B]: how far x₀± = x_t − t v± lie from x₀, v⁺ = (1 − b) v_old + b v and v⁻ = (1 + b) v_old − b v.

    e± = mean (x₀± − x₀)² / (s± b), s± the mean of |x₀± − x₀|, without a gradient and at least 1e-5.

    Args:
        velocity, old: v and v_old [B, …]; x, start: x_t and x₀ [B, …]; time: t [B]. mix: b.
    """
    late = time.view(-1, *[1] * (x.ndim - 1))
    signs = ((1 - mix) * old + mix * velocity, (1 + mix) * old - mix * velocity)
    off = [(x - late * each - start).flatten(1) for each in signs]
    plus, minus = (each.square().mean(1) / (each.detach().abs().mean(1).clamp(min=1e-5) * mix) for each in off)
    return plus, minus
