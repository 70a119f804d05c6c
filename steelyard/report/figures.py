"""A study's plots as plotly figures in plain JSON; colours are CSS variables, so that a page can recolour them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Any

from steelyard.report.study import LABELS, Arm, Study

Figure = dict[str, Any]
"""`data` and `layout` as plotly.js takes them, with `var(--name)` for colours, and `height` in pixels."""

MOST_POINTS = 400
SMOOTH_SHARE = 0.06
LEGEND_HEIGHT = 28
"""Pixels that a plot's own legend takes, so that neighbours end at one line."""
HUES = ("blue", "amber", "violet", "rose", "lime", "sky")
SYMBOLS = ("square", "diamond", "triangle-up", "triangle-down", "star", "pentagon")


def styles(study: Study) -> dict[str, dict[str, str]]:
    """Arm name to its colour variable and marker: grey for what was not trained, teal for the study's method."""
    found: dict[str, dict[str, str]] = {}
    hues = list(zip(HUES, SYMBOLS, strict=True))
    for arm in study.arms:
        if arm is study.method:
            hue, symbol = "teal", "circle"
        elif not arm.log:
            hue, symbol = "grey", "circle-open"
        else:
            hue, symbol = hues[sum(s["symbol"] in SYMBOLS for s in found.values()) % len(hues)]
        found[arm.name] = {"hue": hue, "colour": f"var(--{hue})", "symbol": symbol}
    return found


def learning_curve(study: Study, column: str, *, smooth: bool = True) -> Figure | None:
    """One column of the log over steps, an arm a line; if smooth, a moving average over what was measured, faint."""
    look, data = styles(study), []
    for arm in study.arms:
        steps, values = thin(*arm.series(column))
        if all(value is None for value in values):
            continue
        colour = look[arm.name]["colour"]
        if smooth:
            faint = {"line": {"color": colour, "width": 1}, "opacity": 0.22, "hoverinfo": "skip"}
            data.append(_line(arm, steps, values) | faint | {"name": f"{arm.label}, measured"})
        shown = moving_average(values) if smooth else values
        data.append(_line(arm, steps, shown) | {"line": {"color": colour, "width": 2.25}})
    return _figure(data) if data else None


def evaluation_curve(study: Study, pick: Callable[[str], bool]) -> Figure | None:
    """The first metric of each arm that `pick` accepts, over steps."""
    look, data = styles(study), []
    for arm in study.arms:
        for name in [name for name in arm.metrics() if pick(name)][:1]:
            steps, values = arm.evaluated(name)
            style = {"line": {"color": look[arm.name]["colour"], "width": 2.25}}
            marker = {"symbol": look[arm.name]["symbol"], "size": 7, "color": look[arm.name]["colour"]}
            data.append(_line(arm, steps, values) | style | {"mode": "lines+markers", "marker": marker})
    percent = all(0 <= value <= 1 for trace in data for value in trace["y"] if value is not None)
    return _figure(data, percent=percent) if data else None


def is_clean(name: str) -> bool:
    """Whether an evaluation metric is accuracy on clean clips."""
    return "clean" in name.lower() and not is_other(name)


def is_corrupted(name: str) -> bool:
    """Whether an evaluation metric is accuracy under corruption."""
    return any(word in name.lower() for word in ("corrupt", "perturb")) and not is_other(name)


def is_other(name: str) -> bool:
    """Whether an evaluation metric is no accuracy."""
    return any(word in name.lower() for word in ("agree", "length", "reward", "format", "loss"))


def by_corruption(study: Study) -> Figure | None:
    """Accuracy with its 95% interval under every kind of corruption, an arm a marker, kinds under their families."""
    arms = [arm for arm in study.arms if arm.pvr and arm.pvr.get("kinds")]
    if not arms:
        return None
    rows = _rows(arms)
    look, data = styles(study), []
    for i, arm in enumerate(arms):
        shift = (i - (len(arms) - 1) / 2) * 0.17
        data.append(_dots(arm, look[arm.name], [(y + shift, kind) for y, kind in rows if kind is not None]))
    return _dot_figure(data, rows, _families(arms))


def _dots(arm: Arm, style: dict[str, str], places: Sequence[tuple[float, str]]) -> Figure:
    """One arm's accuracies with their intervals at (y, kind)."""
    values = [_figure_of(arm, kind) for _, kind in places]
    spread = [_interval_of(arm, kind) for _, kind in places]
    above = [None if v is None or s is None else s[1] - v for v, s in zip(values, spread, strict=True)]
    below = [None if v is None or s is None else v - s[0] for v, s in zip(values, spread, strict=True)]
    bars = {"type": "data", "symmetric": False, "array": above, "arrayminus": below, "thickness": 1.1, "width": 0}
    line = {"width": 1.8, "color": style["colour"]}
    return {
        "type": "scatter",
        "mode": "markers",
        "name": arm.label,
        "x": values,
        "y": [y for y, _ in places],
        "text": [kind.replace("_", " ") for _, kind in places],
        "marker": {"color": style["colour"], "symbol": style["symbol"], "size": 9, "line": line},
        "cliponaxis": False,
        "error_x": bars | {"color": style["colour"]},
        "hovertemplate": "%{text}: %{x:.1%}<extra>%{fullData.name}</extra>",
    }


def _families(arms: Sequence[Arm]) -> dict[str, list[str]]:
    """Family to kinds, as the corruptions say; kinds that they do not know stand under "other"."""
    from steelyard.perturb.video import KINDS

    found: dict[str, list[str]] = {}
    for kind in dict.fromkeys(kind for arm in arms for kind in (arm.pvr or {})["kinds"]):
        family = KINDS[kind].family if kind in KINDS else "other"
        found.setdefault(family, []).append(kind)
    return found


def _rows(arms: Sequence[Arm]) -> list[tuple[float, str | None]]:
    """Positions from the top: `clean`, and per family a headline (None) and its kinds."""
    rows: list[tuple[float, str | None]] = [(0.0, "clean")]
    y = 0.55
    for kinds in _families(arms).values():
        rows.append((y + 0.55, None))
        rows += [(y + 1.25 + i, kind) for i, kind in enumerate(kinds)]
        y += 0.85 + len(kinds)
    return rows


def _dot_figure(data: list[Figure], rows: Sequence[tuple[float, str | None]], families: dict[str, list[str]]) -> Figure:
    kinds = [(y, kind) for y, kind in rows if kind is not None]
    heads = zip([y for y, kind in rows if kind is None], families, strict=True)
    band = {"type": "rect", "xref": "paper", "x0": 0, "x1": 1, "line": {"width": 0}, "layer": "below"}
    bands = [band | {"y0": y - 0.46, "y1": y + 0.46, "fillcolor": "var(--band)"} for y, _ in kinds]
    text = {"xref": "paper", "x": 0, "xanchor": "left", "yanchor": "middle", "showarrow": False}
    font = {"size": 12, "color": "var(--ink)", "weight": 600}
    heads_text = [text | {"y": y, "text": name.capitalize(), "font": font} for y, name in heads]
    last = kinds[-1][0]
    ticks = {"tickmode": "array", "tickvals": [y for y, _ in kinds], "showgrid": False}
    ticks |= {"ticktext": [kind.replace("_", " ") for _, kind in kinds], "range": [last + 0.6, -0.6], "zeroline": False}
    layout = {
        "yaxis": ticks | {"fixedrange": True, "automargin": True, "ticks": "", "showline": False},
        "xaxis": {"range": [-0.03, 1.03], "tickformat": ".0%", "dtick": 0.2, "title": {"text": "accuracy"}},
        "shapes": bands,
        "annotations": heads_text,
        "hovermode": "closest",
        "margin": {"l": 8, "r": 14, "t": 8, "b": 44},
    }
    return {"data": data, "layout": layout, "height": round(70 + 41 * (last + 1.2))}


def _figure_of(arm: Arm, kind: str) -> float | None:
    pvr = arm.pvr or {}
    return pvr.get("clean") if kind == "clean" else pvr["kinds"].get(kind)


def _interval_of(arm: Arm, kind: str) -> tuple[float, float] | None:
    found = (arm.pvr or {}).get("intervals", {}).get("clean" if kind == "clean" else f"kind/{kind}")
    return tuple(found) if found and None not in found else None


def difficulty(arm: Arm) -> Figure | None:
    """Shares of easy, informative and difficult candidates over steps, stacked to one."""
    names = [f"curriculum/{label}" for label in LABELS]
    if not set(names) & set(arm.names("curriculum/")):
        return None
    columns = [arm.series(name)[1] for name in names]
    steps = arm.series(names[0])[0]
    judged = [i for i in range(len(steps)) if sum(column[i] or 0 for column in columns) > 0]
    totals = [sum(column[i] or 0 for column in columns) for i in judged]
    data = []
    for label, column in zip(LABELS, columns, strict=True):
        shares = [(column[i] or 0) / total for i, total in zip(judged, totals, strict=True)]
        xs, ys = thin([steps[i] for i in judged], shares)
        line = {"width": 0.5, "color": f"var(--{label})"}
        data.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": label,
                "x": xs,
                "y": _round(moving_average(ys)),
                "stackgroup": "one",
                "line": line,
                "fillcolor": f"var(--{label}-fill)",
                "hovertemplate": "step %{x}: %{y:.0%}<extra>" + label + "</extra>",
            }
        )
    figure = _figure(data, percent=True)
    figure["layout"]["yaxis"] |= {"range": [0, 1], "dtick": 0.25}
    figure["height"] -= LEGEND_HEIGHT
    return figure


def stages(study: Study) -> Figure | None:
    """Seconds by stage, an arm a bar."""
    arms = [arm for arm in study.arms if arm.stages]
    if not arms:
        return None
    names = list(dict.fromkeys(name for arm in arms for name in arm.stages))
    data = [
        {
            "type": "bar",
            "orientation": "h",
            "name": name,
            "y": [arm.label for arm in arms],
            "x": _round([arm.stages.get(name, 0.0) for arm in arms]),
            "marker": {"color": f"var(--stage-{i % 6})"},
            "hovertemplate": "%{x:.1f} s<extra>" + name + "</extra>",
        }
        for i, name in enumerate(names)
    ]
    layout = {
        "barmode": "stack",
        "bargap": 0.42,
        "xaxis": {"title": {"text": "seconds"}, "rangemode": "tozero"},
        "yaxis": {"autorange": "reversed", "automargin": True, "showgrid": False, "ticks": "", "ticklabelstandoff": 6},
        "margin": {"l": 8, "r": 14, "t": 4, "b": 44},
    }
    return {"data": data, "layout": layout, "height": 74 + 42 * len(arms), "legend": [d["name"] for d in data]}


def thin(xs: Sequence[float], ys: Sequence[float | None]) -> tuple[list[float], list[float | None]]:
    """At most `MOST_POINTS` points: as they are, or means of neighbours."""
    if len(xs) <= MOST_POINTS:
        return list(xs), _round(ys)
    edges = [round(i * len(xs) / MOST_POINTS) for i in range(MOST_POINTS + 1)]
    parts = [(xs[a:b], ys[a:b]) for a, b in pairwise(edges) if b > a]
    return [part[-1] for part, _ in parts], _round([_mean(part) for _, part in parts])


def moving_average(values: Sequence[float | None]) -> list[float | None]:
    """Centred mean over `SMOOTH_SHARE` of the curve; None only where its whole window is empty."""
    half = max(1, round(len(values) * SMOOTH_SHARE / 2)) if len(values) > 8 else 0
    return _round([_mean(values[max(0, i - half) : i + half + 1]) for i in range(len(values))])


def _line(arm: Arm, xs: Sequence[float], ys: Sequence[float | None]) -> Figure:
    hover = "step %{x}: %{y:.4~g}<extra>%{fullData.name}</extra>"
    return {"type": "scatter", "mode": "lines", "name": arm.label, "x": xs, "y": _round(ys), "hovertemplate": hover}


def _figure(data: list[Figure], *, percent: bool = False) -> Figure:
    axis: Figure = {"tickformat": ".0%"} if percent else {}
    axis |= {"automargin": True, "nticks": 6}
    layout = {"xaxis": {"title": {"text": "step"}, "zeroline": False}, "yaxis": axis}
    return {"data": data, "layout": layout, "height": 250}


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _round(values: Iterable[float | None]) -> list[float | None]:
    """Six significant digits, which is what a plot needs."""
    return [None if value is None else float(f"{value:.6g}") if math.isfinite(value) else None for value in values]
