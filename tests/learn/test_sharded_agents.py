"""Agents on two processes: the figures of one, and only the first asks judge and tool."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from steelyard.learn.runs import Run
from tests.learn.sharded_agents import train
from tests.learn.tiny import figures

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    options = ["--multi_gpu", "--num_processes", "2", "--main_process_port", "0"]
    module = ["-m", "tests.learn.sharded_agents", str(folder)]
    command = [sys.executable, "-m", "accelerate.commands.launch", *options, *module]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "ACCELERATE_USE_CPU": "true"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("arm", ["slate", "dense"])
def test_two_processes_give_the_numbers_of_one(two_processes, tmp_path, arm):
    table, asked = train(tmp_path, arm)
    for mine, theirs in zip(figures(Run(tmp_path).rows()), figures(Run(two_processes / arm).rows()), strict=True):
        known = {name: value for name, value in mine.items() if value is not None}
        assert {name: theirs[name] for name in known} == pytest.approx(known, rel=1e-5, abs=1e-5)
    for rank in range(2):
        torch.testing.assert_close(load_file(two_processes / f"tables-{rank}.safetensors")[arm], table)
    told = [(two_processes / f"asked-{rank}.txt").read_text().split() for rank in range(2)]
    place = ["slate", "dense"].index(arm)
    assert [int(each[place]) for each in told] == [asked, 0], "only the first process asks judge and tool"
