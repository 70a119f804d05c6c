"""Run by test_sharding.py under accelerate launch: trains the tiny policy, and writes each process's weights.

accelerate launch --multi_gpu --num_processes 2 -m tests.learn.sharded FOLDER
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from steelyard.types import SteelyardError
from tests.learn.stateful import Streak
from tests.learn.tiny import TinyPolicy, Wanted, trainer

SETTINGS = {"steps": 5, "updates": 2, "checkpoint_every": 2, "evaluate_every": 2, "micro_rows": 7}


class Failing(Wanted):
    """Breaks at its third call."""

    def __call__(self, rollouts):
        scores = super().__call__(rollouts)
        if self.calls == 3:
            raise SteelyardError("the judge is gone")
        return scores


def train(folder: Path, policy: TinyPolicy, *, reward: Wanted) -> None:
    """Five steps with a curriculum whose number of candidates changes."""
    evaluate = lambda p: {"weight": float(p.module.head.abs().sum())}  # noqa: E731
    parts = {"curriculum": Streak(), "reward": reward}
    trainer(folder, policy=policy, parts=parts, evaluate=evaluate, **SETTINGS).run()


if __name__ == "__main__":
    torch.set_num_threads(1)
    folder, rank = Path(sys.argv[1]), os.environ.get("RANK", "0")
    policy, reward, broken = TinyPolicy(), Wanted(), ""
    if rank != "0":
        with torch.no_grad():
            policy.module.head.add_(1.0)  # an adapter's random start differs between processes
    train(folder / "run", policy, reward=reward)
    try:
        train(folder / "failed", TinyPolicy(), reward=Failing())
    except SteelyardError as error:
        broken = str(error)
    (folder / f"told-{rank}.txt").write_text(f"{reward.calls} {broken}")
    save_file(
        {name: p.detach() for name, p in policy.module.named_parameters()}, folder / f"weights-{rank}.safetensors"
    )
