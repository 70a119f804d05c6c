"""Logs read back as the monitor's figures: its own, our trainer's, and TRL's."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from steelyard.audits.monitor.alerts import Alert
from steelyard.audits.monitor.core import Monitor
from steelyard.audits.monitor.figures import Figures
from steelyard.json_lines import logged_rows
from steelyard.types import SteelyardError

LOGS = ("monitor.jsonl", "log.jsonl", "trainer_state.json")
WHOLE = {"reward": "reward", "std": "reward_std", "flat": "frac_reward_zero_std", "length": "completions/mean_length"}
"""Our figure to TRL's; the spread stands as `reward_std`, which TRL takes over groups."""


def replay(log: Path, monitor: Monitor, *, gold: str | None = None) -> list[Alert]:
    """Feed a log's steps to a monitor and return the alerts that they raise.

    Args:
        log: see `read_log`.
        monitor: a fresh one.
        gold: a metric of the run's `evaluations.jsonl` beside the log that is the outcome.

    Raises:
        SteelyardError: see `read_log`; or if no evaluation has this metric.
    """
    told = {} if gold is None else _evaluations(log, gold)
    for figures in read_log(log):
        for step in [step for step in told if step < int(figures["step"])]:
            monitor.tell(told.pop(step))
        monitor.feed(figures)
    return monitor.alerts


def read_log(log: Path) -> Iterator[Figures]:
    """Each step's figures of a log.

    Args:
        log: a JSONL file of the monitor, of our trainer (`log.jsonl`) or of TRL's log history; a `trainer_state.json`;
            or a folder with one of these.

    Raises:
        SteelyardError: if there is no such file, a line is damaged, or no line holds a reward.
    """
    found = False
    for figures in steps_so_far(log):
        found = True
        yield figures
    if not found:
        what = "holds no step with a reward; give a log of the monitor, of a run, or of TRL"
        raise SteelyardError(f"{_found(log)} {what}")


def steps_so_far(log: Path) -> Iterator[Figures]:
    """As `read_log`, of a log that is being written: there may be no step yet."""
    return (figures for row in _rows(_found(log)) if (figures := as_figures(row)) is not None)


def as_figures(row: Mapping[str, Any]) -> Figures | None:
    """One row of any of the logs as figures; None for a row that is of something else (a loss, an evaluation)."""
    if not isinstance(row.get("step"), int) or "reward" not in row:
        return None
    if "parts" in row:
        return {name: value for name, value in row.items() if name != "alerts"}
    return _of_ours(row) if "rollouts" in row else _of_trl(row)


def _of_ours(row: Mapping[str, Any]) -> Figures:
    rows = row["rollouts"]
    parts = {name.removeprefix("part/"): {"mean": row[name]} for name in row if name.startswith("part/")}
    failed = row["nan_rows"] / rows if rows else None
    figures = {"step": row["step"], "rows": rows, "reward": row["reward"], "failed": failed}
    return {**figures, "length": row.get("completion_length"), "parts": parts}


def _of_trl(row: Mapping[str, Any]) -> Figures:
    figures: Figures = {"step": row["step"], "rows": None}
    figures |= {ours: row.get(theirs) for ours, theirs in WHOLE.items()}
    figures["spread"] = row.get("reward_std")
    nan = [value for name, value in row.items() if name.startswith("reward_nan/")]
    figures["failed"] = max(nan, default=None)
    names = [n.removeprefix("rewards/").removesuffix("/mean") for n in row if n.startswith("rewards/")]
    parts = {n: {"mean": row.get(f"rewards/{n}/mean"), "std": row.get(f"rewards/{n}/std")} for n in names}
    parts |= {n.removeprefix("reward_part/"): {"mean": row[n]} for n in row if n.startswith("reward_part/")}
    figures["parts"] = {n: part for n, part in parts.items() if not n.endswith("/std")}
    return figures


def _found(log: Path) -> Path:
    if not log.is_dir():
        if log.exists():
            return log
        raise SteelyardError(f"{log} is not there; give a log, or a folder that holds one")
    checkpoints = sorted(log.glob("checkpoint-*/trainer_state.json"), key=lambda path: path.stat().st_mtime)
    places = [path for path in (log / name for name in LOGS) if path.exists()] + checkpoints[-1:]
    if not places:
        raise SteelyardError(f"{log} holds none of {', '.join(LOGS)}; give the log itself")
    return places[0]


def _rows(path: Path) -> Iterable[Mapping[str, Any]]:
    if path.suffix != ".json":
        return logged_rows(path)
    try:
        return list(json.loads(path.read_bytes())["log_history"])
    except OSError as error:
        raise SteelyardError(f"{path} cannot be read ({error.strerror}); give TRL's trainer_state.json") from None
    except (ValueError, KeyError, TypeError):
        raise SteelyardError(f"{path} holds no `log_history`; give TRL's trainer_state.json") from None


def _evaluations(log: Path, gold: str) -> dict[int, float]:
    path = (log if log.is_dir() else log.parent) / "evaluations.jsonl"
    if not path.exists():
        raise SteelyardError(f"{path} is not there; a gold metric is read from the evaluations beside the log")
    rows = [row for row in _rows(path) if row.get(gold) is not None]
    if not rows:
        raise SteelyardError(f"{path} has no metric {gold!r}; name one of its metrics")
    return {int(row["step"]): float(row[gold]) for row in rows}
