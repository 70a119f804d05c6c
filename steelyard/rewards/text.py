"""Short rewards on text: options, exact, normalised and fuzzy matches, token F1 and repetition."""

from __future__ import annotations

import math
import re
import string
from collections import Counter
from collections.abc import Sequence
from typing import Literal

from rapidfuzz import fuzz

from steelyard.rewards.core import reward
from steelyard.rewards.final_answers import last_box
from steelyard.types import Status, SteelyardError, Verdict

_ARTICLE = re.compile(r"\b(?:a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
# Not the A of "A cat" and the I of "I think".
_LETTER = (
    r"[(\[*_]*+(?-i:(?P<letter>[B-HJ-Z]|[AI](?!\s+(?!is\b|or\b|and\b)[a-z])))"
    r"(?![A-Za-z0-9'’])[)\]*_.:,;]*+"
)
_TOLD = re.compile(r"\b(?:answer|option|choice)\b(?:\s+is)?[\s:*]*+" + _LETTER, re.IGNORECASE)
_ALONE = re.compile(r"(?:^|(?<=\s))" + _LETTER + r"(?=\s|$)")


def normalised(text: str) -> str:
    """Lower case, without punctuation and articles, single spaces: SQuAD's rule."""
    return " ".join(_ARTICLE.sub(" ", text.lower().translate(_PUNCTUATION)).split())


NO_GOLD = Verdict(math.nan, Status.NOT_APPLICABLE, "there is no answer to compare with")


def is_missing(answer: object) -> bool:
    """Whether a table holds nothing in this place: its text, "None" or "nan", is no answer."""
    return answer is None or (isinstance(answer, float) and math.isnan(answer))


@reward
def exact_match(completion: str, answer: str) -> float | Verdict:
    """1 iff both texts are equal, white space around them aside."""
    if is_missing(answer):
        return NO_GOLD
    return float(completion.strip() == str(answer).strip())


@reward
def normalised_match(completion: str, answer: str) -> float | Verdict:
    """1 iff both texts are equal after `normalised`."""
    if is_missing(answer):
        return NO_GOLD
    return float(normalised(completion) == normalised(str(answer)))


@reward
def fuzzy_match(completion: str, answer: str, *, above: float = 0.0) -> float | Verdict:
    """Indel similarity of the normalised texts, 1 − (insertions + deletions) / both lengths; 0 if under `above`."""
    if is_missing(answer):
        return NO_GOLD
    similarity = fuzz.ratio(normalised(completion), normalised(str(answer))) / 100
    return similarity if similarity >= above else 0.0


@reward
def token_f1(completion: str, answer: str) -> float | Verdict:
    """Harmonic mean of precision and recall of the normalised words; 1 where both are empty, 0 where one is."""
    if is_missing(answer):
        return NO_GOLD
    ours, gold = normalised(completion).split(), normalised(str(answer)).split()
    if not ours or not gold:
        return float(ours == gold)
    common = sum((Counter(ours) & Counter(gold)).values())
    return 2 * common / (len(ours) + len(gold))


def _windows(text: str, n: int) -> list[tuple[str, ...]]:
    if n < 1:
        raise SteelyardError(f"n is {n}; an n-gram has at least 1 word")
    words = text.lower().split()
    return list(zip(*(words[k:] for k in range(n)), strict=False))


@reward
def fresh_words(completion: str, *, n: int = 3) -> float:
    """Distinct n-grams of words / all n-grams, in (0, 1]: 1 without repetition, and for texts shorter than n words."""
    grams = _windows(completion, n)
    return len(set(grams)) / len(grams) if grams else 1.0


@reward
def repetition_penalty(completion: str, *, n: int = 3) -> float:
    """Distinct n-grams of words / all n-grams − 1, in (−1, 0]: 0 without repetition."""
    grams = _windows(completion, n)
    return len(set(grams)) / len(grams) - 1 if grams else 0.0


@reward
def choice_correct(
    completion: str, answer: str, options: Sequence[str] = (), *, take: Literal["first", "last"] = "last"
) -> float | Verdict:
    r"""1 iff the option chosen is the gold one; 0 without a choice.

    The choice is looked for in the last `<answer>` block, else the last `\boxed{}`, else the text: a letter that is
    announced (`Answer: B`, `option (B)`), else a capital that stands alone (`B`, `(B)`, `B.`), else one of the options'
    own words. `take` says whether the first or the last of several counts. Gold and options may be letters, words or
    both (`B. Paris`).
    """
    if is_missing(answer):
        return NO_GOLD
    gold = _letter(str(answer), options)
    ours = chosen(completion, options, take=take)
    return float(ours is not None and ours == (gold or normalised(str(answer))))


def chosen(completion: str, options: Sequence[str] = (), *, take: Literal["first", "last"] = "last") -> str | None:
    """The letter of the option that a completion chooses (its normalised words where they name no option), or None."""
    blocks = [piece for piece in completion.split("</answer>")[:-1] if "<answer>" in piece]
    marked = blocks[-1].partition("<answer>")[2] if blocks else last_box(completion)[0]
    text = (marked if marked is not None else completion).strip()
    at = 0 if take == "first" else -1
    for pattern in (_TOLD, _ALONE):
        letters = pattern.findall(text)
        if letters:
            return str(letters[at])
    found = [
        (text.lower().rfind(w) if take == "last" else text.lower().find(w), i) for i, w in enumerate(_words(options))
    ]
    found = [(place, i) for place, i in found if place >= 0]
    if found:
        return string.ascii_uppercase[(max if take == "last" else min)(found)[1]]
    return normalised(text) if marked is not None else None


def _words(options: Sequence[str]) -> list[str]:
    return [re.sub(r"^\s*\(?[A-Z][).:]\s*", "", option).strip().lower() or "\0" for option in options]


def _letter(answer: str, options: Sequence[str]) -> str | None:
    """The letter of a gold given as letter, words or both."""
    found = _ALONE.match(answer.strip())
    if found and (len(answer.strip()) == 1 or answer.strip()[1:2] in ").:" or answer.strip()[0] in "(["):
        return found["letter"]
    words = _words(options)
    return string.ascii_uppercase[words.index(answer.strip().lower())] if answer.strip().lower() in words else None
