"""The vision tower of Qwen2.5-VL, computing the same with fewer and larger operations."""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch
from torch.nn import functional as F
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import apply_rotary_pos_emb_vision


def quicken(tower: Any) -> None:
    """Bind faster forward passes to a tower's patch embedding and attentions.

    The convolution over patches becomes one matrix product, and attention windows of equal size run as one batch
    where transformers loops over them. Weights, names and results stay as they are; copies of the model keep it.
    Towers that use flash attention keep their own attention.
    """
    tower.patch_embed.forward = MethodType(embed_patches, tower.patch_embed)
    if tower.config._attn_implementation == "sdpa":
        for block in tower.blocks:
            block.attn.forward = MethodType(attend_windows, block.attn)


def embed_patches(module: Any, patches: torch.Tensor) -> torch.Tensor:
    """Patches [L, D] to embeddings [L, H]: a convolution whose stride is its kernel is a matrix product."""
    weight = module.proj.weight
    return F.linear(patches.to(weight.dtype), weight.flatten(1))


def attend_windows(
    module: Any,
    hidden_states: torch.Tensor,
    cu_seqlens: torch.Tensor,
    position_embeddings: tuple[torch.Tensor, torch.Tensor],
    **kwargs: Any,
) -> torch.Tensor:
    """Self-attention of patches [L, H] within windows that end at `cu_seqlens` [W + 1]."""
    length = len(hidden_states)
    queries, keys, values = module.qkv(hidden_states).reshape(length, 3, module.num_heads, -1).unbind(1)
    queries, keys = apply_rotary_pos_emb_vision(queries, keys, *position_embeddings)
    parts, order = [], []
    for index in windows_by_size(cu_seqlens):
        q, k, v = (states[index].transpose(1, 2) for states in (queries, keys, values))
        attended = F.scaled_dot_product_attention(q, k, v, scale=module.scaling)
        parts.append(attended.transpose(1, 2).flatten(0, 1))
        order.append(index.flatten())
    joined = parts[0] if len(parts) == 1 else torch.cat(parts)[torch.cat(order).argsort()]
    return module.proj(joined.reshape(length, -1))


def windows_by_size(ends: torch.Tensor) -> list[torch.Tensor]:
    """Places int64 [w, size] of the windows of each size, from their cumulative ends [W + 1]."""
    sizes = ends.diff()
    starts = ends[:-1].long()
    return [
        starts[sizes == size].unsqueeze(1) + torch.arange(size, device=ends.device) for size in sizes.unique().tolist()
    ]
