"""How much of one text stands in another: BLEU, ROUGE and word error rate."""

from __future__ import annotations

import functools
import itertools
import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence

from rapidfuzz.distance import Levenshtein

from steelyard.rewards.core import reward
from steelyard.types import SteelyardError

ORDER = 4
"""BLEU's longest n-gram."""

_13A = (
    (re.compile(r"([\{-\~\[-\` -\&\(-\+\:-\@\/])"), r" \1 "),
    (re.compile(r"([^0-9])([\.,])"), r"\1 \2 "),
    (re.compile(r"([\.,])([^0-9])"), r" \1 \2"),
    (re.compile(r"([0-9])(-)"), r"\1 \2 "),
)
Grams = tuple[dict[tuple[str, ...], int], ...]


@reward
def bleu(completion: str, references: str | Sequence[str]) -> float:
    """Sentence-level BLEU in [0, 1], sacrebleu's `sentence_bleu` / 100 (sheet 51).

    BP · exp(Σ_{n≤N} log p_n / N), with the tokenizer 13a, the closest reference length in the brevity penalty BP (the
    shorter of two as close), clipped n-gram precisions p_n over all references, exponential smoothing (the k-th order
    without a match has p_n = 1 / (2^k · n-grams)) and effective order: N is the last of 4 for which the completion is
    long enough. 0 where no word matches.

    Args:
        completion: the text to judge.
        references: one text or several; a list is best kept in one object a group, its n-grams are counted once.

    Raises:
        SteelyardError: without a reference, or where one is no text.
    """
    grams, lengths = _reference((references,) if isinstance(references, str) else tuple(references))
    words = tokens_13a(completion)
    length = len(words)
    matches = [_matches(words, n, known) for n, known in enumerate(grams, 1)]
    if not any(matches):
        return 0.0
    closest = min(lengths, key=lambda other: (abs(length - other), other))
    penalty = min(0.0, 1 - closest / length)
    logs, misses = [], 0
    for n, matched in enumerate(matches[:length], 1):
        misses += not matched
        logs.append(math.log((matched or 0.5**misses) / (length - n + 1)))
    return math.exp(penalty + sum(logs) / len(logs))


def _matches(words: Sequence[str], n: int, known: dict[tuple[str, ...], int]) -> int:
    """How many n-grams of the words stand in the reference, each at most as often as there."""
    grams: Iterable[tuple[str, ...]] = zip(*(words[k:] for k in range(n)), strict=False)
    counts = Counter(filter(known.__contains__, grams))
    return sum(min(count, known[gram]) for gram, count in counts.items())


@functools.lru_cache(maxsize=1024)
def _reference(texts: tuple[str, ...]) -> tuple[Grams, tuple[int, ...]]:
    """n-gram to its highest count in one of the references, for every order, and the references' lengths."""
    if not texts or not all(isinstance(text, str) for text in texts):
        raise SteelyardError(f"references are {texts!r:.80}; give a text or a list of texts")
    tokens = [tokens_13a(text) for text in texts]
    grams: Grams = tuple({} for _ in range(ORDER))
    for words in tokens:
        for n, known in enumerate(grams, 1):
            for gram, count in Counter(zip(*(words[k:] for k in range(n)), strict=False)).items():
                known[gram] = max(count, known.get(gram, 0))
    return grams, tuple(map(len, tokens))


def tokens_13a(text: str) -> list[str]:
    """The words of a text as mteval-v13a and sacrebleu cut them.

    No rule of 13a reaches across white space, so that every distinct word is cut only once.
    """
    text = text.rstrip().replace("<skipped>", "").replace("-\n", "").replace("\n", " ")
    if "&" in text:
        for entity, character in (("&quot;", '"'), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">")):
            text = text.replace(entity, character)
    return list(itertools.chain.from_iterable(map(_cut, text.split())))


@functools.lru_cache(maxsize=2**16)
def _cut(word: str) -> tuple[str, ...]:
    if word.isalpha():
        return (word,)
    word = f" {word} "
    for pattern, replacement in _13A:
        word = pattern.sub(replacement, word)
    return tuple(word.split())


def word_error_rate(reference: str, hypothesis: str) -> float:
    """(substitutions + insertions + deletions) / max(1, words of the reference); 0 is equal, it may exceed 1."""
    words = reference.split()
    return Levenshtein.distance(words, hypothesis.split()) / max(1, len(words))


def rouge_mean(reference: str, hypothesis: str) -> float:
    """Mean F-measure of ROUGE-1, ROUGE-2 and ROUGE-L with stemming, in [0, 1]."""
    scores = _rouge().score(reference, hypothesis)
    return float(sum(score.fmeasure for score in scores.values()) / len(scores))


@functools.cache
def _rouge():  # type: ignore[no-untyped-def]
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=True)
