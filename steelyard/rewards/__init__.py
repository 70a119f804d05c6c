"""What judges: the reward algebra and the rewards made with it."""

from steelyard.rewards.aggregation import log_tamed, normalised, ranked, relative_to_best
from steelyard.rewards.answers import correct, tags_in_order, think_format
from steelyard.rewards.choices import choice_correct
from steelyard.rewards.citations import citation_f1, citation_precision, citation_recall, quotes_found, sentences_cited
from steelyard.rewards.code import code_tests, output_tests
from steelyard.rewards.combinators import (
    base_and_bonus,
    clip,
    geometric_mean,
    harmonic_mean,
    hybrid,
    mean_applicable,
    minimum,
    pessimistic,
    reading,
    rescaled,
    vector,
)
from steelyard.rewards.consistency import branch_alignment
from steelyard.rewards.core import Expression, fill, gate, reward, score_one
from steelyard.rewards.dense import calibrated, dense_tests, difficulty
from steelyard.rewards.form import json_valid, pattern_match, tag_format
from steelyard.rewards.language import language_is, same_language
from steelyard.rewards.mathematics import math_correct
from steelyard.rewards.overlap import bleu, bleuberi, rouge
from steelyard.rewards.priority import gated
from steelyard.rewards.schedules import cosine, linear, piecewise, scheduled, schedules
from steelyard.rewards.shaping import length_bonus, length_in_band, overlong_penalty, repeats
from steelyard.rewards.text import (
    exact_match,
    fresh_words,
    fuzzy_match,
    normalised_match,
    repetition_penalty,
    token_f1,
)
from steelyard.rewards.tools import (
    thinking_length,
    tool_call_format,
    tool_calls,
    tool_calls_coarse,
    tool_calls_intermediate,
    tool_calls_refined,
    tool_names,
)

__all__ = [
    "Expression",
    "base_and_bonus",
    "bleu",
    "bleuberi",
    "branch_alignment",
    "calibrated",
    "choice_correct",
    "citation_f1",
    "citation_precision",
    "citation_recall",
    "clip",
    "code_tests",
    "correct",
    "cosine",
    "dense_tests",
    "difficulty",
    "exact_match",
    "fill",
    "fresh_words",
    "fuzzy_match",
    "gate",
    "gated",
    "geometric_mean",
    "harmonic_mean",
    "hybrid",
    "json_valid",
    "language_is",
    "length_bonus",
    "length_in_band",
    "linear",
    "log_tamed",
    "math_correct",
    "mean_applicable",
    "minimum",
    "normalised",
    "normalised_match",
    "output_tests",
    "overlong_penalty",
    "pattern_match",
    "pessimistic",
    "piecewise",
    "quotes_found",
    "ranked",
    "reading",
    "relative_to_best",
    "repeats",
    "repetition_penalty",
    "rescaled",
    "reward",
    "rouge",
    "same_language",
    "scheduled",
    "schedules",
    "score_one",
    "sentences_cited",
    "tag_format",
    "tags_in_order",
    "think_format",
    "thinking_length",
    "token_f1",
    "tool_call_format",
    "tool_calls",
    "tool_calls_coarse",
    "tool_calls_intermediate",
    "tool_calls_refined",
    "tool_names",
    "vector",
]
