"""`steelyard audit` as a person runs it: files in a clean folder, its page, its exit codes, and bad input."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.audits.planted import table

REWARDS = '''
from steelyard.rewards import math_correct, reward

@reward
def by_length(completion: str) -> float:
    """Counts."""
    return len(completion) / 100

def nothing(completion):
    return float("nan")

right = math_correct
both = math_correct + 0.0 * by_length
'''


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "my_rewards.py").write_text(REWARDS, "utf-8")
    rows = [{"truth": row.pop("answer"), **row} for row in table(prompts=60)]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return tmp_path


def steelyard(folder: Path, *words: str, before: str = "") -> subprocess.CompletedProcess[str]:
    """Run the command in a folder."""
    places = [before, str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
    path = os.pathsep.join(filter(None, places))
    command = [sys.executable, "-m", "steelyard.cli", "audit", *words]
    environment = {**os.environ, "PYTHONPATH": path, "COLUMNS": "200"}
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env=environment)


def test_a_clean_reward_leaves_with_0_and_a_page(folder: Path) -> None:
    pytest.importorskip("plotly")
    done = steelyard(folder, "my_rewards.py:right", "data.jsonl", "--map", "answer=truth", "--out", "report")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("train  math_correct: 240 rows, 240 labelled")
    assert sorted(path.name for path in (folder / "report").iterdir()) == ["audit.html", "audit.json", "findings.jsonl"]
    page = (folder / "report" / "audit.html").read_text("utf-8")
    assert "Nothing was found" in page and "steelyard audit my_rewards.py:right data.jsonl" in page
    outside = re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
    assert "://" not in outside and "<script src" not in page
    assert (folder / "report" / "findings.jsonl").read_text() == ""


def test_a_bad_reward_leaves_with_3_unless_told_otherwise(folder: Path) -> None:
    pytest.importorskip("plotly")
    words = ("my_rewards.py:by_length", "data.jsonl", "--map", "answer=truth", "--out", "report")
    done = steelyard(folder, *words)
    assert done.returncode == 3 and "do not train" in done.stdout and "length bias" in done.stdout
    page = (folder / "report" / "audit.html").read_text("utf-8")
    assert "Do not train" in page and "Length bias" in page and "At first Anna has" in page
    assert steelyard(folder, *words, "--fail-on", "never").returncode == 0
    told = json.loads((folder / "report" / "audit.json").read_text("utf-8"))
    assert told["verdict"] == "do not train" and told["reward"] == "by_length"


def test_warnings_fail_only_where_asked_for_and_gold_is_read(folder: Path) -> None:
    pytest.importorskip("plotly")
    (folder / "parts.py").write_text(
        "from steelyard.rewards import math_correct, reward\n@reward\ndef still(completion):\n    return 0.5\n"
        "sum_of = math_correct + still\n"
    )
    words = ("parts.py:sum_of", "data.jsonl", "--map", "answer=truth", "--out", "r", "--gold", "my_rewards.py:right")
    assert steelyard(folder, *words).returncode == 0
    assert steelyard(folder, *words, "--fail-on", "warning").returncode == 3


def test_a_text_in_the_data_cannot_break_the_page(folder: Path) -> None:
    pytest.importorskip("plotly")
    rows = [{"completion": f"<script>alert({i})</script>" + "x" * i, "label": i % 2} for i in range(80)]
    (folder / "evil.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    done = steelyard(folder, "my_rewards.py:by_length", "evil.jsonl")
    assert done.returncode == 3
    page = (folder / "audit" / "audit.html").read_text("utf-8")
    assert "<script>alert" not in page and "&lt;script&gt;alert" in page


def test_bad_input_is_told_in_one_sentence(folder: Path) -> None:
    (folder / "empty.jsonl").write_text("\n")
    for words, told in (
        (("my_rewards.py:right", "absent.jsonl"), "there is no file absent.jsonl"),
        (("my_rewards.py:right", "empty.jsonl"), "has no rows"),
        (("my_rewards.py:right", "data.jsonl"), "no column 'answer'"),
        (("my_rewards.py:wrong", "data.jsonl"), "has no 'wrong'"),
        (("my_rewards.py:right", "data.jsonl", "--map", "answer"), "is not COLUMN=FIELD"),
        (("my_rewards.py:right", "data.jsonl", "--map", "answer=gone"), "row 0 has no field 'gone'"),
        (("my_rewards.py:right", "data.jsonl", "--out", "data.jsonl"), "is a file"),
    ):
        done = steelyard(folder, *words)
        assert done.returncode == 2 and told in done.stderr.replace("\n", " "), done.stderr
        assert len(done.stderr.strip().splitlines()) == 1


def test_a_reward_that_judges_nothing_is_refused(folder: Path) -> None:
    pytest.importorskip("plotly")
    done = steelyard(folder, "my_rewards.py:nothing", "data.jsonl")
    assert done.returncode == 3 and "no row has a score" in done.stdout


def test_without_the_packages_of_the_page_it_is_said_before_the_work(folder: Path) -> None:
    """A package that is not there, as Python sees it, and a reward that tells when it is asked."""
    (folder / "jinja2.py").write_text("raise ImportError('hidden', name='jinja2')\n")
    (folder / "slow.py").write_text("def asked(completion):\n    open('asked', 'w').close()\n    return 1.0\n")
    done = steelyard(folder, "slow.py:asked", "data.jsonl", before=str(folder))
    assert done.returncode == 2 and "pip install 'steelyard[report]'" in done.stderr, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (folder / "asked").exists() and not (folder / "audit").exists()
