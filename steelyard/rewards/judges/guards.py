"""What stands in front of a judge: responses without content are 0 and never reach it."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from steelyard.rewards.combinators import call, laid, with_parts
from steelyard.rewards.core import Expression, Memo, as_reward
from steelyard.types import Rollouts, Scores, SteelyardError

MASTER_KEYS = (
    " ",
    ".",
    ",",
    ":",
    "Thought process:",
    "Let's solve this problem step by step.",
    "Solution",
    "解",
    "かいせつ",
    "Respuesta",
)
"""Ten strings that many judges take for a right answer to anything: four without a word, six openers (sheet 47)."""

OPENERS = MASTER_KEYS[4:]
"""The six that are words: promises of an answer."""


def is_content_free(response: str) -> bool:
    """Whether a response has no letter and no digit of any script: blanks, punctuation, symbols.

    An answer that is a symbol alone (∞, <, →) counts as free of content too: do not guard such questions.

    Source: sheet 47, recommended guard.
    """
    return not any(character.isalnum() for character in response)


def only_opens(response: str, openers: Sequence[str] = OPENERS) -> bool:
    """Whether nothing stands behind an opener. Case, blanks and punctuation at its ends do not count."""
    return _bare(response) in {_bare(opener) for opener in openers}


def _bare(text: str) -> str:
    words = [place for place, character in enumerate(text) if character.isalnum()]
    return text[words[0] : words[-1] + 1].casefold() if words else ""


def first_sentence(response: str) -> str:
    """The shortest prefix that ends in `.`, `!`, `?` or `:` before a blank or the end; without one, the first line.

    "3.14" is not split. Source: sheet 47, the recommended reading of "only the first sentence is kept".
    """
    found = re.match(r".*?[.!?:](?=\s|\Z)", response, re.DOTALL)
    return found[0] if found else response.partition("\n")[0]


class Guarded(Expression):
    """See `guarded`."""

    def __init__(self, reward: Expression, openers: Sequence[str]) -> None:
        self.reward, self.openers = reward, tuple(openers)
        self.name = call("guarded", [reward], openers=self.openers or None)

    @property
    def operands(self) -> tuple[Expression, ...]:
        """One level down."""
        return (self.reward,)

    def _compute(self, rollouts: Rollouts, memo: Memo) -> Scores:
        empty = np.asarray([self._refuses(text, row) for row, text in enumerate(rollouts.completions)], bool)
        return with_parts(laid(self.reward, rollouts, ~empty), {"guarded/refused": empty.astype(np.float32)})

    def _refuses(self, response: object, row: int) -> bool:
        if not isinstance(response, str):
            raise SteelyardError(f"{self.name}: row {row} is {type(response).__name__}; a guard reads texts")
        return is_content_free(response) or (bool(self.openers) and only_opens(response, self.openers))


def guarded(reward: Expression | float, *, openers: Sequence[str] = ()) -> Guarded:
    """The reward, but 0 for completions without a letter or digit, which are not put to it at all.

    Rows that are refused have NaN in the reward's own parts, and 1 in the part `guarded/refused`. A reward that looks
    at groups sees them without those rows.

    Args:
        reward: usually `verified(judge)`.
        openers: strings that are 0 too when nothing stands behind them, such as `OPENERS`.

    Source: sheet 47, recommended guard.
    """
    return Guarded(as_reward(reward), openers)
