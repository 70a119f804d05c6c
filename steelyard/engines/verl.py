"""A Steelyard reward as verl's reward function or reward manager."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from steelyard.rewards.core import Expression
from steelyard.rewards.schedules import schedules
from steelyard.types import Array, Reward, Rollouts, Sample, Scores, Status, SteelyardError

if TYPE_CHECKING:
    from torch import Tensor
    from verl import DataProto

Unjudged = Literal["raise", "nan"]
VerlScore = dict[str, float]
VerlReward = Callable[..., VerlScore]
"""verl's `compute_score`: (data_source, solution_str, ground_truth, extra_info) to a dict with `score`."""

OURS = "steelyard"
"""The mark on what the house has put into verl's registries; its advantage estimators leave NaN rows out."""


class AloneRollouts(Rollouts):
    """Rollouts of a trainer that hands rows out one at a time: whatever asks for their groups is refused."""

    @property
    def groups(self) -> Array:
        """Refused.

        Raises:
            SteelyardError: always.
        """
        raise SteelyardError(
            "it compares the rows of a group, which verl's reward functions see one at a time; use a reward that "
            "judges each row by itself, or a manager of whole batches (steelyard.engines.verl.batch_manager)"
        )

    branches = groups

    def take(self, rows: Array | Sequence[int]) -> Rollouts:
        """The given rows; still alone."""
        taken = Rollouts(self.samples, self.completions, columns=self.columns).take(rows)
        return AloneRollouts(taken.samples, taken.completions, columns=taken.columns)


def to_verl(reward: Reward, *, ground_truth: str = "answer", unjudged: Unjudged = "raise") -> VerlReward:
    """Make a reward one that verl calls row by row (`reward.custom_reward_function`).

    The reward reads verl's `ground_truth` under the name given here, `data_source`, and every key of `extra_info`
    (`prompt` too, where it is one). verl keeps `score`, and every part by its name, in its logs.

    Args:
        reward: any reward that judges a row by itself.
        ground_truth: the column under which the reward looks for verl's ground truth.
        unjudged: what a row without a verdict gives: `raise`, because verl's own estimators would train the whole group
            on NaN; `nan` beside an estimator of `steelyard.engines.verl_training.register_advantage`, which leaves such
            rows out. `fill(reward, value)` puts a number there instead.

    Returns:
        A function of (data_source, solution_str, ground_truth, extra_info).

    Raises:
        SteelyardError: for a reward whose weights are scheduled (verl does not say which step it is), and at the call
            for a row that could not be judged, a missing column, or a reward that compares rows.

    Example:
        >>> compute_score = to_verl(0.8 * correct + 0.2 * think_format)  # doctest: +SKIP
    """
    _check(reward, unjudged)

    def compute_score(
        data_source: str, solution_str: str, ground_truth: Any, extra_info: Mapping[str, Any] | None = None
    ) -> VerlScore:
        row = {**(extra_info or {}), "data_source": data_source, truth: ground_truth}
        prompt = row.pop("prompt", "")
        columns = {name: [value] for name, value in row.items()}
        scores = reward(AloneRollouts([Sample("verl", prompt)], [solution_str], columns=columns))
        return _score(reward.name, scores, 0, unjudged)

    truth = ground_truth
    compute_score.__doc__ = f"Steelyard reward {reward.name}."
    return compute_score


def to_verl_batch(reward: Reward, *, ground_truth: str = "answer", unjudged: Unjudged = "raise") -> Callable[..., Any]:
    """The same for verl's managers that hand over a batch (`batch`): lists in, one dict a row out.

    The rows of a batch may be cut anywhere, so they are judged each by itself; see `to_verl` for all else.
    """
    _check(reward, unjudged)

    def compute_scores(
        data_sources: Sequence[str],
        solution_strs: Sequence[str],
        ground_truths: Sequence[Any],
        extra_infos: Sequence[Mapping[str, Any] | None],
    ) -> list[VerlScore]:
        columns = {**_shared(extra_infos), "data_source": list(data_sources), ground_truth: list(ground_truths)}
        prompts = columns.pop("prompt", [""] * len(solution_strs))
        samples = [Sample(f"verl-{row}", prompt) for row, prompt in enumerate(prompts)]
        scores = reward(AloneRollouts(samples, list(solution_strs), columns=columns))
        return [_score(reward.name, scores, row, unjudged) for row in range(len(scores))]

    compute_scores.__doc__ = f"Steelyard reward {reward.name}."
    return compute_scores


def reward_manager(reward: Reward, *, ground_truth: str = "answer") -> type:
    """A manager class for verl's reward loop, which hands rows over one at a time as they are finished.

    Beside what `to_verl` gives, the reward reads the prompt and every column of the data set. A row that could not be
    judged gives NaN with `unjudged` = 1 if the run's advantage estimator is one of the house's (it leaves the row out),
    and stops the run with one sentence if it is not.

    Args:
        reward: any reward that judges a row by itself.
        ground_truth: the column under which the reward looks for `reward_model["ground_truth"]`.

    Returns:
        A class for `verl.experimental.reward_loop.reward_manager.register`, or for
        `reward.reward_manager.source=importlib`.

    Raises:
        SteelyardError: for a reward whose weights are scheduled.
    """
    from verl.experimental.reward_loop.reward_manager.base import RewardManagerBase

    _check(reward, "raise")

    class SteelyardRewardManager(RewardManagerBase):
        """One row at a time, in a thread of its own."""

        def __init__(self, config: Any, tokenizer: Any, compute_score: Any = None, **_: Any) -> None:
            super().__init__(config, tokenizer, compute_score)
            self.unjudged: Unjudged = "nan" if leaves_out_nan(config.algorithm.adv_estimator) else "raise"

        async def run_single(self, data: DataProto) -> dict[str, Any]:
            """verl's `reward_score` and `reward_extra_info` of the last row of `data`."""
            return await asyncio.get_running_loop().run_in_executor(None, self._judge, data[-1:])

        def _judge(self, data: DataProto) -> dict[str, Any]:
            rows = verl_rollouts(data, self.tokenizer, ground_truth=ground_truth)
            alone = AloneRollouts(rows.samples, rows.completions, columns=rows.columns)
            score = _score(reward.name, reward(alone), 0, self.unjudged)
            return {"reward_score": score["score"], "reward_extra_info": score}

    return SteelyardRewardManager


def batch_manager(reward: Reward, *, ground_truth: str = "answer") -> type:
    """A manager class that judges a whole batch, its groups by `uid` (verl's `workers.reward_manager.register`).

    For rewards that compare the rows of a group, in a trainer that calls its manager with whole batches. verl 0.9's own
    trainers do not: there, use `reward_manager`. Rows that could not be judged are NaN, with a count in the extra info.

    Returns:
        A class whose call gives the reward at each row's last valid token, float32 [N, T].
    """
    from verl.workers.reward_manager.abstract import AbstractRewardManager

    _check(reward, "nan")

    class SteelyardBatchManager(AbstractRewardManager):
        """All rows of a batch at once."""

        def __init__(self, tokenizer: Any, num_examine: int = 0, compute_score: Any = None, **_: Any) -> None:
            self.tokenizer = tokenizer

        def __call__(self, data: DataProto, return_dict: bool = False) -> Any:
            """float32 [N, T], or with `return_dict` beside it every part [N]."""
            scores = reward(verl_rollouts(data, self.tokenizer, ground_truth=ground_truth))
            tensor = at_last_token(scores.values, data.batch["attention_mask"][:, data.batch["prompts"].shape[1] :])
            rows = [_score(reward.name, scores, row, "nan") for row in range(len(scores))]
            names = rows[0] if rows else ()
            extra = {name: [row[name] for row in rows] for name in names}
            return {"reward_tensor": tensor, "reward_extra_info": extra} if return_dict else tensor

    return SteelyardBatchManager


def verl_rollouts(data: DataProto, tokenizer: Any, *, ground_truth: str = "answer") -> Rollouts:
    """A batch of verl's as rollouts.

    Args:
        data: `batch` holds prompts [N, P], responses [N, T] and attention_mask [N, P + T]; `non_tensor_batch` the
            columns of the data set; `uid` makes groups, and without one every row is its own.
        tokenizer: of the policy.
        ground_truth: the column for `reward_model["ground_truth"]`.
    """
    batch, rest = data.batch, data.non_tensor_batch
    lengths = batch["attention_mask"][:, batch["prompts"].shape[1] :].sum(dim=1).tolist()
    answers = [ids[:length] for ids, length in zip(batch["responses"], lengths, strict=True)]
    columns = {name: list(column) for name, column in rest.items() if name not in ("reward_model", "extra_info")}
    columns |= _shared(rest.get("extra_info", ()))
    if "reward_model" in rest:
        columns[ground_truth] = [row.get("ground_truth") for row in rest["reward_model"]]
    group = np.unique(rest["uid"].astype(str), return_inverse=True)[1] if "uid" in rest else None
    prompts = columns.pop("raw_prompt", None) or tokenizer.batch_decode(batch["prompts"], skip_special_tokens=True)
    samples: dict[int, Sample] = {}
    of_row = range(len(answers)) if group is None else group.tolist()
    for row, number in enumerate(of_row):
        samples.setdefault(number, Sample(f"verl-{number}", prompts[row]))
    return Rollouts(
        [samples[number] for number in of_row],
        tokenizer.batch_decode(answers, skip_special_tokens=True),
        group=group,
        columns=columns,
    )


def at_last_token(values: Array, response_mask: Tensor) -> Tensor:
    """One number a row at its last valid token, 0 elsewhere: where verl looks for an outcome reward.

    Args:
        values: float32 [N].
        response_mask: [N, T], 1 on valid tokens; a row without any takes the last place, as verl's own managers do.
    """
    import torch

    rewards = torch.zeros(response_mask.shape, dtype=torch.float32, device=response_mask.device)
    rows = torch.arange(len(rewards), device=rewards.device)
    rewards[rows, response_mask.sum(dim=1).long() - 1] = torch.as_tensor(values, device=rewards.device)
    return rewards


def leaves_out_nan(estimator: str) -> bool:
    """Whether the estimator that verl knows by this name is one of the house's."""
    from verl.trainer.ppo.core_algos import ADV_ESTIMATOR_REGISTRY

    return hasattr(ADV_ESTIMATOR_REGISTRY.get(str(getattr(estimator, "value", estimator))), OURS)


def _check(reward: Reward, unjudged: str) -> None:
    if unjudged not in get_args(Unjudged):
        raise SteelyardError(f"unjudged={unjudged!r} is none of {', '.join(get_args(Unjudged))}")
    if isinstance(reward, Expression) and (found := schedules(reward)):
        raise SteelyardError(f"verl does not tell rewards the step, which {found[0]!r} needs; give it a fixed weight")


def _score(name: str, scores: Scores, row: int, unjudged: Unjudged) -> VerlScore:
    """verl's dict of one row: the score, every part, and whether the row could not be judged."""
    value = float(scores.values[row])
    if np.isnan(value) and unjudged == "raise":
        assert scores.status is not None
        status = Status(int(scores.status[row])).name.lower().replace("_", " ")
        raise SteelyardError(
            f"reward {name!r} could not judge a row ({status}); wrap it in fill(reward, value), or train with an "
            "estimator of steelyard.engines.verl_training.register_advantage, which leaves such rows out"
        )
    parts = {part: float(values[row]) for part, values in scores.parts.items()}
    return {**parts, "score": value, "unjudged": float(np.isnan(value))}


def _shared(rows: Sequence[Mapping[str, Any] | None]) -> dict[str, list[Any]]:
    """Columns of the keys that every row has."""
    given = [row or {} for row in rows]
    names = [name for name in given[0] if all(name in row for row in given)] if given else []
    return {name: [row[name] for row in given] for name in names}
