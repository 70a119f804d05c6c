"""What comes before any answer: samples, where their randomness comes from, and the error for bad input."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

import numpy as np

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]
"""A numpy array; its shape stands in the comment or docstring at the border."""

Streams: TypeAlias = np.random.Generator | Sequence[np.random.Generator]
"""Where randomness comes from: one generator, or one per sample (so that a batch can be cut anywhere)."""

Prompt: TypeAlias = str | Sequence[Mapping[str, Any]]
"""A text, or chat messages `{"role": ..., "content": text or parts}`."""

Direction: TypeAlias = Literal["up", "down"]
"""Which way a metric should move."""


class SteelyardError(ValueError):
    """Bad input: one sentence that says what was wrong, where, and what would be right."""


def streams(generator: Streams, count: int) -> list[np.random.Generator]:
    """One independent generator per sample.

    A single generator is advanced once per sample, so that the streams of a batch do not depend on
    how the batch is cut into pieces afterwards; a sequence is taken as it is.

    Raises:
        SteelyardError: if a sequence of another length than `count` is given.
    """
    if isinstance(generator, np.random.Generator):
        seeds = generator.integers(0, 2**63, size=count)
        return [np.random.Generator(np.random.Philox(int(seed))) for seed in seeds]
    if len(generator) != count:
        raise SteelyardError(f"{len(generator)} generators for {count} samples; give one each, or one for all")
    return list(generator)


def check_attempts(samples: Sequence[Any], n: int) -> None:
    """Refuse to make no attempt."""
    if not samples or n < 1:
        asked = f"{len(samples)} samples and {n} attempts each were asked for"
        raise SteelyardError(f"{asked}; both must be at least 1")


@dataclass(frozen=True, eq=False)
class Prefix:
    """What stands behind a prompt already, steps of an attempt and what they brought; a policy goes on behind it.

    Attributes:
        text: all of it; steps: how many of the policy's own it holds.
        data: name to [P, …], the same as the policy wrote and read it (token ids); without any it reads the text.
    """

    text: str
    steps: int = 0
    data: Mapping[str, Array] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Sample:
    """One row of a task.

    Attributes:
        id: unique within its data set; what memories and logs refer to.
        prompt: a text or chat messages. A chat message may hold `{"type": "video"}` and
            `{"type": "image"}` parts, filled in order from `video` and `images`.
        video: uint8 [T, H, W, 3], or None.
        images: uint8 arrays [H, W, 3].
        columns: what rewards read: answer, tests, references, tools, …
        prefix: what of the answer stands already, if anything.
    """

    id: str
    prompt: Prompt
    video: Array | None = None
    images: tuple[Array, ...] = ()
    columns: Mapping[str, Any] = field(default_factory=dict)
    prefix: Prefix | None = None

    def __post_init__(self) -> None:
        if self.video is not None:
            check_frames(self.video, where=f"sample {self.id!r}: video")

    def with_video(self, video: Array) -> Sample:
        """The same row seen through other frames [T, H, W, 3]."""
        return replace(self, video=video)


def check_frames(frames: Array, *, where: str) -> None:
    """Refuse anything but [T, H, W, 3] with at least one frame."""
    shape = getattr(frames, "shape", None)
    if shape is None or len(shape) != 4 or shape[3] != 3 or 0 in shape:
        raise SteelyardError(f"{where} has shape {shape}; frames are [T, H, W, 3] with none of them zero")
