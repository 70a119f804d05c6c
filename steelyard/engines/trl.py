"""A Steelyard reward as one of TRL's `reward_funcs`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from steelyard.rewards.chat import completion_text
from steelyard.types import Actions, Array, Reward, Rollouts, Sample, Scores, SteelyardError

TrlReward = Callable[..., list[float | None]]
"""What `GRPOTrainer(reward_funcs=…)` takes: (prompts, completions, **columns) to one number or None a row."""

NOT_COLUMNS = frozenset({"completion_ids", "trainer_state", "log_extra", "log_metric", "environments"})
"""Keywords that TRL passes beside the data set's columns."""


def to_trl(reward: Reward) -> TrlReward:
    """Make a reward one that TRL's GRPOTrainer calls.

    The data set's columns are the columns that the reward reads. Chat completions become their text, calls of tools
    `<tool_call>` blocks in it. Consecutive rows with equal prompts are one group; TRL keeps the attempts at a prompt
    beside each other, but cuts its batch over processes, so give every process whole groups where a reward compares
    rows of a group. A NaN becomes None,
    which TRL leaves out of its mean. Weights that are scheduled follow TRL's step. Every named part is logged as
    `reward_part/<name>` (the mean of the rows that it could judge) and the share of rows without a verdict as
    `reward_nan/<reward>`, where this TRL lets rewards log.

    Args:
        reward: any reward; a sum keeps its parts in the log.

    Returns:
        A callable named after the reward, as TRL's log names it.

    Raises:
        SteelyardError: at the call, if a column has another number of rows than the completions.

    Example:
        >>> GRPOTrainer(model, reward_funcs=[to_trl(0.8 * correct + 0.2 * think_format)], ...)  # doctest: +SKIP
    """

    def trl_reward(prompts: Sequence[Any], completions: Sequence[Any], **keywords: Any) -> list[float | None]:
        columns = {name: column for name, column in keywords.items() if name not in NOT_COLUMNS}
        if hasattr(reward, "at_step") and (state := keywords.get("trainer_state")):
            reward.at_step(state.global_step)
        scores = reward(trl_rollouts(reward.name, prompts, completions, columns))
        trl_reward.parts = scores.parts  # type: ignore[attr-defined]  # what SteelyardGRPOTrainer's chain may read
        if log := keywords.get("log_metric"):
            _log_parts(log, reward.name, scores)
        return [None if math.isnan(value) else float(value) for value in scores.values]

    trl_reward.__name__ = trl_reward.__qualname__ = reward.name
    trl_reward.__doc__ = f"Steelyard reward {reward.name}."
    return trl_reward


def trl_rollouts(
    name: str,
    prompts: Sequence[Any],
    completions: Sequence[Any],
    columns: Mapping[str, Sequence[Any]],
    *,
    group: Array | None = None,
    actions: Actions | None = None,
) -> Rollouts:
    """TRL's lists as rollouts; consecutive rows with equal prompts are one group unless `group` [N] says otherwise.

    Raises:
        SteelyardError: naming `name`, if a column has another number of rows than the completions.
    """
    for column, values in {"prompts": prompts, **columns}.items():
        if len(values) != len(completions):
            counts = f"{len(values)} rows for {len(completions)} completions"
            raise SteelyardError(f"reward {name!r}: TRL gave {column!r} {counts}; give one each")
    group = consecutive_groups(prompts) if group is None else group
    starts = np.unique(group, return_index=True)[1]
    samples = [Sample(f"trl-{row}", prompts[row]) for row in starts]
    return Rollouts(
        samples=[samples[index] for index in group],
        completions=[completion_text(completion) for completion in completions],
        group=group,
        columns=dict(columns),
        actions=actions,
    )


def consecutive_groups(prompts: Sequence[Any]) -> Array:
    """int64 [N]: rows that follow each other with equal prompts share a number, counted from 0."""
    changes = [row > 0 and prompts[row] != prompts[row - 1] for row in range(len(prompts))]
    return np.cumsum(changes, dtype=np.int64)


def _log_parts(log: Callable[[str, float], None], name: str, scores: Scores) -> None:
    log(f"reward_nan/{name}", float(np.isnan(scores.values).mean()) if len(scores) else 0.0)
    for part, values in scores.parts.items():
        judged = values[~np.isnan(values)]
        if len(judged):
            log(f"reward_part/{part}", float(judged.mean()))
