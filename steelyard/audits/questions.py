"""A folder of videos and a file of questions (JSONL) as samples."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from steelyard.json_lines import json_lines
from steelyard.rewards.answers import ACCURACY, INSTRUCTION
from steelyard.types import Array, Sample, SteelyardError

_REQUIRED = ("video", "question", "answer", "problem_type")


def load_questions(videos: Path, questions: Path, *, frames: int, size: int) -> list[Sample]:
    """Every question of the file, each with its video cut to `frames` frames of `size` × `size` pixels.

    A line holds `video` (a file inside the folder), `question`, `answer`, `problem_type`, and where wanted `options`,
    `id` and `task`. A video with several questions is read once, and its samples share one array.

    Raises:
        SteelyardError: naming file and line, for a line that is no JSON object, lacks a field, has a field of the wrong
            kind, repeats an id, names no file inside the folder, or one that cannot be read.
    """
    from steelyard.perturb.video.files import read_clip

    if not videos.is_dir():
        raise SteelyardError(f"there is no folder {videos}; give the one that holds the videos")
    clips: dict[str, Array] = {}
    samples: dict[str, Sample] = {}
    for number, row in json_lines(questions):
        where = f"{questions}, line {number}"
        _check(row, where)
        name = row["video"]
        if name not in clips:
            path = _inside(videos, name, where)
            try:
                clips[name] = read_clip(path, frames=frames, size=size)
            except SteelyardError as error:
                raise SteelyardError(f"{where}: {error}") from None
        sample = as_sample(row, clips[name], default_id=f"{Path(name).stem}-{number}")
        if sample.id in samples:
            raise SteelyardError(f"{where}: the id {sample.id!r} stands twice; ids must differ")
        samples[sample.id] = sample
    if not samples:
        raise SteelyardError(f"{questions} holds no questions; one JSON object a line is needed")
    return list(samples.values())


def as_sample(row: dict[str, Any], clip: Array, *, default_id: str = "") -> Sample:
    """One question about a clip uint8 [T, H, W, 3], asked in the words of the video world."""
    options = [str(option) for option in row.get("options") or ()]
    columns = {name: row[name] for name in ("video", "question", "answer", "problem_type")}
    columns |= {"options": options, "task": row.get("task", row["problem_type"])}
    text = {"type": "text", "text": question_text(row["question"], options)}
    prompt = [{"role": "user", "content": [{"type": "video"}, text]}]
    return Sample(id=str(row.get("id") or default_id), prompt=prompt, video=clip, columns=columns)


def question_text(question: str, options: Sequence[str] = ()) -> str:
    """Question, options and the instruction to reason and answer, as the video world puts them."""
    return " ".join([question, *options, INSTRUCTION])


def _check(row: dict[str, Any], where: str) -> None:
    for name in _REQUIRED:
        if name not in row:
            raise SteelyardError(f"{where} has no {name!r}; a question needs {', '.join(_REQUIRED)}")
        if isinstance(row[name], int | float) and not isinstance(row[name], bool) and name == "answer":
            row[name] = str(row[name])
        if not isinstance(row[name], str) or not row[name].strip():
            raise SteelyardError(f"{where}: {name!r} is {row[name]!r}; a text that is not empty is needed")
    if row["problem_type"] not in ACCURACY:
        known = ", ".join(ACCURACY)
        raise SteelyardError(f"{where}: the problem type {row['problem_type']!r} is unknown; it is one of {known}")
    options = row.get("options") or []
    if not isinstance(options, list) or (row["problem_type"] == "multiple choice" and len(options) < 2):
        raise SteelyardError(
            f"{where}: 'options' is {row.get('options')!r}; a multiple choice needs a list of two or more"
        )


def _inside(videos: Path, name: str, where: str) -> Path:
    path = videos / name
    if not path.resolve().is_relative_to(videos.resolve()):
        raise SteelyardError(f"{where}: the video {name!r} lies outside {videos}; name a file inside the folder")
    if not path.is_file():
        raise SteelyardError(f"{where}: {videos} has no video {name!r}; name a file inside the folder")
    return path
