"""Pairs a second of the `bleu` reward beside sacrebleu, for groups of eight completions that share their reference.

    python -m benchmarks.bleu [--out benchmarks/bleu.json]

References and half of the completions are answers from ../shared/data/alpaca-preferences.jsonl.gz where it is present
(else made texts of like length); the other half are copies of the reference with a third of the words dropped or moved.
Our side is the whole reward; the peer is one `BLEU(effective_order=True)` for all pairs, which spares it
the set-up of `sentence_bleu`. Sides take turns; seconds are the processor's, the median round counts, and the best of
each side stands beside, with the machine's load. `first` starts with empty caches; `later`
is a step in the middle of a run: both sides have seen as many other pairs, made of other texts, and no pair twice.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from sacrebleu.metrics import BLEU
from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a
from sacrebleu.tokenizers.tokenizer_re import TokenizerRegexp

from steelyard.rewards import bleu, overlap
from steelyard.types import Rollouts, Sample

DATA = Path(__file__).parents[1].parent / "shared" / "data" / "alpaca-preferences.jsonl.gz"
ROUNDS, GROUPS, GROUP = 11, 100, 8


def texts(generator: np.random.Generator) -> list[str]:
    """Answers in prose, from the data or made."""
    if DATA.exists():
        with gzip.open(DATA, "rt", encoding="utf-8") as lines:
            rows = [json.loads(line) for line in lines]
        return [row[side] for row in rows for side in ("output_1", "output_2") if len(row[side].split()) > 8][:2000]
    words = np.array([f"word{i}" for i in range(3000)])
    return [" ".join(words[generator.zipf(1.3, size) % 3000]) + "." for size in generator.integers(20, 200, 2000)]


def pairs(half: int) -> list[tuple[str, str]]:
    """(completion, reference) from one half of the texts, rows of a group adjacent."""
    generator = np.random.default_rng(half)
    pool = texts(np.random.default_rng(2))[half::2]
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


def ours(rows: list[tuple[str, str]]) -> Callable[[], object]:
    """The reward over rollouts, ready to call."""
    samples = {reference: Sample("", "", columns={"references": [reference]}) for _, reference in rows}
    rollouts = Rollouts([samples[reference] for _, reference in rows], [text for text, _ in rows])
    return lambda: bleu(rollouts)


def theirs(rows: list[tuple[str, str]]) -> Callable[[], list[float]]:
    """sacrebleu's sentence scores / 100, ready to call."""
    metric = BLEU(effective_order=True)
    return lambda: [metric.sentence_score(text, [reference]).score / 100 for text, reference in rows]


def forget() -> None:
    """Empty the caches of both sides."""
    for cache in (Tokenizer13a.__call__, TokenizerRegexp.__call__):
        cache.cache_clear()  # type: ignore[attr-defined]


def compare(name: str, rows: list[tuple[str, str]], before: list[tuple[str, str]]) -> dict[str, float | str]:
    """Both rates in turns on `rows`, after `before`, and the largest difference between scores."""
    seconds: dict[str, list[float]] = {"ours": [], "theirs": []}
    for _ in range(ROUNDS):
        for side, make in (("ours", ours), ("theirs", theirs)):
            forget()
            make(before)()
            call = make(rows)
            start = time.process_time()
            call()
            seconds[side].append(time.process_time() - start)
    exact = [overlap.bleu_scores([text], [reference])[0] for text, reference in rows]
    rates = {side: len(rows) / statistics.median(times) for side, times in seconds.items()}
    best = {side: len(rows) / min(times) for side, times in seconds.items()}
    return {
        "caches": name,
        "pairs": len(rows),
        "median_words": statistics.median(len(text.split()) for text, _ in rows),
        "steelyard_pairs_per_second": rates["ours"],
        "sacrebleu_pairs_per_second": rates["theirs"],
        "steelyard_best": best["ours"],
        "sacrebleu_best": best["theirs"],
        "ratio": statistics.median(t / o for o, t in zip(seconds["ours"], seconds["theirs"], strict=True)),
        "ratio_of_best": best["ours"] / best["theirs"],
        "largest_difference": float(max(abs(a - b) for a, b in zip(exact, theirs(rows)(), strict=True))),
    }


def main() -> None:
    """Measure, print a table, keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    out = parser.parse_args().out
    rows, others = pairs(0), pairs(1)
    results = [compare("first", rows, []), compare("later", rows, others)]
    table = Table(*(name.replace("_", " ") for name in results[0]))
    for row in results:
        table.add_row(*(f"{value:,.4g}" if isinstance(value, float) else str(value) for value in row.values()))
    Console().print(table)
    load = round(os.getloadavg()[0], 1)
    machine = {
        "machine": platform.machine(),
        "load": load,
        "python": platform.python_version(),
        "threads": 1,
        "seconds": "processor",
    }
    versions = {name: version(name) for name in ("sacrebleu", "numpy")}
    result = {"command": "python -m benchmarks.bleu", "rounds": ROUNDS, "group": GROUP, **machine, "versions": versions}
    out.write_text(json.dumps(result | {"alpaca": DATA.exists(), "rows": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
