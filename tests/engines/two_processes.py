"""One of two processes that train with SteelyardGRPOTrainer: what it trained on is written to a file."""

import sys
from typing import Any

import numpy as np
from datasets import Dataset
from trl import GRPOConfig

from steelyard.engines.trl import to_trl
from steelyard.engines.trl_trainer import SHARES, SteelyardGRPOTrainer
from steelyard.learn.advantages import centre, chain, scale
from steelyard.learn.objectives import clipped
from steelyard.rewards import reward


@reward
def vowels_if_any(completion: str) -> float | None:
    """Cannot judge a completion without a vowel."""
    found = sum(letter in "aeiou" for letter in completion)
    return found / 8 if found else None


class Watched(SteelyardGRPOTrainer):
    """Keeps the batch that it trains on."""

    def _generate_and_score_completions(self, inputs: Any) -> Any:
        self.seen = super()._generate_and_score_completions(inputs)
        self.mine = self._judged
        return self.seen


def main(model: str, out: str) -> None:
    """One step on one prompt with eight attempts, four on each process."""
    arguments = GRPOConfig(
        out, per_device_train_batch_size=4, num_generations=8, max_completion_length=8, max_steps=1, learning_rate=0.1,
        beta=0.0, use_cpu=True, bf16=False, report_to=[], save_strategy="no", disable_tqdm=True, seed=3,
    )  # fmt: skip
    data = Dataset.from_dict({"prompt": ["a b"]})
    trainer = Watched(
        model, reward_funcs=[to_trl(vowels_if_any)], args=arguments, train_dataset=data,
        advantage=chain(centre(), scale()), objective=clipped(epsilon=0.2, average="rows"),
    )  # fmt: skip
    assert trainer.accelerator.num_processes == 2
    before = next(iter(trainer.model.parameters())).detach().clone()
    trainer.train()
    weight = next(iter(trainer.accelerator.unwrap_model(trainer.model).parameters())).detach()
    rank = trainer.accelerator.process_index
    np.savez(
        out, rewards=trainer.mine[1][4 * rank : 4 * rank + 4, 0], advantages=trainer.seen["advantages"].numpy(),
        shares=trainer.seen[SHARES].sum(dim=1).numpy(), weight=weight.numpy(),
        moved=float((weight - before).abs().max()),
    )  # fmt: skip


if __name__ == "__main__":
    main(*sys.argv[1:])
