"""A running `steelyard serve` for tests that ask it over a real socket."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

SERVED = Path(__file__).with_name("served.py")
ROOT = Path(__file__).parents[2]


class Server:
    """A running `steelyard serve`."""

    def __init__(self, process: subprocess.Popen[str], url: str, log: Path) -> None:
        self.process, self.url, self.log = process, url, log
        self.client = httpx.Client(base_url=url, timeout=30)

    def rewards(self, completions: list, headers: dict | None = None, **columns: list) -> httpx.Response:
        """Ask for rewards."""
        body = {"columns": {"completion": completions, **columns}}
        return self.client.post("/rewards", json=body, headers=headers)

    def wait(self, path: str = "/health/ready") -> None:
        """Wait until it answers with 200."""
        for _ in range(300):
            try:
                if self.client.get(path).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.1)
        raise AssertionError(f"the server does not get ready:\n{self.log.read_text()}")


def environment(**extra: str) -> dict[str, str]:
    """Where the house is found."""
    return os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}", **extra}


@contextmanager
def serving(folder: Path, reward: str, *options: str, ready: bool = True, **extra: str) -> Iterator[Server]:
    """Serve until the block ends."""
    log = folder / "server.log"
    with log.open("w") as stderr:
        words = [sys.executable, "-m", "steelyard.cli", "serve", reward, "--port", "0", *options]
        # Tests may themselves run where Ctrl-C is ignored, which a child would inherit.
        process = subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=stderr, text=True, env=environment(**extra),
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )  # fmt: skip
    assert process.stdout is not None
    try:
        server = Server(process, process.stdout.readline().strip(), log)
        if ready:
            server.wait()
        yield server
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
