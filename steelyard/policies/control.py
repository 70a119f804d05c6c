"""A control policy: a Gaussian over chunks of actions, given an observation; a step is one chunk."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

from steelyard.policies.copies import Copies
from steelyard.types import Actions, Array, Rollouts, Sample, SteelyardError, Streams, check_attempts, streams


@dataclass(frozen=True, eq=False)
class Trajectory:
    """One episode: what was seen, what was done, and how it went; the completion of a control policy.

    Attributes:
        observations: float32 [t + 1, D].
        actions: float32 [t, A], as the environment got them.
        success: whether the task was solved.
        columns: what else there is of each frame, [t + 1, …]: rendered frames, for one.
    """

    observations: Array
    actions: Array
    success: bool
    columns: dict[str, Array] = field(default_factory=dict)


class Environment(Protocol):
    """Episodes side by side, one a sample; each ends when it succeeds, or with the policy's patience."""

    def reset(self) -> Array:
        """The first observations, float32 [B, D]."""
        ...

    def step(self, actions: Array, acting: Array) -> tuple[Array, Array]:
        """Observations [B, D] and success bool [B] after actions [B, A]; rows not `acting` stay as they are."""
        ...


class GaussianChunksConfig(PretrainedConfig):
    """Sizes: `observation` D, `action` A, `chunk` C actions at once, `hidden` width of `layers` layers."""

    model_type = "steelyard_gaussian_chunks"

    def __init__(
        self, observation: int = 4, action: int = 2, chunk: int = 1, hidden: int = 64, layers: int = 2, **others: Any
    ) -> None:
        self.observation, self.action, self.chunk = observation, action, chunk
        self.hidden, self.layers = hidden, layers
        super().__init__(**others)


class GaussianChunks(PreTrainedModel):
    """N(μ(o), diag σ²) over the C·A numbers of a chunk: μ a ReLU network of the standardised observation, σ learned."""

    config_class = GaussianChunksConfig

    def __init__(self, config: GaussianChunksConfig) -> None:
        super().__init__(config)
        widths = [config.observation, *[config.hidden] * config.layers]
        layers = [part for a, b in itertools.pairwise(widths) for part in (nn.Linear(a, b), nn.ReLU())]
        self.body = nn.Sequential(*layers, nn.Linear(widths[-1], config.chunk * config.action))
        self.log_deviation = nn.Parameter(torch.full((config.chunk * config.action,), -1.0))
        self.register_buffer("centre", torch.zeros(config.observation))
        self.register_buffer("scale", torch.ones(config.observation))
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Torch's own."""

    def standardise(self, observations: Array) -> None:
        """Take centre and scale from observations [n, D]; what never changes keeps scale 1."""
        deviation = np.std(observations, axis=0)
        self.centre.copy_(torch.as_tensor(np.mean(observations, axis=0)))
        self.scale.copy_(torch.as_tensor(np.where(deviation > 1e-6, deviation, 1.0)))

    def forward(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        """μ [B, C·A] and log σ [C·A] from observations [B, D]; σ is at least e⁻⁴."""
        return self.body((observation - self.centre) / self.scale), self.log_deviation.clamp(min=-4.0)


class ControlPolicy:
    """Acts by chunks: draws C actions at once and executes them open-loop, then looks again.

    Without an environment an attempt is one chunk [C, A] for the observation of its sample; with one it is a whole
    episode, and its completion a `Trajectory`.

    Args:
        module: the network.
        observe: sample to observation, float32 [D]; for single chunks.
        environment: samples to the environment that plays their episodes.
        patience: environment steps of an episode at most.
    """

    def __init__(
        self,
        module: GaussianChunks,
        *,
        observe: Callable[[Sample], Array] = lambda sample: sample.columns["observation"],
        environment: Callable[[Sequence[Sample]], Environment] | None = None,
        patience: int = 100,
    ) -> None:
        self.module, self.observe, self.environment, self.patience = module, observe, environment, patience
        self.copies = Copies()

    @classmethod
    def from_pretrained(cls, folder: str | Path, **options: Any) -> ControlPolicy:
        """Load what `save_pretrained` wrote; options are the constructor's.

        Raises:
            SteelyardError: if it cannot be read.
        """
        try:
            return cls(GaussianChunks.from_pretrained(folder), **options)
        except (OSError, ValueError, RuntimeError) as error:
            said = " ".join(str(error).split())[:200]
            raise SteelyardError(f"{folder} cannot be loaded as a control policy: {said}") from None

    def save_pretrained(self, folder: str | Path) -> None:
        """Write a folder that `from_pretrained` reads."""
        self.module.save_pretrained(folder)

    def sample(self, samples: Sequence[Sample], n: int, *, generator: Streams, greedy: bool = False) -> Rollouts:
        """n attempts for each sample; see `types.Policy`. A greedy one takes the mean.

        Raises:
            SteelyardError: for no samples or no attempts.
        """
        check_attempts(samples, n)
        rows = [sample for sample in samples for _ in range(n)]
        children = [child for child in streams(generator, len(samples)) for child in child.spawn(n)]
        group = np.repeat(np.arange(len(samples)), n)
        with torch.inference_mode():
            if self.environment is None:
                return self._single(rows, children, group, greedy)
            return self._episodes(self.environment(rows), rows, children, group, greedy)

    def encode(self, samples: Sequence[Sample], completions: Sequence[Any]) -> Rollouts:
        """Given chunks [C, A], one a sample's observation, as rollouts of one step (log-probabilities 0).

        Raises:
            SteelyardError: for a chunk of another shape, or numbers that are not finite.
        """
        shape = (self.module.config.chunk, self.module.config.action)
        chunks = [np.asarray(chunk, np.float32) for chunk in completions]
        for row, chunk in enumerate(chunks):
            if chunk.shape != shape or not np.isfinite(chunk).all():
                raise SteelyardError(f"row {row}'s chunk has shape {chunk.shape}; it needs finite numbers {shape}")
        actions = np.stack(chunks).reshape(len(chunks), 1, -1)
        data = {"observation": self._observed(samples)[:, None], "action": actions}
        mask = np.ones((len(chunks), 1), bool)
        return Rollouts(list(samples), list(completions), actions=Actions(np.zeros(mask.shape), mask, data))

    def logprobs(self, rollouts: Rollouts, *, copy: str | None = None) -> Tensor:
        """[N, T]: log π of each chunk, the sum over its numbers; a copy's carry no gradient.

        Raises:
            SteelyardError: for a copy that was not made, or rollouts without actions.
        """
        if rollouts.actions is None:
            raise SteelyardError("rollouts without actions have no log-probabilities; sample or encode them")
        module = self.module if copy is None else self.copies[copy]
        observation, action = (
            torch.as_tensor(rollouts.actions.data[name], device=module.centre.device)
            for name in ("observation", "action")
        )
        with torch.set_grad_enabled(copy is None and torch.is_grad_enabled()):
            mean, log_deviation = module(observation.flatten(0, 1))
            return log_density(action, mean.view(action.shape), log_deviation)

    def snapshot(self, name: str) -> None:
        """Keep a frozen copy of the policy as it is now."""
        self.copies.keep(name, self.module)

    def _observed(self, samples: Sequence[Sample]) -> Array:
        return np.stack([np.asarray(self.observe(sample), np.float32) for sample in samples])

    def _draw(self, observation: Array, children: Sequence[np.random.Generator], greedy: bool) -> tuple[Array, Array]:
        """Chunks [B, C·A] and their log-probabilities [B]."""
        mean, log_deviation = self.module(torch.as_tensor(observation, device=self.module.centre.device))
        noise = np.zeros(mean.shape, np.float32)
        if not greedy:
            noise = np.stack([child.standard_normal(mean.shape[1], np.float32) for child in children])
        action = mean + log_deviation.exp() * torch.as_tensor(noise, device=mean.device)
        return action.cpu().numpy(), log_density(action, mean, log_deviation).cpu().numpy()

    def _single(
        self, rows: list[Sample], children: Sequence[np.random.Generator], group: Array, greedy: bool
    ) -> Rollouts:
        observation = self._observed(rows)
        action, logprobs = self._draw(observation, children, greedy)
        data = {"observation": observation[:, None], "action": action[:, None]}
        actions = Actions(logprobs[:, None], np.ones((len(rows), 1), bool), data)
        chunks = list(action.reshape(len(rows), self.module.config.chunk, -1))
        return Rollouts(rows, chunks, group=group, actions=actions)

    def _episodes(
        self,
        environment: Environment,
        rows: list[Sample],
        children: Sequence[np.random.Generator],
        group: Array,
        greedy: bool,
    ) -> Rollouts:
        config, seen, done = self.module.config, [environment.reset()], []
        success, ends = np.zeros(len(rows), bool), np.full(len(rows), self.patience)
        steps: list[tuple[Array, Array, Array, Array]] = []
        while len(done) < self.patience and not success.all():
            action, logprobs = self._draw(seen[-1], children, greedy)
            steps.append((seen[-1], action, logprobs, ~success))
            for part in np.moveaxis(action.reshape(len(rows), config.chunk, -1), 1, 0)[: self.patience - len(done)]:
                observation, solved = environment.step(part, ~success)
                seen, done = [*seen, observation], [*done, part]
                ends = np.where(solved & ~success, len(done), ends)
                success = success | solved
        observations, logprob, mask = (np.stack([step[i] for step in steps], 1) for i in (0, 2, 3))
        data = {"observation": observations, "action": np.stack([step[1] for step in steps], 1)}
        whole, acted = np.stack(seen, 1), np.stack(done, 1)
        trajectories = [
            Trajectory(whole[i, : ends[i] + 1], acted[i, : ends[i]], bool(success[i])) for i in range(len(rows))
        ]
        return Rollouts(rows, trajectories, group=group, actions=Actions(np.where(mask, logprob, 0.0), mask, data))


def log_density(action: Tensor, mean: Tensor, log_deviation: Tensor) -> Tensor:
    """Σ over the last axis of log N(action; mean, e^{2 log_deviation})."""
    z = (action - mean) * (-log_deviation).exp()
    return -(0.5 * z.square() + log_deviation + 0.5 * math.log(2 * math.pi)).sum(-1)


def chunks_of(actions: Array, chunk: int) -> Array:
    """The chunk that began at every step: float32 [t, C, A]; past the end the last action is repeated.

    Args:
        actions: [t, A].
    """
    steps = np.arange(len(actions))[:, None] + np.arange(chunk)
    return np.asarray(actions, np.float32)[np.minimum(steps, len(actions) - 1)]
