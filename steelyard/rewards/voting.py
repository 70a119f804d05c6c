"""Rewards for agreeing with the majority: the group's own answers stand in for the label that nobody has."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np

from steelyard.rewards.answers import answer_text
from steelyard.rewards.core import BatchReward
from steelyard.types import PER_BRANCH, Array, GroupKey, Rollouts, Scores, SteelyardError, group_index

Answer = Callable[[Any], Hashable]
"""A completion to the answer that it gives, as answers are compared; None where it gives none."""

NO_ANSWER = -1


def majority(*, answer: Answer = answer_text, by: GroupKey = PER_BRANCH) -> BatchReward:
    """r = 1[ans(y) = maj(ans(y_1), …, ans(y_G))]: 1 for the answer that most of the group give.

    Of answers with as many votes the one that was given first wins. A completion without an answer has no vote and
    earns 0, so that failed extractions never win. A group that agrees as a whole earns 1 each, which is no signal.

    Args:
        answer: completion to answer, the answer block by default; `final_answers.final_answer` reads boxes and
            sentences too. Answers that mean the same must be made equal here, or they split the vote.
        by: what makes a group; more rows a group make a better label.

    Raises:
        SteelyardError: at the call, for an answer that cannot be compared.

    Source: sheet 26 (URLVR, arXiv 2603.08660; TTRL).
    """

    def agree(rollouts: Rollouts) -> Scores:
        numbers = numbered([answer(completion) for completion in rollouts.completions])
        group = group_index(rollouts, by)
        return Scores(majority_rewards(numbers, group))

    named = "" if answer is answer_text else f"(answer={getattr(answer, '__name__', repr(answer))})"
    return BatchReward(agree, f"majority{named}")


def numbered(answers: Sequence[Hashable]) -> Array:
    """int64 [N]: equal answers share a number, counted from 0 as they come; `NO_ANSWER` for None.

    Raises:
        SteelyardError: for an answer that cannot be compared (a list, a dict).
    """
    numbers: dict[Hashable, int] = {}
    try:
        found = [NO_ANSWER if a is None else numbers.setdefault(a, len(numbers)) for a in answers]
    except TypeError as error:
        raise SteelyardError(f"an answer cannot vote ({error}); let answers be texts, numbers or tuples") from None
    return np.asarray(found, np.int64)


def majority_answers(numbers: Array, group: Array) -> Array:
    """int64 [K]: the number with most votes of every group, of equal ones that met first; `NO_ANSWER` without a vote.

    Args:
        numbers: int64 [N], as `numbered` gives them.
        group: int64 [N], 0…K−1.
    """
    winners = np.full(int(group.max(initial=-1)) + 1, NO_ANSWER, np.int64)
    rows = np.flatnonzero(numbers != NO_ANSWER)
    if len(rows):
        ballots, first, votes = np.unique(
            np.stack([group[rows], numbers[rows]]), axis=1, return_index=True, return_counts=True
        )
        order = np.lexsort((first, -votes, ballots[0]))
        owner, leading = np.unique(ballots[0][order], return_index=True)
        winners[owner] = ballots[1][order][leading]
    return winners


def majority_rewards(numbers: Array, group: Array) -> Array:
    """float64 [N]: 1 where a row's answer is its group's majority answer, else 0; arguments as `majority_answers`."""
    return ((numbers == majority_answers(numbers, group)[group]) & (numbers != NO_ANSWER)).astype(np.float64)
