"""`steelyard train-reward` as a person would use it: a file of pairs and a small encoder to a model with a card."""

import json
from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertModel

from steelyard import cli
from steelyard.methods.reward_training import read_pairs, split, train_reward
from steelyard.rewards.models.sequence import RewardModel
from steelyard.types import SteelyardError
from tests.policies.tiny import tokenizer


@pytest.fixture
def encoder(tmp_path: Path) -> Path:
    """A bare encoder, without a head."""
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=64, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=64, pad_token_id=0, initializer_range=0.3,
    )  # fmt: skip
    BertModel(config).save_pretrained(tmp_path / "encoder")
    tokenizer().save_pretrained(tmp_path / "encoder")
    return tmp_path / "encoder"


def write(folder: Path, rows: list[dict]) -> Path:
    path = folder / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def rows(count: int = 120) -> list[dict]:
    return [
        {"prompt": f"w{10 + i % 40} w{i % 9}", "chosen": f"w1 w{20 + i % 8}", "rejected": f"w2 w{20 + i % 8} w5"}
        for i in range(count)
    ]


@pytest.mark.parametrize("frozen", [True, False])
def test_it_learns_measures_saves_and_goes_on(tmp_path: Path, encoder: Path, frozen: bool) -> None:
    file = write(tmp_path, rows())
    options = {
        "frozen": frozen,
        "epochs": 6,
        "batch": 16,
        "lr": 1e-2 if frozen else 3e-3,
        "held_out": 0.2,
        "max_length": 32,
    }
    found = train_reward(file, str(encoder), tmp_path / "out", progress=False, **options)
    assert found["accuracy"] > 0.9 and found["accuracy_of_length"] == 0.0
    assert found["interval"][0] < found["accuracy"] <= found["interval"][1] + 1e-9
    again = RewardModel.from_pretrained(tmp_path / "out")
    assert "pairs held out" in (tmp_path / "out" / "README.md").read_text() and again.module.config.num_labels == 1
    log = (tmp_path / "out" / "run" / "log.jsonl").read_text()
    assert (
        train_reward(file, str(encoder), tmp_path / "out", progress=False, **options)["accuracy"] == found["accuracy"]
    )
    assert (tmp_path / "out" / "run" / "log.jsonl").read_text() == log, "nothing is trained twice"


def test_no_prompt_is_on_both_sides(tmp_path: Path) -> None:
    training, testing = split(read_pairs(write(tmp_path, rows(300))), 0.3)
    assert len(training) + len(testing) == 300
    assert not {s.prompt for s in training.samples} & {s.prompt for s in testing.samples}


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"chosen": "a", "rejected": "b"}, "row 0 has no prompt"),
        ({"prompt": "p", "chosen": "a"}, "row 0: 'rejected' is None"),
        ({"prompt": "p", "chosen": 3, "rejected": "b"}, "row 0: 'chosen' is 3; it must be a text"),
        ({"prompt": "p", "chosen": "a", "rejected": "b", "probability": 2}, "probability is 2; a number from 0 to 1"),
        ({"prompt": "p", "chosen": "a", "rejected": "b"}, "leave no row to train on"),
    ],
)
def test_bad_rows_are_refused_in_one_sentence(tmp_path: Path, encoder: Path, row: dict, said: str) -> None:
    with pytest.raises(SteelyardError, match=said):
        train_reward(write(tmp_path, [row]), str(encoder), tmp_path / "out")


def test_the_command_says_what_it_reached(tmp_path: Path, encoder: Path, capsys) -> None:
    file = write(tmp_path, rows(60))
    words = [
        "train-reward",
        str(file),
        "--model",
        str(encoder),
        "--out",
        str(tmp_path / "m"),
        "--frozen",
        "--held-out",
        "0.3",
    ]
    with pytest.raises(SystemExit) as left:
        cli.main(words)
    printed = capsys.readouterr().out
    assert not left.value.code and "held-out pairs" in printed and "README.md" in printed
