"""The order of options: a sample whose options stand in another order, and a completion that names the same one."""

from __future__ import annotations

import re
import string
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from steelyard.types import Prompt, Sample

_ALONE = re.compile(r"(?<![A-Za-z0-9'’])\(?([A-Z])(?:\)|(?![A-Za-z0-9'’]))")
_LETTERED = re.compile(r"^\s*\(?([A-Z])[).:]\s*")


def shuffle_options(sample: Sample, completion: str, generator: np.random.Generator) -> tuple[Sample, str] | None:
    """The row with its options in another order: options, their letters in prompt, answer and completion move together.

    None where that cannot be done safely: the sample has no list `options` of two or more, its answer is no letter of
    one of them, its prompt shows some of them but not all in their order, or the completion holds more than one capital
    that stands alone, so that it is unclear which it means. A prompt without any of them stays as it is.
    """
    options, answer = sample.columns.get("options"), str(sample.columns.get("answer", "")).strip().strip("().")
    if not isinstance(options, (list, tuple)) or not 2 <= len(options) <= 26:
        return None
    letters = string.ascii_uppercase[: len(options)]
    named = _ALONE.findall(completion)
    if answer not in letters or not answer or len(named) != 1 or named[0] not in letters:
        return None
    order = _another_order(len(options), generator)
    moved = {letters[old]: letters[new] for new, old in enumerate(order)}
    shown = [_relettered(str(options[old]), letters[new]) for new, old in enumerate(order)]
    prompt = _prompted(sample.prompt, [str(option) for option in options], shown)
    if prompt is None:
        return None
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


def _prompted(prompt: Prompt, before: Sequence[str], after: Sequence[str]) -> Prompt | None:
    """The prompt, or its last message with a text that shows options, with the options that now stand there."""
    if isinstance(prompt, str):
        return _with_options(prompt, before, after)
    messages = list(prompt)
    for place in range(len(messages) - 1, -1, -1):
        said = messages[place].get("content")
        made = _with_options(said, before, after) if isinstance(said, str) else said
        if made is None:
            return None
        if made != said:
            messages[place] = {**messages[place], "content": made}
            return messages
    return prompt


def _with_options(prompt: str, before: Sequence[str], after: Sequence[str]) -> str | None:
    """The text with each option replaced by the one that now stands in its place; None where only some are there.

    They are looked for from the end, where options stand: the question may hold the same words or numbers.
    """
    pieces, rest = [], prompt
    for old, new in zip(reversed(before), reversed(after), strict=True):
        found = list(re.finditer(rf"(?<!\w){re.escape(old)}(?!\w)", rest))
        if not old or not found:
            return (
                None
                if pieces or any(re.search(rf"(?<!\w){re.escape(each)}(?!\w)", rest) for each in before)
                else prompt
            )
        pieces += [rest[found[-1].end() :], new]
        rest = rest[: found[-1].start()]
    return "".join([rest, *reversed(pieces)])
