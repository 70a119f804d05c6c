"""Studies and training files, run whole on small tasks; the recipe on real classes loaded from a folder."""

import json
from pathlib import Path

import av
import numpy as np
import pytest

from steelyard.methods import video
from steelyard.methods.own import OwnTask
from steelyard.methods.study import run_study
from steelyard.methods.training import train_from_file
from steelyard.types import SteelyardError

ASSETS = Path(__file__).parents[2] / "steelyard" / "worlds" / "assets" / "video_questions"


def write_clip(path: Path, frames: int = 10) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for i in range(frames):
            image = np.full((64, 64, 3), 40, np.uint8)
            image[20:44, 4 * i : 4 * i + 20] = (200, 40, 40)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())


def write_data(folder: Path, rows: int) -> Path:
    write_clip(folder / "clip.mp4")
    row = {"video": "clip.mp4", "question": "Which way does the box move?", "options": ["right", "left"]}
    lines = [row | {"id": f"r{i}", "answer": "right", "problem_type": "multiple choice"} for i in range(rows)]
    (folder / "data.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder / "data.jsonl"


def test_a_study_trains_measures_and_writes_a_page_and_goes_on(tmp_path: Path, capsys) -> None:
    line = run_study("rova", out=tmp_path, world="moving-blob", steps=2, seed=70)
    printed = capsys.readouterr().out
    assert "GRPO + augmentation" in printed and "base model" in printed and "report.html" in line
    assert (tmp_path / "report.html").stat().st_size > 100_000
    study = json.loads((tmp_path / "study.json").read_text())
    assert [arm["name"] for arm in study["arms"]] == ["base", "grpo", "grpo_augmented", "rova"]
    measured = json.loads((tmp_path / "rova" / "measures.json").read_text())
    assert set(json.loads((tmp_path / "rova" / "pvr.json").read_text())["reasoning"]) >= {"fragility", "recovery"}
    assert measured["judge_samples"] == 2 * 32 * 8 and 0 <= measured["corrupted"] <= 1
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/log.jsonl")}
    run_study("rova", out=tmp_path, world="moving-blob", steps=2, seed=70)
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/log.jsonl")}, (
        "nothing is trained twice"
    )


def test_rova_trains_a_vision_language_model_from_a_folder_on_video_files(tmp_path: Path) -> None:
    write_data(tmp_path, 6)
    (tmp_path / "rova.yaml").write_text(
        f"method: rova\nmodel: {ASSETS}\ndata: data.jsonl\nout: run\nframes: 8\nsize: 56\noptions: {{attempts: 2}}\n"
        "evaluate: data.jsonl\nsampling: {max_tokens: 24}\ntrain: {steps: 2, prompts: 3, lr: 1e-5}\n"
    )
    assert "steelyard report" in train_from_file(tmp_path / "rova.yaml")
    rows = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2] and all(row["curriculum/judge_samples"] == 24 for row in rows)
    evaluations = [json.loads(line) for line in (tmp_path / "run" / "evaluations.jsonl").read_text().splitlines()]
    assert [row["step"] for row in evaluations] == [0, 2] and {"clean", "corrupted"} <= set(evaluations[0])


def test_own_rows_stay_in_their_split(tmp_path: Path) -> None:
    task = OwnTask("model", write_data(tmp_path, 80), frames=4, size=32)
    ids = {split: {s.id for s in task.samples(split, 80)} for split in ("train", "validation", "test")}
    assert sum(map(len, ids.values())) == 80 and not ids["train"] & ids["test"] and not ids["train"] & ids["validation"]
    sample = task.samples("test", 1)[0]
    assert sample.video is not None and sample.video.shape == (4, 32, 32, 3)
    assert "<think>" in str(sample.prompt), "the prompt asks for the form that the rewards read"
    again = OwnTask("model", task.data, frames=4, size=32)
    assert {s.id for s in again.samples("test", 80)} == ids["test"]


def test_bad_calls_are_refused_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(SteelyardError, match="go together"):
        run_study("rova", out=tmp_path, model="somewhere")
    with pytest.raises(SteelyardError, match="no world 'mars'; it has moving-blob, video-questions"):
        run_study("rova", out=tmp_path, world="mars")
    with pytest.raises(SteelyardError, match="'grpo' trains in no world"):
        run_study("grpo", out=tmp_path)
    with pytest.raises(SteelyardError, match="did you mean 'rova'"):
        run_study("rowa", out=tmp_path)
    with pytest.raises(SteelyardError, match="leaves no row for the"):
        OwnTask("m", write_data(tmp_path, 3)).samples("test", 1)


def test_rows_may_hold_any_character(tmp_path: Path) -> None:
    row = {"sample": "s", "kind": "fog", "severity": 3, "completion": "a\u2028b\x85c"}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row, ensure_ascii=False) + "\n", encoding="utf-8")
    assert video._rows(tmp_path / "rows.jsonl") == {("s", "fog", 3): row}
