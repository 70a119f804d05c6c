"""One of two processes that train under TRL with a monitor: what it judged itself is written to a file."""

import json
import sys
from pathlib import Path
from typing import Any

from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer

from steelyard.audits.monitor import Monitor, watch
from steelyard.engines import TrlMonitor

MINE: list[list[float | None]] = []


def vowels(completions: list[str], **columns: Any) -> list[float | None]:
    """The share of vowels; None of a completion without one."""
    found = [sum(letter in "aeiou" for letter in text) for text in completions]
    MINE.append([count / 8 if count else None for count in found])
    return MINE[-1]


def length(completions: list[str], **columns: Any) -> list[float]:
    """Never a None."""
    return [float(len(text)) for text in completions]


class Stopped(Exception):
    """What the callback raises."""


def stop(alert: Any) -> None:
    """A callback that ends the run."""
    raise Stopped(alert.detector)


def main(model: str, out: str, rank: str, until: str) -> None:
    """Train on groups of eight, four rows of each on a process; `until` is `end` or `alert`."""
    folder = Path(out)
    arguments = GRPOConfig(
        out, per_device_train_batch_size=4, num_generations=8, max_completion_length=8, max_steps=3, learning_rate=0.1,
        beta=0.0, use_cpu=True, bf16=False, report_to=[], save_strategy="no", disable_tqdm=True, seed=3,
    )  # fmt: skip
    monitor = Monitor(log=folder / "monitor.jsonl", on_alert=stop, watching=[Always()] if until == "alert" else None)
    watched = TrlMonitor([vowels, watch(length, log=folder / "watch.jsonl")], monitor=monitor, weights=[1.0, 0.01])
    trainer = GRPOTrainer(
        model, reward_funcs=watched.reward_funcs, callbacks=[watched.callback()], args=arguments,
        train_dataset=Dataset.from_dict({"prompt": ["a b", "c d"]}),
    )  # fmt: skip
    assert trainer.accelerator.num_processes == 2
    trainer.train()
    (folder / f"{rank}.json").write_text(json.dumps(MINE))


class Always:
    """A detector that is never content."""

    def update(self, figures: Any) -> list[Any]:
        from steelyard.audits.monitor.alerts import Sign

        return [Sign("alarm", "It is so.", "Stop.", {}, patience=2)]


if __name__ == "__main__":
    main(*sys.argv[1:])
