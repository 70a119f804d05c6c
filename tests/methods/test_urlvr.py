"""URLVR: its worlds, every arm, real model classes, and a person's own run with its probe from the command line."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from steelyard.learn.config import TrainConfig
from steelyard.learn.runs import Run
from steelyard.learn.trainer import Trainer
from steelyard.methods import urlvr
from steelyard.methods.arms import run_trial
from steelyard.methods.core import Trial
from steelyard.methods.registry import find
from steelyard.methods.study import run_study
from steelyard.policies.language import LanguagePolicy
from steelyard.policies.sampling import Sampling
from steelyard.rewards import score_one
from steelyard.rewards.certainty import negative_entropy, own_likelihood, self_certainty
from steelyard.rewards.voting import majority
from steelyard.worlds.letter_chains import LONGEST, LetterChains, in_order
from steelyard.worlds.shared_votes import SharedVotes
from tests.methods import tagged
from tests.policies.tiny import language_policy, saved, text_samples


class Own:
    attempts = 4


def first_word(completion: str) -> str | None:
    return completion.split()[0] if completion.strip() else None


@pytest.mark.parametrize("reward", [majority(answer=first_word), self_certainty() + own_likelihood()])
def test_the_rewards_train_a_real_model_and_ask_it_as_it_is(reward, tmp_path):
    folder = saved(language_policy(Sampling(max_tokens=6)), tmp_path / "model")
    policy = LanguagePolicy.from_pretrained(folder, sampling=Sampling(max_tokens=6), device="cpu")
    before = [p.detach().clone() for p in policy.module.parameters()]
    config = TrainConfig(steps=2, prompts=4, lr=1e-2, schedule="constant")
    recipe = urlvr.by_reward(reward)(Own())
    run = Trainer(policy, recipe, text_samples(4), config, folder=tmp_path / "run", progress=False).run()
    rows = run.rows()
    assert len(rows) == 2 and all(np.isfinite(row["reward"]) and row["nan_rows"] == 0 for row in rows)
    assert any(row["prompts_with_signal"] > 0 for row in rows)
    assert any(not np.array_equal(a, b.detach()) for a, b in zip(before, policy.module.parameters(), strict=True))


@pytest.mark.parametrize("experiment", urlvr.METHOD.evidence, ids=lambda e: e.name)
def test_every_arm_runs_in_its_world(experiment, tmp_path, monkeypatch):
    for arm in experiment.arms:
        found = run_trial(experiment, arm, Trial(7, tmp_path / arm, quick=True))
        assert {claim.metric for claim in experiment.claims} <= set(found)
        assert all(np.isfinite(value) for value in found.values()), (arm, found)
        assert len(Run(tmp_path / arm / "run").rows()) == 3


def test_votes_sharpen_and_the_truth_teaches(tmp_path):
    world = SharedVotes(seed=3)
    samples = world.samples("train", 64)
    config = TrainConfig(steps=30, prompts=32, lr=0.02, schedule="constant", weight_decay=0.0, micro_rows=512)
    accuracy = {}
    for name, recipe in {"votes": urlvr.recipe, "truth": urlvr.truth}.items():
        policy = world.policy()
        start = world.rightness(policy)[:64].mean()
        run = Trainer(policy, recipe(world), samples, config, folder=tmp_path / name, progress=False).run()
        rewards = [row["reward"] for row in run.rows()]
        assert np.mean(rewards[-5:]) > np.mean(rewards[:5]) + 0.02, "what is trained on rises either way"
        accuracy[name] = world.rightness(policy)[:64].mean()
    assert accuracy["truth"] > accuracy["votes"] and accuracy["truth"] > start + 0.1


def test_a_start_that_knows_more_answers_better():
    right = [SharedVotes(prior=prior, seed=1).rightness(SharedVotes(prior=prior, seed=1).policy()).mean()
             for prior in (0.0, 0.12, 0.3)]  # fmt: skip
    assert right == sorted(right) and right[0] == pytest.approx(1 / 6, abs=0.04) and right[2] > right[0] + 0.1
    assert [s.columns["answer"] for s in SharedVotes(seed=1).samples("test", 600)[512:514]] == [
        s.columns["answer"] for s in SharedVotes(seed=1).samples("train", 2)
    ]


def test_chains_end_where_they_say_so_and_are_scored_again_alike():
    world = LetterChains(seed=1)
    policy = world.policy()
    rollouts = policy.sample(world.samples("train", 30), 4, generator=np.random.default_rng(0))
    lengths = rollouts.actions.mask.sum(axis=1)
    said = np.asarray([len(text) for text in rollouts.completions])
    assert (lengths == np.minimum(said + 1, LONGEST)).all() and len(set(said)) > 5
    again = policy.logprobs(rollouts).detach().numpy()
    assert np.allclose(again[rollouts.actions.mask], rollouts.actions.logprobs[rollouts.actions.mask], atol=1e-5)
    encoded = policy.encode(world.samples("train", 2), ["abcd", ""])
    assert encoded.completions == ["abcd", ""] and encoded.actions.mask.sum(axis=1).tolist() == [5, 1]
    assert (
        score_one(in_order, completion="abcdabcdabcd").values[0] == 1
        and score_one(in_order, completion="a").values[0] == 0
    )
    assert negative_entropy(policy=policy)(rollouts).values.max() < 0


@pytest.fixture(scope="module")
def own(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("own")
    tagged.saved(folder / "model")
    rows = [{"id": str(i), "prompt": f"which w{i % 8}", "answer": f"w{i % 8}"} for i in range(80)]
    (folder / "mine.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


@pytest.mark.slow
def test_a_run_of_ones_own_is_probed_and_its_collapse_is_read(own):
    (own / "votes.yaml").write_text(
        f"method: urlvr\nmodel: {own / 'model'}\ndata: {own / 'mine.jsonl'}\nevaluate: {own / 'mine.jsonl'}\n"
        f"out: {own / 'run'}\nsampling: {{max_tokens: 10}}\n"
        "train: {steps: 2, prompts: 2, lr: 1e-3, evaluate_every: 1}\n"
    )
    command = [sys.executable, "-m", "steelyard.cli"]
    run = subprocess.run([*command, "train", str(own / "votes.yaml")], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    evaluations = Run(own / "run").evaluations()
    assert [row["step"] for row in evaluations] == [0, 1, 2]
    assert all(0 < row["reward_accuracy"] <= 1 and row["length"] > 1 for row in evaluations)
    read = subprocess.run([*command, "collapse", str(own / "run")], capture_output=True, text=True)
    assert read.returncode == 0 and "never" in read.stdout, read.stderr


def test_a_study_of_ones_own_is_measured_by_the_probe(own):
    run_study("urlvr", out=own / "study", model=str(own / "model"), data=own / "mine.jsonl", steps=1)
    found = json.loads((own / "study" / "urlvr" / "measures.json").read_text())
    assert {"reward_accuracy", "label_accuracy", "majority_reward", "accuracy"} <= set(found) and found[
        "accuracy"
    ] < 0.9


@pytest.mark.slow
def test_the_small_world_is_run_with_the_true_reward_beside(tmp_path):
    run_study("urlvr", out=tmp_path / "study", steps=2)
    for arm in ("base", "truth", "urlvr"):
        assert "accuracy" in json.loads((tmp_path / "study" / arm / "measures.json").read_text())
    assert find("urlvr").probe is not None
