"""The monitor inside TRL's trainers: watched reward functions, and the callback that closes each step."""

from __future__ import annotations

import functools
import inspect
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from steelyard.audits.monitor import Monitor
from steelyard.audits.monitor.figures import as_floats
from steelyard.engines.trl import consecutive_groups, to_trl
from steelyard.rewards.chat import completion_text
from steelyard.types import Array, Reward, SteelyardError

STATE = "steelyard_monitor.json"


@dataclass
class Call:
    """One call of one reward function: values and parts [N], and what was judged."""

    values: Array
    parts: dict[str, Array]
    prompts: list[Any]
    texts: list[str]
    lengths: list[int]


class TrlMonitor:
    """Watches all rewards of one TRL trainer as one reward: their weighted sum, with their parts.

    Give `reward_funcs` and `callback()` to the trainer. Values pass through unchanged. All calls between the start and
    the end of an optimiser step are one step of the monitor, numbered as TRL's `global_step` after it; calls outside
    (an evaluation's) are left out. Each process sees its own rows; only the first one writes and alerts. With each of
    the trainer's checkpoints goes `steelyard_monitor.json`, from which a resumed run goes on to the same alerts.

    Args:
        rewards: functions as TRL takes them, plain or async, each of which is a part; or rewards of ours, whose own
            parts are the parts. One, or a list.
        monitor: with the log, trackers, terminal and `on_alert` that you want.
        weights: as `GRPOConfig(reward_weights=…)`; 1 each if left out.

    Raises:
        SteelyardError: for another number of weights than rewards, or what is neither (a model's name).

    Example:
        >>> watched = TrlMonitor(0.8 * correct + 0.2 * think_format, monitor=Monitor(log="m.jsonl"))  # doctest: +SKIP
        >>> GRPOTrainer(model, reward_funcs=watched.reward_funcs, callbacks=[watched.callback()])  # doctest: +SKIP
    """

    def __init__(
        self,
        rewards: Reward | Callable[..., Any] | Sequence[Reward | Callable[..., Any]],
        *,
        monitor: Monitor,
        weights: Sequence[float] | None = None,
    ) -> None:
        given = list(rewards) if isinstance(rewards, list | tuple) else [rewards]
        self.weights = np.ones(len(given)) if weights is None else np.asarray(weights, np.float64)
        if len(self.weights) != len(given):
            raise SteelyardError(f"{len(self.weights)} weights for {len(given)} rewards; give one each")
        self.monitor = monitor
        self._open = False
        self._calls: list[list[Call]] = [[] for _ in given]
        self.reward_funcs = [self._watched(k, reward) for k, reward in enumerate(given)]

    def callback(self) -> Any:
        """The trainer's callback: opens and closes steps, saves and restores the monitor's state."""
        from transformers import TrainerCallback

        methods = {
            name: (lambda event: lambda own, *given, **named: event(*given, **named))(getattr(self, f"_{name}"))
            for name in ("on_train_begin", "on_step_begin", "on_step_end", "on_save", "on_train_end")
        }
        return type("SteelyardMonitor", (TrainerCallback,), {"__doc__": "See `TrlMonitor`.", **methods})()

    def _watched(self, k: int, reward: Any) -> Callable[..., Any]:
        if not inspect.isroutine(reward) and hasattr(reward, "name"):
            reward = to_trl(reward)
        if not callable(reward) or not hasattr(reward, "__name__"):
            raise SteelyardError(f"{reward!r:.60} is no reward and no function; a watched reward must be one")

        def take(result: Any, named: dict[str, Any], outer: Any) -> Any:
            if hasattr(reward, "parts"):
                outer.parts = reward.parts  # what SteelyardGRPOTrainer's chain may read
            if self._open:
                values = as_floats(result)
                parts = getattr(reward, "parts", None) or {reward.__name__: values}
                texts = [completion_text(completion) for completion in named["completions"]]
                lengths = [len(ids) for ids in named.get("completion_ids") or texts]
                self._calls[k].append(Call(values, dict(parts), list(named.get("prompts") or []), texts, lengths))
            return result

        if inspect.iscoroutinefunction(reward):

            @functools.wraps(reward)
            async def waiting(*given: Any, **named: Any) -> Any:
                return take(await reward(*given, **named), named, waiting)

            return waiting

        @functools.wraps(reward)
        def watched(*given: Any, **named: Any) -> Any:
            return take(reward(*given, **named), named, watched)

        return watched

    # Events of the trainer.

    def _on_train_begin(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        place = Path(args.output_dir) / f"checkpoint-{state.global_step}" / STATE
        if state.global_step and place.exists():
            self.monitor.load_state_dict(json.loads(place.read_text("utf-8")))

    def _on_step_begin(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        self._open = bool(state.is_world_process_zero)

    def _on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        self._open = False
        calls, self._calls = self._calls, [[] for _ in self._calls]
        if all(calls):
            self._close(int(state.global_step), calls)

    def _on_save(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        if state.is_world_process_zero and folder.is_dir():
            draft = folder / f".{STATE}"
            draft.write_text(json.dumps(self.monitor.state_dict()), "utf-8")
            os.replace(draft, folder / STATE)

    def _on_train_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        if state.is_world_process_zero:
            self.monitor.close()

    def _close(self, step: int, calls: Sequence[Sequence[Call]]) -> None:
        columns = np.stack([np.concatenate([call.values for call in made]) for made in calls])
        first = calls[0]
        prompts = [prompt for call in first for prompt in call.prompts]
        judged = np.isfinite(columns)
        total = (self.weights[:, None] * np.where(judged, columns, 0.0)).sum(axis=0)
        self.monitor.observe(
            np.where(judged.any(axis=0), total, np.nan),  # as TRL adds them: None counts as nothing
            step=step,
            parts=_joined(calls),
            lengths=[length for call in first for length in call.lengths],
            group=consecutive_groups(prompts) if prompts else None,
            completions=[text for call in first for text in call.texts],
        )


def _joined(calls: Sequence[Sequence[Call]]) -> dict[str, Array]:
    """Each part over the rows of all calls; a second part of a name gets a number."""
    parts: dict[str, Array] = {}
    for made in calls:
        for name in made[0].parts:
            free = next(n for n in (name, *(f"{name}#{k}" for k in range(2, 99))) if n not in parts)
            parts[free] = np.concatenate([call.parts[name] for call in made])
    return parts
