"""A control policy of a few numbers, and episodes that end where a point has gone far enough."""

import numpy as np
import torch

from steelyard.policies.control import ControlPolicy, GaussianChunks, GaussianChunksConfig


def chunk_policy(**options) -> ControlPolicy:
    """Three numbers seen, two actions of two numbers each."""
    torch.manual_seed(0)
    return ControlPolicy(GaussianChunks(GaussianChunksConfig(observation=3, action=2, chunk=2, hidden=8)), **options)


class Walk:
    """x += first action; solved once |x| > the sample's `far`."""

    def __init__(self, samples) -> None:
        self.far = np.asarray([sample.columns["far"] for sample in samples])
        self.x = np.zeros(len(samples))

    def reset(self):
        self.x[:] = 0
        return self.seen()

    def step(self, actions, acting):
        self.x = self.x + np.where(acting, actions[:, 0], 0.0)
        return self.seen(), np.abs(self.x) > self.far

    def seen(self):
        return np.stack([self.x, self.far, np.ones_like(self.x)], axis=1).astype(np.float32)
