"""A table as a policy: uniform at first, one softmax a prompt, and gradient descent on it as the equation says."""

from pathlib import Path

import numpy as np
import pytest
import torch

from steelyard.learn.advantages import centre, chain
from steelyard.learn.config import TrainConfig
from steelyard.learn.curricula import uniform
from steelyard.learn.objectives import clipped
from steelyard.learn.plans import groups
from steelyard.learn.recipe import Recipe
from steelyard.learn.trainer import Trainer
from steelyard.policies.categorical import CategoricalPolicy, TabularNet
from steelyard.rewards import reward
from steelyard.types import Sample, SteelyardError


def policy() -> CategoricalPolicy:
    return CategoricalPolicy(
        TabularNet(2, [3, 2]),
        [["a", "b", "c"], ["x", "y"]],
        observe=lambda sample: np.asarray([sample.columns["number"]], np.float32),
        render=" ".join,
        read=str.split,
    )


SAMPLES = [Sample(f"p{i}", "prompt", columns={"number": i}) for i in range(2)]


@reward
def says_a(completion: str) -> float:
    """1 for a."""
    return float(completion.startswith("a"))


def test_it_is_uniform_at_first() -> None:
    rollouts = policy().sample(SAMPLES, 3000, generator=np.random.default_rng(0))
    assert rollouts.actions is not None
    assert np.allclose(rollouts.actions.logprobs, [-np.log(3), -np.log(2)])
    assert np.mean([text[0] == "a" for text in rollouts.completions]) == pytest.approx(1 / 3, abs=0.03)


def train(folder: Path, steps: int, **settings: object) -> CategoricalPolicy:
    recipe = Recipe(groups(8), says_a, chain(centre()), clipped(), uniform())
    config = TrainConfig(steps=steps, prompts=2, schedule="constant", optimiser="sgd", lr=1.0, **settings)
    trained = policy()
    Trainer(trained, recipe, SAMPLES, config, folder=folder, progress=False).run()
    return trained


def test_gradient_descent_moves_each_table_by_the_policy_gradient(tmp_path: Path) -> None:
    tables = [p.detach().clone() for p in train(tmp_path / "one", 1).module.parameters()]
    rollouts = policy().sample(SAMPLES, 8, generator=np.random.default_rng(0))
    assert rollouts.actions is not None
    assert all(torch.allclose(t.sum(1), torch.zeros(2), atol=1e-6) for t in tables), "a softmax's gradient sums to 0"
    assert (tables[0][:, 0] > 0).all() and (tables[0][:, 1:] < 0.2).all()
    probabilities = torch.cat([p.softmax(-1)[:, 0] for p in list(train(tmp_path / "many", 60).module.parameters())[:1]])
    assert (probabilities > 0.8).all()


def test_it_resumes_to_the_same_numbers(tmp_path: Path) -> None:
    whole = list(train(tmp_path / "whole", 4).module.parameters())
    recipe = Recipe(groups(8), says_a, chain(centre()), clipped(), uniform())
    config = TrainConfig(
        steps=4, prompts=2, schedule="constant", optimiser="sgd", lr=1.0, checkpoint_every=2, keep_checkpoints=9
    )
    half = Trainer(policy(), recipe, SAMPLES, config, folder=tmp_path / "half", progress=False)
    half.train_step(), half.train_step()
    half.loop._save()
    again = policy()
    Trainer(again, recipe, SAMPLES, config, folder=tmp_path / "half", progress=False).run()
    for a, b in zip(whole, again.module.parameters(), strict=True):
        assert torch.equal(a, b)


def test_an_unknown_rule_is_refused() -> None:
    with pytest.raises(SteelyardError, match="optimiser is 'lion'; it must be one of adamw, sgd"):
        TrainConfig(steps=1, optimiser="lion")  # type: ignore[arg-type]
