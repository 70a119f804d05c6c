"""A bench-top world: forty intents, each with one right tool call (sheet 30)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from steelyard.policies.categorical import CategoricalPolicy, TabularNet
from steelyard.types import Array, Sample

Split = Literal["train", "validation", "test"]

TOOLS = ("Get_Price", "Get_Flight", "Get_Weather", "Book_Hotel", "Find_Route", "Send_Note")
KEYS = ("place", "date", "class", "currency")
VALUES = ("one", "two", "three", "four", "five")
VOCABULARIES = [list(TOOLS), *([["without", "with"]] * len(KEYS)), *([list(VALUES)] * len(KEYS))]


class ToolIntents:
    """Six tools, four parameters that a call has or not, five values of each; what is right is drawn once for all.

    The policy is a table: a softmax over tools, a coin a parameter, a softmax over its values, for every intent. So
    training and test rows are the same intents, and nothing is generalised: the world measures how fast a reward's
    signal is picked up.

    Args:
        intents: how many there are.
    """

    name = "tool-intents"
    attempts = 4

    def __init__(self, *, intents: int = 40) -> None:
        generator = np.random.default_rng([30, intents])
        self._samples = [_intent(number, generator) for number in range(intents)]

    def samples(self, split: Split, count: int, *, seed: int = 0) -> Sequence[Sample]:
        """The first `count` intents, the same in every split and for every seed."""
        return self._samples[:count]

    def policy(self, *, seed: int = 0) -> CategoricalPolicy:
        """A table that calls any tool with any parameters alike."""
        module = TabularNet(len(self._samples), [len(words) for words in VOCABULARIES])
        return CategoricalPolicy(module, VOCABULARIES, observe=observe, render=render, read=read)


def _intent(number: int, generator: np.random.Generator) -> Sample:
    tool = TOOLS[generator.integers(len(TOOLS))]
    keys = [key for key in KEYS if generator.random() < 0.5]
    call = {"name": tool, "parameters": {key: VALUES[generator.integers(len(VALUES))] for key in keys}}
    return Sample(f"intent-{number}", f"Do thing {number}.", columns={"number": number, "reference": as_text(call)})


def as_text(call: dict[str, Any]) -> str:
    """A completion with this call."""
    return f"<think>plan</think>\n<tool_call>\n{json.dumps(call)}\n</tool_call>"


def observe(sample: Sample) -> Array:
    """The intent's number, float32 [1]."""
    return np.asarray([sample.columns["number"]], np.float32)


def render(words: Sequence[str]) -> str:
    """Tool, which parameters, their values to a completion; values of parameters that are left out are not seen."""
    chosen = zip(KEYS, words[1 : 1 + len(KEYS)], words[1 + len(KEYS) :], strict=True)
    return as_text({"name": words[0], "parameters": {key: value for key, use, value in chosen if use == "with"}})


def read(completion: str) -> Sequence[str]:
    """A completion back to the words that say it, with the first value for parameters that are left out."""
    call = json.loads(completion.split("\n")[2])
    given = call["parameters"]
    return [
        call["name"],
        *("with" if k in given else "without" for k in KEYS),
        *(given.get(k, VALUES[0]) for k in KEYS),
    ]
