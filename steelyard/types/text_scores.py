"""How likely given texts are: what policies say and likelihood rewards read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from steelyard.types.samples import Array, Sample


@dataclass(eq=False)
class TextScores:
    """How likely texts are, token by token, with where every token stands in its text.

    Attributes:
        logprobs: float32 [N, T], 0 where `mask` is False.
        mask: bool [N, T], the tokens that were scored.
        offsets: int64 [N, T, 2], first and last (exclusive) character of every token; 0 behind a row's last token.
    """

    logprobs: Array
    mask: Array
    offsets: Array


def overlapping(offsets: Array, spans: Array) -> Array:
    """bool [N, T]: which tokens of offsets [N, T, 2] share a character with their row's span [N, 2]."""
    start, end = spans[:, None, 0], spans[:, None, 1]
    found: Array = (offsets[..., 0] < end) & (offsets[..., 1] > start) & (offsets[..., 1] > offsets[..., 0])
    return found


@runtime_checkable
class TextScorer(Protocol):
    """Anything that says how likely a given text is after a prompt: a policy, or a frozen model."""

    def score_texts(
        self, samples: Sequence[Sample], texts: Sequence[str], *, spans: Array | None = None, copy: str | None = None
    ) -> TextScores:
        """Scores of texts [N], each read after its sample's prompt, without gradients.

        Args:
            samples: whose prompts are the contexts [N]; a text may begin with more context.
            texts: what is scored [N].
            spans: int64 [N, 2], characters of each text whose tokens are wanted; all of them without it.
            copy: name of a `snapshot`; None is the policy as it is now.
        """
        ...
