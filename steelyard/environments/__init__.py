"""What answers a policy while it acts: tools and other environments, a step's text in, an observation's text out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from steelyard.types import Actions, Policy, Sample


@runtime_checkable
class Environment(Protocol):
    """Anything that answers steps."""

    def __call__(self, samples: Sequence[Sample], steps: Sequence[str]) -> list[str | None]:
        """What each step brings, as the text that is put behind it; None where it ends the attempt.

        Args:
            samples: what was asked, with what went before as their `prefix` [N].
            steps: what the policy wrote [N]. It is hostile: parse it strictly, run nothing of it outside a sandbox.
        """
        ...


@runtime_checkable
class Agent(Policy, Protocol):
    """A policy that goes on behind a sample's `prefix`, and reads what others wrote."""

    def read(self, texts: Sequence[str]) -> Actions:
        """Texts [N] in the policy's own terms (token ids), right-padded; `mask` says where there is something."""
        ...


__all__ = ["Agent", "Environment"]
