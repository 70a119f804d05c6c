"""Rewards for saying the same under another view: alignment of branches, consistency of distributions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from steelyard.rewards.answers import answer_text, think_text
from steelyard.rewards.core import BatchReward
from steelyard.types import Array, Rollouts, Scores, Status, SteelyardError

Similarity = Callable[[Sequence[str], Sequence[str]], Array]
"""Anchor texts [P] and candidate texts [P] in, similarity float [P] in [0, 1] out, NaN where it could not be judged."""


def branch_alignment(similarity: Similarity, *, name: str = "alignment", anchor: int = 0) -> BatchReward:
    """Sim(o_j, õ_j): how alike the j-th completion of a branch is to the j-th completion of the anchor branch.

    Both rows of a pair receive the value; which of them is trained is the advantage chain's choice (`only(branch=1)`).
    A row of a group that has no anchor is not applicable (NaN).

    Args:
        similarity: of whole completions; see `reasoning_similarity` and `same_answer`.
        name: how logs call it.
        anchor: the branch that is compared with.

    Raises:
        SteelyardError: at the call, if a group's branches hold different numbers of rows, or the similarity does not
            give one number a pair.

    Source: sheet 01 (ROVA), section 3.
    """

    def align(rollouts: Rollouts) -> Scores:
        anchors, candidates = paired_rows(rollouts, anchor)
        values = np.full(len(rollouts), np.nan, np.float32)
        if len(anchors):
            texts = rollouts.completions
            alike = _similarities(similarity, [texts[i] for i in anchors], [texts[i] for i in candidates])
            values[candidates] = alike
            values[anchors] = alike
        status = np.where(np.isnan(values), Status.NOT_APPLICABLE, Status.SCORED).astype(np.int8)
        touched = np.isin(np.arange(len(values)), [*anchors, *candidates]) & np.isnan(values)
        status[touched] = Status.UNPARSED
        return Scores(values, status)

    return BatchReward(align, name)


def _similarities(similarity: Similarity, anchors: list[str], candidates: list[str]) -> Array:
    """float32 [P], checked: a number for all pairs together would be laid on each of them."""
    values = np.asarray(similarity(anchors, candidates), np.float32)
    if values.shape != (len(anchors),):
        raise SteelyardError(f"the similarity of {len(anchors)} pairs has shape {values.shape}; give one number a pair")
    return values


def paired_rows(rollouts: Rollouts, anchor: int = 0) -> tuple[Array, Array]:
    """Row indices (anchors [P], candidates [P]): the j-th row of every other branch beside the anchor branch's j-th."""
    order = np.lexsort((np.arange(len(rollouts)), rollouts.branches, rollouts.groups))
    keys = np.stack([rollouts.groups[order], rollouts.branches[order]])
    starts = np.flatnonzero(np.r_[True, (keys[:, 1:] != keys[:, :-1]).any(axis=0)]) if len(order) else np.empty(0, int)
    blocks = np.split(order, starts[1:])
    anchors = {int(rollouts.groups[b[0]]): b for b in blocks if len(b) and rollouts.branches[b[0]] == anchor}
    pairs = [(anchors[int(rollouts.groups[b[0]])], b) for b in blocks if len(b) and rollouts.branches[b[0]] != anchor
             and int(rollouts.groups[b[0]]) in anchors]  # fmt: skip
    for a, b in pairs:
        if len(a) != len(b):
            group, branch = rollouts.groups[b[0]], rollouts.branches[b[0]]
            counts = f"branch {branch} has {len(b)} rows where the anchor has {len(a)}"
            raise SteelyardError(f"group {group}: {counts}; sample both alike")
    if not pairs:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    return np.concatenate([a for a, _ in pairs]), np.concatenate([b for _, b in pairs])


def same_answer(anchors: Sequence[str], candidates: Sequence[str]) -> Array:
    """1 where both completions give the same answer block, else 0 (sheet 01, Sim^a)."""
    pairs = ((answer_text(a), answer_text(b)) for a, b in zip(anchors, candidates, strict=True))
    return np.asarray([float(a is not None and a == b) for a, b in pairs], np.float32)


def reasoning_similarity(compare: Similarity) -> Similarity:
    """Compare only what stands in the think blocks (sheet 01, Sim^r); 0 where either has none."""

    def similarity(anchors: Sequence[str], candidates: Sequence[str]) -> Array:
        left, right = [think_text(a) for a in anchors], [think_text(b) for b in candidates]
        both = np.asarray([a is not None and b is not None for a, b in zip(left, right, strict=True)], bool)
        values = np.zeros(len(both), np.float32)
        rows = both.nonzero()[0]
        if len(rows):
            values[rows] = _similarities(compare, [left[i] or "" for i in rows], [right[i] or "" for i in rows])
        return values

    return similarity


def shared_words(anchors: Sequence[str], candidates: Sequence[str]) -> Array:
    """Share of positions with the same word in both texts, over the longer one's length; 1 for two empty texts."""
    values = []
    for left, right in zip(anchors, candidates, strict=True):
        a, b = left.split(), right.split()
        longer = max(len(a), len(b))
        values.append(sum(x == y for x, y in zip(a, b, strict=False)) / longer if longer else 1.0)
    return np.asarray(values, np.float32)


def same_words(anchors: Sequence[str], candidates: Sequence[str]) -> Array:
    """1 where both texts are the same words in the same order, else 0."""
    return np.asarray([float(a.split() == b.split()) for a, b in zip(anchors, candidates, strict=True)], np.float32)


def _log_softmax(logits: Array) -> Array:
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def kl_consistency(
    clean: Array, corrupted: Array, mask: Array | None = None, *, alpha: float = 3.0
) -> tuple[Array, Array]:
    """KL_i = mean over valid steps t of KL(p_clean,t ‖ p_corrupted,t) and the reward exp(−α KL_i).

    Args:
        clean, corrupted: logits [N, T, V].
        mask: [N, T], valid steps of the clean completion (all where None); a row without any has KL 0, reward 1.
        alpha: sharpness.

    Returns:
        KL [N] and reward [N]. Source: sheet 01, the older variant of the alignment reward.
    """
    log_p, log_q = _log_softmax(np.asarray(clean, np.float64)), _log_softmax(np.asarray(corrupted, np.float64))
    return _mean_kl(_divergence(log_p, log_q), mask, alpha)


def topk_kl(
    p_values: Array,
    p_index: Array,
    q_values: Array,
    q_index: Array,
    mask: Array | None = None,
    *,
    missing: float = -20.0,
) -> Array:
    """KL [N] over the support of p's top-k logits, q's logit being `missing` where q did not list the token.

    The authors' approximation, kept for comparison: for disjoint supports q is near uniform over p's tokens and the
    divergence is small. Prefer `kl_consistency` on the whole vocabulary. Shapes [N, T, k]; mask [N, T].
    """
    match = np.asarray(p_index)[..., :, None] == np.asarray(q_index)[..., None, :]
    matched = np.where(match, np.asarray(q_values, np.float64)[..., None, :], 0.0).sum(axis=-1)
    log_p = _log_softmax(np.asarray(p_values, np.float64))
    log_q = _log_softmax(np.where(match.any(axis=-1), matched, missing))
    return _mean_kl(_divergence(log_p, log_q), mask, 1.0)[0]


def _divergence(log_p: Array, log_q: Array) -> Array:
    """KL [N, T] of log-probabilities [N, T, V]; a token that p rules out adds nothing, also where q rules it out."""
    with np.errstate(invalid="ignore"):
        return np.where(np.isneginf(log_p), 0.0, np.exp(log_p) * (log_p - log_q)).sum(axis=-1)


def _mean_kl(steps: Array, mask: Array | None, alpha: float) -> tuple[Array, Array]:
    valid = np.ones_like(steps) if mask is None else np.asarray(mask, np.float64)
    counted = np.where(valid > 0, steps * valid, 0.0)  # what stands in the padding may be no number
    kl = np.maximum(counted.sum(axis=1) / np.maximum(valid.sum(axis=1), 1.0), 0.0)
    return kl, np.exp(-alpha * kl)
