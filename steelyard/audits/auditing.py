"""The audit of a reward: every probe that fits the data, and whether to train on it."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from steelyard.audits.probes import PROBES
from steelyard.audits.probing import (
    EXAMPLES,
    Case,
    DoesNotFit,
    Figure,
    Finding,
    Outcome,
    Probe,
    Rewarding,
    Severity,
    check_column,
)
from steelyard.rewards.core import Expression, RowReward
from steelyard.types import Array, Reward, Rollouts, Scores, Status, SteelyardError

Verdict = Literal["train", "train with care", "do not train"]
SAMPLE = 1000
"""Rows that are perturbed and attacked, in whole groups."""
PAIRS_A_GROUP = 16


@dataclass
class AuditResult:
    """What an audit found.

    Attributes:
        reward: its name; rows: how many there are; labelled: how many had a label; seed; seconds: of the whole audit.
        asked: rows that were put to the reward, changed ones and repetitions included.
        findings: the heaviest first; figures: all that was measured, by probe; curves: by probe, for the page.
        skipped: probe to the reason why it does not fit.
        questions: probe to the question that it asks.
    """

    reward: str
    rows: int
    labelled: int
    seed: int
    seconds: float = 0.0
    asked: int = 0
    findings: list[Finding] = field(default_factory=list)
    figures: dict[str, list[Figure]] = field(default_factory=dict)
    curves: dict[str, dict[str, dict[str, list[float]]]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    questions: dict[str, str] = field(default_factory=dict)

    @property
    def verdict(self) -> Verdict:
        """`do not train` with a critical finding, `train with care` with a warning, else `train`."""
        worst = max((finding.severity for finding in self.findings), default=Severity.NOTE)
        return ("train", "train with care", "do not train")[worst]

    def found(self, name: str) -> Finding | None:
        """The finding of a name, or None."""
        return next((finding for finding in self.findings if finding.name == name), None)

    def to_json(self) -> dict[str, Any]:
        """All of it as plain JSON; what is not finite is null."""
        findings = [asdict(finding) | {"severity": finding.severity.name.lower()} for finding in self.findings]
        figures = {probe: [_figure(figure) for figure in found] for probe, found in self.figures.items()}
        for finding in findings:
            finding["figure"] = _estimate(finding["figure"])
        whole = {"verdict": self.verdict, "reward": self.reward, "rows": self.rows, "labelled": self.labelled}
        whole |= {"asked": self.asked, "seed": self.seed, "seconds": self.seconds}
        whole |= {"findings": findings, "figures": figures}
        return _finite(whole | {"curves": self.curves, "skipped": self.skipped, "questions": self.questions})

    def write(self, folder: Path | str) -> Path:
        """Write `audit.json` and `findings.jsonl` (one finding a line) into a folder, made if need be."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        whole = self.to_json()
        (folder / "audit.json").write_text(json.dumps(whole, indent=1, ensure_ascii=False) + "\n", "utf-8")
        lines = "".join(json.dumps(finding, ensure_ascii=False) + "\n" for finding in whole["findings"])
        (folder / "findings.jsonl").write_text(lines, "utf-8")
        return folder


def audit(
    reward: Reward,
    rollouts: Rollouts,
    *,
    gold: Reward | Sequence[float] | None = None,
    probes: Sequence[Probe] = PROBES,
    sample: int = SAMPLE,
    seed: int = 0,
    told: Callable[[str], None] | None = None,
) -> AuditResult:
    """Put every probe to a reward and say whether to train on it.

    All rows are scored twice, and once in another order; about `sample` of them are perturbed and attacked. Rows that
    the reward fails are counted, not raised.

    Args:
        reward: what is audited.
        rollouts: N rows; a column `label` (1 good, 0 bad, None unknown) tells what is known, a column `pair` which two
            rows were compared; `answer`, `options` and `paraphrases` are read by the probes that fit them.
        gold: a reward that is trusted, or its scores [N], for the best-of-n curve; the labels by default.
        probes: which questions to ask, in this order.
        sample: how many rows are perturbed and attacked, in whole groups.
        seed: of all that is drawn.
        told: called with each probe's name before it runs.

    Returns:
        The findings, the heaviest first, with all figures and with the probes that do not fit and why.

    Raises:
        SteelyardError: for no rows, labels or gold of another form, or a reward that fails on the rows as a whole (a
            missing column, an exception in a batch reward).
    """
    if not len(rollouts):
        raise SteelyardError("there are no rows to audit; give at least one")
    start = time.perf_counter()
    case = make_case(reward, rollouts, gold=gold, sample=sample, seed=seed)
    result = AuditResult(case.name, len(rollouts), 0, seed)
    result.labelled = 0 if case.labels is None else int(np.isfinite(case.labels).sum())
    for probe in probes:
        name = probe.__name__
        result.questions[name] = (probe.__doc__ or name).strip().partition("\n")[0]
        if told is not None:
            told(name)
        try:
            _keep(result, name, probe(case))
        except DoesNotFit as reason:
            result.skipped[name] = str(reason)
    result.findings += _little_asked(result)
    result.findings.sort(key=lambda finding: -finding.severity)
    result.seconds, result.asked = time.perf_counter() - start, case.asked
    return result


def _little_asked(result: AuditResult) -> list[Finding]:
    """That nothing is known of right and wrong, where nothing else speaks against the reward either."""
    telling = ("separation", "preference", "sensitivity", "other_question")
    known = [name for name in telling if name in result.questions]
    if result.verdict != "train" or not known or any(name in result.figures for name in known):
        return []
    reasons = "; ".join(dict.fromkeys(result.skipped[name].partition(";")[0] for name in known))
    return [
        Finding(
            "audit", "too little could be asked", Severity.WARNING,
            f"Whether it tells right from wrong cannot be seen here: {reasons}.",
            "That nothing was found means nothing here.",
            "Give some hundred rows with labels or right answers, several to a prompt.",
        )
    ]  # fmt: skip


def _keep(result: AuditResult, name: str, outcome: Outcome) -> None:
    result.findings += outcome.findings
    result.figures[name] = outcome.figures
    if outcome.curves:
        result.curves[name] = outcome.curves


def make_case(
    reward: Reward,
    rollouts: Rollouts,
    *,
    gold: Reward | Sequence[float] | None = None,
    sample: int = SAMPLE,
    seed: int = 0,
) -> Case:
    """Score the rows and gather what every probe sees; for whoever runs a probe on its own.

    Raises:
        SteelyardError: as `audit`.
    """
    labels = check_column(rollouts.column("label"), "label", len(rollouts)) if rollouts.has("label") else None
    if labels is not None and not np.isin(labels[np.isfinite(labels)], (0, 1)).all():
        raise SteelyardError("a label is neither 0 nor 1; give 1 for good rows, 0 for bad ones, None where unknown")
    judged: Any = gold(rollouts).values.astype(np.float64) if callable(gold) else gold
    trusted = None if judged is None else check_column(judged, "gold", len(rollouts))
    start = time.perf_counter()
    scores = _tolerant(reward)(
        rollouts
    )  # only now: a reward may be slow or dear, and what is wrong above is told first
    seconds = time.perf_counter() - start
    return Case(
        name=str(getattr(reward, "name", reward)),
        ask=_never_raising(reward),
        complaint=lambda rows: _complaint(reward, rows),
        rollouts=rollouts,
        scores=scores,
        again=_never_raising(reward)(rollouts),
        errors=_errors(reward, rollouts, scores),
        seconds=seconds,
        labels=labels if labels is not None and np.isfinite(labels).any() else None,
        pairs=_pairs(rollouts, labels),
        gold=trusted,
        sample=_sample(rollouts.groups, sample, seed),
        seed=seed,
    )


def _tolerant(reward: Reward) -> Rewarding:
    """The reward with rows that raise counted as failed, whatever it was told to do with them."""

    def ask(rollouts: Rollouts) -> Scores:
        with _errors_as_nan(reward):
            return reward(rollouts)

    return ask


def _never_raising(reward: Reward) -> Rewarding:
    """The same, and where it refuses the rows as a whole, all of them are NaN."""
    tolerant = _tolerant(reward)

    def ask(rollouts: Rollouts) -> Scores:
        try:
            return tolerant(rollouts)
        except SteelyardError:
            return Scores(np.full(len(rollouts), np.nan))

    return ask


@contextmanager
def _errors_as_nan(reward: Reward) -> Iterator[None]:
    leaves = [leaf for leaf in _leaves(reward) if leaf.on_error == "raise"]
    for leaf in leaves:
        leaf.on_error = "nan"
    try:
        yield
    finally:
        for leaf in leaves:
            leaf.on_error = "raise"


def _leaves(reward: Any) -> list[RowReward]:
    if isinstance(reward, RowReward):
        return [reward]
    found = [leaf for part in reward.operands for leaf in _leaves(part)] if isinstance(reward, Expression) else []
    return list({id(leaf): leaf for leaf in found}.values())


def _errors(reward: Reward, rollouts: Rollouts, scores: Scores) -> dict[int, str]:
    """What the reward says, left to itself, about the first rows that failed; nothing where it lets them pass."""
    found: dict[int, str] = {}
    for row in np.flatnonzero(np.asarray(scores.status) == Status.FAILED)[: 2 * EXAMPLES].tolist():
        if words := _complaint(reward, rollouts.take([row])):
            found[row] = words
    return found


def _complaint(reward: Reward, rollouts: Rollouts) -> str:
    """What the reward, left to itself, stops with; nothing where it lets the rows pass."""
    try:
        reward(rollouts)
    except SteelyardError as error:
        return str(error).partition("): ")[2].partition("; mend it")[0] or str(error)
    return ""


def _pairs(rollouts: Rollouts, labels: Array | None) -> Array | None:
    """int [P, 2]: better and worse row of every pair, or of every group with both kinds."""
    if labels is None:
        return None
    keys = np.asarray(rollouts.columns["pair"]) if "pair" in rollouts.columns else rollouts.groups
    order = np.argsort(keys, kind="stable")
    cuts = np.flatnonzero(np.diff(keys[order])) + 1
    found = []
    for rows in np.split(order, cuts):
        better, worse = rows[labels[rows] == 1], rows[labels[rows] == 0]
        found += [(a, b) for a in better for b in worse][:PAIRS_A_GROUP]
    return np.asarray(found, np.int64) if found else None


def _sample(groups: Array, most: int, seed: int) -> Array:
    """int [M], sorted: rows of whole groups, drawn until there are `most`."""
    names, index, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    order = np.random.Generator(np.random.Philox(seed)).permutation(len(names))
    enough = int(np.searchsorted(sizes[order].cumsum(), most)) + 1
    rows: Array = np.flatnonzero(np.isin(index, order[:enough]))
    return rows


def _figure(figure: Figure) -> dict[str, Any]:
    return {"name": figure.name, "unit": figure.unit, **(_estimate(figure.estimate) or {})}


def _estimate(estimate: Any) -> dict[str, Any] | None:
    return None if estimate is None else dict(zip(("value", "low", "high", "count"), estimate, strict=True))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
