"""Chance in rewards, saved with the run: noise on a judge, and events that a world draws."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from steelyard.rewards.core import Expression, Memo
from steelyard.types import Array, Rollouts, Scores


class Noisy(Expression):
    """A reward with Gaussian noise on every row, drawn anew at every call; where it stands is saved with the run."""

    def __init__(self, inner: Expression, std: float, *, seed: int) -> None:
        self.inner, self.std, self.generator = inner, std, np.random.default_rng([seed, 1])
        self.name = f"noisy({inner!r}, std={std:g})"

    @property
    def operands(self) -> tuple[Expression, ...]:
        """One level down."""
        return (self.inner,)

    def state_dict(self) -> dict[str, Any]:
        """Where the noise stands, and what the inner reward keeps."""
        return {"noise": self.generator.bit_generator.state, "inner": super().state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken."""
        self.generator.bit_generator.state = dict(state["noise"])
        super().load_state_dict(state["inner"])

    def _compute(self, rollouts: Rollouts, memo: Memo) -> Scores:
        scores = self.inner._evaluate(rollouts, memo)
        noise = self.std * self.generator.standard_normal(len(rollouts))
        return Scores(scores.values + noise, scores.status, scores.steps, parts=scores.parts, seconds=scores.seconds)


class Drawn(Expression):
    """1 with each row's own chance, else 0, drawn anew at every call; where it stands is saved with the run.

    Args:
        chance: rollouts to probabilities [N].
        name: how logs call it; seed: of the draws.
    """

    def __init__(self, chance: Callable[[Rollouts], Array], name: str, *, seed: int | Sequence[int]) -> None:
        self.chance, self.name, self.generator = chance, name, np.random.default_rng(seed)

    def state_dict(self) -> dict[str, Any]:
        """Where the draws stand."""
        return {"draws": self.generator.bit_generator.state}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken."""
        self.generator.bit_generator.state = dict(state["draws"])

    def _compute(self, rollouts: Rollouts, memo: Memo) -> Scores:
        values = (self.generator.random(len(rollouts)) < self.chance(rollouts)).astype(np.float32)
        return Scores(values, parts={self.name: values})
