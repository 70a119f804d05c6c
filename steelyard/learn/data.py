"""A JSONL file as samples: rows are checked at once, videos and images are decoded when a row is asked for."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np

from steelyard.json_lines import json_lines
from steelyard.types import Array, Prompt, Sample, SteelyardError

RESERVED = frozenset({"id", "prompt", "messages", "videos", "image", "images"})
CLIPS_KEPT = 64
"""Decoded clips that stay in memory: neighbours ask about the same video, a whole data set does not fit."""


@dataclass(frozen=True)
class _Row:
    """One line of the file, media still as paths."""

    id: str
    prompt: Prompt
    video: Path | None
    images: tuple[Path, ...]
    columns: Mapping[str, Any]
    where: str


class JsonlSamples(Sequence[Sample]):
    """The samples of a JSONL file; see `load_samples`.

    Attributes:
        ids: of all rows, in order, known without decoding anything.
    """

    def __init__(self, rows: Sequence[_Row], *, frames: int, size: int) -> None:
        self._rows = rows
        self.ids = [row.id for row in rows]
        self._clip: Callable[[Path], Array] = functools.lru_cache(CLIPS_KEPT)(
            functools.partial(_read_clip, frames=frames, size=size)
        )

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> list[Sample]: ...
    def __getitem__(self, index: int | slice) -> Sample | list[Sample]:
        """A sample with its frames.

        Raises:
            SteelyardError: naming file and line, for a video or image that cannot be decoded.
        """
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        row = self._rows[index]
        try:
            video = None if row.video is None else self._clip(row.video)
            images = tuple(_read_image(path) for path in row.images)
        except SteelyardError as error:
            raise SteelyardError(f"{row.where}: {error}") from None
        return Sample(row.id, row.prompt, video, images, row.columns)


def load_samples(path: Path | str, *, frames: int = 16, size: int = 224, instruction: str = "") -> JsonlSamples:
    """Read a data set, one JSON object a line.

    A line holds `prompt` (a text), `messages` (chat) or `question` (with `options`); `video` (a path) and `images`
    (paths), relative to the file, where wanted, or paths inside the messages' parts; `id` where wanted (else the line
    number); everything else is a column that rewards read: `answer`, `problem_type`, …

    Args:
        path: of the JSONL file.
        frames: of each clip, evenly spread.
        size: side of the square that frames are resized to, in pixels.
        instruction: put behind every `question`.

    Raises:
        SteelyardError: naming file and line, for a line that is no JSON object, has no prompt, names a file that is
            not there, or repeats an id.
    """
    path = Path(path)
    rows = [_row(fields, path, number, instruction) for number, fields in json_lines(path)]
    if not rows:
        raise SteelyardError(f"{path} has no rows; give one JSON object a line")
    seen: dict[str, str] = {}
    for row in rows:
        if row.id in seen:
            raise SteelyardError(f"{row.where}: the id {row.id!r} is taken by {seen[row.id]}; ids must differ")
        seen[row.id] = row.where
    return JsonlSamples(rows, frames=frames, size=size)


def _row(fields: dict[str, Any], path: Path, number: int, instruction: str) -> _Row:
    folder, where = path.parent, f"{path}, line {number}"
    prompt, named = _prompt(fields, where, instruction)
    videos = [*_paths(fields, ("video", "videos"), where), *named["video"]]
    images = [*_paths(fields, ("image", "images"), where), *named["image"]]
    if len(videos) > 1:
        raise SteelyardError(f"{where}: {len(videos)} videos are named; a sample has one")
    if not isinstance(prompt, str):
        _check_places(prompt, {"video": len(videos), "image": len(images)}, where)
    for name in (*videos, *images):
        if not (folder / name).is_file():
            raise SteelyardError(f"{where}: there is no file {folder / name}; paths are relative to the JSONL file")
    columns = {name: value for name, value in fields.items() if name not in RESERVED}
    columns |= {"video": videos[0]} if videos else {}
    video = folder / videos[0] if videos else None
    return _Row(str(fields.get("id", number)), prompt, video, tuple(folder / name for name in images), columns, where)


def _prompt(fields: dict[str, Any], where: str, instruction: str) -> tuple[Prompt, dict[str, list[str]]]:
    """The prompt without paths, and the paths that stood in its parts."""
    given = [name for name in ("prompt", "messages", "question") if fields.get(name)]
    if not given:
        raise SteelyardError(f"{where}: there is no prompt; give 'prompt', 'messages' or 'question'")
    value = fields[given[0]]
    named: dict[str, list[str]] = {"video": [], "image": []}
    if given[0] == "question":
        if not isinstance(fields.get("options") or [], list):
            raise SteelyardError(f"{where}: 'options' is {fields['options']!r}; it must be a list")
        return " ".join(str(part) for part in (value, *(fields.get("options") or ()), instruction) if part), named
    if isinstance(value, str):
        return value, named
    if not isinstance(value, list) or not all(isinstance(message, dict) and "role" in message for message in value):
        raise SteelyardError(f"{where}: {given[0]!r} must be a text or a list of messages with 'role' and 'content'")
    return [{**message, "content": _parts(message.get("content"), named, where)} for message in value], named


def _parts(content: Any, named: dict[str, list[str]], where: str) -> Any:
    if isinstance(content, str):
        return content
    if not isinstance(content, list) or not all(isinstance(part, dict) for part in content):
        raise SteelyardError(f"{where}: a message's content must be a text or a list of parts")
    parts = []
    for part in content:
        kind = part.get("type")
        if kind in named and isinstance(part.get(kind), str):
            named[kind].append(part[kind])
            part = {"type": kind}
        parts.append(part)
    return parts


def _check_places(messages: Sequence[Mapping[str, Any]], media: Mapping[str, int], where: str) -> None:
    parts = [part for message in messages if not isinstance(message["content"], str) for part in message["content"]]
    for kind, count in media.items():
        places = sum(part.get("type") == kind for part in parts)
        if places != count:
            raise SteelyardError(f"{where}: the messages have {places} {kind} parts for {count} {kind} files; one each")


def _paths(fields: Mapping[str, Any], names: Sequence[str], where: str) -> list[str]:
    found: list[str] = []
    for name in names:
        value = fields.get(name)
        values = [] if value is None else [value] if isinstance(value, str) else value
        if not isinstance(values, list) or not all(isinstance(item, str) for item in values):
            raise SteelyardError(f"{where}: {name!r} is {value!r}; it must be a path or a list of paths")
        found += values
    return found


def _read_clip(path: Path, *, frames: int, size: int) -> Array:
    from steelyard.perturb.video.files import read_clip

    clip = read_clip(path, frames=frames, size=size)
    clip.setflags(write=False)  # it is shared by every sample of the video
    return clip


def _read_image(path: Path) -> Array:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, UnidentifiedImageError) as error:
        raise SteelyardError(f"the image {path} cannot be read ({error}); give a PNG or JPEG file") from None
