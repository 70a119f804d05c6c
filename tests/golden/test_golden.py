"""The golden files that this project passes, and that the check can fail."""

import io
import json
import subprocess
import sys
from pathlib import Path

from tests.golden.check import differences, run_folder

FILES = Path(__file__).parent / "files"


def test_every_case_of_every_file_passes() -> None:
    out = io.StringIO()
    assert run_folder(FILES, [], out) == 0, out.getvalue()
    assert out.getvalue().splitlines()[-1].endswith(", 0 failed")


def test_a_wrong_value_is_found(tmp_path: Path) -> None:
    content = json.loads((FILES / "01-rova.json").read_text())
    case = next(c for c in content["cases"] if c["name"] == "format")
    case["outputs"]["reward"][0] += 1e-3
    (tmp_path / "01-rova.json").write_text(json.dumps(content))
    command = [sys.executable, "-m", "tests.golden", str(tmp_path), "--only", "01"]
    run = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert run.returncode == 1 and run.stdout.splitlines()[-1] == f"{len(content['cases']) - 1} passed, 1 failed"


def test_differences_see_types_keys_and_tolerances() -> None:
    assert not list(differences({"a": [1.000001]}, {"a": [1.0]}))
    assert list(differences({"a": 1.0001}, {"a": 1.0})) and list(differences({"b": 1}, {"a": 1}))
    assert list(differences(True, 1.0)) and list(differences(1, True)) and list(differences([1], [1, 2]))
