"""How much of one text stands in another: BLEU, ROUGE and word error rate."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
from rapidfuzz.distance import Levenshtein

from steelyard.rewards.core import reward
from steelyard.rewards.ngrams import ORDER, Matches, clipped_matches
from steelyard.types import Array, Rollouts, Scores, SteelyardError

@reward(batch=True)
def bleu(rollouts: Rollouts) -> Scores:
    """Sentence-level BLEU in [0, 1] of the column `references`: sacrebleu's `sentence_bleu` / 100 (sheet 51).

    BP · exp(Σ_{n≤N} log p_n / N), with the tokenizer 13a, the closest reference length in the brevity penalty BP (the
    shorter of two as close), clipped n-gram precisions p_n over all references, exponential smoothing (the k-th order
    without a match has p_n = 1 / (2^k · n-grams)) and effective order: N is the last of 4 for which the completion is
    long enough. 0 where no word matches. Rows that share their references are scored together. The part `bleu` is
    float64.

    Raises:
        SteelyardError: where `references` is neither a text nor a list of texts, or empty, or a completion is no text.
    """
    values = _sacrebleu(clipped_matches(*_texts(rollouts)))
    return Scores(values, parts={"bleu": values})


def _texts(rollouts: Rollouts) -> tuple[list[str], list[tuple[str, ...]]]:
    """Completions [N] and references [N], checked."""
    given = [(texts,) if isinstance(texts, str) else texts for texts in rollouts.column("references")]
    for row, texts in enumerate(given):
        listed = isinstance(texts, (list, tuple)) and len(texts) > 0
        if not listed or not all(isinstance(text, str) for text in texts):
            raise SteelyardError(f"row {row}: references are {texts!r:.80}; give a text or a list of texts")
        if not isinstance(rollouts.completions[row], str):
            raise SteelyardError(f"row {row}: the completion is {rollouts.completions[row]!r:.80}; it must be a text")
    return list(rollouts.completions), list(map(tuple, given))


def bleu_scores(completions: Sequence[str], references: Sequence[str]) -> Array:
    """float64 [N], BLEU of texts that share their references. See `bleu`."""
    return _sacrebleu(clipped_matches(completions, [tuple(references)] * len(completions)))


def _sacrebleu(found: Matches) -> Array:
    lengths, own = found.lengths, np.arange(ORDER) < found.lengths[:, None]
    missed = own & (found.matches == 0)
    matched = np.where(missed, 0.5 ** missed.cumsum(axis=1), found.matches)
    ngrams = np.maximum(lengths[:, None] - np.arange(ORDER), 1)
    logs = np.log(np.where(own, matched / ngrams, 1.0)).sum(axis=1) / np.clip(lengths, 1, ORDER)
    far = np.where(found.references < 0, np.inf, np.abs(found.references - lengths[:, None]))
    as_close = far == far.min(axis=1, keepdims=True)
    closest = np.where(as_close, found.references, np.iinfo(np.int64).max).min(axis=1)
    brevity = np.minimum(0.0, 1 - closest / np.maximum(lengths, 1))
    return np.where(found.matches.any(axis=1), np.exp(brevity + logs), 0.0)


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
