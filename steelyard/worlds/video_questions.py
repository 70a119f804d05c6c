"""The video world: embodied questions about what a moving camera sees, and the tiny policy that answers them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from itertools import pairwise
from typing import TYPE_CHECKING, Literal, overload

import numpy as np

from steelyard.perturb.video import OutdoorCorruptions, outdoor_corruptions
from steelyard.rewards.answers import INSTRUCTION
from steelyard.types import Array, Sample, SteelyardError
from steelyard.worlds.video_questions_scene import render
from steelyard.worlds.video_questions_tasks import TASKS, Posed, pose

if TYPE_CHECKING:
    from steelyard.policies.vision import VisionLanguagePolicy

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
_JOINTS = re.compile(r"\b(?:then|and|so)\b|[.,;:]")
_VERBS = re.compile(r"\b(moves|turns|grows|shrinks|leaves)\b")


@dataclass(frozen=True)
class VideoQuestions:
    """Multiple-choice and counting questions about clips of a small simulated camera path.

    Tasks, in turn: turning, approaching, which object, how many, passed first. Columns of a sample: `question`,
    `answer` (an option's text, or a number), `problem_type` (`"multiple choice"` or `"numerical"`), `options`
    (`"red box"`, …; empty for numbers), `task`, `reasoning` (the facts from which the answer follows) and
    `solution` (the whole gold completion).

    Args:
        frames: T of a clip.
        size: side of the square frames in pixels.
    """

    frames: int = 8
    size: int = 56
    name = "video-questions"
    attempts = 8

    @property
    def corruptions(self) -> OutdoorCorruptions:
        """All twelve kinds at severities 2 to 4."""
        return outdoor_corruptions(severities=(2, 3, 4))

    @property
    def test_corruptions(self) -> OutdoorCorruptions:
        """What is measured: all twelve kinds at severity 3."""
        return outdoor_corruptions(severities=(3,))

    def similarity(self, anchors: Sequence[str], candidates: Sequence[str]) -> Array:
        """Agreement of reasonings, pair by pair [P]; see `reasoning_agreement`."""
        return np.asarray([reasoning_agreement(a, b) for a, b in zip(anchors, candidates, strict=True)], np.float32)

    def __post_init__(self) -> None:
        if self.frames < 4 or self.size < 16:
            raise SteelyardError(
                f"video questions of {self.frames} frames of {self.size} pixels cannot be answered; "
                "at least 4 frames of 16 pixels are needed"
            )

    def samples(self, split: Split, count: int, *, seed: int = 0, keep: bool | None = None) -> Sequence[Sample]:
        """The first `count` samples of a split, rendered when they are first asked for.

        Sample i is a function of (split, seed, i) alone, so a longer call begins with the shorter one's rows.

        Args:
            split: `"train"`, `"validation"` or `"test"`; no clip is in two of them.
            count: number of rows.
            seed: another seed gives other rows.
            keep: hold on to rendered rows (75 kB each at the default size) rather than render them at every access; by
                default all but the train split's, whose rows come once an epoch.

        Raises:
            SteelyardError: for an unknown split or a negative count.
        """
        if split not in SPLITS or count < 0:
            raise SteelyardError(f"no {count} samples of split {split!r}; the splits are {', '.join(SPLITS)}")
        return _Split(self, split, count, seed, split != "train" if keep is None else keep)

    def sample(self, split: Split, index: int, *, seed: int = 0) -> Sample:
        """Row `index` of a split."""
        generator = np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, SPLITS.index(split), index])))
        task = list(TASKS)[index % len(TASKS)]
        posed = pose(task, self.frames, generator)
        order = generator.permutation(len(posed.options))
        return _as_sample(_row_id(split, seed, index), task, posed, order.tolist(), self.size)

    def policy(self, *, seed: int = 0, max_tokens: int = 32) -> VisionLanguagePolicy:
        """The tiny Qwen2.5-VL that ships with the library, trained by supervision on clean clips.

        Args:
            seed: changes nothing: there is one shipped base.
            max_tokens: the longest completion that it samples.

        Raises:
            SteelyardError: if the clips have other sizes than those that it was trained on.
        """
        from steelyard.policies.sampling import Sampling
        from steelyard.policies.vision import VisionLanguagePolicy

        if (self.frames, self.size) != (8, 56):
            raise SteelyardError(
                f"the shipped policy sees 8 frames of 56 pixels, not {self.frames} of {self.size}; train your own"
            )
        with resources.as_file(resources.files("steelyard.worlds") / "assets" / "video_questions") as folder:
            return VisionLanguagePolicy.from_pretrained(str(folder), sampling=Sampling(max_tokens=max_tokens))


class _Split(Sequence[Sample]):
    """Rows of one split, rendered on demand."""

    def __init__(self, world: VideoQuestions, split: Split, count: int, seed: int, keep: bool) -> None:
        self.world, self.split, self.seed, self.keep = world, split, seed, keep
        self._rows: list[Sample | None] = [None] * count

    @property
    def ids(self) -> list[str]:
        """The rows' ids, without rendering one."""
        return [_row_id(self.split, self.seed, row) for row in range(len(self._rows))]

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> list[Sample]: ...
    def __getitem__(self, index: int | slice) -> Sample | list[Sample]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        row = range(len(self))[index]
        sample = self._rows[row]
        if sample is None:
            sample = self.world.sample(self.split, row, seed=self.seed)
            self._rows[row] = sample if self.keep else None
        return sample

    def __iter__(self) -> Iterator[Sample]:
        return (self[i] for i in range(len(self)))


def _row_id(split: Split, seed: int, index: int) -> str:
    return f"{split}-{seed}-{index:06d}"


def _as_sample(sample_id: str, task: str, posed: Posed, order: list[int], size: int) -> Sample:
    """The row of a posed question with its options in the given order."""
    options = tuple(posed.options[k] for k in order)
    answer = posed.right
    listed = (f"Options: {', '.join(options)}.",) if options else ()
    text = " ".join([posed.question, *listed, INSTRUCTION])
    return Sample(
        id=sample_id,
        prompt=({"role": "user", "content": ({"type": "video"}, {"type": "text", "text": text})},),
        video=render(posed.scene, size),
        columns={
            "question": posed.question,
            "answer": answer,
            "problem_type": "multiple choice" if options else "numerical",
            "options": options,
            "task": task,
            "reasoning": posed.reasoning,
            "solution": f"<think> {posed.reasoning} </think> <answer> {answer} </answer>",
        },
    )


def reasoning_facts(text: str) -> frozenset[str]:
    """The statements of a reasoning text, from a whole completion or from what stands in its think block.

    A text is cut into clauses at `then`, `and`, `so` and punctuation. Each clause is a fact, what it speaks of
    (the words before its verb) is one, and so is the order of two neighbouring clauses.

    Args:
        text: any text.

    Returns:
        Lower-case facts; empty for a text without words.
    """
    inside = re.search(r"<think>(.*?)(?:</think>|$)", text, flags=re.DOTALL)
    body = re.sub(r"^\s*from left\b", "", (inside[1] if inside else text).lower())
    clauses = [" ".join(clause.split()) for clause in _JOINTS.split(body)]
    clauses = [clause for clause in clauses if clause]
    subjects = {f"about: {_VERBS.split(clause)[0].strip()}" for clause in clauses}
    return frozenset({*clauses, *subjects, *(f"{a} > {b}" for a, b in pairwise(clauses))})


def reasoning_agreement(first: str, second: str) -> float:
    """How much two reasoning texts say the same: 2·|A ∩ B| / (|A| + |B|) of their facts, 0 if either says nothing."""
    a, b = reasoning_facts(first), reasoning_facts(second)
    return 2 * len(a & b) / (len(a) + len(b)) if a and b else 0.0
