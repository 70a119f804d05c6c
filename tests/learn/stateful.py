"""A run in which every part has state: what must survive a kill."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from steelyard.learn.advantages import centre, chain
from steelyard.learn.trainer import Trainer
from steelyard.types import Advantages
from tests.learn.tiny import TinyPolicy, trainer


class Streak:
    """A curriculum that draws from the generator, the stream and its own past."""

    def __init__(self) -> None:
        self.past: list[float] = [0.1]

    def next(self, stream, plan, policy, generator, count):
        self.past.append(float(generator.random()) + self.past[-1] / 3)
        return [plan.draw(sample, generator) for sample in stream.take(count + int(self.past[-1] * 4) % 3)]

    def metrics(self) -> dict[str, float]:
        return {"past": self.past[-1]}

    def state_dict(self):
        return {"past": self.past}

    def load_state_dict(self, state) -> None:
        self.past = list(state["past"])


class MovingMean:
    """An advantage link with memory."""

    def __init__(self) -> None:
        self.mean = 0.0

    def __call__(self, advantages, rollouts, scores):
        self.mean = 0.9 * self.mean + 0.1 * float(np.nanmean(scores.values))
        return Advantages(advantages.values - self.mean, advantages.weights)

    def state_dict(self):
        return {"mean": np.float64(self.mean)}

    def load_state_dict(self, state) -> None:
        self.mean = state["mean"]


def start(folder: Path, **settings) -> Trainer:
    """Twelve steps, a checkpoint every two, an evaluation every three, with dropout."""
    policy = TinyPolicy(dropout=0.2)
    usual = {"steps": 12, "checkpoint_every": 2, "evaluate_every": 3, "updates": 2, "warmup": 3}
    parts = {"curriculum": Streak(), "advantage": chain(centre(), MovingMean())}
    evaluate = lambda p: {"weight": float(p.module.head.abs().sum())}  # noqa: E731
    return trainer(folder, policy=policy, parts=parts, evaluate=evaluate, **(usual | settings))
