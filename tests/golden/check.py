"""Comparing what an adapter gives with a golden file."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from tests.golden.adapters import ADAPTERS

RELATIVE, ABSOLUTE = 1e-5, 1e-6


def differences(ours: Any, gold: Any, where: str = "") -> Iterator[str]:
    """Where ours is not the golden value, within the tolerances."""
    if isinstance(gold, Mapping):
        yield from _mapping(ours, gold, where)
    elif isinstance(gold, (list, tuple)):
        if not isinstance(ours, Sequence) or len(ours) != len(gold):
            yield f"{where}: {ours!r:.80} is not a list of {len(gold)}"
            return
        for i, (a, b) in enumerate(zip(ours, gold, strict=True)):
            yield from differences(a, b, f"{where}[{i}]")
    elif isinstance(gold, bool) or gold is None or isinstance(gold, str):
        if ours != gold or isinstance(ours, bool) != isinstance(gold, bool):
            yield f"{where}: {ours!r:.80} where {gold!r:.80} is right"
    elif not _close(ours, gold):
        yield f"{where}: {ours!r:.80} where {gold!r} is right"


def _mapping(ours: Any, gold: Mapping[str, Any], where: str) -> Iterator[str]:
    if not isinstance(ours, Mapping) or set(ours) != set(gold):
        found = sorted(ours) if isinstance(ours, Mapping) else ours
        yield f"{where or 'outputs'}: keys {found} where {sorted(gold)} are right"
        return
    for key, value in gold.items():
        yield from differences(ours[key], value, f"{where}.{key}" if where else key)


def _close(ours: Any, gold: float) -> bool:
    if isinstance(ours, bool) or not isinstance(ours, (int, float)):
        return False
    if math.isnan(gold):
        return math.isnan(ours)
    return math.isclose(ours, gold, rel_tol=RELATIVE, abs_tol=ABSOLUTE)


def check_case(method: str, case: Mapping[str, Any]) -> list[str]:
    """What is wrong with one case; empty where it passes."""
    try:
        ours = ADAPTERS[method](case["name"], case["inputs"])
    except Exception as error:
        return [f"{type(error).__name__}: {error}"]
    return list(differences(ours, case["outputs"]))


def run_folder(folder: Path, only: Sequence[str], out: TextIO) -> int:
    """Run the files that have an adapter (or those asked for, which then must have one)."""
    passed = failed = 0
    for path in sorted(folder.glob("*.json")):
        content = json.loads(path.read_text())
        number, _, slug = path.stem.partition("-")
        method = slug if slug in ADAPTERS else content["method"]  # a file's own name says best whose it is
        if only and not {number, slug, path.stem, method} & set(only):
            continue
        if method not in ADAPTERS and not only:
            out.write(f"skip  {path.stem}: no adapter yet\n")
            continue
        for case in content["cases"]:
            wrong = check_case(method, case)
            passed, failed = passed + (not wrong), failed + bool(wrong)
            out.write(
                f"{'FAIL' if wrong else 'ok  '}  {path.stem}: {case['name']}{''.join(f' | {w}' for w in wrong[:3])}\n"
            )
    out.write(f"{passed} passed, {failed} failed\n")
    return 1 if failed or not passed else 0
