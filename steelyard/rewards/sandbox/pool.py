"""Several warm sandboxes, kept between calls: programs in, outcomes out."""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from steelyard.rewards.sandbox.limits import Limits
from steelyard.rewards.sandbox.worker import Outcome, Worker
from steelyard.types import SteelyardError


class Job(NamedTuple):
    """A program with its tests."""

    program: str
    tests: Sequence[str]
    objects: bool = True


class Pool:
    """Workers that are started when first needed and stay warm.

    Args:
        limits: of every program; workers: how many programs run at a time (the number of processors by default).
        unsafe: run programs beside us, with limits and nothing else around them. Only for programs that you trust.

    Raises:
        SteelyardError: if bubblewrap is missing or does not work here (at the first job).
    """

    def __init__(self, limits: Limits | None = None, *, workers: int | None = None, unsafe: bool = False) -> None:
        self.limits, self.unsafe = limits or Limits(), unsafe
        self.count = workers or len(os.sched_getaffinity(0))
        if self.count < 1:
            raise SteelyardError(f"a pool of {workers} workers does nothing; give at least 1")
        # A worker dies with the thread that started it, so each has a thread of its own for life.
        self._threads = ThreadPoolExecutor(self.count, thread_name_prefix="sandbox")
        self._own, self._workers, self._adding = threading.local(), list[Worker](), threading.Lock()

    def judge(self, jobs: Sequence[Job]) -> list[Outcome]:
        """One outcome a job, in their order."""
        return list(self._threads.map(self._judge, jobs))

    def _judge(self, job: Job) -> Outcome:
        return self._worker().judge(job.program, job.tests, objects=job.objects)

    def _worker(self) -> Worker:
        if not hasattr(self._own, "worker"):
            worker = Worker(self.limits, unsafe=self.unsafe)
            with self._adding:
                self._workers.append(worker)
            self._own.worker = worker
        found: Worker = self._own.worker
        return found

    def close(self) -> None:
        """End every sandbox."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        for worker in self._workers:
            worker.close()
        self._workers.clear()

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *details: object) -> None:
        self.close()


_pools: dict[tuple[int, Limits, int | None, bool], Pool] = {}
_making = threading.Lock()


def shared_pool(limits: Limits, *, workers: int | None = None, unsafe: bool = False) -> Pool:
    """The one pool of this process with these settings; ended when the process ends."""
    key = (os.getpid(), limits, workers, unsafe)
    with _making:
        if key not in _pools:
            _pools[key] = pool = Pool(limits, workers=workers, unsafe=unsafe)
            atexit.register(pool.close)
        return _pools[key]
