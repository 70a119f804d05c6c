"""Rewards made of a judge: a score, a verdict against a reference, a preference, a belief."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from steelyard.rewards.core import BatchReward
from steelyard.rewards.judges.asking import ComparePrompt, Comparison, VerifyPrompt, compare, read_verdicts, verify
from steelyard.rewards.judges.parsing import Parse, parse_one_word, score_reader
from steelyard.rewards.judges.templates import compare_prompt, prompt_text, score_prompt, verify_prompt
from steelyard.types import Array, Judge, Prompt, Rollouts, Scores, Status, SteelyardError, Verdict


@runtime_checkable
class WeighingJudge(Judge, Protocol):
    """A judge that can also say how likely its reply is to begin with given answers (a local model, an endpoint)."""

    def probabilities(self, prompts: Sequence[Prompt], answers: Sequence[str]) -> Array:
        """float64 [N, K]; NaN where it cannot say."""
        ...


def judged(
    judge: Judge,
    prompt: Callable[[str, str], Prompt] = score_prompt,
    *,
    parse: Parse | None = None,
    question: str = "prompt",
    name: str = "judged",
) -> BatchReward:
    """The judge's score of each completion, one prompt a row.

    Args:
        judge: who is asked.
        prompt: question and completion to a prompt; by default `score_prompt`, from 1 to 10.
        parse: of a reply; by default one JSON object with a score from 1 to 10. A scale of your own:
            `judged(judge, partial(score_prompt, low=0, high=1), parse=score_reader(0, 1))`.
        question: column with what was asked.
        name: how logs call it.

    Returns:
        A reward: the score, NaN with a status where the judge did not reply or could not be read.
    """
    read = parse or score_reader(1, 10)

    def score(rollouts: Rollouts) -> Scores:
        questions, completions = texts_of(rollouts, question), texts_of(rollouts, "completion")
        prompts = [prompt(*row) for row in zip(questions, completions, strict=True)]
        return scores_of(read_verdicts(judge, prompts, read))

    return named_reward(score, name, f"{name}({_name(judge)!r})")


def verified(
    judge: Judge,
    *,
    reference: str = "answer",
    question: str = "prompt",
    prompt: VerifyPrompt = verify_prompt,
    parse: Parse = parse_one_word,
    name: str = "verified",
) -> BatchReward:
    """1 where the judge says that the completion reaches the reference, 0 where it says that it does not, else NaN.

    Measure it with `steelyard.audits.master_keys` before a policy is trained on it: many judges say YES to strings
    without content. `guarded` stands in front of it. Source: sheet 47.

    Args:
        judge: who is asked.
        reference, question: columns; prompt and parse: as in `verify`.
        name: how logs call it.
    """

    def score(rollouts: Rollouts) -> Scores:
        columns = (texts_of(rollouts, column) for column in (question, reference, "completion"))
        return scores_of(verify(judge, *columns, prompt=prompt, parse=parse))

    return named_reward(score, name, f"{name}({_name(judge)!r})")


def believed(
    judge: WeighingJudge,
    *,
    reference: str = "answer",
    question: str = "prompt",
    prompt: VerifyPrompt = verify_prompt,
    answers: tuple[str, str] = ("YES", "NO"),
    name: str = "believed",
) -> BatchReward:
    """P(yes) / (P(yes) + P(no)) of the judge's first words: `verified` without the rounding.

    The part `NAME/mass` is P(yes) + P(no): where it is small, the judge was about to say something else. NaN where both
    are 0 or the prompt does not fit.

    Raises:
        SteelyardError: for a judge that gives no probabilities.
    """
    if not isinstance(judge, WeighingJudge):
        raise SteelyardError(
            f"believed needs the probabilities of answers, which {judge!r} does not give; use verified"
        )

    def score(rollouts: Rollouts) -> Scores:
        columns = (texts_of(rollouts, column) for column in (question, reference, "completion"))
        both = judge.probabilities([prompt(*row) for row in zip(*columns, strict=True)], answers)
        return Scores(share_of_first(both), parts={f"{name}/mass": both.sum(axis=1).astype(np.float32)})

    return named_reward(score, name, f"{name}({_name(judge)!r})")


def share_of_first(probabilities: Array) -> Array:
    """p₀ / Σ p of answers [N, K], float64 [N]; NaN where none of them was likely at all: that is no verdict."""
    total = np.asarray(probabilities, np.float64).sum(axis=1)
    return np.where(total > 0, probabilities[:, 0] / np.where(total > 0, total, 1.0), np.nan)


def preferred(
    judge: Judge,
    *,
    against: str = "reference",
    question: str = "prompt",
    prompt: ComparePrompt = compare_prompt,
    name: str = "preferred",
) -> BatchReward:
    """1 where the judge prefers the completion to the text in a column, 0 where it prefers that, 0.5 for a tie.

    Every pair is asked about in both orders; see `compare`.
    """

    def score(rollouts: Rollouts) -> Scores:
        columns = (texts_of(rollouts, column) for column in (question, "completion", against))
        return scores_of(compare(judge, *columns, prompt=prompt))

    return named_reward(score, name, f"{name}({_name(judge)!r}, against={against!r})")


def preferred_in_group(
    judge: Judge, *, question: str = "prompt", prompt: ComparePrompt = compare_prompt, name: str = "preferred_in_group"
) -> BatchReward:
    """Mean of the completion's comparisons with every other of its group: n(n − 1) prompts for a group of n.

    A pair whose reply could not be read counts in neither row's mean; a row without any is NaN. A group of one has
    nobody to be compared with: NaN with `NOT_APPLICABLE`. Source: sheet 17 (round robin).
    """

    def score(rollouts: Rollouts) -> Scores:
        pairs = _pairs(rollouts.groups)
        questions, texts = texts_of(rollouts, question), texts_of(rollouts, "completion")
        sides = ([questions[i] for i, _ in pairs], [texts[i] for i, _ in pairs], [texts[j] for _, j in pairs])
        return _round_robin(pairs, compare(judge, *sides, prompt=prompt), len(rollouts))

    return named_reward(score, name, f"{name}({_name(judge)!r})")


def _pairs(group: Array) -> list[tuple[int, int]]:
    """Every pair of rows that share a group."""
    found = []
    for number in np.unique(group):
        rows = np.flatnonzero(group == number)
        i, j = np.triu_indices(len(rows), 1)
        found += list(zip(rows[i].tolist(), rows[j].tolist(), strict=True))
    return found


def _round_robin(pairs: list[tuple[int, int]], found: list[Comparison], count: int) -> Scores:
    won, met, status = np.zeros(count), np.zeros(count), np.full(count, Status.NOT_APPLICABLE, np.int8)
    for (i, j), comparison in zip(pairs, found, strict=True):
        if np.isnan(comparison.value):
            status[[i, j]] = np.where(met[[i, j]] > 0, status[[i, j]], comparison.status)
            continue
        won[[i, j]] += comparison.value, 1 - comparison.value
        met[[i, j]] += 1
        status[[i, j]] = Status.SCORED
    return Scores(np.where(met > 0, won / np.maximum(met, 1), np.nan), status)


def scores_of(verdicts: Sequence[Verdict | Comparison]) -> Scores:
    """Verdicts as scores, with their statuses."""
    values = np.asarray([verdict.value for verdict in verdicts], np.float32)
    return Scores(values, np.asarray([verdict.status for verdict in verdicts], np.int8))


def texts_of(rollouts: Rollouts, column: str) -> list[str]:
    """A column as texts for a judge [N]: texts and numbers as they are written, chat messages by `prompt_text`.

    Raises:
        SteelyardError: naming the row and the column that hold anything else.
    """
    return [_text(value, column, row) for row, value in enumerate(rollouts.column(column))]


def _text(value: Any, column: str, row: int) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool | int | float):
        return str(value)
    if isinstance(value, list | tuple) and all(isinstance(turn, dict) for turn in value):
        return prompt_text(value)
    raise SteelyardError(
        f"row {row}: column {column!r} holds {type(value).__name__}; a judge reads a text, a number or chat messages"
    )


def named_reward(score: Callable[[Rollouts], Scores], base: str, shown: str) -> BatchReward:
    """A reward whose part in the log is `base`, and that prints with its judge."""
    reward = BatchReward(score, base)
    reward.name = shown
    return reward


def _name(judge: Judge) -> str:
    return str(getattr(judge, "name", type(judge).__name__))
