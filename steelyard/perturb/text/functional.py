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
_ALONE = re.compile(r"(?<![A-Za-z])[a-z](?![A-Za-z])")
_CODE = re.compile(r"```|\\[A-Za-z]|^\s*(?:def|class|import|from) ", re.MULTILINE)

POLITE = (
    "Sure! Here is my answer.\n\n",
    "Of course, I am happy to help with that.\n\n",
    "Great question! Let me answer it.\n\n",
)
CLOSING = (
    "\n\nI hope this helps!",
    "\n\nLet me know if you have any other questions.",
    "\n\nPlease feel free to ask for more.",
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


def lower_words(text: str, generator: np.random.Generator) -> str | None:
    """As `lower_case`, but capitals that stand alone stay: they are the letters of options."""
    lowered = lower_case(text, generator)
    kept = None if lowered is None else _ALONE.sub(lambda found: text[found.start()], lowered)
    return None if kept == text else kept


def bold_end(text: str, generator: np.random.Generator) -> str | None:
    """The last line in Markdown's bold. Not for code."""
    body, newline, last = text.rstrip().rpartition("\n")
    if not last.strip() or "```" in text or "*" in last:
        return None
    return f"{body}{newline}**{last.strip()}**"


def laid_out(text: str, generator: np.random.Generator) -> str | None:
    """A heading above the text, and its lines but the last as a list in Markdown. Not for code."""
    if not text.strip() or "```" in text or "#" in text:
        return None
    *lines, last = text.strip().split("\n")
    return "\n".join(["## In detail", "", *(f"- {line}" if line[:1].isalpha() else line for line in lines), last])


def polite(text: str, generator: np.random.Generator) -> str:
    """A courtesy before the text."""
    return POLITE[int(generator.integers(len(POLITE)))] + text


def closed(text: str, generator: np.random.Generator) -> str | None:
    """A courtesy behind the text. Not where a fence of code or a tag ends it: there it would stand outside."""
    if not text.strip() or text.rstrip().endswith(("```", ">")):
        return None
    return text.rstrip() + CLOSING[int(generator.integers(len(CLOSING)))]


def filler(text: str, generator: np.random.Generator) -> str:
    """Sentences that say nothing before the text, until it is at least twice as long."""
    rounds = len(text) // (len(" ".join(FILLER)) + 1) + 1
    order = generator.permuted(np.tile(np.arange(len(FILLER)), (rounds, 1)), axis=1).ravel()
    return " ".join(FILLER[i] for i in order) + "\n\n" + text


def wrong_number(text: str, generator: np.random.Generator) -> str | None:
    """The last number is another one, of the same form and size: 18 becomes 21, 3.5 becomes 4.5."""
    last = _last(text)
    if last is None:
        return None
    digits = last.group().replace(",", "")
    places = len(digits.partition(".")[2])
    step = int(generator.integers(1, 10))
    value = float(digits) + (step if generator.random() < 0.5 or float(digits) < step else -step)
    if len(digits) > 15:  # more than a float holds
        other = digits[:-1] + str((int(digits[-1]) + step) % 10)
    else:
        other = f"{value:,.{places}f}" if "," in last.group() else f"{value:.{places}f}"
    return text[: last.start()] + other + text[last.end() :]


def other_sign(text: str, generator: np.random.Generator) -> str | None:
    """The last number with the other sign: 18 becomes -18. Not for 0, and not where a sign would read as a hyphen."""
    last = _last(text)
    if last is None or not float(last.group().replace(",", "")):
        return None
    before = text[last.start() - 1 : last.start()]
    if last.group().startswith("-"):
        return text[: last.start()] + text[last.start() + 1 :]
    return None if before in ("-", "−", "–", "/", ":") else f"{text[: last.start()]}-{text[last.start() :]}"


def moved_point(text: str, generator: np.random.Generator) -> str | None:
    """The last number with its point one place on: 18 becomes 1.8, 3.5 becomes 35. For numbers of two digits and more
    without separators of thousands; the digits stay."""
    last = _last(text)
    whole, point, places = ("", "", "") if last is None else last.group().partition(".")
    if last is None or "," in whole or len(whole.lstrip("-")) + len(places) < 2 or not float(last.group()):
        return None
    if point:
        shown = (whole + places[0]).replace("-0", "-").removeprefix("0")
        other = shown + (f".{places[1:]}" if places[1:] else "")
    else:
        other = f"{whole[:-1]}.{whole[-1]}"
    return text[: last.start()] + other + text[last.end() :]


def _last(text: str) -> re.Match[str] | None:
    found = list(_NUMBER.finditer(text))
    return found[-1] if found else None


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
