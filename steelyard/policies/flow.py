"""A policy whose actions are denoising steps: flow models and consistency models, of images or of anything else."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from steelyard.policies.copies import Copies
from steelyard.policies.kernels import Kernel, complete, completion_grid, sde
from steelyard.policies.lora import adapter_off, adapter_untouched
from steelyard.types import Actions, Array, Rollouts, Sample, SteelyardError, Streams, check_attempts, streams

Condition: TypeAlias = tuple[Tensor, ...]
"""What the network is told of the prompts: tensors whose first axis is the row."""


class Backbone(Protocol):
    """A network, the form of its states, and the ways from prompts and to completions.

    Attributes:
        module: whose trainable parameters are trained.
        shape: of one state.
    """

    module: nn.Module
    shape: tuple[int, ...]

    def conditions(self, samples: Sequence[Sample]) -> Condition:
        """What the network is told of each sample."""
        ...

    def unconditional(self, count: int) -> Condition:
        """The same for no prompt, `count` rows."""
        ...

    def predict(self, module: nn.Module, x: Tensor, time: Tensor, condition: Condition) -> Tensor:
        """The network's output [B, …] from states [B, …] and times [B]."""
        ...

    def decode(self, x: Tensor) -> list[Any]:
        """Final states [B, …] to completions."""
        ...


class DenoisingPolicy:
    """Samples by the steps of a kernel; every step that draws noise is an action.

    `Actions.data` holds `x` and `next` [N, T, …], the states around each step; steps without noise are masked.

    `calls` counts the states that the network saw in sampling and completing.

    Args:
        backbone: the network.
        kernel: of sampling for training.
        evaluation: of greedy sampling, which draws the first noise only; deterministic.
        guidance: w of v_u + w (v_c − v_u) (classifier-free guidance); 1 asks the network once. Only v_c has gradients.
        trained: the share of the steps that are trained, from the first; int(share · T) of them keep their mask.
        shared_start: whether all attempts at a sample begin from the same noise, so that they branch at the first
            random step.
        batch: states that go through the network together where no gradient is taken.

    Raises:
        SteelyardError: for a kernel without a random step, an evaluation with one, or options out of range.

    Source: sheets 00, 48, 57.
    """

    def __init__(
        self,
        backbone: Backbone,
        kernel: Kernel,
        *,
        evaluation: Kernel,
        guidance: float = 1.0,
        trained: float = 1.0,
        shared_start: bool = False,
        batch: int = 4096,
    ) -> None:
        if not 0 < trained <= 1 or batch < 1:
            raise SteelyardError(
                f"trained={trained}, batch={batch}: a share of the steps in (0, 1] and 1 row are needed"
            )
        if evaluation.random.any():
            raise SteelyardError("the evaluation's kernel draws noise; give a deterministic one, as ode(sigmas)")
        self.backbone, self.evaluation, self.guidance = backbone, evaluation, guidance
        self.trained, self.shared_start, self.batch = trained, shared_start, batch
        self.copies = Copies()
        self.calls = 0
        self.use_kernel(kernel)

    @property
    def module(self) -> nn.Module:
        """The network."""
        return self.backbone.module

    def use_kernel(self, kernel: Kernel) -> None:
        """Sample by another kernel from now on; rollouts of the old one can no longer be scored."""
        self.kernel = kernel
        first = np.arange(len(kernel)) < max(1, int(self.trained * len(kernel)))
        self.acts = kernel.random & first
        if not self.acts.any():
            raise SteelyardError("none of the kernel's trained steps draws noise, so there is nothing to train")

    def use_levels(self, levels: Array) -> None:
        """Sample by the flow's stochastic kernel with these noise levels [T] on the same grid; see `kernels.sde`."""
        self.use_kernel(sde(np.append(self.kernel.time, 0.0), levels))

    # Sampling.

    def sample(self, samples: Sequence[Sample], n: int, *, generator: Streams, greedy: bool = False) -> Rollouts:
        """n attempts for each sample; see `types.Policy`. Greedy ones follow `evaluation` from drawn noise.

        Raises:
            SteelyardError: for no samples or no attempts.
        """
        check_attempts(samples, n)
        kernel = self.evaluation if greedy else self.kernel
        group = np.repeat(np.arange(len(samples)), n)
        noise = self._noise(kernel, streams(generator, len(samples)), n)
        with torch.no_grad():
            condition = self.backbone.conditions(samples)
            rows = [slice(i, i + self.batch) for i in range(0, len(group), self.batch)]
            parts = [self._denoise(kernel, noise[some], _rows(condition, group[some])) for some in rows]
            completions = [completion for end, *_ in parts for completion in self.backbone.decode(end)]
        actions = None if greedy else self._actions(parts)
        return Rollouts([samples[i] for i in group], completions, group=group, actions=actions)

    def _noise(self, kernel: Kernel, generators: Sequence[np.random.Generator], n: int) -> Array:
        """float32 [N, 1 + random steps, …]: the start and every step's, from each sample's own stream."""
        shape = (n, 1 + int(kernel.random.sum()), *self.backbone.shape)
        noise = np.stack([child.standard_normal(shape, dtype=np.float32) for child in generators])
        if self.shared_start:
            noise[:, :, 0] = noise[:, :1, 0]
        return noise.reshape(-1, *shape[1:])

    def _denoise(self, kernel: Kernel, noise: Array, condition: Condition) -> tuple[Tensor, list[Any], list[Any]]:
        """The last states [B, …], and of every step the state before it and the log-probability [B]."""
        drawn = torch.as_tensor(noise, device=self._device)
        x, states, logprobs, used = drawn[:, 0], [], [], 0
        for i in range(len(kernel)):
            step = torch.full((len(x),), i)
            mean = kernel.mean(x, self._asked(x, kernel.at("time", step, x[:, 0]).flatten(), condition), step)
            states.append(x)
            if kernel.random[i]:
                used += 1
                x = mean + float(kernel.noise[i]) * drawn[:, used]
                logprobs.append(kernel.logprob(x, mean, step))
            else:
                x = mean
                logprobs.append(torch.zeros(len(x), device=x.device))
        return x, states, logprobs

    def _actions(self, parts: Sequence[tuple[Tensor, list[Tensor], list[Tensor]]]) -> Actions:
        x = np.concatenate([torch.stack(states, 1).cpu().numpy() for _, states, _ in parts])
        end = np.concatenate([end.cpu().numpy() for end, *_ in parts])
        logprobs = np.concatenate([torch.stack(values, 1).cpu().numpy() for *_, values in parts])
        following = np.concatenate([x[:, 1:], end[:, None]], axis=1)
        mask = np.repeat(self.acts[None], len(logprobs), axis=0)
        return Actions(np.where(mask, logprobs, 0.0), mask, {"x": x, "next": following})

    # Scoring.

    def logprobs(self, rollouts: Rollouts, *, copy: str | None = None) -> Tensor:
        """Tensor [N, T], 0 where the mask is shut; see `types.Policy`.

        Raises:
            SteelyardError: for a copy that was not made, or rollouts of another policy.
        """
        steps = _Steps.of(rollouts, self._device)
        mean = self._means(steps, rollouts, copy)
        return steps.laid(self.kernel.logprob(steps.following, mean, steps.step))

    def means(self, rollouts: Rollouts, *, copy: str | None = None) -> Tensor:
        """[A, …]: the mean of every action that the mask leaves open, row by row."""
        return self._means(_Steps.of(rollouts, self._device), rollouts, copy)

    def logprobs_and_kl(self, rollouts: Rollouts, reference: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probabilities [N, T], and the KL of each step to the one with these means, in closed form [N, T].

        Args:
            reference: what `means` gave for the reference.
        """
        steps = _Steps.of(rollouts, self._device)
        mean = self._means(steps, rollouts, None)
        kernel = self.kernel
        logprobs = kernel.logprob(steps.following, mean, steps.step)
        return steps.laid(logprobs), steps.laid(kernel.kl(mean, reference, steps.step))

    def _means(self, steps: _Steps, rollouts: Rollouts, copy: str | None) -> Tensor:
        condition = self._conditions([rollouts.samples[row] for row in steps.row])
        time = self.kernel.at("time", steps.step, steps.x[:, 0]).flatten()
        with torch.set_grad_enabled(copy is None and torch.is_grad_enabled()):
            return self.kernel.mean(steps.x, self._guided(steps.x, time, condition, copy), steps.step)

    def snapshot(self, name: str) -> None:
        """Keep a frozen copy of the policy as it is now; an adapter that changes nothing yet needs none."""
        if adapter_untouched(self.module):
            self.copies[name] = None
        else:
            self.copies.keep(name, self.module)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the model as its backbone can load it again.

        Raises:
            SteelyardError: where the backbone has no form on disk.
        """
        if not hasattr(self.backbone, "save_pretrained"):
            raise SteelyardError(f"a {type(self.backbone).__name__} has no form on disk; save its module's state_dict")
        self.backbone.save_pretrained(folder)

    # Completing.

    def completed(self, rollouts: Rollouts, *, steps: int | None = None) -> list[list[Any]]:
        """What every state of these rollouts would become without further noise.

        Args:
            rollouts: N, from `sample`, as they were drawn (all steps of them).
            steps: n, Euler steps of a completion; None takes every remaining step of the grid.

        Returns:
            T lists of N completions: of the states before step 0, 1, …; the rollouts' own completions come after them.

        Source: sheet 48, ODE_n.
        """
        states = torch.as_tensor(_data(rollouts, "x"), device=self._device)
        sigmas = np.append(self.kernel.time, 0.0)
        end = len(sigmas) - 1
        if states.shape[1] != end:
            raise SteelyardError(
                f"these rollouts hold {states.shape[1]} of {end} steps; complete them before taking rows"
            )
        with torch.no_grad():
            condition = self.backbone.conditions(rollouts.samples)
            if steps is None:
                return self._decoded(self._completed_together(states, sigmas, condition), len(rollouts))
            ends = []
            for start in range(end):
                points = completion_grid(start, end, steps)
                ends.append(complete(lambda x, t: self._asked(x, t, condition), states[:, start], sigmas, points))
            return self._decoded(torch.cat(ends), len(rollouts))

    def _completed_together(self, states: Tensor, sigmas: Array, condition: Condition) -> Tensor:
        """All completions over the whole grid, [T · N, …]: those that are under way take each step in one pass."""
        n, pool = len(states), states[:, :0].flatten(0, 1)
        for i in range(len(sigmas) - 1):
            pool = torch.cat([pool, states[:, i]])
            several = _rows(condition, np.tile(np.arange(n), i + 1))
            time = torch.full((len(pool),), float(sigmas[i]), device=pool.device)
            pool = pool + float(sigmas[i + 1] - sigmas[i]) * self._asked(pool, time, several)
        return pool

    def _decoded(self, ends: Tensor, n: int) -> list[list[Any]]:
        found = self.backbone.decode(ends)
        return [found[i : i + n] for i in range(0, len(found), n)]

    # The network.

    def velocity(self, x: Tensor, time: Tensor, samples: Sequence[Sample], *, copy: str | None = None) -> Tensor:
        """What the network predicts, guided: states [B, …], times [B], the sample of every row.

        A copy's carries no gradient.
        """
        with torch.set_grad_enabled(copy is None and torch.is_grad_enabled()):
            return self._guided(x, time, self._conditions(samples), copy)

    def _conditions(self, samples: Sequence[Sample]) -> Condition:
        """Of every row [B, …], each distinct sample encoded once."""
        distinct = {id(sample): sample for sample in samples}
        position = {key: i for i, key in enumerate(distinct)}
        owner = np.asarray([position[id(sample)] for sample in samples])
        return _rows(self.backbone.conditions(list(distinct.values())), owner)

    def _asked(self, x: Tensor, time: Tensor, condition: Condition) -> Tensor:
        """As `_guided`, and counted."""
        self.calls += len(x) * (1 if self.guidance == 1.0 else 2)
        return self._guided(x, time, condition)

    def _guided(self, x: Tensor, time: Tensor, condition: Condition, copy: str | None = None) -> Tensor:
        module = self.module if copy is None else self.copies[copy]
        with adapter_off(self.module) if module is None else nullcontext():
            predicted = self._predict(module or self.module, x, time, condition)
            if self.guidance == 1.0:
                return predicted
            with torch.no_grad():
                plain = self._predict(module or self.module, x, time, self.backbone.unconditional(len(x)))
            return plain + self.guidance * (predicted - plain)

    def _predict(self, module: nn.Module, x: Tensor, time: Tensor, condition: Condition) -> Tensor:
        if torch.is_grad_enabled() or len(x) <= self.batch:
            return self.backbone.predict(module, x, time, condition).float()
        cuts = [slice(i, i + self.batch) for i in range(0, len(x), self.batch)]
        parts = [self.backbone.predict(module, x[c], time[c], tuple(t[c] for t in condition)) for c in cuts]
        return torch.cat(parts).float()

    @property
    def _device(self) -> torch.device:
        return next(self.module.parameters()).device


class _Steps:
    """The open actions of rollouts, flat: their states, what followed, their row and their number."""

    def __init__(self, mask: Array, x: Array, following: Array, device: torch.device) -> None:
        self.mask, self.device = mask, device
        self.row, step = mask.nonzero()
        self.step = torch.as_tensor(step)
        self.x = torch.as_tensor(x[mask], device=device)
        self.following = torch.as_tensor(following[mask], device=device)

    @staticmethod
    def of(rollouts: Rollouts, device: torch.device) -> _Steps:
        """Of these rollouts."""
        x, following = _data(rollouts, "x"), _data(rollouts, "next")
        assert rollouts.actions is not None
        return _Steps(rollouts.actions.mask, x, following, device)

    def laid(self, values: Tensor) -> Tensor:
        """[A] onto [N, T]."""
        laid = torch.zeros(self.mask.shape, device=self.device)
        return laid.masked_scatter(torch.as_tensor(self.mask, device=self.device), values)


def _data(rollouts: Rollouts, name: str) -> Array:
    if rollouts.actions is None or name not in rollouts.actions.data:
        raise SteelyardError(f"these rollouts hold no {name!r}; score rollouts that this policy's `sample` returned")
    return rollouts.actions.data[name]


def _rows(condition: Condition, rows: Array) -> Condition:
    return tuple(tensor[torch.as_tensor(rows, device=tensor.device)] for tensor in condition)
