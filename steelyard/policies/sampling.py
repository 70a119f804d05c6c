"""Sampling from a causal model: one prefill a prompt, a cache for its group, finished rows dropped, exact figures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from transformers import Cache

from steelyard.policies.cache import RoomyLayer, SharedPrompts, sharing
from steelyard.policies.causal import backbone_of, head_logits, prefill, run_backbone
from steelyard.types import Array, SteelyardError

if TYPE_CHECKING:
    from steelyard.policies.causal import PromptBatch

DROP_SHARE = 1 / 8
"""Finished rows leave the batch once they are this share of it; below that, moving the cache costs more."""


@dataclass(frozen=True)
class Sampling:
    """How completions are drawn.

    Attributes:
        max_tokens: longest completion, end-of-sequence token included.
        temperature: logits are divided by it; also the temperature of all log-probabilities.
        top_p: tokens outside the smallest set with this probability are not drawn (log-probabilities stay untruncated).
        stop: texts at which a completion ends; the stop text stays in the completion.
    """

    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise SteelyardError(f"sampling: max_tokens is {self.max_tokens}; at least 1 is needed")
        if not 0 < self.temperature < float("inf"):
            raise SteelyardError(
                f"sampling: temperature is {self.temperature}; it must be above 0 (or sample with greedy=True)"
            )
        if not 0 < self.top_p <= 1:
            raise SteelyardError(f"sampling: top_p is {self.top_p}; it must be above 0 and at most 1")
        if isinstance(self.stop, str) or not all(self.stop):
            raise SteelyardError(f"sampling: stop is {self.stop!r}; give a tuple of texts, none of them empty")


class Decoded(NamedTuple):
    """Tokens int64 [N, T], their log-probabilities float32 [N, T] and mask bool [N, T], cut to the longest row."""

    tokens: Array
    logprobs: Array
    mask: Array


def nucleus(probabilities: torch.Tensor, top_p: float) -> torch.Tensor:
    """Zero the tokens [B, V] outside the smallest set whose probability reaches `top_p`; the first is always kept."""
    ordered, order = probabilities.sort(dim=-1, descending=True)
    outside = ordered.cumsum(-1) - ordered >= top_p
    return probabilities.masked_fill(torch.zeros_like(outside).scatter(-1, order, outside), 0.0)


def inverse_cdf(probabilities: torch.Tensor, uniforms: torch.Tensor) -> torch.Tensor:
    """The token [B] at which the cumulative distribution of `probabilities` [B, V] passes `uniforms` [B] in [0, 1).

    The probabilities need not sum to one. A token of probability 0 is never chosen.
    """
    cumulative = probabilities.double().cumsum(-1)
    target = uniforms.unsqueeze(-1) * cumulative[:, -1:]
    last = (probabilities > 0).long().cumsum(-1).argmax(-1)
    return torch.searchsorted(cumulative, target, right=True).squeeze(-1).minimum(last)


def choose(
    logits: torch.Tensor, uniforms: torch.Tensor, sampling: Sampling, *, greedy: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """The next token [B] and its log-probability [B] under the tempered, untruncated distribution.

    Args:
        logits: [B, V], any float type; taken to float32.
        uniforms: float64 [B] in [0, 1), unused when greedy.
        sampling: temperature and top_p.
        greedy: the most likely token, the first of equals.
    """
    logprobs = torch.log_softmax(logits.float() / sampling.temperature, dim=-1)
    if greedy:
        token = logprobs.argmax(-1)
    else:
        probabilities = logprobs.exp()
        token = inverse_cdf(nucleus(probabilities, sampling.top_p) if sampling.top_p < 1 else probabilities, uniforms)
    return token, logprobs.gather(-1, token.unsqueeze(-1)).squeeze(-1)


def stop_check(tokenizer: Any, stop: Sequence[str]) -> Callable[[torch.Tensor], torch.Tensor] | None:
    """A function of the tokens so far [B, t] that says which rows [B] have just completed a stop text.

    A token is at least one byte of text, so only as many last tokens are read as a stop text has bytes (and one for a
    joining space). None without stop texts.
    """
    if not stop:
        return None
    window = max(len(text.encode()) for text in stop) + 1

    def check(tokens: torch.Tensor) -> torch.Tensor:
        texts = tokenizer.batch_decode(
            tokens[:, -window:], skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return torch.tensor([any(end in text for end in stop) for text in texts], device=tokens.device)

    return check


@torch.inference_mode()
def decode(
    model: Any,
    prompts: PromptBatch,
    uniforms: Array,
    sampling: Sampling,
    *,
    end_tokens: Sequence[int],
    stopped: Callable[[torch.Tensor], torch.Tensor] | None = None,
    greedy: bool = False,
    drop_share: float = DROP_SHARE,
) -> Decoded:
    """Complete every prompt n times.

    Each distinct prompt runs once and its n rows read the same cache; a row keeps only its own tokens' keys. Step t
    draws token t of every row that still runs. Rows that ended leave the batch when they are `drop_share` of it.

    Args:
        model: a Hugging Face causal model in eval mode.
        prompts: B left-padded prompts.
        uniforms: float64 [B * n, max_tokens] in [0, 1); rows of one prompt beside each other.
        sampling: see `Sampling`.
        end_tokens: token ids that end a completion.
        stopped: from `stop_check`.
        greedy: take the most likely token.
        drop_share: see above; above 1 never drops.
    """
    n_rows, width = uniforms.shape
    device, n = prompts.ids.device, n_rows // len(prompts.ids)
    uniform = torch.as_tensor(uniforms, dtype=torch.float64, device=device)
    ends = torch.tensor(list(end_tokens), device=device)
    tokens = torch.zeros(n_rows, width, dtype=torch.long, device=device)
    logprobs = torch.zeros(n_rows, width, device=device)
    lengths = torch.full((n_rows,), width, dtype=torch.long, device=device)

    hidden, cache = prefill(model, prompts)
    logits = head_logits(model, hidden).repeat_interleave(n, dim=0)
    shared, position = SharedPrompts(cache, prompts.mask, n), prompts.next_position.repeat_interleave(n)
    own = Cache(layers=[RoomyLayer(layer.keys, n_rows, min(width, 64)) for layer in cache.layers])
    rows, alive = torch.arange(n_rows, device=device), torch.ones(n_rows, dtype=torch.bool, device=device)
    for t in range(width):
        token, logprob = choose(logits, uniform[rows, t], sampling, greedy=greedy)
        tokens[rows, t], logprobs[rows, t] = token, logprob
        ended = torch.isin(token, ends)
        if stopped is not None:
            ended |= stopped(tokens[rows, : t + 1])
        ended &= alive
        lengths[rows[ended]] = t + 1
        alive &= ~ended
        running = int(alive.sum())
        if running == 0 or t + 1 == width:
            break
        if running <= len(alive) * (1 - drop_share):
            keep = alive.nonzero().squeeze(1)
            own.batch_select_indices(keep)
            rows, token, position, alive = rows[keep], token[keep], position[keep], alive[keep]
            shared.keep(rows)
        embeds = model.get_input_embeddings()(token.unsqueeze(1))
        with sharing(backbone_of(model)):
            hidden = run_backbone(model, embeds, None, (position + t).unsqueeze(1), own, shared=shared)
        logits = head_logits(model, hidden[:, -1])
    return _cut(tokens, logprobs, lengths)


def _cut(tokens: torch.Tensor, logprobs: torch.Tensor, lengths: torch.Tensor) -> Decoded:
    """Blank what a row computed after its end, and cut to the longest row."""
    longest = int(lengths.max())
    mask = torch.arange(longest, device=lengths.device) < lengths.unsqueeze(1)
    tokens, logprobs = tokens[:, :longest] * mask, logprobs[:, :longest].masked_fill(~mask, 0.0)
    return Decoded(tokens.cpu().numpy(), logprobs.cpu().numpy(), mask.cpu().numpy())


def draw_uniforms(generators: Sequence[np.random.Generator], n: int, max_tokens: int) -> Array:
    """float64 [len(generators) * n, max_tokens]: every sample's draws come from its own generator."""
    return np.concatenate([generator.random((n, max_tokens)) for generator in generators])
