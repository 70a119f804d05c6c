"""The probes: each file asks one kind of question of a reward, each function one question."""

from steelyard.audits.probes.attacks import additions, answer_lists, empty_and_keys, prompt_echo
from steelyard.audits.probes.best_of_n import best_of_n
from steelyard.audits.probes.calibration import calibration
from steelyard.audits.probes.health import failures, saturation, speed
from steelyard.audits.probes.invariance import invariance, option_order, paraphrases
from steelyard.audits.probes.length import length
from steelyard.audits.probes.parts import dead_parts, duplicate_parts
from steelyard.audits.probes.reach import reach
from steelyard.audits.probes.repeatability import batch_order, determinism
from steelyard.audits.probes.sensitivity import other_question, sensitivity
from steelyard.audits.probes.separation import preference, separation
from steelyard.audits.probes.words import lucky_words

PROBES = (
    failures,
    determinism,
    batch_order,
    saturation,
    separation,
    preference,
    sensitivity,
    other_question,
    reach,
    empty_and_keys,
    prompt_echo,
    answer_lists,
    additions,
    lucky_words,
    length,
    invariance,
    option_order,
    paraphrases,
    dead_parts,
    duplicate_parts,
    best_of_n,
    calibration,
    speed,
)
"""All of them, in the order of the report."""

__all__ = ["PROBES", *(probe.__name__ for probe in PROBES)]
