"""What the site's build makes from the code and its results: the pages of methods, evidence, benchmarks and commands."""

from __future__ import annotations

import json
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
        "evidence.md": evidence_page,
        "benchmarks.md": benchmarks_page,
        "command-line.md": commands_page,
    }
    for name, page in pages.items():
        files.append(File.generated(config, name, content="\n".join(page()) + "\n"))
    return files


def methods_page() -> Iterator[str]:
    """One section a method, from its card."""
    from steelyard.methods.registry import find, slugs

    yield "# Methods\n\nOne paper each: parts put together. `steelyard methods SLUG` shows the same card.\n"
    for slug in slugs():
        card = find(slug).card
        yield f"## {card.slug}: {card.title}\n\n{card.source}\n\n**Claim.** {card.claim}\n"
        yield f"**Problem.** {card.problem}\n\n**How.** {card.how}\n"
        yield from table(("setting", "value"), card.settings.items())
        for limit in card.limits:
            yield f"- {limit}"
        yield f"\n```bash\nsteelyard run {slug}\n```\n"


def evidence_page() -> Iterator[str]:
    """One table a result file."""
    yield "# Evidence\n\nMethod and baselines on the same seeds, made by `steelyard evidence SLUG --seeds 5`; a claim that"
    yield "does not hold is reported as such. The files are in `results/`.\n"
    for path in sorted((ROOT / "results").glob("*.json")):
        yield from result_section(path.stem, json.loads(path.read_text("utf-8")))


def result_section(name: str, result: Mapping[str, Any]) -> Iterator[str]:
    """A result's claims with effect, interval and verdict."""
    yield f"## {name}\n\n```json\n{json.dumps(result, indent=1)}\n```\n"


def benchmarks_page() -> Iterator[str]:
    """The figures beside each benchmark."""
    yield "# Benchmarks\n\nEach runs a peer beside it on the same inputs and checks that the outputs agree: `make bench`.\n"
    for path in sorted((ROOT / "benchmarks").glob("*.json")):
        yield f"## {path.stem}\n"
        result = json.loads(path.read_text("utf-8"))
        plain = {name: value for name, value in result.items() if not isinstance(value, list | dict)}
        yield from table(("", ""), plain.items())
        for value in result.values():
            if isinstance(value, list) and value and isinstance(value[0], dict):
                yield from table(tuple(value[0]), (row.values() for row in value))


def commands_page() -> Iterator[str]:
    """Every command's help, from the command line itself."""
    import typer

    from steelyard.cli import app

    yield "# Command line\n\nBad input ends with one sentence and exit code 2; `--debug` shows the traceback.\n"
    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        inner = getattr(command, "commands", None)
        for path, leaf in ((f"{name} {key}", value) for key, value in inner.items()) if inner else ((name, command),):
            yield f"## steelyard {path}\n\n{leaf.help}\n"
            rows = ((label(parameter), getattr(parameter, "help", "") or "") for parameter in leaf.params)
            yield from table(("option", "meaning"), rows)


def label(parameter: Any) -> str:
    """A parameter as it is typed."""
    if parameter.param_type_name == "argument":
        return f"`{(parameter.metavar or parameter.name.upper()).strip('[]')}`"
    return f"`{parameter.opts[0]}`"


def table(head: tuple[str, ...], rows: Any) -> Iterator[str]:
    """A Markdown table, followed by an empty line; nothing without rows."""
    lines = [f"| {' | '.join(cell(value) for value in row)} |" for row in rows]
    if lines:
        yield f"| {' | '.join(head)} |\n|{' --- |' * len(head)}\n" + "\n".join(lines) + "\n"


def cell(value: Any) -> str:
    """A value as a table's cell."""
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return text.replace("|", "\\|").replace("\n", " ")
