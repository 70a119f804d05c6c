"""The fork server: a judge that stays, and for every program a fresh process, alone in its own process namespace."""

from __future__ import annotations

import array
import contextlib
import gc
import importlib
import json
import os
import signal
import socket
import sys
from collections.abc import Mapping
from typing import Any

from steelyard.rewards.sandbox.inside import jail, seccomp
from steelyard.rewards.sandbox.inside.codec import receive, tell
from steelyard.rewards.sandbox.inside.judge import judge
from steelyard.rewards.sandbox.inside.servant import Servant

TEMPORARY = "/tmp"
_REPORT, _LINK, _MANY = 3, 20, 1 << 20
"""Descriptors: the fork server's to the host, a program's or judge's only one; no others stay open there."""

_ANOTHER, _DONE = b"a", b"d"
_JOBS = 100
_WARM = ("bisect", "copy", "dataclasses", "heapq", "itertools", "math", "random", "re", "string", "time", "typing")
_LIKELY = """
from typing import Dict, List, Optional
import math

class Sum:
    def __init__(self, start: int = 0):
        self.total = start

def f(x: List[int], by: Optional[Dict[str, int]] = None) -> List[int]:
    found, rest = [], {}
    for i, n in enumerate(sorted(x)):
        if n % 2 == 0 and i > 0 or not str(n).isdigit():
            found.append(n * math.ceil(n / 3) - len(x))
        else:
            rest[f"{n}"] = (i, n)
    while len(found) < 3:
        found += [n for _, n in rest.values()][::-1] or [Sum(1).total]
    return found
"""
"""Modules that programs import most, and a program like theirs. Each module makes every fork a little dearer."""

_YOUNG = 20_000
"""Objects made between two collections, so that a short program ends before its first."""


class Zygote:
    """Serves one judge, and it one program at a time.

    Args:
        report: the descriptor to the host, for the judge alone.
        limits: of every process; caged: whether namespaces, capabilities and the filter are there to be used.
    """

    def __init__(self, report: int, limits: Mapping[str, Any], *, caged: bool) -> None:
        self.report, self.limits, self.caged = report, limits, caged
        self.lock = jail.Lock(seccomp.program(forks=limits["processes"] > 1) if caged else b"")
        self.own = os.pidfd_open(os.getpid()) if caged else -1
        self.servant = Servant(_LINK, limits["output"], TEMPORARY)
        self.judge = self.program = 0
        self.spare: tuple[int, int] | None = None
        self.untouched: Any = None

    def serve(self) -> None:
        """Until the host or the judge leaves."""
        os.chdir("/")
        self._clean()
        self._rehearse()
        self.servant.settle()
        _freeze()
        self._start_judge()
        while True:
            request = self.requests.recv(1)
            if request:
                self._next() if request == _ANOTHER else self._end_program()
            elif os.waitpid(self.judge, 0)[1]:
                break
            else:  # a judge that has done its share leaves in peace
                self._start_judge()

    def _rehearse(self) -> None:
        """Serve a program of our own here: a fork finds warm what each would else make for itself, page by page."""
        ours, theirs = socket.socketpair()
        requests = (["load", _LIKELY, ["list", "f"]], ["call", ["object", 0], ["list", ["list", 1, 2]], ["dict"]])
        with ours, theirs:
            for _ in range(30):
                servant = Servant(theirs.fileno(), self.limits["output"], "/")
                for request in requests:
                    tell(ours.fileno(), request)
                    servant.serve_one()
                    receive(ours.fileno(), _MANY)

    def _start_judge(self) -> None:
        self.requests, theirs = socket.socketpair()
        self.judge = os.fork()
        if self.judge == 0:
            status = 1
            try:
                self._become(theirs.fileno(), self.report)
                gc.enable()
                requests = socket.socket(fileno=_LINK)
                judge(_LINK + 1, lambda: _fresh_link(requests), lambda: requests.sendall(_DONE), jobs=_JOBS)
                status = 0
            except EOFError:
                status = 2
            finally:
                os._exit(status)
        theirs.close()

    def _next(self) -> None:
        """Give the judge the program in waiting, and have another one wait."""
        self._end_program()
        self.program, link = self.spare or self._start_program()
        socket.send_fds(self.requests, [b"l"], [link])
        os.close(link)
        self.spare = self._start_program()

    def _end_program(self) -> None:
        """End the program that ran, with all that it started and wrote."""
        program, self.program = self.program, 0
        if program:
            os.kill(program, signal.SIGKILL)
            if not self.caged:  # in a cage its namespace ended with it; here its group has to
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(program, signal.SIGKILL)
            os.waitpid(program, 0)
            self._clean()

    def _start_program(self) -> tuple[int, int]:
        """A process that waits for a program, and the judge's end of the link to it."""
        if self.caged:
            jail.next_child_is_alone()
        ours, theirs = socket.socketpair()
        child = os.fork()
        if child:
            jail.limit_program(child, self.limits)
            if self.caged:
                jail.children_are_ours(self.own)
            theirs.close()
            return child, ours.detach()
        try:
            os.setsid()  # a signal to the group of the fork server must not be its to send
            self._become(theirs.fileno())
            gc.enable()
            self.servant.serve()
        finally:
            os._exit(1)

    def _become(self, *links: int) -> None:
        """Keep these descriptors and nothing else; lock the door."""
        for place, link in enumerate(links, _LINK):
            os.dup2(link, place, inheritable=False)
        os.closerange(3, _LINK)
        os.closerange(_LINK + len(links), jail.DESCRIPTORS)
        if self.caged:
            self.lock()

    def _clean(self) -> None:
        """An empty /tmp: a new one, as soon as anything in it, or it, was touched."""
        if self.caged and (_state(TEMPORARY) != self.untouched or os.listdir(TEMPORARY)):
            jail.fresh_folder(TEMPORARY, self.limits["files"])
            self.untouched = _state(TEMPORARY)


def _fresh_link(requests: socket.socket) -> int:
    """Ask the fork server for a program's process.

    Raises:
        EOFError: if it has gone.
    """
    requests.sendall(_ANOTHER)
    link = array.array("i")
    data, ancillary, _, _ = requests.recvmsg(1, socket.CMSG_LEN(link.itemsize))
    if not data or not ancillary:
        raise EOFError("the fork server has gone")
    link.frombytes(ancillary[0][2][: link.itemsize])
    return link[0]


def _state(path: str) -> Any:
    """What any change in or of a folder changes: its times (of change), mode and attributes."""
    now = os.stat(path)
    return now.st_ctime_ns, now.st_mtime_ns, now.st_mode, os.listxattr(path)


def _freeze() -> None:
    """Take all that is here out of the collector's sight, for good; a fork turns it on for what is its own."""
    gc.collect()
    gc.freeze()
    gc.disable()
    gc.set_threshold(_YOUNG, 10, 10)


def _warm_up() -> None:
    """Import what programs import most; a fork shall not seed `random` anew, which costs more than the fork."""
    register, os.register_at_fork = os.register_at_fork, lambda **_: None
    for name in _WARM:
        importlib.import_module(name)
    os.register_at_fork = register


def main(descriptor: str, limits: str, caged: str) -> None:
    """Warm up, then serve the host on a descriptor."""
    _warm_up()
    settled = json.loads(limits)
    os.environ.pop("LD_BIND_NOW", None)  # it was for this process
    if int(descriptor) != _REPORT:
        os.dup2(int(descriptor), _REPORT, inheritable=False)
    os.closerange(_REPORT + 1, _MANY)  # whatever number the host gave it, and whatever else came along
    if caged == "caged":
        jail.limit(settled)
    zygote = Zygote(_REPORT, settled, caged=caged == "caged")
    os.write(_REPORT, b"r")
    jail.nothing_open()
    zygote.serve()


if __name__ == "__main__":
    main(*sys.argv[1:])
