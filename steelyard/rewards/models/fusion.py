"""Reward fusion: a score averaged with the scores of training texts that are nearly the same (sheet 04)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from steelyard.rewards.core import BatchReward
from steelyard.types import Array, Reward, Rollouts, Sample, Scores, Status, SteelyardError

Embed = Callable[[Sequence[str]], Array]
"""Texts to embeddings [N, d]."""


def fuse(own: Array, neighbours: Array, similarity: Array, mask: Array) -> Array:
    """R_fused = (R + Σ_j s_j R_j) / (1 + Σ_j s_j) over the neighbours that count; R itself without one.

    Args:
        own: float [B]. neighbours, similarity: float [B, k]. mask: bool [B, k], which of them count.
    """
    s = np.where(mask, similarity, 0.0)
    with np.errstate(invalid="ignore"):
        total = own + np.where(mask, s * neighbours, 0.0).sum(axis=1)
    fused: Array = total / (1.0 + s.sum(axis=1))
    return fused


def nearest(similarity: Array, texts: Sequence[str], *, k: int = 5, above: float = 0.9) -> tuple[Array, Array]:
    """The k most similar texts of each query, and which of them count: at least `above`, and each text once.

    Args:
        similarity: float [B, M] of the queries to M texts.

    Returns:
        int [B, k'] indices with k' = min(k, M), and bool [B, k'].
    """
    k = min(k, similarity.shape[1])
    index = np.argsort(-similarity, axis=1, kind="stable")[:, :k]
    keys = np.unique(np.asarray(texts, dtype=object).astype(str), return_inverse=True)[1][index]
    repeated = (keys[:, :, None] == keys[:, None, :]) & np.tri(k, k, -1, dtype=bool)
    return index, (np.take_along_axis(similarity, index, axis=1) >= above) & ~repeated.any(axis=2)


def fused(
    reward: Reward,
    known: Sequence[Sample],
    answers: Sequence[str],
    embed: Embed,
    *,
    k: int = 5,
    above: float = 0.9,
    text: Callable[[Sample, str], str] | None = None,
) -> BatchReward:
    """A reward whose scores are fused with those of near training texts, which are scored once.

    Choose `above` over the similarity of instructions that merely look alike, or their answers are mixed in.

    Args:
        reward: scores queries and training texts. known, answers: the training prompts and their preferred answers.
        embed: texts to vectors; similarities are cosines.
        k: neighbours at most. above: least similarity.
        text: prompt and answer to the text that is embedded; both with a line break between if left out.

    Raises:
        SteelyardError: if there are no training texts, or the lists differ in length.
    """
    if not known or len(known) != len(answers):
        raise SteelyardError(f"fused: {len(known)} prompts and {len(answers)} answers; at least one of each is needed")
    spelt = text or (lambda sample, answer: f"{sample.prompt}\n{answer}")
    texts = [spelt(sample, answer) for sample, answer in zip(known, answers, strict=True)]
    index, scores = _directions(embed(texts)), np.asarray(reward(Rollouts(list(known), list(answers))).values)

    def score(rollouts: Rollouts) -> Scores:
        own = reward(rollouts)
        queries = [spelt(sample, str(c)) for sample, c in zip(rollouts.samples, rollouts.completions, strict=True)]
        similarity = _directions(embed(queries)) @ index.T
        rows, counts = nearest(similarity, texts, k=k, above=above)
        picked = scores[rows]
        counts &= np.isfinite(picked)
        values = fuse(own.values, picked, np.take_along_axis(similarity, rows, axis=1), counts)
        status = np.where(np.isnan(values), Status.FAILED, Status.SCORED) if own.status is None else own.status
        return Scores(values, status, parts={reward.name: own.values, "neighbours": counts.sum(axis=1)})

    return BatchReward(score, f"fused({reward.name}, k={k}, above={above:g})")


def _directions(embeddings: Array) -> Array:
    e = np.asarray(embeddings, np.float64)
    return e / np.maximum(np.linalg.norm(e, axis=1, keepdims=True), 1e-12)
