"""What any judge can be asked: whether an answer is right, which of two is better, how good several are."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from steelyard.rewards.judges.cache import forget_unread
from steelyard.rewards.judges.parsing import (
    Judged,
    Parse,
    Winner,
    parse_criteria,
    parse_one_word,
    parse_scores,
    parse_winner,
)
from steelyard.rewards.judges.templates import HELPFUL, compare_prompt, criteria_prompt, list_prompt, verify_prompt
from steelyard.types import Array, Judge, Prompt, Status, SteelyardError, Verdict

VerifyPrompt = Callable[[str, str, str], Prompt]
ComparePrompt = Callable[[str, str, str], Prompt]


def verify(
    judge: Judge,
    questions: Sequence[str],
    references: Sequence[str],
    responses: Sequence[str],
    *,
    prompt: VerifyPrompt = verify_prompt,
    parse: Parse = parse_one_word,
) -> list[Verdict]:
    """Whether each response is right by its reference: 1 yes, 0 no, NaN where there is no verdict.

    The status of a NaN says why: `NOT_APPLICABLE` unsure, `UNPARSED` the reply could not be read, `FAILED` no reply.

    Args:
        judge: who is asked, N prompts at once.
        questions, references, responses: texts [N].
        prompt: question, reference, response to a prompt.
        parse: of a reply; `parse_verdict` for judges that reason before their verdict.

    Raises:
        SteelyardError: if the lists differ in length.
    """
    _check_lengths("verify", questions=questions, references=references, responses=responses)
    prompts = [prompt(*row) for row in zip(questions, references, responses, strict=True)]
    return read_verdicts(judge, prompts, parse)


def read_verdicts(judge: Judge, prompts: Sequence[Prompt], parse: Parse) -> list[Verdict]:
    """Ask, and read each reply [N]; the judge is told which could not be read."""
    replies = judge.ask(prompts)
    verdicts = [parse(reply) for reply in replies]
    forget_unread(judge, prompts, replies, [verdict.status != Status.UNPARSED for verdict in verdicts])
    return verdicts


class Comparison(NamedTuple):
    """Which of two is better, asked in both orders.

    Attributes:
        value: 1 the first, 0 the second, 0.5 a tie (said so both times, or the two orders disagree); NaN for none.
        status: `SCORED`, `TIE`, or why there is no value.
        orders: winner as first (`a`) or second (`b`) in either order; None where a reply could not be read.
    """

    value: float
    status: Status
    orders: tuple[Winner | None, Winner | None]


def compare(
    judge: Judge,
    questions: Sequence[str],
    first: Sequence[str],
    second: Sequence[str],
    *,
    prompt: ComparePrompt = compare_prompt,
    parse: Callable[[str | None], Winner | None] = parse_winner,
) -> list[Comparison]:
    """Which of two responses is better, each pair asked about in both orders (2N prompts at once).

    A response wins if both orders say so. A judge that always prefers the one shown first prefers nobody: a tie. If
    one order's reply cannot be read, the pair has no value.

    Args:
        judge: who is asked.
        questions, first, second: texts [N].
        prompt: question, a, b to a prompt; parse: a reply to `a`, `b`, `tie` or None.

    Source: sheet 17 (strict swap).
    """
    _check_lengths("compare", questions=questions, first=first, second=second)
    forward = [prompt(*row) for row in zip(questions, first, second, strict=True)]
    backward = [prompt(*row) for row in zip(questions, second, first, strict=True)]
    prompts, n = [*forward, *backward], len(forward)
    replies = judge.ask(prompts)
    winners = [parse(reply) for reply in replies]
    forget_unread(judge, prompts, replies, [winner is not None for winner in winners])
    orders = zip(winners[:n], map(_swapped, winners[n:]), strict=True)
    return [_compared(pair, _why(replies[i], replies[n + i])) for i, pair in enumerate(orders)]


def _compared(orders: tuple[Winner | None, Winner | None], why: Status) -> Comparison:
    if None in orders:
        return Comparison(math.nan, why, orders)
    if orders[0] != orders[1] or orders[0] == "tie":
        return Comparison(0.5, Status.TIE, orders)
    return Comparison(float(orders[0] == "a"), Status.SCORED, orders)


def _swapped(winner: Winner | None) -> Winner | None:
    turned: dict[Winner | None, Winner | None] = {"a": "b", "b": "a"}
    return turned.get(winner, winner)


def _why(*replies: str | None) -> Status:
    return Status.FAILED if None in replies else Status.UNPARSED


@dataclass(frozen=True)
class CriteriaComparison:
    """Winners and sizes by criterion, in both orders; `a` is the first response in both.

    Attributes:
        forward, backward: what the judge listed when the first was shown first, and second; None: not readable.
        status: `SCORED` where both could be read.
    """

    forward: list[Judged] | None
    backward: list[Judged] | None
    status: Status


def compare_criteria(
    judge: Judge,
    questions: Sequence[str],
    first: Sequence[str],
    second: Sequence[str],
    *,
    standard: str = HELPFUL,
    kinds: Sequence[str] = ("criterion",),
    largest: int = 3,
) -> list[CriteriaComparison]:
    """Which of two is better by which criterion and how much, in both orders; what it adds up to is not the judge's.

    Args:
        judge: who is asked, 2N prompts at once.
        questions, first, second: texts [N].
        standard: what counts as good (a meta-rubric); kinds: of criteria; largest: size of a difference.

    Source: sheet 17, "Interface".
    """
    _check_lengths("compare_criteria", questions=questions, first=first, second=second)

    def asked(a: Sequence[str], b: Sequence[str]) -> list[Prompt]:
        rows = zip(questions, a, b, strict=True)
        return [criteria_prompt(*row, standard=standard, kinds=kinds, largest=largest) for row in rows]

    prompts, n = [*asked(first, second), *asked(second, first)], len(questions)
    replies = judge.ask(prompts)
    read = [parse_criteria(reply, kinds=kinds, largest=largest) for reply in replies]
    forget_unread(judge, prompts, replies, [criteria is not None for criteria in read])
    found = []
    for i in range(n):
        forward, turned = read[i], read[n + i]
        backward = None if turned is None else [c._replace(winner=_swapped(c.winner) or "tie") for c in turned]
        unread = forward is None or backward is None
        why = _why(replies[i], replies[n + i]) if unread else Status.SCORED
        found.append(CriteriaComparison(forward, backward, why))
    return found


class ListScores(NamedTuple):
    """Scores of one prompt's responses side by side: float64 [K], all NaN unless `status` is `SCORED`."""

    values: Array
    status: Status


def score_list(
    judge: Judge,
    questions: Sequence[str],
    responses: Sequence[Sequence[str]],
    *,
    standard: str = HELPFUL,
    low: float = 1,
    high: float = 5,
    generator: np.random.Generator | None = None,
) -> list[ListScores]:
    """Scores of several responses that the judge sees beside each other, one prompt a question.

    Args:
        judge: who is asked.
        questions: texts [N]; responses: for each, K_n texts.
        standard: what counts as good; low, high: the scale.
        generator: shuffles the order in which each prompt's responses are shown; None leaves it.

    Source: sheet 09, sheet 49's listwise form.
    """
    _check_lengths("score_list", questions=questions, responses=responses)
    orders = [np.arange(len(row)) if generator is None else generator.permutation(len(row)) for row in responses]
    names = [[f"r{i + 1}" for i in range(len(row))] for row in responses]
    prompts = [
        list_prompt(
            question, dict(zip(name, (row[i] for i in order), strict=True)), standard=standard, low=low, high=high
        )
        for question, row, order, name in zip(questions, responses, orders, names, strict=True)
    ]
    replies, found = judge.ask(prompts), []
    read = [parse_scores(reply, name, low=low, high=high) for reply, name in zip(replies, names, strict=True)]
    forget_unread(judge, prompts, replies, [scores is not None for scores in read])
    for reply, order, scores in zip(replies, orders, read, strict=True):
        values = np.full(len(order), np.nan)
        if scores is not None:
            values[order] = scores
        found.append(ListScores(values, Status.SCORED if scores is not None else _why(reply)))
    return found


def _check_lengths(what: str, **columns: Sequence[Any]) -> None:
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise SteelyardError(f"{what} was given {lengths}; all must have one entry a row")
