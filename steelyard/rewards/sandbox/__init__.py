"""Where a program from a model runs: a sandbox that it can neither leave nor see its verdict from."""

from steelyard.rewards.sandbox.bubblewrap import find_bubblewrap
from steelyard.rewards.sandbox.command import Finished, run_command
from steelyard.rewards.sandbox.limits import Limits
from steelyard.rewards.sandbox.pool import Job, Pool, shared_pool
from steelyard.rewards.sandbox.worker import Outcome, Worker

__all__ = [
    "Finished",
    "Job",
    "Limits",
    "Outcome",
    "Pool",
    "Worker",
    "find_bubblewrap",
    "run_command",
    "shared_pool",
]
