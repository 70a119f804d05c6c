"""How much of one text stands in another: BLEU, ROUGE and word error rate."""

from __future__ import annotations

import functools
import itertools
import math
import re
from collections.abc import Sequence

import numpy as np
from rapidfuzz.distance import Levenshtein

from steelyard.rewards.core import reward
from steelyard.types import Array, Rollouts, SteelyardError

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


@reward(batch=True)
def bleu(rollouts: Rollouts) -> Array:
    """Sentence-level BLEU in [0, 1] of the column `references`: sacrebleu's `sentence_bleu` / 100 (sheet 51).

    BP · exp(Σ_{n≤N} log p_n / N), with the tokenizer 13a, the closest reference length in the brevity penalty BP (the
    shorter of two as close), clipped n-gram precisions p_n over all references, exponential smoothing (the k-th order
    without a match has p_n = 1 / (2^k · n-grams)) and effective order: N is the last of 4 for which the completion is
    long enough. 0 where no word matches. Rows that share their references are scored together.

    Raises:
        SteelyardError: where `references` is neither a text nor a list of texts, or empty.
    """
    rows: dict[tuple[str, ...], list[int]] = {}
    for row, given in enumerate(rollouts.column("references")):
        texts = (given,) if isinstance(given, str) else tuple(given or ())
        if not texts or not all(isinstance(text, str) for text in texts):
            raise SteelyardError(f"row {row}: references are {given!r:.80}; give a text or a list of texts")
        rows.setdefault(texts, []).append(row)
    values = np.zeros(len(rollouts))
    for texts, members in rows.items():
        values[members] = bleu_scores([rollouts.completions[row] for row in members], texts)
    return values


def bleu_scores(completions: Sequence[str], references: Sequence[str]) -> Array:
    """float64 [N], BLEU of texts that share their references. See `bleu`.

    Words are numbered from 1 in the references' vocabulary, 0 for all others and between texts. The number of an n-gram
    is looked up by the number of its first n − 1 words and that of its last word, so that only positions where the
    shorter n-gram stood in a reference are looked at again.
    """
    reference_words = [tokens_13a(text) for text in references]
    vocabulary = {word: i for i, word in enumerate(dict.fromkeys(itertools.chain.from_iterable(reference_words)), 1)}
    known, words = [_numbered(texts, vocabulary) for texts in (reference_words, list(map(tokens_13a, completions)))]
    width = len(vocabulary) + 1
    matches = np.zeros((ORDER, len(completions)), np.int64)
    (at, state), (here, found) = [(ids.nonzero()[0], ids[ids > 0]) for ids, _ in (known, words)]
    for n in range(ORDER):
        if n:
            at, codes = _extended(known[0], at, state, n, width)
            distinct, state = np.unique(codes, return_inverse=True)
            state += 1
            here, codes = _extended(words[0], here, found, n, width)
            place = np.searchsorted(distinct, codes)
            hit = (distinct[np.minimum(place, len(distinct) - 1)] == codes).nonzero()[0] if len(distinct) else place[:0]
            here, found = here[hit], place[hit] + 1
        if not len(here):
            break
        most = _counts(known[1][at], state, len(references)).max(axis=0)
        counts = _counts(words[1][here], found, len(completions), len(most))
        matches[n] = np.minimum(counts, most).sum(axis=1)
    lengths = [len(text) for text in reference_words]
    own = np.bincount(words[1][:-ORDER], minlength=len(completions)) - 1
    return np.array([_bleu(row, int(length), lengths) for row, length in zip(matches.T.tolist(), own, strict=True)])


def _numbered(texts: Sequence[list[str]], vocabulary: dict[str, int]) -> tuple[Array, Array]:
    """Words' numbers with a 0 behind every text and `ORDER` at the end, and each place's text."""
    lengths = [len(words) + 1 for words in texts]
    numbers = map(vocabulary.get, itertools.chain.from_iterable([*words, ""] for words in texts), itertools.repeat(0))
    ids = np.zeros(sum(lengths) + ORDER, np.int64)
    ids[:-ORDER] = np.fromiter(numbers, np.int64, sum(lengths))
    return ids, np.append(np.repeat(np.arange(len(texts)), lengths), [0] * ORDER)


def _extended(ids: Array, at: Array, state: Array, n: int, width: int) -> tuple[Array, Array]:
    """Places whose next word is in the vocabulary, and the codes of the n-grams that are one word longer."""
    following = ids[at + n]
    kept = following.nonzero()[0]
    return at[kept], state[kept] * width + following[kept]


def _counts(rows: Array, numbers: Array, count: int, width: int | None = None) -> Array:
    """int64 [count, width], how often every number stands in every row."""
    width = int(numbers.max(initial=0)) + 1 if width is None else width
    return np.bincount(rows * width + numbers, minlength=count * width).reshape(count, width)


def _bleu(matches: list[int], length: int, references: list[int]) -> float:
    """The score of one text from its matches of every order and all lengths."""
    if not any(matches):
        return 0.0
    closest = min(references, key=lambda other: (abs(length - other), other))
    logs, misses = 0.0, 0
    for n, matched in enumerate(matches[:length]):
        misses += not matched
        logs += math.log((matched or 0.5**misses) / (length - n))
    return math.exp(min(0.0, 1 - closest / length) + logs / min(length, ORDER))


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
