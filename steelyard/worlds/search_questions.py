"""A bench-top world of questions over several hops, answered by searching a small corpus step by step."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from steelyard.environments.search import Passages, SearchTool
from steelyard.policies.stateful import StatePolicy
from steelyard.rewards.agent_steps import judged_steps
from steelyard.rewards.judges.rule import RuleJudge
from steelyard.types import Array, Prompt, Sample, SteelyardError
from steelyard.worlds.noisy import Noisy

Split = Literal["train", "validation", "test"]

QUESTIONS, HOPS = 12, 4
RELATIONS = ("founder", "rival", "mentor", "neighbour", "partner", "successor")
_SYLLABLES = [a + b for a in "bdfgklmnprstvz" for b in "aeiou"]
_FACT = re.compile(r"\[1\] \w+: the \w+ of \w+ is (\w+)\.")
_NAME = re.compile(r"\b[A-Z][a-z]{5}\b")


class Place(NamedTuple):
    """Where an attempt stands: the question, how many steps were taken, how many of them were right."""

    question: int
    step: int
    right: int


class SearchQuestions:
    """The world of sheet 67's evidence: 12 questions of four steps with six actions each.

    Things of a made-up world are linked by six relations, one passage a link. A question names a thing and four
    relations: three are searched for, the fourth's end is the answer. At every thing one relation leads on, and which
    one depends on the step and on how many steps before were right; the others lead aside, from where the answer is out
    of reach. A rule grades thoughts, queries and answers, with noise on every step's reward.

    Args:
        seed: of names, links and the noise.
        noise: standard deviation of what is added to a step's reward.
    """

    name = "search-questions"
    attempts, budget = 5, HOPS

    def __init__(self, *, seed: int = 0, noise: float = 0.5) -> None:
        generator = np.random.default_rng([67, seed])
        self.right: Array = generator.integers(0, len(RELATIONS), (QUESTIONS, HOPS, HOPS))
        places = [Place(q, t, m) for q in range(QUESTIONS) for t in range(HOPS) for m in range(t + 1)]
        names = _names(generator, len(places) + QUESTIONS * HOPS * len(RELATIONS))
        self.thing = dict(zip(places, names, strict=False))
        self.place = {name: place for place, name in self.thing.items()}
        ends = [Place(q, HOPS - 1, m) for q in range(QUESTIONS) for m in range(HOPS)]
        rest = iter(names[len(places) :])
        self.ends = {place: [next(rest) for _ in RELATIONS] for place in ends}
        self.state = {place: number for number, place in enumerate(places)}
        self.passages = Passages([fact for place in places for fact in self._facts(place)])
        self.environment = SearchTool(self.passages, k=1)
        self.judge = RuleJudge(self.verdict, name="search-questions")
        self.steps = Noisy(judged_steps(self.judge, budget=HOPS), noise, seed=seed)

    def samples(self, split: Split, count: int, *, seed: int = 0) -> Sequence[Sample]:
        """The questions, over and over until there are `count`; every split has the same ones."""
        questions = [self._question(number) for number in range(QUESTIONS)]
        return [questions[i % QUESTIONS] for i in range(count)]

    def policy(self, *, seed: int = 0) -> StatePolicy:
        """A policy that takes every relation alike, wherever it is; the same for every seed."""
        return StatePolicy(len(self.state), len(RELATIONS), state=self.state_of, write=self.write)

    def solved(self, policy: StatePolicy) -> float:
        """The exact probability that all four steps are right, mean over the questions."""
        chances = policy.chances()
        each = [
            [chances[self.state[place], self.right[place]] for place in (Place(q, t, t) for t in range(HOPS))]
            for q in range(QUESTIONS)
        ]
        return float(np.prod(each, axis=1).mean())

    def at(self, question: str, context: str) -> str:
        """The thing that an attempt has reached: the last one that a search brought, at first the question's."""
        found = _FACT.findall(context)
        name = found[-1] if found else next(iter(_NAME.findall(question)), "")
        if name not in self.place:
            raise SteelyardError(f"{name or question!r:.80} is nothing that this world knows; ask one of its questions")
        return str(name)

    def state_of(self, sample: Sample) -> int:
        """The number of the state that a sample is in."""
        return self.state[self.place[self.at(str(sample.prompt), sample.prefix.text if sample.prefix else "")]]

    def write(self, sample: Sample, action: int) -> str:
        """An action in words: look a relation up, or in the last step answer with what it leads to."""
        thing = self.at(str(sample.prompt), sample.prefix.text if sample.prefix else "")
        place, relation = self.place[thing], RELATIONS[action]
        thought = f"<think>I am at {thing} and need its {relation}.</think>"
        if place.step == HOPS - 1:
            return f"{thought} <answer>{self.ends[place][action]}</answer>"
        return f"{thought} <search>{relation} of {thing}</search>"

    def verdict(self, prompt: Prompt) -> str | None:
        """The rule: a thought names where it is, a query asks for what leads on, an answer is the reference."""
        fields: Mapping[str, Any] = json.loads(str(prompt[-1]["content"]))  # type: ignore[index]
        if "answer" in fields:
            good = fields["answer"].strip() == fields["reference"]
        else:
            thing = self.at(fields["question"], fields["context"])
            place = self.place[thing]
            words = set(re.findall(r"\w+", fields.get("query", fields["thought"])))
            asked = words & set(RELATIONS)
            good = thing in words and ("query" not in fields or asked == {RELATIONS[self.right[place]]})
        return f"<score>{1 if good else -1}</score>"

    def _question(self, number: int) -> Sample:
        last = Place(number, HOPS - 1, HOPS - 1)
        *hops, end = (RELATIONS[self.right[number, t, t]] for t in range(HOPS))
        prompt = (
            f"Begin at {self.thing[Place(number, 0, 0)]}. Go to its {', then to the '.join(hops)}. Who is the {end}?"
        )
        answer = self.ends[last][self.right[last]]
        return Sample(f"question-{number}", prompt, columns={"answer": answer, "number": number})

    def _facts(self, place: Place) -> list[str]:
        """A passage for each relation of a thing."""
        if place.step == HOPS - 1:
            ends = self.ends[place]
        else:
            on, aside = (Place(place.question, place.step + 1, place.right + more) for more in (1, 0))
            ends = [self.thing[on if i == self.right[place] else aside] for i in range(len(RELATIONS))]
        thing = self.thing[place]
        return [f"{thing}: the {relation} of {thing} is {end}." for relation, end in zip(RELATIONS, ends, strict=True)]


def _names(generator: np.random.Generator, count: int) -> list[str]:
    """Made-up names of three syllables, all different."""
    numbers = generator.choice(len(_SYLLABLES) ** 3, count, replace=False)
    places = np.unravel_index(numbers, (len(_SYLLABLES),) * 3)
    return ["".join(_SYLLABLES[i] for i in row).capitalize() for row in zip(*places, strict=True)]
