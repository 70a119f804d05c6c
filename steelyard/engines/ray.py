"""A job's chunks judged on a Ray cluster; nothing of Ray is loaded before it runs."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from steelyard.engines.scoring import Job, Judged, Run, judge_chunk
from steelyard.engines.tables import Chunk
from steelyard.rewards import Expression
from steelyard.rewards.loading import load_reward
from steelyard.types import SteelyardError


class Judge:
    """An actor: it loads the reward once and judges chunks."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.reward: Expression | None = None

    def judge(self, chunk: Chunk) -> Judged:
        """The chunk with its scores."""
        if self.reward is None:  # not above: an error of a task reaches the job as it is, that of an actor does not
            self.reward = load_reward(self.job.reward)
        return judge_chunk(self.reward, self.job, chunk)


def on_ray(workers: int, *, cpus: float = 1.0) -> Run:
    """Judge in this many actors of a Ray cluster, in the order of the table.

    The cluster is the one that `ray.init` was told of or that RAY_ADDRESS names, else a local one for this job. A
    reward in a file must stand at the same path on every node; one in an installed module need not.

    Args:
        workers: actors; twice as many chunks travel at most.
        cpus: processors that each asks Ray for.
    """

    def run(job: Job, pieces: Iterable[Chunk]) -> Iterator[Judged]:
        import ray
        from ray.util import ActorPool

        mine = not ray.is_initialized()
        if mine:
            local: dict[str, Any] = {} if os.environ.get("RAY_ADDRESS") else {"num_cpus": max(1, round(workers * cpus))}
            ray.init(logging_level=logging.ERROR, log_to_driver=False, include_dashboard=False, **local)
        try:
            actor = ray.remote(num_cpus=cpus)(Judge)
            pool = ActorPool([actor.remote(_absolute(job)) for _ in range(workers)])
            yield from _in_window(pool, iter(pieces), 2 * workers)
        finally:
            if mine:
                ray.shutdown()

    return run


def _in_window(pool: Any, pieces: Iterator[Chunk], window: int) -> Iterator[Judged]:
    """Results in order, with no more chunks on their way than the window holds."""
    under_way = 0
    for piece in pieces:
        pool.submit(lambda judge, chunk: judge.judge.remote(chunk), piece)
        under_way += 1
        if under_way == window:
            yield _next(pool)
            under_way -= 1
    while pool.has_next():
        yield _next(pool)


def _next(pool: Any) -> Judged:
    from ray.exceptions import RayActorError, RayTaskError

    try:
        judged: Judged = pool.get_next()
        return judged
    except RayTaskError as error:
        cause = error.cause
        if isinstance(cause, SteelyardError):
            raise SteelyardError(str(cause)) from None
        raise
    except RayActorError as error:
        why = " ".join(str(error).split())[:300]
        raise SteelyardError(f"an actor on Ray ended: {why}; go on with --resume") from None


def _absolute(job: Job) -> Job:
    """The reward's file by its whole path: an actor starts in another folder."""
    place, colon, name = job.reward.rpartition(":") if ":" in job.reward else (job.reward, "", "")
    return replace(job, reward=f"{Path(place).resolve()}{colon}{name}") if place.endswith(".py") else job
