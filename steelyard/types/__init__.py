"""The words of the house as types: samples, rollouts, scores, advantages, pairs and the protocols between stages."""

from steelyard.types.pairs import Pairs
from steelyard.types.protocols import Judge, Perturbation, PerturbationSampler, Policy, Reward
from steelyard.types.rollouts import PER_BRANCH, Actions, GroupKey, Rollouts, broadcast_steps, group_index
from steelyard.types.samples import (
    Array,
    Direction,
    Prefix,
    Prompt,
    Sample,
    SteelyardError,
    Streams,
    check_attempts,
    check_frames,
    streams,
)
from steelyard.types.scores import Advantages, Scores, Status, Verdict
from steelyard.types.text_scores import TextScorer, TextScores, overlapping

__all__ = [
    "PER_BRANCH",
    "Actions",
    "Advantages",
    "Array",
    "Direction",
    "GroupKey",
    "Judge",
    "Pairs",
    "Perturbation",
    "PerturbationSampler",
    "Policy",
    "Prefix",
    "Prompt",
    "Reward",
    "Rollouts",
    "Sample",
    "Scores",
    "Status",
    "SteelyardError",
    "Streams",
    "TextScorer",
    "TextScores",
    "Verdict",
    "broadcast_steps",
    "check_attempts",
    "check_frames",
    "group_index",
    "overlapping",
    "streams",
]
