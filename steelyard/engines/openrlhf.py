"""A Steelyard reward as the `reward_func` of a Python file that OpenRLHF loads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from steelyard.engines.batches import OpenRLHF, openrlhf_fields, rollouts_of_queries
from steelyard.rewards import Expression


def to_openrlhf(
    reward: Expression, *, label: str = "answer", endings: Sequence[str] = ()
) -> Callable[[list[str], list[str], list[Any]], dict[str, Any]]:
    """Make a reward the function that OpenRLHF calls where `--reward.remote_url` names a Python file.

    It gives what the server's `/get_reward` gives: `rewards` and `scores` [N], and the parts that have a value on every
    row as `extra_logs`.

    Args:
        reward: one of ours; OpenRLHF asks for one row at a time, so it must not compare rows.
        label: the reward's column that OpenRLHF's labels are.
        endings: texts that its completions may end with (the end of a turn), cut off before they are judged.

    Raises:
        SteelyardError: at the call, for a row without a verdict, which OpenRLHF does not know; `fill` gives it one.

    Example:
        >>> reward_func = to_openrlhf(math_correct, endings=["<|im_end|>"])  # doctest: +SKIP

    Source: OpenRLHF's openrlhf/utils/agent.py.
    """
    form = OpenRLHF(label, tuple(endings))

    def reward_func(queries: list[str], prompts: list[str], labels: list[Any]) -> dict[str, Any]:
        rollouts = rollouts_of_queries({"query": queries, "prompts": prompts, "labels": labels}, form)
        return openrlhf_fields(reward(rollouts))

    return reward_func
