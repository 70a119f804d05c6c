"""Contrast instructions (sheet 04): does a reward know which answer suits which of two look-alike instructions?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from steelyard.types import Array, Reward, Rollouts, Sample, SteelyardError


@dataclass(frozen=True)
class Contrast:
    """How consistent a reward is over N contrast items; shares of the items that could be judged.

    Attributes:
        response: C_res, share where the instruction's own answer beats the look-alike's answer.
        instruction: C_ins, share where an answer's own instruction beats the look-alike.
        ties: share of the comparisons behind both that are exactly equal (they count as wrong).
        judged: items with all the scores that were needed; items: N.
    """

    response: float
    instruction: float
    ties: float
    judged: int
    items: int


def contrast(scores: Array, *, both_sides: bool = False, ties_count: bool = False) -> Contrast:
    """C_res = mean 1[R(I∘r) > R(I∘r′)], C_ins = mean 1[R(I∘r) > R(I′∘r)]; arXiv 2309.16155.

    A comparison with a score that is not finite never counts as consistent.

    Args:
        scores: float [N, 2, 2], scores[n, a, b] = R(I_a ∘ r_b).
        both_sides: ask of (I′, r′) too and average (the released evaluation asks of (I, r) only).
        ties_count: count equal scores as consistent, as one of the released scripts does.

    Raises:
        SteelyardError: for another shape, or no items.
    """
    s = np.asarray(scores, np.float64)
    if s.ndim != 3 or s.shape[1:] != (2, 2) or not len(s):
        raise SteelyardError(f"contrast scores have shape {s.shape}; they are [items, 2 instructions, 2 answers]")
    own = np.stack([s[:, 0, 0], s[:, 1, 1]], axis=1)
    other_response = np.stack([s[:, 0, 1], s[:, 1, 0]], axis=1)
    other_instruction = other_response[:, ::-1]
    sides = slice(None) if both_sides else slice(0, 1)
    own, others = own[:, sides], (other_response[:, sides], other_instruction[:, sides])
    wins = [(own >= other) if ties_count else (own > other) for other in others]
    judged = np.all([np.isfinite(own), *map(np.isfinite, others)], axis=(0, 2))
    ties = float(np.mean([own == other for other in others]))
    return Contrast(float(wins[0].mean()), float(wins[1].mean()), ties, int(judged.sum()), len(s))


def mine_contrast_pairs(embeddings: Array, *, low: float = 0.75, high: float = 0.9) -> list[tuple[int, int]]:
    """Instructions that look alike and mean another thing: all i < j with cos(e_i, e_j) in [low, high].

    Args:
        embeddings: float [N, d], none of them zero.

    Raises:
        SteelyardError: for an embedding of length 0, or a window that is empty.
    """
    if not -1 <= low <= high <= 1:
        raise SteelyardError(f"the window [{low}, {high}] holds no cosine; give -1 ≤ low ≤ high ≤ 1")
    cosine = cosines(embeddings)
    i, j = np.nonzero(np.triu((cosine >= low) & (cosine <= high), 1))
    return list(zip(i.tolist(), j.tolist(), strict=True))


def cosines(embeddings: Array) -> Array:
    """Cosine similarities [N, N] of the rows of [N, d].

    Raises:
        SteelyardError: for a row of length 0.
    """
    e = np.asarray(embeddings, np.float64)
    length = np.linalg.norm(e, axis=1, keepdims=True)
    if (length == 0).any():
        raise SteelyardError(f"embedding {int((length == 0).argmax())} has length 0, so it has no direction")
    found: Array = (e / length) @ (e / length).T
    return found


def contrast_scores(
    reward: Reward, instructions: Sequence[Sequence[Sample]], answers: Sequence[Sequence[str]]
) -> Array:
    """What `contrast` reads: scores [N, 2, 2] of both answers under both instructions of every item.

    Args:
        reward: judges any prompt and answer. instructions, answers: N items of two each.
    """
    items = list(zip(instructions, answers, strict=True))
    samples = [two[a] for two, _ in items for a in (0, 0, 1, 1)]
    texts = [two[b] for _, two in items for b in (0, 1, 0, 1)]
    return np.asarray(reward(Rollouts(samples, texts)).values, np.float64).reshape(-1, 2, 2)
