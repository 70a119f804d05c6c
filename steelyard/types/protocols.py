"""What the stages ask of each other: perturbations, rewards, judges and policies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from steelyard.types.rollouts import Rollouts
from steelyard.types.samples import Prompt, Sample, Streams
from steelyard.types.scores import Scores


@runtime_checkable
class Perturbation(Protocol):
    """A seeded change of a sample: a pure function, the same pixels or words at every call."""

    @property
    def keeps_answer(self) -> bool:
        """Whether the right answer survives the change."""
        ...

    def __call__(self, sample: Sample) -> Sample:
        """The changed sample."""
        ...

    def spec(self) -> dict[str, Any]:
        """Plain JSON from which the same perturbation is made again; never pixels."""
        ...


class PerturbationSampler(Protocol):
    """A distribution over perturbations."""

    def draw(self, generator: np.random.Generator) -> Perturbation:
        """One perturbation."""
        ...

    def restore(self, spec: Mapping[str, Any]) -> Perturbation:
        """The perturbation that gave this spec."""
        ...


@runtime_checkable
class Reward(Protocol):
    """Rollouts in, scores out."""

    @property
    def name(self) -> str:
        """How logs and errors call it."""
        ...

    def __call__(self, rollouts: Rollouts, /) -> Scores:
        """One score a row."""
        ...


@runtime_checkable
class Judge(Protocol):
    """Prompts in, texts out: an endpoint, a local model or a rule."""

    def ask(self, prompts: Sequence[Prompt]) -> list[str | None]:
        """One answer a prompt; None where none came."""
        ...


class Policy(Protocol):
    """Anything that acts and can say how likely its acts were.

    `module` is the torch module whose trainable parameters the trainer updates and saves.
    """

    @property
    def module(self) -> Any:
        """A `torch.nn.Module`."""
        ...

    def sample(self, samples: Sequence[Sample], n: int, *, generator: Streams, greedy: bool = False) -> Rollouts:
        """n attempts for each sample, those of one beside each other; `group` = its index in `samples`."""
        ...

    def logprobs(self, rollouts: Rollouts, *, copy: str | None = None) -> Any:
        """Tensor [N, T] aligned with `rollouts.actions`; a named copy's carry no gradients."""
        ...

    def snapshot(self, name: str) -> None:
        """Keep a frozen copy of the policy as it is now under a name (reference, previous, …)."""
        ...
