"""Processes that judge for the server: each holds the reward, takes a batch at a time, can be killed and replaced."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass, field
from multiprocessing.connection import Connection, Pipe

from steelyard.engines.batches import Answer, OpenRLHF, answer_columns, answer_openrlhf
from steelyard.types import SteelyardError

COLUMNS, OPENRLHF = b"c", b"o"
"""The form of a batch, its first byte on the way to the process."""


@dataclass(frozen=True)
class Task:
    """What a process is to judge with: where the reward stands, and how OpenRLHF's fields are read."""

    reward: str
    form: OpenRLHF = field(default_factory=OpenRLHF)


class TookTooLong(Exception):
    """The process had no answer in time and was killed."""


class Died(Exception):
    """The process ended while it judged."""


class JudgeProcess:
    """A child process with the reward loaded. It leads a process group of its own, so that a kill takes all of it."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.restarts = -1
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe: Connection | None = None

    def start(self) -> str:
        """Start the process, or another one, and wait until it has the reward; returns the reward's name.

        Raises:
            SteelyardError: if the reward cannot be loaded.
        """
        self.stop()
        self.restarts += 1
        self._pipe, theirs = Pipe()
        words = [sys.executable, "-m", "steelyard.engines.judging", str(theirs.fileno())]
        self._process = subprocess.Popen(words, pass_fds=[theirs.fileno()], start_new_session=True)
        theirs.close()
        try:
            self._pipe.send_bytes(json.dumps(asdict(self.task)).encode())
            told = json.loads(self._pipe.recv_bytes())
        except (EOFError, OSError):
            code = self._process.wait()
            self.stop()
            raise SteelyardError(f"the process that loads {self.task.reward} ended with code {code}") from None
        if "error" in told:
            self.stop()
            raise SteelyardError(told["error"])
        return str(told["name"])

    def ask(self, form: bytes, body: bytes, *, seconds: float) -> Answer:
        """Judge a batch.

        Raises:
            TookTooLong: after the seconds; Died: if the process ended. Either way it must be started again.
        """
        assert self._pipe is not None and self._process is not None
        try:
            self._pipe.send_bytes(form + body)
            if not self._pipe.poll(max(seconds, 0.0)):
                self.stop()
                raise TookTooLong
            head, _, answer = self._pipe.recv_bytes().partition(b"\n")
        except (EOFError, OSError):
            code = self._process.wait()
            self.stop()
            raise Died(f"the process that judged ended with code {code}") from None
        said = json.loads(head)
        return Answer(said["code"], answer, said["rows"])

    def stop(self) -> None:
        """Kill the process and all that it started."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None
        if self._pipe is not None:
            self._pipe.close()
            self._pipe = None


def judge_until_closed(pipe: Connection) -> None:
    """The child's life: load the reward, then answer batches until the server closes the pipe."""
    from steelyard.rewards.loading import load_reward

    task = json.loads(pipe.recv_bytes())
    form = OpenRLHF(task["form"]["label"], tuple(task["form"]["endings"]))
    try:
        reward = load_reward(task["reward"])
    except SteelyardError as error:
        pipe.send_bytes(json.dumps({"error": str(error)}).encode())
        return
    pipe.send_bytes(json.dumps({"name": reward.name}).encode())
    while True:
        try:
            message = pipe.recv_bytes()
        except EOFError:
            return
        kind, body = message[:1], message[1:]
        answer = answer_columns(reward, body) if kind == COLUMNS else answer_openrlhf(reward, body, form=form)
        pipe.send_bytes(json.dumps({"code": answer.code, "rows": answer.rows}).encode() + b"\n" + answer.body)


def _end_with(parent: int) -> None:
    """A server that was killed leaves no judge behind, however long a reward takes."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os.killpg(0, signal.SIGKILL)


def main() -> None:
    """`python -m steelyard.engines.judging FD`: what `JudgeProcess` starts."""
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    judge_until_closed(Connection(int(sys.argv[1])))


if __name__ == "__main__":
    main()
