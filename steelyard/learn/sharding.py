"""Data parallel training: the same step on several processes, with the figures of one."""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from torch import distributed

from steelyard.types import Array, Policy, Rollouts, Sample, SteelyardError, Streams, streams

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")
BUCKET = 16 * 1024 * 1024
"""Numbers in one all-reduce: large enough to fill the link, small enough to be no second copy of the model."""


def _launched_together() -> bool:
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def _group() -> Any:
    """Accelerate's process group, made at the first call; gloo where there is no accelerator."""
    from accelerate import PartialState

    fresh = not distributed.is_initialized()
    asked = os.environ.get("ACCELERATE_USE_CPU", "false").lower() in ("1", "true", "yes")
    state = PartialState(cpu=asked or not torch.accelerator.is_available())
    if state.num_processes != int(os.environ["WORLD_SIZE"]):
        words = f"{state.num_processes} of {os.environ['WORLD_SIZE']} processes found each other"
        raise SteelyardError(f"{words}; start them with accelerate launch or torchrun")
    if fresh:
        # Without it the group's threads are still running when the interpreter ends, and abort the process.
        atexit.register(state.destroy_process_group)
    return state


def local_device() -> torch.device:
    """Where this process's policy belongs: its own device under `accelerate launch`, else the first one."""
    if _launched_together():
        return _group().device
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


class Shards:
    """The processes that train together; one alone is the ordinary case and needs no process group.

    `accelerate` starts the group and picks the device, so that everything `accelerate launch` knows works.
    """

    def __init__(self) -> None:
        self.rank, self.count = 0, 1
        if _launched_together():
            self.rank, self.count = _group().process_index, _group().num_processes

    @property
    def main(self) -> bool:
        """Whether this process writes files and asks judges."""
        return self.rank == 0

    def policy(self, policy: Policy) -> Policy:
        """The policy, sampling with all processes."""
        return policy if self.count == 1 else ShardedPolicy(policy, self)

    def part(self, sizes: Sequence[int]) -> slice:
        """This process's run of consecutive items, with the items' sizes shared out evenly.

        An item goes to the process in whose share its middle lies, so every item goes to exactly one.
        """
        weights = np.asarray(sizes, np.float64)
        if weights.sum() == 0:
            return slice(0, len(weights) if self.main else 0)
        middles = (weights.cumsum() - weights / 2) / weights.sum()
        edges = np.searchsorted(middles, [self.rank / self.count, (self.rank + 1) / self.count])
        return slice(int(edges[0]), int(edges[1]))

    def gather(self, value: T) -> list[T]:
        """What every process holds, in order of rank."""
        if self.count == 1:
            return [value]
        parts: list[Any] = [None] * self.count
        distributed.all_gather_object(parts, value)
        return parts

    def from_main(self, make: Callable[[], T]) -> T:
        """Computed by rank 0, given to all; an exception there is raised everywhere."""
        if self.count == 1:
            return make()
        box: list[Any] = [None, None]
        if self.main:
            try:
                box[0] = make()
            except Exception as error:
                box[1] = error
        distributed.broadcast_object_list(box, src=0)
        if box[1] is not None:
            raise box[1]
        return box[0]

    def any(self, flag: bool) -> bool:
        """Whether the flag is up in any process."""
        return any(self.gather(flag))

    def sum_tensors(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over the processes, in buckets."""
        if self.count == 1:
            return
        for bucket in _buckets(tensors):
            flat = torch.cat([tensor.reshape(-1) for tensor in bucket])
            distributed.all_reduce(flat)
            pieces = flat.split([tensor.numel() for tensor in bucket])
            for tensor, piece in zip(bucket, pieces, strict=True):
                tensor.copy_(piece.view_as(tensor))


def _buckets(tensors: Sequence[Tensor]) -> list[list[Tensor]]:
    """Consecutive tensors of one kind, up to BUCKET numbers together."""
    buckets: list[list[Tensor]] = []
    filled = 0
    for tensor in tensors:
        alike = buckets and (buckets[-1][0].dtype, buckets[-1][0].device) == (tensor.dtype, tensor.device)
        if not alike or filled + tensor.numel() > BUCKET:
            buckets.append([])
            filled = 0
        buckets[-1].append(tensor)
        filled += tensor.numel()
    return buckets


class ShardedPolicy:
    """A policy whose sampling is shared out over processes; every process gets all the rollouts.

    Each sample has its own stream of randomness, so the rollouts do not depend on how many processes there are.
    """

    def __init__(self, policy: Policy, shards: Shards) -> None:
        self.inner, self.shards = policy, shards

    @property
    def module(self) -> Any:
        """The wrapped policy's module."""
        return self.inner.module

    def sample(self, samples: Sequence[Sample], n: int, *, generator: Streams, greedy: bool = False) -> Rollouts:
        """n attempts for each sample; called with the same arguments in every process."""
        if not samples:
            return self.inner.sample(samples, n, generator=generator, greedy=greedy)
        children = streams(generator, len(samples))
        part = self.shards.part([1] * len(samples))
        mine = None
        if part.stop > part.start:
            local = self.inner.sample(samples[part], n, generator=children[part], greedy=greedy)
            mine = _with_groups(local, local.groups + part.start)
        parts = [rollouts for rollouts in self.shards.gather(_without_samples(mine)) if rollouts is not None]
        whole = Rollouts.concatenate(parts)
        whole.samples = [samples[group] for group in whole.groups]
        return whole

    def logprobs(self, rollouts: Rollouts, *, copy: str | None = None) -> Any:
        """Of this process's rows."""
        return self.inner.logprobs(rollouts, copy=copy)

    def from_main(self, make: Callable[[], T]) -> T:
        """What rank 0 computes, given to all: a judge's or a tool's answers, which a plan asks for while it samples."""
        return self.shards.from_main(make)

    def snapshot(self, name: str) -> None:
        """Every process keeps the copy."""
        self.inner.snapshot(name)

    def __getattr__(self, name: str) -> Any:
        """Whatever else the wrapped policy can do, done in every process."""
        if name == "inner":
            raise AttributeError(name)
        return getattr(self.inner, name)


def _with_groups(rollouts: Rollouts, group: Array) -> Rollouts:
    rollouts.group = group
    return rollouts


def _without_samples(rollouts: Rollouts | None) -> Rollouts | None:
    """Every process has the samples already; their frames need not travel."""
    if rollouts is not None:
        rollouts.samples = [None] * len(rollouts)  # type: ignore[list-item]
    return rollouts
