"""Methods as text: the list, and one method's card with its recipe, its evidence and how to use it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from steelyard.methods.core import Claim, Method
from steelyard.methods.registry import find, slugs

PARTS = ("plan", "reward", "advantage", "objective", "curriculum")
RESULTS = Path("results")


def listing() -> str:
    """All methods as a Markdown table: slug, paper, claim."""
    cards = [find(slug).card for slug in slugs()]
    return table(("method", "paper", "claim"), ((c.slug, f"{c.title} ({c.source})", c.claim) for c in cards))


def card_page(slug: str, *, results: Path = RESULTS) -> str:
    """One method's card as Markdown.

    Args:
        slug: of the method.
        results: the folder in which `steelyard evidence` keeps what it measured.

    Raises:
        SteelyardError: for a slug that no method has.
    """
    method = find(slug)
    card = method.card
    sections = [
        f"# {card.slug}: {card.title}\n\n{card.source}",
        f"**Claim.** {card.claim}\n\n**Problem.** {card.problem}\n\n**How.** {card.how}",
        table(("setting", "value"), card.settings.items()),
        "\n".join(("**Know before.**\n", *(f"- {limit}" for limit in card.limits))) if card.limits else "",
        *_recipe(method),
        *_evidence(method, results),
        f"## Use it\n\n```bash\n{_commands(method)}\n```",
    ]
    return "\n\n".join(section.strip() for section in sections if section.strip()) + "\n"


def _recipe(method: Method) -> Iterator[str]:
    """The parts that the recipe puts together on the first experiment's world."""
    trained = next(iter(method.trained), None)
    if trained is None or method.recipe is None:
        return
    recipe = method.recipe(trained.world())
    rows = ((part, f"`{_part(getattr(recipe, part))}`") for part in PARTS)
    yield f"## Recipe\n\n{table(('part', f'on {trained.name}'), rows)}\n"
    yield f"Read it in `{method.recipe.__module__.replace('.', '/')}.py`."


def _part(part: Any) -> str:
    """How a part prints, or its name where it prints as an address."""
    text = repr(part)
    return type(part).__name__ if text.startswith("<") else text


def _evidence(method: Method, results: Path) -> Iterator[str]:
    if not method.evidence:
        return
    path = results / f"{method.card.number:02d}-{method.card.slug}.json"
    if path.is_file():
        yield result_page(json.loads(path.read_text("utf-8")))
        return
    yield f"## Evidence\n\nNot measured here yet: `steelyard evidence {method.card.slug} --seeds 5` tests these claims."
    for experiment in method.evidence:
        rows = ((claim.text, f"{claim.arm} against {claim.baseline}", threshold(claim)) for claim in experiment.claims)
        yield f"### {experiment.name}\n\n{table(('claim', 'arms', 'threshold'), rows)}"


def summary_table(results: Path = RESULTS) -> str:
    """Every claim that was measured, as Markdown: method, claim, arm against baseline, effect, verdict, minutes."""
    rows = []
    for path in sorted(results.glob("[0-9]*.json")):
        result = json.loads(path.read_text("utf-8"))
        minutes = f"{result['minutes']:g}"
        for experiment in result["experiments"]:
            for claim in experiment["claims"]:
                low, high = claim["interval"]
                effect = f"{claim['effect']:+.3f} [{low:+.3f}, {high:+.3f}]"
                arms = f"{claim['arm']} against {claim['baseline']}"
                rows.append((result["method"], claim["text"], arms, effect, claim["verdict"], minutes))
    return table(("method", "claim", "arms", "effect [95% interval]", "verdict", "minutes"), rows)


def threshold(claim: Claim) -> str:
    """What the effect must reach."""
    sign, value = ("≥", claim.at_least) if claim.at_least is not None else ("≤", claim.at_most)
    return f"{sign} {value:g}"


def result_page(result: Mapping[str, Any]) -> str:
    """What `steelyard evidence` wrote down, as Markdown: verdict, then arms and claims of each experiment."""
    seeds = result["seeds"]
    note = " This was a quick run that only shows that it runs." if result.get("quick") else ""
    sections = [
        f"## Evidence\n\n**Verdict: {result['verdict']}.** {len(seeds)} paired seeds, {seeds[0]} to {seeds[-1]};"
        f" `{result['command']}`.{note}"
    ]
    for experiment in result["experiments"]:
        sections += [
            f"### {experiment['name']}: {experiment['verdict']}",
            _arms_table(experiment),
            _claims_table(experiment["claims"]),
        ]
    return "\n\n".join(sections)


def _arms_table(experiment: Mapping[str, Any]) -> str:
    shown = dict.fromkeys(claim["metric"] for claim in experiment["claims"])
    arms = experiment["arms"].items()
    rows = ((name, *(_figure(figures.get(measure)) for measure in shown)) for name, figures in arms)
    return table(("arm (mean over seeds)", *(measure.replace("_", " ") for measure in shown)), rows)


def _figure(values: Sequence[float] | None) -> str:
    return "–" if values is None else f"{mean(values):.3f}"


def _claims_table(claims: Iterable[Mapping[str, Any]]) -> str:
    names = ("text", "metric", "arm", "baseline", "at_least", "at_most", "form")
    rows = (
        (
            claim["text"],
            f"{claim['effect']:+.3f}",
            f"{claim['interval'][0]:+.3f} … {claim['interval'][1]:+.3f}",
            threshold(Claim(**{name: claim[name] for name in names})),
            claim["verdict"],
        )
        for claim in claims
    )
    return table(("claim", "effect", "95% interval", "threshold", "verdict"), rows)


def mean(values: Sequence[float]) -> float:
    """The arithmetic mean."""
    return sum(values) / len(values)


def _commands(method: Method) -> str:
    slug, blocks = method.card.slug, []
    if method.trained:
        blocks.append(f"# on the small world, beside its baselines\nsteelyard run {slug}")
    own = f"steelyard run {slug} --model Qwen/Qwen2.5-VL-7B-Instruct --data mine.jsonl --steps 500"
    if method.card.usage or method.recipe is not None:
        blocks.append(method.card.usage.strip() or f"# on a model and data of your own\n{own}")
    if method.evidence:
        blocks.append(f"# does the claim hold here?\nsteelyard evidence {slug} --seeds 5")
    return "\n\n".join(blocks)


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A Markdown table; empty without rows."""
    lines = [f"| {' | '.join(str(value).replace('|', chr(92) + '|') for value in row)} |" for row in rows]
    return "\n".join([f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}", *lines]) if lines else ""
