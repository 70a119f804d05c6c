"""The house's own rules, read off the code: who imports whom, sizes, docstrings, what stays light, what pages say."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HOUSE = ROOT / "steelyard"
FILES = sorted(HOUSE.rglob("*.py"))

FLOORS = {
    "types": 0,
    "json_lines": 0,
    "__init__": 0,
    "perturb": 1,
    "environments": 1,
    "rewards": 1,
    "policies": 1,
    "learn": 2,
    "audits": 2,
    "worlds": 2,
    "methods": 3,
    "engines": 3,
    "report": 3,
    "cli": 4,
}
"""Part of the house to floor: imports point down, or stay within a part."""

SIDEWAYS = {
    ("json_lines", "types"),
    ("audits", "worlds"),
    ("worlds", "learn"),
    ("methods", "report"),
    ("rewards", "policies"),
    ("environments", "rewards"),
}
"""Neighbours that may meet: PVRBench asks in the video world's words; a world trains its own base policy; a study
ends with its page; a tool reads a step as its reward does; learned rewards and local judges load models as policies
do."""

APART = {"rewards": {"learn"}, "learn": {"rewards"}}
"""Whatever the floors say: these never meet."""


def part_of(path: Path) -> str:
    """The part of the house that a file belongs to."""
    return path.relative_to(HOUSE).parts[0].removesuffix(".py")


def imports_of(path: Path) -> Iterator[tuple[int, str]]:
    """Line and part of every import of the house in a file, those inside functions included."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            words = name.split(".")
            if words[0] == "steelyard":
                yield node.lineno, words[1] if len(words) > 1 and words[1] in FLOORS else "__init__"


def where(path: Path) -> str:
    """The path as a person would write it."""
    return str(path.relative_to(ROOT))


def may_import(part: str, other: str) -> bool:
    """Down, within a part, or to a neighbour that is named above."""
    if other in APART.get(part, ()):
        return False
    return other in (part, "__init__") or FLOORS[other] < FLOORS[part] or (part, other) in SIDEWAYS


def test_every_part_has_a_floor() -> None:
    assert {part_of(path) for path in FILES} <= set(FLOORS)


def test_imports_point_down() -> None:
    wrong = [
        f"{where(path)}:{line} imports {part}"
        for path in FILES
        for line, part in imports_of(path)
        if not may_import(part_of(path), part)
    ]
    assert wrong == []


def test_no_relative_imports() -> None:
    """The import check above reads absolute names only."""
    nodes = [(path, node) for path in FILES for node in ast.walk(ast.parse(path.read_text("utf-8")))]
    assert [where(path) for path, node in nodes if isinstance(node, ast.ImportFrom) and node.level] == []


def public(tree: ast.Module) -> Iterator[tuple[str, ast.AST]]:
    """Public functions, classes and methods at the top of a module; a protocol's `...` included."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            if not any("overload" in ast.unparse(decorator) for decorator in node.decorator_list):
                yield node.name, node
            if isinstance(node, ast.ClassDef):
                for inner in node.body:
                    if isinstance(inner, ast.FunctionDef) and not inner.name.startswith("_"):
                        yield f"{node.name}.{inner.name}", inner


def test_every_file_and_public_name_says_what_it_is() -> None:
    silent = []
    for path in FILES:
        tree = ast.parse(path.read_text("utf-8"))
        if ast.get_docstring(tree) is None:
            silent.append(where(path))
        silent += [f"{where(path)}: {name}" for name, node in public(tree) if ast.get_docstring(node) is None]  # type: ignore[arg-type]
    assert silent == []


def test_sizes() -> None:
    long = []
    for path in [*FILES, *(ROOT / "tests").rglob("*.py")]:
        text = path.read_text("utf-8")
        if text.count("\n") > 600:
            long.append(f"{where(path)}: {text.count(chr(10))} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                body = node.body[1:] if ast.get_docstring(node) and len(node.body) > 1 else node.body
                lines = (node.end_lineno or 0) - body[0].lineno + 1
                if lines > 60:
                    long.append(f"{where(path)}: {node.name} has {lines} lines")
    assert long == []


def test_nothing_unsafe_is_called() -> None:
    """Checkpoints are safetensors and JSON, YAML is safe-loaded; nothing is evaluated but inside the sandbox."""
    forbidden = re.compile(
        r"(?<![\w.])(?:builtins\.)?(?:eval|exec)\("
        r"|\btorch\.(?:load|save)\(|\bimport pickle\b|\bpickle\.|\byaml\.load\(|shell=True"
    )
    calls = [
        f"{where(path)}:{number}"
        for path in FILES
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if forbidden.search(line) and path.parent != HOUSE / "rewards" / "sandbox" / "inside"
    ]
    assert calls == []


LIGHT = ("", ".types", ".cli", ".rewards", ".engines", ".perturb", ".perturb.video")


@pytest.mark.parametrize("module", [f"steelyard{name}" for name in LIGHT])
def test_light_parts_do_not_load_torch(module: str) -> None:
    code = f"import sys, {module}; print(sorted({{'torch', 'transformers', 'trl'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def shell_lines(page: Path) -> list[str]:
    """Commands in a page's shell blocks, continued lines joined, prompts and comments cut."""
    blocks = re.findall(r"```(?:bash|console|shell|sh)\n(.*?)```", page.read_text("utf-8"), re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [
        line.split(" # ")[0].strip().removeprefix("$ ") for line in lines if line.strip() and line.strip()[0] != "#"
    ]


PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=where)
def test_pages_name_commands_that_exist(page: Path) -> None:
    import typer

    from steelyard.cli import app

    root = typer.main.get_command(app)
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    for line in shell_lines(page):
        words = line.split()
        if words[0].endswith("make"):
            assert {word for word in words[1:] if "=" not in word} <= targets, line
        if words[0].endswith("steelyard"):
            command, rest = root, words[1:]
            while rest and rest[0] in getattr(command, "commands", {}):
                command, rest = command.commands[rest[0]], rest[1:]
            assert command is not root, line
            known = {option for parameter in command.params for option in parameter.opts} | {"--help", "--debug"}
            assert {word.split("=")[0] for word in rest if word.startswith("--")} <= known, line


def test_versions_agree() -> None:
    import steelyard

    assert f"## {steelyard.__version__}" in (ROOT / "CHANGELOG.md").read_text("utf-8")
    pinned = (ROOT / "constraints.txt").read_text("utf-8")
    assert f"\n{re.search(r'^TORCH := (.*)$', (ROOT / 'Makefile').read_text('utf-8'), re.MULTILINE)[1]}\n" in pinned  # type: ignore[index]
    assert not re.search(r"^opencv-(python|contrib-python)==", pinned, re.MULTILINE), "only the headless build of cv2"
