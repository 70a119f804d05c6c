"""How certain a policy was of a step: figures of its whole distribution over what could have come next."""

from __future__ import annotations

from torch import Tensor


def self_certainty(logits: Tensor) -> Tensor:
    """KL(U ‖ π) = −ln V − (1/V) Σ_v ln π(v): 0 for a uniform π, and the higher the surer, of right and wrong alike.

    Args:
        logits: [..., V]; a word of logit −∞ cannot be said and does not count to the V.

    Returns:
        Nats [...].

    Source: sheet 26 (URLVR, arXiv 2603.08660).
    """
    possible = ~logits.isneginf()
    count = possible.sum(-1)
    total = logits.log_softmax(-1).masked_fill(~possible, 0.0).sum(-1)
    return -count.log() - total / count


def negative_entropy(logits: Tensor) -> Tensor:
    """−H(π) = Σ_v π(v) ln π(v), nats [...] from logits [..., V]: −ln V for a uniform π, 0 for a sure one."""
    log_p = logits.log_softmax(-1)
    return (log_p.exp() * log_p.masked_fill(logits.isneginf(), 0.0)).sum(-1)


def probability_gap(logits: Tensor) -> Tensor:
    """π(first) − π(second) of the two likeliest words, [...] from logits [..., V]; 1 where there is one word only."""
    if logits.shape[-1] == 1:
        return logits.softmax(-1)[..., 0]
    first, second = logits.softmax(-1).topk(2, dim=-1).values.unbind(-1)
    return first - second


CERTAINTIES = {figure.__name__: figure for figure in (self_certainty, negative_entropy, probability_gap)}
"""By name, as rewards ask for them."""
