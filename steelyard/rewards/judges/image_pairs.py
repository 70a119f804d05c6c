"""Judges of pairs of images by the probability of Yes: sets that should belong together, and edits (sheet 15)."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from steelyard.rewards.core import BatchReward
from steelyard.rewards.judges.pictures import image_part
from steelyard.rewards.judges.scoring import WeighingJudge, _name, named_reward, share_of_first, texts_of
from steelyard.rewards.judges.templates import _DATA_NOTE, with_pictures
from steelyard.types import Array, Prompt, Rollouts, Scores, SteelyardError

YES_NO = ("Yes", "No")

_PAIR = f"""You are shown two images and asked one question about them.
{_DATA_NOTE}
`question` is ours; `theme`, if given, says what the images were made for. Begin your reply with Yes or No, then give \
your reasons."""

CONSISTENT = {"overall": ("Are the two images consistent in identity, style and logic?",)}
"""What pairs of a set are asked, dimension by dimension, unless the caller asks something else."""

KEEPS = "Apart from what the theme asks to change, does the second image keep identity, style and logic of the first?"
FOLLOWS = "Is the second image what the theme asks to make of the first?"


def pair_prompt(question: str, first: Array, second: Array, *, theme: str | None = None) -> Prompt:
    """Chat messages that ask a question about two images, to be answered with Yes or No first."""
    fields = {"question": question} | ({} if theme is None else {"theme": theme})
    return with_pictures(_PAIR, fields, [image_part(first), image_part(second)])


def grid_cells(image: Array, rows: int, columns: int) -> list[Array]:
    """The cells of an image that is a grid, row by row: uint8 [H / rows, W / columns, 3] each.

    Raises:
        SteelyardError: for an image whose sides the grid does not divide.
    """
    array = np.asarray(image)
    if rows < 1 or columns < 1 or array.ndim != 3 or array.shape[0] % rows or array.shape[1] % columns:
        raise SteelyardError(f"an image {array.shape} cannot be cut into {rows} rows of {columns}; give one that can")
    return [cell for band in np.split(array, rows) for cell in np.split(band, columns, axis=1)]


def set_consistent(
    judge: WeighingJudge,
    *,
    questions: Mapping[str, Sequence[str]] = CONSISTENT,
    grid: tuple[int, int] | None = None,
    theme: str = "prompt",
) -> BatchReward:
    """How well the images of a set belong together, in [0, 1].

    s = P(Yes) / (P(Yes) + P(No)) of every unordered pair; the mean over the m(m − 1)/2 pairs, then over a
    dimension's questions, then over dimensions. The parts `consistent/DIMENSION` say which failed. A set with a pair
    that could not be judged is NaN.

    Args:
        judge: who is asked; it must read images and give probabilities, as an endpoint does.
        questions: dimension to its questions.
        grid: rows and columns, where a completion is one image that holds the set; else it is a sequence of images.
        theme: column with what the set was made for.

    Raises:
        SteelyardError: for a judge without probabilities, no question, or at the call a set of fewer than two images.

    Source: sheet 15 (PaCo-RL, arXiv 2512.04784). Order in a pair is as in the set, and not averaged.
    """
    _check_weighing(judge)
    if not questions or not all(questions.values()):
        raise SteelyardError(f"set_consistent has the questions {dict(questions)}; give every dimension at least one")

    def score(rollouts: Rollouts) -> Scores:
        sets = [list(item) if grid is None else grid_cells(item, *grid) for item in rollouts.completions]
        small = next((row for row, images in enumerate(sets) if len(images) < 2), None)
        if small is not None:
            raise SteelyardError(f"row {small} is a set of {len(sets[small])} images; pairs need two or more")
        asked = [question for each in questions.values() for question in each]
        rows = list(zip(sets, texts_of(rollouts, theme), strict=True))
        jobs = [
            pair_prompt(question, *pair, theme=text)
            for images, text in rows
            for question in asked
            for pair in itertools.combinations(images, 2)
        ]
        shares = share_of_first(judge.probabilities(jobs, YES_NO))
        pairs = np.asarray([len(images) * (len(images) - 1) // 2 for images in sets])
        starts = np.concatenate([[0], np.repeat(pairs, len(asked)).cumsum()[:-1]])
        means = np.add.reduceat(shares, starts).reshape(len(sets), len(asked)) / pairs[:, None]
        return _by_dimension(means, questions)

    return named_reward(score, "consistent", f"set_consistent({_name(judge)!r})")


def _by_dimension(means: Array, questions: Mapping[str, Sequence[str]]) -> Scores:
    ends = np.cumsum([len(each) for each in questions.values()])
    values = np.stack([part.mean(1) for part in np.split(means, ends[:-1], axis=1)])
    parts = {f"consistent/{name}": row.astype(np.float32) for name, row in zip(questions, values, strict=True)}
    return Scores(values.mean(0), parts=parts)


def edit_keeps(judge: WeighingJudge, *, source: str = "source", instruction: str = "prompt") -> BatchReward:
    """How likely the judge says that an edited image keeps what was not to change, in [0, 1]; see `edit_follows`."""
    return _edit("keeps", KEEPS, judge, source, instruction)


def edit_follows(judge: WeighingJudge, *, source: str = "source", instruction: str = "prompt") -> BatchReward:
    """How likely the judge says that an edited image follows its instruction, in [0, 1].

    `geometric_mean(edit_keeps(judge), edit_follows(judge))` is PaCo-RL's reward of edits.

    Args:
        judge: as in `set_consistent`.
        source, instruction: columns with the original image, and with what was asked for.

    Raises:
        SteelyardError: for a judge without probabilities.

    Source: sheet 15.
    """
    return _edit("follows", FOLLOWS, judge, source, instruction)


def _edit(name: str, question: str, judge: WeighingJudge, source: str, instruction: str) -> BatchReward:
    _check_weighing(judge)

    def score(rollouts: Rollouts) -> Scores:
        rows = zip(rollouts.column(source), rollouts.completions, texts_of(rollouts, instruction), strict=True)
        prompts = [pair_prompt(question, before, after, theme=text) for before, after, text in rows]
        return Scores(share_of_first(judge.probabilities(prompts, YES_NO)))

    return named_reward(score, name, f"{name}({_name(judge)!r})")


def _check_weighing(judge: Any) -> None:
    if not isinstance(judge, WeighingJudge):
        raise SteelyardError(f"pairs of images need a judge that gives probabilities, which {judge!r} does not")
