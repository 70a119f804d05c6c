"""Words as mteval-v13a cuts them, and clipped n-gram matches of many texts at once: what BLEU's variants rest on."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from steelyard.types import Array

ORDER = 4
"""BLEU's longest n-gram."""

BLOCK = 64
"""How many groups of rows are counted together: what they need should stay in the processor's cache."""

_ENTITIES = (("&quot;", '"'), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">"))
_ZERO, _END = b"\xfe", b"\xff"
"""Bytes that UTF-8 never has: one stands for the character 0, one behind each text."""
_PAD = b" " * 8
_WORD, _DIGIT, _DASH, _DOT, _SYMBOL, _SPACE = range(6)


def _kinds() -> Array:
    """uint8 [256], what 13a takes each byte of UTF-8 for; from dots on a byte is a token by itself."""
    kinds = np.full(256, _WORD, np.uint8)
    for kind, given in (
        (_SYMBOL, bytes(range(32, 127)) + _END),
        (_WORD, b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ'"),
        (_DIGIT, b"0123456789"),
        (_DASH, b"-"),
        (_DOT, b".,"),
        (_SPACE, b" \t\n\v\f\r\x1c\x1d\x1e\x1f"),
    ):
        kinds[list(given)] = kind
    return kinds


_KIND = _kinds()
_LOW = np.array([2 ** (8 * n) - 1 for n in range(9)], np.uint64)
"""The n lowest bytes of eight."""
_FACTOR = np.uint64(0x9E3779B97F4A7C15)
"""2^64 over the golden ratio: its multiples spread well (Knuth)."""


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
    line, first, stop = _cut([text])
    spans = zip(first[:-1].tolist(), stop.tolist(), strict=False)
    return [line[a:b].replace(_ZERO, b"\0").decode("utf-8", "surrogatepass") for a, b in spans]


def _cut(texts: Sequence[str]) -> tuple[bytes, Array, Array]:
    """The texts in one line of bytes, and where its tokens start and stop; `_END` behind each text is a token too."""
    line = b"".join([_encoded(text) for text in texts]).replace(b"\0", _ZERO) + _PAD
    kind = _KIND[np.frombuffer(line, np.uint8)]
    alone = kind >= _DOT
    starts = alone.copy()
    starts[1:] |= alone[:-1]
    starts[0] = True
    _keep_numbers(kind, starts)
    first = starts.nonzero()[0]
    kept = (kind[first] != _SPACE).nonzero()[0]
    return line, first[kept], first[kept + 1]


def _encoded(text: str) -> bytes:
    """What 13a leaves of a text, without white space outside ASCII."""
    text = text.rstrip().replace("<skipped>", "").replace("-\n", "")
    if "&" in text:
        for entity, character in _ENTITIES:
            text = text.replace(entity, character)
    if not text.isascii():
        text = " ".join(text.split())
    return text.encode("utf-8", "surrogatepass") + _END


def _keep_numbers(kind: Array, starts: Array) -> None:
    """13a's rules beside digits: `3.5` stays whole, `5-` is cut, and of dots in a row before a digit the last stays
    with it unless the rule for what stands before dots, which takes every second of them, cuts it off."""
    digit, dot = kind == _DIGIT, kind == _DOT
    dashes = (digit[:-1] & (kind[1:] == _DASH)).nonzero()[0] + 1
    starts[dashes] = starts[dashes + 1] = True
    last = (dot[:-1] & digit[1:]).nonzero()[0]
    begins = (dot & ~np.roll(dot, 1)).nonzero()[0]
    begin = begins[np.searchsorted(begins, last, "right") - 1]
    behind_digit, many = digit[begin - 1], last - begin + 1
    starts[last[behind_digit & (many == 1)]] = False
    starts[last[(many + behind_digit) % 2 == 0] + 1] = False


def clipped_matches(completions: Sequence[str], references: Sequence[tuple[str, ...]]) -> Matches:
    """Matches of n-grams of 1 to 4 words of the tokenizer 13a.

    N-grams of references that rows share are counted once.

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
    keys = _keys(*_cut([*gold, *completions]))
    ends = (keys == _END[0]).nonzero()[0]
    split = int(ends[len(gold) - 1]) + 1
    theirs, ours = _Rows.of(keys[:split], ends[: len(gold)], owner), _Rows.of(keys[split:], ends[len(gold) :], group)
    lengths = np.full((len(references), max(counts)), -1)
    lengths[owner, np.arange(len(gold)) - np.repeat(np.cumsum(counts) - counts, counts)] = theirs.lengths
    return Matches(_count(theirs, ours), ours.lengths, lengths[group])


def _keys(line: bytes, first: Array, stop: Array) -> Array:
    """uint64, a number for each token: its bytes up to eight; `_END` as first byte and a number for a longer one."""
    eight = np.ndarray(len(line) - 7, np.dtype("<u8"), line, strides=(1,))
    size = stop - first
    keys = eight[first] & _LOW[np.minimum(size, 8)]
    long = (size > 8).nonzero()[0]
    number: defaultdict[bytes, int] = defaultdict(itertools.count(2 * _END[0] + 1, 256).__next__)
    keys[long] = [number[line[a:b]] for a, b in zip(first[long].tolist(), stop[long].tolist(), strict=True)]
    return keys


@dataclass(eq=False)
class _Rows:
    """Texts one behind the other: the keys of their tokens with `_END` behind each, each place's row, rows' groups."""

    keys: Array
    rows: Array
    group: Array
    lengths: Array

    @staticmethod
    def of(keys: Array, ends: Array, group: Array) -> _Rows:
        """`ends` [rows] says where texts end, counted from any place."""
        sizes = np.diff(ends, prepend=ends[-1] - len(keys) if len(ends) else 0)
        return _Rows(keys, np.repeat(np.arange(len(ends)), sizes), group, sizes - 1)


def _count(theirs: _Rows, ours: _Rows) -> Array:
    """int64 [N, 4]. An n-gram's number is looked up by that of its first n − 1 words and its last word's, so that only
    places where the shorter n-gram stood in a reference are looked at again."""
    matches = np.zeros((len(ours.group), ORDER), np.int64)
    groups = np.arange(int(theirs.group[-1]) + 2)
    their_words, our_words, of_word = _numbered(theirs, ours)
    at, here = ((words >= 0).nonzero()[0] for words in (their_words, our_words))
    state, found, of_ngram = their_words[at], our_words[here], of_word
    for n in range(ORDER):
        if n:
            at, codes = _extended(their_words, at, state, n, len(of_word))
            here, wanted = _extended(our_words, here, found, n, len(of_word))
            distinct, state = np.unique(codes, return_inverse=True)
            found = _looked_up(distinct, wanted)
            hit = (found >= 0).nonzero()[0]
            here, found = here[hit], found[hit]
            of_ngram = of_ngram[distinct // max(1, len(of_word))]
        first = np.searchsorted(of_ngram, groups)
        most = np.zeros(len(of_ngram), np.int64)
        ngram, counts, _ = _tally(theirs, at, state, first)
        np.maximum.at(most, ngram, counts)
        ngram, counts, ends = _tally(ours, here, found, first)
        total = np.append(0, np.cumsum(np.minimum(counts, most[ngram])))
        matches[:, n] = np.diff(total[np.append(0, ends)])
    return matches


def _numbered(theirs: _Rows, ours: _Rows) -> tuple[Array, Array, Array]:
    """Words' numbers in their own group's references, −1 for others and behind a text; and each number's group."""
    vocabulary, ids = np.unique(theirs.keys, return_inverse=True)
    real = (theirs.keys != _END[0]).nonzero()[0]
    width = len(vocabulary)
    codes = theirs.group[theirs.rows[real]] * width + ids[real]
    distinct, states = np.unique(codes, return_inverse=True)
    theirs_found = np.full(len(ids) + ORDER, -1)
    theirs_found[real] = states
    known = _looked_up(vocabulary, ours.keys)
    wanted = np.where((known >= 0) & (ours.keys != _END[0]), ours.group[ours.rows] * width + known, -1)
    found = np.append(_looked_up(distinct, wanted), [-1] * ORDER)
    return theirs_found, found, distinct // width


def _extended(words: Array, at: Array, state: Array, n: int, width: int) -> tuple[Array, Array]:
    """Places whose n-th next word is in a reference, and the codes of the n-grams that are one word longer."""
    following = words[at + n]
    kept = (following >= 0).nonzero()[0]
    return at[kept], state[kept] * width + following[kept]


def _looked_up(distinct: Array, wanted: Array) -> Array:
    """int64 [len(wanted)], where each stands among the distinct ones, in ascending order, or −1.

    A hash table says it for nearly all; those that share a place with another one are searched for.
    """
    if not len(distinct):
        return np.full(len(wanted), -1)
    bits = len(distinct).bit_length() + 3
    table = np.full(1 << bits, -1)
    table[_spread(distinct, bits)] = np.arange(len(distinct))
    found = table[_spread(wanted, bits)]
    wrong = ((found >= 0) & (distinct[found] != wanted)).nonzero()[0]
    place = np.minimum(np.searchsorted(distinct, wanted[wrong]), len(distinct) - 1)
    found[wrong] = np.where(distinct[place] == wanted[wrong], place, -1)
    return found


def _spread(codes: Array, bits: int) -> Array:
    """The upper bits of each code times a large odd number, modulo 2^64."""
    return ((codes.view(np.uint64) * _FACTOR) >> np.uint64(64 - bits)).view(np.int64)


def _tally(texts: _Rows, at: Array, found: Array, first: Array) -> tuple[Array, Array, Array]:
    """Every row's counts of its group's n-grams, one row behind the other: n-grams' numbers, counts, each row's end."""
    width = np.diff(first)[texts.group]
    ends = np.cumsum(width)
    offset = first[:-1][texts.group] - ends + width
    counts = np.bincount(found - offset[texts.rows[at]], minlength=int(ends[-1]) if len(ends) else 0)
    return np.arange(len(counts)) + np.repeat(offset, width), counts, ends
