"""Teacher forcing: the loss, the order of rows, and what a tiny policy learns by heart."""

import json

import numpy as np
import pytest
import torch

from steelyard.learn.supervised import (
    adamw,
    first_token,
    muon,
    released_first_token_weights,
    schedule,
    supervised,
    tokens_alike,
)
from steelyard.policies.sampling import Sampling
from steelyard.policies.vision import VisionLanguagePolicy
from steelyard.types import SteelyardError
from steelyard.worlds.video_questions import VideoQuestions
from steelyard.worlds.video_questions_model import save_untrained

SAMPLES = VideoQuestions().samples("train", 4)


@pytest.fixture
def policy(tmp_path):
    save_untrained(tmp_path, seed=0)
    return VisionLanguagePolicy.from_pretrained(tmp_path, sampling=Sampling(max_tokens=24), device="cpu")


def given(steps, **more):
    return {"steps": steps, "batch": 4, "lr": 3e-3, "generator": np.random.default_rng(0), "progress": False} | more


def test_schedule_warms_up_and_ends_at_a_twentieth():
    values = [schedule(step, 100, 10) for step in range(101)]
    assert values[0] == pytest.approx(0.1)
    assert max(values) == pytest.approx(values[9], rel=0.02)
    assert values[100] == pytest.approx(0.05)
    assert sorted(values[10:], reverse=True) == values[10:]


def test_the_first_loss_is_the_mean_negative_log_probability(policy):
    texts = [s.columns["solution"] for s in SAMPLES]
    rollouts = policy.encode(list(SAMPLES), texts)
    mask = rollouts.actions.mask
    expected = -policy.logprobs(rollouts).detach().numpy()[mask].mean()
    assert supervised(policy, SAMPLES, **given(1))[0] == pytest.approx(float(expected), rel=1e-4)


@pytest.mark.parametrize("optimisers", [adamw, muon])
def test_four_rows_are_learned_by_heart(policy, tmp_path, optimisers):
    losses = supervised(policy, SAMPLES, **given(50, warmup=5, optimisers=optimisers, folder=tmp_path / "out"))
    assert losses[-1] < 0.25 * losses[0]
    log = [json.loads(line) for line in (tmp_path / "out" / "supervised.jsonl").read_text().splitlines()]
    assert [row["loss"] for row in log] == losses
    again = VisionLanguagePolicy.from_pretrained(tmp_path / "out", sampling=Sampling(max_tokens=24), device="cpu")
    written = [
        p.sample(SAMPLES[:], 1, generator=np.random.default_rng(0), greedy=True).completions for p in (policy, again)
    ]
    assert written[0] == written[1]


def test_the_same_generator_gives_the_same_losses(tmp_path):
    runs = []
    for name in ("a", "b"):
        save_untrained(tmp_path / name, seed=0)
        policy = VisionLanguagePolicy.from_pretrained(tmp_path / name, sampling=Sampling(max_tokens=24), device="cpu")
        runs.append(supervised(policy, SAMPLES, **given(3, batch=2)))
    assert runs[0] == runs[1]


def test_wrong_input_is_refused_in_one_sentence(policy):
    with pytest.raises(SteelyardError, match="4 samples and 1 completions"):
        supervised(policy, SAMPLES, ["<answer> A </answer>"], **given(1))
    with pytest.raises(SteelyardError, match="0 samples"):
        supervised(policy, [], **given(1))


def test_the_first_token_has_its_share() -> None:
    mask = torch.tensor([[False, True, True, True], [True, False, False, False], [False] * 4])
    weights = first_token(0.1)(mask)
    assert weights[0].tolist() == pytest.approx([0, 0.05, 0.225, 0.225]) and weights[1].tolist() == [0.5, 0, 0, 0]
    assert float(weights.sum()) == pytest.approx(1) and not weights[2].any()
    assert first_token(1.0)(mask[:1])[0].tolist() == [0, 1, 0, 0]
    assert torch.allclose(first_token(1 / 3)(mask[:1]), tokens_alike(mask[:1]))
    released = released_first_token_weights(mask, 0.1)
    assert released[0].tolist() == pytest.approx([0, 0.1, 1.35, 1.35]) and released[1, 0] == 0
    with pytest.raises(SteelyardError, match="must lie in"):
        first_token(1.5)
