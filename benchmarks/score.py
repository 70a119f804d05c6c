"""Rows a second and peak memory of `steelyard score` beside `datasets.map` on a million rows of JSONL.

    python -m benchmarks.score [--rows 1000000] [--kill 0.5] [--out benchmarks/score.json]

Both read the same file with one process, judge it by the same function row by row, and write JSONL; rewards and order
must be equal. Peak memory is the largest resident set of the process. `datasets` keeps an Arrow copy of the data and of
the result on the disk, which its memory map counts in part; we keep none and sync every chunk to the disk. The third
side is killed with SIGKILL once the share `--kill` of the rows is kept, and resumed: its output must be the same bytes.
"""

from __future__ import annotations

import argparse
import filecmp
import json
import os
import platform
import random
import signal
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Column, Table

REWARD = """
import re
NUMBER = re.compile(r"-?[0-9]+")
def last_number(completion: str, answer: str) -> float:
    numbers = NUMBER.findall(completion)
    return float(bool(numbers) and numbers[-1] == answer)
"""

PEER = """
import sys
from datasets import load_dataset
from light import last_number
data, out = sys.argv[1:]
rows = load_dataset("json", data_files=data, split="train", cache_dir="cache")
judged = rows.map(lambda row: {"reward": last_number(row["completion"], row["answer"])})
judged.to_json(out)
"""


def write_rows(path: Path, count: int) -> None:
    """Completions of 20 to 60 words that end in a number."""
    dice = random.Random(0)
    words = ["the", "a", "sum", "of", "and", "so", "we", "add", "then", "take", "it", "from", "there", "is", "left"]
    texts = [" ".join(dice.choices(words, k=dice.randint(20, 60))) for _ in range(1000)]
    with path.open("w") as file:
        for number in range(count):
            row = {
                "id": number,
                "prompt": f"question {number // 8}",
                "completion": f"{texts[number % 997]} {number % 7}",
            }
            file.write(json.dumps({**row, "answer": str(number % 5)}) + "\n")


def measured(words: list[str], folder: Path, *, kill_at: tuple[Path, int] | None = None) -> dict[str, float]:
    """Seconds by the wall and of the processor, and the peak in MiB, of a process.

    With `kill_at` it is killed as soon as that journal notes so many rows.
    """
    began = time.perf_counter()
    quiet = os.environ | {"HF_DATASETS_DISABLE_PROGRESS_BARS": "1", "HF_HUB_OFFLINE": "1"}
    process = subprocess.Popen(words, cwd=folder, env=quiet, stdout=subprocess.DEVNULL)
    if kill_at is not None:
        alive = os.WEXITED | os.WNOHANG | os.WNOWAIT
        while noted_rows(kill_at[0]) < kill_at[1] and os.waitid(os.P_PID, process.pid, alive) is None:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    _, status, usage = os.wait4(process.pid, 0)
    assert status == (0 if kill_at is None else signal.SIGKILL), f"{words} ended with {status}"
    used = usage.ru_utime + usage.ru_stime
    return {"seconds": time.perf_counter() - began, "processor_seconds": used, "peak_mib": usage.ru_maxrss / 1024}


def noted_rows(journal: Path) -> int:
    """Rows that a running job has kept for good."""
    if not journal.exists():
        return 0
    with journal.open("rb") as file:
        file.seek(max(0, journal.stat().st_size - 1000))
        lines = file.read().split(b"\n")[:-1]
    return int(json.loads(lines[-1]).get("rows", 0)) if len(lines) > 1 else 0


def killed_and_resumed(words: list[str], folder: Path, out: str, rows: int) -> tuple[dict[str, float], int]:
    """The figures of both runs together, and the rows that the killed one had kept."""
    first = measured([*words, "--out", out], folder, kill_at=(folder / f"{out}.journal", rows))
    kept = noted_rows(folder / f"{out}.journal")
    second = measured([*words, "--out", out, "--resume"], folder)
    return {name: (max if name == "peak_mib" else sum)((first[name], second[name])) for name in first}, kept


def rewards(path: Path) -> list[float]:
    """The rewards of a written file, in order."""
    with path.open() as file:
        return [json.loads(line)["reward"] for line in file]


def main() -> None:
    """Measure, print a table, keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument(
        "--kill", type=float, default=0.5, help="the share of the rows at which the third side is killed"
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "light.py").write_text(REWARD)
        (folder / "peer.py").write_text(PEER)
        write_rows(folder / "data.jsonl", given.rows)
        size = (folder / "data.jsonl").stat().st_size
        words = [sys.executable, "-m", "steelyard.cli", "score", "data.jsonl", "--reward", "light.py:last_number"]
        sides = {
            "steelyard score": measured([*words, "--out", "ours.jsonl"], folder),
            "datasets.map": measured([sys.executable, "peer.py", "data.jsonl", "theirs.jsonl"], folder),
        }
        resumed, kept = killed_and_resumed(words, folder, "resumed.jsonl", int(given.rows * given.kill))
        sides["steelyard score, killed and resumed"] = resumed
        assert filecmp.cmp(folder / "ours.jsonl", folder / "resumed.jsonl", shallow=False), "the resumed output differs"
        assert rewards(folder / "ours.jsonl") == rewards(folder / "theirs.jsonl"), "the two sides differ"
    rows: list[dict[str, Any]] = [
        {"side": side, "rows_per_second": given.rows / figures["seconds"], **figures} for side, figures in sides.items()
    ]
    table = Table("side", *(Column(name, justify="right") for name in ("rows/s", "seconds", "CPU s", "peak MiB")))
    for row in rows:
        figures = (row["rows_per_second"], row["seconds"], row["processor_seconds"], row["peak_mib"])
        table.add_row(row["side"], *(f"{x:,.{digits}f}" for x, digits in zip(figures, (0, 1, 1, 0), strict=True)))
    Console().print(table)
    said = {
        "command": f"python -m benchmarks.score --rows {given.rows} --kill {given.kill:g}",
        "rows_of_data": given.rows,
        "mib": size / 2**20,
        "rows_kept_at_the_kill": kept,
    }
    machine = {"machine": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()}
    note = "one run; other jobs shared the machine, so processor seconds say more than seconds"
    result = {**said, **machine, "note": note, "versions": {"datasets": version("datasets")}, "rows": rows}
    given.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
