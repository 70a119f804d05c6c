"""The page: self-contained, faithful to the study's files, right in a real browser, and clear about what is wrong."""

import html
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from steelyard.report import build_report
from steelyard.report.figures import MOST_POINTS, moving_average, thin
from steelyard.report.page import signed
from steelyard.report.study import read_study
from steelyard.types import SteelyardError
from tests.report.synthetic import ARMS, write_run, write_study

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking")
QUIET += ("--disable-component-update", "--disable-sync", "--disable-default-apps", "--hide-scrollbars")
QUIET += ("--host-resolver-rules=MAP * ~NOTFOUND",)  # no browser of ours asks the network for anything


class Elements(HTMLParser):
    """Every tag with its attributes, and the text outside scripts and styles."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.inside = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.inside = tag

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""

    def handle_data(self, data: str) -> None:
        if self.inside not in ("script", "style"):
            self.text.append(data)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_study(tmp_path_factory.mktemp("study"), steps=40, questions=20)


@pytest.fixture(scope="module")
def page(study: Path) -> str:
    return build_report(study).read_text("utf-8")


def figures_of(page: str) -> dict[str, dict]:
    found = re.search(r'<script type="application/json" id="figures">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def text_of(page: str) -> str:
    return " ".join(" ".join(Elements(page).text).split())


def trace(page: str, title: str, label: str) -> dict:
    """The last trace of an arm in the plot of this title."""
    place = re.search(rf"<b>{re.escape(title)}</b>.*?id=\"(figure-\d+)\"", page, re.DOTALL)
    assert place is not None, title
    return [t for t in figures_of(page)[place[1]]["data"] if t["name"] == label][-1]


def test_nothing_is_loaded_from_elsewhere(page: str) -> None:
    elements = Elements(page)
    for tag, attributes in elements.tags:
        for name in ("src", "href", "srcset", "poster", "action"):
            assert (attributes.get(name) or "data:").startswith(("data:", "#")), (tag, attributes)
    assert not [tag for tag, _ in elements.tags if tag in ("iframe", "object", "embed", "base")]
    policy = next(a["content"] for tag, a in elements.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy == "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:"
    style = page[page.index("<style>") : page.index("</style>")]
    assert "url(" not in style and "@import" not in style


def test_figures_in_the_table_are_the_studys(study: Path, page: str) -> None:
    text = text_of(page)
    for name, (label, _, _) in ARMS.items():
        pvr = json.loads((study / "arms" / name / "pvr.json").read_text())
        low, high = (f"{100 * v:.1f}%" for v in pvr["intervals"]["mean"])
        clean, mean, drop = (f"{100 * pvr[key]:.1f}%" for key in ("clean", "mean", "relative_drop"))
        row = text[text.index(f"{label} {clean}") :]
        assert re.match(rf"{re.escape(label)} {clean} .*? {mean} {low} to {high} {drop} ", row)


def test_headline_compares_the_method_with_its_baseline(study: Path, page: str) -> None:
    rova, grpo = (json.loads((study / "arms" / name / "pvr.json").read_text()) for name in ("rova", "grpo"))
    text = text_of(page)
    assert f"{100 * rova['mean']:.1f}% accuracy under corruption ROVA" in text
    assert f"{signed((rova['mean'] - grpo['mean']) / grpo['mean'])} relative, under corruption against GRPO" in text
    logs = [(study / "arms" / name / "log.jsonl").read_text().splitlines() for name in ("rova", "grpo")]
    ours, theirs = (sum(json.loads(line)["prompts_trained"] for line in log) for log in logs)
    assert f"{100 * ours / theirs:.0f}% as many gradient prompts as GRPO" in text


def test_plots_hold_the_logs_values(study: Path, page: str) -> None:
    for name in ("grpo", "rova"):
        log = [json.loads(line) for line in (study / "arms" / name / "log.jsonl").open()]
        evaluations = [json.loads(line) for line in (study / "arms" / name / "evaluations.jsonl").open()]
        label = ARMS[name][0]
        measured = trace(page, "Reward", f"{label}, measured")
        assert measured["x"] == [row["step"] for row in log]
        assert measured["y"] == pytest.approx([row["reward"] for row in log], rel=1e-5)
        corrupted = trace(page, "Accuracy under corruption", label)
        assert corrupted["y"] == pytest.approx([row["corrupted"] for row in evaluations], rel=1e-5)
    memory = trace(page, "Memory", "ROVA")
    assert memory["y"] == [row["curriculum/memory"] for row in log]
    assert trace(page, "KL to the reference", "ROVA, measured")["y"][6] is None


def test_every_corruption_of_every_arm_is_drawn_with_its_interval(study: Path, page: str) -> None:
    for name, (label, _, _) in ARMS.items():
        pvr = json.loads((study / "arms" / name / "pvr.json").read_text())
        drawn = trace(page, "Accuracy by corruption", label)
        assert [text.replace(" ", "_") for text in drawn["text"]] == ["clean", *pvr["kinds"]]
        assert drawn["x"] == pytest.approx([pvr["clean"], *pvr["kinds"].values()])
        low, high = pvr["intervals"]["kind/fog"]
        fog = drawn["text"].index("fog")
        assert drawn["x"][fog] - drawn["error_x"]["arrayminus"][fog] == pytest.approx(low)
        assert drawn["x"][fog] + drawn["error_x"]["array"][fog] == pytest.approx(high)


def test_difficulty_shares_sum_to_one(page: str) -> None:
    place = re.search(r"<b>Difficulty: ROVA</b>.*?id=\"(figure-\d+)\"", page, re.DOTALL)
    assert place is not None
    traces = figures_of(page)[place[1]]["data"]
    assert [t["name"] for t in traces] == ["easy", "informative", "difficult"]
    assert np.sum([t["y"] for t in traces], axis=0) == pytest.approx(np.ones(40), abs=1e-4)


def test_examples_show_frames_and_answers(page: str) -> None:
    text = text_of(page)
    assert text.count("before · GRPO") == text.count("after · ROVA") == 3
    assert text.count("✗ wrong") == text.count("✓ right") == 3
    images = [a["src"] for tag, a in Elements(page).tags if tag == "img"]
    assert len(images) == 6 and all(source.startswith("data:image/png;base64,") for source in images)


def test_commands_are_there(page: str) -> None:
    text = text_of(page)
    for command in ("steelyard run rova --out runs/demo", "steelyard evidence rova", "steelyard bench pvr --videos"):
        assert command in text


def test_what_models_write_is_text_not_markup(tmp_path: Path) -> None:
    attack = "</script><script>alert(1)</script><img src=x onerror=alert(1)>"
    write_study(tmp_path, steps=3, questions=4)
    path = tmp_path / "examples" / "00" / "example.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"before": attack, "question": attack}))
    about = json.loads((tmp_path / "study.json").read_text())
    about["arms"][1]["label"] = about["title"] = attack
    (tmp_path / "study.json").write_text(json.dumps(about))
    page = build_report(tmp_path).read_text("utf-8")
    assert attack not in page and html.escape(attack, quote=False).split("=")[0] in page
    assert sum(tag == "script" for tag, _ in Elements(page).tags) == 3
    assert attack in [t["name"] for figure in figures_of(page).values() for t in figure["data"]]


def test_a_single_run_is_a_page_too(tmp_path: Path) -> None:
    write_run(tmp_path / "mine", np.random.default_rng(0), "grpo", 12, 0.8, 0.5)
    with (tmp_path / "mine" / "log.jsonl").open("a") as log:
        log.write('{"step": 13, "rew')
    page = build_report(str(tmp_path / "mine")).read_text("utf-8")
    assert "Run mine" in text_of(page) and len(trace(page, "Reward", "mine")["x"]) == 12
    assert "Accuracy by corruption" not in page and "What it cost" in page


def test_only_a_benchmark_is_a_page_too(study: Path, tmp_path: Path) -> None:
    shutil.copy(study / "arms" / "base" / "pvr.json", tmp_path / "pvr.json")
    page = build_report(tmp_path).read_text("utf-8")
    assert "Accuracy by corruption" in page and "What it cost" not in page
    assert f"PVRBench of {tmp_path.name}" in text_of(page)


def test_figures_that_do_not_exist_are_dashes(study: Path, tmp_path: Path) -> None:
    pvr = json.loads((study / "arms" / "base" / "pvr.json").read_text())
    pvr |= {"clean": None, "relative_drop": None, "reasoning": None}
    pvr["kinds"]["fog"] = None
    pvr["intervals"] |= {"clean": [None, None], "kind/fog": [None, None]}
    (tmp_path / "pvr.json").write_text(json.dumps(pvr))
    page = build_report(tmp_path).read_text("utf-8")
    assert trace(page, "Accuracy by corruption", tmp_path.name)["x"][0] is None
    assert f"{tmp_path.name} – " in text_of(page) and "Quality of the reasoning" not in page


def test_building_again_changes_nothing(study: Path, page: str) -> None:
    assert build_report(study).read_text("utf-8") == page
    assert not list(study.glob(".report*"))


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda f: (f / "study.json").unlink(), "no study and no run"),
        (lambda f: (f / "study.json").write_text("{"), "study.json cannot be read as JSON"),
        (lambda f: (f / "study.json").write_text('{"arms": []}'), "names no arms"),
        (lambda f: (f / "study.json").write_text('{"arms": [{"label": "x"}]}'), "arm 0 has no name"),
        (lambda f: shutil.rmtree(f / "arms" / "grpo"), "arm 'grpo': .* holds neither"),
        (lambda f: (f / "arms" / "grpo" / "log.jsonl").write_text("{}\n{\n"), "log.jsonl, line 2"),
        (lambda f: (f / "examples" / "01" / "clean.png").unlink(), "01/clean.png cannot be read"),
        (lambda f: (f / "examples" / "01" / "clean.png").write_bytes(b"GIF89a"), "01/clean.png is no PNG"),
    ],
)
def test_a_broken_study_is_refused_in_one_sentence(tmp_path: Path, break_it, message: str) -> None:
    write_study(tmp_path, steps=2, questions=2)
    break_it(tmp_path)
    with pytest.raises(SteelyardError, match=message):
        build_report(tmp_path)


def test_long_logs_are_thinned_to_means() -> None:
    xs, ys = thin(list(range(4000)), [float(i % 10) for i in range(4000)])
    assert len(xs) == MOST_POINTS and xs[-1] == 3999 and ys == [4.5] * MOST_POINTS
    assert thin([1, 2], [None, 3.0]) == ([1, 2], [None, 3.0])


def test_moving_average_skips_gaps() -> None:
    assert moving_average([1.0, None, 3.0]) == [1.0, None, 3.0]
    values = [2.0] * 30 + [None] + [2.0] * 30
    assert moving_average(values) == [2.0] * 61


def test_arms_keep_their_place_and_the_method_is_the_cards(study: Path) -> None:
    found = read_study(study)
    assert [arm.name for arm in found.arms] == list(ARMS)
    assert found.method.name == "rova" and found.baseline is not None and found.baseline.name == "grpo"


def browse(address: str, folder: Path, *options: str) -> tuple[str, str]:
    """The page's elements after its scripts ran, and what the browser's console said."""
    assert CHROMIUM is not None
    options = (*QUIET, f"--user-data-dir={folder / 'profile'}", "--enable-logging=stderr", *options)
    ran = subprocess.run(
        [CHROMIUM, *options, "--virtual-time-budget=8000", "--dump-dom", address],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return ran.stdout, "\n".join(line for line in ran.stderr.splitlines() if "CONSOLE" in line)


needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no chromium is installed, so no browser can open the page")


@needs_browser
@pytest.mark.parametrize(("scheme", "number"), [("dark", 0), ("light", 1)])
def test_browser_draws_in_the_themes_colours(study: Path, page: str, tmp_path: Path, scheme: str, number: int) -> None:
    option = f"--blink-settings=preferredColorScheme={number}"
    dom, console = browse((study / "report.html").as_uri(), tmp_path, option)
    assert console == ""
    assert f'data-drawn="{scheme}"' in dom
    assert len(re.findall(r'<svg class="main-svg"[^>]*>', dom)) >= len(figures_of(page)) > 10
    drawn = dom[dom.index("</head>") : dom.index('id="figures"')]
    teal = {"dark": "rgb(53, 205, 187)", "light": "rgb(11, 138, 125)"}
    colours = set(re.findall(r"rgb\([^)]*\)", drawn))
    assert colours & set(teal.values()) == {teal[scheme]}


@needs_browser
def test_nothing_overflows_on_a_telephone(page: str, tmp_path: Path) -> None:
    tell = """<script>addEventListener("load", () => {
      const outside = (e) => e.getBoundingClientRect().right > innerWidth + 1 && !e.closest("pre");
      const count = [...document.querySelectorAll("body *")].filter(outside).length;
      parent.postMessage(`${document.documentElement.scrollWidth} ${count}`, "*");
    })</script></body>"""
    (tmp_path / "inner.html").write_text(page.replace("</body>", tell), "utf-8")
    frame = '<iframe src="inner.html" width="390" height="844" style="border:0"></iframe><p id="said">nothing</p>'
    hear = (
        '<script>addEventListener("message", (e) => { document.getElementById("said").textContent = e.data; })</script>'
    )
    (tmp_path / "outer.html").write_text(f"<!doctype html><body>{hear}{frame}</body>", "utf-8")
    dom, console = browse((tmp_path / "outer.html").as_uri(), tmp_path)
    assert console == "" and '<p id="said">390 0</p>' in dom
