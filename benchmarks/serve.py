"""Rows a second and waiting times of `steelyard serve` beside an endpoint as OpenRLHF's example has it.

    python -m benchmarks.serve [--out benchmarks/serve.json]

Batches of 64 rows (completions of about 100 words) of a light reward (the last number is the answer, and a format) are
sent at 2,000 rows a second, then as fast as 16 clients can, then by four times as many clients as the queue takes. The
peer is a Starlette endpoint that loops over the rows in the event loop, as OpenRLHF's `serve_rm` does with its model;
it speaks the same protocol (`query`, `prompts`, `labels`), so that both sides get the same bytes over real sockets, and
their rewards must be equal. Load generator, server and worker share the machine. Best round by the 99th percentile.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx
from rich import box
from rich.console import Console
from rich.table import Table

BATCH, RATE, SECONDS, ROUNDS, CLIENTS, QUEUE = 64, 2000, 6.0, 3, 16, 16

REWARD = """
import re
from steelyard.rewards import reward
THINK = re.compile(r"<think>.*?</think>", re.DOTALL)
@reward
def last_number(completion: str, answer: str) -> float:
    numbers = re.findall(r"-?[0-9]+", completion)
    return float(bool(numbers) and numbers[-1] == answer)
@reward
def thinks(completion: str) -> float:
    return float(bool(THINK.match(completion)))
light = 0.8 * last_number + 0.2 * thinks
"""

PEER = """
import re, sys, uvicorn
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route
THINK = re.compile(r"<think>.*?</think>", re.DOTALL)
def judged(query, prompt, label):
    completion = query[len(prompt):]
    numbers = re.findall(r"-?[0-9]+", completion)
    return 0.8 * float(bool(numbers) and numbers[-1] == label) + 0.2 * float(bool(THINK.match(completion)))
async def get_reward(request):
    data = await request.json()
    rewards = [judged(*row) for row in zip(data["query"], data["prompts"], data["labels"])]
    return JSONResponse({"rewards": rewards, "scores": rewards, "extra_logs": {"dummy_scores": rewards}})
async def health(request):
    return JSONResponse({})
app = Starlette(routes=[Route("/get_reward", get_reward, methods=["POST"]), Route("/health", health)])
uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="error", access_log=False)
"""


def body(seed: int) -> bytes:
    """A batch as OpenRLHF sends it."""
    dice = random.Random(seed)
    words = ["the", "a", "sum", "of", "and", "so", "we", "add", "then", "take", "it", "from", "there", "is", "left"]
    prompts = [f"What is {dice.randint(1, 99)} plus {dice.randint(1, 99)}?" for _ in range(BATCH)]
    thoughts = [" ".join(dice.choices(words, k=dice.randint(60, 140))) for _ in range(BATCH)]
    answers = [str(dice.randint(1, 20)) for _ in range(BATCH)]
    texts = [f"{p}<think>{t}</think>It is {dice.randint(1, 20)}." for p, t in zip(prompts, thoughts, strict=True)]
    return json.dumps({"query": texts, "prompts": prompts, "labels": answers}).encode()


class Load:
    """What came back: seconds of the answered requests, and the codes of all."""

    def __init__(self, client: httpx.AsyncClient, path: str) -> None:
        self.client, self.path = client, path
        self.seconds: list[float] = []
        self.codes: Counter[str] = Counter()
        self.refused_in: list[float] = []

    async def ask(self, content: bytes, due: float | None = None) -> None:
        """One request; its time counts from when it was due."""
        began = time.perf_counter() if due is None else due
        try:
            answer = await self.client.post(self.path, content=content)
        except httpx.TransportError as error:
            self.codes[type(error).__name__] += 1
            return
        self.codes[str(answer.status_code)] += 1
        (self.seconds if answer.status_code == 200 else self.refused_in).append(time.perf_counter() - began)

    def figures(self, wall: float) -> dict[str, Any]:
        """Of the answered requests, in milliseconds, and the share that was refused."""
        cuts = statistics.quantiles(self.seconds, n=100) if len(self.seconds) > 1 else [float("nan")] * 99
        total = sum(self.codes.values())
        refused = statistics.median(self.refused_in) * 1000 if self.refused_in else 0.0
        return {
            "rows_per_second": len(self.seconds) * BATCH / wall,
            "p50_ms": cuts[49] * 1000,
            "p99_ms": cuts[98] * 1000,
            "share_refused": (self.codes["429"] + self.codes["503"]) / total,
            "share_failed": 1 - (self.codes["200"] + self.codes["429"] + self.codes["503"]) / total,
            "median_ms_to_refuse": refused,
        }


async def steady(load: Load, bodies: list[bytes], rate: float) -> dict[str, Any]:
    """Open loop: a batch is sent when it is due, whether or not the last one came back."""
    began, tasks = time.perf_counter(), []
    for number in range(int(SECONDS * rate / BATCH)):
        due = began + number * BATCH / rate
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        tasks.append(asyncio.create_task(load.ask(bodies[number % len(bodies)], due)))
    await asyncio.gather(*tasks)
    return load.figures(time.perf_counter() - began)


async def flat_out(load: Load, bodies: list[bytes], clients: int) -> dict[str, Any]:
    """Closed loop: every client asks again as soon as it is answered; a refused one waits 0.1 s."""
    began = time.perf_counter()

    async def client(number: int) -> None:
        while time.perf_counter() - began < SECONDS:
            refused = load.codes["429"]
            await load.ask(bodies[number % len(bodies)])
            await asyncio.sleep(0.1 if load.codes["429"] > refused else 0.0)

    await asyncio.gather(*map(client, range(clients)))
    return load.figures(time.perf_counter() - began)


def started(words: list[str], folder: Path, port: int) -> tuple[subprocess.Popen[bytes], str]:
    """A server that answers."""
    process, url = (
        subprocess.Popen(words, cwd=folder, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL),
        f"http://127.0.0.1:{port}",
    )
    for _ in range(200):
        try:
            if httpx.get(f"{url}/health").status_code == 200:
                return process, url
        except httpx.TransportError:
            time.sleep(0.1)
    raise RuntimeError(f"{words} does not answer")


def memory(process: subprocess.Popen[bytes]) -> int:
    """Peak resident memory of the server's own process in MiB."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+)", status)
    return int(found[1]) // 1024 if found else 0


async def measured(url: str, bodies: list[bytes]) -> list[dict[str, Any]]:
    """The three loads, and 2,000 rows a second again after the overload."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx.AsyncClient(base_url=url, limits=limits, timeout=60) as client:
        made = lambda: Load(client, "/get_reward")  # noqa: E731
        await steady(made(), bodies[:8], RATE)
        return [
            {"load": f"{RATE} rows a second", **await steady(made(), bodies, RATE)},
            {"load": f"{CLIENTS} clients flat out", **await flat_out(made(), bodies, CLIENTS)},
            {"load": f"overload: {4 * QUEUE} clients", **await flat_out(made(), bodies, 4 * QUEUE)},
            {"load": f"{RATE} rows a second after it", **await steady(made(), bodies, RATE)},
        ]


def best(rounds: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Of each load the round with the lowest 99th percentile."""
    return [min(tries, key=lambda figures: figures["p99_ms"]) for tries in zip(*rounds, strict=True)]


SHOWN = {
    "rows_per_second": ("rows/s", "{:,.0f}"),
    "p50_ms": ("p50 ms", "{:,.1f}"),
    "p99_ms": ("p99 ms", "{:,.1f}"),
    "share_refused": ("refused", "{:.1%}"),
    "share_failed": ("failed", "{:.1%}"),
    "median_ms_to_refuse": ("ms to refuse", "{:,.1f}"),
}
"""Figure to its heading and form in the printed table, which fits a terminal of 80 columns."""


def shown(rows: list[dict[str, Any]]) -> Table:
    """The rows as a table, the loads of a side below its name."""
    table = Table("load", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading, _ in SHOWN.values():
        table.add_column(heading, justify="right")
    for side in dict.fromkeys(row["side"] for row in rows):
        table.add_row(side, style="bold")
        for row in (row for row in rows if row["side"] == side):
            load = row["load"].replace("rows a second", "rows/s")
            table.add_row(load, *(form.format(row[name]) for name, (_, form) in SHOWN.items()))
    return table


def main() -> None:
    """Measure, print a table, keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    out = parser.parse_args().out
    bodies = [body(seed) for seed in range(32)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "light.py").write_text(REWARD)
        (folder / "peer.py").write_text(PEER)
        words = [
            sys.executable,
            "-m",
            "steelyard.cli",
            "serve",
            "light.py:light",
            "--port",
            "8731",
            "--queue",
            str(QUEUE),
        ]
        sides = {
            "steelyard": started(words, folder, 8731),
            "peer": started([sys.executable, "peer.py", "8732"], folder, 8732),
        }
        try:
            answers = [
                [httpx.post(f"{url}/get_reward", content=each).json()["rewards"] for each in bodies]
                for _, url in sides.values()
            ]
            largest = max(
                abs(a - b) for ours, theirs in zip(*answers, strict=True) for a, b in zip(ours, theirs, strict=True)
            )
            assert largest < 1e-6, "the two sides do not give the same rewards"
            rounds: dict[str, list[list[dict[str, Any]]]] = {side: [] for side in sides}
            for _ in range(ROUNDS):
                for side, (_, url) in sides.items():
                    rounds[side].append(asyncio.run(measured(url, bodies)))
            peaks = {f"{side}_peak_mib": memory(process) for side, (process, _) in sides.items()}
        finally:
            for process, _ in sides.values():
                process.terminate()
    rows = [{"side": side, **figures} for side in sides for figures in best(rounds[side])]
    Console().print(shown(rows))
    machine = {"machine": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()}
    versions = {name: version(name) for name in ("starlette", "uvicorn", "httpx")}
    said = {
        "command": "python -m benchmarks.serve",
        "batch": BATCH,
        "rounds": ROUNDS,
        "seconds": SECONDS,
        "queue": QUEUE,
    }
    said |= {"workers": 1, "bytes_per_batch": round(statistics.mean(map(len, bodies))), "largest_difference": largest}
    note = "load generator, server and worker share the cores, with other jobs of the machine beside them"
    out.write_text(
        json.dumps({**said, **machine, **peaks, "note": note, "versions": versions, "rows": rows}, indent=1) + "\n"
    )


if __name__ == "__main__":
    main()
