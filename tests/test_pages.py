"""The code on the README's and the guide's pages runs as it stands there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NEEDS_MORE = {"audit.md", "engines.md", "images.md", "monitor.md", "training.md"}
"""Pages whose code needs data, a hub, a reader's reward, or minutes; it is compiled, and its imports must be there."""
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path) -> list[str]:
    """The page's Python blocks."""
    return re.findall(r"^```python\n(.*?)^```", page.read_text("utf-8"), re.DOTALL | re.MULTILINE)


def run_block(code: str, page: Path, names: dict[str, object]) -> None:
    """Run one block as a person would type it after those before it."""
    exec(compile(code, str(page), "exec"), names)


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)], ids=lambda page: page.name)
def test_python_on_pages_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    for module in ("torch", "cv2"):
        pytest.importorskip(module)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "page"}
    for code in blocks(page):
        compile(code, str(page), "exec")
        if page.name in NEEDS_MORE:
            code = "\n".join(re.findall(r"^(?:from|import) steelyard.*$", code, re.MULTILINE))
        run_block(code, page, names)
    if page.name == "README.md":
        printed = capsys.readouterr().out.strip().splitlines()[-1]
        assert re.fullmatch(
            r"correct \+ 0\.5 \* think_format \+ 0\.1 \* brief: \d\.\d\d -> \d\.\d\d under corruption", printed
        )
        assert (tmp_path / "runs" / "first" / "run.json").is_file()
