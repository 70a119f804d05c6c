"""PVRBench: figures against worked numbers, resuming, judges, questions files and their errors."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from steelyard.audits.pvrbench import PVRBench, aggregate, load_questions, rule_quality, save_result, summarise
from steelyard.perturb.video import FAMILIES, KINDS
from steelyard.rewards.judges import QUALITIES, RuleJudge
from steelyard.types import Rollouts, Sample, SteelyardError, streams

REAL = Path(__file__).parent.parent / "data" / "real_video_questions.jsonl"


class Eye:
    """Answers A where the clip's mean is near that of a grey card, else B; a draw decides where `noisy`."""

    def __init__(self, noisy: bool = False) -> None:
        self.noisy, self.calls, self.module = noisy, 0, SimpleNamespace()

    def sample(self, samples: Sequence[Sample], n: int, *, generator: Any, greedy: bool = False) -> Rollouts:
        self.calls += 1
        answers = []
        for sample, child in zip(samples, streams(generator, len(samples)), strict=True):
            grey = abs(float(np.mean(sample.video)) - 128) < 12
            answers.append("AB"[int(child.random() < 0.5)] if self.noisy else "A" if grey else "B")
        texts = [f"<think>I see {answer}.</think><answer>{answer}</answer>" for answer in answers]
        return Rollouts(samples, texts)

    def logprobs(self, rollouts: Rollouts, *, copy: str | None = None) -> Any:
        raise NotImplementedError

    def snapshot(self, name: str) -> None:
        raise NotImplementedError


def cards(count: int = 6, problem_type: str = "multiple choice") -> list[Sample]:
    video = np.full((4, 32, 32, 3), 128, np.uint8)
    video[:, ::2] += 4
    columns = {"answer": "A", "problem_type": problem_type, "question": "Grey?", "reasoning": "I see A"}
    return [Sample(f"s{i}", "Grey?", video, columns=columns) for i in range(count)]


def rows_of(accuracy: dict[str, Sequence[float | None]]) -> list[dict[str, Any]]:
    family = {kind: KINDS[kind].family if kind in KINDS else "none" for kind in accuracy}
    return [
        {"sample": f"s{i}", "kind": kind, "family": family[kind], "severity": 3, "accuracy": value, "completion": ""}
        for kind, values in accuracy.items()
        for i, value in enumerate(values)
    ]


def test_aggregate_gives_the_papers_table() -> None:
    families = {"lighting": 0.35, "occlusion": 0.28, "shake": 0.34, "weather": 0.34}
    scores = {"fragility": 2.71, "consistency": 2.58, "belief": 2.62, "recovery": 2.68, "attention": 2.31}
    found = aggregate(families, 0.51, scores)
    assert found == pytest.approx(
        {"avg_perturbed": 0.3275, "relative_drop": 0.35784314, "reasoning_avg_excl_fragility": 2.5475}
    )
    assert math.isnan(aggregate(families, 0.0)["relative_drop"])


def test_mean_is_over_families_not_over_kinds() -> None:
    result = summarise(
        rows_of({"clean": [1, 1], "dark": [1, 1], "fog": [0, 0], "rain": [0, 1], "snow": [0, 1]}), config={}
    )
    assert result.kinds == {"dark": 1.0, "fog": 0.0, "rain": 0.5, "snow": 0.5}
    assert result.families == pytest.approx({"lighting": 1.0, "weather": 1 / 3})
    assert result.mean == pytest.approx(2 / 3) and result.relative_drop == pytest.approx(1 / 3)


def test_what_could_not_be_scored_is_in_no_mean_and_reported() -> None:
    result = summarise(rows_of({"clean": [1, None], "dark": [None, None], "fog": [0, 1]}), config={})
    assert result.clean == 1.0 and math.isnan(result.kinds["dark"]) and result.mean == 0.5
    assert result.unscored == 3 and result.to_json()["kinds"]["dark"] is None


def test_intervals_hold_the_figure_and_wilson_is_right() -> None:
    values = [1.0] * 7 + [0.0] * 3
    result = summarise(rows_of({"clean": [1.0] * 10, "fog": values}), config={})
    assert result.intervals["kind/fog"] == pytest.approx((0.3968, 0.8922), abs=1e-4)
    assert result.intervals["clean"] == pytest.approx((0.7225, 1.0), abs=1e-4)
    for name, value in (("mean", result.mean), ("relative_drop", result.relative_drop)):
        low, high = result.intervals[name]
        assert low < value < high


def test_bootstrap_keeps_a_samples_corruptions_together() -> None:
    alike = summarise(rows_of({"clean": [1, 0] * 20, "fog": [1, 0] * 20, "dark": [1, 0] * 20}), config={})
    apart = summarise(rows_of({"clean": [1, 0] * 20, "fog": [1, 0] * 20, "dark": [0, 1] * 20}), config={})
    assert apart.intervals["mean"] == (0.5, 0.5)
    assert alike.intervals["mean"][1] - alike.intervals["mean"][0] > 0.2


def test_all_right_or_all_wrong_still_has_an_interval() -> None:
    result = summarise(rows_of({"clean": [1] * 10, "fog": [0] * 10, "dark": [1] * 10}), config={})
    assert result.intervals["family/weather"] == pytest.approx((0.0, 0.2775), abs=1e-4)
    assert result.intervals["family/lighting"] == pytest.approx((0.7225, 1.0), abs=1e-4)
    nothing = summarise(rows_of({"clean": [None] * 3, "fog": [None] * 3}), config={})
    assert nothing.to_json()["intervals"]["mean"] == [None, None]


def test_every_corruption_is_asked_once_and_hurts_where_it_must() -> None:
    result = PVRBench(cards()).evaluate(Eye(), batch=4)
    assert list(result.kinds) == list(KINDS) and list(result.families) == list(FAMILIES)
    assert len(result.rows) == 6 * 13 and result.clean == 1.0
    assert result.kinds["dark"] == 0.0 and result.kinds["bright"] == 0.0 and result.relative_drop > 0
    assert 0 < result.answer_agreement < 1 and math.isnan(result.reasoning_agreement)
    assert result.reasoning is None


def test_batch_and_choice_of_kinds_change_no_row() -> None:
    eye = Eye(noisy=True)
    one = PVRBench(cards(), severities=(1, 5)).evaluate(eye, batch=1, greedy=False)
    two = PVRBench(cards(), kinds=("lens", "fog"), severities=(5,)).evaluate(eye, batch=5, greedy=False)
    wanted = [r for r in one.rows if (r["kind"], r["severity"]) in {("clean", 0), ("lens", 5), ("fog", 5)}]
    key = lambda row: (row["kind"], row["sample"])  # noqa: E731
    assert sorted(wanted, key=key) == sorted(two.rows, key=key)
    assert len({r["completion"] for r in one.rows}) == 2


def test_questions_about_one_clip_see_the_same_corruption() -> None:
    a, b, c = (s for s in cards(3))
    bench = PVRBench(
        [Sample(s.id, "?", s.video, columns={**s.columns, "video": v}) for s, v in ((a, "x"), (b, "x"), (c, "y"))]
    )
    fog = bench.cells[5]
    first, second, third = (bench.perturbed(sample, fog).video for sample in bench.samples)
    assert np.array_equal(first, second) and not np.array_equal(first, third)


def test_finished_kinds_are_reused_and_only_for_the_same_setting(tmp_path: Path) -> None:
    bench, eye = PVRBench(cards(), kinds=("dark", "fog")), Eye()
    whole = bench.evaluate(eye, folder=tmp_path)
    assert eye.calls == 3
    (tmp_path / "rows" / "fog-3.jsonl").unlink()
    again = bench.evaluate(eye, folder=tmp_path)
    assert eye.calls == 4 and again.rows == whole.rows
    (tmp_path / "rows" / "dark-3.jsonl").write_text("")
    bench.evaluate(eye, folder=tmp_path)
    assert eye.calls == 5
    bench.evaluate(eye, folder=tmp_path, judge=rule_quality)
    assert eye.calls == 8


def test_other_weights_are_not_the_same_policy(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    bench, eye = PVRBench(cards(2), kinds=("dark",)), Eye()
    eye.module = torch.nn.Linear(2, 1)
    bench.evaluate(eye, folder=tmp_path)
    bench.evaluate(eye, folder=tmp_path)
    assert eye.calls == 2
    with torch.no_grad():
        eye.module.weight[0, 0] += 1e-3
    bench.evaluate(eye, folder=tmp_path)
    assert eye.calls == 4


def test_judge_is_asked_about_disturbed_rows_only_and_its_failures_are_counted() -> None:
    asked: list[Any] = []

    def answer(prompt: Any) -> str | None:
        asked.append(json.loads(prompt[1]["content"]))
        if len(asked) == 1:
            return "five out of five!"
        return json.dumps(dict.fromkeys(QUALITIES, 4))

    result = PVRBench(cards(3), kinds=("dark",)).evaluate(Eye(), judge=RuleJudge(answer))
    assert len(asked) == 3 and result.unjudged == 1
    assert result.reasoning == dict.fromkeys(QUALITIES, 4.0) and result.reasoning_average == 4.0
    assert asked[0]["clean"].endswith("<answer>A</answer>") and asked[0]["disturbed"].endswith("<answer>B</answer>")
    assert asked[0]["disturbance"] == "dark, severity 3 of 5"


def test_scores_of_a_rule_are_five_numbers_from_0_to_5_or_none() -> None:
    full = dict.fromkeys(QUALITIES, 4.0)
    for wrong in (None, {}, full | {"belief": None}, full | {"belief": math.nan}, full | {"belief": 50.0}):
        result = PVRBench(cards(2), kinds=("dark",)).evaluate(Eye(), judge=lambda sample, a, b, wrong=wrong: wrong)
        assert result.unjudged == 2 and result.reasoning is None


def test_a_judge_that_leaves_prompts_out_is_refused() -> None:
    judge = RuleJudge(lambda prompt: "{}")
    judge.ask = lambda prompts: []  # type: ignore[method-assign]
    with pytest.raises(SteelyardError, match="0 replies to 2 prompts"):
        PVRBench(cards(2), kinds=("dark",)).evaluate(Eye(), judge=judge)


def test_rule_quality_and_agreement() -> None:
    good, bad = "<think>I see A</think><answer>A</answer>", "<think>nothing</think><answer>B</answer>"
    sample = cards(1)[0]
    best = {"fragility": 0, "consistency": 5, "belief": 5, "recovery": 5, "attention": 5}
    assert rule_quality(sample, good, good) == best
    assert rule_quality(sample, good, bad) == {
        "fragility": 5,
        "consistency": 0,
        "belief": 0,
        "recovery": 0,
        "attention": 0,
    }
    same = lambda a, b: float(a == b)  # noqa: E731
    result = PVRBench(cards(2), kinds=("dark", "lens")).evaluate(Eye(), judge=rule_quality, agreement=same)
    assert result.reasoning_agreement == result.answer_agreement and result.reasoning is not None


def test_unknown_problem_type_is_unscored() -> None:
    result = PVRBench(cards(2, "riddle"), kinds=("fog",)).evaluate(Eye())
    assert result.unscored == 4 and math.isnan(result.clean) and result.to_json()["clean"] is None


def test_saved_files_and_table(tmp_path: Path) -> None:
    result = PVRBench(cards(), kinds=("dark", "fog")).evaluate(Eye(), judge=rule_quality)
    save_result(result, tmp_path)
    assert [json.loads(line) for line in (tmp_path / "rows.jsonl").open()] == result.rows
    saved = json.loads((tmp_path / "pvr.json").read_text())
    assert saved["clean"] == result.clean and saved["kinds"] == result.kinds and saved["count"] == 6
    console = Console(width=100, record=True)
    console.print(result.table())
    text = console.export_text()
    assert all(word in text for word in ("lighting", "dark", "weather", "fog", "relative drop", "fragility", "100.0%"))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PVRBench([]), "no samples"),
        (lambda: PVRBench(cards(), kinds=("haze",)), "unknown kind 'haze'"),
        (lambda: PVRBench(cards(), severities=(6,)), "1 to 5"),
        (lambda: PVRBench([*cards(1), *cards(1)]), "stands twice"),
        (lambda: PVRBench([Sample("x", "?", columns={"answer": "A", "problem_type": "OCR"})]), "no video"),
    ],
)
def test_what_cannot_be_a_benchmark_is_refused(make: Any, message: str) -> None:
    with pytest.raises(SteelyardError, match=message):
        make()


def write_clip(path: Path, frames: int = 12) -> None:
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for i in range(frames):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 20 * i, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


QUESTION = {"video": "a.mp4", "question": "Which?", "options": ["A. x", "B. y"], "answer": "A"}
QUESTION |= {"problem_type": "multiple choice"}


def test_folder_of_videos_becomes_samples_that_share_their_clips(tmp_path: Path) -> None:
    write_clip(tmp_path / "a.mp4")
    number = {"id": "n", "video": "a.mp4", "question": "How many?", "answer": 2, "problem_type": "numerical"}
    (tmp_path / "q.jsonl").write_text(json.dumps(QUESTION) + "\n\n" + json.dumps(number) + "\n")
    first, second = load_questions(tmp_path, tmp_path / "q.jsonl", frames=4, size=28)
    assert first.video is second.video and first.video.shape == (4, 28, 28, 3)
    assert (first.id, second.id, second.columns["answer"]) == ("a-1", "n", "2")
    text = first.prompt[0]["content"][1]["text"]
    assert text.startswith("Which? A. x B. y ") and "<answer>" in text and "<think>" in text
    result = PVRBench.from_folder(tmp_path, tmp_path / "q.jsonl", frames=4, size=28, kinds=["fog"]).evaluate(Eye())
    assert [row["video"] for row in result.rows] == ["a.mp4"] * 4


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2: this is not JSON"),
        ("[1]", "line 2: this is a JSON list"),
        (json.dumps({k: v for k, v in QUESTION.items() if k != "answer"}), "line 2 has no 'answer'"),
        (json.dumps({**QUESTION, "video": "b.mp4"}), "line 2: .* has no video 'b.mp4'"),
        (json.dumps({**QUESTION, "video": "../a.mp4"}), "line 2: the video '../a.mp4' lies outside"),
        (json.dumps({**QUESTION, "options": []}), "line 2: 'options'"),
        (json.dumps({**QUESTION, "problem_type": "poem"}), "line 2: the problem type 'poem' is unknown"),
        (json.dumps({**QUESTION, "question": " "}), "line 2: 'question' is ' '"),
        (json.dumps({**QUESTION, "id": "a-1"}), "line 2: the id 'a-1' stands twice"),
        (json.dumps({**QUESTION, "video": "broken.mp4"}), "line 2: "),
    ],
)
def test_errors_of_a_questions_file_name_file_and_line(tmp_path: Path, line: str, message: str) -> None:
    videos = tmp_path / "videos"
    videos.mkdir()
    write_clip(videos / "a.mp4")
    write_clip(tmp_path / "a.mp4")
    (videos / "broken.mp4").write_bytes(b"no video")
    questions = tmp_path / "q.jsonl"
    questions.write_text(json.dumps(QUESTION) + "\n" + line + "\n")
    with pytest.raises(SteelyardError, match=message) as error:
        load_questions(videos, questions, frames=4, size=28)
    assert "q.jsonl" in str(error.value)


def test_missing_or_empty_questions_file(tmp_path: Path) -> None:
    with pytest.raises(SteelyardError, match="cannot be read"):
        load_questions(tmp_path, tmp_path / "none.jsonl", frames=4, size=28)
    (tmp_path / "q.jsonl").write_text("\n")
    with pytest.raises(SteelyardError, match="holds no questions"):
        load_questions(tmp_path, tmp_path / "q.jsonl", frames=4, size=28)


def test_questions_about_the_real_videos_are_well_formed() -> None:
    rows = [json.loads(line) for line in REAL.open()]
    for name in ("bedroom.mp4", "coffee.mp4", "pancake.mkv"):
        mine = [row for row in rows if row["video"] == name]
        assert 4 <= len(mine) <= 6 and {row["problem_type"] for row in mine} == {"multiple choice", "numerical"}
    for row in rows:
        letters = [option[:2] for option in row.get("options", [])]
        assert letters == (["A.", "B.", "C.", "D."] if row["problem_type"] == "multiple choice" else [])
        assert row["answer"] in "ABCD" if letters else row["answer"].isdigit()
