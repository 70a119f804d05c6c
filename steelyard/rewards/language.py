"""Rewards for the language of a completion, named by py3langid."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from typing import Any

from steelyard.rewards.chat import content_text
from steelyard.rewards.core import reward
from steelyard.types import Prompt, Status, SteelyardError, Verdict

LETTERS = 12
"""Texts with fewer letters have no language that can be told; a Chinese, Japanese or Korean character counts three."""

SURE = 0.5
"""How probable another language must be for a completion to be in it: short texts are taken for any."""

_NO_PROSE = re.compile(
    r"```.*?(?:```|\Z)|`[^`\n]*`|https?://\S+|\\\(.{0,1000}?\\\)|\\\[.{0,1000}?\\\]|\$[^$\n]*\$|<[^<>\n]{1,40}>",
    re.DOTALL,
)


_DENSE = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")


def language_of(text: str) -> str | None:
    """The ISO 639-1 code of a text's likeliest language; None with fewer than `LETTERS` letters outside code and links.

    What stands in formulas and tags does not count either.

    Raises:
        SteelyardError: if py3langid is not installed.
    """
    found = _likeliest(text)
    return found and found[0]


def _likeliest(text: str) -> tuple[str, float] | None:
    """The language and its probability."""
    prose = _NO_PROSE.sub(" ", text)
    if sum(map(str.isalpha, prose)) + 2 * len(_DENSE.findall(prose)) < LETTERS:
        return None
    code, probability = _classifier().classify(prose)
    return str(code), float(probability)


@functools.cache
def _classifier() -> Any:
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ImportError:
        what = "telling a language needs py3langid"
        raise SteelyardError(f"{what}; install it with: pip install 'steelyard[language]'") from None
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


@functools.cache
def _known() -> frozenset[str]:
    return frozenset(code for code, _ in _classifier().rank("a"))


@reward
def language_is(completion: str, language: str) -> float | Verdict:
    """1 iff the completion is in the asked language, 0 if in another one.

    A completion with fewer than 12 letters (outside code, links and formulas) is not applicable (NaN), and one that
    looks like another language with a probability under one half.

    Args:
        completion: of the model.
        language: ISO 639-1 code (`en`, `zh`, …), a column or an option; what follows a hyphen (`en-GB`) is not read.
    """
    asked = str(language).lower().replace("_", "-").partition("-")[0]
    if asked not in _known():
        raise SteelyardError(f"language is {language!r:.40}; give an ISO 639-1 code that py3langid knows, as 'en'")
    return _same(_likeliest(completion), asked)


@reward
def same_language(completion: str, prompt: Prompt) -> float | Verdict:
    """1 iff the completion is in the language of the prompt (of the last user message of a chat), 0 if in another one.

    Where either has fewer than 12 letters (outside code, links and formulas), or its language is too uncertain, it is
    not applicable (NaN).
    """
    found = _likeliest(_asked(prompt))
    return _same(_likeliest(completion), found[0] if found and found[1] >= SURE else None)


def _same(ours: tuple[str, float] | None, asked: str | None) -> float | Verdict:
    if ours is None or asked is None or (ours[0] != asked and ours[1] < SURE):
        return Verdict(float("nan"), Status.NOT_APPLICABLE, "too few words to tell a language")
    return float(ours[0] == asked)


def _asked(prompt: Prompt) -> str:
    if isinstance(prompt, str):
        return prompt
    if not isinstance(prompt, (list, tuple)) or not all(isinstance(message, Mapping) for message in prompt):
        raise SteelyardError(f"the prompt is {prompt!r:.60}; it must be a text or chat messages")
    texts = [content_text(message.get("content")) for message in prompt if message.get("role") == "user"]
    return texts[-1] if texts else ""
