"""Pairs a second of the `bleu` reward beside sacrebleu, for groups of eight completions that share their reference.

    python -m benchmarks.bleu [--out benchmarks/bleu.json]

References and half of the completions are answers from ../shared/data/alpaca-preferences.jsonl.gz where it is present
(else made texts of like length); the other half are copies of the reference with a third of the words dropped or moved.
Our side is the whole reward over rollouts; the peer is one `BLEU(effective_order=True)` for all pairs, which spares it
the set-up of `sentence_bleu`. Both start every round with empty caches and take turns; the median round counts.
"""

from __future__ import annotations

import argparse
import gzip
import json
import platform
import statistics
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from steelyard.rewards import bleu, overlap
from steelyard.types import Rollouts, Sample

DATA = Path(__file__).parents[1].parent / "shared" / "data" / "alpaca-preferences.jsonl.gz"
ROUNDS, GROUPS, GROUP = 5, 100, 8


def texts(generator: np.random.Generator) -> list[str]:
    """Answers in prose, from the data or made."""
    if DATA.exists():
        with gzip.open(DATA, "rt", encoding="utf-8") as lines:
            rows = [json.loads(line) for line in lines]
        return [row[side] for row in rows for side in ("output_1", "output_2") if len(row[side].split()) > 8][:2000]
    words = np.array([f"word{i}" for i in range(3000)])
    return [" ".join(words[generator.zipf(1.3, size) % 3000]) + "." for size in generator.integers(20, 200, 2000)]


def pairs() -> list[tuple[str, str]]:
    """(completion, reference), rows of a group adjacent."""
    generator = np.random.default_rng(0)
    pool = texts(generator)
    rows = []
    for _ in range(GROUPS):
        reference = pool[generator.integers(len(pool))]
        for j in range(GROUP):
            words = np.array(reference.split(), object)
            keep = generator.random(len(words)) > 1 / 6
            keys = np.arange(len(words)) + (generator.random(len(words)) < 1 / 6) * generator.integers(
                -5, 5, len(words)
            )
            noisy = " ".join(words[np.argsort(keys, kind="stable")][keep])
            rows.append((noisy if j % 2 else pool[generator.integers(len(pool))], reference))
    return rows


def ours(rows: list[tuple[str, str]]) -> list[float]:
    """The reward over all rows, with cold caches."""
    overlap._cut.clear()
    samples = {reference: Sample("", "", columns={"references": [reference]}) for _, reference in rows}
    return bleu(Rollouts([samples[reference] for _, reference in rows], [text for text, _ in rows])).values.tolist()


def theirs(rows: list[tuple[str, str]]) -> list[float]:
    """sacrebleu's sentence scores / 100, with cold caches."""
    from sacrebleu.metrics import BLEU
    from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a
    from sacrebleu.tokenizers.tokenizer_re import TokenizerRegexp

    for cache in (Tokenizer13a.__call__, TokenizerRegexp.__call__):
        cache.cache_clear()  # type: ignore[attr-defined]
    metric = BLEU(effective_order=True)
    return [metric.sentence_score(text, [reference]).score / 100 for text, reference in rows]


def main() -> None:
    """Measure, print a table, keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    out = parser.parse_args().out
    rows = pairs()
    seconds: dict[str, list[float]] = {"ours": [], "theirs": []}
    for _ in range(ROUNDS):
        for side, judge in (("ours", ours), ("theirs", theirs)):
            start = time.process_time()
            judge(rows)
            seconds[side].append(time.process_time() - start)
    exact = [overlap.bleu_scores([text], [reference])[0] for text, reference in rows]
    difference = max(abs(a - b) for a, b in zip(exact, theirs(rows), strict=True))
    rates = {side: len(rows) / statistics.median(times) for side, times in seconds.items()}
    ratio = statistics.median(t / o for o, t in zip(seconds["ours"], seconds["theirs"], strict=True))
    row = {
        "pairs": len(rows),
        "median_words": statistics.median(len(text.split()) for text, _ in rows),
        "steelyard_pairs_per_second": rates["ours"],
        "sacrebleu_pairs_per_second": rates["theirs"],
        "ratio": ratio,
        "largest_difference": difference,
    }
    table = Table(*(name.replace("_", " ") for name in row))
    table.add_row(*(f"{value:,.4g}" if isinstance(value, float) else str(value) for value in row.values()))
    Console().print(table)
    machine = {"machine": platform.machine(), "python": platform.python_version(), "threads": 1, "seconds": "processor"}
    versions = {name: version(name) for name in ("sacrebleu", "numpy")}
    result = {"command": "python -m benchmarks.bleu", "rounds": ROUNDS, "group": GROUP, **machine, "versions": versions}
    out.write_text(json.dumps(result | {"alpaca": DATA.exists(), "rows": [row]}, indent=1) + "\n")


if __name__ == "__main__":
    main()
