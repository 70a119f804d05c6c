"""Several processes train to the same numbers as one."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from steelyard.learn.runs import Run
from steelyard.learn.sharding import Shards, _buckets
from tests.learn.sharded import train
from tests.learn.tiny import TinyPolicy, Wanted, data, figures

ROOT = Path(__file__).parents[2]


def as_process(rank: int, count: int) -> Shards:
    """A process of many, without a group."""
    shards = Shards()
    shards.rank, shards.count = rank, count
    return shards


@given(st.lists(st.integers(1, 20), max_size=12), st.integers(1, 5))
def test_parts_cover_everything_once(sizes, count):
    parts = [as_process(rank, count).part(sizes) for rank in range(count)]
    assert [i for part in parts for i in range(len(sizes))[part]] == list(range(len(sizes)))


def test_parts_are_even():
    assert [as_process(rank, 2).part([1] * 7) for rank in range(2)] == [slice(0, 3), slice(3, 7)]
    assert [as_process(rank, 2).part([6, 2, 2, 2]) for rank in range(2)] == [slice(0, 1), slice(1, 4)]
    assert [as_process(rank, 3).part([1]) for rank in range(3)] == [slice(0, 0), slice(0, 1), slice(1, 1)]


def test_one_process_needs_no_wrapper():
    policy = TinyPolicy()
    shards = Shards()
    assert shards.policy(policy) is policy
    assert shards.main
    assert shards.gather(3) == [3]


def test_buckets_hold_one_kind_and_all_in_order(monkeypatch):
    monkeypatch.setattr("steelyard.learn.sharding.BUCKET", 10)
    tensors = [torch.zeros(4), torch.zeros(2, 3), torch.zeros(1), torch.zeros(20), torch.zeros(2, dtype=torch.float64)]
    buckets = _buckets(tensors)
    assert [[t.numel() for t in bucket] for bucket in buckets] == [[4, 6], [1], [20], [2]]


def test_sampling_of_slices_is_sampling_of_all():
    policy, whole, parts = TinyPolicy(), TinyPolicy(), []
    for rank in range(3):
        shards = as_process(rank, 3)
        shards.gather = lambda value: parts.append(value) or [value]
        shards.policy(policy).sample(data(7), 2, generator=np.random.default_rng(1))
    expected = whole.sample(data(7), 2, generator=np.random.default_rng(1))
    assert [text for part in parts for text in part.completions] == list(expected.completions)
    assert np.concatenate([part.groups for part in parts]).tolist() == expected.groups.tolist()


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    """The run of tests.learn.sharded on two processes with gloo."""
    folder = tmp_path_factory.mktemp("two")
    # On a machine without accelerators `--multi_gpu` still means several processes; `--cpu` would mean MPI.
    options = ["--multi_gpu", "--num_processes", "2", "--main_process_port", "0"]
    command = [sys.executable, "-m", "accelerate.commands.launch", *options, "-m", "tests.learn.sharded", str(folder)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "ACCELERATE_USE_CPU": "true"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return folder


def test_two_processes_give_the_numbers_of_one(two_processes, tmp_path):
    policy = TinyPolicy()
    train(tmp_path, policy, reward=Wanted())
    one, two = Run(tmp_path), Run(two_processes / "run")
    for mine, theirs in zip(figures(one.rows()), figures(two.rows()), strict=True):
        assert theirs == pytest.approx(mine, rel=1e-5, abs=1e-5)
    for mine, theirs in zip(one.evaluations(), two.evaluations(), strict=True):
        assert theirs == pytest.approx(mine, rel=1e-5)
    weights = [load_file(two_processes / f"weights-{rank}.safetensors") for rank in range(2)]
    for name, parameter in policy.module.named_parameters():
        assert torch.equal(weights[0][name], weights[1][name]), "both processes hold the same weights"
        torch.testing.assert_close(weights[0][name], parameter.detach(), atol=1e-6, rtol=1e-5)


def test_rank_0_alone_asks_the_reward_and_writes(two_processes):
    told = [(two_processes / f"told-{rank}.txt").read_text() for rank in range(2)]
    assert told == ["5 the judge is gone", "0 the judge is gone"]
    run = two_processes / "run"
    assert len(list((run / "tensorboard").iterdir())) == 1
    assert [row["step"] for row in Run(run).rows()] == [1, 2, 3, 4, 5]
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == ["step-000004", "step-000005"]
