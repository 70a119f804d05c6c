"""The kinds of text perturbations by name, and a kind as a perturbation of a sample's prompt."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from steelyard.perturb.text import functional
from steelyard.types import Prompt, Sample, SteelyardError

Change = Callable[[str, np.random.Generator], "str | None"]


@dataclass(frozen=True)
class Kind:
    """One kind of change.

    Attributes:
        name: how reports call it.
        keeps_answer: whether what a text says is right after the change if it was before.
        change: text and generator to the changed text, None where it does not apply.
        what: the change in words, the middle of a sentence.
    """

    name: str
    keeps_answer: bool
    change: Change
    what: str

    def __call__(self, text: str, generator: np.random.Generator) -> str | None:
        """The changed text, or None where the change does not apply."""
        return self.change(text, generator)


_ALL = (
    Kind("whitespace", True, functional.padded_space, "white space around it and at the ends of lines"),
    Kind("case", True, functional.lower_case, "small letters"),
    Kind("markdown", True, functional.bold_end, "its last line in bold"),
    Kind("layout", True, functional.laid_out, "a heading above it and its lines as a list"),
    Kind("politeness", True, functional.polite, "a courtesy before it"),
    Kind("closing", True, functional.closed, "a courtesy behind it"),
    Kind("filler", True, functional.filler, "empty sentences before it, twice as long"),
    Kind("repetition", True, functional.repeated, "the same three times"),
    Kind("wrong_number", False, functional.wrong_number, "another last number"),
    Kind("wrong_sign", False, functional.other_sign, "the other sign before the last number"),
    Kind("wrong_scale", False, functional.moved_point, "the last number's point one place on"),
    Kind("negation", False, functional.negated, "a statement turned round"),
    Kind("truncation", False, functional.truncated, "only its first half"),
    Kind("word_order", False, functional.shuffled_words, "its words shuffled"),
)
KINDS: Mapping[str, Kind] = {kind.name: kind for kind in _ALL}
"""Every kind by its name."""


@dataclass(frozen=True)
class TextPerturbation:
    """A kind with its seed, as a perturbation of a sample's prompt: its text, or its last user message.

    Where the change does not apply, the sample stays as it is.
    """

    kind: str
    seed: int

    @property
    def keeps_answer(self) -> bool:
        """Whether the right answer survives."""
        return KINDS[self.kind].keeps_answer

    def __call__(self, sample: Sample) -> Sample:
        """The sample with the changed prompt."""
        generator = np.random.Generator(np.random.Philox(self.seed))
        return replace(sample, prompt=_changed(sample.prompt, KINDS[self.kind], generator))

    def spec(self) -> dict[str, Any]:
        """Plain JSON from which it is made again with `TextPerturbation(**spec)`."""
        return {"kind": self.kind, "seed": self.seed}


def perturb_prompt(kind: str, *, seed: int) -> TextPerturbation:
    """A perturbation of prompts by the kind's name.

    Raises:
        SteelyardError: for a kind that is none.
    """
    if kind not in KINDS:
        raise SteelyardError(f"there is no text perturbation {kind!r}; there are {', '.join(KINDS)}")
    return TextPerturbation(kind, seed)


def _changed(prompt: Prompt, kind: Kind, generator: np.random.Generator) -> Prompt:
    if isinstance(prompt, str):
        text = kind(prompt, generator)
        return prompt if text is None else text
    messages = list(prompt)
    at = [i for i, message in enumerate(messages) if message.get("role") == "user"]
    if not at or not isinstance(messages[at[-1]].get("content"), str):
        return prompt
    text = kind(messages[at[-1]]["content"], generator)
    messages[at[-1]] = {**messages[at[-1]], "content": messages[at[-1]]["content"] if text is None else text}
    return messages
