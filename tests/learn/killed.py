"""Run by test_resume.py in a process of its own: trains in children that are killed until one finishes.

    python -m tests.learn.killed FOLDER KILL… FOLDER KILL…

KILL is `NAME:COUNT`: die at the COUNTth call of that function; after the last one the run goes to its end.

One process loads torch; each attempt is a fork of it, killed with SIGKILL from within at an exact place.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path

import torch
import torch.utils.tensorboard

from steelyard.learn import runs, trainer
from tests.learn.stateful import start

PLACES = {
    "fsync": (os, "fsync"),
    "rename": (os, "rename"),
    "replace": (os, "replace"),
    "rmtree": (shutil, "rmtree"),
    "save": (runs, "save_file"),
    "append": (runs.RunFolder, "append"),
    "backward": (trainer.Trainer, "_backward"),
    "truncate": (os, "truncate"),
}


def arm(kill: str) -> None:
    """Make this process die at the given call, half of the time before it and half of the time after it."""
    name, _, count = kill.partition(":")
    owner, attribute = PLACES[name]
    original, left = getattr(owner, attribute), [int(count)]

    def counted(*args, **kwargs):
        left[0] -= 1
        if left[0] == 0 and int(count) % 2:
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*args, **kwargs)
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, attribute, counted)


def attempt(folder: Path, kill: str | None) -> int:
    """Train in a child; returns its wait status."""
    child = os.fork()
    if child == 0:
        if kill:
            arm(kill)
        start(folder).run()
        os._exit(0)
    return os.waitpid(child, 0)[1]


def died(status: int) -> str:
    return "killed" if os.WIFSIGNALED(status) else f"exit {os.WEXITSTATUS(status)}"


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.optim.AdamW([torch.zeros(1)])  # what it imports late, once here and not in every child
    plan: list[tuple[Path, list[str]]] = []
    for word in sys.argv[1:]:
        if ":" in word:
            plan[-1][1].append(word)
        else:
            plan.append((Path(word), []))
    for folder, kills in plan:
        for kill in [*kills, None]:
            print(folder.name, kill, died(attempt(folder, kill)), flush=True)
