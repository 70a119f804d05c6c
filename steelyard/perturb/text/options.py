"""The order of options: a sample whose options stand in another order, and a completion that names the same one."""

from __future__ import annotations

import re
import string
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from steelyard.types import Sample

_ALONE = re.compile(r"(?<![A-Za-z0-9'’])\(?([A-Z])(?:\)|(?![A-Za-z0-9'’]))")
_LETTERED = re.compile(r"^\s*\(?([A-Z])[).:]\s*")


def shuffle_options(sample: Sample, completion: str, generator: np.random.Generator) -> tuple[Sample, str] | None:
    """The row with its options in another order: options, their letters in prompt, answer and completion move together.

    None where that cannot be done safely: the sample has no list `options` of two or more, its answer is no letter of
    one of them, or the completion holds more than one capital that stands alone, so that it is unclear which it means.
    """
    options, answer = sample.columns.get("options"), str(sample.columns.get("answer", "")).strip().strip("().")
    if not isinstance(options, (list, tuple)) or not 2 <= len(options) <= 26 or not isinstance(sample.prompt, str):
        return None
    letters = string.ascii_uppercase[: len(options)]
    named = _ALONE.findall(completion)
    if answer not in letters or not answer or len(named) != 1 or named[0] not in letters:
        return None
    order = _another_order(len(options), generator)
    moved = {letters[old]: letters[new] for new, old in enumerate(order)}
    shown = [_relettered(str(options[old]), letters[new]) for new, old in enumerate(order)]
    prompt = _with_options(sample.prompt, [str(option) for option in options], shown)
    columns = {**sample.columns, "options": shown, "answer": moved[answer]}
    found = _ALONE.search(completion)
    assert found is not None
    text = completion[: found.start(1)] + moved[named[0]] + completion[found.end(1) :]
    return replace(sample, prompt=prompt, columns=columns), text


def _another_order(count: int, generator: np.random.Generator) -> list[int]:
    """A shift by one or more places, so that no option stays where it was."""
    shift = int(generator.integers(1, count))
    return [(i + shift) % count for i in range(count)]


def _relettered(option: str, letter: str) -> str:
    found = _LETTERED.match(option)
    return option if found is None else option[: found.start(1)] + letter + option[found.end(1) :]


def _with_options(prompt: str, before: Sequence[str], after: Sequence[str]) -> str:
    """The prompt with each option's text, in order of appearance, replaced by the one that now stands there."""
    pieces, rest = [], prompt
    for old, new in zip(before, after, strict=True):
        head, found, tail = rest.partition(old)
        if not found:
            return prompt
        pieces += [head, new]
        rest = tail
    return "".join(pieces) + rest
