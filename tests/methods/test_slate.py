"""SLATE as a recipe: on a real model class with a real search tool and resume, in its world, and at the borders."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from steelyard.engines.export import export_trl
from steelyard.learn.config import TrainConfig
from steelyard.learn.runs import Run
from steelyard.learn.trainer import Trainer
from steelyard.methods.arms import run_trial
from steelyard.methods.core import Trial
from steelyard.methods.registry import find
from steelyard.methods.slate import ARMS, TRAIN
from steelyard.rewards.agent_steps import judged_steps
from steelyard.rewards.judges import RuleJudge
from steelyard.types import SteelyardError
from steelyard.worlds.search_questions import SearchQuestions
from tests.learn.tiny import figures
from tests.policies import agents


def grade(prompt) -> str | None:
    """Some searches are better than others, one cannot be graded."""
    text = prompt[1]["content"]
    if "w7" in text:
        return "no idea"
    return f"<score>{1 if 'w3' in text else len(text) % 2 - 1}</score>"


class Setting:
    attempts, budget = 4, 3

    def __init__(self) -> None:
        self.environment = agents.tool()
        self.steps = judged_steps(RuleJudge(grade), budget=3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return agents.saved(tmp_path_factory.mktemp("model"))


def trainer(model: Path, run: Path, **settings) -> Trainer:
    usual = {"steps": 4, "prompts": 3, "lr": 1e-3, "checkpoint_every": 2, "schedule": "constant", "micro_rows": 16}
    config = TrainConfig(**usual | settings)
    recipe = find("slate").recipe(Setting())
    return Trainer(agents.policy(model), recipe, agents.questions(), config, folder=run, progress=False)


def test_trains_a_real_model_with_a_real_tool_and_resumes_to_the_last_bit(folder, tmp_path):
    whole = trainer(folder, tmp_path / "whole")
    rows = whole.run().rows()
    assert all(np.isfinite(row["reward"]) and row["sampler_gap"] < 1e-3 for row in rows)
    assert any(row["nan_rows"] > 0 for row in rows) and all(row["kl"] is not None for row in rows)
    assert max(row["rollouts"] for row in rows) > 3 * 4, "attempts went on behind the first step"
    assert any(row["part/query"] is not None for row in rows) and any(row["part/answer"] is not None for row in rows)
    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    shutil.rmtree(tmp_path / "cut" / "checkpoints" / "step-000004")
    again = trainer(folder, tmp_path / "cut")
    assert again.loop.step == 2
    assert figures(again.run().rows()) == figures(rows)
    for name, weight in whole.policy.module.state_dict().items():
        assert torch.equal(again.policy.module.state_dict()[name], weight), name


def test_micro_batches_change_nothing(folder, tmp_path):
    a, b = (trainer(folder, tmp_path / str(n), steps=1, micro_rows=n, optimiser="sgd", lr=0.1) for n in (4, 64))
    a.run(), b.run()
    for name, weight in a.policy.module.state_dict().items():
        torch.testing.assert_close(b.policy.module.state_dict()[name], weight, atol=1e-6, rtol=1e-5)


def test_the_noise_of_the_world_resumes_too(tmp_path):
    def run(folder: Path) -> Trainer:
        world, config = SearchQuestions(), replace(TRAIN, steps=4, checkpoint_every=2)
        data = world.samples("train", 12)
        return Trainer(world.policy(), ARMS["slate"](world), data, config, folder=folder, progress=False)

    whole = run(tmp_path / "whole")
    rows = whole.run().rows()
    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    shutil.rmtree(tmp_path / "cut" / "checkpoints" / "step-000004")
    again = run(tmp_path / "cut")
    assert again.loop.step == 2 and figures(again.run().rows()) == figures(rows)
    assert torch.equal(again.policy.module.tables[0], whole.policy.module.tables[0])


def test_only_the_step_itself_is_trained(tmp_path):
    """In a world of tables a state that was only passed through, at an earlier step, gets the gradient of that step's
    candidates alone: five rows a state and step, none for the prefix."""
    world = SearchQuestions()
    done = Trainer(
        world.policy(), ARMS["slate"](world), world.samples("train", 12), replace(TRAIN, steps=1), folder=tmp_path,
        progress=False,
    )  # fmt: skip
    row = done.train_step()
    moved = (done.policy.module.tables[0] != 0).any(dim=1)
    assert row["rollouts"] == 240 and row["completion_length"] == 1
    assert moved.sum() <= 48 and moved[[world.state[place] for place in world.state if place.step == 0]].sum() >= 10


@pytest.mark.parametrize("experiment", find("slate").evidence, ids=lambda e: e.name)
def test_every_arm_runs(experiment, tmp_path):
    small = experiment
    if hasattr(experiment, "train"):
        small = replace(experiment, train=replace(experiment.train, **experiment.quick))
    for arm in experiment.arms:
        found = run_trial(small, arm, Trial(7, tmp_path / arm, quick=True))
        assert {claim.metric for claim in experiment.claims} <= set(found)
        assert all(np.isfinite(value) for value in found.values()), (arm, found)
        if hasattr(experiment, "train"):
            assert Run(tmp_path / arm).about["status"] == "finished"


def test_other_trainers_refuse_it_in_a_sentence():
    with pytest.raises(SteelyardError, match="TruncatedSteps"):
        export_trl(find("slate").recipe(Setting()))
