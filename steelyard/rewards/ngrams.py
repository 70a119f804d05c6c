"""Words as mteval-v13a cuts them, and clipped n-gram matches of many texts at once: what BLEU's variants rest on."""

from __future__ import annotations

import itertools
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from steelyard.types import Array

ORDER = 4
"""BLEU's longest n-gram."""

BLOCK = 256
"""How many groups of rows are counted together."""

_PIECES = re.compile(r"[.,{-~[-` -&(-+:-@/]|[^.,{-~[-` -&(-+:-@/\n]+|\n")
"""What words without a digit fall into."""
_NUMBERS = (
    (re.compile(r"(?=[{-~[-` -&(-+:-@/])|(?<=[{-~[-` -&(-+:-@/])"), " "),
    (re.compile(r"([^0-9])([.,])"), r"\1 \2 "),
    (re.compile(r"([.,])([^0-9])"), r" \1 \2"),
    (re.compile(r"(?<=[0-9])(?=-)|(?<=[0-9]-)"), " "),
)
"""13a's rules in turn; the two in the middle eat the character beside, so that `..5` keeps `.5`."""
_DIGIT = re.compile(r"[0-9]")
_ENTITIES = (("&quot;", '"'), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">"))


@dataclass(frozen=True, eq=False)
class Matches:
    """What completions share with their references.

    Attributes:
        matches: int64 [N, 4], clipped matches of n = 1…4: Σ over n-grams of min(count here, most in one reference).
        lengths: int64 [N], words of each completion.
        references: int64 [N, R], words of each reference; −1 where a row has fewer than R.
    """

    matches: Array
    lengths: Array
    references: Array


def tokens_13a(text: str) -> list[str]:
    """The words of a text as mteval-v13a and sacrebleu cut them."""
    cut = map(_cut, ([word] for word in _words(text)))
    return [token for tokens in cut for token in tokens if token != "\n"]


def _words(text: str) -> list[str]:
    text = text.rstrip().replace("<skipped>", "").replace("-\n", "")
    if "&" in text:
        text = text.replace("\n", " ")
        for entity, character in _ENTITIES:
            text = text.replace(entity, character)
    return text.split()


def _cut(words: Sequence[str]) -> list[str]:
    """The tokens of words without white space, a line break behind each word's. No rule reaches across white space.

    Words without a digit come first, each kind in its order.
    """
    numbers = list(filter(_DIGIT.search, words))
    others = [word for word in words if not _DIGIT.search(word)]
    text = "".join(f" {word} \n" for word in numbers)
    for pattern, replacement in _NUMBERS:
        text = pattern.sub(replacement, text)
    tokens = _PIECES.findall("\n".join([*others, ""]))
    return tokens + [token for line in text.split("\n")[:-1] for token in (*line.split(), "\n")]


def clipped_matches(completions: Sequence[str], references: Sequence[tuple[str, ...]]) -> Matches:
    """Matches of n-grams of 1 to 4 words of the tokenizer 13a.

    Every distinct text is cut once, and n-grams of rows that share their references are counted once.

    Args:
        completions: texts [N].
        references: one text or more for each [N].
    """
    groups: dict[tuple[str, ...], list[int]] = {}
    for row, given in enumerate(references):
        groups.setdefault(given, []).append(row)
    most = max(map(len, groups), default=1)
    n = len(completions)
    result = Matches(np.zeros((n, ORDER), np.int64), np.zeros(n, np.int64), np.full((n, most), -1))
    for block in _blocks(list(groups.items())):
        rows = np.array([row for _, members in block for row in members])
        sizes = [len(members) for _, members in block]
        texts = [completions[row] for row in rows]
        found = _matches_of(texts, np.repeat(np.arange(len(block)), sizes), [golds for golds, _ in block])
        result.matches[rows], result.lengths[rows] = found.matches, found.lengths
        result.references[rows, : found.references.shape[1]] = found.references
    return result


def _blocks(items: list[tuple[tuple[str, ...], list[int]]]) -> Iterator[list[tuple[tuple[str, ...], list[int]]]]:
    for start in range(0, len(items), BLOCK):
        yield items[start : start + BLOCK]


def _matches_of(completions: Sequence[str], group: Array, references: Sequence[tuple[str, ...]]) -> Matches:
    """Matches of rows with their group's references; `group` [N] is sorted."""
    gold = [text for texts in references for text in texts]
    counts = [len(texts) for texts in references]
    owner = np.repeat(np.arange(len(references)), counts)
    ids, length, where = _numbered([*gold, *completions])
    theirs, ours = (_Rows.of(ids, length, part) for part in (where[: len(gold)], where[len(gold) :]))
    vocabulary = _renumber(theirs.ids, ours.ids)
    lengths = np.full((len(references), max(counts)), -1)
    lengths[owner, np.arange(len(gold)) - np.repeat(np.cumsum(counts) - counts, counts)] = theirs.lengths
    return Matches(_count(theirs, owner, ours, group, vocabulary), ours.lengths, lengths[group])


def _renumber(theirs: Array, ours: Array) -> int:
    """Number the references' words from 0, in place, and all others −1: they end every n-gram that could match."""
    known = np.zeros(max(int(theirs.max(initial=0)), int(ours.max(initial=0))) + 2, np.int64)
    known[theirs[theirs >= 0]] = 1
    number = np.where(known, np.cumsum(known) - 1, -1)
    theirs[:], ours[:] = number[theirs], number[ours]
    return int(known.sum()) or 1


@dataclass(eq=False)
class _Rows:
    """Texts one behind the other: `ids` with −1 behind each and `ORDER` of them at the end, each place's row."""

    ids: Array
    rows: Array
    lengths: Array

    @staticmethod
    def of(ids: Array, length: Array, texts: Array) -> _Rows:
        """Of the given texts among all, by their number."""
        start = (np.cumsum(length) - length)[texts]
        size = length[texts]
        rows = np.repeat(np.arange(len(texts)), size + 1)
        ends = np.cumsum(size + 1)
        place = np.arange(int(size.sum()) + len(texts)) + np.repeat(start - (ends - size - 1), size + 1)
        place[ends - 1] = len(ids)
        extended = np.append(ids, -1)[place]
        return _Rows(np.append(extended, [-1] * ORDER), rows, size)


def _numbered(texts: Sequence[str]) -> tuple[Array, Array, Array]:
    """Tokens' numbers of all distinct texts in a line, how many each has, and each text's place among them."""
    place: dict[str, int] = {}
    where = np.array([place.setdefault(text, len(place)) for text in texts], np.int64)
    lines = list(map(_words, place))
    number: defaultdict[str, int] = defaultdict(itertools.count().__next__)
    words = np.fromiter(map(number.__getitem__, itertools.chain.from_iterable(lines)), np.int64)
    tokens, start, count = _tokens_of(number)
    size = count[words]
    ends = np.cumsum(size)
    ids = tokens[np.arange(int(size.sum())) + np.repeat(start[words] - ends + size, size)]
    of_text = np.concatenate([[0], np.cumsum(list(map(len, lines)))])
    return ids, np.diff(np.append(0, ends)[of_text]), where


def _tokens_of(number: defaultdict[str, int]) -> tuple[Array, Array, Array]:
    """Numbers of the tokens of numbered words; where each word's begin, and how many they are.

    A word of letters alone is its own token.
    """
    many = len(number)
    special = [word for word in number if not word.isalpha()]
    special.sort(key=lambda word: _DIGIT.search(word) is not None)
    which = np.fromiter(map(number.__getitem__, special), np.int64, len(special))
    pieces = np.fromiter(map(number.__getitem__, _cut(special)), np.int64)
    ends = (pieces == number["\n"]).nonzero()[0]
    start, count = np.arange(many), np.ones(many, np.int64)
    start[which] = many + np.append(0, ends + 1)[:-1]
    count[which] = np.diff(ends, prepend=-1) - 1
    return np.append(np.arange(many), pieces), start, count


def _count(theirs: _Rows, owner: Array, ours: _Rows, group: Array, width: int) -> Array:
    """int64 [N, 4]. The number of an n-gram is looked up by that of its first n − 1 words and its last word, so that
    only places where the shorter n-gram stood in a reference are looked at again. The first look-up is by group."""
    matches = np.zeros((len(group), ORDER), np.int64)
    at, here = ((rows.ids >= 0).nonzero()[0] for rows in (theirs, ours))
    state, found = owner[theirs.rows[at]], group[ours.rows[here]]
    groups = np.arange(int(owner[-1]) + 2)
    of_ngram = groups
    for n in range(ORDER):
        at, codes = _extended(theirs.ids, at, state, n, width)
        here, wanted = _extended(ours.ids, here, found, n, width)
        distinct, state = np.unique(codes, return_inverse=True)
        if not len(distinct):
            break
        of_ngram = of_ngram[distinct // width]
        here, found = _looked_up(distinct, here, wanted, table=width * len(groups) if n == 0 else 0)
        first = np.searchsorted(of_ngram, groups)
        most = np.zeros(len(distinct), np.int64)
        ngram, counts, _ = _tally(theirs.rows[at], state, owner, first)
        np.maximum.at(most, ngram, counts)
        ngram, counts, ends = _tally(ours.rows[here], found, group, first)
        total = np.append(0, np.cumsum(np.minimum(counts, most[ngram])))
        matches[:, n] = np.diff(total[np.append(0, ends)])
    return matches


def _extended(ids: Array, at: Array, state: Array, n: int, width: int) -> tuple[Array, Array]:
    """Places whose n-th next word is in a reference, and the codes of the n-grams that are one word longer."""
    following = ids[at + n]
    kept = (following >= 0).nonzero()[0]
    return at[kept], state[kept] * width + following[kept]


def _looked_up(distinct: Array, here: Array, wanted: Array, *, table: int) -> tuple[Array, Array]:
    """The places whose code is among the distinct ones, and which it is; single words have a table to look into."""
    if table:
        index = np.full(table, -1, np.int32)
        index[distinct] = np.arange(len(distinct))
        places = index[wanted].astype(np.int64)
        hit = (places >= 0).nonzero()[0]
    else:
        places = np.searchsorted(distinct, wanted)
        hit = (distinct[np.minimum(places, len(distinct) - 1)] == wanted).nonzero()[0]
    return here[hit], places[hit]


def _tally(rows: Array, found: Array, group: Array, first: Array) -> tuple[Array, Array, Array]:
    """Every row's counts of its group's n-grams, one row behind the other: n-grams' numbers, counts, each row's end."""
    width = np.diff(first)[group]
    ends = np.cumsum(width)
    offset = first[:-1][group] - ends + width
    counts = np.bincount(found - offset[rows], minlength=int(ends[-1]) if len(ends) else 0)
    return np.arange(len(counts)) + np.repeat(offset, width), counts, ends
