"""Small parts that follow a figure step by step: an average, a baseline, a forecast and a cumulative sum."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from typing import Any


@dataclass
class Average:
    """Exponential moving average: a ← a + rate · (x − a), from the first x on.

    Its variance on independent noise is rate / (2 − rate) of the noise's.

    Source: Roberts (1959), Control chart tests based on geometric moving averages.
    """

    rate: float = 0.2
    value: float | None = None

    def update(self, x: float) -> float:
        """Take one figure in; returns the average."""
        self.value = x if self.value is None else self.value + self.rate * (x - self.value)
        return self.value


@dataclass
class Baseline:
    """Mean and standard deviation of the first `wanted` figures, then frozen.

    Source: Welford (1962), Note on a method for calculating corrected sums of squares and products.
    """

    wanted: int = 10
    count: int = 0
    mean: float = 0.0
    squares: float = 0.0

    def update(self, x: float) -> None:
        """Take one figure in, if any is still wanted."""
        if self.count < self.wanted:
            self.count += 1
            delta = x - self.mean
            self.mean += delta / self.count
            self.squares += delta * (x - self.mean)

    @property
    def ready(self) -> bool:
        """Whether it is frozen."""
        return self.count >= self.wanted

    @property
    def std(self) -> float:
        """Of the figures, with n − 1."""
        return math.sqrt(self.squares / (self.count - 1)) if self.count > 1 else 0.0


@dataclass
class Forecast:
    """How far a figure is from where its own trend led one to expect it, in standard deviations of such errors.

    Holt's linear method: level ℓ ← e + α (x − e) with the expectation e = ℓ + b, slope b ← b + α β (x − e). The
    errors' variance is an exponential average of the squares, each cut at nine times that average, so that a jump
    does not hide itself. So steady learning is expected, and a jump is not.

    Source: Holt (1957), Forecasting seasonals and trends by exponentially weighted moving averages.
    """

    level_rate: float = 0.3
    slope_rate: float = 0.1
    warmup: int = 10
    seen: int = 0
    level: float = 0.0
    slope: float = 0.0
    noise: Average = field(default_factory=lambda: Average(0.1))

    def update(self, x: float, *, least: float = 0.0) -> float | None:
        """Take one figure in.

        Args:
            x: the figure.
            least: a standard deviation that the errors surely have, as that of a mean over few rows.

        Returns:
            The standardised error; None while the noise is being learnt.
        """
        self.seen += 1
        if self.seen == 1:
            self.level = x
            return None
        error = x - self.level - self.slope
        before = self.noise.value
        ready = self.seen > self.warmup and before is not None
        self.level += self.slope + self.level_rate * error
        self.slope += self.level_rate * self.slope_rate * error
        floor = least**2
        known = max(before or 0.0, floor)
        self.noise.update(max(min(error**2, 9 * known), floor) if ready else error**2)
        scale = math.sqrt(known)
        if not ready:
            return None
        return error / scale if scale > 0 else math.copysign(math.inf, error) if error else 0.0


@dataclass
class Cusum:
    """Two-sided cumulative sum of standardised errors z.

    S⁺ ← max(0, S⁺ + z − slack), S⁻ ← max(0, S⁻ − z − slack); a change is signalled where a sum passes `limit`, and
    it is dated to the step after which that sum was last 0. Both sums then begin anew.

    Source: Page (1954), Continuous inspection schemes.
    """

    slack: float = 0.5
    limit: float = 8.0
    high: float = 0.0
    low: float = 0.0
    high_since: int = 0
    low_since: int = 0

    def update(self, z: float, step: int) -> tuple[int, int] | None:
        """Take one error in.

        Returns:
            The direction (1: up, −1: down) and the step from which the change is dated; None where there is none.
        """
        z = max(-10 * self.limit, min(10 * self.limit, z))
        self.high_since, self.low_since = (
            since if total else step for since, total in ((self.high_since, self.high), (self.low_since, self.low))
        )
        self.high, self.low = max(0.0, self.high + z - self.slack), max(0.0, self.low - z - self.slack)
        for direction, total, since in ((1, self.high, self.high_since), (-1, self.low, self.low_since)):
            if total > self.limit:
                self.high = self.low = 0.0
                return direction, since
        return None


def state_of(part: Any) -> dict[str, Any]:
    """All fields of a dataclass and of those in it, as plain JSON."""
    return asdict(part)


def restore(part: Any, state: Mapping[str, Any]) -> None:
    """Put the fields that `state_of` gave back into a part of the same kind.

    A field that maps names to parts says in its metadata which kind they are (`of`).
    """
    for entry in fields(part):
        value, now = state[entry.name], getattr(part, entry.name)
        if is_dataclass(now):
            restore(now, value)
        elif kind := entry.metadata.get("of"):
            made = {name: kind() for name in value}
            for name, inner in made.items():
                restore(inner, value[name])
            setattr(part, entry.name, made)
        else:
            setattr(part, entry.name, value)
