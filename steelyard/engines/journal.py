"""What a long job over a table has done: its output so far and a journal that says up to where it counts."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from steelyard.types import SteelyardError


class Journal:
    """Appends pieces to `OUT.partial` and notes each in `OUT.journal`: a kill loses only the piece being written.

    A piece counts from the moment when its line stands in the journal, which is written after the piece is on the
    disk. What stands behind the last noted piece is cut off when the job goes on.

    Attributes:
        noted: what was noted with each piece, in order; `end` is where the piece ends in `OUT.partial`, in bytes.

    Raises:
        SteelyardError: where a job of other settings has begun, another process works on it, or it began and `resume`
            is not given.
    """

    def __init__(self, out: Path, settings: Mapping[str, Any], *, resume: bool) -> None:
        self.partial, self.path = beside(out)
        self.noted: list[dict[str, Any]] = []
        begun = self.path.exists()
        if begun and not resume:
            raise SteelyardError(f"{out} was begun before; go on with --resume, or remove {self.path}")
        self._lines: BinaryIO = self.path.open("ab+")
        self._lock(out)
        if begun:
            self._read(settings)
        if not self._lines.seek(0, os.SEEK_END):
            self._write({"settings": dict(settings)})
        self._pieces: BinaryIO = self.partial.open("ab")
        self._pieces.truncate(self.end)
        self._pieces.seek(self.end)

    @property
    def end(self) -> int:
        """Bytes of `OUT.partial` that count."""
        return int(self.noted[-1]["end"]) if self.noted else 0

    def _lock(self, out: Path) -> None:
        try:
            fcntl.flock(self._lines, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lines.close()
            raise SteelyardError(f"another process writes {out}; wait for it, or choose another file") from None

    def _read(self, settings: Mapping[str, Any]) -> None:
        self._lines.seek(0)
        whole = self._lines.read()
        whole = whole[: whole.rfind(b"\n") + 1]  # a line without its end was being written when the job was killed
        self._lines.truncate(len(whole))
        lines = [json.loads(line) for line in whole.splitlines()]
        if not lines:
            return
        before = lines[0]["settings"]
        for name, value in json.loads(json.dumps(dict(settings))).items():
            if before.get(name) != value:
                was = f"{name} was {before.get(name)!r} and is {value!r}"
                raise SteelyardError(f"{self.path} is of other settings: {was}; give the same, or remove it")
        self.noted = lines[1:]
        if self.noted and (not self.partial.exists() or self.partial.stat().st_size < self.end):
            raise SteelyardError(f"{self.partial} is shorter than its journal says; remove {self.path} and start again")

    def append(self, piece: bytes, note: Mapping[str, Any]) -> None:
        """Keep a piece for good, and what is to be known about it."""
        self._pieces.write(piece)
        self._pieces.flush()
        os.fsync(self._pieces.fileno())
        noted = {**note, "end": self.end + len(piece)}
        self._write(noted)
        self.noted.append(noted)

    def _write(self, line: Mapping[str, Any]) -> None:
        self._lines.write(json.dumps(line).encode() + b"\n")
        self._lines.flush()

    def close(self) -> None:
        """Let another process go on."""
        self._pieces.close()
        self._lines.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        """Close; a job that has done nothing yet leaves nothing."""
        if not self.noted and self.path.exists():
            self.partial.unlink(missing_ok=True)
            self.path.unlink()
        self.close()

    def done(self, out: Path, finished: Path) -> None:
        """Put the finished file in its place and remove the rest; a kill in between leaves either job or result."""
        os.replace(finished, out)
        self.partial.unlink(missing_ok=True)
        self.path.unlink()


def beside(out: Path) -> tuple[Path, Path]:
    """Where the output so far and the journal of a job stand."""
    return out.with_name(out.name + ".partial"), out.with_name(out.name + ".journal")
