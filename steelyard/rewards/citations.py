"""Rewards for citations: markers like `[1]` or `[doc2]` against the sources, and quotations against their texts."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from steelyard.rewards.core import reward
from steelyard.rewards.golds import listed
from steelyard.types import Status, SteelyardError, Verdict

_MARKER = re.compile(r"\[\s*([\w.:–-]{1,40}(?:\s*[,;]\s*[\w.:–-]{1,40}){0,30})\s*\](?!\()")
_LINK = re.compile(
    r"\[\d{1,4}\]\((?:view-source:)?(https?://[^\s()]{1,2000}(?:\([^\s()]{0,200}\)[^\s()]{0,500}){0,9})\)"
)
_READER = re.compile(r"https?://r\.jina\.ai/(?=https?://)")
_RANGE = re.compile(r"(\d{1,4})\s*[-–]\s*(\d{1,4})")
_MARKS = r"((?:\s*\[[^\]\n]{1,80}\])*)"
_SENTENCE = re.compile(
    rf"(?<=[.!?])(?:[\"”’»)]*){_MARKS}(?:\s+(?=[^a-z])|\s*$)|(?<=[。！？])(?:[”’」』»)）]*){_MARKS}\s*"
)
_ABBREVIATED = re.compile(r"(?:\b(?:Dr|Mr|Mrs|Ms|Prof|St|vs|cf|Fig|Eq|al|e\.g|i\.e|approx)|(?<![\w.])[A-Z])\.\s+$")
_QUOTE = re.compile(r"\"([^\"\n]{1,2000})\"|“([^“”]{1,2000})”|«([^«»]{1,2000})»")
_WORD = re.compile(r"\w")

Sources = Mapping[str, str] | Sequence[str]


def cited(text: str) -> list[str]:
    """The sources that a text cites, each once, in order: `[1]`, `[doc2]`, `[1, 3]`, `[2-4]`; not links `[a](b)`."""
    names: dict[str, None] = {}
    for marker in _MARKER.findall(text):
        for name in re.split(r"\s*[,;]\s*", marker):
            span = _RANGE.fullmatch(name)
            low, high = map(int, span.groups()) if span else (1, 0)
            many = [str(i) for i in range(low, high + 1)] if low <= high < low + 100 else [name]
            names.update(dict.fromkeys(many))
    return list(names)


def cited_urls(text: str) -> list[str]:
    """The addresses that a text cites as `[1](https://…)`, each once, in order, whatever stands behind the link.

    An address may hold brackets in pairs; `view-source:` and a reading service's prefix (`https://r.jina.ai/`) are cut
    off.

    Source: sheet 56, whose released pattern loses a citation before a full stop or a space.
    """
    return list(dict.fromkeys(_READER.sub("", url) for url in _LINK.findall(text)))


def _named(sources: Sources) -> dict[str, str]:
    """Names to texts; a list's sources are numbered from 1."""
    sources = listed(sources)
    if isinstance(sources, str) or not isinstance(sources, (Mapping, Sequence)):
        raise SteelyardError(f"sources are {sources!r:.60}; give a mapping of name to text, or a list of texts")
    named = dict(sources) if isinstance(sources, Mapping) else {str(i): text for i, text in enumerate(sources, 1)}
    return {str(name): text for name, text in named.items()}


def _gold(relevant: Sequence[Any]) -> set[str]:
    relevant = listed(relevant)
    if isinstance(relevant, str) or not isinstance(relevant, (Sequence, set, frozenset)):
        raise SteelyardError(f"relevant is {relevant!r:.60}; give a list of the sources' names, as ['1', 'doc2']")
    return {str(name) for name in relevant}


@reward
def citation_precision(completion: str, relevant: Sequence[Any]) -> float:
    """The share of cited sources that are among the relevant ones; 0 where nothing is cited.

    `relevant`: names as in the markers. To allow every source that was shown, give all their names.
    """
    ours = cited(completion)
    return sum(name in _gold(relevant) for name in ours) / len(ours) if ours else 0.0


@reward
def citation_recall(completion: str, relevant: Sequence[Any]) -> float | Verdict:
    """The share of relevant sources that are cited; not applicable (NaN) where none is relevant."""
    gold = _gold(relevant)
    if not gold:
        return Verdict(float("nan"), Status.NOT_APPLICABLE, "no source is relevant")
    return len(gold & set(cited(completion))) / len(gold)


@reward
def citation_f1(completion: str, relevant: Sequence[Any]) -> float:
    """2 · right / (cited + relevant), the harmonic mean of precision and recall; 1 where both are empty."""
    gold, ours = _gold(relevant), set(cited(completion))
    return 2 * len(gold & ours) / (len(gold) + len(ours)) if gold or ours else 1.0


@reward
def sentences_cited(completion: str, sources: Sources | None = None) -> float:
    """The share of sentences with at least one marker, of a source that exists where `sources` are given.

    Where a row's `sources` are an empty list, no marker is right. A marker behind the full stop belongs to the sentence
    before it. 0 for a text without a sentence.
    """
    known = None if sources is None else set(_named(sources))
    marks = [set(cited(sentence)) for sentence in sentences(completion)]
    return sum(bool(mark if known is None else mark & known) for mark in marks) / len(marks) if marks else 0.0


def sentences(text: str) -> list[str]:
    """Sentences with their markers: cut at line breaks and behind `.`, `!` or `?` before white space.

    Not before a small letter, and not behind an initial or an abbreviation that is known (`Dr.`, `Fig.`, `e.g.`, …).
    """
    found = []
    for line in text.splitlines():
        start = 0
        for stop in _SENTENCE.finditer(line):
            if _ABBREVIATED.search(line, max(0, stop.start() - 8), stop.end()):
                continue
            found.append(line[start : stop.end()].strip())
            start = stop.end()
        found.append(line[start:].strip())
    return [sentence for sentence in found if _WORD.search(_MARKER.sub("", sentence))]


@reward
def quotes_found(completion: str, sources: Sources, *, shortest: int = 3) -> float | Verdict:
    """The share of quotations of at least `shortest` words that stand in a source as whole words, whatever their case.

    A quotation followed by markers must stand in one of the sources that they name; others may stand in any. A
    completion without a quotation is not applicable (NaN).
    """
    given = _named(sources)
    if wrong := next((name for name, text in given.items() if not isinstance(text, str)), None):
        raise SteelyardError(f"source {wrong!r} is {given[wrong]!r:.60}; give its text")
    texts = {name: _plain(text) for name, text in given.items()}
    right = []
    for found in _QUOTE.finditer(completion):
        words = _plain(next(filter(None, found.groups()))).rstrip(".,;:!?")
        if len(words.split()) < shortest:
            continue
        behind = re.match(r"[.,;:]?(?:\s*\[[^\]\n]{1,80}\])+", completion[found.end() : found.end() + 400])
        names = cited(behind.group()) if behind else list(texts)
        whole = re.compile(rf"(?<![a-z0-9]){re.escape(words)}(?![a-z0-9])")
        right.append(any(whole.search(texts.get(name, "")) for name in names))
    if not right:
        return Verdict(float("nan"), Status.NOT_APPLICABLE, "nothing is quoted")
    return sum(right) / len(right)


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())
