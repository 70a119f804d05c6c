"""Sheet 47 put together: the small world's contrast, and the same teaching on a real language model."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from steelyard.audits.master_keys import false_positives
from steelyard.methods import master_rm
from steelyard.methods.core import Trial
from steelyard.policies.language import LanguagePolicy
from steelyard.policies.sampling import Sampling
from steelyard.rewards.judges import LocalJudge, PolicyJudge, RuleJudge, guarded, verified
from steelyard.rewards.judges.hardening import augmented
from steelyard.types import Sample
from steelyard.worlds.sums_with_keys import SumsWithKeys
from tests.rewards.tiny_judge import model, tokenizer


@pytest.mark.parametrize(
    ("data", "fpr"), [(master_rm.natural, 1.0), (master_rm.hardened, 0.0), (master_rm.mislabelled, 1.0)]
)
def test_truncated_responses_take_the_keys_their_power_and_their_labels_matter(data, fpr, monkeypatch) -> None:
    monkeypatch.setattr(master_rm, "NATURAL", 1500)
    monkeypatch.setattr(master_rm, "TRUNCATED", 190)
    monkeypatch.setattr(master_rm, "HELD_OUT", 40)
    world = SumsWithKeys(seed=100)
    judge = master_rm.teach(
        world.judge_policy(), data(world), **(master_rm.JUDGE | {"steps": 400, "batch": 128, "lr": 0.1})
    )
    found = master_rm.audit(verified(judge), world)
    assert abs(found["fpr"] - fpr) <= 0.1 and found["kappa"] > 0.9 and found["unjudged"] == 0
    assert 0.3 < master_rm.audit(guarded(verified(judge)), world)["fpr"] <= 0.6 or fpr == 0


def test_an_arm_runs_through_the_trainer_and_says_all_that_the_claims_speak_of(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(master_rm, "NATURAL", 300)
    monkeypatch.setattr(master_rm, "TRUNCATED", 40)
    monkeypatch.setattr(master_rm, "HELD_OUT", 10)
    monkeypatch.setattr(master_rm, "DRAWS", 50)
    monkeypatch.setattr(master_rm, "TRAIN", replace(master_rm.TRAIN, prompts=2))
    monkeypatch.setattr(master_rm, "JUDGE", master_rm.JUDGE | {"steps": 5})
    for name, arm in master_rm.EVIDENCE.arms.items():
        found = arm(Trial(seed=7, folder=tmp_path / name, quick=True))
        assert {claim.metric for claim in master_rm.EVIDENCE.claims} <= set(found)
        assert (tmp_path / name / "policy" / "log.jsonl").read_text().count("\n") == 5


def test_a_constant_no_has_no_false_positives_and_no_agreement() -> None:
    found = master_rm.audit(verified(RuleJudge(lambda prompt: "NO")), SumsWithKeys())
    assert found["fpr"] == 0 and found["kappa"] == 0


@pytest.mark.slow
def test_the_same_teaching_runs_on_a_language_model_from_a_folder(tmp_path: Path) -> None:
    """A few steps on the real classes: the loss falls, and the saved model is asked as a judge of this machine."""
    words = tokenizer()
    model(words, context=4096).save_pretrained(tmp_path / "start")
    words.save_pretrained(tmp_path / "start")
    policy = LanguagePolicy.from_pretrained(tmp_path / "start", sampling=Sampling(max_tokens=6), device="cpu")
    world = SumsWithKeys(seed=0)
    rows = world.labelled("train", 6)
    rows = augmented(rows, world.reasoned(rows, 2)).rows
    samples = [row.sample(f"r{i}") for i, row in enumerate(rows)]
    before = _loss(policy, samples)
    judge = master_rm.teach(policy, rows, steps=24, batch=4, lr=2e-2, warmup=2)
    assert _loss(policy, samples) < 0.5 * before
    policy.save_pretrained(tmp_path / "taught")
    local = LocalJudge(tmp_path / "taught", max_tokens=6)
    prompts = [sample.prompt for sample in samples]
    assert local.ask(prompts) == judge.ask(prompts), "the policy and the folder that it saved answer alike"
    assert {answer for answer in local.ask(prompts) if answer} <= {"YES", "NO"}
    items = [Sample("i", "What is 2 + 2?", columns={"answer": "4"})]
    table = false_positives(PolicyJudge(policy), items, ["Solution", ":"])
    np.testing.assert_array_equal(table.rates, false_positives(local, items, ["Solution", ":"]).rates)


def _loss(policy: LanguagePolicy, samples: list[Sample]) -> float:
    rollouts = policy.encode(samples, [sample.columns["solution"] for sample in samples])
    mask = rollouts.actions.mask
    return float(-policy.logprobs(rollouts).detach().numpy()[mask].mean())
