"""Rows a second of `math_correct` beside math-verify, on worked solutions with plain answers and on LaTeX answers.

    python -m benchmarks.math_rewards [--out benchmarks/math_rewards.json]

Plain answers are the GSM8K solutions in ../shared/data where they are present, else made ones of the same form; LaTeX
answers are made. A peer's row is as its documentation shows: `verify(parse(gold), parse(completion))`. Sides take
turns on the same rows and the median of the rounds counts; every made gold stands in eight rows, as in a group,
and our caches start each round empty. Verdicts are compared row by row; a worked GSM8K gold reaches both as its number.
"""

from __future__ import annotations

import argparse
import gzip
import json
import platform
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from steelyard.rewards import math_correct, mathematics
from steelyard.types import Rollouts, Sample

DATA = Path(__file__).parents[1].parent / "shared" / "data" / "gsm8k-model-solutions.jsonl.gz"
ROUNDS, ROWS = 5, 800
Row = tuple[str, str]


def gsm8k() -> list[Row]:
    """(completion, gold) of the first rows; made ones of the same form where the data is absent."""
    if not DATA.exists():
        generator = np.random.default_rng(0)
        made = [(int(a), int(b)) for a, b in generator.integers(1, 999, (ROWS, 2))]
        return [
            (f"He has {a} and gets {b}, so {a}+{b} = <<{a}+{b}={a + b}>>{a + b}.\nA: {a + b}", str(a + b))
            for a, b in made
        ]
    with gzip.open(DATA, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines][:ROWS]
    return [(row["solution"], row["ground_truth"].rpartition("A: ")[2].strip()) for row in rows]


def latex(pairs: list[tuple[str, str, str]]) -> list[Row]:
    """Groups of eight completions for each made gold: half right in another form, half wrong."""
    rows = []
    for k in range(2, 12):
        for gold, right, wrong in pairs:
            for j in range(8):
                answer = (right if j % 2 else wrong).replace("K", str(k + (j // 2 if not j % 2 else 0)))
                rows.append(
                    (
                        f"First we simplify, then it follows that the answer is \\boxed{{{answer}}}.",
                        gold.replace("K", str(k)),
                    )
                )
    return rows


BOXED = [
    (r"\frac{K}{7}", r"\dfrac{K}{7}", r"\frac{K}{9}"),
    ("K,000", r"K{,}000", "K00"),
    ("-K.5", r"-\frac{K5}{10}", "K.5"),
]
FORMULAS = [
    (r"K\sqrt{2}", r"\sqrt{2}K", r"K\sqrt{3}"),
    (r"\frac{K\pi}{3}", r"K\pi/3", r"\frac{K\pi}{5}"),
    ("x^2+Kx", "x(x+K)", "x(x-K)"),
    ("(K, 3)", "(K,3)", "(3, K)"),
    (r"\{1, K\}", r"\{K, 1\}", r"\{2, K\}"),
    (r"x \leq K", r"K \geq x", "x < K"),
    (r"\begin{pmatrix}K\\1\end{pmatrix}", r"\begin{pmatrix} K \\ 1 \end{pmatrix}", r"\begin{pmatrix}1\\K\end{pmatrix}"),
]
CASES: dict[str, Callable[[], list[Row]]] = {
    "plain: GSM8K solutions": gsm8k,
    "plain: boxed fractions and decimals": lambda: latex(BOXED),
    "LaTeX formulas": lambda: latex(FORMULAS),
}


def ours(rows: list[Row]) -> list[float]:
    """Verdicts of the reward over all rows, with cold caches."""
    for cache in (mathematics._gold_text, mathematics.plain, mathematics._parsed):
        cache.cache_clear()
    samples = [Sample(str(i), "", columns={"answer": gold}) for i, (_, gold) in enumerate(rows)]
    return [float(v) for v in math_correct(Rollouts(samples, [completion for completion, _ in rows])).values]


def theirs(rows: list[Row]) -> list[float]:
    """Verdicts of math-verify, as its documentation calls it; a LaTeX gold stands between dollar signs."""
    from math_verify import parse, verify

    golds = [f"${gold}$" if "\\" in gold or not gold[-1].isdigit() else gold for _, gold in rows]
    return [float(verify(parse(gold), parse(row[0]))) for row, gold in zip(rows, golds, strict=True)]


def compare(name: str, rows: list[Row]) -> dict[str, Any]:
    """Both rates in turns, their ratio, and on how many rows the verdicts are equal."""
    seconds: dict[str, list[float]] = {"ours": [], "theirs": []}
    verdicts: dict[str, list[float]] = {}
    ours(rows[:8]), theirs(rows[:8])
    for _ in range(ROUNDS):
        for side, judge in (("ours", ours), ("theirs", theirs)):
            start = time.process_time()
            verdicts[side] = judge(rows)
            seconds[side].append(time.process_time() - start)
    ratios = [t / o for o, t in zip(seconds["ours"], seconds["theirs"], strict=True)]
    agree = sum(a == b for a, b in zip(verdicts["ours"], verdicts["theirs"], strict=True))
    for row, a, b in zip(rows, verdicts["ours"], verdicts["theirs"], strict=True):
        if a != b:
            print(f"ours {a}, math-verify {b}: {row[0][-60:]!r}, gold {row[1]!r}")
    rates = {side: len(rows) / statistics.median(times) for side, times in seconds.items()}
    figures = {"steelyard_rows_per_second": rates["ours"], "math_verify_rows_per_second": rates["theirs"]}
    return {"answers": name, "rows": len(rows), **figures, "ratio": statistics.median(ratios), "equal_verdicts": agree}


def main() -> None:
    """Measure, print a table, keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    out = parser.parse_args().out
    rows = [compare(name, make()) for name, make in CASES.items()]
    table = Table(*(name.replace("_", " ") for name in rows[0]))
    for row in rows:
        table.add_row(*(f"{value:,.1f}" if isinstance(value, float) else str(value) for value in row.values()))
    Console().print(table)
    machine = {"machine": platform.machine(), "python": platform.python_version(), "threads": 1, "seconds": "processor"}
    versions = {name: version(name) for name in ("math-verify", "latex2sympy2_extended", "sympy", "numpy")}
    result = {"command": "python -m benchmarks.math_rewards", "rounds": ROUNDS, **machine, "versions": versions}
    out.write_text(json.dumps(result | {"gsm8k": DATA.exists(), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
