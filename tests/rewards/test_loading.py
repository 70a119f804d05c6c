"""Rewards by name and tables as rollouts: what is found, how columns are mapped, and what bad input is told."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from steelyard.rewards.loading import load_reward, read_mapping, read_rows, rollouts_of
from steelyard.types import SteelyardError

SOURCE = '''
"""A user's file."""
from steelyard.rewards import reward
from steelyard.rewards.text import exact_match

@reward
def long(completion: str, *, least: int = 3) -> float:
    """Whether it is long."""
    return float(len(completion) >= least)

def plain(completion, answer):
    return float(completion == answer)

both = 0.5 * long + 0.5 * exact_match
number = 3

def anything(**columns):
    return 1.0
'''


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "my_rewards.py"
    path.write_text(SOURCE, "utf-8")
    return path


def test_rewards_functions_and_combinations_are_found(source: Path) -> None:
    rollouts = rollouts_of([{"completion": "abc", "answer": "abc"}, {"completion": "ab", "answer": "abc"}])
    for name, expected in {"long": [1, 0], "plain": [1, 0], "both": [1, 0]}.items():
        assert load_reward(f"{source}:{name}")(rollouts).values.tolist() == expected
    assert load_reward("steelyard.rewards.text:exact_match")(rollouts).values.tolist() == [1, 0]


def test_the_only_reward_needs_no_name(tmp_path: Path) -> None:
    path = tmp_path / "one_reward.py"
    path.write_text("def length(completion):\n    return len(completion)\n")
    assert load_reward(str(path)).name == "length"


def test_processes_find_a_files_function(tmp_path: Path) -> None:
    for name in ("in_processes", "in_the_same_processes"):  # the second finds the first one's processes running
        path = tmp_path / name / f"{name}.py"
        path.parent.mkdir()
        path.write_text(
            "from steelyard.rewards import reward\n"
            "@reward(run='processes', workers=2)\ndef length(completion):\n    return len(completion)\n"
        )
        assert load_reward(f"{path}:length")(rollouts_of([{"completion": "abc"}])).values.tolist() == [3]


def test_what_names_no_reward(source: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text("1 / 0\n")
    for spec, words in {
        f"{source}:missing": "it has long, both",
        f"{source}:number": "is int, which is no reward",
        f"{source}:anything": "name the columns",
        str(source): "say which one",
        f"{tmp_path}/absent.py:r": "there is no file",
        "no.such.module:r": "there is no file or module",
        f"{broken}:r": "ZeroDivisionError",
        ":r": "names no reward",
        f"{source}:": "names no reward",
    }.items():
        with pytest.raises(SteelyardError, match=words):
            load_reward(spec)


def test_three_kinds_of_tables_hold_the_same_rows(tmp_path: Path) -> None:
    rows = [{"id": 1, "solution": "é 1", "label": True}, {"id": 2, "solution": "2", "label": False}]
    text = "\n".join(json.dumps(row) for row in rows) + "\n\n"
    (tmp_path / "a.jsonl").write_text("\ufeff" + text, "utf-8")
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    for name in ("a.jsonl", "a.jsonl.gz", "a.parquet"):
        assert read_rows(tmp_path / name) == rows


def test_tables_that_cannot_be_read(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    for name, content, words in (
        ("a.jsonl", b'{"a": 1}\n[1]\n', "line 2: this is a JSON list"),
        ("b.jsonl", b"{\n", "line 1: this is not JSON"),
        ("c.jsonl", b"\n", "has no rows"),
        ("d.jsonl", b'{"a": "\xff"}\n', "UnicodeDecodeError"),
        ("e.jsonl.gz", b'{"a": 1}\n', "BadGzipFile"),
        ("f.jsonl.gz", gzip.compress(b'{"a": 1}\n' * 999)[:30], "cannot be read"),
        ("g.parquet", b"PAR", "no Parquet file"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(SteelyardError, match=words):
            read_rows(tmp_path / name)
    with pytest.raises(SteelyardError, match="there is no file"):
        read_rows(tmp_path / "absent.jsonl")


def test_columns_are_mapped_and_rows_of_one_prompt_are_a_group() -> None:
    rows = [
        {"id": "a", "question": "1+1", "solution": "2", "truth": "2"},
        {"id": "b", "question": "1+2", "solution": "2", "truth": "3"},
        {"id": "c", "question": "1+1", "solution": "3", "truth": "2"},
    ]
    rollouts = rollouts_of(rows, {"answer": "truth"})
    assert rollouts.completions == ["2", "2", "3"]
    assert rollouts.column("prompt") == ["1+1", "1+2", "1+1"]
    assert rollouts.column("answer") == rollouts.column("truth") == ["2", "3", "2"]
    assert [sample.id for sample in rollouts.samples] == ["a", "b", "c"]
    assert rollouts.groups.tolist() == [0, 1, 0]
    swapped = rollouts_of(rows, {"completion": "truth", "prompt": "id"})
    assert swapped.completions == ["2", "3", "2"] and swapped.column("prompt") == ["a", "b", "c"]
    assert np.array_equal(rollouts_of([{"output": "x"}, {"output": "y"}]).groups, [0, 1])


def test_bad_columns_are_named() -> None:
    with pytest.raises(SteelyardError, match="row 1 has no field 'completion'; it has a"):
        rollouts_of([{"completion": "x"}, {"a": 1}])
    with pytest.raises(SteelyardError, match="row 0 has no field 'gold'"):
        rollouts_of([{"completion": "x"}], {"answer": "gold"})
    with pytest.raises(SteelyardError, match="hold the completion among a, b"):
        rollouts_of([{"a": 1, "b": 2}])
    with pytest.raises(SteelyardError, match="no rows"):
        rollouts_of([])


def test_mappings_are_read() -> None:
    assert read_mapping(["answer=gold", "a=b=c"]) == {"answer": "gold", "a": "b=c"}
    for words, told in ((["answer"], "is not COLUMN=FIELD"), (["=x"], "is not COLUMN=FIELD"), (["a=b", "a=c"], "once")):
        with pytest.raises(SteelyardError, match=told):
            read_mapping(words)
