"""Checklists written by a model, once for every request: what this request demands, item by item."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from steelyard.rewards.judges.parsing import json_object
from steelyard.rewards.judges.templates import write_checklist_prompt
from steelyard.rewards.rubrics import MET_PARTLY_NOT
from steelyard.types import Judge, SteelyardError

DIMENSIONS = ("content completeness", "structural logic", "stylistic formatting")
"""Sheet 45's three kinds of demands."""

Checklist = list[dict[str, Any]]
"""Rows for `rubrics.read_criteria`, with `MET_PARTLY_NOT` as levels; plain JSON."""


def write_checklists(
    judge: Judge, requests: Sequence[str], *, dimensions: Sequence[str] = DIMENSIONS, tries: int = 3, most: int = 20
) -> list[Checklist | None]:
    """The checklist of every request, for the column that `rubric` reads; equal requests are asked for once.

    Args:
        judge: who writes them; above temperature 0 another try may help where a reply cannot be read.
        requests: what responses will be written for.
        dimensions: kinds of demands that a check may be of.
        tries: how often an unreadable reply is asked for again; most: checks that a list may have.

    Returns:
        a list a request; None where no reply could be read.

    Raises:
        SteelyardError: for no dimensions, or fewer than one try or check.

    Source: sheet 45, "Checklists (offline, once per instruction)".
    """
    if not dimensions or tries < 1 or most < 1:
        raise SteelyardError(f"{len(dimensions)} dimensions, {tries} tries, {most} checks: at least one of each")
    written: dict[str, Checklist | None] = dict.fromkeys(requests)
    for _ in range(tries):
        open_ = [request for request, found in written.items() if found is None]
        replies = judge.ask([write_checklist_prompt(request, dimensions) for request in open_]) if open_ else []
        for request, reply in zip(open_, replies, strict=True):
            written[request] = parse_checklist(reply, dimensions=dimensions, most=most)
    return [written[request] for request in requests]


def parse_checklist(reply: str | None, *, dimensions: Sequence[str] = DIMENSIONS, most: int = 20) -> Checklist | None:
    """A reply as a checklist, strictly: one JSON object whose `checks` are 1 to `most` different questions.

    Each has one of the dimensions; equal questions would weigh double. Anything else is None.
    """
    checks = (json_object(reply or "") or {}).get("checks")
    if not isinstance(checks, list) or not 1 <= len(checks) <= most:
        return None
    if not all(isinstance(check, dict) and _is_check(check, dimensions) for check in checks):
        return None
    if len({check["question"].strip().casefold() for check in checks}) < len(checks):
        return None
    return [
        {"text": check["question"].strip(), "levels": dict(MET_PARTLY_NOT), "name": f"{check['dimension']} {number}"}
        for number, check in enumerate(checks, 1)
    ]


def _is_check(check: dict[str, Any], dimensions: Sequence[str]) -> bool:
    question = check.get("question")
    return check.get("dimension") in dimensions and isinstance(question, str) and bool(question.strip())
