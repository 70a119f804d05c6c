"""What judges: the reward algebra and the rewards made with it."""

from steelyard.rewards.aggregation import log_tamed, normalised, ranked
from steelyard.rewards.answers import correct, think_format
from steelyard.rewards.code import code_tests, output_tests
from steelyard.rewards.combinators import base_and_bonus, clip, hybrid, minimum, pessimistic, rescaled, vector
from steelyard.rewards.consistency import branch_alignment
from steelyard.rewards.core import Expression, fill, gate, reward, score_one
from steelyard.rewards.dense import calibrated, dense_tests, difficulty
from steelyard.rewards.mathematics import math_correct
from steelyard.rewards.overlap import bleu
from steelyard.rewards.priority import gated
from steelyard.rewards.schedules import cosine, linear, piecewise, scheduled, schedules

__all__ = [
    "Expression",
    "base_and_bonus",
    "bleu",
    "branch_alignment",
    "calibrated",
    "clip",
    "code_tests",
    "correct",
    "cosine",
    "dense_tests",
    "difficulty",
    "fill",
    "gate",
    "gated",
    "hybrid",
    "linear",
    "log_tamed",
    "math_correct",
    "minimum",
    "normalised",
    "output_tests",
    "pessimistic",
    "piecewise",
    "ranked",
    "rescaled",
    "reward",
    "scheduled",
    "schedules",
    "score_one",
    "think_format",
    "vector",
]
