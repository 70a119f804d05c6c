"""What judges: the reward algebra and the rewards made with it."""

from steelyard.rewards.answers import correct, think_format
from steelyard.rewards.consistency import branch_alignment
from steelyard.rewards.core import Expression, fill, gate, reward, score_one
from steelyard.rewards.mathematics import math_correct
from steelyard.rewards.overlap import bleu

__all__ = [
    "Expression",
    "bleu",
    "branch_alignment",
    "correct",
    "fill",
    "gate",
    "math_correct",
    "reward",
    "score_one",
    "think_format",
]
