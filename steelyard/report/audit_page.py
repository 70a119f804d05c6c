"""The page of an audit: the verdict, what was found with examples, and all figures, in one self-contained HTML file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from steelyard.audits import AuditResult
from steelyard.audits.intervals import Estimate
from steelyard.report.figures import Figure
from steelyard.report.page import ASSETS, Charts, count, page_tools

VERDICTS = {
    "train": "Nothing was found that speaks against training on it.",
    "train with care": "It can be trained on, with an eye on the warnings below.",
    "do not train": "A policy would learn something else than what is meant.",
}
TITLES = {
    "separation": ("Scores of good and of bad rows", "Share of each class.", "score"),
    "length": ("Mean score by length", "Ten bins of equally many rows.", "characters"),
    "best_of_n": (
        "Best of n",
        "Mean of the answer that the reward likes best among n, with a 95% interval; the reward in gold's units.",
        "n",
    ),
    "calibration": ("Share of good rows by score", "On the dotted line a score is a probability.", "score"),
}
COLOURS = {"good": "var(--teal)", "bad": "var(--rose)", "gold": "var(--teal)", "reward, rescaled": "var(--grey)"}


def build_audit_page(result: AuditResult, folder: Path | str, *, source: str = "", command: str = "") -> Path:
    """Write `audit.html` into a folder; it needs no network and no other file.

    Args:
        result: of the audit.
        folder: made if need be.
        source: what was audited on, as the page tells it; command: how to make it again.

    Returns:
        The path of the page.

    Raises:
        SteelyardError: where jinja2 or plotly is not installed.
    """
    environment, get_plotlyjs = page_tools()
    charts = Charts()
    plots = [chart for probe, curves in result.curves.items() for chart in _chart(charts, probe, curves)]
    environment.filters |= {"number": number, "interval": interval, "count": count}
    template = environment.from_string((ASSETS / "audit.html.j2").read_text("utf-8"))
    inline = {name: (ASSETS / name).read_text("utf-8") for name in ("page.css", "audit.css", "page.js")}
    data = json.dumps(charts.figures, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    html = template.render(
        result=result, plots=plots, source=source, command=command, why=VERDICTS[result.verdict], data=data,
        css=inline["page.css"] + inline["audit.css"], js=inline["page.js"], plotly=get_plotlyjs() if plots else "",
        probes=_rows(result), asked=len(result.figures),
    )  # fmt: skip
    path = Path(folder) / "audit.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(html, "utf-8")
    return path


def _rows(result: AuditResult) -> list[dict[str, Any]]:
    """One entry a probe: its question, its figures, how many findings; the ones that did not fit come last."""
    asked = [
        {"name": name, "question": question, "figures": result.figures[name]}
        for name, question in result.questions.items()
        if name in result.figures
    ]
    skipped = [{"name": n, "question": result.questions[n], "reason": reason} for n, reason in result.skipped.items()]
    return asked + skipped


def number(value: float | None, unit: str = "share") -> str:
    """A share in per cent, anything else with three digits; a dash for what is not there."""
    if value is None or value != value:
        return "–"
    if unit == "share":
        return f"{100 * value:.1f}%"
    return f"{value:.3g}".replace("-", "−")


def interval(estimate: Estimate, unit: str = "share") -> str:
    """`1.2% to 3.4%`, or nothing where it has no width."""
    low, high = estimate.low, estimate.high
    return "" if low == high or not low > float("-inf") else f"{number(low, unit)} to {number(high, unit)}"


def _chart(charts: Charts, probe: str, curves: dict[str, dict[str, list[float]]]) -> list[dict[str, Any]]:
    title, note, axis = TITLES.get(probe, (probe.replace("_", " "), "", ""))
    curves = {name: curve for name, curve in curves.items() if curve["x"]}
    if probe == "best_of_n":
        curves = {name: curves[name] for name in ("gold", "reward, rescaled") if name in curves}
    data = [trace for name, curve in curves.items() for trace in _traces(probe, name, curve)]
    if probe == "calibration":
        line = {"color": "var(--muted)", "dash": "dot", "width": 1}
        data.append({"type": "scatter", "mode": "lines", "x": [0, 1], "y": [0, 1], "line": line, "hoverinfo": "skip"})
    mode = "normal" if probe == "best_of_n" else "tozero"  # a curve, not a share: its change is what is looked at
    layout: Figure = {
        "xaxis": {"title": {"text": axis}, "zeroline": False}, "yaxis": {"nticks": 6, "rangemode": mode},
        "barmode": "group",
    }  # fmt: skip
    if probe == "best_of_n":
        ticks = curves["gold"]["x"]
        layout["xaxis"] |= {"type": "log", "tickvals": ticks, "ticktext": [f"{tick:g}" for tick in ticks]}
    figure: Figure = {"data": data, "layout": layout, "height": 250}
    found = charts.add(figure, title, note)
    if len(curves) > 1:
        found[0]["legend"] = [{"name": name, "colour": COLOURS.get(name, "var(--blue)")} for name in curves]
    return found


def _traces(probe: str, name: str, curve: dict[str, list[float]]) -> list[Figure]:
    colour = COLOURS.get(name, "var(--blue)")
    base: Figure = {"name": name, "x": curve["x"], "y": curve["y"]}
    if probe == "separation":
        return [base | {"type": "bar", "marker": {"color": colour}}]
    style = {
        "type": "scatter",
        "mode": "lines+markers",
        "line": {"color": colour},
        "marker": {"color": colour, "size": 7},
    }
    bounds = [curve.get(end) for end in ("high", "low")]
    if None in bounds:
        return [base | style]
    edge = {
        "type": "scatter",
        "mode": "lines",
        "x": curve["x"],
        "line": {"width": 0, "color": colour},
        "hoverinfo": "skip",
    }
    high, low = (edge | {"y": bound} for bound in bounds)
    return [high, low | {"fill": "tonexty", "opacity": 0.3}, base | style]
