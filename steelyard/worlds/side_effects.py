"""A bench-top world of editing: twelve numbers stand for an image, and every edit has a side effect (sheet 31)."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from steelyard.policies.control import ControlPolicy, GaussianChunks, GaussianChunksConfig
from steelyard.rewards.core import BatchReward
from steelyard.types import Array, Rollouts, Sample

Split = Literal["train", "validation", "test"]

NUMBERS, SPREAD, START, NOISE = 12, 0.2, 0.25, 0.5


@dataclass(frozen=True)
class SideEffects:
    """An editor writes twelve numbers: four edits, four that make good what the edits do beside, four left alone.

    It should move the edits to 1. What it gets elsewhere is off by d = ‖side · edit + made good‖ and by what it did to
    the last four. A judge marks execution 1 − mean |edit − 1| and consistency from 1 to 5, each with an error of
    standard deviation 0.5 before rounding, drawn from the bytes of the batch that it sees: the same batch is marked the
    same. The editor is a Gaussian of standard deviation 0.2 that starts with a quarter of the edit.

    Args:
        name: of the world.
        side: how strong the side effect is.
        mild: whether consistency falls off as exp(−2 d) instead of 1 − 1.5 d.
        attempts: the group size.
    """

    name: str = "side-effects"
    side: float = 2.5
    mild: bool = False
    attempts: int = 24

    def samples(self, split: Split, count: int, *, seed: int = 0) -> Sequence[Sample]:
        """One request, over and over."""
        return [Sample(f"{split}-{i}", "edit", columns={"observation": np.zeros(1, np.float32)}) for i in range(count)]

    def policy(self, *, seed: int = 0) -> ControlPolicy:
        """The lazy editor; the same for every seed."""
        module = GaussianChunks(GaussianChunksConfig(observation=1, action=NUMBERS, layers=0))
        with torch.no_grad():
            module.body[0].weight.zero_()
            module.body[0].bias.copy_(torch.as_tensor([START] * 4 + [0.0] * 8))
            module.log_deviation.fill_(math.log(SPREAD))
        module.log_deviation.requires_grad_(False)
        return ControlPolicy(module)

    @property
    def execution(self) -> BatchReward:
        """The judge's mark of whether the edit is there, a whole number from 1 to 5."""
        return BatchReward(lambda rollouts: _marked(self.truth(rollouts)[0], rollouts, 1), "execution")

    @property
    def consistency(self) -> BatchReward:
        """The judge's mark of whether all else stayed, a whole number from 1 to 5."""
        return BatchReward(lambda rollouts: _marked(self.truth(rollouts)[1], rollouts, 2), "consistency")

    def truth(self, rollouts: Rollouts) -> tuple[Array, Array]:
        """Execution and consistency without error, float64 [N] in [0, 1] each."""
        edit, good, rest = np.split(np.stack(list(rollouts.completions))[:, 0].astype(np.float64), 3, axis=1)
        off = 0.6 * np.abs(self.side * edit + good).mean(1) + 0.4 * np.abs(rest).mean(1)
        consistency = np.exp(-2 * off) if self.mild else 1 - 1.5 * off
        return (1 - np.abs(edit - 1).mean(1)).clip(0, 1), consistency.clip(0, 1)


def mildly() -> SideEffects:
    """A weaker side effect, and a consistency that falls off more slowly: both marks can be had at once."""
    return SideEffects("mild-side-effects", side=1.0, mild=True)


def _marked(truth: Array, rollouts: Rollouts, which: int) -> Array:
    seen = np.stack(list(rollouts.completions)).tobytes()
    error = np.random.default_rng([which, zlib.crc32(seen)]).normal(0.0, NOISE, len(truth))
    return np.rint(1 + 4 * truth + error).clip(1, 5)
