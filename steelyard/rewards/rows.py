"""Judging rows one at a time: a user's function called safely, in order, in threads or in processes."""

from __future__ import annotations

import functools
import importlib
import math
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from steelyard.types import Status, SteelyardError, Verdict

Run = Literal["order", "threads", "processes"]
Place: TypeAlias = tuple[str, str, tuple[str, ...]]
"""A module, a name in it, and where modules are looked for."""

LARGEST = float(np.finfo(np.float32).max)


class Outcome(NamedTuple):
    """One row's value (NaN: none), what became of it, what it took, why it failed if it did, why it has none."""

    value: float
    status: Status
    seconds: float
    error: str = ""
    note: str = ""


def judge_row(
    function: Callable[..., Any] | Place, names: tuple[str, ...], options: Mapping[str, Any], row: tuple[Any, ...]
) -> Outcome:
    """Call the function on one row's columns. An exception or a result that is no verdict stands in `error`."""
    judge: Callable[..., Any] = _found(*function) if isinstance(function, tuple) else function
    start = time.perf_counter()
    try:
        result = judge(**dict(zip(names, row, strict=True)), **options)
        value, status = _read(result)
    except SteelyardError as error:
        return Outcome(math.nan, Status.FAILED, time.perf_counter() - start, str(error))
    except (Exception, SystemExit) as error:  # sys.exit in a reward is a fault of it, not the end of a run
        return Outcome(math.nan, Status.FAILED, time.perf_counter() - start, f"{type(error).__name__}: {error}")
    note = result.text if isinstance(result, Verdict) and value != value else ""
    return Outcome(value, status, time.perf_counter() - start, note=note)


def _read(result: Any) -> tuple[float, Status]:
    if result is None:
        return math.nan, Status.NOT_APPLICABLE
    if isinstance(result, Verdict):
        value, status = _number(result.value), Status(result.status)
        if status not in (Status.SCORED, Status.TIE):
            return math.nan, status  # a judge that failed has no value, whatever it put there
    else:
        value, status = _number(result), Status.SCORED
    return (value, status) if value == value else (math.nan, Status.FAILED)


def _number(result: Any) -> float:
    if not isinstance(result, (float, int, np.floating, np.integer, np.bool_)):
        raise SteelyardError(f"it returned {type(result).__name__} {result!r:.60}, which is no number, Verdict or None")
    value = float(result)
    if abs(value) > LARGEST:
        raise SteelyardError(f"it returned {value}, which is not finite as a float32")
    return value


def _found(module: str, name: str, places: tuple[str, ...]) -> Callable[..., Any]:
    """The function at a place, or inside the reward that bears its name there.

    A pool's processes live on, so they are told where its caller looks for modules now.
    """
    sys.path += [place for place in places if place not in sys.path]
    found = importlib.import_module(module).__dict__[name]
    function: Callable[..., Any] = getattr(found, "function", found)
    return function


def judge_rows(
    function: Callable[..., Any],
    names: tuple[str, ...],
    options: Mapping[str, Any],
    rows: Iterable[tuple[Any, ...]],
    *,
    run: Run,
    workers: int,
    count: int,
) -> list[Outcome]:
    """One outcome a row, in the order of the rows.

    Args:
        function: what judges; in processes it must stand at the top of a module.
        names: of the columns.
        options: keyword arguments that are the same for every row.
        rows: the columns' values.
        run: in order, in threads or in processes; workers: how many of them.
        count: how many rows there are.

    Raises:
        SteelyardError: if rows or results cannot travel between processes, or a process died.
    """
    if run == "order":
        return [judge_row(function, names, options, row) for row in rows]
    if run == "threads":
        judge = functools.partial(judge_row, function, names, options)
        return list(_pool(run, workers).map(judge, rows))
    if "<" in function.__qualname__:
        raise SteelyardError("it runs in processes; define it at the top of a module")
    judge = functools.partial(judge_row, (function.__module__, function.__qualname__, tuple(sys.path)), names, options)
    try:
        return list(_pool(run, workers).map(judge, rows, chunksize=max(1, count // (workers * 4))))
    except Exception as error:
        _pool.cache_clear()  # a pool that lost a process takes no more work
        why = f"{type(error).__name__}: {error}"
        raise SteelyardError(
            f"its rows could not be judged in processes ({why}); use threads, or run in order"
        ) from error


@functools.lru_cache(maxsize=8)
def _pool(run: Run, workers: int) -> Executor:
    if run == "threads":
        return ThreadPoolExecutor(workers, thread_name_prefix="reward")
    return ProcessPoolExecutor(workers, mp_context=get_context("forkserver"))
