"""Text perturbations: seeded changes of a text, each of which says of itself whether the right answer survives it."""

from steelyard.perturb.text.kinds import KINDS, Kind, TextPerturbation, perturb_prompt
from steelyard.perturb.text.options import shuffle_options

__all__ = ["KINDS", "Kind", "TextPerturbation", "perturb_prompt", "shuffle_options"]
