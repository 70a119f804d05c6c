"""How much of one text stands in another: BLEU, ROUGE and word error rate."""

from __future__ import annotations

import functools
import itertools
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from rapidfuzz.distance import Levenshtein

from steelyard.rewards.core import reward
from steelyard.types import SteelyardError

_DIGIT = re.compile(r"[0-9]")
_PIECES = re.compile(r"[.,\{-\~\[-\` -\&\(-\+\:-\@\/]|[^.,\{-\~\[-\` -\&\(-\+\:-\@\/]+")

ORDER = 4
"""BLEU's longest n-gram."""

_13A = (
    (re.compile(r"([\{-\~\[-\` -\&\(-\+\:-\@\/])"), r" \1 "),
    (re.compile(r"([^0-9])([\.,])"), r"\1 \2 "),
    (re.compile(r"([\.,])([^0-9])"), r" \1 \2"),
    (re.compile(r"([0-9])(-)"), r"\1 \2 "),
)


@dataclass(frozen=True)
class _Order:
    """The n-grams of the references: (number of the first n − 1 words, number of the last) to its number, from 1 on."""

    numbers: dict[tuple[int | None, int | None], int]
    counts: list[int]


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
    vocabulary, orders, lengths = _reference((references,) if isinstance(references, str) else tuple(references))
    words = list(map(vocabulary.get, tokens_13a(completion)))
    length = len(words)
    matches = _matches(words, orders)
    if not any(matches):
        return 0.0
    closest = min(lengths, key=lambda other: (abs(length - other), other))
    penalty = min(0.0, 1 - closest / length)
    logs, misses = 0.0, 0
    for n, matched in enumerate(matches[:length]):
        misses += not matched
        logs += math.log((matched or 0.5**misses) / (length - n))
    return math.exp(penalty + logs / min(length, ORDER))


def _matches(words: Sequence[int | None], orders: Sequence[_Order]) -> list[int]:
    """For every order how many n-grams stand in the references, each at most as often as there.

    An n-gram is looked up as the number of its first n − 1 words and the number of its last word.
    """
    matches: list[int] = []
    grams = words
    for n, order in enumerate(orders):
        if n:
            grams = list(map(order.numbers.get, zip(grams, words[n:], strict=False)))
        hits: list[int] = list(filter(None, grams))
        if not hits:
            return matches + [0] * (ORDER - n)
        matches.append(len(hits) if len(set(hits)) == len(hits) else _clipped(hits, order.counts))
    return matches


def _clipped(hits: list[int], most: list[int]) -> int:
    counts = Counter(hits)
    return sum(map(min, counts.values(), map(most.__getitem__, counts)))


@functools.lru_cache(maxsize=1024)
def _reference(texts: tuple[str, ...]) -> tuple[dict[str, int], list[_Order], list[int]]:
    """Word to number, every order's n-grams with their highest count in one reference, and the references' lengths."""
    if not texts or not all(isinstance(text, str) for text in texts):
        raise SteelyardError(f"references are {texts!r:.80}; give a text or a list of texts")
    tokens = [tokens_13a(text) for text in texts]
    vocabulary = {word: i for i, word in enumerate(dict.fromkeys(itertools.chain.from_iterable(tokens)), 1)}
    words = [[vocabulary[word] for word in text] for text in tokens]
    orders, grams = [], words
    for n in range(ORDER):
        numbers: dict[tuple[int | None, int | None], int] = {}
        if n:
            pairs = [list(zip(gram, word[n:], strict=False)) for gram, word in zip(grams, words, strict=True)]
            distinct = dict.fromkeys(itertools.chain.from_iterable(pairs))
            numbers |= zip(distinct, itertools.count(1), strict=False)
            grams = [[numbers[pair] for pair in row] for row in pairs]
        most = [0] * (1 + (len(numbers) if n else len(vocabulary)))
        for gram in grams:
            for number, count in Counter(gram).items():
                most[number] = max(most[number], count)
        orders.append(_Order(numbers, most))
    return vocabulary, orders, [len(row) for row in words]


def tokens_13a(text: str) -> list[str]:
    """The words of a text as mteval-v13a and sacrebleu cut them.

    No rule of 13a reaches across white space, so that every distinct word is cut only once.
    """
    text = text.rstrip().replace("<skipped>", "").replace("-\n", "").replace("\n", " ")
    if "&" in text:
        for entity, character in (("&quot;", '"'), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">")):
            text = text.replace(entity, character)
    return list(itertools.chain.from_iterable(map(_cut.__getitem__, text.split())))


class _Cuts(dict[str, tuple[str, ...]]):
    """Words without white space to their tokens, up to a number of them."""

    def __missing__(self, word: str) -> tuple[str, ...]:
        if len(self) >= 2**16:
            self.clear()
        cut = (word,) if word.isalpha() else _by_rules(word)
        if len(word) < 100:
            self[word] = cut
        return cut


_cut = _Cuts()


def _by_rules(word: str) -> tuple[str, ...]:
    if _DIGIT.search(word) is None:
        return tuple(_PIECES.findall(word))
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
