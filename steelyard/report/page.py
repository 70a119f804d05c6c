"""The page: what is said about a study, filled into one self-contained HTML file."""

from __future__ import annotations

import json
import os
from importlib import resources
from pathlib import Path
from typing import Any

from steelyard.report import figures as draw
from steelyard.report.figures import Figure
from steelyard.report.study import LABELS, Arm, Study, read_study
from steelyard.types import SteelyardError

MODEL = "Qwen/Qwen2.5-VL-7B-Instruct"
ASSETS = resources.files("steelyard.report") / "assets"


def page_tools() -> tuple[Any, Any]:
    """What writes a page: jinja2's environment, and the function that gives plotly.js. Also asked for before long work.

    Raises:
        SteelyardError: where one of them is not installed.
    """
    try:
        from jinja2 import Environment
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise SteelyardError(
            f"the page needs the package {error.name!r}; install it with: pip install 'steelyard[report]'"
        ) from None
    return Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True), get_plotlyjs


def build_report(study_folder: str | Path) -> Path:
    """Write `report.html` into a study's folder, or into a single run's.

    The page needs no network and no other file: plotly.js, styles, data and images are inside it.

    Returns:
        The path of the page.

    Raises:
        SteelyardError: naming the file of the study that is missing or cannot be read; without jinja2 or plotly.
    """
    environment, get_plotlyjs = page_tools()
    study = read_study(Path(study_folder))
    charts = Charts()
    context = _context(study, charts)
    environment.filters |= {"percent": percent, "count": count, "signed": signed}
    template = environment.from_string((ASSETS / "page.html.j2").read_text("utf-8"))
    inline = {name: (ASSETS / name).read_text("utf-8") for name in ("page.css", "page.js")}
    data = json.dumps(charts.figures, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    html = template.render(**context, css=inline["page.css"], js=inline["page.js"], plotly=get_plotlyjs(), data=data)
    path = Path(study_folder) / "report.html"
    draft = path.with_name(f".report.html.{os.getpid()}")
    draft.write_text(html, "utf-8")
    draft.replace(path)
    return path


class Charts:
    """The page's plots by id, in the order in which they are placed."""

    def __init__(self) -> None:
        self.figures: dict[str, Figure] = {}

    def add(self, figure: Figure | None, title: str, note: str = "") -> list[dict[str, Any]]:
        """Nothing for None, else one entry for the template."""
        if figure is None:
            return []
        name = f"figure-{len(self.figures) + 1}"
        self.figures[name] = {key: figure[key] for key in ("data", "layout")}
        traces = figure["data"] if "legend" in figure else []
        legend = [{"name": trace["name"], "colour": trace["marker"]["color"]} for trace in traces]
        return [{"id": name, "title": title, "note": note, "height": figure["height"], "legend": legend}]


def _context(study: Study, charts: Charts) -> dict[str, Any]:
    return {
        "study": study,
        "look": draw.styles(study),
        "tiles": tiles(study),
        "table": accuracy_table(study),
        "measured": [arm for arm in study.arms if arm.measures] if not any(_pvr(arm) for arm in study.arms) else [],
        "corruption": charts.add(draw.by_corruption(study), "Accuracy by corruption", "Bars are 95% intervals."),
        "learning": _learning(study, charts),
        "parts": _parts(study, charts),
        "curricula": _curricula(study, charts),
        "costs": [costs(arm) for arm in study.arms if arm.log],
        "stages": charts.add(draw.stages(study), "Seconds by stage"),
        "reasoning": reasoning(study),
        "labels": LABELS,
        "commands": commands(study),
    }


def _learning(study: Study, charts: Charts) -> list[dict[str, Any]]:
    held_out = "On held-out rows." if study.samples else "On held-out clips."
    found = charts.add(draw.learning_curve(study, "reward"), "Reward", "Mean over the step's rollouts.")
    found += charts.add(draw.evaluation_curve(study, draw.is_corrupted), "Accuracy under corruption", held_out)
    found += charts.add(draw.evaluation_curve(study, draw.is_clean), "Accuracy on clean clips", held_out)
    found += charts.add(draw.learning_curve(study, "kl"), "KL to the reference", "How far the policy moved.")
    length = draw.learning_curve(study, "completion_length")
    found += charts.add(length, "Completion length", "In actions: tokens, for language.")
    metrics = dict.fromkeys(name for arm in study.arms for name in arm.metrics())
    for name in [name for name in metrics if not draw.is_clean(name) and not draw.is_corrupted(name)][:5]:
        found += charts.add(draw.evaluation_curve(study, name.__eq__), _title(name), held_out)
    return found


def _parts(study: Study, charts: Charts) -> list[dict[str, Any]]:
    names = dict.fromkeys(name for arm in study.arms for name in arm.names("part/"))
    return [chart for name in names for chart in charts.add(draw.learning_curve(study, name), _title(name[5:]))]


def _curricula(study: Study, charts: Charts) -> list[dict[str, Any]]:
    found = []
    for arm in study.arms:
        shares = charts.add(draw.difficulty(arm), f"Difficulty: {arm.label}", "Share of the step's new candidates.")
        if shares:
            shares[0]["legend"] = [{"name": label, "colour": f"var(--{label}-fill)"} for label in LABELS]
        found += shares
    if found:
        memory = draw.learning_curve(study, "curriculum/memory", smooth=False)
        found += charts.add(memory, "Memory", "Difficult candidates waiting to be tried again.")
        trained = draw.learning_curve(study, "curriculum/train")
        found += charts.add(trained, "Trained", "New candidates that went to training.")
    return found


def tiles(study: Study) -> list[dict[str, str]]:
    """The four figures that stand at the top: the method beside its baseline."""
    method, baseline = study.method, study.baseline
    found: list[dict[str, str]] = []
    ours, theirs = (_pvr(arm) for arm in (method, baseline))
    if ours.get("mean") is not None:
        found.append({"value": percent(ours["mean"]), "what": "accuracy under corruption", "of": method.label})
    if baseline is None:
        return found
    if ours.get("mean") is not None and theirs.get("mean"):
        gain = (ours["mean"] - theirs["mean"]) / theirs["mean"]
        found.append({"value": signed(gain), "what": "relative, under corruption", "of": f"against {baseline.label}"})
    if ours.get("clean") is not None and theirs.get("clean") is not None:
        gain = ours["clean"] - theirs["clean"]
        value = signed(gain).removesuffix("%")
        found.append({"value": value, "what": "points on clean clips", "of": f"against {baseline.label}"})
    if method.total("prompts_trained") and baseline.total("prompts_trained"):
        share = method.total("prompts_trained") / baseline.total("prompts_trained")
        found.append({"value": percent(share, 0), "what": "as many gradient prompts", "of": f"as {baseline.label}"})
    return found


def accuracy_table(study: Study) -> list[dict[str, Any]]:
    """One row an arm with a benchmark: clean, corrupted, drop, agreement, each with its interval."""
    rows = []
    for arm in study.arms:
        pvr = _pvr(arm)
        if not pvr:
            continue
        intervals = pvr.get("intervals", {})
        cells = [
            {"name": name, "label": label, "value": pvr.get(name), "interval": _interval(intervals.get(name))}
            for name, label in (("clean", "clean"), ("mean", "corrupted"), ("relative_drop", "relative drop"))
        ]
        row = {"arm": arm, "cells": cells, "agreement": pvr.get("answer_agreement"), "count": pvr.get("count")}
        rows.append(row | {"reasoning": pvr.get("reasoning_agreement")})
    return rows


def reasoning(study: Study) -> list[dict[str, Any]]:
    """One row an arm whose reasoning was judged: five scores and their average without fragility."""
    arms = [arm for arm in study.arms if _pvr(arm).get("reasoning")]
    return [
        {"arm": arm, "scores": _pvr(arm)["reasoning"], "average": _pvr(arm).get("reasoning_average")} for arm in arms
    ]


def costs(arm: Arm) -> dict[str, Any]:
    """What one arm's training took."""
    seconds = sum(arm.stages.values())
    return {
        "arm": arm,
        "steps": len(arm.log),
        "prompts": arm.total("prompts_trained"),
        "rollouts": arm.total("rollouts"),
        "judged": arm.total("curriculum/judge_samples"),
        "seconds": seconds,
    }


def commands(study: Study) -> list[dict[str, str]]:
    """How to make this page again, check its claim, and do the same with one's own model."""
    slug = str(study.card.get("slug") or "")
    found = [{"what": "Make this study again", "command": study.command}] if study.command else []
    if slug:
        evidence = f"steelyard evidence {slug} --seeds 5 --first-seed 100"
        found.append({"what": "Check the claim on fresh seeds", "command": evidence})
    if slug and not study.samples:
        own = f"steelyard run {slug} --model {MODEL} --data mine.jsonl --steps 500"
        found.append({"what": "Train your own model on your own data", "command": own})
    bench = f"steelyard bench pvr --videos clips --questions questions.jsonl --model {MODEL} --out pvr"
    if not study.samples:
        found.append({"what": "Measure any video model on your own clips", "command": bench})
    found.append({"what": "Draw this page again", "command": f"steelyard report {study.folder}"})
    return found


def percent(value: float | None, digits: int = 1) -> str:
    """`0.5321` as `53.2%`; a dash for None."""
    return "–" if value is None else f"{100 * value:.{digits}f}%"


def signed(value: float | None, digits: int = 1) -> str:
    """`0.0321` as `+3.2%`, with a true minus sign."""
    return "–" if value is None else f"{100 * value:+.{digits}f}%".replace("-", "−")


def count(value: float) -> str:
    """A whole number with thin spaces between thousands."""
    return f"{value:,.0f}".replace(",", "\u2009")


def _pvr(arm: Arm | None) -> dict[str, Any]:
    return (arm.pvr if arm is not None else None) or {}


def _interval(found: Any) -> tuple[float, float] | None:
    return tuple(found) if found and None not in found else None


def _title(name: str) -> str:
    words = name.replace("_", " ").replace("/", ": ").strip()
    return words[:1].upper() + words[1:]
