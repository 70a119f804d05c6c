"""The control policy: chunks and episodes, its log-probabilities, copies, folders, bad input."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import norm

from steelyard.policies.control import ControlPolicy, chunks_of
from steelyard.types import Sample, SteelyardError
from tests.policies.tiny_control import Walk, chunk_policy

SEEN = [Sample(str(i), "act", columns={"observation": np.full(3, 0.1 * i)}) for i in range(4)]
STARTS = [Sample(str(i), "walk", columns={"far": far}) for i, far in enumerate((0.0, 2.0, 1e9))]


def test_single_chunks_and_their_densities() -> None:
    policy = chunk_policy()
    rollouts = policy.sample(SEEN, 3, generator=np.random.default_rng(0))
    assert len(rollouts) == 12 and rollouts.groups.tolist() == np.repeat(range(4), 3).tolist()
    assert rollouts.completions[0].shape == (2, 2) and rollouts.actions.mask.shape == (12, 1)
    mean, log_deviation = policy.module(torch.tensor(rollouts.actions.data["observation"][:, 0]))
    z = norm(mean.detach().numpy(), log_deviation.exp().detach().numpy())
    expected = z.logpdf(rollouts.actions.data["action"][:, 0]).sum(1)
    assert np.allclose(rollouts.actions.logprobs[:, 0], expected, atol=1e-4)
    assert np.allclose(policy.logprobs(rollouts).detach()[:, 0], expected, atol=1e-4)


def test_episodes_end_where_they_succeed_or_with_patience() -> None:
    policy = chunk_policy(environment=Walk, patience=9)
    rollouts = policy.sample(STARTS, 2, generator=np.random.default_rng(0))
    near, _, never = rollouts.completions[0], rollouts.completions[2], rollouts.completions[4]
    assert near.success and len(near.actions) == 1 and len(near.observations) == 2
    assert not never.success and len(never.actions) == 9 and len(never.observations) == 10
    assert rollouts.actions.mask[0].tolist() == [True] + [False] * 4 and rollouts.actions.mask[4].all()
    again = torch.where(torch.tensor(rollouts.actions.mask), policy.logprobs(rollouts).detach(), 0.0)
    assert np.allclose(rollouts.actions.logprobs, again, atol=1e-4)


def test_a_batch_can_be_cut_anywhere_and_greedy_draws_nothing() -> None:
    policy = chunk_policy()
    children = [np.random.default_rng(i) for i in range(4)]
    whole = policy.sample(SEEN, 2, generator=[np.random.default_rng(i) for i in range(4)])
    part = policy.sample(SEEN[2:], 2, generator=children[2:])
    assert np.allclose(whole.actions.data["action"][4:], part.actions.data["action"])
    greedy = [policy.sample(SEEN, 1, generator=np.random.default_rng(i), greedy=True) for i in (0, 1)]
    assert (greedy[0].actions.data["action"] == greedy[1].actions.data["action"]).all()


def test_encoding_gives_the_gradient_of_what_was_done() -> None:
    policy = chunk_policy()
    done = policy.sample(SEEN, 1, generator=np.random.default_rng(0))
    shown = policy.encode(SEEN, done.completions)
    found = policy.logprobs(shown)
    assert torch.allclose(found, policy.logprobs(done)) and found.requires_grad
    with pytest.raises(SteelyardError, match="row 1's chunk"):
        policy.encode(SEEN[:2], [np.zeros((2, 2)), np.zeros((1, 2))])
    with pytest.raises(SteelyardError, match="finite"):
        policy.encode(SEEN[:1], [np.full((2, 2), np.nan)])


def test_copies_stay_as_they_were() -> None:
    policy = chunk_policy()
    policy.snapshot("reference")
    rollouts = policy.sample(SEEN, 1, generator=np.random.default_rng(0))
    before = policy.logprobs(rollouts, copy="reference")
    with torch.no_grad():
        policy.module.log_deviation += 1
    assert torch.equal(policy.logprobs(rollouts, copy="reference"), before) and not before.requires_grad
    assert not torch.equal(policy.logprobs(rollouts), before)
    with pytest.raises(SteelyardError, match="no copy 'other'"):
        policy.logprobs(rollouts, copy="other")


def test_a_folder_gives_the_same_policy(tmp_path: Path) -> None:
    policy = chunk_policy()
    policy.module.standardise(np.random.default_rng(0).normal(3.0, 2.0, (50, 3)))
    policy.save_pretrained(tmp_path / "policy")
    loaded = ControlPolicy.from_pretrained(tmp_path / "policy")
    rollouts = policy.sample(SEEN, 1, generator=np.random.default_rng(0))
    assert torch.equal(loaded.logprobs(rollouts), policy.logprobs(rollouts))
    with pytest.raises(SteelyardError, match="cannot be loaded as a control policy"):
        ControlPolicy.from_pretrained(tmp_path / "nothing")
    with pytest.raises(SteelyardError, match="at least 1"):
        policy.sample([], 1, generator=np.random.default_rng(0))


def test_chunks_repeat_the_last_action_past_the_end() -> None:
    found = chunks_of(np.arange(6.0).reshape(3, 2), 2)
    assert found.tolist() == [[[0, 1], [2, 3]], [[2, 3], [4, 5]], [[4, 5], [4, 5]]]
