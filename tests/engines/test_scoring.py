"""Scoring tables: every form, bad rows, kills at any moment, processes and Ray."""

import gzip
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steelyard.engines.batches import without_endings
from steelyard.engines.scoring import Job, Summary, in_order, in_processes, is_done, score
from steelyard.engines.tables import chunks, rows_of
from steelyard.rewards import math_correct, score_one
from steelyard.types import SteelyardError

SERVED = Path(__file__).with_name("served.py")
ROOT = Path(__file__).parents[2]
ENDINGS = ("jsonl", "jsonl.gz", "parquet")


def table(path: Path, rows: list[dict]) -> Path:
    """The rows in the form that the name says."""
    lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
    if path.name.endswith(".parquet"):
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    else:
        path.write_bytes(gzip.compress(lines) if path.name.endswith(".gz") else lines)
    return path


def read(path: Path) -> list[dict]:
    """The rows of a table of any form."""
    if path.name.endswith(".parquet"):
        return pyarrow.parquet.read_table(path).to_pylist()
    lines = gzip.decompress(path.read_bytes()) if path.name.endswith(".gz") else path.read_bytes()
    return [json.loads(line) for line in lines.splitlines()]


ROWS = [{"n": i, "completion": "" if i % 7 == 3 else str(i % 3), "gold": "1", "text": "ü"} for i in range(57)]


@pytest.mark.parametrize("source", ENDINGS)
@pytest.mark.parametrize("target", ENDINGS)
def test_every_row_comes_back_in_order_with_its_reward(source: str, target: str, tmp_path: Path) -> None:
    out = tmp_path / f"out.{target}"
    data = table(tmp_path / f"in.{source}", ROWS)
    summary = score(Job(data, f"{SERVED}:same", out, {"answer": "gold"}, chunk=10))
    expected = [None if not row["completion"] else float(row["completion"] == "1") for row in ROWS]
    rows = read(out)
    assert [row["reward"] for row in rows] == expected
    assert [row["part/same"] for row in rows] == expected
    assert [row["status"] for row in rows] == ["not_applicable" if value is None else "scored" for value in expected]
    assert [{name: row[name] for name in ROWS[0]} for row in rows] == ROWS
    judged = [value for value in expected if value is not None]
    assert (summary.rows, summary.judged, summary.mean) == (57, len(judged), pytest.approx(sum(judged) / len(judged)))
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([data.name, out.name])


@pytest.mark.parametrize("target", ["jsonl", "jsonl.gz"])
def test_letters_that_end_lines_elsewhere_and_half_letters_stay(target: str, tmp_path: Path) -> None:
    texts = ["a\u2028b\u0085\u2029\r\x0b", "\ud800 alone", "\U0001f600"]
    data = table(tmp_path / "in.jsonl", [{"completion": text, "answer": "a"} for text in texts])
    out = tmp_path / f"out.{target}"
    score(Job(data, f"{SERVED}:same", out))
    lines = gzip.decompress(out.read_bytes()) if target.endswith("gz") else out.read_bytes()
    assert [json.loads(line)["completion"] for line in lines.decode("utf-8").split("\n")[:-1]] == texts


def test_ready_made_rewards_score_as_they_do_alone(tmp_path: Path) -> None:
    rows = [{"completion": f"The answer is {i}.", "answer": "4"} for i in range(9)]
    out = tmp_path / "out.jsonl"
    score(Job(table(tmp_path / "in.jsonl", rows), "steelyard.rewards:math_correct", out))
    alone = [float(score_one(math_correct, **row).values[0]) for row in rows]
    assert [row["reward"] for row in read(out)] == alone
    references = [{"completion": "the cat sat on the mat", "references": ["the cat sat on a mat"]}] * 3
    score(Job(table(tmp_path / "r.jsonl", references), "steelyard.rewards:bleu", tmp_path / "bleu.jsonl"))
    assert [round(row["reward"], 4) for row in read(tmp_path / "bleu.jsonl")] == [0.5373] * 3


@pytest.mark.parametrize("workers", [1, 2])
def test_a_reward_that_compares_sees_whole_groups(workers: int, tmp_path: Path) -> None:
    sizes = [1, 4, 3, 25, 2, 2, 9, 1]
    rows = [{"completion": "x", "q": ["key", i]} for i, size in enumerate(sizes) for _ in range(size)]
    job = Job(
        table(tmp_path / "in.jsonl", rows), f"{SERVED}:share_of_group", tmp_path / "out.jsonl", group="q", chunk=5
    )
    score(job, run=in_processes(workers) if workers > 1 else in_order)
    assert [row["reward"] for row in read(job.out)] == [size for size in sizes for _ in range(size)]


@given(sizes=st.lists(st.integers(1, 12), min_size=1, max_size=12), chunk=st.integers(1, 9))
def test_chunks_hold_every_row_once_and_whole_groups(
    sizes: list[int], chunk: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    rows = [{"q": i, "n": j} for i, size in enumerate(sizes) for j in range(size)]
    path = table(tmp_path_factory.mktemp("groups") / "in.jsonl", rows)
    pieces = list(chunks(path, chunk, group="q"))
    assert [row for piece in pieces for row in rows_of(piece, path)] == rows
    assert [piece.rows for piece in pieces][-1] == len(rows)
    held = [{row["q"] for row in rows_of(piece, path)} for piece in pieces]
    assert sum(map(len, held)) == len(sizes)


def test_rows_of_a_group_must_follow_each_other(tmp_path: Path) -> None:
    rows = [{"completion": "x", "q": q} for q in "aabba"]
    job = Job(
        table(tmp_path / "in.jsonl", rows), f"{SERVED}:share_of_group", tmp_path / "out.jsonl", group="q", chunk=1
    )
    with pytest.raises(SteelyardError, match=r"line 5: the group q=\"a\" stood above already"):
        score(job)


GOOD = '{"completion": "1", "answer": "1"}\n'


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"completion": "1", \n', r"line 5: this is not JSON"),
        ("[1]\n", r"line 5: this is a JSON list"),
        ('{"completion": "1"}\n', r"line 5: there is no field 'answer'; it has completion"),
        ('{"answer": "1"}\n', r"line 5: there is no field 'completion'"),
        (
            '{"completion": "1", "answer": "1", "reward": 1}\n',
            r"line 5: there is a field 'reward' already; give --prefix",
        ),
        ("\xff\n", r"line 5: this is not JSON"),
    ],
)
@pytest.mark.parametrize("workers", [1, 2])
def test_a_bad_row_is_named_and_nothing_is_lost(line: str, words: str, workers: int, tmp_path: Path) -> None:
    if workers == 2 and "not JSON" not in words:
        pytest.skip("one kind of row is enough for processes")
    data, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    data.write_bytes((GOOD * 3 + "\n" + line + GOOD * 2).encode("latin-1"))
    run = in_processes(2) if workers == 2 else in_order
    job = Job(data, f"{SERVED}:same", out, chunk=2)
    with pytest.raises(SteelyardError, match=words):
        score(job, run=run)
    assert not out.exists()
    assert read(tmp_path / "out.jsonl.partial")
    data.write_text(GOOD * 3 + "\n" + GOOD + GOOD * 2)
    summary = score(job, run=run, resume=True)
    assert (summary.rows, summary.before, len(read(out))) == (6, 2, 6)


def test_an_error_of_the_reward_names_the_line(tmp_path: Path) -> None:
    data = table(tmp_path / "in.jsonl", [{"completion": word} for word in ("a", "b", "c", "boom")])
    with pytest.raises(SteelyardError, match=r"sample 'line 4'\): KeyError"):
        score(Job(data, f"{SERVED}:troublesome", tmp_path / "out.jsonl", chunk=2))


def test_a_process_that_dies_is_told(tmp_path: Path) -> None:
    data = table(tmp_path / "in.jsonl", [{"completion": word} for word in ("a", "b", "c", "die")])
    with pytest.raises(SteelyardError, match=r"a process that judged died.*--resume"):
        score(Job(data, f"{SERVED}:troublesome", tmp_path / "out.jsonl", chunk=2), run=in_processes(2))


def test_what_stands_in_the_way_is_told(tmp_path: Path) -> None:
    data, out = table(tmp_path / "in.jsonl", ROWS), tmp_path / "out.jsonl"
    job = Job(data, f"{SERVED}:same", out, {"answer": "gold"}, chunk=10)
    stop_after(job, 2)
    with pytest.raises(SteelyardError, match="was begun before; go on with --resume"):
        score(job)
    with pytest.raises(SteelyardError, match="other settings: chunk was 10 and is 9"):
        score(Job(data, job.reward, out, job.mapping, chunk=9), resume=True)
    table(data, [{**row, "text": "other"} for row in ROWS])
    with pytest.raises(SteelyardError, match="has changed above row 10"):
        score(job, resume=True)
    table(data, ROWS[:15])
    with pytest.raises(SteelyardError, match="has changed above row 20"):
        score(job, resume=True)
    table(data, ROWS)
    assert score(job, resume=True).before == 20
    assert is_done(job)
    with pytest.raises(SteelyardError, match="is there already"):
        score(job)
    for name, words in {"gone.jsonl": "no file", "data.csv": "ends in none of"}.items():
        with pytest.raises(SteelyardError, match=words):
            score(Job(tmp_path / name, job.reward, tmp_path / "new.jsonl"))
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(SteelyardError, match="no rows"):
        score(Job(tmp_path / "empty.jsonl", job.reward, tmp_path / "new.jsonl"))
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(b'{"completion": "a"}\n' * 1000)[:-12])
    with pytest.raises(SteelyardError, match="cannot be read"):
        score(Job(tmp_path / "cut.jsonl.gz", f"{SERVED}:troublesome", tmp_path / "new.jsonl"))
    (tmp_path / "no.parquet").write_bytes(b"nothing")
    with pytest.raises(SteelyardError, match="no Parquet file"):
        score(Job(tmp_path / "no.parquet", f"{SERVED}:troublesome", tmp_path / "new.jsonl"))
    assert not (tmp_path / "new.jsonl").exists()


def test_a_reward_that_was_edited_does_not_go_on_with_the_rows_of_before(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("def judged(completion: str) -> float:\n    return 1.0\n")
    data = table(tmp_path / "in.jsonl", [{"completion": "a"}] * 6)
    job = Job(data, f"{file}:judged", tmp_path / "out.jsonl", chunk=2)
    stop_after(job, 1)
    before = file.read_text()
    file.write_text(before.replace("1.0", "0.0"))
    with pytest.raises(SteelyardError, match=r"the content of mine\.py was 'SHA-256"):
        score(job, resume=True)
    file.write_text(before)
    assert score(job, resume=True).mean == 1.0


def test_a_column_that_the_reward_does_not_read_cannot_be_mapped(tmp_path: Path) -> None:
    data = table(tmp_path / "in.jsonl", [{"completion": "a", "answer": "b", "gold": "a"}])
    with pytest.raises(SteelyardError, match="reads answer, completion and no 'anwser'"):
        score(Job(data, f"{SERVED}:same", tmp_path / "out.jsonl", {"anwser": "gold"}))
    compares = Job(data, f"{SERVED}:share_of_group", tmp_path / "out.jsonl", {"anything": "gold"})
    assert score(compares).rows == 1  # a batch reward does not say what it reads


def stop_after(job: Job, pieces: int) -> None:
    """Score some chunks, then stop as Ctrl-C does."""
    seen = []

    def told(_: Summary, extent: int) -> None:
        seen.append(extent)
        if len(seen) == pieces:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        score(job, told=told)


def test_rows_that_differ_in_their_fields_become_one_parquet_table(tmp_path: Path) -> None:
    rows = [{"completion": "a", **({"x": i} if i < 4 else {"y": "text"})} for i in range(8)]
    out = tmp_path / "out.parquet"
    score(Job(table(tmp_path / "in.jsonl", rows), f"{SERVED}:troublesome", out, chunk=3))
    assert [(row["x"], row["y"]) for row in read(out)] == [(i, None) if i < 4 else (None, "text") for i in range(8)]


def command(job: Job, *options: str) -> list[str]:
    """The command line of a job."""
    words = [
        sys.executable,
        "-m",
        "steelyard.cli",
        "score",
        str(job.data),
        "--reward",
        job.reward,
        "--out",
        str(job.out),
    ]
    mapped = [f"--map={column}={field}" for column, field in job.mapping.items()]
    return [*words, *mapped, "--chunk", str(job.chunk), *options]


ENVIRONMENT = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}


@pytest.mark.slow
@pytest.mark.parametrize(("ending", "workers"), [("jsonl", 1), ("jsonl.gz", 2), ("parquet", 1)])
def test_kills_at_any_moment_lose_and_double_no_row(ending: str, workers: int, tmp_path: Path) -> None:
    rows = [{"n": i, "completion": f"sleep 0.00{i % 5}", "answer": "x"} for i in range(1500 * workers)]
    data = table(tmp_path / "in.jsonl", rows)
    job = Job(data, f"{SERVED}:troublesome", tmp_path / f"out.{ending}", chunk=20)
    dice, kills = random.Random(ending), 0
    while True:
        process = subprocess.Popen(command(job, "--resume", "--workers", str(workers)), env=ENVIRONMENT)
        try:
            assert process.wait(0.9 + 0.6 * dice.random() if kills < 5 else 120) == 0
            break
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
            time.sleep(0.1)
    assert kills >= 2
    whole = Job(data, job.reward, tmp_path / f"whole.{ending}", chunk=20)
    score(whole)
    assert read(job.out) == read(whole.out)
    assert [row["n"] for row in read(job.out)] == list(range(len(rows)))
    assert not list(tmp_path.glob("*.journal")) and not list(tmp_path.glob("*.partial"))


def test_a_second_process_is_kept_off(tmp_path: Path) -> None:
    data = table(tmp_path / "in.jsonl", [{"completion": "sleep 0.2"}] * 40)
    job = Job(data, f"{SERVED}:troublesome", tmp_path / "out.jsonl", chunk=1)
    process = subprocess.Popen(command(job), env=ENVIRONMENT)
    journal = tmp_path / "out.jsonl.journal"
    try:
        while not journal.exists() or journal.read_bytes().count(b"\n") < 2:
            time.sleep(0.05)
        with pytest.raises(SteelyardError, match="another process writes"):
            score(job, resume=True)
    finally:
        process.kill()
        process.wait()
    assert score(job, resume=True).rows == 40


def test_the_command_tells_what_came_out(tmp_path: Path) -> None:
    data = table(tmp_path / "in.jsonl", ROWS)
    job = Job(data, f"{SERVED}:same", tmp_path / "out.jsonl", {"answer": "gold"})
    done = subprocess.run(command(job), env=ENVIRONMENT, capture_output=True, text=True)
    assert (done.returncode, done.stderr.count("Traceback")) == (0, 0)
    assert "57 rows" in done.stdout and "8 rows have no reward" in done.stdout and "rows a second" in done.stdout
    again = subprocess.run(command(job, "--resume"), env=ENVIRONMENT, capture_output=True, text=True)
    assert (again.returncode, "nothing is left to do" in again.stdout) == (0, True)
    wrong = subprocess.run(command(job), env=ENVIRONMENT, capture_output=True, text=True)
    assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1)


@pytest.mark.slow
def test_ray_gives_the_same_file(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    from steelyard.engines.ray import on_ray

    data = table(tmp_path / "in.jsonl", ROWS)
    here = Job(data, f"{SERVED}:mixed", tmp_path / "here.jsonl", {"answer": "gold"}, chunk=7)
    there = Job(data, f"{SERVED}:mixed", tmp_path / "there.jsonl", {"answer": "gold"}, chunk=7)
    score(here)
    summary = score(there, run=on_ray(2))
    assert there.out.read_bytes() == here.out.read_bytes()
    assert summary.rows == 57
    bad = Job(data, f"{SERVED}:same", tmp_path / "bad.jsonl", chunk=7)
    with pytest.raises(SteelyardError, match="line 1: there is no field 'answer'"):
        score(bad, run=on_ray(1))
    missing = Job(data, f"{SERVED}:nothing", tmp_path / "missing.jsonl")
    with pytest.raises(SteelyardError, match="has no 'nothing'"):
        score(missing, run=on_ray(1))


@given(text=st.text(alphabet="ab <>", max_size=12))
def test_endings_are_cut_and_nothing_else(text: str) -> None:
    cut = without_endings(text + "<e> \n", ("<e>",))
    assert not cut.rstrip().endswith("<e>")
    assert (text + "<e> \n").startswith(cut)
    assert without_endings(text, ()) == text


@pytest.mark.parametrize("target", ENDINGS)
def test_a_row_without_a_completion_is_written_without_a_reward(target: str, tmp_path: Path) -> None:
    said = ["1", None, "2", None, None, "1"]
    rows = [{"completion": text, "answer": "1"} for text in said]
    out = tmp_path / f"out.{target}"
    summary = score(Job(table(tmp_path / "in.jsonl", rows), f"{SERVED}:same", out, chunk=2))
    assert (
        [row["reward"] for row in read(out)] == [row["part/same"] for row in read(out)] == [1, None, 0, None, None, 1]
    )
    assert [row["completion"] for row in read(out)] == said
    assert summary.statuses == {"scored": 3, "not_applicable": 3}


def test_half_letters_have_no_parquet_form(tmp_path: Path) -> None:
    data = table(tmp_path / "in.jsonl", [{"completion": "\ud800", "answer": "a"}])
    with pytest.raises(SteelyardError, match=r"no Parquet form.*write \.jsonl instead"):
        score(Job(data, f"{SERVED}:same", tmp_path / "out.parquet"))
