"""What a recipe is made of: the protocols of plan, curriculum, advantage and objective, and the recipe itself."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from steelyard.types import Advantages, Array, Perturbation, Policy, Reward, Rollouts, Sample, Scores, SteelyardError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class Candidate:
    """A sample together with the change under which it may be trained (None: as it is)."""

    sample: Sample
    perturbation: Perturbation | None = None

    @functools.cached_property
    def view(self) -> Sample:
        """The sample under its change; made once, so that judging and training see the very same object."""
        return self.sample if self.perturbation is None else self.perturbation(self.sample)


class Plan(Protocol):
    """Which rollouts a step asks for."""

    def draw(self, sample: Sample, generator: np.random.Generator) -> Candidate:
        """Choose the change for a sample."""
        ...

    def restore(self, sample: Sample, spec: Mapping[str, Any] | None) -> Candidate:
        """The candidate whose perturbation gave this spec."""
        ...

    def rollouts(self, policy: Policy, candidates: Sequence[Candidate], generator: np.random.Generator) -> Rollouts:
        """All branches of all candidates, rolled out; `group` is the candidate's index."""
        ...


class SampleStream:
    """The data set, shuffled anew every epoch, with a position that is saved and resumed.

    Args:
        samples: the rows; may be lazy, anything with a length and integer indices.
        seed: of the order of every epoch.
    """

    def __init__(self, samples: Sequence[Sample], *, seed: int = 0) -> None:
        if len(samples) == 0:
            raise SteelyardError("the data set has no rows; give at least one sample")
        self.samples, self.seed, self.position = samples, seed, 0
        self._order: tuple[int, Array] | None = None
        self._rows: dict[str, int] = {}

    def take(self, count: int) -> list[Sample]:
        """The next `count` samples."""
        return [self.samples[row] for row in self.take_rows(count)]

    def take_rows(self, count: int) -> list[int]:
        """The numbers of the next `count` rows."""
        rows = [self._index(self.position + i) for i in range(count)]
        self.position += count
        return rows

    def find(self, sample_id: str) -> Sample:
        """The sample of this id (a lazy data set may list its rows' ids as `ids`, so that none is loaded to be found).

        Raises:
            SteelyardError: if no row has it, or two rows share an id.
        """
        if not self._rows:
            ids = getattr(self.samples, "ids", None) or [sample.id for sample in self.samples]
            rows = {name: row for row, name in enumerate(ids)}
            if len(rows) < len(ids):
                twice = next(name for row, name in enumerate(ids) if rows[name] != row)
                raise SteelyardError(f"the data set has several samples {twice!r}; ids must differ to be found again")
            self._rows = rows
        if sample_id not in self._rows:
            raise SteelyardError(f"the data set has no sample {sample_id!r}; was it changed since the run began?")
        return self.samples[self._rows[sample_id]]

    def state_dict(self) -> dict[str, Any]:
        """JSON: the position."""
        return {"position": self.position, "seed": self.seed}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken."""
        self.position, self.seed, self._order = int(state["position"]), int(state["seed"]), None

    def _index(self, position: int) -> int:
        epoch, offset = divmod(position, len(self.samples))
        if self._order is None or self._order[0] != epoch:
            self._order = epoch, np.random.default_rng([self.seed, epoch]).permutation(len(self.samples))
        return int(self._order[1][offset])


class Curriculum(Protocol):
    """Which candidates come next, given how the last ones went. Its state is saved with the run."""

    def next(
        self, stream: SampleStream, plan: Plan, policy: Policy, generator: np.random.Generator, count: int
    ) -> list[Candidate]:
        """Candidates to train on, drawn from the next `count` samples and from memory; none where none is worth it."""
        ...

    def metrics(self) -> dict[str, float]:
        """What the last `next` did, for the log."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken."""
        ...


class AdvantageTransform(Protocol):
    """One link of an advantage chain.

    A link with state also has `state_dict` and `load_state_dict`; one with something to log has `metrics`.
    """

    def __call__(self, advantages: Advantages, rollouts: Rollouts, scores: Scores) -> Advantages:
        """Advantages in, advantages out."""
        ...


class StepLoss(NamedTuple):
    """An objective's answer: the loss of every step [N, T] and named figures [N, T] for the log."""

    loss: Tensor
    metrics: dict[str, Tensor]


class Objective(Protocol):
    """A loss as a pure function of tensors.

    The scalar to minimise is `(loss * weights).sum()`, with weights that sum to one over the WHOLE step's
    batch; so the sum may be taken in any micro-batches, on any number of devices.
    """

    @property
    def needs_reference(self) -> bool:
        """Whether `reference` log-probabilities are read."""
        ...

    def weights(self, mask: Array, row_weight: Array) -> Array:
        """float32 [N, T] from mask [N, T] and row weight [N]; they sum to one over the whole batch, or are all zero."""
        ...

    def __call__(self, logprobs: Tensor, old: Tensor, reference: Tensor | None, advantages: Tensor) -> StepLoss:
        """All tensors [N, T]; advantages [K, N, T] where rows have several, whose losses are added up."""
        ...


@dataclass(frozen=True)
class Recipe:
    """The parts of one method, put together.

    Attributes:
        measured: what held-out rows are measured by, where the reward asks a judge that is kept for training.
    """

    plan: Plan
    reward: Reward
    advantage: AdvantageTransform
    objective: Objective
    curriculum: Curriculum
    measured: Reward | None = None
