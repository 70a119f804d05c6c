"""The monitor inside TRL's trainers: watched reward functions, and the callback that closes each step."""

from __future__ import annotations

import functools
import hashlib
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


Calls = list[list["Call"]]
"""The calls of each reward function within a step, in their order."""


@dataclass
class Call:
    """One call of one reward function, small enough to be sent to the first process.

    Attributes:
        values: float [N].
        parts: name to float [N].
        lengths: [N], of the completions, in tokens.
        texts: [N], a digest of each completion.
        group: [N], rows of one prompt share a number; None where there are no prompts.
        ends: digests of the first and the last prompt.
    """

    values: Array
    parts: dict[str, Array]
    lengths: list[int]
    texts: list[str]
    group: Array | None
    ends: tuple[str, str]

    @classmethod
    def of(cls, values: Array, parts: dict[str, Array], judged: dict[str, Any]) -> Call:
        """A call with the keywords that TRL gave."""
        texts = [completion_text(completion) for completion in judged["completions"]]
        prompts = judged.get("prompts")
        return cls(
            values=values,
            parts=parts,
            lengths=[len(ids) for ids in judged.get("completion_ids") or texts],
            texts=list(map(_digest, texts)),
            group=consecutive_groups(prompts) if prompts else None,
            ends=(_digest(prompts[0]), _digest(prompts[-1])) if prompts else ("", ""),
        )


def _digest(value: Any) -> str:
    text = value if isinstance(value, str) else repr(value)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()


class TrlMonitor:
    """Watches all rewards of one TRL trainer as one reward: their weighted sum, with their parts.

    Give `reward_funcs` and `callback()` to the trainer. Values pass through unchanged. All calls between the start and
    the end of an optimiser step are one step of the monitor, numbered as TRL's `global_step` after it; calls outside
    (an evaluation's) are left out. The first of several processes gets the rows of all, and it alone writes and alerts;
    what `on_alert` raises there ends all of them. With each of the trainer's checkpoints goes `steelyard_monitor.json`,
    from which a resumed run goes on to the same alerts.

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
        self._calls: Calls = [[] for _ in given]
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
                self._calls[k].append(Call.of(values, dict(parts), named))
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
        if state.is_world_process_zero and state.global_step and place.exists():
            self.monitor.load_state_dict(json.loads(place.read_text("utf-8")))

    def _on_step_begin(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        self._open = True

    def _on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        self._open = False
        calls, self._calls = _of_all_processes(self._calls), [[] for _ in self._calls]
        failure: BaseException | None = None
        if state.is_world_process_zero and all(calls):
            try:
                self._close(int(state.global_step), calls)
            except BaseException as error:  # the other processes wait to be told
                failure = error
        _end_together(failure)

    def _on_save(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        if state.is_world_process_zero and folder.is_dir():
            draft = folder / f".{STATE}"
            draft.write_text(json.dumps(self.monitor.state_dict()), "utf-8")
            os.replace(draft, folder / STATE)

    def _on_train_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        if state.is_world_process_zero:
            self.monitor.close()

    def _close(self, step: int, calls: Calls) -> None:
        columns = np.stack([np.concatenate([call.values for call in made]) for made in calls])
        first = calls[0]
        judged = np.isfinite(columns)
        total = (self.weights[:, None] * np.where(judged, columns, 0.0)).sum(axis=0)
        self.monitor.observe(
            np.where(judged.any(axis=0), total, np.nan),  # as TRL adds them: None counts as nothing
            step=step,
            parts=_joined_parts(calls),
            lengths=[length for call in first for length in call.lengths],
            group=_joined_groups(first),
            completions=[text for call in first for text in call.texts],
        )


def _joined_parts(calls: Calls) -> dict[str, Array]:
    """Each part over the rows of all calls, NaN where a call had none; a second part of a name gets a number."""
    parts: dict[str, Array] = {}
    for made in calls:
        for name in dict.fromkeys(name for call in made for name in call.parts):
            free = next(n for n in (name, *(f"{name}#{k}" for k in range(2, 99))) if n not in parts)
            unknown = [np.full(len(call.values), np.nan) for call in made]
            parts[free] = np.concatenate([c.parts.get(name, nan) for c, nan in zip(made, unknown, strict=True)])
    return parts


def _joined_groups(made: Sequence[Call]) -> Array | None:
    """Groups over all calls; one that a process's rows end with goes on where the next rows have its prompt."""
    groups: list[Array] = []
    for call in made:
        if call.group is None:
            return None
        before = made[len(groups) - 1] if groups else None
        start = 0 if before is None else int(groups[-1][-1]) + (before.ends[1] != call.ends[0])
        groups.append(call.group + start)
    return np.concatenate(groups)


# Several processes.


def _several() -> Any:
    """torch.distributed where there is more than one process, else None."""
    import torch.distributed as distributed

    together = distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1
    return distributed if together else None


def _of_all_processes(calls: Calls) -> Calls:
    """The calls of all processes; those of one batch beside each other in the order in which TRL cut it."""
    if (distributed := _several()) is None:
        return calls
    everyones: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(everyones, calls)
    return [
        [call for batch in zip(*(theirs[k] for theirs in everyones), strict=True) for call in batch]
        for k in range(len(calls))
    ]


def _end_together(failure: BaseException | None) -> None:
    """Raise what the first process has to raise, in all of them: else the others would wait for it."""
    if (distributed := _several()) is not None:
        told = [None if failure is None else f"{type(failure).__name__}: {failure}"]
        distributed.broadcast_object_list(told, src=0)
        if failure is None and told[0] is not None:
            raise SteelyardError(f"the monitor in the first process ended the run: {told[0]}")
    if failure is not None:
        raise failure
