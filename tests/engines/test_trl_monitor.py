"""The monitor inside TRL: watched functions change nothing, and a real GRPOTrainer run raises, saves and resumes."""

import asyncio
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from steelyard.audits.monitor import Monitor
from steelyard.engines.trl_monitor import STATE, TrlMonitor
from steelyard.rewards import reward
from steelyard.types import SteelyardError


def letters(completions, **columns) -> list[float]:
    return [float(len(c)) for c in completions]


def judged(completions, **columns) -> list[float | None]:
    return [None if c == "x" else 1.0 for c in completions]


@reward
def vowels(completion: str, wanted: str) -> float:
    """The share of wanted letters."""
    text = completion.replace(" ", "")
    return sum(letter in wanted for letter in text) / max(1, len(text))


def test_functions_keep_their_values_names_and_exceptions() -> None:
    def broken(completions, **columns):
        raise KeyError("gone")

    async def slow(completions, **columns):
        return [2.0 for _ in completions]

    watched = TrlMonitor([letters, judged, broken, slow], monitor=Monitor())
    assert [f.__name__ for f in watched.reward_funcs] == ["letters", "judged", "broken", "slow"]
    assert watched.reward_funcs[0](completions=["ab", "x"]) == [2.0, 1.0]
    assert watched.reward_funcs[1](completions=["ab", "x"]) == [1.0, None]
    with pytest.raises(KeyError, match="gone"):
        watched.reward_funcs[2](completions=["a"])
    assert asyncio.run(watched.reward_funcs[3](completions=["a"])) == [2.0]


def test_a_step_is_the_weighted_sum_of_all_calls_inside_it(tmp_path: Path) -> None:
    log = tmp_path / "m.jsonl"
    watched = TrlMonitor([letters, judged, vowels], weights=[0.5, 2.0, 1.0], monitor=Monitor(log=log))
    callback, args = watched.callback(), SimpleNamespace(output_dir=str(tmp_path))
    state = SimpleNamespace(global_step=4, is_world_process_zero=True)
    columns = {"prompts": ["p", "p"], "completions": ["ae", "x"], "wanted": ["a", "a"], "completion_ids": [[1], [2, 3]]}
    for function in watched.reward_funcs:  # an evaluation's calls are left out
        function(**columns)
    callback.on_step_begin(args, state, None)
    for _ in range(2):  # two accumulated batches
        for function in watched.reward_funcs:
            function(**columns)
    state.global_step = 5
    callback.on_step_end(args, state, None)
    (row,) = map(json.loads, log.read_text().splitlines())
    assert (row["step"], row["rows"], row["length"]) == (5, 4, 1.5)
    assert row["reward"] == pytest.approx(((0.5 * 2 + 2.0 + 0.5) + 0.5) / 2)
    assert row["parts"]["judged"]["failed"] == 0.5 and set(row["parts"]) == {"letters", "judged", "vowels"}


def test_a_part_that_only_some_calls_have_is_unknown_in_the_others(tmp_path: Path) -> None:
    def changing(completions, **columns) -> list[float]:
        changing.parts = {"sometimes": [1.0, 2.0]} if completions[0] == "a" else {}
        return [1.0, 2.0]

    watched = TrlMonitor(changing, monitor=Monitor(log=tmp_path / "m.jsonl"))
    callback, args = watched.callback(), SimpleNamespace(output_dir=str(tmp_path))
    state = SimpleNamespace(global_step=1, is_world_process_zero=True)
    callback.on_step_begin(args, state, None)
    for texts in (["a", "b"], ["c", "d"]):
        watched.reward_funcs[0](completions=texts)
    callback.on_step_end(args, state, None)
    (row,) = map(json.loads, (tmp_path / "m.jsonl").read_text().splitlines())
    assert (row["parts"]["sometimes"]["mean"], row["parts"]["sometimes"]["failed"]) == (1.5, 0.5)
    assert row["parts"]["changing"]["mean"] == 1.5


def test_what_is_no_reward_is_refused() -> None:
    with pytest.raises(SteelyardError, match="2 weights for 1 rewards"):
        TrlMonitor(letters, weights=[1, 2], monitor=Monitor())
    with pytest.raises(SteelyardError, match="'some/model' is no reward"):
        TrlMonitor(["some/model"], monitor=Monitor())


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A Qwen2 of a few thousand parameters and its tokenizer, saved as any other model is."""
    pytest.importorskip("trl")
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

    words = ["<pad>", "<eos>", "<unk>", *"abcdefghijklmnopqrstuvwxyz"]
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    config = Qwen2Config(
        vocab_size=len(words), hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=64, bos_token_id=None, eos_token_id=1, pad_token_id=0,
    )  # fmt: skip
    folder = str(tmp_path_factory.mktemp("model"))
    torch.manual_seed(0)
    Qwen2ForCausalLM(config).save_pretrained(folder)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>")
    fast.save_pretrained(folder)
    return folder


class Flaky:
    """A reward of letters that can judge nothing any more after so many calls."""

    def __init__(self, calls: int) -> None:
        self.calls, self.__name__ = calls, "flaky"

    def __call__(self, completions, **columns):
        self.calls -= 1
        return [len(set(c)) / 10 if self.calls >= 0 else None for c in completions]


def trained(model_folder: str, folder: Path, steps: int, calls: int, *, resume: bool = False) -> TrlMonitor:
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    arguments = GRPOConfig(
        output_dir=str(folder), per_device_train_batch_size=4, num_generations=4, max_completion_length=4,
        max_steps=steps, learning_rate=1e-3, logging_steps=1, report_to=[], use_cpu=True, save_steps=12, beta=0.0,
        bf16=False, disable_tqdm=True, seed=0,
    )  # fmt: skip
    watched = TrlMonitor([Flaky(calls), vowels], monitor=Monitor(log=folder / "monitor.jsonl"))
    trainer = GRPOTrainer(
        model_folder, reward_funcs=watched.reward_funcs, callbacks=[watched.callback()], args=arguments,
        train_dataset=Dataset.from_dict({"prompt": ["a b", "c d", "e f", "g h"], "wanted": ["aeiou"] * 4}),
    )  # fmt: skip
    trainer.train(resume_from_checkpoint=resume)
    return watched


def test_a_real_run_raises_an_alarm_and_resumes_to_the_same(model_folder: str, tmp_path: Path) -> None:
    whole = trained(model_folder, tmp_path / "whole", 24, calls=14)
    rows = [json.loads(line) for line in (tmp_path / "whole" / "monitor.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(1, 25))
    dead = [alert for alert in whole.monitor.alerts if alert.detector == "DeadPart" and alert.subject == "flaky"]
    assert [(alert.level, alert.step) for alert in dead] == [("alarm", 20)]
    trained(model_folder, tmp_path / "cut", 12, calls=14)
    assert (tmp_path / "cut" / "checkpoint-12" / STATE).exists()
    resumed = trained(model_folder, tmp_path / "cut", 24, calls=2, resume=True)
    told = [(alert.step, alert.detector, alert.subject) for alert in resumed.monitor.alerts]
    assert [row[0] for row in told if row[1:] == ("DeadPart", "flaky")] == [20]
    again = [json.loads(line)["step"] for line in (tmp_path / "cut" / "monitor.jsonl").read_text().splitlines()]
    assert again == list(range(1, 25))


def both_processes(model_folder: str, folder: Path, until: str) -> list[tuple[int, str]]:
    """Exit code and standard error of the two processes of a run."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "ACCELERATE_USE_CPU": "true"}
    path = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    worker = Path(__file__).with_name("monitored_processes.py")
    processes = [
        subprocess.Popen(
            [sys.executable, str(worker), model_folder, str(folder), str(rank), until], stderr=subprocess.PIPE,
            text=True, env=os.environ | shared | {"RANK": str(rank), "LOCAL_RANK": str(rank), "PYTHONPATH": path},
        )
        for rank in range(2)
    ]  # fmt: skip
    said = [process.communicate(timeout=400)[1] for process in processes]
    return [(process.returncode, words) for process, words in zip(processes, said, strict=True)]


@pytest.mark.slow
def test_the_first_of_two_processes_sees_the_rows_of_both(model_folder: str, tmp_path: Path) -> None:
    assert [code for code, _ in both_processes(model_folder, tmp_path, "end")] == [0, 0]
    rows = [json.loads(line) for line in (tmp_path / "monitor.jsonl").read_text().splitlines()]
    assert [(row["step"], row["rows"]) for row in rows] == [(1, 8), (2, 8), (3, 8)]
    zero, one = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2))
    for row, mine, theirs in zip(rows, zero, one, strict=True):
        part = np.asarray([*mine, *theirs], float)
        assert row["parts"]["vowels"]["mean"] == pytest.approx(np.nanmean(part))
        assert row["parts"]["vowels"]["failed"] == np.isnan(part).mean()
    alone = [json.loads(line) for line in (tmp_path / "watch.jsonl").read_text().splitlines()]
    assert [(row["step"], row["rows"]) for row in alone] == [(1, 4), (2, 4), (3, 4)]  # `watch` sees one process's rows


@pytest.mark.slow
def test_a_callback_that_raises_ends_both_processes(model_folder: str, tmp_path: Path) -> None:
    (first, words), (second, others) = both_processes(model_folder, tmp_path, "alert")
    assert (first, second) == (1, 1)
    assert "Stopped: Always" in words
    assert "the monitor in the first process ended the run: Stopped: Always" in others
