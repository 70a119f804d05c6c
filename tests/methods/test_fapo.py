"""FAPO: its world's rules, every arm, and policy and judge trained on a real model class loaded from a folder."""

import json
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from steelyard.learn.config import TrainConfig
from steelyard.learn.recipe import Recipe
from steelyard.learn.runs import Run
from steelyard.learn.supervised import supervised
from steelyard.learn.trainer import Trainer
from steelyard.methods.arms import run_trial
from steelyard.methods.core import Trial
from steelyard.methods.fapo import LATE, METHOD, critic, fapo
from steelyard.methods.own import OwnTask
from steelyard.methods.training import train_from_file
from steelyard.policies import LanguagePolicy, Sampling
from steelyard.rewards import boxed_match, first_error
from steelyard.rewards.judges import RuleJudge
from steelyard.types import Rollouts, Sample, SteelyardError
from steelyard.worlds.guess_or_reason import LINKS, GuessOrReason, read, solution
from tests.methods import tagged
from tests.policies.tiny import text_config
from tests.rewards.chat_server import Server


def drawn(world: GuessOrReason, n: int = 64) -> Rollouts:
    return world.policy().sample(world.samples("train", 32), n, generator=np.random.default_rng(0))


def test_the_world_is_what_it_says() -> None:
    world = GuessOrReason(seed=7)
    rollouts = drawn(world)
    right, guessed = boxed_match(rollouts).values > 0.5, np.asarray(["guess" in text for text in rollouts.completions])
    figures = world.figures(world.policy())
    chain = (np.e / (np.e + 3)) ** 3
    assert figures["accuracy"] == pytest.approx(0.5 * chain + 0.125) == figures["held_out"]
    assert figures["flawed_share"] == pytest.approx(0.125 / figures["accuracy"])
    assert right.mean() == pytest.approx(figures["accuracy"], abs=0.02)
    assert rollouts.actions is not None
    assert (rollouts.actions.mask.sum(axis=1) == np.where(guessed, 2, 1 + LINKS)).all()
    scores = world.flawed(rollouts)
    assert (scores.values[right] == guessed[right]).all() and (scores.values[~right] == 1).all()
    again = world.policy().encode(rollouts.samples, rollouts.completions)
    assert again.completions == rollouts.completions
    assert GuessOrReason(seed=8).answers.tolist() != world.answers.tolist()


def test_a_prompt_s_memory_is_its_own_and_the_skill_is_shared() -> None:
    world = GuessOrReason()
    policy, rollouts = world.policy(), drawn(world, 4)
    logprobs = policy.logprobs(rollouts)
    np.testing.assert_allclose(logprobs.detach().numpy(), rollouts.actions.logprobs, atol=1e-5)  # type: ignore[union-attr]
    logprobs[rollouts.groups == 3].sum().backward()
    tables = list(policy.module.tables)  # type: ignore[arg-type]
    assert tables[0].grad.shape == (1, 2) and tables[1].grad.any()
    assert np.flatnonzero(tables[1 + LINKS].grad.abs().sum(1).numpy()).tolist() == [3]
    assert tables[-1].grad is None, "how it is told is not trained"


def test_judges_err_as_often_as_they_are_told_and_alike_for_the_same_solution() -> None:
    world = GuessOrReason()
    rollouts = drawn(world, 128)
    truth = world.flawed(rollouts).values > 0.5
    for options in ({"misses": 0.3}, {"alarms": 0.3}, {"misses": 1.0}, {"turned": True}):
        judge = world.judged_by(**options)  # type: ignore[arg-type]
        said = judge(rollouts).values > 0.5
        assert (said == (judge(rollouts).values > 0.5)).all()
        errs = [(said != truth)[which].mean() for which in (truth, ~truth)]
        told = [1.0, 1.0] if "turned" in options else [options.get("misses", 0.0), options.get("alarms", 0.0)]
        np.testing.assert_allclose(errs, told, atol=0.06)


def test_solutions_are_read_as_they_were_written() -> None:
    assert read(solution(True, [1, 2, 3], 0, 5)) == ["reason", "1", "2", "3", "0", "5"]
    assert read(solution(False, [], 3, 9)) == ["guess", "0", "0", "0", "3", "9"]
    for text in ("", "way 1: I reason", "way 1: I guess\n\nlink 0 is 1\n\nso \\boxed{1}"):
        with pytest.raises(SteelyardError, match="not of the form"):
            read(text)


@pytest.mark.parametrize("experiment", METHOD.evidence, ids=lambda each: each.name)
def test_every_arm_runs(experiment, tmp_path: Path) -> None:
    small = replace(experiment, train=replace(experiment.train, steps=2))
    for arm in experiment.arms:
        found = run_trial(small, arm, Trial(7, tmp_path / arm, quick=True))
        assert all(np.isfinite(value) for value in found.values())
        row = Run(tmp_path / arm).rows()[-1]
        shares = [row[f"part/flaws/{name}"] for name in ("sound", "flawed", "wrong")]
        assert sum(shares) == pytest.approx(1) and row["nan_rows"] == 0


def test_the_penalty_unlearns_guessing(tmp_path: Path) -> None:
    small = replace(LATE, train=replace(LATE.train, steps=45))
    held = {arm: run_trial(small, arm, Trial(7, tmp_path / arm))["held_out"] for arm in ("grpo", "double")}
    assert held["grpo"] < 0.3 and held["double"] > 0.8


def boxing(folder: Path) -> Path:
    """A tiny Qwen2 that writes a boxed number from -1 to 7, at random."""
    torch.manual_seed(0)
    words = tagged.tokenizer()
    config = text_config(
        max_position_embeddings=1024, vocab_size=len(words),
        eos_token_id=words.eos_token_id, pad_token_id=words.pad_token_id,
    )  # fmt: skip
    policy = LanguagePolicy(
        Qwen2ForCausalLM(Qwen2Config(**config | {"initializer_range": 0.1})), words, Sampling(max_tokens=12)
    )
    generator = np.random.default_rng(0)
    asked = Sample("asked", f"which w1?{METHOD.instruction}")
    rows = [row for row in [*tagged.samples(), *[asked] * 8] for _ in range(8)]
    said = [f"\\boxed{{{number}}}" for number in generator.integers(-1, 8, len(rows))]
    supervised(policy, rows, completions=said, steps=80, batch=32, lr=1e-2, generator=generator, progress=False)
    policy.save_pretrained(folder)
    return folder


class Own:
    """What the recipe needs of a person's own task: a judge that finds small numbers flawed."""

    attempts = 8
    flawed = first_error(RuleJudge(lambda prompt: r"\boxed{0}" if "boxed{1" in str(prompt) else "hm"))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return boxing(tmp_path_factory.mktemp("boxing"))


@pytest.mark.parametrize("kind", ["policy", "judge"])
def test_a_real_model_is_trained(kind: str, model: Path, tmp_path: Path) -> None:
    policy = LanguagePolicy.from_pretrained(model, sampling=Sampling(max_tokens=12), device="cpu")
    columns = {"answer": "1"} if kind == "policy" else {"first_error": 2, "steps": 6}
    samples = [Sample(f"s{i}", f"which w{i}", columns=columns) for i in range(4)]
    recipe: Recipe = fapo(Own()) if kind == "policy" else critic(Own())
    before = [p.detach().clone() for p in policy.module.parameters()]
    config = TrainConfig(steps=2, prompts=4, lr=1e-3, schedule="constant")
    rows = Trainer(policy, recipe, samples, config, folder=tmp_path / "run", progress=False).run().rows()
    assert any(row["prompts_with_signal"] > 0 for row in rows) and all(row["nan_rows"] == 0 for row in rows)
    assert any(not torch.equal(a, b) for a, b in zip(before, policy.module.parameters(), strict=True))
    if kind == "policy":
        assert any(row["part/flaws/flawed"] > 0 for row in rows)


def test_a_training_file_names_the_judge(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A judge over a real socket that repeats what it was shown: the last box in it is the answer's, 1: flawed."""
    monkeypatch.chdir(tmp_path)
    row = {"question": "which w1?", "answer": "1"}
    (tmp_path / "rows.jsonl").write_text("\n".join(json.dumps({"id": str(i), **row}) for i in range(8)))
    server = Server()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    (tmp_path / "train.yaml").write_text(
        f"method: fapo\nmodel: {model}\ndata: rows.jsonl\nevaluate: rows.jsonl\nout: run\n"
        f"judge: {{model: m, url: '{server.url}'}}\nsampling: {{max_tokens: 12}}\n"
        "train: {steps: 2, prompts: 4, schedule: constant}\n"
    )
    try:
        train_from_file(tmp_path / "train.yaml")
    finally:
        server.shutdown()
    rows = Run(tmp_path / "run").rows()
    flawed = [row["part/flaws/flawed"] for row in rows]
    assert max(flawed) > 0 and not any(row["part/flaws/unread"] for row in rows)
    assert sum(flawed) * 32 == pytest.approx(len(server.requests)), "right answers only, and no held-out row"
    assert "blank line between steps" in server.requests[0]["messages"][-1]["content"]


def test_held_out_rows_are_not_put_to_the_judge(tmp_path: Path) -> None:
    def never(prompt: object) -> str:
        raise AssertionError("asked")

    own = OwnTask("none", tmp_path / "none.jsonl", judge=RuleJudge(never))
    recipe = fapo(own)
    assert recipe.measured is not None
    rows = Rollouts([Sample("s", "p", columns={"answer": "4"})], [r"\boxed{4}"])
    assert recipe.measured(rows).values.tolist() == [1]
    with pytest.raises(SteelyardError, match="name one under `judge:`"):
        fapo(OwnTask("none", tmp_path / "none.jsonl"))
