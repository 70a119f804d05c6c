"""Try a reward on one completion and see why it scores as it does."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from steelyard.cli.app import app

if TYPE_CHECKING:
    from rich.tree import Tree

    from steelyard.engines.explaining import Node

LONGEST = 200
"""Characters of a value that are shown."""


@app.command("try", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def try_reward(
    context: typer.Context,
    reward: Annotated[str, typer.Argument(help="my_rewards.py:NAME or package.module:NAME. Its code is run.")],
    completion: Annotated[str | None, typer.Option(help="What the policy wrote, as text.")] = None,
    prompt: Annotated[str | None, typer.Option(help="What it was asked, as text.")] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="A column, JSON or text; `--NAME VALUE` is the same."),
    ] = None,
    row: Annotated[Path | None, typer.Option(help="A JSON file with one object: completion, prompt, columns.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Score one completion and print the expression as a tree, with the value of every part.

    Example: `steelyard try steelyard.rewards:math_correct --completion "The answer is 42." --column answer=42`

    A value is read as JSON where it is JSON (`--references '["a", "b"]'`) and the reward does not annotate it as `str`.
    """
    from steelyard.engines.explaining import check_columns, explained, texts_of
    from steelyard.rewards.loading import COMPLETIONS, load_reward, rollouts_of
    from steelyard.types import SteelyardError

    texts = {"completion": completion, "prompt": prompt}
    given = {name: text for name, text in texts.items() if text is not None}
    loaded = load_reward(reward)
    words = _named(column or []) | _options(context.args)
    check_columns(loaded, set(words))
    given |= {name: word if name in texts_of(loaded) else _value(word) for name, word in words.items()}
    fields = (_object(row) if row else {}) | given
    if not set(fields) & set(COMPLETIONS):
        raise SteelyardError("there is nothing to judge; give --completion TEXT, or --row FILE.json")
    node = explained(loaded, rollouts_of([fields]))
    if as_json:
        typer.echo(json.dumps({"columns": fields, **asdict(node)}, indent=2, ensure_ascii=False))
    else:
        _print(node, fields)


def _named(words: Sequence[str]) -> dict[str, str]:
    from steelyard.types import SteelyardError

    columns = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not name or not equals:
            raise SteelyardError(f"the column {word!r} is not NAME=VALUE; write for example answer=42")
        columns[name] = value
    return columns


def _options(words: Sequence[str]) -> dict[str, str]:
    """Columns from `--answer 42` and `--answer=42`."""
    from steelyard.types import SteelyardError

    columns, rest = {}, list(words)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.removeprefix("--").partition("=")
        if not word.startswith("--") or not name or not (equals or rest):
            raise SteelyardError(f"{word!r} is no column; write --NAME VALUE for each column that the reward reads")
        columns[name.replace("-", "_")] = value if equals else rest.pop(0)
    return columns


def _value(text: str) -> Any:
    """What the text is as JSON, or the text where it is none."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _object(path: Path) -> dict[str, Any]:
    from steelyard.types import SteelyardError

    try:
        found = json.loads(path.read_text("utf-8-sig"))
    except ValueError as error:
        raise SteelyardError(f"{path} is not JSON ({error}); give one object") from None
    if not isinstance(found, dict):
        raise SteelyardError(f"{path} holds a JSON {type(found).__name__}; give one object")
    return found


def _print(node: Node, fields: Mapping[str, Any]) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console()
    for name, value in fields.items():
        shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        cut = shown if len(shown) <= LONGEST else f"{shown[:LONGEST]}… ({len(shown)} characters)"
        console.print(Text.assemble((f"{name}: ", "bold"), cut))
    console.print(_tree(node))


def _tree(node: Node) -> Tree:
    from rich.text import Text
    from rich.tree import Tree

    tree = Tree(_line(node))
    for operand in node.operands:
        tree.children.append(_tree(operand))
    for name, value in node.parts.items():
        tree.add(Text.assemble(f"{name} ", (_number(value), "cyan")))
    return tree


def _line(node: Node) -> Any:
    from rich.text import Text

    line = Text()
    if node.role:
        line.append(f"{node.role}: ", style="dim")
    line.append(_number(node.value), style="bold green" if node.value is not None else "bold red")
    line.append(f"  {node.name if node.kind in ('reward', 'constant') else node.kind}")
    if node.status != "scored":
        line.append(f"  {node.status}", style="red")
    if node.note:
        line.append(f"  ({node.note})", style="yellow")
    return line


def _number(value: float | None) -> str:
    return "NaN" if value is None or math.isnan(value) else f"{value:.4g}"
