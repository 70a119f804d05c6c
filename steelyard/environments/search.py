"""A search tool over a local corpus: passages by BM25, put behind the step that asked."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from steelyard.rewards.agent_steps import read_agent_step
from steelyard.types import Sample, SteelyardError

_OUR_TAGS = re.compile(r"</?\s*(?:think|search|answer|information)\s*>", re.IGNORECASE)

NO_ACTION = (
    "<information>That was neither a search nor an answer: write one <search> query </search> or one "
    "<answer> answer </answer> at the end.</information>\n"
)
"""What a step without an action brings."""


class Found(NamedTuple):
    """One passage: its place in the corpus, its text, and its BM25 score."""

    place: int
    text: str
    score: float


class Passages:
    """A corpus that can be searched by BM25 (Lucene's form, by bm25s).

    score(q, d) = Σ_{w ∈ q} ln(1 + (N − n_w + ½) / (n_w + ½)) · f_wd / (f_wd + k₁(1 − b + b |d| / mean |d|)), over words
    in lower case without English stop words; N passages, n_w of them with w, f_wd times in d.

    Args:
        texts: the passages.
        k1, b: how fast a word's repetition stops to count, and how much a long passage is held back.

    Raises:
        SteelyardError: for no passages, one that is no text, or no word in any of them.
    """

    def __init__(self, texts: Sequence[str], *, k1: float = 1.5, b: float = 0.75) -> None:
        import bm25s

        self.texts = list(texts)
        wrong = next((i for i, text in enumerate(self.texts) if not isinstance(text, str)), None)
        if not self.texts or wrong is not None:
            what = "a corpus has no passages" if wrong is None else f"passage {wrong} is no text"
            raise SteelyardError(f"{what}; give a list of texts, at least one")
        words = bm25s.tokenize(self.texts, stopwords="en", show_progress=False)
        if not any(len(ids) for ids in words.ids):
            raise SteelyardError("no passage holds a word that can be searched; give texts with words")
        self._index = bm25s.BM25(method="lucene", k1=k1, b=b)
        self._index.index(words, show_progress=False)

    @classmethod
    def from_jsonl(cls, path: str | Path) -> Passages:
        """Passages of a JSONL file: rows with `text`, and `title` where there is one, which is put before it.

        Raises:
            SteelyardError: naming the line that is no such row.
        """
        rows = []
        with Path(path).open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    rows.append(_passage(line, f"{path}, line {number}"))
        return cls(rows)

    def __len__(self) -> int:
        return len(self.texts)

    def __repr__(self) -> str:
        return f"Passages({len(self.texts)})"

    def search(self, queries: Sequence[str], k: int = 3) -> list[list[Found]]:
        """The k best passages of each query, best first; fewer where fewer share a word with it.

        Raises:
            SteelyardError: for k below 1.
        """
        import bm25s

        if k < 1:
            raise SteelyardError(f"{k} passages were asked for; ask for at least 1")
        if not queries:
            return []
        words = bm25s.tokenize(list(queries), stopwords="en", return_ids=False, show_progress=False)
        places, scores = self._index.retrieve(words, k=min(k, len(self)), show_progress=False)
        return [self._found(*row) for row in zip(places, scores, strict=True)]

    def _found(self, places: np.ndarray, scores: np.ndarray) -> list[Found]:
        order = np.lexsort((places, -scores))
        return [Found(int(places[i]), self.texts[int(places[i])], float(scores[i])) for i in order if scores[i] > 0]


def _passage(line: str, where: str) -> str:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise SteelyardError(f"{where} is no JSON ({error}); give one object a line") from None
    if not isinstance(row, dict) or not isinstance(row.get("text"), str):
        raise SteelyardError(f"{where} has no text; give an object with `text`, and `title` if you like")
    return f"{row['title']}: {row['text']}" if row.get("title") else str(row["text"])


class SearchTool:
    """Answers `<search> query </search>` with the best passages; `<answer> … </answer>` ends the attempt.

    A passage cannot speak as the policy: tags that mean something are taken out of it. A step with neither action is
    told so (`NO_ACTION`) and the attempt goes on.

    Args:
        passages: the corpus.
        k: how many of them a query brings.
        limit: characters of an observation, its tags not counted.

    Source: sheet 67 (top 3, 500 tokens).
    """

    def __init__(self, passages: Passages, *, k: int = 3, limit: int = 2000) -> None:
        if k < 1 or limit < 1:
            raise SteelyardError(f"a search tool with k={k} and limit={limit} brings nothing; both must be at least 1")
        self.passages, self.k, self.limit = passages, k, limit

    def __repr__(self) -> str:
        return f"SearchTool({self.passages!r}, k={self.k}, limit={self.limit})"

    def __call__(self, samples: Sequence[Sample], steps: Sequence[str]) -> list[str | None]:
        """The passages that each step asked for; None where it answers. See `Environment`."""
        read = [read_agent_step(step) for step in steps]
        asking = [i for i, step in enumerate(read) if step.action == "search"]
        found = self.passages.search([read[i].text for i in asking], self.k)
        brought: dict[int, str] = {i: self._shown(hits) for i, hits in zip(asking, found, strict=True)}
        return [None if step.action == "answer" else brought.get(i, NO_ACTION) for i, step in enumerate(read)]

    def _shown(self, hits: Sequence[Found]) -> str:
        lines = "\n".join(f"[{i}] {_without_tags(hit.text)}" for i, hit in enumerate(hits, 1))
        return f"<information>{lines[: self.limit] or 'nothing was found'}</information>\n"


def _without_tags(text: str) -> str:
    """The text without tags that mean something, those that appear when others are taken out included."""
    while (shorter := _OUR_TAGS.sub("", text)) != text:
        text = shorter
    return text
