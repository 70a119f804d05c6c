"""What a training file may ask for, before anything is loaded."""

import json
from pathlib import Path

import pytest

from steelyard.methods.own import OwnTask
from steelyard.methods.training import train_from_file
from steelyard.rewards.core import score_one
from steelyard.rewards.judges import RuleJudge
from steelyard.types import Sample, SteelyardError

FILE = "method: rova\nmodel: {model}\ndata: {data}\nout: run\noptions: {options}\ntrain: {{steps: 1}}\n"


@pytest.mark.parametrize(
    ("model", "data", "options", "said"),
    [
        ("world", "moving-blob", "{}\njudge: {model: j}", "moving-blob compares reasonings by its own rule"),
        ("mine", "rows.jsonl", "{}\njudge: {url: u}", "judge lacks 'model'"),
        ("mine", "rows.jsonl", "{}\njudge: {model: j, key_env: STEELYARD_NO_SUCH_KEY}", "NO_SUCH_KEY is empty"),
        ("world", "moving-blob", "{attempts: 4}", "unknown key 'attempts'; moving-blob has its own settings"),
        (
            "mine",
            "rows.jsonl",
            "{corpus: nowhere.jsonl}",
            "options: corpus is 'nowhere.jsonl'; it must be a JSONL file",
        ),
        ("mine", "rows.jsonl", "{atempts: 4}", "unknown key 'atempts'; known is 'attempts' and 'corpus'"),
        ("mine", "rows.jsonl", "{attempts: many}", "attempts is 'many'; it must be a whole number"),
        ("mine", "rows.jsonl", "{attempts: 0}", "attempts is 0; it must be a whole number"),
        ("mine", "moving-blob", "{}", "it must be 'world'"),
        ("world", "rows.jsonl", "{}", "model: world needs a world as data, one of moving-blob, video-questions"),
        ("world", "gone.jsonl", "{}", "gone.jsonl cannot be read"),
    ],
)
def test_a_wrong_file_is_refused_before_a_model_is_asked_for(
    model: str, data: str, options: str, said: str, tmp_path: Path
) -> None:
    (tmp_path / "rows.jsonl").write_text(json.dumps({"question": "Which?", "answer": "a"}) + "\n")
    (tmp_path / "train.yaml").write_text(FILE.format(model=model, data=data, options=options))
    with pytest.raises(SteelyardError, match=said):
        train_from_file(tmp_path / "train.yaml")
    assert not (tmp_path / "run").exists()


def test_reasonings_are_compared_by_the_judge_where_there_is_one() -> None:
    own = OwnTask("mine", Path("rows.jsonl"))
    assert own.similarity(["a b"], ["a c"]).tolist() == [0.5]
    judged = OwnTask("mine", Path("rows.jsonl"), judge=RuleJudge(lambda prompt: '{"score": 0.75}'))
    assert judged.similarity(["a b"], ["a c"]).tolist() == [0.75]


def test_an_agents_corpus_and_judge_are_asked_for_in_a_sentence(tmp_path: Path) -> None:
    own = OwnTask("mine", Path("rows.jsonl"))
    with pytest.raises(SteelyardError, match="name a JSONL of passages"):
        _ = own.environment
    with pytest.raises(SteelyardError, match="name one under `judge:`"):
        _ = own.steps
    (tmp_path / "passages.jsonl").write_text('{"title": "Arvo", "text": "a river"}\n')
    judge = RuleJudge(lambda prompt: "<score>1</score>")
    own = OwnTask("mine", Path("rows.jsonl"), judge=judge, corpus=tmp_path / "passages.jsonl")
    assert own.environment([Sample("q", "?")], ["<search>river</search>"]) == [
        "<information>[1] Arvo: a river</information>\n"
    ]
    assert score_one(own.steps, completion="<search>river</search>").values.tolist() == [2]
