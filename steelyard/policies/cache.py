"""Key-value caches: one that grows in place while decoding, and the rows of a prompt's cache that a group shares."""

from __future__ import annotations

from typing import Any

import torch
from transformers import Cache
from transformers.cache_utils import DynamicLayer


class RoomyLayer(DynamicLayer):
    """A layer's keys and values [B, heads, K, D] in a buffer with room for more, so that a new token moves nothing old.

    Args:
        keys, values: [B, heads, K, D], what is known so far.
        room: places for further tokens.
    """

    keys: torch.Tensor
    values: torch.Tensor

    def __init__(self, keys: torch.Tensor, values: torch.Tensor, room: int) -> None:
        super().__init__()
        self.lazy_initialization(keys, values)
        self._keep(keys, values, room)

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write the new keys and values [B, heads, t, D] behind the old; all of them are returned."""
        start = self.keys.shape[-2]
        end = start + key_states.shape[-2]
        self._key_buffer[:, :, start:end], self._value_buffer[:, :, start:end] = key_states, value_states
        self.keys, self.values = self._key_buffer[:, :, :end], self._value_buffer[:, :, :end]
        return self.keys, self.values

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Keep the given rows."""
        room = self._key_buffer.shape[-2] - self.keys.shape[-2]
        self._keep(self.keys[indices], self.values[indices], room)

    def _keep(self, keys: torch.Tensor, values: torch.Tensor, room: int) -> None:
        known = keys.shape[-2]
        shape = (*keys.shape[:-2], known + room, keys.shape[-1])
        self._key_buffer, self._value_buffer = keys.new_empty(shape), values.new_empty(shape)
        self.keys, self.values = self._key_buffer[:, :, :known], self._value_buffer[:, :, :known]
        self.keys.copy_(keys)
        self.values.copy_(values)


def rows_of(cache: Cache, owner: torch.Tensor) -> Cache:
    """The cache of prompts, row by row: row i continues prompt `owner[i]`. Gradients flow back to the prompts."""
    layers = []
    for prompts in cache.layers:
        rows = DynamicLayer()
        rows.lazy_initialization(prompts.keys, prompts.values)
        rows.keys, rows.values = prompts.keys[owner], prompts.values[owner]
        layers.append(rows)
    return Cache(layers=layers)


def roomy(cache: Cache, repeats: int, room: int) -> Cache:
    """The cache of B prompts repeated for `repeats` rows each, with room for `room` tokens."""
    layers = [
        RoomyLayer(layer.keys.repeat_interleave(repeats, 0), layer.values.repeat_interleave(repeats, 0), room)
        for layer in cache.layers
    ]
    return Cache(layers=layers)
