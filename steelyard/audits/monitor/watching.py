"""`watch`: put a monitor around any reward, and change nothing of what it returns."""

from __future__ import annotations

import functools
import inspect
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from steelyard.audits.monitor.core import Monitor, OnAlert, Shows
from steelyard.audits.monitor.figures import as_floats
from steelyard.audits.monitor.outlets import Terminal
from steelyard.rewards.core import Expression, Memo
from steelyard.types import Array, Reward, Rollouts, Scores, SteelyardError

COMPLETIONS = ("completions", "completion", "responses", "response", "solution_strs", "solution_str")
"""Names under which a plain callable may get what it judges; else it is the first argument."""
PROMPTS = ("prompts", "prompt")
"""Names under which it may get what was asked."""
TOTALS = ("total", "score", "reward")
"""The entry of a mapping that is the reward itself; where there is none, the sum of all is."""


def watch(
    reward: Any,
    *,
    monitor: Monitor | None = None,
    gold: Reward | None = None,
    gold_every: int = 1,
    outcome: str | None = None,
    rows: int = 64,
    log: Path | str | None = None,
    trackers: Sequence[Shows] = (),
    on_alert: OnAlert | Sequence[OnAlert] = (),
    terminal: Terminal | None = None,
) -> Any:
    """The same reward, watched: every call's rows are one step of a monitor.

    Values pass through unchanged, and so does every exception of the reward. The wrapped reward has the monitor as
    `.monitor`. Where several processes train together, the first one's rows are watched and the others' pass by; in
    TRL, `steelyard.engines.TrlMonitor` gathers the rows of all.

    Args:
        reward: one of ours (an expression stays one, and can be combined further); a function of completions as TRL
            calls it, `f(completions, **columns) -> list`, plain or async; or any callable that returns a number, a
            list of numbers, or a mapping of parts with their `total` (or `score`, as verl has it; else their sum).
        monitor: a monitor of your own; if given, the options below are its, not these.
        gold: for a reward of ours, what it stands for; called on the same rollouts every `gold_every` steps.
        outcome: the name of a part that the reward stands for, where there is no gold.
        rows: of a callable that judges one row a call, how many calls make a step.
        log, trackers, on_alert, terminal: see `Monitor`. `terminal` is a `Terminal()` if left out.

    Returns:
        A reward for a reward, a function for a function.

    Raises:
        SteelyardError: for what cannot be called, or a gold beside a plain function.

    Example:
        >>> from steelyard.audits.monitor import watch
        >>> watched = watch(lambda completions, **columns: [float(len(c)) for c in completions])
        >>> watched(completions=["a", "bb"])
        [1.0, 2.0]
    """
    if not callable(reward):
        raise SteelyardError(f"{type(reward).__name__} {reward!r:.60} cannot be called; give a reward or a function")
    ours = isinstance(reward, Expression) or (hasattr(reward, "name") and not inspect.isroutine(reward))
    name = str(reward.name if ours else getattr(reward, "__name__", type(reward).__name__))
    monitor = monitor or Monitor(
        name=name, outcome=outcome, log=log, trackers=trackers, on_alert=on_alert, terminal=terminal or Terminal()
    )
    if ours:
        return WatchedReward(reward, monitor, gold=gold, gold_every=gold_every)
    if gold is not None:
        raise SteelyardError(f"{name!r} is a plain function, which no gold can be asked beside; use monitor.tell(…)")
    return _watched_function(reward, monitor, rows)


class WatchedReward(Expression):
    """A reward with a monitor beside it; prints as the reward. See `watch`."""

    def __init__(self, reward: Any, monitor: Monitor, *, gold: Reward | None = None, gold_every: int = 1) -> None:
        self.reward, self.monitor, self.gold, self.gold_every = reward, monitor, gold, gold_every
        self.name = reward.name
        self._step: int | None = None

    @property
    def operands(self) -> tuple[Expression, ...]:
        """The reward, where it is an expression."""
        return (self.reward,) if isinstance(self.reward, Expression) else ()

    def at_step(self, step: int) -> None:
        """Tell the reward and the monitor which step of training it is, counted from 0."""
        self._step = step + 1
        if hasattr(self.reward, "at_step"):
            self.reward.at_step(step)

    def state_dict(self) -> dict[str, Any]:
        """The monitor's state and the reward's, if it has one."""
        inner = self.reward.state_dict() if hasattr(self.reward, "state_dict") else None
        return {"monitor": self.monitor.state_dict(), "reward": inner}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        self.monitor.load_state_dict(state["monitor"])
        if state["reward"] is not None:
            self.reward.load_state_dict(state["reward"])

    def _compute(self, rollouts: Rollouts, memo: Memo) -> Scores:
        inner = self.reward
        scores: Scores = inner._evaluate(rollouts, memo) if isinstance(inner, Expression) else inner(rollouts)
        if not _first_process():
            return scores
        step = self.monitor.step + 1 if self._step is None else self._step
        due = self.gold is not None and (step - 1) % self.gold_every == 0
        self.monitor.observe(
            scores.values,
            step=step,
            parts=scores.parts,
            lengths=None if rollouts.actions is None else rollouts.actions.mask.sum(axis=1),
            group=rollouts.groups,
            completions=rollouts.completions,
            gold=self.gold(rollouts).values if due and self.gold is not None else None,
        )
        return scores

    def __repr__(self) -> str:
        return repr(self.reward)


def _first_process() -> bool:
    """Whether this process writes: the only one, or the first of those that train together under torch."""
    distributed = sys.modules.get("torch.distributed")
    return distributed is None or not distributed.is_initialized() or distributed.get_rank() == 0


def _watched_function(function: Callable[..., Any], monitor: Monitor, rows: int) -> Callable[..., Any]:
    buffer = _Buffer(monitor, rows)

    def take(result: Any, given: Sequence[Any], named: Mapping[str, Any]) -> Any:
        if _first_process():
            arguments = {**_positional(function, given), **named}
            completions = _first_of(COMPLETIONS, arguments, given[0] if given else None)
            buffer.take(result, completions, _first_of(PROMPTS, arguments))
        return result

    @functools.wraps(function)
    def watched(*given: Any, **named: Any) -> Any:
        return take(function(*given, **named), given, named)

    @functools.wraps(function)
    async def waiting(*given: Any, **named: Any) -> Any:
        return take(await function(*given, **named), given, named)

    awaited = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)
    outer = waiting if awaited else watched
    outer.monitor = monitor  # type: ignore[attr-defined]
    return outer


def _positional(function: Callable[..., Any], given: Sequence[Any]) -> dict[str, Any]:
    """What was given by its place, under the names that the function has for it."""
    if not given:
        return {}
    try:
        names = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # some builtins do not tell
        return {}
    return {p.name: value for p, value in zip(names, given, strict=False) if p.kind is not p.VAR_POSITIONAL}


def _first_of(names: Sequence[str], arguments: Mapping[str, Any], otherwise: Any = None) -> Any:
    return next((arguments[name] for name in names if name in arguments), otherwise)


class _Buffer:
    """Calls of a plain callable: one that returns several rows is a step, single rows are gathered to a step."""

    def __init__(self, monitor: Monitor, rows: int) -> None:
        self.monitor, self.rows = monitor, rows
        self._values: list[float] = []
        self._parts: list[dict[str, float]] = []
        self._texts: list[Any] = []
        self._prompts: list[Any] = []
        self._lock = threading.Lock()

    def take(self, result: Any, completions: Any, prompts: Any) -> None:
        """One call's result; what is no number, list of numbers or mapping of parts is refused."""
        values, parts = _read(result)
        if values.ndim:
            texts = _texts(completions, len(values))
            self.monitor.observe(values, parts=parts, completions=texts, group=_groups(prompts, len(values)))
            return
        with self._lock:
            self._values.append(float(values))
            self._parts.append({name: float(part) for name, part in parts.items()})
            self._texts.append(completions)
            self._prompts.append(prompts)
            full = len(self._values) >= self.rows
            gathered = (self._values, self._parts, self._texts, self._prompts)
            if full:
                self._values, self._parts, self._texts, self._prompts = [], [], [], []
        if full:
            self._close(*gathered)

    def _close(self, values: list[float], parts: list[dict[str, float]], texts: list[Any], prompts: list[Any]) -> None:
        names = dict.fromkeys(name for row in parts for name in row)
        columns = {name: [row.get(name, np.nan) for row in parts] for name in names}
        group = None if any(prompt is None for prompt in prompts) else _groups(prompts, len(values))
        self.monitor.observe(values, parts=columns, completions=_texts(texts, len(values)), group=group)


def _read(result: Any) -> tuple[Array, dict[str, Array]]:
    """Values, a number or [N], and the parts of a mapping: its numbers but the total."""
    if not isinstance(result, Mapping):
        return _numbers(result), {}
    parts = {str(name): _numbers(value) for name, value in result.items() if not _is_text(value)}
    name = next((name for name in TOTALS if name in parts), None)
    total = sum(parts.values()) if name is None else parts.pop(name)
    return np.asarray(total), parts


def _is_text(value: Any) -> bool:
    """Whether it is a remark beside the numbers, such as what a parser found."""
    return isinstance(value, str) or (isinstance(value, list | tuple) and any(isinstance(v, str) for v in value))


def _numbers(value: Any) -> Array:
    try:
        if value is None or not (isinstance(value, list | tuple) or np.ndim(value)):
            return np.asarray(np.nan if value is None else float(value))
        return as_floats(value.tolist() if hasattr(value, "tolist") else value)
    except (TypeError, ValueError):
        what = f"{type(value).__name__} {value!r:.60}"
        raise SteelyardError(f"a watched reward returned {what}; it must be numbers, or a mapping of them") from None


def _texts(completions: Any, n: int) -> list[Any] | None:
    """One completion a row, if there is one each; chat messages become their contents."""
    if isinstance(completions, str) or not isinstance(completions, Sequence) or len(completions) != n:
        return None
    return [text if isinstance(text, str) else _message_text(text) for text in completions]


def _message_text(messages: Any) -> Any:
    if isinstance(messages, Sequence) and all(isinstance(message, Mapping) for message in messages):
        return "\n".join(str(message.get("content") or "") for message in messages)
    return messages


def _groups(prompts: Any, n: int) -> Array | None:
    """Rows with equal prompts share a number."""
    if isinstance(prompts, str) or not isinstance(prompts, Sequence) or len(prompts) != n:
        return None
    numbers: dict[str, int] = {}
    return np.asarray([numbers.setdefault(p if isinstance(p, str) else repr(p), len(numbers)) for p in prompts])
