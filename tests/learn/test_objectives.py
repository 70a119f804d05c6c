"""The clipped objective: worked numbers, KL estimators, weights that sum to one."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from steelyard.learn.objectives import clipped, kl_estimate, step_weights
from steelyard.types import SteelyardError


def test_clipping_by_hand() -> None:
    logprobs = torch.tensor([[np.log(1.5), np.log(0.5), np.log(1.1)]])
    advantages = torch.tensor([[1.0, -1.0, 2.0]])
    step = clipped(epsilon=0.2)(logprobs, torch.zeros(1, 3), None, advantages)
    assert step.loss[0].tolist() == pytest.approx([-1.2, 0.8, -2.2], abs=1e-5)
    assert step.metrics["clip_fraction"][0].tolist() == [1, 1, 0]


def test_a_clipped_step_has_no_gradient_and_an_open_one_has() -> None:
    logprobs = torch.tensor([[0.5, 0.05]], requires_grad=True)
    clipped(epsilon=0.2)(logprobs, torch.zeros(1, 2), None, torch.ones(1, 2)).loss.sum().backward()
    assert logprobs.grad is not None and logprobs.grad[0, 0] == 0 and logprobs.grad[0, 1] < 0


def test_clip_higher_has_its_own_width() -> None:
    loss = clipped(epsilon=0.2, epsilon_high=0.5)(
        torch.full((1, 1), np.log(1.4)), torch.zeros(1, 1), None, torch.ones(1, 1)
    ).loss
    assert loss.item() == pytest.approx(-1.4, abs=1e-5)


def test_estimators_agree_with_the_exact_divergence() -> None:
    p, q = torch.tensor([0.5, 0.3, 0.2]), torch.tensor([0.2, 0.5, 0.3])
    exact = (p * (p / q).log()).sum()
    for estimator in ("k1", "k3"):
        assert (p * kl_estimate(p.log(), q.log(), estimator)).sum() == pytest.approx(exact.item(), abs=1e-6)
    assert kl_estimate(torch.tensor([0.1]), torch.tensor([0.3]), "k2").item() == pytest.approx(0.02, abs=1e-6)


@given(st.floats(-3, 3), st.floats(-3, 3))
def test_k3_is_never_negative(a: float, b: float) -> None:
    assert kl_estimate(torch.tensor(a), torch.tensor(b), "k3") >= -1e-6


@given(st.integers(1, 5), st.integers(1, 6), st.sampled_from(["tokens", "rows"]), st.integers(0, 99))
def test_weights_sum_to_one_or_are_all_zero(n: int, t: int, average, seed: int) -> None:
    generator = np.random.default_rng(seed)
    mask, row = generator.random((n, t)) < 0.6, (generator.random(n) < 0.7).astype(np.float32)
    weights = step_weights(mask, row, average)
    assert weights.sum() == pytest.approx(1.0 if (mask * row[:, None]).any() else 0.0, abs=1e-5)
    assert (weights[~mask] == 0).all() and (weights[row == 0] == 0).all()


def test_rows_and_tokens_weigh_differently() -> None:
    mask, ones = np.array([[1, 0, 0], [1, 1, 1]], bool), np.ones(2, np.float32)
    assert step_weights(mask, ones, "tokens")[0, 0] == pytest.approx(0.25)
    assert step_weights(mask, ones, "rows")[:, 0].tolist() == pytest.approx([0.5, 1 / 6])


def test_the_kl_term_is_added_with_its_weight() -> None:
    objective = clipped(kl=0.5, estimator="k1")
    assert objective.needs_reference and not clipped().needs_reference
    step = objective(torch.tensor([[0.4]]), torch.tensor([[0.4]]), torch.tensor([[0.1]]), torch.tensor([[2.0]]))
    assert step.loss.item() == pytest.approx(-2.0 + 0.5 * 0.3, abs=1e-6)


@pytest.mark.parametrize("options", [{"epsilon": 0.0}, {"kl": -1.0}, {"kl": float("nan")}, {"epsilon": float("nan")}])
def test_settings_that_cannot_work_are_refused(options) -> None:
    with pytest.raises(SteelyardError, match="epsilon must lie"):
        clipped(**options)


@pytest.mark.parametrize("width", [0.0, -0.2, float("nan")])
def test_an_upper_width_must_be_one(width: float) -> None:
    with pytest.raises(SteelyardError, match="epsilon_high"):
        clipped(epsilon_high=width)


@pytest.mark.parametrize("options", [{"estimator": "k4"}, {"average": "token"}])
def test_a_misspelt_choice_is_refused(options) -> None:
    with pytest.raises(SteelyardError, match="it is one of"):
        clipped(**options)
