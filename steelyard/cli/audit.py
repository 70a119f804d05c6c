"""Audit a reward: whether to train on it."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from steelyard.cli.app import app, check_writable

if TYPE_CHECKING:
    from steelyard.audits import AuditResult

REFUSED = 3
"""The exit code of an audit that says not to train; 1 is a fault of the program, 2 bad input."""

STYLES = {"note": "dim", "warning": "yellow", "critical": "bold red"}
VERDICTS = {"train": "bold green", "train with care": "bold yellow", "do not train": "bold red"}


@app.command()
def audit(
    reward: Annotated[str, typer.Argument(help="The reward: `my_rewards.py:name` or `package.module:name`.")],
    data: Annotated[Path, typer.Argument(help="Rows: JSONL, JSONL.gz or Parquet.")],
    out: Annotated[Path, typer.Option(help="The folder for the page, `audit.json` and `findings.jsonl`.")] = Path(
        "audit"
    ),
    map_: Annotated[
        list[str] | None,
        typer.Option("--map", help="A column and the field that holds it: `answer=ground_truth`. May stand again."),
    ] = None,
    gold: Annotated[str | None, typer.Option(help="A reward that is trusted, for the best-of-n curve.")] = None,
    sample: Annotated[int, typer.Option(min=50, help="How many rows are perturbed and attacked.")] = 1000,
    fail_on: Annotated[
        Literal["critical", "warning", "never"], typer.Option(help="From which findings on to leave with code 3.")
    ] = "critical",
    seed: Annotated[int, typer.Option(min=0, help="Of all that is drawn.")] = 0,
) -> None:
    """Audit a reward on rows with known good and bad: should a policy be trained on it?

    Asks every question that fits the data and writes one page, `audit.json` and `findings.jsonl`. Leaves with 0, or
    with 3 where something was found that `--fail-on` names. The file of the reward is run: give only code you trust.

    A label is a field `label`, `is_correct`, `correct` or `passed` (or `--map label=FIELD`); pairs are `chosen` and
    `rejected`, or `output_1`, `output_2` and `preference`. Without labels, what needs them is left out and said so.

    Example: `steelyard audit my_rewards.py:reward data.jsonl --map answer=ground_truth --out report`
    """
    from steelyard.audits import Severity, labelled_rollouts
    from steelyard.audits import audit as run_audit
    from steelyard.report.audit_page import build_audit_page
    from steelyard.report.page import page_tools
    from steelyard.rewards.loading import load_reward, read_mapping, read_rows

    check_writable(out)
    page_tools()
    judge, trusted = load_reward(reward), None if gold is None else load_reward(gold)
    rollouts = labelled_rollouts(read_rows(data), read_mapping(map_ or ()))
    with _progress() as told:
        result = run_audit(judge, rollouts, gold=trusted, sample=sample, seed=seed, told=told)
    result.write(out)
    command = f"steelyard {shlex.join(sys.argv[1:])}" if "audit" in sys.argv[1:2] else ""
    page = build_audit_page(result, out, source=data.name, command=command)
    _tell(result, page)
    least = {"critical": Severity.CRITICAL, "warning": Severity.WARNING}.get(fail_on)
    if least is not None and any(finding.severity >= least for finding in result.findings):
        raise typer.Exit(REFUSED)


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """The question that is being asked, on a terminal's standard error: a slow reward takes its time."""
    from rich.console import Console

    console = Console(stderr=True)
    with console.status("scoring the rows …") as status:
        yield lambda probe: status.update(f"asking: {probe} …")


def _tell(result: AuditResult, page: Path) -> None:
    """The verdict, one line a finding, and where to read on."""
    from rich.console import Console
    from rich.text import Text

    console = Console(soft_wrap=True, highlight=False)
    told = f"  {result.reward}: {result.rows:,} rows, {result.labelled:,} labelled, {result.seconds:.1f} s"
    console.print(Text.assemble((result.verdict, VERDICTS[result.verdict]), told))
    for finding in result.findings:
        name = finding.severity.name.lower()
        console.print(Text.assemble((f"  {name:9}", STYLES[name]), f"{finding.name}: {finding.says}"))
    asked = f"  {len(result.figures)} questions asked, {len(result.skipped)} do not fit"
    console.print(f"{asked}; {result.asked:,} rows scored, changed ones included", style="dim")
    typer.echo(page)
