"""ToolRL and BLEUBERI: their worlds' rules, and their recipes on a real model class loaded from a folder."""

import json
from pathlib import Path

import numpy as np
import pytest

from steelyard.learn.config import TrainConfig
from steelyard.learn.trainer import Trainer
from steelyard.methods.core import Trial
from steelyard.methods.registry import find
from steelyard.policies.language import LanguagePolicy
from steelyard.policies.sampling import Sampling
from steelyard.rewards import score_one, tool_call_format, tool_calls
from steelyard.types import Sample
from steelyard.worlds import tool_intents, wordings
from tests.policies.tiny import language_policy, saved

COLUMNS = {
    "toolrl": {"reference": '<think>w1</think>\n<tool_call>\n{"name": "f", "parameters": {}}\n</tool_call>'},
    "bleuberi": {"references": ["w1 w2 w3"]},
}


class Own:
    """What a recipe needs of a person's own task."""

    attempts = 2


@pytest.mark.parametrize("slug", ["toolrl", "bleuberi"])
def test_the_recipe_trains_a_real_model(slug: str, tmp_path: Path) -> None:
    folder = saved(language_policy(Sampling(max_tokens=5)), tmp_path / "model")
    policy = LanguagePolicy.from_pretrained(folder, sampling=Sampling(max_tokens=5))
    samples = [Sample(f"s{i}", "w1 w2", columns=COLUMNS[slug]) for i in range(4)]
    recipe = find(slug).recipe
    assert recipe is not None
    before = [p.detach().clone() for p in policy.module.parameters()]
    Trainer(
        policy,
        recipe(Own()),
        samples,
        TrainConfig(steps=3, prompts=2, lr=1e-2),
        folder=tmp_path / "run",
        progress=False,
    ).run()
    rows = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text("utf-8").splitlines()]
    assert len(rows) == 3 and all(np.isfinite(row["reward"]) for row in rows)
    moved = any(not np.array_equal(a, b.detach()) for a, b in zip(before, policy.module.parameters(), strict=True))
    assert moved == any(row["prompts_trained"] > 0 for row in rows)
    assert moved or slug == "toolrl"  # five words of the tiny model are never a call: there is no signal


def test_intents_are_the_same_for_every_seed_and_can_be_said() -> None:
    world = tool_intents.ToolIntents()
    samples = world.samples("train", 40, seed=1)
    assert [s.columns for s in samples] == [s.columns for s in tool_intents.ToolIntents().samples("test", 40, seed=2)]
    for sample in samples:
        gold = sample.columns["reference"]
        assert tool_intents.render(tool_intents.read(gold)) == gold
        assert score_one(tool_call_format + tool_calls, completion=gold, reference=gold).values[0] == 4
    rollouts = world.policy().sample(samples, 50, generator=np.random.default_rng(0))
    values = (tool_call_format + tool_calls)(rollouts).values
    assert np.isfinite(values).all() and values.min() == -2 and -1.9 < values.mean() < 0


def test_quality_of_wordings() -> None:
    sample = wordings.Wordings().samples("test", 1)[0]
    gold, facts = sample.columns["gold"][0], sample.columns["facts"]
    assert wordings.quality_of(gold, facts) == 1 and len(facts) == 28
    wrong = next(word for word in wordings.VOCABULARIES[0][:6] if word not in facts)
    assert wordings.quality_of(f"{wrong} well " + " ".join(gold.split()[:7]), facts) == pytest.approx(0.5 - 0.02)
    assert wordings.render(wordings.read("fact0a well")) == "fact0a well"
    assert wordings.render(["<stop>"] * 14) == ""


def test_the_person_agrees_with_the_truth_more_often_than_with_length() -> None:
    arms = find("bleuberi").evidence[0].arms
    seen = {name: arms[name](Trial(7, Path(), quick=False))["agreement"] for name in ("length", "bleu_1", "bleu_5")}  # type: ignore[operator]
    assert seen["length"] < seen["bleu_1"] < seen["bleu_5"]
