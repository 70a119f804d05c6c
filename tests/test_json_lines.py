"""JSON lines: rows with their lines' numbers, and one sentence for what is none."""

import gzip

import pytest

from steelyard.json_lines import json_lines, json_object, logged_rows
from steelyard.types import SteelyardError


def test_rows_keep_their_lines_numbers(tmp_path):
    text = '\ufeff{"a": 1}\n\n  \n{"a": "\u2028"}\r\n{"a": 3}'
    (plain := tmp_path / "rows.jsonl").write_text(text, "utf-8")
    (packed := tmp_path / "rows.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    expected = [(1, {"a": 1}), (4, {"a": "\u2028"}), (5, {"a": 3})]
    assert list(json_lines(plain)) == list(json_lines(packed)) == expected


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"{", "rows.jsonl, line 2: this is not JSON"),
        (b"[1]", "rows.jsonl, line 2: this is a JSON list"),
        (b"[" * 100_000, "rows.jsonl, line 2: this is nested too deeply"),
        (b'{"a": "\xff"}', "rows.jsonl cannot be read"),
    ],
)
def test_what_is_no_row_is_said_with_its_place(tmp_path, line, why):
    (path := tmp_path / "rows.jsonl").write_bytes(b'{"a": 1}\n' + line + b"\n")
    with pytest.raises(SteelyardError, match=why):
        list(json_lines(path))


@pytest.mark.parametrize(
    "damage", [lambda data: b"no gzip", lambda data: data[:-12], lambda data: data[:12] + bytes(9)]
)
def test_a_packed_file_that_is_damaged(tmp_path, damage):
    (path := tmp_path / "rows.jsonl.gz").write_bytes(damage(gzip.compress(b'{"a": 1}\n' * 99)))
    with pytest.raises(SteelyardError, match="gz cannot be read"):
        list(json_lines(path))


def test_a_file_that_is_not_there(tmp_path):
    for read in (lambda path: list(json_lines(path)), logged_rows):
        with pytest.raises(SteelyardError, match="No such file"):
            read(tmp_path / "rows.jsonl")


def test_a_log_may_end_in_the_middle_of_a_line_and_only_there(tmp_path):
    (path := tmp_path / "log.jsonl").write_bytes(b'{"step": 1}\n{"step": 2}\n{"ste')
    assert logged_rows(path) == [{"step": 1}, {"step": 2}]
    path.write_bytes(b'{"step": 1}\n{"ste\n{"step": 3}\n')
    with pytest.raises(SteelyardError, match="line 2: this is not JSON"):
        logged_rows(path)


def test_bytes_are_read_as_text_is():
    assert json_object(b'{"a": "\xc3\xa4"}', "here") == json_object('{"a": "ä"}', "here") == {"a": "ä"}
