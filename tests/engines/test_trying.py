"""`steelyard try`: the tree of one judged row, what it prints, and what it refuses."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from steelyard import cli
from steelyard.engines.explaining import explained
from steelyard.rewards import math_correct, reward
from steelyard.rewards.core import fill, gate
from steelyard.types import Rollouts, Sample, SteelyardError

REWARDS = '''"""Rewards of one user."""

from steelyard.rewards import reward


@reward
def short(completion: str, *, limit: int = 5) -> float:
    """1 up to a limit of words."""
    return float(len(completion.split()) <= limit)


@reward
def same(completion: str, answer: str) -> float:
    """1 where it is the answer."""
    return float(completion == answer)


@reward
def known(gold: float) -> float | None:
    """The row's own number, if it has one."""
    return gold


@reward
def broken(completion: str) -> float:
    """Divides by what is not there."""
    return 1 / completion.count("x")


mixed = 0.8 * same + 0.2 * short
product = same * short
three = 3
'''


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """`steelyard try rewards.py:NAME …` in a folder with that file: exit code, output, error."""
    (tmp_path / "rewards.py").write_text(REWARDS)
    monkeypatch.chdir(tmp_path)

    def call(name: str, *words: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["steelyard", "try", name if ":" in name else f"rewards.py:{name}", *words])
        with pytest.raises(SystemExit) as left:
            cli.main()
        said = capsys.readouterr()
        return int(left.value.code or 0), said.out, said.err

    return call


def test_the_tree_as_text(run: Any) -> None:
    code, out, _ = run("mixed", "--completion", "42", "--answer", "42.0")
    assert code == 0
    assert out.splitlines() == [
        "completion: 42", "answer: 42.0", "0.2  sum", "├── weight 0.8: 0  same", "└── weight 0.2: 1  short",
    ]  # fmt: skip


def test_the_tree_as_json(run: Any) -> None:
    code, out, _ = run("mixed", "--completion", "a b c d e f", "--column", "answer=a b c d e f", "--json")
    tree = json.loads(out)
    assert code == 0 and tree["columns"] == {"completion": "a b c d e f", "answer": "a b c d e f"}
    assert (tree["kind"], tree["status"], tree["name"]) == ("sum", "scored", "0.8 * same + 0.2 * short")
    assert tree["value"] == pytest.approx(0.8)
    inner = [(node["role"], node["name"], node["value"]) for node in tree["operands"]]
    assert inner == [("weight 0.8", "same", 1.0), ("weight 0.2", "short", 0.0)]


@pytest.mark.parametrize(
    "written", [["--answer", "7"], ["--answer=7"], ["--column", "answer=7"], ["--row", "row.json"]]
)
def test_columns_are_given_in_any_way(run: Any, written: list[str]) -> None:
    Path("row.json").write_text('{"answer": "7", "completion": "8"}')
    code, out, _ = run("same", "--completion", "7", "--json", *written)
    assert code == 0 and json.loads(out)["value"] == 1.0
    assert json.loads(out)["columns"]["completion"] == "7", "the option counts, not the row"


def test_a_row_without_a_verdict_is_nan_and_says_why(run: Any) -> None:
    code, out, _ = run("known", "--completion", "x", "--gold", "null")
    assert code == 0 and out.splitlines()[-1] == "NaN  known  not_applicable"
    tree = json.loads(run("known", "--completion", "x", "--gold", "null", "--json")[1])
    assert tree["value"] is None and tree["status"] == "not_applicable"
    assert json.loads(run("known", "--completion", "x", "--gold", "0.25", "--json")[1])["value"] == 0.25


@pytest.mark.parametrize(
    ("name", "words", "said"),
    [
        ("mixed", ["--completion", "42", "--answr", "42"], "nothing in .* reads 'answr'; it reads answer, completion"),
        ("mixed", ["--completion", "42"], "row 0 has no column 'answer'"),
        ("mixed", ["--completion", "42", "--column", "answer"], "'answer' is not NAME=VALUE"),
        ("mixed", ["--completion", "42", "answer"], "'answer' is no column"),
        ("mixed", [], "nothing to judge; give --completion"),
        ("mixed", ["--row", "list.json"], "list.json holds a JSON list; give one object"),
        ("mixed", ["--row", "torn.json"], "torn.json is not JSON"),
        ("mixed", ["--row", "gone.json"], "gone.json"),
        ("nothing", ["--completion", "42"], "has no 'nothing'; it has short, same, known"),
        ("three", ["--completion", "42"], "is int, which is no reward"),
        ("gone.py:same", ["--completion", "42"], "there is no file .*gone.py"),
        ("broken", ["--completion", "42"], "reward 'broken', row 0 .*ZeroDivisionError"),
    ],
)
def test_one_sentence_says_what_is_wrong(run: Any, name: str, words: list[str], said: str) -> None:
    Path("list.json").write_text("[1]")
    Path("torn.json").write_text('{"completion": ')
    code, out, error = run(name, *words)
    assert code == 2 and not out and "Traceback" not in error
    assert re.search(said, " ".join(error.split()))


@reward
def gold(gold: float | None) -> float | None:
    """The row's own number, if it has one."""
    return gold


def row(**columns: Any) -> Rollouts:
    return Rollouts([Sample("s", "", columns=columns)], ["The answer is 42."])


def test_gates_and_fills_say_what_they_did() -> None:
    shut = explained(gate(math_correct, by=gold), row(answer="42", gold=0.0))
    assert (shut.kind, shut.value, shut.note) == ("gate", 0.0, "shut: 0 is not above 0")
    assert [(node.role, node.value) for node in shut.operands] == [("reward", 1.0), ("by", 0.0)]
    assert explained(gate(math_correct, by=gold), row(answer="42", gold=2.0)).note == "open: 2 > 0"
    unknown = explained(gate(math_correct, by=gold), row(answer="42", gold=None))
    assert unknown.value is None and unknown.note == "not known whether it is open"
    filled = explained(fill(gold, 0.5), row(gold=None))
    assert (filled.value, filled.note, filled.operands[0].value) == (0.5, "filled in: not_applicable", None)


def test_a_tree_is_of_one_row() -> None:
    with pytest.raises(SteelyardError, match="a tree explains one row, these rollouts have 2"):
        explained(gold, row(gold=1.0).take([0, 0]))


def test_a_row_without_a_value_says_why(run: Any) -> None:
    _, out, _ = run("steelyard.rewards:math_correct", "--completion", "A: 1", "--column", "answer=")
    assert "NaN  math_correct  unparsed  (the gold '' holds no answer)" in out


@pytest.mark.parametrize("name", ["thinking_length", "repeats", "overlong_penalty", "normalised"])
def test_what_makes_rewards_is_no_reward(run: Any, name: str) -> None:
    code, _, err = run(f"steelyard.rewards:{name}", "--completion", "x")
    assert code and f"write `mine = {name}(…)` into my_rewards.py" in err
