"""Changes of one text: a text and a generator in, the changed text out, or None where the change does not apply."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

_NUMBER = re.compile(r"(?<![\w.])-?\d[\d,]*(?:\.\d+)?(?![\w])")
_LINE_ENDS = re.compile(r"[^\S\n]*\n")
_NAME = re.compile(r"(?<=[a-z,;:] )[A-Z][a-z]{2,}\b")
_VERB = re.compile(r"\b(is|are|was|were|can|could|will|would|should|does|do|did|has|have|must)\b(?! not\b|n't)")
_OPPOSITES = {"yes": "no", "true": "false", "correct": "incorrect", "always": "never", "increases": "decreases"}
_OPPOSITES |= {right: left for left, right in list(_OPPOSITES.items())}
_OPPOSITE = re.compile(rf"\b({'|'.join(_OPPOSITES)})\b", re.IGNORECASE)
_CODE = re.compile(r"```|\\[A-Za-z]|^\s*(?:def|class|import|from) ", re.MULTILINE)

POLITE = (
    "Sure! Here is my answer.\n\n",
    "Of course, I am happy to help with that.\n\n",
    "Great question! Let me answer it.\n\n",
)
FILLER = (
    "Let me think about this with great care before I answer.",
    "It is worth looking at every side of the matter first.",
    "There is a lot that one could say here, and all of it deserves attention.",
    "I will go through the whole of it slowly so that nothing is missed.",
    "This is an interesting thing to be asked, and a rewarding one to think about.",
)


def padded_space(text: str, generator: np.random.Generator) -> str:
    """White space around the text and at the ends of its lines; no line is joined or indented anew."""
    tail = " " * int(generator.integers(1, 4))
    return "\n" * int(generator.integers(1, 3)) + _LINE_ENDS.sub(f"{tail}\n", text) + f"{tail}\n"


def lower_case(text: str, generator: np.random.Generator) -> str | None:
    r"""All letters small. Not for code and LaTeX, where case means something, and not where nothing would change."""
    lowered = text.lower()
    return None if _CODE.search(text) or lowered == text else lowered


def bold_end(text: str, generator: np.random.Generator) -> str | None:
    """The last line in Markdown's bold. Not for code."""
    body, newline, last = text.rstrip().rpartition("\n")
    if not last.strip() or "```" in text or "*" in last:
        return None
    return f"{body}{newline}**{last.strip()}**"


def polite(text: str, generator: np.random.Generator) -> str:
    """A courtesy before the text."""
    return POLITE[int(generator.integers(len(POLITE)))] + text


def filler(text: str, generator: np.random.Generator) -> str:
    """Sentences that say nothing before the text, until it is at least twice as long."""
    sentences: list[str] = []
    while sum(map(len, sentences)) + len(sentences) <= len(text):
        sentences += [FILLER[i] for i in generator.permutation(len(FILLER))]
    return " ".join(sentences) + "\n\n" + text


def wrong_number(text: str, generator: np.random.Generator) -> str | None:
    """The last number is another one, of the same form and size: 18 becomes 21, 3.5 becomes 4.5."""
    found = list(_NUMBER.finditer(text))
    if not found:
        return None
    last = found[-1]
    digits = last.group().replace(",", "")
    places = len(digits.partition(".")[2])
    step = int(generator.integers(1, 10))
    value = float(digits) + (step if generator.random() < 0.5 or float(digits) < step else -step)
    if len(digits) > 15:  # more than a float holds
        other = digits[:-1] + str((int(digits[-1]) + step) % 10)
    else:
        other = f"{value:,.{places}f}" if "," in last.group() else f"{value:.{places}f}"
    return text[: last.start()] + other + text[last.end() :]


def negated(text: str, generator: np.random.Generator) -> str | None:
    """The first yes, true, always … turned round, else `not` behind the first verb that takes it."""
    found = _OPPOSITE.search(text)
    if found:
        word = _OPPOSITES[found.group().lower()]
        word = word.capitalize() if found.group()[0].isupper() else word
        return text[: found.start()] + word + text[found.end() :]
    verb = _VERB.search(text)
    return None if verb is None else f"{text[: verb.end()]} not{text[verb.end() :]}"


def truncated(text: str, generator: np.random.Generator) -> str | None:
    """The first half of the words; for texts of four words and more."""
    words = re.findall(r"\S+\s*", text)
    return "".join(words[: len(words) // 2]).rstrip() if len(words) >= 4 else None


def shuffled_words(text: str, generator: np.random.Generator) -> str | None:
    """The same words in another order; for texts of four words and more."""
    words = text.split()
    if len(words) < 4:
        return None
    return " ".join(words[i] for i in generator.permutation(len(words)))


def repeated(text: str, generator: np.random.Generator) -> str | None:
    """The text three times."""
    return "\n".join([text.strip()] * 3) if text.strip() else None


def names_in(text: str) -> list[str]:
    """Capitalised words inside sentences, each once, in order: what stands for entities here."""
    return list(dict.fromkeys(_NAME.findall(text)))


def swapped_name(text: str, others: Sequence[str], generator: np.random.Generator) -> str | None:
    """One name of the text replaced everywhere by one of the `others` that it does not have."""
    ours = names_in(text)
    strange = [name for name in others if name not in text]
    if not ours or not strange:
        return None
    name, other = ours[int(generator.integers(len(ours)))], strange[int(generator.integers(len(strange)))]
    return re.sub(rf"\b{name}\b", other, text)


def swapped_words(text: str, words: str, others: str) -> str | None:
    """Every occurrence of `words` (whole words, any case) replaced by `others`."""
    if not words.strip() or words.strip().lower() == others.strip().lower():
        return None
    pattern = rf"(?<![\w.,]){re.escape(words.strip())}(?!\w|[.,]\d)"
    changed, count = re.subn(pattern, lambda _: others.strip(), text, flags=re.IGNORECASE)
    return changed if count else None


def last_number(text: str) -> str | None:
    """The last number of a text, without separators of thousands; None without any."""
    found = _NUMBER.findall(text)
    return found[-1].replace(",", "") if found else None
