"""The rows of finished cells on disk, under a digest of all that decides them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from steelyard.types import Policy, Sample

Row: TypeAlias = dict[str, Any]


def digest_of(samples: Sequence[Sample], policy: Policy, setting: Mapping[str, Any]) -> str:
    """What decides a cell's rows: samples with their pixels, the policy's weights and sampling, and the settings."""
    digest = hashlib.blake2b(json.dumps(setting, sort_keys=True).encode(), digest_size=16)
    for sample in samples:
        columns = {name: str(sample.columns.get(name)) for name in ("video", "answer", "problem_type", "reasoning")}
        digest.update(json.dumps([sample.id, sample.prompt, columns], default=list).encode())
        digest.update(np.asarray(sample.video).tobytes())
    digest.update(f"{type(policy).__name__} {getattr(policy, 'sampling', None)!r}".encode())
    for name, tensor in getattr(policy.module, "state_dict", dict)().items():
        wide = tensor.double()
        digest.update(f"{name} {tuple(tensor.shape)} {wide.sum().item()!r} {wide.abs().sum().item()!r}".encode())
    return digest.hexdigest()


def read_rows(path: Path, digest: str) -> list[Row] | None:
    """The rows of a finished cell, or None if there are none of this digest."""
    if not path.is_file():
        return None
    lines = path.read_bytes().split(b"\n")[:-1]
    try:
        head, *rows = map(json.loads, lines)
    except ValueError:
        return None
    return rows if head == {"digest": digest, "rows": len(rows)} else None


def write_rows(path: Path, digest: str, rows: Sequence[Row]) -> None:
    """Keep the rows of a finished cell."""
    lines = [{"digest": digest, "rows": len(rows)}, *rows]
    write_whole(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))


def write_whole(path: Path, text: str) -> None:
    """Write all of the text or nothing, whenever the process dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(text, "utf-8")
    draft.replace(path)
