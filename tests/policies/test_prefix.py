"""Going on from a prefix: the same tokens, the same probabilities as one long sequence, however they are shared."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from steelyard.policies.sampling import Sampling
from steelyard.types import Prefix, Sample, SteelyardError
from tests.policies import tiny

SAMPLING = Sampling(max_tokens=5)


@pytest.fixture(scope="module")
def policy():
    return tiny.language_policy(SAMPLING)


def alone(policy, ids: list[int]) -> torch.Tensor:
    """log-probabilities of every token of one sequence by a fresh forward pass."""
    with torch.no_grad():
        logits = policy.module(torch.tensor([ids])).logits[0].log_softmax(-1)
    return logits[:-1].gather(1, torch.tensor(ids)[1:, None])[:, 0]


@pytest.mark.parametrize("exact", [False, True], ids=["text", "tokens"])
def test_branches_of_a_prefix_are_scored_as_one_long_sequence(policy, exact) -> None:
    before, after = "w1 w2 w3", "w4 w5"
    ids = policy.tokenizer(f"{before} {after}", add_special_tokens=False)["input_ids"]
    prefix = Prefix(after, data={"tokens": np.array(ids[3:])}) if exact else Prefix(after)
    sample = Sample("s", before, prefix=prefix)
    short = Sample("t", "w9")
    rollouts = policy.sample([sample, short], 4, generator=np.random.default_rng(0))
    scored = policy.logprobs(rollouts).detach()
    for row in range(4):
        mask = rollouts.actions.mask[row]
        own = rollouts.actions.data["tokens"][row][mask].tolist()
        expected = alone(policy, [*ids, *own])[len(ids) - 1 :]
        torch.testing.assert_close(scored[row][torch.from_numpy(mask)], expected, atol=1e-4, rtol=0)
        np.testing.assert_allclose(rollouts.actions.logprobs[row][mask], expected, atol=1e-4)


def test_a_prefix_is_what_the_prompt_would_be_with_it(policy) -> None:
    apart = policy.sample([Sample("s", "w1", prefix=Prefix("w2 w3"))], 3, generator=np.random.default_rng(1))
    joined = policy.sample([Sample("s", "w1 w2 w3")], 3, generator=np.random.default_rng(1))
    assert apart.completions == joined.completions
    np.testing.assert_array_equal(apart.actions.logprobs, joined.actions.logprobs)


def test_exact_tokens_win_over_the_text(policy) -> None:
    """A text may be cut into tokens in another way than the policy wrote it."""
    written = np.array(policy.tokenizer("w7 w8", add_special_tokens=False)["input_ids"])
    prefix = Prefix("w2", data={"tokens": written})
    a = policy.sample([Sample("s", "w1", prefix=prefix)], 2, generator=np.random.default_rng(2))
    b = policy.sample([Sample("s", "w1 w7 w8")], 2, generator=np.random.default_rng(2))
    assert a.completions == b.completions


def test_gradients_flow_through_the_shared_prefix_as_through_separate_ones(policy) -> None:
    sample = Sample("s", "w1 w2", prefix=Prefix("w3 w4 w5"))
    rollouts = policy.sample([sample], 3, generator=np.random.default_rng(3))

    def gradient(rows) -> torch.Tensor:
        policy.module.zero_grad()
        policy.logprobs(rows).sum().backward()
        return torch.cat([p.grad.flatten() for p in policy.module.parameters()])

    shared = gradient(rollouts)
    rollouts.samples = [replace(sample) for _ in range(3)]
    torch.testing.assert_close(gradient(rollouts), shared, atol=1e-4, rtol=1e-4)


def test_vision_language_positions_go_on_behind_the_prompt() -> None:
    policy = tiny.vision_policy(SAMPLING)
    sample = tiny.video_samples(1)[0]
    longer = replace(sample, prefix=Prefix("w3 w4"))
    rollouts = policy.sample([longer], 2, generator=np.random.default_rng(0))
    encoded, whole = policy._encode(sample), policy._encode(longer)
    assert whole.next_position == encoded.next_position + 2
    np.testing.assert_array_equal(whole.positions[:, -2:], [[encoded.next_position, encoded.next_position + 1]] * 3)
    gap = policy.logprobs(rollouts).detach().numpy() - rollouts.actions.logprobs
    assert np.abs(gap[rollouts.actions.mask]).max() < 1e-4


def test_reading_makes_tokens_without_an_end(policy) -> None:
    read = policy.read(["w1 w2", "", "w3"])
    assert read.mask.tolist() == [[True, True], [False, False], [True, False]]
    assert policy.texts(read.data["tokens"], read.mask) == ["w1 w2", "", "w3"]
    assert policy.read(["", ""]).mask.shape == (2, 0) and policy.read([]).mask.shape == (0, 0)


def test_a_prefix_that_does_not_fit_is_refused(policy) -> None:
    with pytest.raises(SteelyardError, match="passes the model's context of 256"):
        policy.sample([Sample("s", "w1", prefix=Prefix("w2 " * 260))], 1, generator=np.random.default_rng(0))
