r"""Whether a boxed answer is the gold answer, compared as texts after Minerva's normalisation."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence

from steelyard.rewards.core import reward
from steelyard.rewards.final_answers import closed_box
from steelyard.rewards.golds import NO_GOLD, gold_texts
from steelyard.types import Verdict

TAIL = 300
"""How many of a completion's last characters may hold its box."""

_REPLACED = (
    ("an ", ""), ("a ", ""), (".$", "$"), (r"\$", ""), (r"\ ", ""), (" ", ""), ("mbox", "text"),
    (r",\text{and}", ","), (r"\text{and}", ","), (r"\text{m}", r"\text{}"),
)  # fmt: skip
_DROPPED_WORDS = r"""
square ways integers dollars mph inches hours km units \ldots sue points feet minutes digits cents degrees cm gm pounds
meters meals edges students childrentickets multiples \text{s} \text{.}
"""
_DROPPED_MARKS = r"""\text{}^2 \text{}^3"""
_DROPPED_REST = r"""\text{} \mathrm{th} ^\circ ^{\circ} \; ,\! {,} " \dots"""
_DROPPED = (
    *_DROPPED_WORDS.split(), "\\text{\ns}", *_DROPPED_MARKS.split(), "\\text{\n}", *_DROPPED_REST.split()
)  # fmt: skip
_PATTERNS = (
    (re.compile(r".*?\$(.*?)\$.*"), r"$\1$"),
    *((re.compile(rf"\\{command}\{{(.*?)\}}"), r"\1") for command in ("text", "textbf", "overline")),
    (re.compile(r"\\boxed\{(.*)\}"), r"\1"),
    (re.compile(r"frac([^{])(.)"), r"frac{\1}{\2}"),
    (re.compile(r"sqrt([^{])"), r"sqrt{\1}"),
)


@functools.lru_cache(maxsize=8192)
def minerva_normalised(answer: str) -> str:
    r"""An answer without what changes only its looks: what stands before `=`, articles, spaces, units, text commands,
    TeX shorthands (`\frac12` is `\frac{1}{2}`), dollars, commas in numbers.

    The substitutions are fixed and crude: "a " goes wherever it stands, and `3 km` is `3`.

    Source: Lewkowycz et al. 2022 (Minerva), appendix D; sheet 20's answer check.
    """
    text = answer.split("=")[-1]
    for before, after in (*_REPLACED, *((word, "") for word in _DROPPED)):
        text = text.replace(before, after)
    for pattern, kept in _PATTERNS:
        text = pattern.sub(kept, text)
    text = text.replace("$", "")
    bare = text.replace(",", "")
    return (bare if bare.isdigit() else text).strip()


def boxed_answer(completion: str) -> str | None:
    r"""The normalised contents of the last `\boxed{}` within a completion's last 300 characters, or None."""
    found = closed_box(completion[-TAIL:])
    return None if found is None else minerva_normalised(found)


@reward
def boxed_match(completion: str, answer: str | float | Sequence[str]) -> float | Verdict:
    r"""1 iff the last `\boxed{}` of a completion and the gold, or one of several, are the same text, else 0.

    Both go through `minerva_normalised`.

    Strict and cheap: 1/2 is not 0.5. `math_correct` compares values. Source: sheet 20.
    """
    golds = gold_texts(answer)
    found = boxed_answer(completion)
    return float(found is not None and found in map(minerva_normalised, golds)) if golds else NO_GOLD
