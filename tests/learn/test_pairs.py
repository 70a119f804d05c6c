"""The pair trainer: its gradient, micro-batches, weights, resume, and a real language model."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from steelyard.learn.config import TrainConfig
from steelyard.learn.pairs import PairTrainer, PolicyPairs, pair_accuracy, relabelled
from steelyard.learn.preferences import bradley_terry, dpo, rpo
from steelyard.policies.sampling import Sampling
from steelyard.types import Pairs, SteelyardError
from steelyard.worlds.uncovered import Uncovered
from tests.policies.tiny import language_policy, text_samples

CONFIG = TrainConfig(steps=6, prompts=64, lr=0.05, weight_decay=0.0, schedule="constant", micro_rows=64)


def train(folder: Path, config: TrainConfig = CONFIG, **options):
    world = Uncovered(seed=7)
    pairs, policy = world.pairs(96), world.policy()
    trainer = PairTrainer(
        PolicyPairs(policy), rpo(beta=0.1, eta=0.2), pairs, config, folder=folder, progress=False, **options
    )
    return trainer, policy


def theta(policy) -> torch.Tensor:
    return policy.module.theta.detach().clone()


def test_a_step_is_the_gradient_of_the_mean_loss(tmp_path: Path) -> None:
    world = Uncovered(seed=7)
    pairs, policy = world.pairs(32), world.policy()
    config = replace(CONFIG, steps=1, prompts=32, optimiser="sgd", lr=1.0)
    PairTrainer(PolicyPairs(policy), dpo(beta=0.5), pairs, config, folder=tmp_path, progress=False).run()
    phi = torch.from_numpy(world.features)
    rows = torch.tensor([sample.columns["prompt"] for sample in pairs.samples])
    index = [torch.tensor([int(text.split()[1]) for text in side]) for side in (pairs.chosen, pairs.rejected)]
    # Uniform reference and start: dL/dθ = −β·σ(0)·mean(φ⁺ − φ⁻).
    expected = 0.5 * 0.5 * (phi[rows, index[0]] - phi[rows, index[1]]).mean(0)
    assert torch.allclose(theta(policy), expected, atol=1e-6)


def test_micro_batches_change_nothing(tmp_path: Path) -> None:
    found = []
    for name, rows in (("one", 64), ("many", 7)):
        trainer, policy = train(tmp_path / name, replace(CONFIG, micro_rows=rows))
        trainer.run()
        found.append(theta(policy))
    assert torch.allclose(found[0], found[1], atol=1e-5)


def test_pairs_without_weight_are_left_out(tmp_path: Path) -> None:
    weight = np.ones(96, np.float32)
    weight[::2] = 0
    trainer, policy = train(tmp_path / "half", replace(CONFIG, steps=1, prompts=96, optimiser="sgd"), weight=weight)
    trainer.run()
    world = Uncovered(seed=7)
    half, other = world.pairs(96).take(range(1, 96, 2)), world.policy()
    config = replace(CONFIG, steps=1, prompts=48, optimiser="sgd")
    PairTrainer(PolicyPairs(other), rpo(beta=0.1, eta=0.2), half, config, folder=tmp_path / "x", progress=False).run()
    assert torch.allclose(theta(policy), theta(other), atol=1e-6)


def test_it_resumes_to_the_same_bits(tmp_path: Path) -> None:
    whole, policy = train(tmp_path / "whole")
    whole.run()
    half, _ = train(tmp_path / "half", replace(CONFIG, checkpoint_every=3))
    for _ in range(3):
        half.train_step()
    half.loop._save()
    again, resumed = train(tmp_path / "half", replace(CONFIG, checkpoint_every=3))
    assert again.loop.step == 3
    again.run()
    assert torch.equal(theta(policy), theta(resumed))
    log = whole.run().rows()
    assert [row["step"] for row in log] == list(range(1, 7)) and {"accuracy", "margin", "nll"} <= set(log[0])


def test_a_folder_of_another_objective_is_refused(tmp_path: Path) -> None:
    train(tmp_path)[0].run()
    world = Uncovered(seed=7)
    with pytest.raises(SteelyardError, match="another objective"):
        PairTrainer(PolicyPairs(world.policy()), bradley_terry(), world.pairs(96), CONFIG, folder=tmp_path)


def test_a_language_model_learns_to_prefer(tmp_path: Path) -> None:
    policy, prompts = language_policy(Sampling(max_tokens=8)), text_samples(8)
    pairs = Pairs(prompts, [f"w1 w{i}" for i in range(8)], [f"w2 w{i} w3" for i in range(8)])
    model = PolicyPairs(policy)
    config = TrainConfig(steps=8, prompts=8, lr=1e-2, weight_decay=0.0, micro_rows=3)
    run = PairTrainer(
        model, dpo(beta=0.5), pairs, config, folder=tmp_path, progress=False,
        evaluate=lambda model: {"accuracy": pair_accuracy(model, pairs)},
    ).run()  # fmt: skip
    assert run.rows()[-1]["margin"] > run.rows()[0]["margin"] and run.metrics["accuracy"] > 0.6


def test_bad_labels_and_weights_are_refused(tmp_path: Path) -> None:
    pairs = Uncovered().pairs(4)
    assert relabelled(pairs, [0.5, 1, 0, 1]).probability.tolist() == [0.5, 1, 0, 1]  # type: ignore[union-attr]
    with pytest.raises(SteelyardError, match="one in \\[0, 1\\] each"):
        relabelled(pairs, [2.0, 1, 1, 1])
    for weight in ([1.0], [0.0] * 96, [-1.0] * 96):
        with pytest.raises(SteelyardError, match="weights"):
            train(tmp_path, weight=np.asarray(weight))
