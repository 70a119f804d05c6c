"""Plans: which rollouts a step asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from steelyard.learn.recipe import Candidate
from steelyard.types import PerturbationSampler, Policy, Rollouts, Sample, SteelyardError


def _draw(perturb: PerturbationSampler | None, sample: Sample, generator: np.random.Generator) -> Candidate:
    return Candidate(sample, None if perturb is None else perturb.draw(generator))


def _restore(perturb: PerturbationSampler | None, sample: Sample, spec: Mapping[str, Any] | None) -> Candidate:
    if spec is None:
        return Candidate(sample)
    if perturb is None:
        raise SteelyardError(f"sample {sample.id!r} was stored with a perturbation {dict(spec)} but the plan has none")
    return Candidate(sample, perturb.restore(spec))


def _check_attempts(n: int) -> None:
    if n < 1:
        raise SteelyardError(f"a plan of n={n} attempts a sample makes no rollouts; give at least 1")


@dataclass(frozen=True)
class Groups:
    """See `groups`."""

    n: int
    perturb: PerturbationSampler | None = None

    def draw(self, sample: Sample, generator: np.random.Generator) -> Candidate:
        """Choose the change for a sample."""
        return _draw(self.perturb, sample, generator)

    def restore(self, sample: Sample, spec: Mapping[str, Any] | None) -> Candidate:
        """The candidate whose perturbation gave this spec."""
        return _restore(self.perturb, sample, spec)

    def rollouts(self, policy: Policy, candidates: Sequence[Candidate], generator: np.random.Generator) -> Rollouts:
        """n attempts for each candidate; branch 1 where the sample was perturbed, else 0."""
        rollouts = policy.sample([c.view for c in candidates], self.n, generator=generator)
        changed = np.asarray([c.perturbation is not None for c in candidates], np.int64)
        rollouts.branch = changed[rollouts.groups]
        return rollouts


def groups(n: int, *, perturb: PerturbationSampler | None = None) -> Groups:
    """n attempts for every sample (GRPO's plan): as it is, or under one drawn change (plain augmentation)."""
    _check_attempts(n)
    return Groups(n, perturb)


@dataclass(frozen=True)
class TwoBranches:
    """See `two_branches`."""

    perturb: PerturbationSampler
    n: int

    def draw(self, sample: Sample, generator: np.random.Generator) -> Candidate:
        """Choose the change for a sample."""
        return _draw(self.perturb, sample, generator)

    def restore(self, sample: Sample, spec: Mapping[str, Any] | None) -> Candidate:
        """The candidate whose perturbation gave this spec."""
        return _restore(self.perturb, sample, spec)

    def rollouts(self, policy: Policy, candidates: Sequence[Candidate], generator: np.random.Generator) -> Rollouts:
        """2n attempts for each candidate: branch 0 sees the sample as it is, branch 1 under its change."""
        views = [c.sample for c in candidates] + [c.view for c in candidates]
        rollouts = policy.sample(views, self.n, generator=generator)
        rollouts.branch, rollouts.group = np.divmod(rollouts.groups, len(candidates))
        return rollouts


def two_branches(*, perturb: PerturbationSampler, n: int) -> TwoBranches:
    """n attempts on the sample as it is (the anchors) and n under one drawn change (sheet 01, section 3)."""
    _check_attempts(n)
    return TwoBranches(perturb, n)
