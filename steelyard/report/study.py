"""A study's folder, or a single run's, read into what the page shows."""

from __future__ import annotations

import base64
import json
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from steelyard.json_lines import logged_rows
from steelyard.rewards.answers import answer_text, think_text
from steelyard.types import SteelyardError

LABELS = ("easy", "informative", "difficult")
_PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Arm:
    """One arm of a study: a run's log and evaluations, and what PVRBench found of its policy.

    Attributes:
        name, label: for the machine and for people.
        log: one row a step; empty for the base model.
        evaluations: rows of `step` and metrics.
        pvr: `PVRResult.to_json()`, or None.
        measures: what its policy was measured by.
        about: `run.json`, or empty.
    """

    name: str
    label: str
    log: list[dict[str, Any]] = field(default_factory=list)
    evaluations: list[dict[str, Any]] = field(default_factory=list)
    pvr: dict[str, Any] | None = None
    measures: dict[str, float] = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=dict)

    def series(self, name: str) -> tuple[list[float], list[float | None]]:
        """Steps and values of one column of the log; None where a step has no finite value."""
        return _series(self.log, name)

    def total(self, name: str) -> float:
        """Sum of one column of the log."""
        return sum(value for value in self.series(name)[1] if value is not None)

    def names(self, prefix: str) -> list[str]:
        """Columns of the log that begin with this prefix and have a value somewhere, in order of appearance."""
        seen = dict.fromkeys(name for row in self.log for name, value in row.items() if _finite(value) is not None)
        return [name for name in seen if name.startswith(prefix)]

    @property
    def stages(self) -> dict[str, float]:
        """Seconds by stage; a stage's own parts (a second slash) are inside it already."""
        names = [name for name in self.names("seconds/") if name.count("/") == 1]
        return {name.split("/")[1]: self.total(name) for name in names}

    def metrics(self) -> list[str]:
        """Metrics that were evaluated."""
        return [name for name in dict.fromkeys(name for row in self.evaluations for name in row) if name != "step"]

    def evaluated(self, name: str) -> tuple[list[float], list[float | None]]:
        """Steps and values of one metric."""
        return _series([row for row in self.evaluations if name in row], name)


@dataclass(frozen=True)
class Example:
    """One question, its clip clean and corrupted, and what was answered before and after training."""

    about: dict[str, Any]
    clean: str
    corrupted: str
    small: bool

    def answers(self) -> list[dict[str, Any]]:
        """Who, reasoning, answer and whether it is right, before and after."""
        gold = str(self.about.get("answer", ""))
        gold = answer_text(gold) or gold
        found = []
        for when in ("before", "after"):
            text = str(self.about.get(when) or "")
            given = answer_text(text)
            arm = self.about.get(f"arm_{when}") or when
            said = {"arm": arm, "reasoning": think_text(text), "answer": given, "text": text}
            found.append(said | {"right": given == gold})
        return found


@dataclass(frozen=True)
class Study:
    """Everything the page shows.

    Attributes:
        folder: where it was read.
        title, claim, command: texts; the claim and the command may be empty.
        card: the method's card, or empty.
        metrics: measures that its table shows.
        arms: in the study's order; the first without a log is the base model.
        examples: may be empty.
        samples: a table of images, arms beside each other: `columns`, and `rows` of prompt, images and rewards.
    """

    folder: Path
    title: str
    claim: str
    command: str
    card: dict[str, Any]
    metrics: list[str]
    arms: list[Arm]
    examples: list[Example]
    samples: dict[str, Any] = field(default_factory=dict)

    @property
    def method(self) -> Arm:
        """The arm that the study is about: the one named like its card's slug, else the last."""
        return next((arm for arm in self.arms if arm.name == self.card.get("slug")), self.arms[-1])

    @property
    def baseline(self) -> Arm | None:
        """What the method is compared with: the first other arm that was trained, else the first other."""
        others = [arm for arm in self.arms if arm is not self.method]
        return next((arm for arm in others if arm.log), others[0] if others else None)


def read_study(folder: Path) -> Study:
    """Read `study.json` with its arms and examples; a folder with a `log.jsonl` is a study of one arm.

    Raises:
        SteelyardError: naming the file that is missing or cannot be read.
    """
    if (folder / "study.json").is_file():
        about = _object(folder / "study.json")
        arms = [_arm(folder, i, arm) for i, arm in enumerate(about.get("arms") or [])]
        if not arms:
            raise SteelyardError(f"{folder / 'study.json'} names no arms; give at least one with a name and a folder")
        examples = [_example(path.parent) for path in sorted(folder.glob("examples/*/example.json"))]
        title, claim, command = (str(about.get(name) or "") for name in ("title", "claim", "command"))
        card, metrics = dict(about.get("card") or {}), list(about.get("metrics") or [])
        named = (folder, title or folder.name, claim, command, card, metrics)
        return Study(*named, arms, examples, _samples(folder / "samples"))
    if any((folder / name).is_file() for name in ("log.jsonl", "pvr.json")):
        arm = _read_arm(folder, folder.resolve().name, folder.resolve().name)
        title = f"Run {arm.name}" if arm.log else f"PVRBench of {arm.name}"
        return Study(folder, title, "", "", {}, [], [arm], [])
    raise SteelyardError(f"{folder} is no study and no run; it needs a study.json, or a run's log.jsonl or pvr.json")


def _arm(folder: Path, index: int, about: Mapping[str, Any]) -> Arm:
    name = about.get("name")
    if not isinstance(name, str) or not name:
        raise SteelyardError(f"{folder / 'study.json'}: arm {index} has no name; give it a short one")
    return _read_arm(folder / str(about.get("folder") or name), name, str(about.get("label") or name))


def _read_arm(folder: Path, name: str, label: str) -> Arm:
    pvr, run, measures = (folder / file for file in ("pvr.json", "run.json", "measures.json"))
    if not any(path.is_file() for path in (pvr, measures, folder / "log.jsonl")):
        wanted = "neither log.jsonl nor pvr.json nor measures.json"
        raise SteelyardError(f"arm {name!r}: {folder} holds {wanted}; it needs one of them")
    return Arm(
        name,
        label,
        _logged(folder / "log.jsonl"),
        _logged(folder / "evaluations.jsonl"),
        _object(pvr) if pvr.is_file() else None,
        _object(measures) if measures.is_file() else {},
        _object(run) if run.is_file() else {},
    )


def _example(folder: Path) -> Example:
    clean, _ = _image(folder / "clean.png")
    corrupted, width = _image(folder / "corrupted.png")
    return Example(_object(folder / "example.json"), clean, corrupted, width < 900)


def _samples(folder: Path) -> dict[str, Any]:
    """The table of `samples.json` with its images as data addresses; empty where there is none."""
    if not (folder / "samples.json").is_file():
        return {}
    table = _object(folder / "samples.json")
    for row in table.get("rows") or []:
        row["images"] = [_image(folder / Path(str(name)).name)[0] for name in row.get("images") or []]
    return table


def _image(path: Path) -> tuple[str, int]:
    """A PNG as a data address, and its width."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SteelyardError(f"{path} cannot be read ({error.strerror}); an example needs both of its strips") from None
    if not data.startswith(_PNG) or len(data) < 24:
        raise SteelyardError(f"{path} is no PNG; an example's strips are PNG files")
    return "data:image/png;base64," + base64.b64encode(data).decode(), struct.unpack(">I", data[16:20])[0]


def _object(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise SteelyardError(f"{path} cannot be read as JSON ({error})") from None
    if not isinstance(found, dict):
        raise SteelyardError(f"{path} holds a JSON {type(found).__name__}; an object is needed")
    return found


def _logged(path: Path) -> list[dict[str, Any]]:
    return logged_rows(path) if path.is_file() else []


def _series(rows: Sequence[Mapping[str, Any]], name: str) -> tuple[list[float], list[float | None]]:
    return [row.get("step", i + 1) for i, row in enumerate(rows)], [_finite(row.get(name)) for row in rows]


def _finite(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return value
