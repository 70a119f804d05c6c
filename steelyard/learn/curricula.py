"""Curricula: which candidates come next, given how the last ones went."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np

from steelyard.learn.difficulty import Difficulty, Judgement
from steelyard.learn.recipe import Candidate, Plan, SampleStream
from steelyard.types import Policy, SteelyardError

Action = Literal["discard", "train", "store", "keep", "evict"]
_COUNTS = ("added", "released", "evicted", "refused", "failed_once")


class Uniform:
    """See `uniform`."""

    def __repr__(self) -> str:
        return "uniform()"

    def next(
        self, stream: SampleStream, plan: Plan, policy: Policy, generator: np.random.Generator, count: int
    ) -> list[Candidate]:
        """The next `count` samples, each under a newly drawn change."""
        return [plan.draw(sample, generator) for sample in stream.take(count)]

    def metrics(self) -> dict[str, float]:
        """Nothing to tell."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """No state."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """No state."""


def uniform() -> Uniform:
    """Every sample once an epoch, all trained."""
    return Uniform()


def route(judgement: Judgement, *, tau: float, k_max: int, evaluations: int = 0, from_memory: bool = False) -> Action:
    """What happens to a candidate (sheet 01, section 2's table).

    Args:
        judgement: label and confidence.
        tau: an easy sample is thrown away only if its confidence reaches τ.
        k_max: a difficult sample from memory is evicted at its k_max-th re-evaluation.
        evaluations: how often this one was re-evaluated, this time included.
        from_memory: whether it comes from memory.

    Raises:
        SteelyardError: for another label than the three.
    """
    if judgement.label == "easy":
        return "discard" if judgement.confidence >= tau else "train"
    if judgement.label == "informative":
        return "train"
    if judgement.label != "difficult":
        raise SteelyardError(f"difficulty {judgement.label!r} is unknown; it is easy, informative or difficult")
    if not from_memory:
        return "store"
    return "evict" if evaluations >= k_max else "keep"


@dataclass
class Entry:
    """What memory keeps of a difficult candidate: names, numbers, never pixels."""

    sample: str
    spec: dict[str, Any] | None
    evaluations: int = 0
    stored_at: int = 0


@dataclass
class Memory:
    """Difficult candidates that wait for a better policy; refuses additions while it is full.

    Attributes:
        capacity: how many entries it holds.
        k_max: an entry leaves at its k_max-th re-evaluation that still finds it difficult.
        entries: key to entry, in order of arrival.
        counts: how many were ever added, released (no longer difficult), evicted and refused.
    """

    capacity: int = 100
    k_max: int = 3
    entries: dict[str, Entry] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_COUNTS, 0))

    @property
    def full(self) -> bool:
        """Whether nothing more fits in."""
        return len(self.entries) >= self.capacity

    def add(self, key: str, entry: Entry) -> bool:
        """Store an entry; True if it is in memory afterwards (one that is there already stays as it is)."""
        if key in self.entries:
            return True
        if self.full:
            self.counts["refused"] += 1
            return False
        self.entries[key] = entry
        self.counts["added"] += 1
        return True

    def release(self, key: str) -> Entry | None:
        """Take out an entry that is no longer difficult; None if it is not there."""
        entry = self.entries.pop(key, None)
        self.counts["released"] += entry is not None
        return entry

    def fail(self, key: str) -> Action | None:
        """Count a re-evaluation that found it difficult: `keep`, `evict` at the k_max-th, None if it is not there."""
        if key not in self.entries:
            return None
        entry = self.entries[key]
        entry.evaluations += 1
        difficult = Judgement("difficult", 1.0)
        action = route(difficult, tau=1.0, k_max=self.k_max, evaluations=entry.evaluations, from_memory=True)
        if action == "evict":
            del self.entries[key]
            self.counts["evicted"] += 1
        elif entry.evaluations == 1:
            self.counts["failed_once"] += 1
        return action

    def state_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {"entries": {key: asdict(entry) for key, entry in self.entries.items()}, "counts": dict(self.counts)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken."""
        self.entries = {key: Entry(**entry) for key, entry in state["entries"].items()}
        self.counts = dict(state["counts"])


class SelfReflective:
    """See `self_reflective`."""

    def __init__(self, difficulty: Difficulty, memory: Memory, tau: float, period: int, warmup: int) -> None:
        self.difficulty, self.memory, self.tau, self.period, self.warmup = difficulty, memory, tau, period, warmup
        self.step = 0
        self._metrics: dict[str, float] = {}

    def __repr__(self) -> str:
        memory = f"k_max={self.memory.k_max}, period={self.period}, memory={self.memory.capacity}"
        return f"self_reflective({self.difficulty!r}, tau={self.tau:g}, {memory})"

    def next(
        self, stream: SampleStream, plan: Plan, policy: Policy, generator: np.random.Generator, count: int
    ) -> list[Candidate]:
        """Of the next `count` samples those worth training, and those that memory lets go."""
        fresh = [plan.draw(sample, generator) for sample in stream.take(count)]
        if self.step < self.warmup:
            chosen, judged = fresh, 0
            self._metrics = {"train": float(len(fresh))}
        else:
            due = self.memory.full or (self.step > 0 and self.step % self.period == 0)
            recalled = self._recall(stream, plan) if due else {}
            judgements = self.difficulty(policy, [*fresh, *recalled.values()], generator)
            judged = len(judgements)
            chosen = self._route_fresh(fresh, judgements[: len(fresh)])
            chosen += self._route_recalled(recalled, judgements[len(fresh) :])
        self._metrics |= {
            "memory": float(len(self.memory.entries)),
            "judge_samples": float(judged * self.difficulty.samples_per_candidate),
        }
        self.step += 1
        return chosen

    def _recall(self, stream: SampleStream, plan: Plan) -> dict[str, Candidate]:
        return {key: plan.restore(stream.find(entry.sample), entry.spec) for key, entry in self.memory.entries.items()}

    def _route_fresh(self, fresh: list[Candidate], judgements: list[Judgement]) -> list[Candidate]:
        actions = [route(judgement, tau=self.tau, k_max=self.memory.k_max) for judgement in judgements]
        for candidate, action in zip(fresh, actions, strict=True):
            if action == "store":
                spec = None if candidate.perturbation is None else candidate.perturbation.spec()
                self.memory.add(_key(candidate.sample.id, spec), Entry(candidate.sample.id, spec, stored_at=self.step))
        labels = [judgement.label for judgement in judgements]
        shares = {label: labels.count(label) / max(1, len(labels)) for label in ("easy", "informative", "difficult")}
        self._metrics = {**shares, "train": float(actions.count("train")), "discard": float(actions.count("discard"))}
        return [candidate for candidate, action in zip(fresh, actions, strict=True) if action == "train"]

    def _route_recalled(self, recalled: dict[str, Candidate], judgements: list[Judgement]) -> list[Candidate]:
        chosen = []
        for (key, candidate), judgement in zip(recalled.items(), judgements, strict=True):
            if judgement.label == "difficult":
                self.memory.fail(key)
                continue
            self.memory.release(key)
            if route(judgement, tau=self.tau, k_max=self.memory.k_max, from_memory=True) == "train":
                chosen.append(candidate)
        self._metrics |= {"recalled": float(len(recalled)), "recalled_train": float(len(chosen))}
        return chosen

    def metrics(self) -> dict[str, float]:
        """Shares of the labels, how many were trained, what memory holds, what judging cost."""
        return dict(self._metrics)

    def state_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {"step": self.step, "memory": self.memory.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken."""
        self.step = int(state["step"])
        self.memory.load_state_dict(state["memory"])


def _key(sample: str, spec: Mapping[str, Any] | None) -> str:
    return sample if spec is None else f"{sample}|{sorted(spec.items())}"


def self_reflective(
    difficulty: Difficulty, *, tau: float = 0.8, k_max: int = 3, period: int = 50, memory: int = 100, warmup: int = 0
) -> SelfReflective:
    """ROVA's curriculum: train what is neither trivial nor hopeless now, keep the hopeless for later.

    Args:
        difficulty: judges candidates without the gold answer; see `behavioural` and `self_judged`.
        tau: confidence from which an easy candidate is thrown away.
        k_max: re-evaluations before a difficult one is evicted.
        period: steps between re-evaluations of memory (it is also re-evaluated when full).
        memory: its capacity.
        warmup: first steps on which everything is trained, while self-judgement is unreliable.

    Raises:
        SteelyardError: for values that can never work.

    Source: sheet 01, section 2; the defaults are the sheet's recommendation (not found in the paper).
    """
    if not 0 <= tau <= 1 or min(k_max, period, memory) < 1:
        given = f"tau={tau}, k_max={k_max}, period={period}, memory={memory}"
        raise SteelyardError(f"{given}: tau must lie in [0, 1], the others must be at least 1")
    return SelfReflective(difficulty, Memory(memory, k_max), tau, period, warmup)
