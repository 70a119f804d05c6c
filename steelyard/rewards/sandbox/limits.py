"""How much a program may use, and what it may not."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from steelyard.types import SteelyardError


@dataclass(frozen=True)
class Limits:
    """What one program may use. Above it, its test fails; nothing else is harmed.

    Attributes:
        seconds: wall time of loading the program, and of each test.
        total_seconds: wall time of the program with all its tests; its CPU time is limited to this, too.
        memory: bytes of address space.
        files: bytes that all its files in /tmp may hold, and that any of them may.
        output: bytes that a value, or all that it prints, may have.
        processes: how many it may run at a time; 1 forbids it to start any. Threads are bounded by memory.
    """

    seconds: float = 3.0
    total_seconds: float = 30.0
    memory: int = 512 << 20
    files: int = 16 << 20
    output: int = 4 << 20
    processes: int = 1

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not 0 < value < float("inf"):
                raise SteelyardError(f"the sandbox's limit {name} is {value}; it must be positive and finite")
        if self.memory < 64 << 20:
            raise SteelyardError(f"the sandbox's memory is {self.memory} bytes; an interpreter needs 64 MiB (64 << 20)")

    def to_json(self) -> dict[str, Any]:
        """As it travels into the sandbox."""
        return asdict(self)
