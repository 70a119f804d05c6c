"""Seconds of an audit of 3,000 rows, what it finds in planted faults, and how often it raises a false alarm.

    python -m benchmarks.audit [--out benchmarks/audit.json]

Rows are the GSM8K solutions in ../shared/data where they are present (the first ones twice, to make 3,000), else made
ones; multiple choice is made of the same questions. The area under the curve is compared with scipy's Mann-Whitney U on
the same scores. False alarms are warnings and critical findings for rewards that are right: over seeds, and over draws
of fewer rows; where all that is said is that the rows are too few to tell, the audit is undecided.
"""

from __future__ import annotations

import argparse
import gzip
import json
import platform
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from steelyard.audits import Severity, audit, labelled_rollouts
from steelyard.rewards import Expression, choice_correct, math_correct, normalised
from steelyard.rewards.text import exact_match, fresh_words
from steelyard.types import Rollouts
from tests.audits import planted

DATA = Path(__file__).parents[1].parent / "shared" / "data" / "gsm8k-model-solutions.jsonl.gz"
TOO_LITTLE = "too little could be asked"
ROWS, ROUNDS, SEEDS = 3000, 3, 10


def rows() -> list[dict[str, Any]]:
    """The real rows with their gold as a bare answer, or made ones."""
    if not DATA.exists():
        return planted.table(prompts=ROWS // 4)
    with gzip.open(DATA, "rt", encoding="utf-8") as lines:
        found = [json.loads(line) for line in lines]
    return [row | {"answer": row["ground_truth"].rpartition("A: ")[2].strip()} for row in found]


def timed(name: str, judge: Expression, rollouts: Rollouts) -> dict[str, Any]:
    """The best of some rounds, and the area beside scipy's."""
    from scipy.stats import mannwhitneyu

    seconds, result = [], None
    for _ in range(ROUNDS):
        start = time.perf_counter()
        result = audit(judge, rollouts)
        seconds.append(time.perf_counter() - start)
    assert result is not None
    values, labels = judge(rollouts).values, np.asarray(rollouts.column("label")) == 1
    u = float(mannwhitneyu(values[labels], values[~labels]).statistic) / (labels.sum() * (~labels).sum())
    area = result.figures["separation"][0].estimate.value
    row = {"reward": name, "rows": len(rollouts), "seconds": min(seconds), "verdict": result.verdict}
    return row | {"area": area, "area by scipy": u, "equal": bool(abs(area - u) < 1e-9)}


def alarms(name: str, judge: Expression, table: list[dict[str, Any]], size: int) -> dict[str, Any]:
    """How many of the audits of draws of whole questions raise a warning or more for a reward that is right."""
    questions = sorted({row["question"] for row in table})
    raised: list[str] = []
    undecided = 0
    for seed in range(SEEDS):
        drawn = set(np.random.default_rng(seed).permutation(questions)[: size // 4].tolist())
        result = audit(judge, labelled_rollouts([row for row in table if row["question"] in drawn]), seed=seed)
        names = [finding.name for finding in result.findings if finding.severity > Severity.NOTE]
        undecided += names == [TOO_LITTLE]
        raised += [name for name in names if name != TOO_LITTLE][:1]
    return {
        "honest reward": name,
        "rows": size,
        "audits": SEEDS,
        "false alarms": len(raised),
        "which": sorted(set(raised)),
        "undecided": undecided,
    }


def found(planting: tuple[Expression, str, str], what: str, rollouts: Callable[[int], Rollouts]) -> dict[str, Any]:
    """How many of the audits of a planted fault name it."""
    judge, name, _ = planting
    hits = sum(audit(judge, rollouts(seed), seed=seed).found(name) is not None for seed in range(3))
    return {"planted fault": what, "finding": name, "audits": 3, "found": hits}


def main() -> None:
    """Measure, print tables, keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    out = parser.parse_args().out
    table = rows()
    whole = labelled_rollouts((table + table)[:ROWS])
    bare = [row | {"solution": row["solution"].rpartition("A: ")[2].strip()} for row in table]
    optional = planted.choices([row for row in table if "\nA: " in row["solution"]])
    letters = [row | {"solution": planted.chosen(row["solution"])} for row in optional]
    speed = [timed("math_correct", math_correct, whole), timed("by_length", planted.by_length, whole)]
    honest = [
        alarms(name, judge, given, size)
        for name, judge, given in (
            ("math_correct", math_correct, table),
            ("math_correct, bare", math_correct, bare),
            ("exact_match, bare", exact_match, bare),
            ("0.9 math_correct + 0.1 fresh_words", 0.9 * math_correct + 0.1 * fresh_words, table),
            ("normalised(math_correct)", normalised(math_correct), table),
            ("choice_correct", choice_correct, optional),
            ("choice_correct, letters", choice_correct, letters),
            ("exact_match, letters", exact_match, letters),
        )
        for size in (200, 800, 2400)
    ]
    faults = [found(each, what, lambda seed: planted.rollouts(seed=seed)) for what, each in planted.PLANTED.items()]
    made = [labelled_rollouts(planted.choices(planted.table(seed=seed), seed=seed)) for seed in range(3)]
    faults += [found(each, what, lambda seed: made[seed]) for what, each in planted.CHOOSING.items()]
    result: dict[str, Any] = {"command": "python -m benchmarks.audit", "rounds": ROUNDS}
    for name, entries in (("speed", speed), ("honest", honest), ("planted", faults)):
        shown = Table(*entries[0])
        for entry in entries:
            shown.add_row(*(f"{value:.3g}" if isinstance(value, float) else str(value) for value in entry.values()))
        Console().print(shown)
        result[name] = entries
    machine = {"machine": platform.machine(), "python": platform.python_version(), "threads": 1, "shared machine": True}
    versions = {name: version(name) for name in ("numpy", "scipy", "math-verify")}
    out.write_text(json.dumps(result | machine | {"versions": versions, "gsm8k": DATA.exists()}, indent=1) + "\n")


if __name__ == "__main__":
    main()
