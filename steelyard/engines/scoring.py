"""A reward over a table of any size: streamed in order, judged here, in processes or on Ray, resumed exactly."""

from __future__ import annotations

import hashlib
import math
import os
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from steelyard.engines.batches import as_text, counted, numbers, status_name
from steelyard.engines.journal import Journal, beside
from steelyard.engines.tables import (
    Chunk,
    Row,
    check_sum,
    chunks,
    form_of,
    group_key,
    packed,
    rows_of,
    where,
    write_parquet,
)  # fmt: skip
from steelyard.rewards.core import Expression, RowReward, leaves
from steelyard.rewards.golds import is_missing
from steelyard.rewards.loading import completion_field, load_reward, rollouts_of
from steelyard.types import Array, Rollouts, Scores, Status, SteelyardError

ALWAYS_THERE = frozenset({"completion", "prompt", "sample"})


@dataclass(frozen=True)
class Job:
    """A table, the reward that judges it, and where the result goes.

    Attributes:
        data: JSONL, JSONL.gz or Parquet.
        reward: `my_rewards.py:name` or `package.module:name`.
        out: the file to write; its ending says the form.
        mapping: the reward's column to the table's field, where they differ.
        group: the field that says which rows compete; without it every row stands alone.
        chunk: rows that are judged and kept at once.
        prefix: before the names of the columns that are added.
    """

    data: Path
    reward: str
    out: Path
    mapping: Mapping[str, str] = field(default_factory=dict)
    group: str | None = None
    chunk: int = 1000
    prefix: str = ""

    def settings(self) -> dict[str, Any]:
        """What must be the same when the job goes on; a reward's file too, lest one output hold two rewards."""
        plain = {name: str(value) if isinstance(value, Path) else value for name, value in asdict(self).items()}
        file = Path(self.reward.rpartition(":")[0] or self.reward)
        if file.suffix == ".py" and file.is_file():
            plain[f"the content of {file.name}"] = f"SHA-256 {hashlib.sha256(file.read_bytes()).hexdigest()[:16]}"
        return plain


class Judged(NamedTuple):
    """A chunk with its scores, packed: what is written, and what the summary counts."""

    rows: int
    check: int
    extent: int
    piece: bytes
    statuses: dict[str, int]
    judged: int
    total: float


Run = Callable[[Job, Iterable[Chunk]], Iterator[Judged]]
"""How chunks are judged: their order is kept."""


@dataclass
class Summary:
    """What a job came to.

    Attributes:
        rows: in the output; before: those of an earlier run; seconds: of this run.
        statuses: rows by status; judged: rows that have a reward; total: their sum.
    """

    rows: int = 0
    before: int = 0
    seconds: float = 0.0
    statuses: Counter[str] = field(default_factory=Counter)
    judged: int = 0
    total: float = 0.0

    @property
    def mean(self) -> float:
        """Of the rows that have a reward; NaN without any."""
        return self.total / self.judged if self.judged else math.nan

    def add(self, note: Mapping[str, Any]) -> None:
        """Count a chunk's note in."""
        self.rows = note["rows"]
        self.statuses.update(note["statuses"])
        self.judged += note["judged"]
        self.total += note["total"]


def judge_chunk(reward: Expression, job: Job, chunk: Chunk) -> Judged:
    """Judge a chunk's rows and pack them with `reward`, `status` and `part/NAME`.

    Raises:
        SteelyardError: naming the file and the line, for a row that cannot be read or lacks a field.
    """
    rows = rows_of(chunk, job.data)
    _check_fields(reward, job, chunk, rows)
    try:
        scores = _judged(reward, _rollouts(job, chunk, rows))
    except SteelyardError as error:
        first, last = chunk.numbers[0], chunk.numbers[-1]
        place = where(job.data, first) + (f" to {last}" if last > first else "")
        raise SteelyardError(f"{place}: {error}") from None
    added = {job.prefix + name: column for name, column in _columns(scores).items()}
    _check_free(job, chunk, rows, added)
    values = scores.values[~np.isnan(scores.values)]
    return Judged(
        rows=chunk.rows,
        check=check_sum(chunk),
        extent=chunk.extent,
        piece=packed(chunk, rows, added, form_of(job.out), job.data),
        statuses=counted(scores),
        judged=len(values),
        total=float(values.sum(dtype=np.float64)),
    )


def _judged(reward: Expression, rollouts: Rollouts) -> Scores:
    """The rows' scores; a row that has no completion is no row for the reward, and has none."""
    there = np.asarray([not is_missing(completion) for completion in rollouts.completions], bool)
    if there.all():
        return reward(rollouts)
    scores = reward(rollouts.take(there))

    def spread(values: Array, other: float) -> Array:
        laid = np.full(len(there), other, values.dtype)
        laid[there] = values
        return laid

    status = spread(np.asarray(scores.status), Status.NOT_APPLICABLE)
    parts = {name: spread(part, np.nan) for name, part in scores.parts.items()}
    return Scores(spread(scores.values, np.nan), status, parts=parts)


def _check_free(job: Job, chunk: Chunk, rows: Sequence[Row], added: Iterable[str]) -> None:
    for number, row in zip(chunk.numbers, rows, strict=True):
        if taken := next((name for name in added if name in row), None):
            sentence = f"there is a field {taken!r} already; give --prefix, such as --prefix steelyard_"
            raise SteelyardError(f"{where(job.data, number)}: {sentence}")


def _columns(scores: Scores) -> dict[str, list[Any]]:
    status = [status_name(code) for code in np.asarray(scores.status).tolist()]
    parts = {f"part/{name}": numbers(part) for name, part in scores.parts.items()}
    return {"reward": numbers(scores.values), "status": status, **parts}


def _check_fields(reward: Expression, job: Job, chunk: Chunk, rows: Sequence[Row]) -> None:
    """Every row has what is read, so that an error names the line and no column is read from some rows only."""
    _check_mapping(reward, job.mapping)
    declared = [leaf.reads for leaf in leaves(reward) if isinstance(leaf, RowReward)]
    needed = {name for required, _ in declared for name in required} - ALWAYS_THERE
    fields = {job.mapping.get(name, name) for name in needed} | set(job.mapping.values())
    fields.add(completion_field(rows, job.mapping))
    optional = {job.mapping.get(name, name) for _, names in declared for name in names} - ALWAYS_THERE
    fields |= {name for name in optional if any(name in row for row in rows)}
    for name in sorted(fields):
        lacking = next((i for i, row in enumerate(rows) if name not in row), None)
        if lacking is not None:
            place, has = where(job.data, chunk.numbers[lacking]), ", ".join(rows[lacking]) or "none"
            raise SteelyardError(f"{place}: there is no field {name!r}; it has {has}; --map COLUMN=FIELD names another")


def _check_mapping(reward: Expression, mapping: Mapping[str, str]) -> None:
    """No column is mapped that the reward does not read, as far as it says what it reads: a slip of the pen."""
    rows = [leaf for leaf in leaves(reward) if isinstance(leaf, RowReward)]
    known = {name for leaf in rows for names in leaf.reads for name in names}
    unread = sorted(set(mapping) - known - ALWAYS_THERE)
    if unread and len(rows) == len(list(leaves(reward))):
        reads = ", ".join(sorted(known))
        raise SteelyardError(f"the reward reads {reads} and no {unread[0]!r}; map a column that it reads")


def _rollouts(job: Job, chunk: Chunk, rows: Sequence[Row]) -> Rollouts:
    named = [{"id": f"line {number}", **row} for number, row in zip(chunk.numbers, rows, strict=True)]
    rollouts = rollouts_of(named, job.mapping)
    known: dict[str, int] = {}
    group = range(len(rows)) if job.group is None else [
        known.setdefault(group_key(row[job.group]), len(known)) for row in rows
    ]  # fmt: skip
    texts = [as_text(completion) for completion in rollouts.completions]
    return Rollouts(rollouts.samples, texts, group=np.asarray(group), columns=rollouts.columns)


def in_order(job: Job, pieces: Iterable[Chunk]) -> Iterator[Judged]:
    """Judge chunk after chunk in this process."""
    reward = load_reward(job.reward)
    return (judge_chunk(reward, job, piece) for piece in pieces)


def in_processes(workers: int) -> Run:
    """Judge in this many processes, a chunk at a time each; twice as many chunks are in memory at most."""

    def run(job: Job, pieces: Iterable[Chunk]) -> Iterator[Judged]:
        context, parent = get_context("spawn"), os.getpid()
        pool = ProcessPoolExecutor(workers, context, initializer=_end_with, initargs=(parent,))
        waiting: deque[Future[Judged]] = deque()
        try:
            for piece in pieces:
                waiting.append(pool.submit(_judge_here, job, piece))
                if len(waiting) > 2 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool:
            raise SteelyardError("a process that judged died, killed or out of memory; go on with --resume") from None
        finally:
            pool.shutdown(cancel_futures=True)

    return run


_loaded: dict[str, Expression] = {}


def _judge_here(job: Job, chunk: Chunk) -> Judged:
    """Judge in a process that keeps the reward."""
    if job.reward not in _loaded:
        _loaded[job.reward] = load_reward(job.reward)
    return judge_chunk(_loaded[job.reward], job, chunk)


def _end_with(parent: int) -> None:
    """Let this process end soon after its parent, however that one ended."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def score(
    job: Job, *, run: Run = in_order, resume: bool = False, told: Callable[[Summary, int], None] = lambda *_: None
) -> Summary:
    """Write every row of a table with its reward.

    Args:
        job: what to judge, with what, into which file.
        run: where the chunks are judged: `in_order`, `in_processes(n)`, or `steelyard.engines.ray.on_ray(n)`.
        resume: go on with a job that was stopped; one that is finished is left as it is, a new one is begun.
        told: called after every chunk with the summary so far and how much of the file it was (`Chunk.extent`).

    Returns:
        The summary of the whole file, rows of earlier runs included.

    Raises:
        SteelyardError: for bad rows (what was judged before them is kept), settings or data that differ from those of
            the job that is resumed, or a file in the way.
    """
    form_of(job.out)
    if job.out.exists():
        raise SteelyardError(f"{job.out} is there already; choose another file, or remove it")
    pieces = chunks(job.data, job.chunk, group=job.group)
    with Journal(job.out, job.settings(), resume=resume) as journal:
        summary = _scored(job, journal, pieces, run, told)
        finished = journal.partial
        if form_of(job.out) == "parquet":
            finished = job.out.with_name(job.out.name + ".writing")
            write_parquet(journal.partial, [0, *(note["end"] for note in journal.noted)][:-1], finished)
        journal.done(job.out, finished)
    return summary


def is_done(job: Job) -> bool:
    """Whether the output stands there whole; what a kill in the last moment left beside it is removed."""
    done = job.out.exists()
    if done:
        for left in beside(job.out):
            left.unlink(missing_ok=True)
    return done


def _scored(
    job: Job, journal: Journal, pieces: Iterator[Chunk], run: Run, told: Callable[[Summary, int], None]
) -> Summary:
    began, summary = time.monotonic(), Summary()
    for note in list(journal.noted):
        piece = next(pieces, None)
        if piece is None or (note["rows"], note["check"]) != (piece.rows, check_sum(piece)):
            raise SteelyardError(f"{job.data} has changed above row {note['rows']} since it was scored; start again")
        summary.add(note)
        told(summary, piece.extent)
    summary.before = summary.rows
    for judged in run(job, pieces):
        note = {name: value for name, value in judged._asdict().items() if name not in ("piece", "extent")}
        journal.append(judged.piece, note)
        summary.add(note)
        told(summary, judged.extent)
    if not summary.rows:
        raise SteelyardError(f"{job.data} has no rows; give at least one")
    summary.seconds = time.monotonic() - began
    return summary
