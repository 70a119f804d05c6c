"""Given texts as tokens, with where every token stands in its text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from steelyard.types import Array, SteelyardError

ROWS_AT_ONCE = 64
"""Texts that go through the model together; those of one prompt lie beside each other and share its cache."""


class Tokenised(NamedTuple):
    """Tokens int64 [N, T], which of them are no padding bool [N, T], and their characters int64 [N, T, 2]."""

    tokens: Array
    mask: Array
    offsets: Array


def tokenise(tokenizer: Any, texts: Sequence[str]) -> Tokenised:
    """Every text as tokens without any added ones, right-padded to the longest.

    Raises:
        SteelyardError: for a tokenizer that cannot tell where its tokens stand.
    """
    if not getattr(tokenizer, "is_fast", False):
        name = type(tokenizer).__name__
        raise SteelyardError(f"the tokenizer {name} cannot tell where its tokens stand; load its fast version")
    found = tokenizer(list(texts), add_special_tokens=False, return_offsets_mapping=True)
    lengths = np.array([len(ids) for ids in found["input_ids"]], np.int64)
    mask = np.arange(max(1, lengths.max(initial=0))) < lengths[:, None]
    tokens, offsets = np.zeros(mask.shape, np.int64), np.zeros((*mask.shape, 2), np.int64)
    if lengths.any():
        tokens[mask] = np.concatenate([np.asarray(ids, np.int64) for ids in found["input_ids"] if len(ids)])
        offsets[mask] = np.concatenate([np.asarray(places).reshape(-1, 2) for places in found["offset_mapping"]])
    return Tokenised(tokens, mask, offsets)


def pieces(owner: Array, rows_at_once: int) -> list[Array]:
    """Row numbers [N] cut into pieces, the rows of one prompt beside each other."""
    order = np.argsort(owner, kind="stable")
    return [order[start : start + rows_at_once] for start in range(0, len(order), rows_at_once)]
