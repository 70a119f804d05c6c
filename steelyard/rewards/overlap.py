"""How much of one text stands in another: BLEU, ROUGE and word error rate."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, get_args

import numpy as np
from rapidfuzz.distance import Levenshtein

from steelyard.rewards.chat import texts_in
from steelyard.rewards.core import reward
from steelyard.rewards.golds import is_missing, listed
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
    values = _sacrebleu(clipped_matches(texts_in(rollouts), _references(rollouts)))
    return Scores(values, parts={"bleu": values})


def _references(rollouts: Rollouts) -> list[tuple[str, ...]]:
    return [_reference_texts(given, f"row {row}: ") for row, given in enumerate(rollouts.column("references"))]


def _reference_texts(references: Any, where: str = "") -> tuple[str, ...]:
    texts = (references,) if isinstance(references, str) else listed(references)
    some = isinstance(texts, (list, tuple)) and len(texts) > 0
    if not some or not all(isinstance(text, str) for text in texts):
        raise SteelyardError(f"{where}references are {references!r:.80}; give a text or a list of texts")
    return tuple(texts)


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


@reward(batch=True)
def bleuberi(rollouts: Rollouts) -> Scores:
    """BLEU as BLEUBERI rewards with it, in [0, 1], against all `references` of a row (sheet 51).

    BP · (P_1 P_2 P_3 P_4)^¼ with P_n = (matches + 1) / (n-grams + 1) at every order, single words included, the
    tokenizer 13a, counts clipped to the most in one reference, and ρ the SHORTEST reference: BP = 1 for c > ρ words,
    else exp(1 − ρ / c). What is scored is the text between `<answer>` tags where there are some (behind the first, if
    it is never closed). Empty or missing texts, and references without a word, give 0.

    Parts: `precision_1` … `precision_4`, `brevity`, `words`, `reference_words` (of the shortest).

    On references of a few words unrelated answers of a few words score high: "yes" against "no" is 0.84.

    Raises:
        SteelyardError: where `references` is neither a text nor a list of texts, or empty, or a completion is no text.
    """
    known = ["" if is_missing(completion) else completion for completion in rollouts.completions]
    texts = [_answer(text) for text in texts_in(replace(rollouts, completions=known))]
    found = clipped_matches(texts, _references(rollouts))
    words = found.lengths
    shortest = np.where(found.references < 0, np.iinfo(np.int64).max, found.references).min(axis=1)
    precisions = (found.matches + 1) / (np.maximum(words[:, None] - np.arange(ORDER), 0) + 1)
    brevity = np.where(words > shortest, 1.0, np.exp(1 - shortest / np.maximum(words, 1)))
    values = np.where((words > 0) & (shortest > 0), brevity * precisions.prod(axis=1) ** (1 / ORDER), 0.0)
    parts = {f"precision_{n + 1}": precisions[:, n] for n in range(ORDER)}
    parts |= {"brevity": brevity, "words": words, "reference_words": shortest}
    return Scores(values, parts={"bleuberi": values} | parts)


def _answer(text: str) -> str:
    """What stands in the first answer block, closed or not, else the whole text."""
    if "<answer>" in text:
        behind = text.split("<answer>")[1]
        text = behind.split("</answer>")[0] if "</answer>" in text else behind
    return text.strip()


Rouge = Literal["rouge1", "rouge2", "rougeL", "rougeLsum"]


@reward
def rouge(completion: str, references: str | Sequence[str], *, kind: Rouge = "rougeL", stem: bool = False) -> float:
    """The best F-measure of ROUGE over the references, in [0, 1], as rouge-score computes it (sheet 51).

    Args:
        completion: the text, or its answer block where it has one.
        references: a text or a list of texts.
        kind: shared words (`rouge1`), pairs of words (`rouge2`), longest common subsequence of the text (`rougeL`) or
            line by line (`rougeLsum`).
        stem: whether words are stemmed.
    """
    texts = _reference_texts(references)
    if kind not in get_args(Rouge):
        raise SteelyardError(f"kind is {kind!r}; it is one of {get_args(Rouge)}")
    return float(_rouge((kind,), stem).score_multi(list(texts), _answer(completion))[kind].fmeasure)


def word_error_rate(reference: str, hypothesis: str) -> float:
    """(substitutions + insertions + deletions) / max(1, words of the reference); 0 is equal, it may exceed 1."""
    words = reference.split()
    return Levenshtein.distance(words, hypothesis.split()) / max(1, len(words))


def rouge_mean(reference: str, hypothesis: str) -> float:
    """Mean F-measure of ROUGE-1, ROUGE-2 and ROUGE-L with stemming, in [0, 1]."""
    scores = _rouge(("rouge1", "rouge2", "rougeL"), True).score(reference, hypothesis)
    return float(sum(score.fmeasure for score in scores.values()) / len(scores))


@functools.cache
def _rouge(kinds: tuple[str, ...], stem: bool) -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(list(kinds), use_stemmer=stem)
