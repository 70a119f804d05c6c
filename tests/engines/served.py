"""Rewards that the tests of the server and of scoring load from this file."""

import os
import time

import numpy as np

from steelyard.rewards import fill, reward, think_format
from steelyard.types import Rollouts


@reward
def same(completion: str, answer: str) -> float | None:
    """1 where the completion is the answer; None where there is nothing to compare."""
    return float(completion == answer) if completion else None


@reward
def troublesome(completion: str) -> float:
    """Does what the completion says."""
    if completion == "die":
        os._exit(7)
    if completion == "boom":
        raise KeyError("boom")
    if completion.startswith("sleep "):
        time.sleep(float(completion.removeprefix("sleep ")))
    return float(len(completion))


@reward(on_error="nan")
def forgiving(completion: str) -> float:
    """As troublesome, but a row that fails has no reward."""
    return float(completion)


@reward(batch=True)
def share_of_group(rollouts: Rollouts) -> np.ndarray:
    """How many rows the row's group has."""
    return np.bincount(rollouts.groups)[rollouts.groups].astype(float)


@reward(run="processes", workers=2)
def by_processes(completion: str) -> float:
    """Length, judged in processes of its own."""
    return float(len(completion))


mixed = 0.8 * same + 0.2 * think_format
filled = fill(same, 0.0)
