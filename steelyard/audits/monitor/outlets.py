"""Where the monitor writes: a JSONL file that survives a kill, and the terminal."""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from steelyard.audits.monitor.alerts import Alert
from steelyard.types import SteelyardError

LOGGER = logging.getLogger("steelyard.monitor")
STYLES = {"warning": "yellow", "alarm": "bold red"}
TICKS = "▁▂▃▄▅▆▇█"


class JsonLines:
    """A file of one JSON object a line, each written by a single call, so that a killed process leaves whole lines.

    An existing file is gone on with; a last line without its end, as a full disk or a lost machine leaves it, is cut.

    Raises:
        SteelyardError: if the path is a folder.
    """

    def __init__(self, path: Path) -> None:
        if path.is_dir():
            raise SteelyardError(f"{path} is a folder; give the path of a JSONL file")
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            whole = path.read_bytes()
            os.truncate(path, whole.rfind(b"\n") + 1)

    def write(self, row: Mapping[str, Any]) -> None:
        """One line more; numbers that are not finite become null."""
        line = json.dumps(finite(row), ensure_ascii=False, allow_nan=False) + "\n"
        handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(handle, line.encode())
        finally:
            os.close(handle)

    def size(self) -> int:
        """Bytes so far."""
        return self.path.stat().st_size if self.path.exists() else 0

    def rewind(self, size: int) -> None:
        """Cut the file to the length that it had.

        Raises:
            SteelyardError: if it is shorter than that.
        """
        if self.size() < size:
            raise SteelyardError(f"{self.path} is shorter than its checkpoint says ({size} bytes); restore it")
        if self.path.exists():
            os.truncate(self.path, size)


def finite(value: Any) -> Any:
    """The same with None for every number that is not finite."""
    if isinstance(value, Mapping):
        return {key: finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


class Terminal:
    """A line every `every` steps and each alert as it comes, on standard error.

    Off a terminal it is quiet: alerts go to the logger `steelyard.monitor`, figures nowhere.

    Args:
        every: steps between two lines.
        console: another place to write to.
    """

    SHOWN = ("reward", "spread", "length", "outcome", "failed", "flat")

    def __init__(self, *, every: int = 10, console: Console | None = None) -> None:
        self.every = every
        self._console = console or Console(stderr=True, soft_wrap=True)
        self._rewards: list[float] = []
        self._shown = 0

    def show(self, figures: Mapping[str, Any], raised: Sequence[Alert]) -> None:
        """One step and its alerts."""
        if not self._console.is_terminal:
            for alert in raised:
                LOGGER.warning("%s: %s", alert.reward, alert)
            return
        self._shown += 1
        if figures.get("reward") is not None:
            self._rewards = [*self._rewards, figures["reward"]][-200:]
        if (self._shown - 1) % self.every == 0:
            self._console.print(Text(line_of(figures, self._rewards), style="dim"))
        for alert in raised:
            self._console.print(Text(f"{alert.reward}: {alert}", style=STYLES[alert.level]))

    def close(self, alerts: Sequence[Alert]) -> None:
        """Say how many alerts there were."""
        if self._console.is_terminal:
            alarms = sum(alert.level == "alarm" for alert in alerts)
            self._console.print(Text(f"monitor: {alarms} alarms, {len(alerts) - alarms} warnings", style="dim"))


def line_of(figures: Mapping[str, Any], rewards: Sequence[float]) -> str:
    """A step as one line: its number, the reward's course, the figures that were measured."""
    words = [f"{name} {figures[name]:.3g}" for name in Terminal.SHOWN if figures.get(name) is not None]
    return f"step {figures['step']:>5}  {spark(rewards)}  " + "  ".join(words)


def spark(values: Sequence[float], *, width: int = 20) -> str:
    """The course of a figure in at most `width` characters, from its lowest (▁) to its highest (█)."""
    if not values:
        return ""
    picked = (
        [values[round(i * (len(values) - 1) / (width - 1))] for i in range(width)] if len(values) > width else values
    )
    low, high = min(picked), max(picked)
    scale = (len(TICKS) - 1) / (high - low) if high > low else 0.0
    return "".join(TICKS[round((value - low) * scale)] for value in picked)
