"""A judge as a similarity of reasonings, for rewards that compare branches."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from steelyard.rewards.consistency import Similarity
from steelyard.rewards.judges.asking import read_verdicts
from steelyard.rewards.judges.parsing import parse_score
from steelyard.rewards.judges.templates import similarity_prompt
from steelyard.types import Array, Judge


def judged_similarity(judge: Judge) -> Similarity:
    """How far a judge finds two reasonings to agree (sheet 01, Sim^r).

    Each different pair of a call is asked about once. A reply that does not parse, or none, is NaN.

    Args:
        judge: asked with `similarity_prompt`, its replies read by `parse_score`.

    Returns:
        Anchor texts [P] and candidate texts [P] to float32 [P] in [0, 1].
    """

    def similarity(anchors: Sequence[str], candidates: Sequence[str]) -> Array:
        pairs = list(zip(anchors, candidates, strict=True))
        different = list(dict.fromkeys(pairs))
        verdicts = read_verdicts(judge, [similarity_prompt(*pair) for pair in different], parse_score)
        scores = {pair: verdict.value for pair, verdict in zip(different, verdicts, strict=True)}
        return np.asarray([scores[pair] for pair in pairs], np.float32)

    return similarity
