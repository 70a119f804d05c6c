"""Key-value caches: a prompt's keys shared by its group while decoding, and copied row by row for training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn import functional as F
from transformers import AttentionInterface, Cache
from transformers.cache_utils import DynamicLayer

SHARED = "steelyard_shared"
"""The name under which transformers finds `shared_attention`."""


class RoomyLayer(DynamicLayer):
    """A layer's keys and values [R, heads, t, D] in a buffer with room for more; it doubles when it is full.

    Args:
        like: [any, heads, any, D], for size and type.
        rows: R.
        room: tokens that the first buffer holds.
    """

    keys: torch.Tensor
    values: torch.Tensor

    def __init__(self, like: torch.Tensor, rows: int, room: int) -> None:
        super().__init__()
        self.lazy_initialization(like, like)
        self.keys = self.values = like.new_empty((rows, like.shape[1], 0, like.shape[3]))
        self._move(slice(None), room)

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write the new keys and values [R, heads, s, D] behind the old; all of them are returned."""
        start = self.keys.shape[-2]
        end = start + key_states.shape[-2]
        if end > self._buffers[0].shape[-2]:
            self._move(slice(None), 2 * end)
        for buffer, states in zip(self._buffers, (key_states, value_states), strict=True):
            buffer[:, :, start:end] = states
        self._show(end)
        return self.keys, self.values

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Keep the given rows."""
        self._move(indices, self._buffers[0].shape[-2])

    def _move(self, rows: torch.Tensor | slice, room: int) -> None:
        """Take the rows into buffers of another size."""
        known = self.keys.shape[-2]
        kept = [states[rows] for states in (self.keys, self.values)]
        self._buffers = [states.new_empty((*states.shape[:2], room, states.shape[3])) for states in kept]
        for buffer, states in zip(self._buffers, kept, strict=True):
            buffer[:, :, :known] = states
        self._show(known)

    def _show(self, known: int) -> None:
        self.keys, self.values = (buffer[:, :, :known] for buffer in self._buffers)


class SharedPrompts:
    """The caches of B prompts, each serving n rows, of which R still run.

    Args:
        cache: of the prompts, layer by layer [B, heads, P, D].
        mask: bool [B, P], the places that are no padding.
        attempts: n.
    """

    def __init__(self, cache: Cache, mask: torch.Tensor, attempts: int) -> None:
        self.layers = [(layer.keys, layer.values) for layer in cache.layers]
        self.hidden = None if bool(mask.all()) else ~mask[:, None, None, :]
        self.prompts, self.length = mask.shape
        self.attempts = attempts
        self.slots: torch.Tensor | None = None

    def keep(self, slots: torch.Tensor) -> None:
        """Only the rows of these slots, of the B · n, still run."""
        self.slots = slots

    def spread(self, rows: torch.Tensor) -> torch.Tensor:
        """[R, heads, G, X] to [B, heads, n · G, X], zero where a row no longer runs."""
        if self.slots is not None:
            places = rows.new_zeros(self.prompts * self.attempts, *rows.shape[1:])
            rows = places.index_copy(0, self.slots, rows)
        return rows.unflatten(0, (self.prompts, self.attempts)).transpose(1, 2).flatten(2, 3)

    def gather(self, states: torch.Tensor) -> torch.Tensor:
        """The inverse of `spread`."""
        rows = states.unflatten(2, (self.attempts, -1)).transpose(1, 2).flatten(0, 1)
        return rows if self.slots is None else rows[self.slots]


def shared_attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float,
    shared: SharedPrompts,
    sliding_window: int | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attention of one new token a row: to its prompt, whose keys all its rows read together, and to its own past.

    Args:
        module: the attention layer, for its index.
        query: [R, H, 1, D].
        key, value: [R, heads, t, D], of the completion only.
        attention_mask: unused; the prompts carry their own.
        scaling: of the scores.
        shared: the prompts.
        sliding_window: how far back this layer looks.

    Returns:
        [R, 1, H, D], as transformers expects.
    """
    heads, dim = key.shape[1], query.shape[-1]
    queries = (query * scaling).view(len(query), heads, -1, dim)
    prompt_keys, prompt_values = shared.layers[module.layer_idx]
    asked = shared.spread(queries) @ prompt_keys.transpose(2, 3)
    if shared.hidden is not None:
        asked = asked.masked_fill(shared.hidden, float("-inf"))
    scores = torch.cat([shared.gather(asked), queries @ key.transpose(2, 3)], dim=-1)
    if sliding_window is not None:
        scores[..., : max(0, scores.shape[-1] - sliding_window)] = float("-inf")
    weights = F.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype)
    before, since = weights.split([shared.length, key.shape[2]], dim=-1)
    out = shared.gather(shared.spread(before) @ prompt_values) + since @ value
    return out.reshape(len(query), 1, -1, dim), None


AttentionInterface.register(SHARED, shared_attention)


@contextmanager
def sharing(backbone: Any) -> Iterator[None]:
    """While it lasts, the text model attends by `shared_attention`."""
    before = backbone.config._attn_implementation
    backbone.config._attn_implementation = SHARED
    try:
        yield
    finally:
        backbone.config._attn_implementation = before


def rows_of(cache: Cache, owner: torch.Tensor) -> Cache:
    """The cache of prompts, row by row: row i continues prompt `owner[i]`. Gradients flow back to the prompts."""
    layers = []
    for prompts in cache.layers:
        rows = DynamicLayer()
        rows.lazy_initialization(prompts.keys, prompts.values)
        rows.keys, rows.values = prompts.keys[owner], prompts.values[owner]
        layers.append(rows)
    return Cache(layers=layers)
