"""Rewards for being sure: worked numbers, what changes nothing, a real model beside a plain forward pass."""

import math

import numpy as np
import pytest
import torch

from steelyard.policies.certainty import CERTAINTIES
from steelyard.policies.certainty import negative_entropy as negative_entropies
from steelyard.policies.certainty import probability_gap as gaps
from steelyard.policies.certainty import self_certainty as self_certainties
from steelyard.policies.language import LanguagePolicy
from steelyard.policies.sampling import Sampling
from steelyard.rewards.certainty import negative_entropy, own_likelihood, probability_gap, self_certainty
from steelyard.rewards.likelihood import product_probability, total_logprob
from steelyard.types import Actions, Rollouts, Sample, Status, SteelyardError
from steelyard.worlds.letter_chains import LetterChains
from tests.policies import tiny

RULES = {"self_certainty": self_certainty, "negative_entropy": negative_entropy, "probability_gap": probability_gap}


class Known:
    """Says what it was given."""

    def __init__(self, logits):
        self.logits = torch.as_tensor(logits, dtype=torch.float64)

    def certainty(self, rollouts, kind):
        return CERTAINTIES[kind](self.logits).numpy()


def row(logprobs, mask) -> Rollouts:
    return Rollouts([Sample("s", "p")] * len(mask), [""] * len(mask), actions=Actions(logprobs, mask))


def test_a_uniform_policy_is_certain_of_nothing():
    logits = torch.zeros(2, 4)
    assert self_certainties(logits).tolist() == pytest.approx([0, 0], abs=1e-6)
    assert negative_entropies(logits).tolist() == pytest.approx([-1.38629, -1.38629], abs=1e-5)
    assert gaps(logits).tolist() == [0, 0]


def test_a_sure_policy_earns_the_same_when_it_is_wrong():
    logits = torch.tensor([30.0, 0, 0])
    assert float(self_certainties(logits)) == pytest.approx(18.9014, abs=1e-4)
    assert float(negative_entropies(logits)) == pytest.approx(0, abs=1e-6) and float(gaps(logits)) == pytest.approx(1)
    sure, wrong = row([[0.0]], [[True]]), row([[-30.0]], [[True]])
    policy = Known([[[30.0, 0, 0]]])
    for rule in RULES.values():
        assert rule(policy=policy)(sure).values == rule(policy=policy)(wrong).values
    assert own_likelihood()(wrong).values == -30


def test_a_constant_a_word_that_cannot_be_said_and_a_single_word():
    logits = torch.randn(3, 5, generator=torch.Generator().manual_seed(0))
    padded = torch.cat([logits, torch.full((3, 2), -math.inf)], dim=-1)
    for figure in CERTAINTIES.values():
        assert torch.allclose(figure(logits + 7.5), figure(logits), atol=1e-5)
        assert torch.allclose(figure(padded), figure(logits), atol=1e-6)
        assert torch.isfinite(figure(torch.zeros(1, 1))).all()


@pytest.mark.parametrize("rule", RULES.values())
def test_padding_changes_nothing_and_no_steps_earn_0(rule):
    logits = np.random.default_rng(0).normal(size=(2, 3, 4))
    mask = np.asarray([[1, 1, 0], [0, 0, 0]], bool)
    first = rule(policy=Known(logits))(row(np.zeros((2, 3)), mask)).values
    logits[:, 2] = np.nan
    assert (rule(policy=Known(logits))(row(np.zeros((2, 3)), mask)).values == first).all()
    assert first[1] == 0 and first[0] != 0


def test_own_likelihood_as_mean_sum_and_product():
    rows = row(np.log([[0.5, 0.25, 0.1], [0.5, 0.1, 0.1]]), np.asarray([[1, 1, 0], [0, 0, 0]], bool))
    rows.actions.logprobs[0, 2] = np.nan
    assert own_likelihood()(rows).values.tolist() == pytest.approx([math.log(0.125) / 2, 0])
    assert own_likelihood(total_logprob)(rows).values.tolist() == pytest.approx([math.log(0.125), 0])
    assert own_likelihood(product_probability)(rows).values.tolist() == pytest.approx([0.125, 0])
    rows.actions.logprobs[0, 0] = np.nan
    scores = own_likelihood()(rows)
    assert np.isnan(scores.values[0]) and scores.status.tolist() == [Status.FAILED, Status.SCORED]
    assert repr(own_likelihood(total_logprob)) == "own_likelihood(total_logprob)"


def test_what_cannot_be_said_is_said():
    rows, bare = row([[0.0]], [[True]]), Rollouts([Sample("s", "p")], [""])
    with pytest.raises(SteelyardError, match=r"'self_certainty' asks a policy and has none"):
        self_certainty()(rows)
    with pytest.raises(SteelyardError, match=r"object cannot say how sure it was of its steps \(certainty\)"):
        self_certainty(policy=object())(rows)
    for rule in (own_likelihood(), probability_gap(policy=Known([[[0.0]]]))):
        with pytest.raises(SteelyardError, match="these rollouts carry no actions"):
            rule(bare)
    with pytest.raises(SteelyardError, match=r"figures \(1, 2\) do not fit steps \(1, 1\)"):
        negative_entropy(policy=Known(np.zeros((1, 2, 3))))(rows)


def test_a_real_model_says_what_a_plain_forward_pass_says(tmp_path):
    folder = tiny.saved(tiny.language_policy(Sampling(max_tokens=8)), tmp_path)
    policy = LanguagePolicy.from_pretrained(folder, sampling=Sampling(max_tokens=8, temperature=0.7), device="cpu")
    rollouts = policy.sample(tiny.text_samples(3), 2, generator=np.random.default_rng(1))
    found = {kind: policy.certainty(rollouts, kind) for kind in CERTAINTIES}
    tokens, mask = rollouts.actions.data["tokens"], rollouts.actions.mask
    for i, sample in enumerate(rollouts.samples):
        prompt = policy.tokenizer(sample.prompt)["input_ids"]
        with torch.no_grad():
            ids = torch.tensor([[*prompt, *tokens[i, : mask[i].sum()].tolist()]])
            logits = policy.module(ids).logits[0, len(prompt) - 1 : -1].float() / 0.7
        for kind, figure in CERTAINTIES.items():
            assert found[kind][i, mask[i]] == pytest.approx(figure(logits).numpy(), abs=2e-4), kind
    assert all((values[~mask] == 0).all() for values in found.values())
    scores = self_certainty(policy=policy)(rollouts)
    assert scores.values.min() > 0 and "self_certainty" in scores.parts


def test_a_bench_top_policy_agrees_with_its_own_log_probabilities():
    policy = LetterChains().policy()
    rollouts = policy.sample(LetterChains().samples("train", 40), 8, generator=np.random.default_rng(0))
    entropy = -policy.certainty(rollouts, "negative_entropy")[rollouts.actions.mask].mean()
    assert entropy == pytest.approx(-rollouts.actions.logprobs[rollouts.actions.mask].mean(), abs=0.05)
