"""One warm sandbox, seen from outside: a fork server that judges one program after another."""

from __future__ import annotations

import json
import select
import socket
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from steelyard.rewards.sandbox.bubblewrap import (
    CODE,
    INSIDE,
    cage,
    find_bubblewrap,
    interpreter_folders,
    start_python,
)
from steelyard.rewards.sandbox.inside.codec import BadMessage, receive, send
from steelyard.rewards.sandbox.limits import Limits
from steelyard.types import SteelyardError

_GRACE, _START = 2.0, 60.0
_REPORT = 64 << 20


@dataclass(frozen=True)
class Outcome:
    """What became of a program's tests.

    Attributes:
        passed: one a test; None where the sandbox itself failed.
        why: for each test why it did not pass, or an empty text; `error` says how the sandbox, or a test, failed.
    """

    passed: tuple[bool, ...] | None
    why: tuple[str, ...] = ()
    error: str = ""


class Worker:
    """A fork server in bubblewrap, or (`unsafe`) beside us with nothing but limits around it.

    Raises:
        SteelyardError: if bubblewrap is missing, or the server does not start.
    """

    def __init__(self, limits: Limits, *, unsafe: bool = False) -> None:
        self.limits, self.unsafe = limits, unsafe
        self._start()

    def _start(self) -> None:
        self.control, theirs = socket.socketpair()
        with theirs:
            call = [str(theirs.fileno()), json.dumps(self.limits.to_json())]
            if self.unsafe:
                command = [*start_python(str(CODE), "zygote"), *call, "open"]
            else:
                files, folders = self.limits.files, interpreter_folders()
                wrapped = [find_bubblewrap(), *cage(files=files, readable=folders, capable=True)]
                command = [*wrapped, *start_python(INSIDE, "zygote"), *call, "caged"]
            self.process = subprocess.Popen(
                command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
            )  # fmt: skip
        started = self.control.recv(1) if select.select([self.control], [], [], _START)[0] else b""
        if started != b"r":
            self.close()
            assert self.process.stderr is not None
            words = self.process.stderr.read().decode("utf-8", "replace").strip().splitlines()[-1:]
            raise SteelyardError(f"the sandbox does not start: {words[0] if words else 'it says nothing'}")

    def judge(self, program: str, tests: Sequence[str], *, objects: bool = True) -> Outcome:
        """Run the program's tests, each a text of Python statements; a server that ended is started anew, once."""
        job = {"program": program, "tests": list(tests), "objects": objects, "limits": self.limits.to_json()}
        for _ in range(2):
            deadline = time.monotonic() + self.limits.total_seconds + self.limits.seconds + _GRACE
            try:
                send(self.control.fileno(), job)
                return _read(receive(self.control.fileno(), _REPORT, deadline=deadline), len(tests))
            except TimeoutError:
                self.restart()
                return Outcome((False,) * len(tests), ("timed out with its judge",) * len(tests))
            except (EOFError, OSError, BadMessage):
                self.restart()
        return Outcome(None, error="the sandbox ended twice while it judged this program")

    def restart(self) -> None:
        """A fresh server in place of this one."""
        self.close()
        self._start()

    def close(self) -> None:
        """End the sandbox and all that is in it."""
        self.control.close()
        self.process.kill()
        self.process.wait()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *details: object) -> None:
        self.close()


def _read(verdict: Any, count: int) -> Outcome:
    if "error" in verdict:
        return Outcome(None, error=verdict["error"])
    passed, why = zip(*verdict["tests"], strict=True) if count else ((), ())
    if len(passed) != count:
        raise BadMessage(f"{len(passed)} verdicts for {count} tests")
    return Outcome(tuple(passed), tuple(why))
