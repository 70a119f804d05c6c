"""A bench-top world of questions over four hops, where a search for the last hop alone is a shortcut (sheet 56)."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch

from steelyard.policies.categorical import CategoricalPolicy, TabularNet
from steelyard.rewards.citations import cited_urls
from steelyard.rewards.core import Expression
from steelyard.rewards.evidence import Opened, connected, evidence_chain
from steelyard.rewards.judges.rule import RuleJudge
from steelyard.types import Array, Prompt, Rollouts, Sample
from steelyard.worlds.noisy import Drawn

Split = Literal["train", "validation", "test"]

HOPS = 4
MOVES = ("skip", "search", "name")
THINGS = ("Belm", "Arvo", "Tilk", "Osna", "Fenn")
"""E_0, the answer, to E_4, with which the question begins."""
WHOLE, NEITHER, ROBUST = 0.95, 0.05, 0.15
"""Chances of a right answer: all hops searched; neither they nor the shortcut; the shortcut in the robust test."""

_MENTIONS = np.array([[entity in (hop, hop + 1) for entity in range(HOPS + 1)] for hop in range(HOPS)])


class HopChains:
    """Hop k links the entities E_{k−1} and E_k; E_0 is the answer. An attempt skips, searches and cites, or names each.

    The answer is right with 0.95 where all hops were searched, with `shortcut` where the answer's own hop was but not
    all of them, else with 0.05; each search ends the attempt without an answer with chance `risk`. In the robust test
    the shortcut is right with 0.15 only. Both chances are drawn by the world when an attempt is rewarded. The policy is
    a softmax of three moves for each hop, the same for all questions.

    Args:
        seed: of what is drawn.
        shortcut: chance of a right answer by the shortcut.
        risk: chance that a search ends the attempt.
    """

    name = "hop-chains"
    attempts = 8

    def __init__(self, *, seed: int = 0, shortcut: float = 0.8, risk: float = 0.05) -> None:
        self.shortcut, self.risk = shortcut, risk
        self.judge = RuleJudge(verdict, name="hop-chains")
        finished = Drawn(lambda rollouts: self.finishing(_searched(rollouts)), "finished", seed=[56, seed, 0])
        right = Drawn(lambda rollouts: self.rightness(_searched(rollouts), self.shortcut), "right", seed=[56, seed, 1])
        self.outcome: Expression = finished * right
        self.evidence: Expression = finished * evidence_chain(self.judge, opened=opened)
        self.backwards: Expression = finished * evidence_chain(self.judge, opened=opened, answer=f"E{HOPS}")

    def samples(self, split: Split, count: int, *, seed: int = 0) -> Sequence[Sample]:
        """One question `count` times; every split and seed has the same."""
        statements = [f"<E{hop + 1}> leads to <E{hop}>." for hop in range(HOPS)]
        prompt = f"Begin at {THINGS[-1]} and go {HOPS} steps on. Where are you?"
        return [Sample(f"question-{i}", prompt, columns={"statements": statements}) for i in range(count)]

    def policy(self, *, seed: int = 0) -> CategoricalPolicy:
        """A policy that does any of the three at every hop; the same for every seed."""
        module = TabularNet(1, [len(MOVES)] * HOPS)
        return CategoricalPolicy(module, [MOVES] * HOPS, observe=_nothing, render=render, read=read)

    def finishing(self, searched: Array) -> Array:
        """float64 [N]: the chance that no search ends the attempt; `searched` bool [N, 4]."""
        return (1 - self.risk) ** searched.sum(axis=1)

    @staticmethod
    def rightness(searched: Array, shortcut: float) -> Array:
        """float64 [N]: the chance of a right answer, if there is one."""
        return np.where(searched.all(axis=1), WHOLE, np.where(searched[:, 0], shortcut, NEITHER))

    def figures(self, policy: CategoricalPolicy) -> dict[str, float]:
        """Exact: accuracy, accuracy where the shortcut fails, evidence if finished, share of hops searched."""
        moves = np.array(list(itertools.product(range(len(MOVES)), repeat=HOPS)))
        each = [_softmax(policy, hop) for hop in range(HOPS)]
        weight = np.prod([each[hop][moves[:, hop]] for hop in range(HOPS)], axis=0)
        searched = moves == MOVES.index("search")
        finishing = self.finishing(searched)
        return {
            "accuracy": float(weight @ (finishing * self.rightness(searched, self.shortcut))),
            "robust": float(weight @ (finishing * self.rightness(searched, ROBUST))),
            "evidence": float(weight @ connected(_MENTIONS, searched).mean(axis=1)),
            "searched": float(weight @ searched.mean(axis=1)),
        }


def _nothing(sample: Sample) -> Array:
    return np.zeros(1, np.float32)


def _softmax(policy: CategoricalPolicy, hop: int) -> Array:
    with torch.no_grad():
        found: Array = policy.module.tables[hop][0].double().softmax(-1).numpy()  # type: ignore[union-attr]
    return found


def _fact(hop: int) -> str:
    return f"{THINGS[hop + 1]} leads to {THINGS[hop]}."


def _page(hop: int) -> str:
    return f"https://hops.example/{hop}"


def render(moves: Sequence[str]) -> str:
    """The moves as an answer: a searched hop is stated with its citation, a named one without, a skipped one not."""
    lines = [
        f"{_fact(hop)[:-1]} [{hop + 1}]({_page(hop)})." if move == "search" else _fact(hop)
        for hop, move in enumerate(moves)
        if move != "skip"
    ]
    return "\n".join([*lines, f"The answer is {THINGS[0]}."])


def read(completion: str) -> Sequence[str]:
    """An answer back to its moves."""
    searched, lines = _cited(completion), completion.splitlines()
    return ["search" if searched[hop] else "name" if _fact(hop) in lines else "skip" for hop in range(HOPS)]


def _cited(completion: str) -> list[bool]:
    urls = cited_urls(completion)
    return [_page(hop) in urls for hop in range(HOPS)]


def _searched(rollouts: Rollouts) -> Array:
    return np.array([_cited(text) for text in rollouts.completions])


def opened(rollouts: Rollouts) -> list[Opened]:
    """The pages that each attempt's searches have brought: one a searched hop, with the fact of that hop."""
    return [
        [(_page(hop), "", _fact(hop)) for hop, searched in enumerate(row) if searched] for row in _searched(rollouts)
    ]


def verdict(prompt: Prompt) -> str:
    """The judge, exactly: an entity is named where its name stands in the response; a fact is supported by its page."""
    fields: Mapping[str, Any] = json.loads(str(prompt[-1]["content"]))  # type: ignore[index]
    if "pages" in fields:
        held = {label: {"supported": text in fields["pages"]} for label, text in fields["statements"].items()}
        return json.dumps({"statements": held})
    named = {f"E{i}": thing if thing in fields["response"] else None for i, thing in enumerate(THINGS)}
    return json.dumps({"entities": named})
