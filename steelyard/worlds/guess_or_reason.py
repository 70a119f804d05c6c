"""A bench-top world where an answer is reasoned out by a skill that all prompts share, or guessed and remembered."""

from __future__ import annotations

import functools
import hashlib
import json
import math
import re
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch

from steelyard.policies.categorical import CategoricalPolicy, TabularNet, numbered
from steelyard.rewards.core import Expression
from steelyard.rewards.flaws import first_error
from steelyard.rewards.judges import RuleJudge
from steelyard.types import Actions, Array, Prompt, Rollouts, Sample, SteelyardError

Split = Literal["train", "validation", "test"]

PROMPTS, ANSWERS, LINKS, TELLINGS = 32, 4, 3, 1024
REASON, GUESS = "reason", "guess"
CHOICES = [str(i) for i in range(ANSWERS)]
VOCABULARIES = [[REASON, GUESS], *[CHOICES] * LINKS, CHOICES, [str(i) for i in range(TELLINGS)]]
_MODE, _GUESSED, _TOLD = 0, 1 + LINKS, 2 + LINKS
_STEP = re.compile(r"link (\d) is ([0-3])")
_OPENING = re.compile(r"way (\d+): I (reason|guess)")


class GuessOrReason:
    """The world of sheet 20's evidence: 32 prompts, each with a hidden answer out of 4.

    An attempt reasons or guesses; how often is one softmax for all prompts. Reasoning has three links of four choices,
    each one softmax for all prompts, and ends at the right answer if all three are right; the right choices' logits
    begin at 1. Guessing draws from a softmax of the prompt's own, which can remember the answer and is worth nothing
    on another prompt. So a right guess is a flawed positive. How an attempt is told is drawn and not trained.

    Args:
        seed: of the answers and the right links.
    """

    name = "guess-or-reason"
    attempts = 8

    def __init__(self, *, seed: int = 0) -> None:
        generator = np.random.default_rng([20, seed])
        self.answers: Array = generator.integers(0, ANSWERS, PROMPTS)
        self.links: Array = generator.integers(0, ANSWERS, LINKS)

    @property
    def flawed(self) -> Expression:
        """Whether the way to an answer is wrong, by a judge that is never wrong."""
        return self.judged_by()

    def judged_by(
        self, *, misses: float = 0.0, alarms: float = 0.0, turned: bool = False, name: str = "rule"
    ) -> Expression:
        """The same by a judge that errs.

        Args:
            misses: share of wrong ways that it passes; alarms: share of sound ones that it faults. Which, follows from
                a hash of what it reads: the same solution gets the same verdict.
            turned: whether it says the contrary of what it finds.
            name: of the judge.
        """
        rule = functools.partial(self._critique, misses=misses, alarms=alarms, turned=turned)
        return first_error(RuleJudge(rule, name=name))

    def _critique(self, prompt: Prompt, *, misses: float, alarms: float, turned: bool) -> str:
        content = str(prompt[1]["content"])  # type: ignore[index]
        wrong = self.first_wrong(list(json.loads(content)["steps"].values()))
        errs = _uniform(content) < (alarms if wrong < 0 else misses)
        said = wrong if errs == turned else (-1 if wrong >= 0 else 0)
        return f"So it is \\boxed{{{said}}}."

    def first_wrong(self, steps: Sequence[str]) -> int:
        """The index of the first wrong step of a solution, −1 for none: a guess is wrong from the start."""
        opening = _OPENING.fullmatch(steps[0]) if steps else None
        if opening is None or opening[2] == GUESS:
            return 0
        links = [_STEP.fullmatch(step) for step in steps[1 : 1 + LINKS]]
        wrong = (i for i, (said, right) in enumerate(zip(links, self.links, strict=True), 1)
                 if said is None or int(said[2]) != right)  # fmt: skip
        return next(wrong, -1)

    def samples(self, split: Split, count: int, *, seed: int = 0) -> Sequence[Sample]:
        """The prompts, over and over; splits do not differ, since what generalises is known exactly (`figures`)."""
        return [self._sample(split, i) for i in range(count)]

    def _sample(self, split: Split, i: int) -> Sample:
        number = i % PROMPTS
        columns = {"prompt": number, "answer": str(self.answers[number])}
        return Sample(f"{split}-{i}", f"Question {number}: 0, 1, 2 or 3?", columns=columns)

    def policy(self, *, seed: int = 0) -> GuessingPolicy:
        """Reasons and guesses alike, knows no answer, and has a leaning to the right links."""
        return GuessingPolicy(self)

    def figures(self, policy: CategoricalPolicy) -> dict[str, float]:
        """Exact: accuracy on the prompts, the share of guesses among right answers, accuracy on prompts never seen."""
        with torch.no_grad():
            encoded, none = torch.arange(PROMPTS), torch.zeros(PROMPTS, 0, dtype=torch.long)
            steps = range(_TOLD)
            tables = [policy.module.logits(encoded, none, step).double().softmax(-1).numpy() for step in steps]
        reason, guess = tables[_MODE][0]
        sound = reason * np.prod([tables[1 + i][0, right] for i, right in enumerate(self.links)])
        lucky = float(guess * tables[_GUESSED][np.arange(PROMPTS), self.answers].mean())
        accuracy = float(sound) + lucky
        return {"accuracy": accuracy, "flawed_share": lucky / accuracy, "held_out": float(sound + guess / ANSWERS)}


class GuessingPolicy(CategoricalPolicy):
    """Writes solutions of a world's prompts; where a chain of links leads is the world's to say.

    Args:
        world: whose prompts they are.
    """

    def __init__(self, world: GuessOrReason) -> None:
        self.world = world
        sizes = [len(words) for words in VOCABULARIES]
        module = TabularNet(PROMPTS, sizes, shared=[*range(1 + LINKS), _TOLD])
        with torch.no_grad():
            for link, right in enumerate(world.links):
                module.tables[1 + link][0, right] = math.sqrt(PROMPTS)  # a logit of 1: see `TabularNet.shared`
        module.tables[_TOLD].requires_grad_(False)
        super().__init__(module, VOCABULARIES, observe=numbered, render=" ".join, read=read)

    def _rollouts(self, samples: list[Sample], tokens: Array, logprobs: Array, group: Array) -> Rollouts:
        """Solutions as texts; a mask over what each attempt did of reasoning and guessing."""
        reasons = tokens[:, _MODE] == 0
        links, guessed = tokens[:, 1 : 1 + LINKS], tokens[:, _GUESSED]
        right = (links == self.world.links).all(axis=1)
        gold = np.asarray([int(sample.columns["answer"]) for sample in samples])
        answers = np.where(reasons, np.where(right, gold, (gold + 1) % ANSWERS), guessed)
        texts = [
            solution(*row) for row in zip(reasons, links.tolist(), answers.tolist(), tokens[:, _TOLD], strict=True)
        ]
        mask = np.ones(tokens.shape, bool)
        mask[:, 1 : 1 + LINKS], mask[:, _GUESSED], mask[:, _TOLD] = reasons[:, None], ~reasons, False
        return Rollouts(samples, texts, group=group, actions=Actions(logprobs, mask, {"tokens": tokens}))


def solution(reasons: bool, links: Sequence[int], answer: int, told: int) -> str:
    """An attempt as a text of steps with a boxed answer."""
    opening = f"way {told}: I {REASON if reasons else GUESS}"
    steps = [f"link {i} is {link}" for i, link in enumerate(links)] if reasons else []
    return "\n\n".join([opening, *steps, f"so \\boxed{{{answer}}}"])


def read(completion: str) -> Sequence[str]:
    """A solution back to its words, with 0 for those of the way that it did not take.

    Raises:
        SteelyardError: for a text of another form.
    """
    opening, *steps = completion.split("\n\n")
    begun, links = _OPENING.fullmatch(opening), [_STEP.fullmatch(step) for step in steps[:-1]]
    boxed = re.fullmatch(r"so \\boxed\{([0-3])\}", steps[-1]) if steps else None
    reasons = begun is not None and begun[2] == REASON
    if begun is None or boxed is None or None in links or len(links) != LINKS * reasons:
        raise SteelyardError(f"{completion!r:.80} is not of the form {solution(False, [], 0, 0)!r}")
    said = [link[2] for link in links if link] or ["0"] * LINKS
    return [begun[2], *said, "0" if reasons else boxed[1], begun[1]]


def _uniform(text: str) -> float:
    """A number in [0, 1) that follows from a text."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=6).digest()) / 2**48
