"""Short rewards on text: exact, normalised and fuzzy matches, token F1 and repetition."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence

from rapidfuzz import fuzz

from steelyard.rewards.core import reward
from steelyard.rewards.golds import NO_GOLD, gold_texts
from steelyard.types import SteelyardError, Verdict

_ARTICLE = re.compile(r"\b(?:a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalised(text: str) -> str:
    """Lower case, without punctuation and articles, single spaces: SQuAD's rule."""
    return " ".join(_ARTICLE.sub(" ", text.lower().translate(_PUNCTUATION)).split())


@reward
def exact_match(completion: str, answer: str | Sequence[str]) -> float | Verdict:
    """1 iff the text equals the answer, or one of several, white space around them aside."""
    return _best(answer, lambda gold: float(completion.strip() == gold.strip()))


@reward
def normalised_match(completion: str, answer: str | Sequence[str]) -> float | Verdict:
    """1 iff the text equals the answer, or one of several, after `normalised`: SQuAD's exact match.

    Not for numbers: 1.8 and -18 are 18 without their punctuation.
    """
    return _best(answer, lambda gold: float(normalised(completion) == normalised(gold)))


@reward
def fuzzy_match(completion: str, answer: str | Sequence[str], *, above: float = 0.0) -> float | Verdict:
    """Indel similarity of the normalised texts, 1 − (insertions + deletions) / both lengths; 0 if under `above`.

    Of several answers the most similar one counts.
    """
    similarity = _best(answer, lambda gold: fuzz.ratio(normalised(completion), normalised(gold)) / 100)
    return 0.0 if isinstance(similarity, float) and similarity < above else similarity


@reward
def token_f1(completion: str, answer: str | Sequence[str]) -> float | Verdict:
    """Harmonic mean of precision and recall of the normalised words; 1 where both are empty, 0 where one is.

    Of several answers the best one counts: SQuAD's F1.
    """
    ours = normalised(completion).split()
    return _best(answer, lambda gold: _f1(ours, normalised(gold).split()))


def _best(answer: str | Sequence[str], similarity: Callable[[str], float]) -> float | Verdict:
    golds = gold_texts(answer)
    return max(map(similarity, golds)) if golds else NO_GOLD


def _f1(ours: list[str], gold: list[str]) -> float:
    if not ours or not gold:
        return float(ours == gold)
    return 2 * sum((Counter(ours) & Counter(gold)).values()) / (len(ours) + len(gold))


_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|(?:[^\s\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af])+")
"""A word between spaces; a character where a language writes without them."""


def _windows(text: str, n: int) -> list[tuple[str, ...]]:
    if n < 1:
        raise SteelyardError(f"n is {n}; an n-gram has at least 1 word")
    words = _WORD.findall(text.lower())
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
