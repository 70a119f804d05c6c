"""What of an answer a reward reads: whether it moves when the first half or the second half is another answer's."""

from __future__ import annotations

import re

import numpy as np

from steelyard.audits.intervals import share
from steelyard.audits.known import are_short
from steelyard.audits.probes.sensitivity import good_rows
from steelyard.audits.probing import MOVED, Case, DoesNotFit, Figure, Finding, Outcome, Severity

HARDLY = 0.25
SHORTEST = 20
"""Words of an answer that has halves."""
FEWEST = 20


def reach(case: Case) -> Outcome:
    """Does it read the whole of an answer?"""
    case.require_scale()
    texts, good = case.texts(), good_rows(case).tolist()
    in_lines = sum(_halves(texts[row], "\n+") is not None for row in good) >= FEWEST
    halves = {row: _halves(texts[row], "\n+" if in_lines else "[.!?] +") for row in good}
    rows = [row for row in good if halves[row] is not None]
    pairs = _others(case, rows)
    if len(pairs) < FEWEST:
        raise DoesNotFit(f"{len(pairs)} good rows have {SHORTEST} words and another prompt's answer beside them")
    outcome, found = Outcome(), []
    for place, name, only in ((0, "another first half", "the end"), (1, "another second half", "the beginning")):
        changed = {}
        for row, other in pairs.items():
            ours, theirs = halves[row], halves[other]
            assert ours is not None and theirs is not None
            changed[row] = theirs[0] + ours[1] if place == 0 else ours[0] + theirs[1]
        found += _judge(case, outcome, name, only, changed)
    outcome.findings += found if len(found) == 1 else []  # with neither half it reads nothing: others find that
    return outcome


def _judge(case: Case, outcome: Outcome, name: str, only: str, changed: dict[int, str]) -> list[Finding]:
    rows, before, after = case.rescored(changed)
    moved = ~(np.abs(after - before) <= MOVED * case.scale)
    rate = share(moved)
    outcome.figures.append(Figure(f"good rows that move: {name}", rate))
    by_design = are_short(case.answers)  # a short answer stands where it stands: the rest is the way to it
    if by_design or rate.high >= HARDLY:
        return []
    return [
        Finding(
            "reach", f"reads only {only}", Severity.WARNING,
            f"{rate.value:.1%} of {len(rows)} good rows move with {name}, taken from another prompt's answer.",
            "What stands elsewhere is never judged: a policy may write anything there.",
            "Let the reward read the whole answer, or say in the task that only this part counts.",
            rate, case.examples(rows[~moved].tolist(), changed, dict(zip(rows.tolist(), after, strict=True))),
        )
    ]  # fmt: skip


def _halves(text: str, end: str) -> tuple[str, str] | None:
    """The text up to the line (or sentence) that begins nearest to its middle, and from there on."""
    starts = [found.end() for found in re.finditer(end, text.rstrip()) if found.start()]
    if not starts or len(text.split()) < SHORTEST:
        return None
    middle = min(starts, key=lambda place: abs(place - len(text) / 2))
    return text[:middle], text[middle:]


def _others(case: Case, rows: list[int]) -> dict[int, int]:
    """Row to a row of another prompt."""
    shift = np.roll(rows, int(case.generator("reach").integers(1, max(len(rows), 2)))).tolist()
    prompts = case.rollouts.groups
    return {row: other for row, other in zip(rows, shift, strict=True) if prompts[row] != prompts[other]}
