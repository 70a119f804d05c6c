"""Forward passes of Hugging Face causal models: prompts embedded and run once, completions scored after them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint
from transformers import Cache, DynamicCache

from steelyard.policies.cache import rows_of
from steelyard.types import Array, Sample

LOGIT_BUDGET = 2**27
"""Log-probabilities of more logits than this are taken in pieces that are recomputed in the backward pass."""


Figure = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Logits float32 [M, V] of M places and the tokens [M] written there, to one figure a place [M]."""

PASS_OVERHEAD = {"cpu": 192, "other": 8192}
"""What one more forward and backward pass costs beside its tokens, in tokens: kernel launches, mostly."""


@dataclass(frozen=True, eq=False)
class Encoded:
    """One prompt, as the model reads it.

    Attributes:
        ids: int64 [P].
        positions: int64 [P], or [3, P] (time, height, width) for a model with multimodal rotary positions.
        next_position: of the first completion token.
        pixels: "image" and "video" to packed patches float32 [L, D] and their grids int64 [k, 3].
    """

    ids: Array
    positions: Array
    next_position: int
    pixels: dict[str, tuple[Array, Array]] = field(default_factory=dict)

    def followed_by(self, ids: Array) -> Encoded:
        """The prompt with further tokens int64 [Q] behind it."""
        after = np.broadcast_to(self.next_position + np.arange(len(ids)), (*self.positions.shape[:-1], len(ids)))
        positions = np.concatenate([self.positions, after], axis=-1)
        return Encoded(np.concatenate([self.ids, ids]), positions, self.next_position + len(ids), self.pixels)


class PromptMemory:
    """Encoded prompts by sample, as long as the sample lives; forgotten all together when they pass `budget` bytes.

    A step scores the samples that it has just sampled, so they are encoded once; a data set of videos is not kept.
    """

    def __init__(self, budget: int = 2**28) -> None:
        self.budget, self._bytes = budget, 0
        self._kept: WeakKeyDictionary[Sample, Encoded] = WeakKeyDictionary()

    def get(self, sample: Sample) -> Encoded | None:
        """What is remembered of this very sample object."""
        return self._kept.get(sample)

    def keep(self, sample: Sample, encoded: Encoded) -> Encoded:
        """Remember, and give back."""
        size = sum(patches.nbytes for patches, _ in encoded.pixels.values()) + encoded.positions.nbytes
        if self._bytes + size > self.budget:
            self._kept.clear()
            self._bytes = 0
        self._bytes += size
        self._kept[sample] = encoded
        return encoded


@dataclass(frozen=True, eq=False)
class PromptBatch:
    """B prompts, left-padded to P.

    Attributes:
        ids: int64 [B, P]; mask: bool [B, P]; positions: int64 [B, P] or [3, B, P]; next_position: int64 [B].
        padded: whether any row is padded.
        pixels: "image" and "video" to packed patches [L, D] of all prompts and their grids int64 [k, 3].
    """

    ids: torch.Tensor
    mask: torch.Tensor
    positions: torch.Tensor
    next_position: torch.Tensor
    padded: bool
    pixels: dict[str, tuple[torch.Tensor, torch.Tensor]]


def collate(prompts: Sequence[Encoded], *, device: torch.device, pad: int) -> PromptBatch:
    """Prompts side by side, padded on the left so that all of them end at the same place."""
    width = max(len(prompt.ids) for prompt in prompts)
    ids = np.full((len(prompts), width), pad, np.int64)
    positions = np.zeros((*prompts[0].positions.shape[:-1], len(prompts), width), np.int64)
    mask = np.zeros((len(prompts), width), bool)
    for row, prompt in enumerate(prompts):
        start = width - len(prompt.ids)
        ids[row, start:], mask[row, start:], positions[..., row, start:] = prompt.ids, True, prompt.positions
    pixels = {}
    for kind in ("image", "video"):
        packs = [prompt.pixels[kind] for prompt in prompts if kind in prompt.pixels]
        if packs:
            patches, grids = (np.concatenate(arrays) for arrays in zip(*packs, strict=True))
            pixels[kind] = torch.from_numpy(patches).to(device), torch.from_numpy(grids).to(device)
    return PromptBatch(
        ids=torch.from_numpy(ids).to(device),
        mask=torch.from_numpy(mask).to(device),
        positions=torch.from_numpy(positions).to(device),
        next_position=torch.tensor([prompt.next_position for prompt in prompts], device=device),
        padded=not mask.all(),
        pixels=pixels,
    )


def embed(model: Any, prompts: PromptBatch) -> torch.Tensor:
    """Input embeddings [B, P, H] with what the vision tower makes of images and videos in their places."""
    embeds = model.get_input_embeddings()(prompts.ids)
    towers = {"image": "get_image_features", "video": "get_video_features"}
    for kind, (patches, grids) in prompts.pixels.items():
        features = getattr(model.model, towers[kind])(patches.to(embeds.dtype), grids, return_dict=True).pooler_output
        places = prompts.ids == getattr(model.config, f"{kind}_token_id")
        embeds = embeds.masked_scatter(places.unsqueeze(-1), torch.cat(list(features)).to(embeds.dtype))
    return embeds


def backbone_of(model: Any) -> Any:
    """The text model inside a causal or vision-language model: embeddings in, hidden states out."""
    return getattr(model.model, "language_model", model.model)


def run_backbone(
    model: Any,
    embeds: torch.Tensor,
    mask: torch.Tensor | None,
    positions: torch.Tensor,
    cache: Cache | None,
    **extra: Any,
) -> torch.Tensor:
    """Last hidden states [B, T, H]; the cache, if given, grows by T. `extra` reaches the attention function."""
    outputs = backbone_of(model)(
        inputs_embeds=embeds,
        attention_mask=mask,
        position_ids=positions,
        past_key_values=cache,
        use_cache=cache is not None,
        return_dict=True,
        **extra,
    )
    return outputs.last_hidden_state


def head_logits(model: Any, hidden: torch.Tensor) -> torch.Tensor:
    """Logits [..., V] of hidden states [..., H]."""
    return model.get_output_embeddings()(hidden)


def prefill(model: Any, prompts: PromptBatch) -> tuple[torch.Tensor, DynamicCache]:
    """Run the prompts: the hidden states of their last tokens [B, H], and the cache. Gradients flow through both.

    The cache keeps everything, also in layers that look at a sliding window only; their mask hides the rest.
    """
    cache, embeds = DynamicCache(), embed(model, prompts)
    mask = causal_mask(model, prompts.mask, prompts.mask.shape[1], embeds.dtype) if prompts.padded else None
    return run_backbone(model, embeds, mask, prompts.positions, cache)[:, -1], cache


def causal_mask(model: Any, seen: torch.Tensor, queries: int, dtype: torch.dtype) -> torch.Tensor:
    """What each of the last `queries` places may attend to, of keys `seen` [B, K]; made once for all layers.

    Returns:
        bool [B, 1, Q, K] for scaled-dot-product attention, additive for eager attention, and the two-dimensional
        `seen` where the implementation (flash attention, sliding windows) builds its own.
    """
    text = model.config.get_text_config(decoder=True)
    implementation = text._attn_implementation
    if implementation not in ("sdpa", "eager") or getattr(text, "sliding_window", None) is not None:
        return seen.long()
    keys = seen.shape[1]
    order = torch.arange(keys, device=seen.device)
    mask = (order <= order[keys - queries :, None]) & seen[:, None, None, :]
    if implementation == "eager":
        return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill(~mask, torch.finfo(dtype).min)
    return mask


def log_likelihood(logits: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """float32 [M]: log softmax(logits [M, V]) at tokens [M]."""
    return -F.cross_entropy(logits, tokens, reduction="none")


def token_figures(
    model: Any, hidden: torch.Tensor, tokens: torch.Tensor, temperature: float, figure: Figure = log_likelihood
) -> torch.Tensor:
    """float32 [M]: a figure of head(hidden) / temperature at `tokens` [M], from hidden states [M, H].

    Where M × V is large, it goes piece by piece and the logits are made again for the gradient.
    """

    def piece(hidden: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        logits = head_logits(model, hidden).float()
        return figure(logits if temperature == 1.0 else logits / temperature, tokens)

    rows = max(1, LOGIT_BUDGET // model.config.get_text_config(decoder=True).vocab_size)
    if len(tokens) <= rows:
        return piece(hidden, tokens)
    parts = zip(hidden.split(rows), tokens.split(rows), strict=True)
    if not torch.is_grad_enabled():
        return torch.cat([piece(h, t) for h, t in parts])
    return torch.cat([checkpoint(piece, h, t, use_reentrant=False) for h, t in parts])


def score_shared(
    model: Any,
    prompts: PromptBatch,
    owner: Array,
    tokens: torch.Tensor,
    mask: torch.Tensor,
    temperature: float,
    figure: Figure = log_likelihood,
) -> torch.Tensor:
    """Log-probabilities of completions; every prompt runs once and its cache, gradients included, serves all its rows.

    Args:
        model: a Hugging Face causal model.
        prompts: B prompts.
        owner: int64 [N], the prompt of each row.
        tokens: int64 [N, T].
        mask: bool [N, T], the tokens to score; later tokens attend to unscored ones too.
        temperature: logits are divided by it.
        figure: what is taken of the logits; the log-probability of the token by default.

    Returns:
        float32 [N, T], 0 where mask is False.
    """
    last, cache = prefill(model, prompts)
    lengths = _lengths(mask)
    hidden = [last[torch.from_numpy(owner).to(last.device)]]
    places = [torch.stack([torch.arange(len(tokens)), torch.zeros(len(tokens), dtype=torch.long)])]
    for rows in length_buckets(lengths, overhead=PASS_OVERHEAD["cpu" if tokens.device.type == "cpu" else "other"]):
        steps = int(lengths[rows].max()) - 1
        if steps < 1:
            continue
        index = torch.from_numpy(rows).to(tokens.device)
        states = _after(model, prompts, cache, torch.from_numpy(owner[rows]), tokens[index, :steps])
        hidden.append(states.flatten(0, 1))
        places.append(_grid(torch.from_numpy(rows), steps))
    return _assemble(model, hidden, places, tokens, mask, temperature, figure)


def _after(model: Any, prompts: PromptBatch, cache: Cache, owner: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Hidden states [n, t, H] of tokens [n, t] after the prompts that own them."""
    owner, steps = owner.to(tokens.device), tokens.shape[1]
    embeds = model.get_input_embeddings()(tokens)
    seen = F.pad(prompts.mask[owner], (0, steps), value=True)
    positions = prompts.next_position[owner].unsqueeze(1) + torch.arange(steps, device=tokens.device)
    mask = causal_mask(model, seen, steps, embeds.dtype)
    return run_backbone(model, embeds, mask, positions, rows_of(cache, owner))


def score_full(
    model: Any, prompts: PromptBatch, owner: Array, tokens: torch.Tensor, mask: torch.Tensor, temperature: float
) -> torch.Tensor:
    """The same as `score_shared` without a cache: prompt and completion run as one sequence per row.

    What gradient checkpointing needs (it recomputes layers and cannot keep a cache). The vision tower still
    runs once a prompt.
    """
    index, steps = torch.from_numpy(owner).to(tokens.device), max(int(_lengths(mask).max()) - 1, 0)
    width = prompts.ids.shape[1]
    embeds = torch.cat([embed(model, prompts)[index], model.get_input_embeddings()(tokens[:, :steps])], dim=1)
    seen = F.pad(prompts.mask[index], (0, steps), value=True)
    after = prompts.next_position[index].unsqueeze(1) + torch.arange(steps, device=tokens.device)
    before = prompts.positions[..., index, :]
    positions = torch.cat([before, after.expand(*before.shape[:-1], steps)], dim=-1)
    hidden = run_backbone(model, embeds, causal_mask(model, seen, width + steps, embeds.dtype), positions, None)
    states = hidden[:, width - 1 :].flatten(0, 1)
    return _assemble(model, [states], [_grid(torch.arange(len(tokens)), steps + 1, first=0)], tokens, mask, temperature)


def _grid(rows: torch.Tensor, steps: int, first: int = 1) -> torch.Tensor:
    """int64 [2, n * steps]: the row and the token that each hidden state foretells."""
    return torch.stack([rows.repeat_interleave(steps), torch.arange(first, first + steps).repeat(len(rows))])


def _assemble(
    model: Any,
    hidden: list[torch.Tensor],
    places: list[torch.Tensor],
    tokens: torch.Tensor,
    mask: torch.Tensor,
    temperature: float,
    figure: Figure = log_likelihood,
) -> torch.Tensor:
    """Lay the figures of the scored tokens into [N, T]; unscored places cost no logits."""
    place = torch.cat(places, dim=1).to(tokens.device)
    wanted = mask[place[0], place[1]].nonzero().squeeze(1)
    row, step = place[:, wanted]
    values = token_figures(model, torch.cat(hidden)[wanted], tokens[row, step], temperature, figure)
    return torch.zeros(tokens.shape, device=tokens.device).index_put((row, step), values)


def _lengths(mask: torch.Tensor) -> Array:
    """int64 [N]: one past the last scored token, at least 1."""
    return (mask.cpu().numpy() * np.arange(1, mask.shape[1] + 1)).max(axis=1, initial=1)


def length_buckets(lengths: Array, *, overhead: int, most: int = 4) -> list[Array]:
    """Rows cut into at most `most` sets of like length, so that short rows are not padded to the longest.

    Minimises the sum over sets of (rows × longest + overhead), `overhead` being what one more pass costs in tokens.
    """
    order = np.argsort(-lengths, kind="stable")
    ordered, n = lengths[order].astype(np.float64), len(lengths)
    cost = np.concatenate([[0.0], np.full(n, np.inf)])
    cuts: list[Array] = []
    best: tuple[float, int] = (np.inf, 0)
    starts = np.arange(n)
    for sets in range(1, min(most, n) + 1):
        table = cost[:n, None] + ordered[:, None] * (np.arange(1, n + 1)[None, :] - starts[:, None]) + overhead
        table[np.arange(1, n + 1)[None, :] <= starts[:, None]] = np.inf
        cuts.append(table.argmin(axis=0))
        cost = np.concatenate([[np.inf], table.min(axis=0)])
        best = min(best, (float(cost[n]), sets))
    end, pieces = n, []
    for cut in reversed(cuts[: best[1]]):
        start = int(cut[end - 1])
        pieces.append(order[start:end])
        end = start
    return pieces
