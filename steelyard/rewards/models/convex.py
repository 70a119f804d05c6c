"""Which rewrites of a text reach furthest: the corners of their embeddings' convex hull (sheet 04)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from steelyard.rewards.models.fusion import Embed
from steelyard.types import Array, Pairs, SteelyardError

Rewrite = Callable[[str, int], Sequence[str]]


def principal_plane(embeddings: Array) -> Array:
    """Coordinates [m, 2] on the two axes of greatest variance, not whitened; zeros where there are fewer axes."""
    centred = np.asarray(embeddings, np.float64) - np.mean(embeddings, axis=0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    found = centred @ axes[:2].T
    return np.pad(found, ((0, 0), (0, 2 - found.shape[1])))


def convex_select(embeddings: Array) -> Array:
    """Indices of the hull's corners, ascending; all points where they are fewer than three or lie on one line.

    Args:
        embeddings: float [m, d], of m rewrites of one text.

    Raises:
        SteelyardError: if scipy is missing, or there is no point.
    """
    try:
        from scipy.spatial import ConvexHull, QhullError
    except ImportError:
        raise SteelyardError("choosing rewrites by their convex hull needs scipy; install steelyard[rm]") from None
    points = np.asarray(embeddings, np.float64)
    if points.ndim != 2 or not len(points):
        raise SteelyardError(f"embeddings have shape {points.shape}; they are [rewrites, d] with at least one")
    plane = principal_plane(points)
    if len(np.unique(plane.round(12), axis=0)) < 3:
        return np.arange(len(points))
    try:
        return np.sort(ConvexHull(plane).vertices)
    except QhullError:
        return np.arange(len(points))


def with_rewrites(
    pairs: Pairs, rewrite: Rewrite, embed: Embed, *, count: int = 5, generator: np.random.Generator
) -> Pairs:
    """ConvexDA: the pairs, and each of them once more with both answers rewritten, independently (arXiv 2309.16155).

    Of `count` rewrites of an answer one is drawn among the corners of their convex hull. The paper does not say whether
    the rewritten pair is added or replaces its own, nor which side is rewritten: adding, both sides, is recommended.

    Args:
        rewrite: an answer and a number to that many rewrites that mean the same.
        embed: texts to vectors [N, d].
    """

    def furthest(answer: str) -> str:
        texts = rewrite(answer, count)
        return texts[int(generator.choice(convex_select(embed(texts))))]

    return Pairs(
        [*pairs.samples, *pairs.samples],
        [*pairs.chosen, *map(furthest, pairs.chosen)],
        [*pairs.rejected, *map(furthest, pairs.rejected)],
    )
