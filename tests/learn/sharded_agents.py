"""Run by test_sharded_agents.py under accelerate launch: agents in the search world, by truncated steps and whole.

accelerate launch --multi_gpu --num_processes 2 -m tests.learn.sharded_agents FOLDER
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file

from steelyard.learn.trainer import Trainer
from steelyard.methods.slate import ARMS, TRAIN
from steelyard.worlds.search_questions import SearchQuestions


class Counting(SearchQuestions):
    """Counts what its judge and its tool are asked."""

    asked = 0

    def __init__(self) -> None:
        super().__init__()
        tool, rule = self.environment, self.judge.function
        self.environment = lambda samples, steps: (self.count(), tool(samples, steps))[1]
        self.judge.function = lambda prompt: (self.count(), rule(prompt))[1]

    def count(self) -> None:
        """One more."""
        self.asked += 1


def train(folder: Path, arm: str) -> tuple[torch.Tensor, int]:
    """Three steps of seven questions, an odd number."""
    world, config = Counting(), replace(TRAIN, steps=3, prompts=7)
    policy, data = world.policy(), world.samples("train", 12)
    Trainer(policy, ARMS[arm](world), data, config, folder=folder, progress=False).run()
    return policy.module.tables[0].detach(), world.asked


if __name__ == "__main__":
    torch.set_num_threads(1)
    folder, rank = Path(sys.argv[1]), os.environ.get("RANK", "0")
    found = {arm: train(folder / arm, arm) for arm in ("slate", "dense")}
    save_file({arm: table for arm, (table, _) in found.items()}, folder / f"tables-{rank}.safetensors")
    (folder / f"asked-{rank}.txt").write_text(" ".join(str(asked) for _, asked in found.values()))
