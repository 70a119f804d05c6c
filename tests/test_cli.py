"""The command line: what helps, what it says when something is wrong, and which code it leaves with."""

import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from steelyard import cli
from steelyard.types import SteelyardError


def leave(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """Exit code, standard output and error of a command line."""
    with pytest.raises(SystemExit) as left:
        cli.main(words)
    code = left.value.code
    printed = capsys.readouterr()
    return int(code or 0), printed.out, printed.err


def commands() -> list[tuple[str, ...]]:
    """Every command, with the groups that it stands in."""
    root = typer.main.get_command(cli.app)
    found: list[tuple[str, ...]] = []
    for name, command in root.commands.items():  # type: ignore[attr-defined]
        found += [(name, inner) for inner in getattr(command, "commands", {})] or [(name,)]
    return found


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch):
    """Make `steelyard version` raise what it is given."""

    def install(error: BaseException) -> None:
        def fail(*_: object) -> None:
            raise error

        monkeypatch.setattr(typer, "echo", fail)

    return install


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_help_teaches_with_an_example(command: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = leave(capsys, *command, "--help")
    assert code == 0
    assert "Example: steelyard " + " ".join(command) in " ".join(out.split())


def test_all_commands_are_there() -> None:
    assert {" ".join(command) for command in commands()} == {
        "audit", "run", "train", "evidence", "methods",
        "train-reward", "perturb video", "bench pvr", "watch", "report",
        "version",
        "score", "serve", "try", "collapse",
    }  # fmt: skip


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    import steelyard

    assert leave(capsys, "version") == (0, f"steelyard {steelyard.__version__}\n", "")
    assert leave(capsys, "--version") == (0, f"steelyard {steelyard.__version__}\n", "")


def test_bad_input_is_one_line_on_standard_error(failing, capsys: pytest.CaptureFixture[str]) -> None:
    failing(SteelyardError("sample 'a' has no [video]; give it one " + "x" * 200))
    code, out, err = leave(capsys, "version")
    assert (code, out) == (2, "")
    assert err == "steelyard: sample 'a' has no [video]; give it one " + "x" * 200 + "\n"


@pytest.mark.parametrize("words", [("--debug", "version"), ("version", "--debug")])
def test_debug_lets_the_traceback_through(words: tuple[str, ...], failing) -> None:
    failing(SteelyardError("wrong"))
    with pytest.raises(SteelyardError, match="wrong"):
        cli.main(words)


@pytest.mark.parametrize(
    ("module", "extra"), [("torch", "train"), ("cv2", "video"), ("transformers.models", "train"), ("plotly", "report")]
)
def test_a_missing_package_names_its_extra(
    module: str, extra: str, failing, capsys: pytest.CaptureFixture[str]
) -> None:
    failing(ModuleNotFoundError(f"No module named {module!r}", name=module))
    code, _, err = leave(capsys, "version")
    assert code == 2
    assert err.count("\n") == 1
    assert f"pip install 'steelyard[{extra}]'" in err


@pytest.mark.parametrize(
    "error",
    [
        ModuleNotFoundError("No module named 'steelyard.gone'", name="steelyard.gone"),
        RuntimeError("out of memory\nand more"),
        KeyError("x"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_faults_of_ours_say_how_to_see_the_traceback(
    error: Exception, failing, capsys: pytest.CaptureFixture[str]
) -> None:
    failing(error)
    code, out, err = leave(capsys, "version")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert err.startswith(f"steelyard: {type(error).__name__}: ")
    assert "--debug" in err
    with pytest.raises(type(error)):
        cli.main(["version", "--debug"])


def test_a_file_that_is_not_there(failing, capsys: pytest.CaptureFixture[str]) -> None:
    failing(FileNotFoundError(2, "No such file or directory", "clips/a.mp4"))
    code, _, err = leave(capsys, "version")
    assert code == 2
    assert "clips/a.mp4: No such file or directory" in err


def test_interrupt_leaves_with_130(failing, capsys: pytest.CaptureFixture[str]) -> None:
    failing(KeyboardInterrupt())
    assert leave(capsys, "version") == (130, "", "steelyard: stopped\n")


def test_an_interrupted_run_has_spoken_for_itself(failing, capsys: pytest.CaptureFixture[str]) -> None:
    failing(KeyboardInterrupt("stopped after step 3; run the same command again"))
    assert leave(capsys, "version") == (130, "", "")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("rune", "no such command 'rune'; did you mean 'run'?"),
        ("run", "missing argument 'method'; see steelyard run --help"),
        ("evidence rova --seeds 0", "invalid value for '--seeds': it must be greater than or equal to 1"),
        ("perturb video", "give IN and OUT, or IN and --grid FILE.png, or --list; see steelyard perturb video --help"),
        ("perturb video a.mp4 b.mp4 --severity 9", "'--severity': it must be less than or equal to 5"),
        ("perturb video a.mp4 b.mp4 --seed -1", "'--seed': it must be greater than or equal to 0"),
        ("perturb video a.mp4 b.mp4 --sed 1", "no such option: --sed"),
        ("--debug perturb video a.mp4 b.mp4 --sed 1", "no such option: --sed"),
    ],
)
def test_misuse_is_one_line_and_leaves_with_2(line: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = leave(capsys, *line.split())
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("steelyard: ")
    assert said in err


@pytest.mark.parametrize("group", [(), ("perturb",), ("bench",)])
def test_a_group_alone_shows_its_help(group: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = leave(capsys, *group)
    assert code == 2
    assert "Commands" in out + err


@pytest.mark.parametrize(
    "line",
    [
        "run rova --out taken",
        "run rova --out taken/deeper/still",
        "evidence rova --out taken/result.json",
        "bench pvr --videos . --questions q --model m --out taken",
    ],
)
def test_where_nothing_can_be_kept_nothing_is_begun(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for module in ("torch", "cv2"):
        pytest.importorskip(module)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").write_text("")
    assert leave(capsys, *line.split()) == (2, "", "steelyard: taken is a file; give a folder to write into\n")


def test_a_result_needs_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torch")
    code, _, err = leave(capsys, "evidence", "rova", "--out", str(tmp_path))
    assert (code, err) == (2, f"steelyard: {tmp_path} is a folder; give the path of a JSON file\n")


def test_severities_are_one_to_five(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for module in ("torch", "cv2"):
        pytest.importorskip(module)
    line = f"bench pvr --videos v --questions q --model m --out {tmp_path} --severities 1,9"
    code, _, err = leave(capsys, *line.split())
    assert (code, err) == (2, "steelyard: --severities has '9'; give whole numbers from 1 to 5\n")


@pytest.mark.parametrize(
    ("line", "place", "expected"),
    [
        ("run rova", "methods.study:run_study", {"slug": "rova", "out": Path("runs/rova"), "seed": 0, "steps": None}),
        (
            "run rova --model m --data d.jsonl --steps 3 --out o --seed 4",
            "methods.study:run_study",
            {"model": "m", "data": Path("d.jsonl"), "steps": 3, "out": Path("o"), "seed": 4, "world": None},
        ),
        ("train c.yaml", "methods.training:train_from_file", {"path": Path("c.yaml")}),
        (
            "evidence rova --seeds 3 --first-seed 7 --out e.json --quick",
            "methods.evidence:run_evidence",
            {"slug": "rova", "seeds": 3, "first_seed": 7, "out": Path("e.json"), "quick": True},
        ),
        ("methods rova", "methods.cards:card_page", {"slug": "rova"}),
        ("methods", "methods.cards:listing", {}),
        ("report runs/x", "report:build_report", {}),
        (
            "perturb video a.mp4 b.mp4 --kind rain --severity 5 --seed 2",
            "perturb.video.files:perturb_command",
            {"source": Path("a.mp4"), "target": Path("b.mp4"), "kind": "rain", "severity": 5, "seed": 2, "grid": None},
        ),
        (
            "bench pvr --videos v --questions q --model m --out o --kind fog --kind rain --severity 5 --judge j",
            "audits.pvrbench:pvr_command",
            {"kinds": ("fog", "rain"), "severities": (5,), "judge_model": "j", "judge_key_env": "OPENAI_API_KEY"},
        ),
        (
            "bench pvr --videos v --questions q --model m --out o --kinds fog,rain --severities 1,3 --frames 8"
            " --size 56 --seed 4 --max-tokens 9 --judge-model j --judge-url http://localhost/v1",
            "audits.pvrbench:pvr_command",
            {"kinds": ("fog", "rain"), "severities": (1, 3), "frames": 8, "size": 56, "seed": 4, "max_tokens": 9}
            | {"judge_model": "j", "judge_url": "http://localhost/v1"},
        ),
        (
            "bench pvr --videos v --questions q --model m --out o",
            "audits.pvrbench:pvr_command",
            {"kinds": (), "severities": (3,), "max_tokens": None, "judge_model": None},
        ),
    ],
)
def test_commands_hand_over_what_was_typed(
    line: str, place: str, expected: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("torch", "cv2", "plotly"):
        pytest.importorskip(module)
    module_name, name = place.split(":")
    module = importlib.import_module(f"steelyard.{module_name}")
    signature = inspect.signature(getattr(module, name))
    calls: list[dict[str, object]] = []

    def record(*given: object, **named: object) -> str:
        calls.append(signature.bind(*given, **named).arguments)
        return ""

    monkeypatch.setattr(module, name, record)
    with pytest.raises(SystemExit) as left:
        cli.main(line.split())
    assert not left.value.code
    (call,) = calls
    assert expected.items() <= call.items()


def test_the_extras_exist() -> None:
    import tomllib

    declared = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text("utf-8"))["project"]
    for extra, modules in cli.EXTRAS.items():
        packages = " ".join(declared["optional-dependencies"][extra]).lower()
        named = {
            "cv2": "opencv-python-headless",
            "PIL": "pillow",
            "prometheus_client": "prometheus-client",
            "jsonschema_specifications": "jsonschema",
            "datasets": "trl",
            "tensordict": "verl",
            "omegaconf": "verl",
        }
        for module in modules:
            assert named.get(module, module.replace("_", "-")) in packages


def test_the_list_of_kinds_is_one_a_line() -> None:
    pytest.importorskip("cv2")
    done = subprocess.run(
        [sys.executable, "-m", "steelyard.cli", "perturb", "video", "--list"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[:3] == ["dark", "bright", "static_occlusion"]
    assert len(done.stdout.splitlines()) == 12
