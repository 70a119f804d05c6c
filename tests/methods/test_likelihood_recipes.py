"""RLPR, COPO and the unlikeliness reward as recipes: on a real model class with resume, and in their worlds."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from steelyard.learn.advantages import centre, chain, scale
from steelyard.learn.config import TrainConfig
from steelyard.learn.filters import spread_filter
from steelyard.learn.runs import Run
from steelyard.learn.trainer import Trainer
from steelyard.methods.arms import mean_rewards, run_trial
from steelyard.methods.core import Trial
from steelyard.methods.registry import find
from steelyard.methods.study import run_study
from tests.learn.tiny import figures
from tests.methods import tagged


class Setting:
    attempts = 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tagged.saved(tmp_path_factory.mktemp("model"))


def trainer(slug: str, model: Path, run: Path, **settings) -> Trainer:
    recipe = find(slug).recipe(Setting())
    if slug == "rlpr":  # a threshold early enough to be met
        filtering = chain(spread_filter(beta=1.0, collect_from=1, filter_from=2), centre(), scale(epsilon=1e-6))
        recipe = replace(recipe, advantage=filtering)
    usual = {"steps": 4, "prompts": 4, "lr": 1e-3, "checkpoint_every": 2, "schedule": "constant"}
    config = TrainConfig(**usual | settings)
    return Trainer(tagged.policy(model), recipe, tagged.samples(), config, folder=run, progress=False)


@pytest.mark.parametrize("slug", ["rlpr", "copo", "unlikeliness"])
def test_trains_a_real_model_and_resumes_to_the_last_bit(slug, folder, tmp_path):
    whole = trainer(slug, folder, tmp_path / "whole")
    run = whole.run()
    rows = run.rows()
    assert all(row["reward"] is not None and np.isfinite(row["reward"]) for row in rows)
    assert any(row["prompts_with_signal"] > 0 for row in rows) and all(row["nan_rows"] == 0 for row in rows)
    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    shutil.rmtree(tmp_path / "cut" / "checkpoints" / "step-000004")
    again = trainer(slug, folder, tmp_path / "cut")
    assert again.loop.step == 2
    assert figures(again.run().rows()) == figures(rows)
    for name, weight in whole.policy.module.state_dict().items():
        assert torch.equal(again.policy.module.state_dict()[name], weight), name


def test_rlpr_logs_its_parts_filters_prompts_and_keeps_its_base(folder, tmp_path):
    trained = trainer("rlpr", folder, tmp_path / "run", steps=6)
    rows = trained.run().rows()
    assert all(row["part/likelihood"] > 0.05 and row["part/tags_in_order"] > 0.8 for row in rows)
    assert all(0 < row["part/base_likelihood"] < 1 for row in rows)
    kept = [row["advantage/spread_kept"] for row in rows]
    assert kept[0] == 1 and min(kept) < 1, "some prompts were dropped once there was an average"
    assert rows[kept.index(min(kept))]["prompts_trained"] < 4
    states = sorted((tmp_path / "run" / "checkpoints").glob("*/state.json"))
    parts = json.loads(states[-1].read_text())["parts"]
    base = trained.recipe.reward.state_dict()
    assert parts["reward"] == base and "s0" in json.dumps(base)
    assert parts["advantage"]["0"]["step"] == 6


def test_the_reward_asks_the_policy_with_the_weights_that_sampled(folder, tmp_path):
    run = trainer("rlpr", folder, tmp_path / "run", steps=2, lr=0.05)
    reward, policy = run.recipe.reward, run.policy
    first = run.train_step()
    moved = policy.score_texts(tagged.samples(1), [" w0"]).logprobs
    kept = policy.score_texts(tagged.samples(1), [" w0"], copy="reference").logprobs
    assert not np.allclose(moved, kept, atol=1e-4), "the update moved the policy, its reference stayed"
    assert reward.needs_reference and first["part/likelihood"] is not None


def test_a_model_that_was_not_trained_can_be_measured(folder):
    policy, world = tagged.policy(folder), Setting()
    world.samples = lambda split, count, seed: tagged.samples(count)
    measured = mean_rewards(reward=find("rlpr").recipe(world).reward)
    found = measured(world, policy, folder=folder, count=4, greedy=True)
    assert 0 <= found["reward"] <= 1 and found["reward/nan"] == 0 and policy.copies == ["reference"]


def test_runs_on_a_persons_own_texts(folder, tmp_path):
    data = tmp_path / "mine.jsonl"
    rows = [{"id": str(i), "prompt": f"which w{i % 8}", "answer": f"w{i % 8}"} for i in range(80)]
    data.write_text("\n".join(map(json.dumps, rows)))
    run_study("rlpr", out=tmp_path / "run", model=str(folder), data=data, steps=1)
    found = json.loads((tmp_path / "run" / "rlpr" / "measures.json").read_text())
    assert 0 < found["reward"] <= 1 and found["reward/nan"] == 0


@pytest.mark.parametrize("slug", ["rlpr", "copo", "unlikeliness"])
def test_every_arm_runs_in_its_world(slug, tmp_path):
    method = find(slug)
    for experiment in method.evidence:
        small = experiment
        if hasattr(experiment, "train"):
            small = replace(experiment, train=replace(experiment.train, **experiment.quick))
        for arm in experiment.arms:
            found = run_trial(small, arm, Trial(7, tmp_path / experiment.name / arm, quick=True))
            assert {claim.metric for claim in experiment.claims} <= set(found)
            assert all(np.isfinite(value) for value in found.values()), (arm, found)
            if hasattr(experiment, "train"):
                assert Run(tmp_path / experiment.name / arm).about["status"] == "finished"
