"""Any command in a sandbox of its own: files and standard input in, standard output and exit code out."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import IO

from steelyard.rewards.sandbox.bubblewrap import INSIDE, cage, find_bubblewrap, interpreter_folders, start_python
from steelyard.rewards.sandbox.limits import Limits
from steelyard.types import SteelyardError


@dataclass(frozen=True)
class Finished:
    """How a command ended.

    Attributes:
        code: its exit code, negative or above 128 for a signal; None where it was stopped.
        stdout, stderr: what it wrote, up to the limit.
        stopped: why it was stopped (`timed out`, `too much output`), or an empty text.
    """

    code: int | None
    stdout: bytes
    stderr: bytes
    stopped: str = ""


def run_command(
    command: Sequence[str],
    *,
    stdin: bytes = b"",
    files: Mapping[str, str | bytes] | None = None,
    readable: Sequence[str] = (),
    limits: Limits | None = None,
) -> Finished:
    """Run a command in a fresh sandbox; its working folder is an empty /tmp with `files` in it.

    Args:
        command: what /usr or `readable` holds; stdin: what it reads.
        files: name to content. readable: further folders to show, read-only.
        limits: `seconds` of wall time; `processes` above 1 lets it start others (a shell or compiler needs that).

    Raises:
        SteelyardError: if bubblewrap is missing; for a file name that is a path; for `processes` above 1 as root, whom
            the kernel does not hold to it.
    """
    limits = limits or Limits()
    if limits.processes > 1 and os.geteuid() == 0:
        raise SteelyardError(
            f"processes={limits.processes} cannot be held to as root; run as another user, or allow 1 process"
        )
    with contextlib.ExitStack() as stack:
        wrapped = [find_bubblewrap(), *cage(files=limits.files, readable=[*interpreter_folders(), *readable])]
        descriptors = []
        for name, content in (files or {}).items():
            if name != os.path.basename(name) or name in ("", ".", ".."):
                raise SteelyardError(f"{name!r} is no file name; files of a command lie in one folder")
            descriptors.append(stack.enter_context(_written(content)).fileno())
            wrapped += ["--file", str(descriptors[-1]), f"/tmp/{name}"]
        once = json.dumps(replace(limits, total_seconds=limits.seconds).to_json())
        process = stack.enter_context(
            subprocess.Popen(
                [*wrapped, *start_python(INSIDE, "launch"), once, *command],
                pass_fds=descriptors,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
        )
        return _watched(process, stdin, limits)


@contextlib.contextmanager
def _written(content: str | bytes) -> Iterator[IO[bytes]]:
    with tempfile.TemporaryFile() as file:
        file.write(content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content)
        file.seek(0)
        yield file


def _watched(process: subprocess.Popen[bytes], stdin: bytes, limits: Limits) -> Finished:
    """Feed and read it until it ends, or has used up its time or output."""
    assert process.stdin and process.stdout and process.stderr
    feeding = threading.Thread(target=_feed, args=(process.stdin, stdin), daemon=True)
    feeding.start()
    written: dict[int, bytearray] = {process.stdout.fileno(): bytearray(), process.stderr.fileno(): bytearray()}
    deadline, stopped = time.monotonic() + limits.seconds, ""
    with selectors.DefaultSelector() as selector:
        for descriptor in written:
            selector.register(descriptor, selectors.EVENT_READ)
        while selector.get_map() and not stopped:
            ready = selector.select(max(0.0, deadline - time.monotonic()))
            stopped = "" if ready else "timed out"
            for key, _ in ready:
                piece = os.read(key.fd, 1 << 16)
                written[key.fd] += piece
                if not piece:
                    selector.unregister(key.fd)
                if len(written[key.fd]) > limits.output:
                    stopped = "too much output"
    if not stopped:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            stopped = "timed out"
    if stopped:
        process.kill()
        process.wait()
    out, err = (bytes(text[: limits.output]) for text in written.values())
    feeding.join()
    return Finished(None if stopped else process.returncode, out, err, stopped)


def _feed(pipe: IO[bytes], data: bytes) -> None:
    with contextlib.suppress(OSError), pipe:  # a program need not read what it is given
        pipe.write(data)
