"""The detectors of a reward's parts: one that dominates, and those that have silently died."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from steelyard.audits.monitor.alerts import Sign
from steelyard.audits.monitor.online import Average, Baseline

Figures = Mapping[str, Any]


@dataclass
class PartTrack:
    """One part through time: its ends, averages of mean, spread and share, the sign of its weight."""

    mean: Average = field(default_factory=Average)
    share: Average = field(default_factory=lambda: Average(0.1))
    weight: Average = field(default_factory=Average)
    first_mean: Baseline = field(default_factory=Baseline)
    first_std: Baseline = field(default_factory=Baseline)
    std: Average = field(default_factory=Average)
    low: float | None = None
    high: float | None = None
    best: float | None = None
    seen: int = 0
    constant: int = 0
    silent: int = 0
    std_before: float = 0.0
    varied: list[float] = field(default_factory=list)
    last_std: float = 0.0

    def update(self, figures: Figures) -> None:
        """Take one step's figures of the part in."""
        if figures.get("share") is not None:
            self.share.update(figures["share"])
        if figures.get("weight"):
            self.weight.update(figures["weight"])
        if figures.get("mean") is None:
            self.silent += 1
            return
        self.silent, self.seen = 0, self.seen + 1
        mean = figures["mean"]
        high, low = figures.get("max", mean), figures.get("min", mean)
        self.high = high if self.high is None else max(self.high, high)
        self.low = low if self.low is None else min(self.low, low)
        self.first_mean.update(mean)
        good = self.good(self.mean.update(mean))
        self.best = good if self.best is None or self.seen <= 5 else max(self.best, good)
        if figures.get("std") is not None:
            self._spread(figures["std"], mean)

    def _spread(self, std: float, mean: float) -> None:
        if std > 1e-9:
            self.varied, self.last_std = [*self.varied, mean][-5:], std
            self.constant = 0
            self.std.update(std)
            self.first_std.update(std)
        else:
            self.std_before = self.std_before if self.constant else self.std.value or 0.0
            self.constant += 1

    @property
    def sign(self) -> float:
        """1 where more of the part is more reward, −1 where it is less."""
        return -1.0 if (self.weight.value or 0.0) < 0 else 1.0

    def good(self, value: float) -> float:
        """The value, turned such that more is better."""
        return self.sign * value

    @property
    def range(self) -> float:
        """Between the lowest and the highest value of any row so far."""
        return (self.high or 0.0) - (self.low or 0.0)

    @property
    def unreached(self) -> float:
        """How far the average is from the part's good end, as a share of its range."""
        return 0.0 if self.mean.value is None else self.short_of_end(self.mean.value)

    def short_of_end(self, value: float) -> float:
        """How far a value is from the part's good end, as a share of its range."""
        end = self.high if self.sign > 0 else self.low
        return abs((end or 0.0) - value) / self.range if self.range else 0.0

    def won(self, rows: float) -> bool:
        """Whether its last steps with any difference led to its good end, within two standard errors of the last."""
        first, last = self.varied[0], self.varied[-1]
        slope = max(0.0, self.good(last - first)) / max(1, len(self.varied) - 1)
        return self.short_of_end(last) * self.range <= slope + 2 * self.last_std / math.sqrt(rows)

    @property
    def fallen(self) -> float:
        """How far the average is under its best, as a share of the range."""
        if not self.range or self.mean.value is None or self.best is None:
            return 0.0
        return (self.best - self.good(self.mean.value)) / self.range


def _follow(tracks: dict[str, PartTrack], parts: Mapping[str, Figures]) -> None:
    for name, figures in parts.items():
        tracks.setdefault(name, PartTrack()).update(figures)


@dataclass
class Dominance:
    """One part makes up at least `above` of the reward's variance while another one has given way.

    The share is that of `figures.step_figures`: exact for a weighted sum, the best linear account of any other
    expression. A part has given way where its average is under its best by at least `fallen` of its range, and not
    near its good end. That one part alone is left because the others are won is no concern.
    """

    above: float = 0.7
    fallen: float = 0.15
    open_end: float = 0.25
    warmup: int = 10
    tracks: dict[str, PartTrack] = field(default_factory=dict, metadata={"of": PartTrack})

    def update(self, figures: Figures) -> Sequence[Sign]:
        """What it sees."""
        parts = figures.get("parts") or {}
        _follow(self.tracks, parts)
        present = {name: track for name, track in self.tracks.items() if name in parts}
        if len(present) < 2:
            return ()
        top = max(present, key=lambda name: present[name].share.value or 0.0)
        share = present[top].share.value
        if share is None or share < self.above or present[top].seen < self.warmup:
            return ()
        others = {n: t.fallen for n, t in present.items() if n != top and t.unreached >= self.open_end}
        name = max(others, key=lambda other: others[other], default="")
        if not name or others[name] < self.fallen:
            return ()
        best, now = present[name].good(present[name].best or 0.0), present[name].mean.value or 0.0
        seen = f"{share:.0%} of the reward's variance comes from {top!r}, and {name!r} gave way from {best:.3g} to"
        do = f"Lower the weight of {top!r}, gate it by {name!r}, or normalise the parts within a group before adding."
        found = {"share": share, "other": now, "other_best": best}
        return (Sign("alarm", f"{seen} {now:.3g}.", do, found, subject=top, patience=5),)


@dataclass
class DeadPart:
    """A part that told rows apart gives one and the same value for `steps` steps, or none at all.

    Sudden (it still varied by at least `sudden` of its first steps' just before) is an alarm: a column or a judge is
    gone. Gradual is a warning, if it is not at the part's good end: the policy has given the part up. A part whose last
    mean before it stood still, and the rise of a step that led to it, reach its good end within two standard errors is
    mastered, which is neither. A part that never varied is a warning.
    """

    steps: int = 6
    sudden: float = 0.5
    never: int = 20
    tracks: dict[str, PartTrack] = field(default_factory=dict, metadata={"of": PartTrack})

    def update(self, figures: Figures) -> Sequence[Sign]:
        """What it sees."""
        parts = figures.get("parts") or {}
        _follow(self.tracks, parts)
        step, rows = int(figures["step"]), figures.get("rows") or math.inf
        found = (self._sign(name, self.tracks[name], step, rows) for name in parts)
        return tuple(sign for sign in found if sign is not None)

    def _sign(self, name: str, track: PartTrack, step: int, rows: float) -> Sign | None:
        do = f"Look whether {name!r} still gets what it reads (columns, judge, parser); try it on rows of before."
        if track.silent >= self.steps and track.seen:
            seen = f"it could not judge a single row for {track.silent} steps."
            return Sign("alarm", seen, do, {"steps": track.silent}, name, step - track.silent + 1, patience=1)
        if track.constant < self.steps or track.mean.value is None:
            return None
        value = {"value": track.mean.value, "steps": float(track.constant)}
        if not track.first_std.count:
            if track.constant < self.never or len(self.tracks) < 2:
                return None
            return Sign("warning", "it has given every row the same value from the start on.", do, value, subject=name)
        abrupt = track.std_before >= self.sudden * track.first_std.mean
        if track.unreached < 0.1 and (not abrupt or track.won(rows)):
            return None
        seen = f"it has given every row the same value for {track.constant} steps"
        seen += (
            f", after a standard deviation of {track.std_before:.3g}." if abrupt else "; the policy has given it up."
        )
        return Sign("alarm" if abrupt else "warning", seen, do, value, name, step - track.constant + 1, patience=1)


PARTS = (Dominance, DeadPart)
"""The detectors of a reward's parts."""
