"""What asking a judge took: requests, tokens, money, failures."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

from steelyard.types import SteelyardError


@dataclass(frozen=True)
class Prices:
    """What a million tokens cost, in any currency; the caller knows them, the library does not."""

    prompt: float
    completion: float

    def __post_init__(self) -> None:
        if not (self.prompt >= 0 and self.completion >= 0):
            raise SteelyardError(f"{self} cannot be; prices of a million tokens must be 0 or more")

    def of(self, prompt_tokens: int, completion_tokens: int) -> float:
        """(p·prompt + c·completion) / 10⁶."""
        return (self.prompt * prompt_tokens + self.completion * completion_tokens) / 1e6


@dataclass
class Usage:
    """Running counts of a judge.

    Attributes:
        asked: prompts that were put to it.
        cached: of them, answered from the cache or by another prompt of the same call.
        requests: sent, those that were tried again included.
        answers: texts that came back.
        unread: replies, kept ones included, that the reader could make nothing of; the row has no value.
        prompt_tokens, completion_tokens: as the endpoint reports them.
        unreported: answers whose tokens the endpoint did not report; they stand in no token count.
        failures: prompts without an answer, by the kind of error.
    """

    asked: int = 0
    cached: int = 0
    requests: int = 0
    answers: int = 0
    unread: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    unreported: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    _lock: Lock = field(default_factory=Lock, repr=False, compare=False)

    def add(self, **counts: int) -> None:
        """Raise some counts."""
        with self._lock:
            for name, count in counts.items():
                setattr(self, name, getattr(self, name) + count)

    def failed(self, kind: str) -> bool:
        """Count a prompt without an answer; whether it is the first of its kind."""
        with self._lock:
            self.failures[kind] += 1
            return self.failures[kind] == 1

    def cost(self, prices: Prices) -> float:
        """What the reported tokens cost."""
        return prices.of(self.prompt_tokens, self.completion_tokens)

    def report(self, prices: Prices | None = None) -> dict[str, Any]:
        """The counts as plain JSON; with prices, the cost too."""
        names: tuple[str, ...] = ("asked", "cached", "requests", "answers", "unread")
        names += ("prompt_tokens", "completion_tokens", "unreported")
        counts: dict[str, Any] = {name: getattr(self, name) for name in names}
        counts["failures"] = {kind: count for kind, count in self.failures.items() if count}
        return counts if prices is None else counts | {"cost": self.cost(prices)}
