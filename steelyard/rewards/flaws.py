"""Right answers reached wrongly: finding the first wrong step, taking it off the reward, training the judge."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from steelyard.rewards.combinators import Combination, asked_where, call, with_parts
from steelyard.rewards.core import BatchReward, Expression, _check_finite, as_reward, joined, reward
from steelyard.rewards.judges.parsing import parse_first_error
from steelyard.rewards.judges.scoring import judge_name, named_reward, scores_of, texts_of
from steelyard.rewards.judges.templates import critique_prompt
from steelyard.types import Array, Judge, Prompt, Rollouts, Scores, Status, SteelyardError

TAIL = 300
"""How many of a critique's last characters may hold its box when the judge itself is trained."""

_BLANK_LINE = re.compile(r"\n[^\S\n]*\n\s*")

Critique = Callable[[str, str, Sequence[str]], Prompt]


def split_steps(solution: str) -> list[str]:
    """A solution's steps: what stands between blank lines, without what is empty."""
    return [step for step in map(str.strip, _BLANK_LINE.split(solution)) if step]


def first_error(
    judge: Judge,
    *,
    reference: str = "answer",
    question: str = "prompt",
    prompt: Critique = critique_prompt,
    split: Callable[[str], list[str]] = split_steps,
    name: str = "flawed",
) -> BatchReward:
    """1 where the judge finds a wrong step in the completion, 0 where it finds none, else NaN.

    `steps` [N, S] is 1 before the first wrong step and 0 from it on: a process reward. Of an index past the last step
    only the verdict counts, so the row has no steps. The part `NAME/step` is the index, −1 for none.

    Args:
        judge: who is asked, N prompts at once.
        reference, question: columns; split: completion to steps.
        prompt: problem, reference and steps to a prompt that asks for a boxed index.
        name: how logs call it.

    Source: sheet 20 (FAPO-GenRM).
    """

    def score(rollouts: Rollouts) -> Scores:
        questions, references, completions = (texts_of(rollouts, each) for each in (question, reference, "completion"))
        solutions = [split(text) for text in completions]
        prompts = [prompt(*row) for row in zip(questions, references, solutions, strict=True)]
        found = scores_of([parse_first_error(reply) for reply in judge.ask(prompts)])
        steps = sound_steps(found.values, np.asarray([len(solution) for solution in solutions], np.int64))
        values = np.where(np.isnan(found.values), np.nan, found.values >= 0)
        return Scores(values, found.status, steps, parts={f"{name}/step": found.values})

    return named_reward(score, name, f"{name}({judge_name(judge)!r})")


def sound_steps(first: Array, count: Array) -> Array:
    """float32 [N, S]: 1 before the first wrong step, 0 from it on, NaN past a row's last step.

    Args:
        first: float [N], index of the first wrong step, −1 for none; NaN or past the last step: the row is all NaN.
        count: int [N], steps of every row.
    """
    place = np.arange(count.max(initial=0))
    known = (place < count[:, None]) & (first < count)[:, None]
    sound = (first[:, None] < 0) | (place < first[:, None])
    return np.where(known, sound, np.nan).astype(np.float32)


def flaw_penalty(correct: Expression | float, flawed: Expression | float, *, penalty: float = 1.0) -> Expression:
    """R = +1 if correct, else −1, less λ where correct and flawed; `flawed` is asked about correct rows only.

    With λ = 1 a flawed right answer is worth 0. Normalised in groups its advantage is (β − α) / σ, with α the share of
    sound and β that of wrong rows: above 0 while ρ = α/β < 1, below 0 after, without a schedule (see `Mixture`).
    λ belongs to outcomes of ±1: where they are 0 and 1 the same idea needs 1/2.

    A row that `flawed` could not judge counts as sound (a judge's failure must not punish). A row that `correct` could
    not judge is NaN. Parts, 1 or 0: `flaws/sound`, `flaws/flawed`, `flaws/wrong`, whose means over a batch are α, γ, β;
    `flaws/unread`, right rows without a verdict; `flaws/refining`, whether α > β in the row's group.

    Args:
        correct: above 0.5 where the outcome is right; flawed: above 0.5 where the way there is wrong.
        penalty: λ ≥ 0.

    Raises:
        SteelyardError: for a λ that is negative or not finite.

    Source: sheet 20 (FAPO, arXiv 2510.22543).
    """
    if _check_finite(float(penalty), "flaw_penalty's penalty") < 0:
        raise SteelyardError(f"flaw_penalty has penalty {penalty:g}; it must be ≥ 0")
    right = as_reward(correct)
    name = call("flaw_penalty", [right, flawed], penalty=None if penalty == 1 else float(penalty))

    def combine(rollouts: Rollouts, scores: list[Scores]) -> Scores:
        outcome, verdict = (each.values for each in scores)
        unknown, correct_ = np.isnan(outcome), outcome > 0.5
        bad = correct_ & (verdict > 0.5)
        marks = {
            "sound": correct_ & ~bad,
            "flawed": bad,
            "wrong": ~correct_,
            "unread": correct_ & np.isnan(verdict),
        }
        mix = mixture(marks["sound"], marks["flawed"], marks["wrong"] & ~unknown, rollouts.groups)
        marks["refining"] = (mix.sound > mix.wrong)[np.unique(rollouts.groups, return_inverse=True)[1]]
        values = np.where(unknown, np.nan, 2.0 * correct_ - 1 - penalty * bad)
        parts = {f"flaws/{key}": np.where(unknown, np.nan, mark).astype(np.float32) for key, mark in marks.items()}
        return with_parts(joined(values, scores, name=name), parts)

    return Combination(name, [right, asked_where(flawed, by=right)], combine)


@dataclass(frozen=True, eq=False)
class Mixture:
    """Shares of sound (α), flawed (γ) and wrong (β) attempts, and what group normalisation makes of them.

    Attributes:
        sound, flawed, wrong: float64 [K], α + γ + β = 1; NaN for a group without a judged row.
    """

    sound: Array
    flawed: Array
    wrong: Array

    @property
    def ratio(self) -> Array:
        """ρ = α/β, [K]: below 1 warm-up, above 1 refinement; infinite without wrong ones, NaN with neither."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.divide(self.sound, self.wrong)

    def mean(self, penalty: float = 1.0) -> Array:
        """μ = α + (1 − λ)γ − β, [K]."""
        return self.sound + (1 - penalty) * self.flawed - self.wrong

    def std(self, penalty: float = 1.0) -> Array:
        """σ, σ² = α + (1 − λ)²γ + β − μ², [K]; σ² with λ = 1 less that with λ = 0 is γ(α − 3β)."""
        square = self.sound + (1 - penalty) ** 2 * self.flawed + self.wrong - self.mean(penalty) ** 2
        return np.sqrt(np.where(square < 1e-12, 0.0, square))

    def advantages(self, penalty: float = 1.0) -> Array:
        """(R − μ)/σ of a sound, a flawed and a wrong attempt, [3, K]; 0 where all are alike (σ = 0)."""
        spread = self.std(penalty)
        rewards = np.asarray([1.0, 1.0 - penalty, -1.0])[:, None] - self.mean(penalty)
        return np.where(spread > 0, rewards / np.where(spread > 0, spread, 1.0), 0.0)


def mixture(sound: Array, flawed: Array, wrong: Array, group: Array) -> Mixture:
    """Shares by group, in the order of the groups' numbers.

    Args:
        sound, flawed, wrong: bool [N], at most one of them true in a row; a row with none counts nowhere.
        group: int [N]; all zeros for the whole batch.
    """
    _, index = np.unique(group, return_inverse=True)
    counts = np.stack([np.bincount(index, mark.astype(np.float64)) for mark in (sound, flawed, wrong)])
    total = counts.sum(axis=0)
    return Mixture(*np.where(total > 0, counts / np.maximum(total, 1), np.nan))


@reward
def first_error_found(completion: str, first_error: int, steps: int) -> float:
    r"""What a judge earns for the index t̂ that it boxes, t* being the first wrong of n steps (−1: none).

    −1 for an unreadable index or one that is neither −1 nor in 0…n − 1, and for a wrong verdict on whether there is a
    flaw; +1 for "none" rightly said; else 1 − |t̂ − t*| / n, always above 0. The box must lie within the last 300
    characters. Columns: `first_error` t*, `steps` n.

    Raises:
        SteelyardError: for a label that is neither −1 nor one of the steps.

    Source: sheet 20, FAPO-GenRM's reward.
    """
    if not -1 <= first_error < steps:
        raise SteelyardError(f"first_error is {first_error} of {steps} steps; it must be −1 or one of 0…{steps - 1}")
    said = parse_first_error(completion[-TAIL:], steps=steps)
    if said.status != Status.SCORED or (said.value < 0) != (first_error < 0):
        return -1.0
    return 1.0 - abs(said.value - first_error) / steps
