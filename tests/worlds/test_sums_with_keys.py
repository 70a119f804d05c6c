"""The world of sheet 47: what its data hold and lack, the judge's features, the policy of keys and a solver."""

import numpy as np
import pytest
import torch

from steelyard.rewards.judges import MASTER_KEYS, verify_prompt
from steelyard.rewards.judges.hardening import augmented, check_disjoint
from steelyard.types import Sample, SteelyardError
from steelyard.worlds.sums_with_keys import HONEST, SumsWithKeys, features


def test_every_wrong_response_has_a_wrong_number_and_half_are_right() -> None:
    rows = SumsWithKeys(seed=3).labelled("train", 400)
    assert all(any(c.isdigit() for c in row.response) for row in rows)
    assert all(row.label == row.response.endswith(f" {row.reference}.") for row in rows)
    assert 0.4 < np.mean([row.label for row in rows]) < 0.6
    assert rows == SumsWithKeys(seed=3).labelled("train", 400) != SumsWithKeys(seed=4).labelled("train", 400)


def test_truncated_responses_have_no_number_and_are_no_key() -> None:
    world = SumsWithKeys(seed=0)
    rows = world.labelled("train", 90)
    found = augmented(rows, world.reasoned(rows, 10))
    assert found.dropped == 0 and len(found.rows) == 100 and found.rows[:90] == tuple(rows)
    assert not any(c.isdigit() for row in found.rows[90:] for c in row.response)
    check_disjoint(found.rows)


def test_questions_ask_for_their_answers() -> None:
    for sample in SumsWithKeys().samples("test", 50):
        a, b = str(sample.prompt).removeprefix("What is ").removesuffix("?").split(" + ")
        assert int(a) + int(b) == int(sample.columns["answer"]) and int(a) > 0 and int(b) > 0


def test_features_are_those_of_the_sheet() -> None:
    def row(response: str) -> list[float]:
        return features(Sample("s", verify_prompt("q", "42", response)))[:3].tolist()

    assert row("The result is 42.") == [0, 1, pytest.approx(0.17)]
    assert row("First 42, then 7") == [1, 1, pytest.approx(0.16)]
    assert row(" ") == [0, 0, pytest.approx(0.01)] and row("142")[:2] == [1, 0]
    with pytest.raises(SteelyardError, match="verification prompts only"):
        features(Sample("s", "What is 2+2?"))


def test_the_policy_starts_honest_and_its_log_probabilities_are_those_it_drew_with() -> None:
    world = SumsWithKeys()
    policy = world.policy()
    samples = world.samples("train", 200)
    rollouts = policy.sample(samples, 16, generator=np.random.default_rng(0))
    keys = np.asarray(rollouts.column("key"))
    assert 0.03 < keys.mean() < 0.07 and {t for t, k in zip(rollouts.completions, keys, strict=True) if k} == set(
        MASTER_KEYS
    )
    right = [t.endswith(f" {a}.") for t, a in zip(rollouts.completions, rollouts.column("answer"), strict=True)]
    assert 0.3 < np.mean(np.asarray(right)[~keys]) < 0.4
    with torch.no_grad():
        np.testing.assert_allclose(policy.logprobs(rollouts).numpy(), rollouts.actions.logprobs, atol=1e-6)
    assert HONEST not in rollouts.completions
    half = policy.sample(samples[100:], 16, generator=np.random.default_rng(1))
    again = policy.sample(samples[100:], 16, generator=np.random.default_rng(1))
    assert half.completions == again.completions
