"""JSON lines, read in one way everywhere: rows, or one sentence that names file and line."""

from __future__ import annotations

import contextlib
import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from steelyard.types import SteelyardError

Row = dict[str, Any]


def json_lines(path: Path) -> Iterator[tuple[int, Row]]:
    """Every row with its line's number; empty lines are passed over, a file that ends in `.gz` is unpacked.

    Raises:
        SteelyardError: for a file that cannot be read, and a line that is no JSON object.
    """
    try:
        data = path.read_bytes()
        text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8-sig")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
        raise SteelyardError(f"{path} cannot be read ({why}); give JSON lines in UTF-8, or packed as .gz") from None
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield number, json_object(line, f"{path}, line {number}")


def logged_rows(path: Path) -> list[Row]:
    """The rows of a log that a run writes; a last line that was cut off where the run was killed is left out.

    Raises:
        SteelyardError: for a file that cannot be read, and a whole line that is no JSON object.
    """
    try:
        *lines, last = path.read_bytes().split(b"\n")
    except OSError as error:
        raise SteelyardError(f"{path} cannot be read ({error.strerror}); give a log of JSON lines") from None
    rows = [json_object(line, f"{path}, line {number}") for number, line in enumerate(lines, 1) if line.strip()]
    with contextlib.suppress(SteelyardError):  # cut off, unless it lacks no more than its end
        rows.append(json_object(last, "the last line"))
    return rows


def json_object(line: str | bytes, where: str) -> Row:
    """One line's object.

    Raises:
        SteelyardError: naming its place, for anything else.
    """
    try:
        row = json.loads(line)
    except RecursionError:
        raise SteelyardError(f"{where}: this is nested too deeply; give one object a line") from None
    except ValueError as error:
        raise SteelyardError(f"{where}: this is not JSON ({error}); give one object a line") from None
    if not isinstance(row, dict):
        raise SteelyardError(f"{where}: this is a JSON {type(row).__name__}; give one object a line")
    return row
