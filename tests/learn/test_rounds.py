"""Training in rounds: what labels are made from, that a stopped run goes on, and a real language model."""

from pathlib import Path

import numpy as np
import pytest
import torch

from steelyard.learn import rounds
from steelyard.learn.config import TrainConfig
from steelyard.learn.preferences import dpo
from steelyard.learn.rounds import answered, in_rounds
from steelyard.methods.cream import average, dynamic, labels, trusting
from steelyard.policies.sampling import Sampling
from steelyard.types import SteelyardError
from steelyard.worlds.self_taught import SelfTaught
from tests.policies.tiny import language_policy, text_samples

CONFIG = TrainConfig(steps=3, prompts=20, lr=0.05, weight_decay=0.0, schedule="constant")


def go(folder: Path, seen: list[float] | None = None, rounds_: int = 2):
    world = SelfTaught(seed=3)
    policy = world.policy()
    in_rounds(
        policy, [world.samples("train", 20)] * rounds_, n=5, label=lambda a: labels(a, soften=dynamic, seen=seen),
        objective=dpo(beta=0.1), config=CONFIG, folder=folder, progress=False,
    )  # fmt: skip
    return policy


def test_answers_carry_three_iterations_of_the_policy() -> None:
    world = SelfTaught(seed=3)
    policy = world.policy()
    answers = answered(policy, world.samples("train", 4), 5, 1, np.random.default_rng(0))
    assert answers.current.shape == (4, 5) and (answers.lengths == 1).all()
    assert np.array_equal(answers.previous, answers.initial) and not np.array_equal(answers.current, answers.initial)
    assert answers.rollouts.actions is not None
    assert np.allclose(answers.current.ravel(), answers.rollouts.actions.logprobs[:, 0], atol=1e-5)


def test_labels_are_the_best_and_the_worst_answer_with_the_rate_as_probability() -> None:
    world = SelfTaught(seed=3)
    answers = answered(world.policy(), world.samples("train", 30), 5, 1, np.random.default_rng(0))
    ratio = answers.current - answers.initial
    soft, hard = labels(answers, soften=average), labels(answers, soften=trusting)
    assert soft.probability is not None and hard.probability is not None
    assert len(set(soft.probability.tolist())) == 1 and (hard.probability == 1).all()
    kept = np.flatnonzero(ratio.argmax(1) != ratio.argmin(1))
    assert len(soft) == len(kept)
    assert soft.chosen[0] == answers.rollouts.completions[kept[0] * 5 + int(ratio[kept[0]].argmax())]


def test_a_run_stopped_in_its_second_round_goes_on_to_the_same_numbers(tmp_path: Path, monkeypatch) -> None:
    whole = go(tmp_path / "whole")
    trainer, calls = rounds.PairTrainer, []

    def dying(*given, **named):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return trainer(*given, **named)

    monkeypatch.setattr(rounds, "PairTrainer", dying)
    with pytest.raises(KeyboardInterrupt):
        go(tmp_path / "half")
    monkeypatch.undo()
    assert torch.equal(go(tmp_path / "half").module.theta, whole.module.theta)


def test_a_language_model_labels_itself(tmp_path: Path) -> None:
    policy, seen = language_policy(Sampling(max_tokens=6)), []
    policy.snapshot("initial")
    policy.snapshot("previous")
    with pytest.raises(SteelyardError, match="round 1: no prompt's answers differ"):
        in_rounds(
            policy, [text_samples(2)], n=2, label=lambda a: labels(a, soften=average), objective=dpo(beta=0.1),
            config=CONFIG, folder=tmp_path / "same", progress=False,
        )  # fmt: skip
    with torch.no_grad():
        for parameter in policy.module.parameters():
            parameter.mul_(1.1)
    before = [p.detach().clone() for p in policy.module.parameters()]
    in_rounds(
        policy, [text_samples(4), text_samples(4, seed=1)], n=4, label=lambda a: labels(a, soften=average, seen=seen),
        objective=dpo(beta=0.1), config=TrainConfig(steps=2, prompts=4, lr=1e-3), folder=tmp_path, progress=False,
    )  # fmt: skip
    assert len(seen) == 2 and any(
        not torch.equal(a, b) for a, b in zip(before, policy.module.parameters(), strict=True)
    )
