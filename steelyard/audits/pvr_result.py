"""What PVRBench found: accuracies with intervals, the relative drop, reasoning scores, as a table and as JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from steelyard.audits.intervals import wilson
from steelyard.rewards.judges.templates import QUALITIES
from steelyard.types import Array

if TYPE_CHECKING:
    from rich.table import Table

CLEAN = "clean"
Interval = tuple[float, float]


def aggregate(
    accuracy_by_family: Mapping[str, float],
    original_accuracy: float,
    reasoning_scores: Mapping[str, float] | None = None,
) -> dict[str, float]:
    """The paper's three summary figures.

    avg = mean over families; drop = (original − avg) / original; reasoning = mean of all scores but fragility.

    Args:
        accuracy_by_family: accuracy in [0, 1] by family.
        original_accuracy: accuracy on the undisturbed clips.
        reasoning_scores: 0 to 5 by name; None where nobody judged.

    Returns:
        `avg_perturbed`, `relative_drop` (NaN where the original accuracy is 0) and `reasoning_avg_excl_fragility`.

    Source: sheet 01, section 4.
    """
    average = _mean(accuracy_by_family.values())
    drop = (original_accuracy - average) / original_accuracy if original_accuracy else math.nan
    reasoning = _mean(value for name, value in (reasoning_scores or {}).items() if name.lower() != "fragility")
    return {"avg_perturbed": average, "relative_drop": drop, "reasoning_avg_excl_fragility": reasoning}


@dataclass(eq=False)
class PVRResult:
    """Accuracy of one policy, clean and under every corruption.

    Attributes:
        rows: one dict a completion; the clean ones have `kind` "clean". `accuracy` None: it could not be computed.
        clean: accuracy on undisturbed clips, in [0, 1], like all accuracies here; NaN where nothing was scored.
        kinds, families: accuracy by corruption (mean over severities) and by family (mean over its kinds).
        mean: mean over families.
        relative_drop: (clean − mean) / clean.
        reasoning: the five scores 0 to 5, or None where nobody judged.
        answer_agreement: share of disturbed completions that end in the clean completion's answer.
        reasoning_agreement: mean agreement with the clean completion's reasoning in [0, 1], if it was measured.
        intervals: 95% by `clean`, `mean`, `relative_drop`, `kind/<name>`, `family/<name>`. Of clean and of each kind:
            Wilson's; of the others: bootstrap over samples, each taken with all its corruptions (Wilson's at 0 and 1,
            where a bootstrap sees no spread).
        unscored: completions whose accuracy could not be computed; they are in no mean.
        unjudged: disturbed completions for which the judge gave no usable reply.
    """

    rows: list[dict[str, Any]]
    clean: float
    kinds: dict[str, float]
    families: dict[str, float]
    mean: float
    relative_drop: float
    reasoning: dict[str, float] | None
    answer_agreement: float
    reasoning_agreement: float
    intervals: dict[str, Interval]
    unscored: int
    unjudged: int
    config: dict[str, Any] = field(default_factory=dict)

    @property
    def reasoning_average(self) -> float:
        """Mean of the reasoning scores without fragility; NaN where nobody judged."""
        return aggregate(self.families, self.clean, self.reasoning)["reasoning_avg_excl_fragility"]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON without the rows; a figure that does not exist is None, never NaN."""
        names = (
            "clean",
            "kinds",
            "families",
            "mean",
            "relative_drop",
            "reasoning",
            "reasoning_average",
            "answer_agreement",
        )
        fields = {
            name: getattr(self, name) for name in (*names, "reasoning_agreement", "intervals", "unscored", "unjudged")
        }
        return _plain({**fields, "count": sum(row["kind"] == CLEAN for row in self.rows), "config": self.config})

    def table(self, *, title: str = "PVRBench") -> Table:
        """A rich table: clean, every kind under its family, the mean and the relative drop."""
        from rich.table import Table

        table = Table(title=title, title_justify="left")
        for name, justify in (
            ("family", "left"),
            ("corruption", "left"),
            ("accuracy", "right"),
            ("95% interval", "right"),
        ):
            table.add_column(name, justify=justify)  # type: ignore[arg-type]
        table.add_row("none", "clean", _percent(self.clean), self._interval("clean"), end_section=True)
        by_kind = {row["kind"]: row["family"] for row in self.rows if row["kind"] != CLEAN}
        for family, accuracy in self.families.items():
            for kind in (kind for kind in self.kinds if by_kind[kind] == family):
                table.add_row(family, kind, _percent(self.kinds[kind]), self._interval(f"kind/{kind}"))
            table.add_row(
                family, "[bold]all[/]", _percent(accuracy), self._interval(f"family/{family}"), end_section=True
            )
        table.add_row("[bold]all[/]", "[bold]mean over families[/]", _percent(self.mean), self._interval("mean"))
        table.add_row("", "relative drop", _percent(self.relative_drop), self._interval("relative_drop"))
        if self.reasoning is not None:
            table.add_section()
            for name, score in self.reasoning.items():
                table.add_row("reasoning", name, f"{score:.2f} of 5", "")
        if self.unscored or self.unjudged:
            table.caption = (
                f"{self.unscored} completions without an accuracy, {self.unjudged} without a reasoning verdict"
            )
        return table

    def _interval(self, name: str) -> str:
        low, high = self.intervals.get(name, (math.nan, math.nan))
        return "" if math.isnan(low) else f"{_percent(low)} to {_percent(high)}"


def summarise(rows: Sequence[dict[str, Any]], *, config: dict[str, Any], seed: int = 0) -> PVRResult:
    """All figures from the rows of one evaluation.

    Args:
        rows: as `PVRBench.evaluate` writes them.
        config: kept with the result.
        seed: of the bootstrap.
    """
    table = _Accuracies(rows)
    ones = np.ones((1, table.count))
    clean, kinds, families, mean = (part[..., 0] for part in table.means(ones))
    low_high = _bootstrap(table, seed)
    intervals: dict[str, Interval] = {"clean": _wilson(table.scored(CLEAN))}
    intervals |= {f"kind/{kind}": _wilson(table.scored(kind)) for kind in table.kinds}
    intervals |= {
        f"family/{name}": low_high(2, i) if 0 < families[i] < 1 else _wilson(np.full(table.count, families[i]))
        for i, name in enumerate(table.families)
    }
    intervals["mean"] = low_high(3) if 0 < mean < 1 else _wilson(np.full(table.count, mean))
    intervals["relative_drop"] = low_high(4)
    disturbed = [row for row in rows if row["kind"] != CLEAN]
    by_family = dict(zip(table.families, families.tolist(), strict=True))
    return PVRResult(
        rows=list(rows),
        clean=float(clean),
        kinds=dict(zip(table.kinds, kinds.tolist(), strict=True)),
        families=by_family,
        mean=float(mean),
        relative_drop=aggregate(by_family, float(clean))["relative_drop"],
        reasoning=_reasoning(disturbed),
        answer_agreement=_mean(row.get("answer_agrees") for row in disturbed),
        reasoning_agreement=_mean(row.get("reasoning_agreement") for row in disturbed),
        intervals=intervals,
        unscored=sum(row["accuracy"] is None for row in rows),
        unjudged=sum("quality" in row and row["quality"] is None for row in disturbed),
        config=config,
    )


class _Accuracies:
    """Accuracy [samples, (kind, severity)] with NaN where there is none, and its weighted means."""

    def __init__(self, rows: Sequence[dict[str, Any]]) -> None:
        index = {name: i for i, name in enumerate(dict.fromkeys(row["sample"] for row in rows))}
        cells = list(dict.fromkeys((row["kind"], row["severity"]) for row in rows))
        self.count = len(index)
        self.values = np.full((self.count, len(cells)), np.nan)
        for row in rows:
            cell = cells.index((row["kind"], row["severity"]))
            self.values[index[row["sample"]], cell] = np.nan if row["accuracy"] is None else row["accuracy"]
        self._cells = np.array([kind for kind, _ in cells])
        family_of = {row["kind"]: row["family"] for row in rows if row["kind"] != CLEAN}
        self.kinds = list(family_of)
        self.families = list(dict.fromkeys(family_of.values()))
        self._family = np.array([family_of[kind] for kind in self.kinds])

    def scored(self, kind: str) -> Array:
        """The accuracies of one kind that exist [M]."""
        values = self.values[:, self._cells == kind]
        return values[~np.isnan(values)]

    def means(self, weights: Array) -> tuple[Array, Array, Array, Array]:
        """Clean [B], kinds [K, B], families [F, B] and their mean [B] under row weights [B, samples]."""
        valid = ~np.isnan(self.values)
        with np.errstate(invalid="ignore", divide="ignore"):
            cells = ((weights @ np.where(valid, self.values, 0)) / (weights @ valid.astype(float))).T
        kinds = [_nanmean(cells[self._cells == kind]) for kind in (CLEAN, *self.kinds)]
        stacked = np.array(kinds[1:]).reshape(len(self.kinds), len(weights))
        families = np.array([_nanmean(stacked[self._family == name]) for name in self.families]).reshape(
            -1, len(weights)
        )
        return kinds[0], stacked, families, _nanmean(families)


def _bootstrap(table: _Accuracies, seed: int, draws: int = 2000) -> Any:
    """A function that reads 95% percentile intervals of (clean, kinds, families, mean, drop) off resampled samples."""
    generator = np.random.default_rng(seed)
    weights = generator.multinomial(table.count, np.full(table.count, 1 / table.count), size=draws).astype(float)
    clean, kinds, families, mean = table.means(weights)
    with np.errstate(invalid="ignore", divide="ignore"):
        parts = (clean, kinds, families, mean, np.where(clean > 0, (clean - mean) / clean, np.nan))

    def interval(part: int, row: int | None = None) -> Interval:
        values = parts[part] if row is None else parts[part][row]
        values = values[~np.isnan(values)]
        if not len(values):
            return math.nan, math.nan
        low, high = np.quantile(values, (0.025, 0.975))
        return float(low), float(high)

    return interval


def _wilson(values: Array) -> Interval:
    p = float(values.mean()) if len(values) else math.nan
    return (math.nan, math.nan) if math.isnan(p) else wilson(p, len(values))


def _reasoning(rows: Sequence[dict[str, Any]]) -> dict[str, float] | None:
    scores = [row["quality"] for row in rows if row.get("quality")]
    return {name: _mean(score[name] for score in scores) for name in QUALITIES} if scores else None


def _nanmean(values: Array) -> Array:
    """Mean over the first axis without NaNs; NaN where there is nothing."""
    valid = ~np.isnan(values)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(valid, values, 0).sum(axis=0) / valid.sum(axis=0)


def _mean(values: Any) -> float:
    known = [float(value) for value in values if value is not None and not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _percent(value: float) -> str:
    return "–" if math.isnan(value) else f"{100 * value:.1f}%"
