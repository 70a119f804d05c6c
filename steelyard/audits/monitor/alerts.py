"""What a detector sees, and when that becomes an alert: signs, latches, alerts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Level = Literal["warning", "alarm"]
"""`warning`: look at it; `alarm`: the reward is likely broken, or being hacked."""

RANK = {"warning": 1, "alarm": 2}


@dataclass(frozen=True)
class Sign:
    """What a detector sees at one step.

    Attributes:
        level: how bad it is.
        seen: one sentence with its figures.
        do: what to do about it.
        figures: those of the sentence, by name.
        subject: the part that it is about, empty for the reward as a whole.
        since: the step from which it is dated, where the detector knows it.
        patience: for how many steps in a row it must be seen before it is an alert.
    """

    level: Level
    seen: str
    do: str
    figures: Mapping[str, float]
    subject: str = ""
    since: int | None = None
    patience: int = 3


@dataclass(frozen=True)
class Alert:
    """Something about the reward that a person should know now.

    Attributes:
        step: when it was raised.
        since: the step from which it is dated.
        detector: what saw it.
        level: `warning` or `alarm`.
        subject: the part that it is about, empty for the reward as a whole.
        seen: one sentence with its figures.
        do: what to do about it.
        figures: those of the sentence, by name.
        reward: the name of the watched reward.
    """

    step: int
    since: int
    detector: str
    level: Level
    subject: str
    seen: str
    do: str
    figures: Mapping[str, float]
    reward: str = ""

    def __str__(self) -> str:
        """What was seen, since when, with which figures, and what to do."""
        subject = f" of {self.subject!r}" if self.subject else ""
        since = f" (since step {self.since})" if self.since < self.step else ""
        return f"{self.level} at step {self.step}{since}: {self.detector}{subject}: {self.seen} {self.do}"

    def to_json(self) -> dict[str, Any]:
        """As it stands in the log."""
        return asdict(self)


@dataclass
class Latch:
    """Turns a sign that lasts into one alert, a worse level into another, and is ready again once it was long gone."""

    rearm: int = 20
    since: int = 0
    streak: int = 0
    worst: int = 0
    quiet: int = 0
    levels: list[int] = field(default_factory=list)

    def update(self, sign: Sign | None, step: int) -> bool:
        """Whether the sign is an alert now: seen `patience` steps in a row, at a level that was not told yet."""
        if sign is None:
            self.streak, self.levels = 0, []
            self.quiet += 1
            if self.quiet >= self.rearm:
                self.worst = 0
            return False
        if self.streak == 0:
            self.since = step
        self.streak, self.quiet = self.streak + 1, 0
        self.levels = [*self.levels, RANK[sign.level]][-sign.patience :]
        if self.streak < sign.patience:
            return False
        level = min(self.levels)
        if level <= self.worst or level < RANK[sign.level]:
            return False
        self.worst = level
        return True
