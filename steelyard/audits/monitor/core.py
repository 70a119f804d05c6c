"""The monitor: figures of a step go through every detector, into the log and to whoever wants the alerts."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from steelyard.audits.monitor.alerts import Alert, Latch
from steelyard.audits.monitor.detectors import WHOLE, Detector
from steelyard.audits.monitor.figures import Figures, step_figures
from steelyard.audits.monitor.online import restore, state_of
from steelyard.audits.monitor.outlets import JsonLines, Terminal, finite
from steelyard.audits.monitor.parts import PARTS
from steelyard.types import SteelyardError

OnAlert = Callable[[Alert], Any]


class Shows(Protocol):
    """What shows figures by step: any tracker of `steelyard.learn.trackers` (TensorBoard, Weights & Biases, …)."""

    def show(self, step: int, figures: Mapping[str, float]) -> None:
        """The finite figures of one step."""
        ...

    def close(self) -> None:
        """Nothing comes any more."""
        ...


def detectors() -> list[Detector]:
    """A fresh one of each kind, with the thresholds that `benchmarks/monitor.json` was measured with."""
    return [make() for make in (*WHOLE, *PARTS)]


class Monitor:
    """Watches a reward step by step and raises alerts. Safe to call from several threads.

    Args:
        name: of the reward, for the alerts.
        outcome: the name of the part that the reward stands for; its mean is the outcome where no gold is given.
        log: a JSONL file that gets one line a step; an existing one is gone on with.
        trackers: shown every figure under `monitor/`, and `monitor/alerts`, how many there have been.
        on_alert: called with each alert, after it stands in the log. What it raises passes through and ends the
            caller's step: that is how a callback stops a run.
        terminal: shows the run on standard error where that is a terminal; off one, alerts go to the logger
            `steelyard.monitor`. None for silence.
        watching: the detectors; a fresh one of each kind if left out.

    Raises:
        SteelyardError: if the log cannot be gone on with.
    """

    def __init__(
        self,
        *,
        name: str = "reward",
        outcome: str | None = None,
        log: Path | str | None = None,
        trackers: Sequence[Shows] = (),
        on_alert: OnAlert | Sequence[OnAlert] = (),
        terminal: Terminal | None = None,
        watching: Sequence[Detector] | None = None,
    ) -> None:
        self.name, self.outcome, self.trackers, self.terminal = name, outcome, list(trackers), terminal
        self.callbacks = [on_alert] if callable(on_alert) else list(on_alert)
        self.watching = list(detectors() if watching is None else watching)
        names = [type(detector).__name__ for detector in self.watching]
        if len(set(names)) < len(names):
            raise SteelyardError(f"monitor: two detectors of one kind in {', '.join(names)}; give each kind once")
        self.alerts: list[Alert] = []
        self.step = 0
        self._gold: float | None = None
        self._latches: dict[str, Latch] = {}
        self._lock = threading.RLock()
        self.log = None if log is None else JsonLines(Path(log))

    def observe(self, values: Any, *, step: int | None = None, **columns: Any) -> list[Alert]:
        """Take one step's rows in.

        Args:
            values: float [N], the rewards; NaN or None where a row could not be judged.
            step: its number; the one after the last if left out.
            columns: parts, lengths, group, completions, gold; see `figures.step_figures`.

        Returns:
            The alerts that this step raised.

        Raises:
            SteelyardError: if something has another number of rows than the rewards.
        """
        with self._lock:
            return self.feed(step_figures(self.step + 1 if step is None else step, values, **columns))

    def tell(self, gold: float) -> None:
        """The outcome as an evaluation has just measured it; it stands in the next step's figures."""
        with self._lock:
            self._gold = float(gold)

    def feed(self, figures: Figures) -> list[Alert]:
        """Take one step's figures in, as `step_figures` makes them or a log keeps them. Returns its alerts.

        A figure that is not finite counts as one that is not known.
        """
        with self._lock:
            figures = finite(self._with_outcome(figures))
            self.step = int(figures["step"])
            raised = [alert for detector in self.watching for alert in self._ask(detector, figures)]
            self.alerts += raised
            self._tell_all(figures, raised)
        for alert in raised:
            for callback in self.callbacks:
                callback(alert)
        return raised

    def close(self) -> None:
        """Close the trackers and end the terminal's view; the log is whole after every step."""
        for tracker in self.trackers:
            tracker.close()
        if self.terminal is not None:
            self.terminal.close(self.alerts)

    def state_dict(self) -> dict[str, Any]:
        """All that a resumed run needs to raise the same alerts, as plain JSON."""
        with self._lock:
            return {
                "step": self.step,
                "gold": self._gold,
                "detectors": {type(detector).__name__: state_of(detector) for detector in self.watching},
                "latches": {key: state_of(latch) for key, latch in self._latches.items()},
                "alerts": [alert.to_json() for alert in self.alerts],
                "log_bytes": 0 if self.log is None else self.log.size(),
            }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state; lines that the log got after it are cut off.

        Raises:
            SteelyardError: if the state has other detectors, or the log is shorter than it was.
        """
        mine = [type(detector).__name__ for detector in self.watching]
        if sorted(mine) != sorted(state["detectors"]):
            kept = ", ".join(sorted(state["detectors"]))
            raise SteelyardError(f"the monitor's state is of the detectors {kept}; go on with the same ones")
        with self._lock:
            for detector in self.watching:
                restore(detector, state["detectors"][type(detector).__name__])
            self._latches = {key: Latch(**latch) for key, latch in state["latches"].items()}
            self.alerts = [Alert(**alert) for alert in state["alerts"]]
            self.step, self._gold = int(state["step"]), state["gold"]
            if self.log is not None:
                self.log.rewind(int(state["log_bytes"]))

    def _with_outcome(self, figures: Figures) -> Figures:
        outcome = figures.get("outcome")
        if outcome is None and self.outcome is not None:
            outcome = (figures.get("parts") or {}).get(self.outcome, {}).get("mean")
        if outcome is None:
            outcome = self._gold
        self._gold = None
        return {**figures, "outcome": outcome}

    def _ask(self, detector: Detector, figures: Figures) -> list[Alert]:
        """The signs of one detector that are alerts now; subjects of which nothing is seen are told so."""
        kind, step = type(detector).__name__, int(figures["step"])
        signs = {f"{kind}/{sign.subject}": sign for sign in detector.update(figures)}
        quiet = [key for key in self._latches if key.startswith(f"{kind}/") and key not in signs]
        for key in quiet:
            self._latches[key].update(None, step)
        alerts = []
        for key, sign in signs.items():
            latch = self._latches.setdefault(key, Latch())
            if latch.update(sign, step):
                since = latch.since if sign.since is None else sign.since
                found = {name: float(value) for name, value in sign.figures.items()}
                alerts.append(Alert(step, since, kind, sign.level, sign.subject, sign.seen, sign.do, found, self.name))
        return alerts

    def _tell_all(self, figures: Figures, raised: Sequence[Alert]) -> None:
        if self.log is not None:
            self.log.write({**figures, "alerts": [alert.to_json() for alert in raised]})
        if self.trackers:
            shown = {**flat(figures), "monitor/alerts": float(len(self.alerts))}
            for tracker in self.trackers:
                tracker.show(self.step, shown)
        if self.terminal is not None:
            self.terminal.show(figures, raised)


def flat(figures: Figures) -> dict[str, float]:
    """Every number of a step under `monitor/`, those of parts under `monitor/part/NAME/`."""
    shown = {f"monitor/{k}": v for k, v in figures.items() if k not in ("step", "parts", "alerts")}
    for name, part in (figures.get("parts") or {}).items():
        shown |= {f"monitor/part/{name}/{k}": v for k, v in part.items()}
    return {name: float(value) for name, value in shown.items() if value is not None}
