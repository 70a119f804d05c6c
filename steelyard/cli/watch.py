"""Watch a run's reward from its log."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from steelyard.cli.app import app

ALARMED = 3


@app.command()
def watch(
    log: Annotated[Path, typer.Argument(help="A log of the monitor, of a run or of TRL; or a folder that holds one.")],
    outcome: Annotated[str | None, typer.Option(help="The part that the reward stands for.")] = None,
    gold: Annotated[str | None, typer.Option(help="A metric of `evaluations.jsonl` beside the log.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write figures and alerts by step into this JSONL file.")] = None,
    follow: Annotated[bool, typer.Option(help="Stay and watch the log as it grows; Ctrl-C ends it.")] = False,
    check: Annotated[bool, typer.Option(help="End with exit code 3 if there was an alarm.")] = False,
) -> None:
    """Read a run's log step by step and print what a monitor would have raised: what, since when, and what to do.

    Example: `steelyard watch runs/mine/monitor.jsonl --outcome correct`

    Reads the log of `steelyard.audits.monitor.watch`, the `log.jsonl` of a run, TRL's `trainer_state.json`, or its log
    history as JSONL. The fuller the log, the more detectors have something to read.
    """
    from rich.console import Console

    from steelyard.audits.monitor import Monitor, replay
    from steelyard.types import SteelyardError

    if out is not None and out.exists():
        raise SteelyardError(f"{out} is there already; give a new file")
    monitor = Monitor(name=str(log), outcome=outcome, log=out)
    console = Console(soft_wrap=True)
    if follow:
        _follow(log, monitor, console)
    else:
        replay(log, monitor, gold=gold)
        _show(monitor, console)
    if check and any(alert.level == "alarm" for alert in monitor.alerts):
        raise typer.Exit(ALARMED)


def _show(monitor, console) -> None:  # type: ignore[no-untyped-def]
    """Every alert as a row, then how many there were."""
    from rich.table import Table
    from rich.text import Text

    from steelyard.audits.monitor.outlets import STYLES

    table = Table("step", "since", "level", "detector", "part", "seen", "what to do", show_lines=True)
    for alert in monitor.alerts:
        level = Text(alert.level, style=STYLES[alert.level])
        words = (alert.detector, alert.subject, alert.seen, alert.do)
        table.add_row(str(alert.step), str(alert.since), level, *map(Text, words))
    if monitor.alerts:
        console.print(table)
    alarms = sum(alert.level == "alarm" for alert in monitor.alerts)
    console.print(f"{monitor.step} steps, {alarms} alarms, {len(monitor.alerts) - alarms} warnings")


def _follow(log: Path, monitor, console) -> None:  # type: ignore[no-untyped-def]
    """A live view of a log that is being written: the last step's figures, the reward's course, the alerts."""
    import time

    from rich.live import Live
    from rich.text import Text

    from steelyard.audits.monitor.outlets import STYLES, line_of
    from steelyard.audits.monitor.replay import steps_so_far

    rewards: list[float] = []
    with Live(Text("waiting for the first step"), console=console, refresh_per_second=4) as live:
        while True:
            for figures in steps_so_far(log) if log.exists() else ():
                if int(figures["step"]) <= monitor.step:
                    continue
                rewards = [*rewards, *([] if figures.get("reward") is None else [figures["reward"]])][-200:]
                for alert in monitor.feed(figures):
                    live.console.print(Text(str(alert), style=STYLES[alert.level]))
                live.update(Text(line_of(figures, rewards)))
            time.sleep(1.0)
