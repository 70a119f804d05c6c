"""Steelyard's advantages and objectives inside TRL's GRPOTrainer."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
import trl
from accelerate.utils import gather_object
from torch import Tensor
from trl import GRPOConfig, GRPOTrainer

from steelyard.engines.trl import NOT_COLUMNS, trl_rollouts
from steelyard.engines.unseen import MaskedActions
from steelyard.learn.advantages import applied, single
from steelyard.learn.recipe import AdvantageTransform, Objective
from steelyard.types import Actions, Advantages, Array, Rollouts, Scores, SteelyardError

SEAMS: Mapping[str, tuple[str, ...]] = {
    "_calculate_rewards": ("self", "inputs", "prompts", "completions", "completion_ids_list"),
    "_generate_and_score_completions": ("self", "inputs"),
    "_compute_loss": ("self", "model", "inputs"),
    "_get_per_token_logps_and_entropies": ("self", "model", "input_ids", "attention_mask", "logits_to_keep"),
    "_save_checkpoint": ("self", "model", "trial"),
    "_load_optimizer_and_scheduler": ("self", "checkpoint"),
}
"""TRL's own methods that this trainer steps into, with the parameters that it relies on."""

ADVANTAGE_OPTIONS = ("scale_rewards", "multi_objective_aggregation")
LOSS_OPTIONS = (
    "loss_type", "epsilon", "epsilon_high", "delta", "importance_sampling_level", "top_entropy_quantile",
    "off_policy_mask_threshold", "use_bias_correction_kl", "entropy_coef", "use_adaptive_entropy", "use_liger_kernel",
)  # fmt: skip
"""Options of GRPOConfig that a chain, or an objective, replaces: they must stay as they are by default."""

SHARES, STATE = "steelyard_shares", "steelyard_advantage.json"


class SteelyardGRPOTrainer(GRPOTrainer):
    """TRL's GRPOTrainer whose advantages come from a chain and, where one is given, whose loss from an objective.

    The chain sees the rewards, prompts, completions and columns of the whole generation batch, of all processes.
    `rollouts.actions` has TRL's mask and, where TRL computes them (with vLLM, or where `steps_per_generation` is larger
    than `gradient_accumulation_steps`), the old log-probabilities; elsewhere a link that reads them is refused.
    Advantages may be one a row [N] or one a token [N, T].

    With an objective the scalar that is minimised is Σ_t share_t · loss_t, as in the house's own trainer: rows of
    weight 0 count nowhere, and the shares sum to one over a generation batch (scaled up where that makes several
    optimiser steps), whatever the gradient accumulation. Without one TRL's own loss is used; there a row of weight w
    trains with w·A, so that a row left out has advantage 0, as TRL treats a row without a reward, and still counts in
    TRL's mean and KL.

    State of the chain's links is saved beside each checkpoint and read again on resuming.

    Args:
        advantage: rewards to advantages.
        objective: loss as a pure function; `GRPOConfig.beta` must be positive iff it needs a reference.
        arguments, options: all others are GRPOTrainer's.

    Raises:
        SteelyardError: for a TRL whose GRPOTrainer is built otherwise, or a GRPOConfig with an option that the chain or
            the objective replaces.
    """

    def __init__(
        self, *arguments: Any, advantage: AdvantageTransform, objective: Objective | None = None, **options: Any
    ) -> None:
        check_seams(GRPOTrainer)
        self._advantage, self._objective = advantage, objective
        super().__init__(*arguments, **options)
        check_options(self.args, objective)

    def _calculate_rewards(self, inputs: Any, prompts: Any, completions: Any, completion_ids_list: Any) -> Tensor:
        by_function = super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)
        names = [name for name in inputs[0] if name not in {*NOT_COLUMNS, "prompt", "completion"}]
        parts = {name: part for reward in self.reward_funcs for name, part in getattr(reward, "parts", {}).items()}
        rows = [
            (
                prompts[i],
                completions[i],
                {k: inputs[i][k] for k in names},
                {k: float(part[i]) for k, part in parts.items()},
            )
            for i in range(len(prompts))
        ]
        self._judged = rows, by_function.float().cpu().numpy()
        return by_function

    def _generate_and_score_completions(self, inputs: Any) -> dict[str, Any]:
        output = super()._generate_and_score_completions(inputs)
        for name in ("advantages", "completion_mask"):
            if name not in output:
                raise SteelyardError(f"{_this_trl()} gives a batch without {name!r}; {_INSTALL}")
        (rows, _), start = self._judged, self.accelerator.process_index * len(inputs)
        rollouts, scores = self._everywhere(output)
        advantages = single(applied(self._advantage, rollouts, scores), "TRL")
        self._log_advantages(advantages)
        mine, width = slice(start, start + len(rows)), output["completion_mask"].shape[1]
        assert rollouts.actions is not None
        values = np.where(_column(advantages.weights > 0, advantages.values), advantages.values, 0.0)
        if self._objective is None:
            values = values * _column(advantages.weights, values)
        else:
            shares = self._objective.weights(rollouts.actions.mask, advantages.weights)
            output[SHARES] = self._tensor(shares[mine, :width])
        output["advantages"] = self._tensor(values[mine, :width] if values.ndim == 2 else values[mine])
        return output

    def _everywhere(self, output: Mapping[str, Any]) -> tuple[Rollouts, Scores]:
        """All processes' rows, in TRL's order: prompt by prompt, `num_generations` of each."""
        rows, by_function = self._judged
        prompts, completions, columns, parts = zip(*gather_object(rows), strict=True)
        attempts = self.num_generations if self.model.training else self.num_generations_eval
        mask = self._gathered(output["completion_mask"] * output.get("tool_mask", 1))
        old = output.get("old_per_token_logps", output.get("sampling_per_token_logps"))
        actions = MaskedActions(mask, _NO_LOGPROBS) if old is None else Actions(self._gathered(old), mask)
        rollouts = trl_rollouts(
            "advantage", prompts, completions, {name: [row[name] for row in columns] for name in columns[0]},
            group=np.arange(len(prompts)) // attempts, actions=actions,
        )  # fmt: skip
        scores = weighed(by_function, self.reward_weights.cpu().numpy(), self.reward_func_names)
        scores.parts |= {name: np.asarray([row[name] for row in parts], np.float32) for name in parts[0]}
        return rollouts, scores

    def _gathered(self, tensor: Tensor) -> Array:
        padded = self.accelerator.pad_across_processes(tensor, dim=1)
        return self.accelerator.gather(padded).detach().float().cpu().numpy()

    def _tensor(self, array: Array) -> Tensor:
        return torch.as_tensor(np.asarray(array, np.float32), device=self.accelerator.device)

    def _log_advantages(self, advantages: Advantages) -> None:
        """TRL has logged its own advantages of these rows; put ours in their place."""
        table, values = self._logs["advantages"], advantages.values
        for _ in range(min(len(values), len(table))):
            table.pop()
        table.extend((values if values.ndim == 1 else values.mean(axis=1)).tolist())
        self._figure("rows_left_out", float((advantages.weights == 0).mean()))

    def _figure(self, name: str, value: float) -> None:
        self._metrics["train" if self.model.training else "eval"][name].append(value)

    def _compute_loss(self, model: Any, inputs: Mapping[str, Any]) -> Tensor:
        if self._objective is None:
            return super()._compute_loss(model, inputs)
        logprobs = self._logprobs(model, inputs)
        old, shares = inputs.get("old_per_token_logps"), inputs[SHARES]
        advantages = inputs["advantages"] if inputs["advantages"].dim() == 2 else inputs["advantages"][:, None]
        advantages = advantages.expand_as(logprobs) * inputs.get("importance_sampling_ratio", 1.0)
        loss, figures = self._objective(
            logprobs, logprobs.detach() if old is None else old, inputs.get("ref_per_token_logps"), advantages
        )
        counts = shares > 0
        for name, figure in figures.items():
            sums = torch.stack([(torch.where(counts, figure.detach(), 0.0) * shares).sum(), shares.sum()])
            total, share = self.accelerator.reduce(sums, reduction="sum").tolist()
            self._figure(name, total / share if share > 0 else 0.0)
        return (torch.where(counts, loss, 0.0) * shares).sum() * self._scale()

    def _scale(self) -> float:
        """What undoes the mean over processes, and makes the shares of each optimiser step sum to one."""
        processes = self.accelerator.num_processes
        if not self.model.training:
            return float(processes)
        return processes * self.args.steps_per_generation / self.current_gradient_accumulation_steps

    def _logprobs(self, model: Any, inputs: Mapping[str, Any]) -> Tensor:
        ids = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], dim=1)
        attention = torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], dim=1)
        known = inspect.signature(GRPOTrainer._get_per_token_logps_and_entropies).parameters
        pictures = {name: inputs[name] for name in known if name in inputs}
        length = inputs["completion_ids"].shape[1]
        return self._get_per_token_logps_and_entropies(model, ids, attention, length, **pictures)[0]

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        if self.args.should_save and hasattr(self._advantage, "state_dict"):
            folder = Path(self._get_output_dir(trial=trial)) / f"checkpoint-{self.state.global_step}"
            (folder / STATE).write_text(json.dumps(self._advantage.state_dict()), "utf-8")

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is None or not hasattr(self._advantage, "load_state_dict"):
            return
        if not (place := Path(checkpoint) / STATE).is_file():
            raise SteelyardError(f"{checkpoint} has no {STATE}; resume from a checkpoint that this trainer saved")
        self._advantage.load_state_dict(json.loads(place.read_text("utf-8")))


def weighed(by_function: Array, weights: Array, names: Sequence[str]) -> Scores:
    """TRL's weighted sum of its reward functions as scores: Σ_k w_k r_k over those that are not NaN.

    Args:
        by_function: float32 [N, K]; a row that no function could judge is NaN as a whole.
        weights: float32 [K].
        names: of the functions [K]; each is a part.
    """
    values = np.nansum(by_function * weights, axis=1)
    values[np.isnan(by_function).all(axis=1)] = np.nan
    return Scores(values, parts={name: by_function[:, k] for k, name in enumerate(names)})


def check_seams(trainer: type) -> None:
    """Nothing, if TRL's trainer is built as this module expects.

    Raises:
        SteelyardError: naming the method that is missing or takes other parameters.
    """
    for name, wanted in SEAMS.items():
        method = getattr(trainer, name, None)
        if method is None or tuple(inspect.signature(method).parameters)[: len(wanted)] != wanted:
            raise SteelyardError(f"{_this_trl()} has another GRPOTrainer.{name} than this version knows; {_INSTALL}")


def check_options(arguments: GRPOConfig, objective: Objective | None) -> None:
    """Nothing, if no option asks for what the chain or the objective replaces.

    Raises:
        SteelyardError: naming the option and its default.
    """
    defaults = {field.name: field.default for field in fields(GRPOConfig) if field.default is not MISSING}
    replaced = ADVANTAGE_OPTIONS + (LOSS_OPTIONS if objective is not None else ())
    for name in replaced:
        given = getattr(arguments, name, defaults.get(name))
        if given != defaults.get(name):
            part = "chain" if name in ADVANTAGE_OPTIONS else "objective"
            raise SteelyardError(f"GRPOConfig({name}={given!r}) would do nothing beside the {part}; leave it out")
    if objective is not None and objective.needs_reference != (arguments.beta != 0):
        wanted = "a positive beta, which makes TRL load the reference" if objective.needs_reference else "beta=0.0"
        raise SteelyardError(f"GRPOConfig(beta={arguments.beta}) does not fit {objective!r}; give {wanted}")


_NO_LOGPROBS = (
    "TRL has not computed the old log-probabilities of this batch; it does with vLLM, or where steps_per_generation is "
    "larger than gradient_accumulation_steps"
)
_INSTALL = "install a TRL that it was tested with: pip install 'trl>=1.0,<=1.16'"


def _this_trl() -> str:
    return f"TRL {trl.__version__}"


def _column(row_values: Array, like: Array) -> Array:
    """[N] as [N, 1] where `like` is [N, T]."""
    return row_values[:, None] if like.ndim == 2 else row_values
