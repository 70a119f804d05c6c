"""What the site's build makes from code and results: the pages of methods, evidence, benchmarks and commands."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    pages = {
        "methods.md": methods_page,
        "made-of.md": made_of_page,
        "evidence.md": evidence_page,
        "benchmarks.md": benchmarks_page,
        "command-line.md": commands_page,
    }
    for name, page in pages.items():
        files.append(File.generated(config, name, content="\n".join(page()) + "\n"))
    return files


def methods_page() -> Iterator[str]:
    """Every method's card, as `steelyard methods SLUG` shows it."""
    from steelyard.methods.cards import card_page, listing
    from steelyard.methods.registry import slugs

    yield f"# Methods\n\nOne paper each: parts put together.\n\n{listing()}\n"
    for slug in slugs():
        yield demoted(card_page(slug, results=ROOT / "results"))


def made_of_page() -> Iterator[str]:
    """Which modules of the house each method's file puts together, read off its imports."""
    from steelyard.methods.registry import slugs

    yield "# What methods are made of\n\nOne design carries every kind of policy: a method's file only puts parts"
    yield "together. Read off the imports of `steelyard/methods/`; what a part uses itself is not listed. `trainer` and"
    yield "`pairs` train policies and pair models on the same runs (`learn/loop`: logs, checkpoints, exact resume).\n"
    floors = ("worlds", "perturb", "policies", "rewards", "learn", "audits")
    rows = []
    for slug in slugs():
        parts = imported(ROOT / "steelyard" / "methods" / f"{slug.replace('-', '_')}.py")
        rows.append((slug, *(", ".join(sorted(parts.get(floor, ()))) or "–" for floor in floors)))
    yield from table(("method", *floors), rows)


def imported(path: Path) -> dict[str, set[str]]:
    """Part of the house to the modules of it that a file imports."""
    found: dict[str, set[str]] = {}
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        words = (node.module or "").split(".") if isinstance(node, ast.ImportFrom) else []
        if words[:1] == ["steelyard"] and len(words) > 2:
            found.setdefault(words[1], set()).add(".".join(words[2:]))
    trained = "Experiment(" in path.read_text("utf-8")
    found.setdefault("learn", set()).update({"trainer"} if trained else set())
    return found


def evidence_page() -> Iterator[str]:
    """One section a result file."""
    from steelyard.methods.cards import result_page, summary_table

    yield "# Evidence\n\nMethod and baselines on the same seeds, made by `steelyard evidence SLUG --seeds 5`; a claim"
    yield "that does not hold is reported as such. The files, with every seed's figures, are in `results/`.\n"
    yield f"{summary_table(ROOT / 'results')}\n"
    for path in sorted((ROOT / "results").glob("[0-9]*.json")):
        result = json.loads(path.read_text("utf-8"))
        yield f"## {result['title']}\n\n{result['claim']}\n\n{demoted(result_page(result))}\n"


def demoted(page: str) -> str:
    """The page with every heading one level lower; lines in code blocks stay."""
    blocks = page.split("```")
    blocks[::2] = [re.sub(r"^#", "##", block, flags=re.MULTILINE) for block in blocks[::2]]
    return "```".join(blocks)


def benchmarks_page() -> Iterator[str]:
    """The figures beside each benchmark."""
    yield "# Benchmarks\n\nEach runs a peer beside it on the same inputs: `make bench`.\n"
    for path in sorted((ROOT / "benchmarks").glob("*.json")):
        result = json.loads(path.read_text("utf-8"))
        yield f"## {path.stem}\n"
        for name, value in result.items():
            if isinstance(value, list) and value and isinstance(value[0], dict):
                yield from table(tuple(value[0]), (row.values() for row in value))
            elif isinstance(value, dict) and value and all(isinstance(inner, dict) for inner in value.values()):
                columns = [flat(inner) for inner in value.values()]
                rows = ((key, *(column.get(key, "") for column in columns)) for key in columns[0])
                yield from table((name, *value), rows)
        yield from table(("measured with", ""), flat(result).items())


def flat(value: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Nested figures under joined names; rows of tables are left out."""
    found: dict[str, Any] = {}
    for name, inner in value.items():
        label = f"{before} {name}".strip().replace("_", " ")
        if isinstance(inner, dict):
            deep = all(isinstance(entry, dict) for entry in inner.values())
            found |= {} if deep and not before else flat(inner, label)
        elif not (isinstance(inner, list) and inner and isinstance(inner[0], dict)):
            found[label] = inner
    return found


def commands_page() -> Iterator[str]:
    """Every command's help, from the command line itself."""
    import typer

    from steelyard.cli import app

    yield "# Command line\n\nBad input ends with one sentence and exit code 2, a fault of the program with 1, Ctrl-C"
    yield "with 130; `--debug` shows the traceback.\n"
    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        inner = getattr(command, "commands", None)
        for path, leaf in ((f"{name} {key}", value) for key, value in inner.items()) if inner else ((name, command),):
            yield f"## steelyard {path}\n\n{leaf.help}\n"
            rows = (
                (label(parameter), getattr(parameter, "help", "") or "", default(parameter))
                for parameter in leaf.params
            )
            yield from table(("option", "meaning", "if left out"), rows)


def label(parameter: Any) -> str:
    """A parameter as it is typed."""
    if parameter.param_type_name == "argument":
        return f"`{(parameter.metavar or parameter.name.upper()).strip('[]')}`"
    return f"`{parameter.opts[0]}`"


def default(parameter: Any) -> str:
    """What holds where a parameter is not given; empty where its meaning says it."""
    if parameter.required:
        return "must be given"
    value = parameter.default
    return "" if value is None or value is False or callable(value) else f"`{value}`"


def table(head: tuple[str, ...], rows: Any) -> Iterator[str]:
    """A Markdown table, followed by an empty line; nothing without rows."""
    lines = [f"| {' | '.join(cell(value) for value in row)} |" for row in rows]
    if lines:
        yield f"| {' | '.join(head)} |\n|{' --- |' * len(head)}\n" + "\n".join(lines) + "\n"


def cell(value: Any) -> str:
    """A value as a table's cell."""
    if isinstance(value, list):
        return ", ".join(map(cell, value))
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return str(value).replace("|", "\\|").replace("\n", " ")
