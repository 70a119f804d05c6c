"""Pair losses: the worked numbers of sheets 22 and 33, fixed points, and what is refused."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from steelyard.learn.preferences import PairTerms, added, bradley_terry, dpo, likelihood, rpo, soft_logistic
from steelyard.types import SteelyardError


def terms(chosen, rejected, reference=None, lengths=None, probability=None, margin=None) -> PairTerms:
    c, r = torch.tensor(chosen, dtype=torch.float64), torch.tensor(rejected, dtype=torch.float64)
    ref = torch.zeros(len(c), 2, dtype=torch.float64) if reference is None else torch.tensor(reference)
    one = torch.ones_like(c)
    label = one if probability is None else torch.tensor(probability, dtype=torch.float64)
    wanted = 0 * one if margin is None else torch.tensor(margin, dtype=torch.float64)
    given_lengths = torch.ones(len(c), 2) if lengths is None else torch.tensor(lengths)
    return PairTerms(c, r, given_lengths, label, wanted, ref.double())


def test_rpo_in_both_forms() -> None:
    pairs = terms([-40.0, -25.0], [-42.0, -20.0], [[-41.0, -41.5], [-24.0, -21.0]], [[20.0, 1.0], [10.0, 1.0]])
    assert rpo(beta=0.01, eta=0.005)(pairs).loss.tolist() == pytest.approx([0.68767531, 0.70444718], abs=1e-7)
    assert float(rpo(beta=0.5, eta=0.2, reduction="mean")(pairs).loss.mean()) == pytest.approx(1.30006635, abs=1e-7)
    assert torch.equal(rpo(beta=0.1, eta=0.0)(pairs).loss, dpo(beta=0.1)(pairs).loss)


def test_a_common_shift_moves_only_the_likelihood() -> None:
    pairs, moved = terms([-3.0], [-4.0]), terms([-1.0], [-2.0])
    difference = rpo(beta=0.1, eta=2.0)(moved).loss - rpo(beta=0.1, eta=2.0)(pairs).loss
    assert float(difference) == pytest.approx(-0.1 * 2.0 * 2.0)


@pytest.mark.parametrize(
    ("eta", "beta", "best"),
    [(0.0, 0.1, 0.99998307), (0.1, 0.1, 0.99993837), (1.0, 0.1, 0.93409964), (10.0, 0.1, 0.77195531), (3.0, 1.0, 0.75)],
)
def test_the_optimum_of_two_answers_is_the_sheets(eta: float, beta: float, best: float) -> None:
    """Uniform reference, 75% of the comparisons won by the first: minimise over its probability p."""
    x = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([x], max_iter=500, tolerance_grad=1e-14, tolerance_change=1e-16)
    half = [[math.log(0.5)] * 2]

    def loss() -> torch.Tensor:
        first, second = torch.nn.functional.logsigmoid(x), torch.nn.functional.logsigmoid(-x)
        won = _with(terms([0.0], [0.0], half), first, second)
        lost = _with(terms([0.0], [0.0], half), second, first)
        return (0.75 * rpo(beta=beta, eta=eta)(won).loss + 0.25 * rpo(beta=beta, eta=eta)(lost).loss).sum()

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        value = loss()
        value.backward()
        return value

    for _ in range(20):
        optimiser.step(closure)
    assert float(x.detach().sigmoid()) == pytest.approx(best, abs=1e-6)


def _with(pairs: PairTerms, chosen: torch.Tensor, rejected: torch.Tensor) -> PairTerms:
    return PairTerms(chosen[None], rejected[None], pairs.lengths, pairs.probability, pairs.margin, pairs.reference)


@pytest.mark.parametrize(("label", "margin"), [(0.9, 2.19722458), (0.75, 1.09861229), (0.5, 0.0)])
def test_a_soft_label_has_its_fixed_point(label: float, margin: float) -> None:
    h = torch.tensor([margin], dtype=torch.float64, requires_grad=True)
    soft_logistic(h, torch.tensor([label], dtype=torch.float64)).sum().backward()
    assert h.grad is not None and float(h.grad) == pytest.approx(0.0, abs=1e-8)


@given(st.floats(-50, 50), st.floats(0, 1))
def test_the_derivative_is_sigma_minus_the_label(logit: float, label: float) -> None:
    h = torch.tensor(logit, dtype=torch.float64, requires_grad=True)
    soft_logistic(h, torch.tensor(label, dtype=torch.float64)).backward()
    assert h.grad is not None and float(h.grad) == pytest.approx(1 / (1 + math.exp(-logit)) - label, abs=1e-9)


def test_soft_labels_of_cream() -> None:
    pairs = terms([-10.0], [-11.0], [[-10.5, -10.5]])
    assert float(dpo(beta=0.1)(pairs).loss) == pytest.approx(0.64439666, abs=1e-7)
    for label, loss in ((0.9, 0.65439666), (0.75, 0.66939666)):
        soft = terms([-10.0], [-11.0], [[-10.5, -10.5]], probability=[label])
        assert float(dpo(beta=0.1)(soft).loss) == pytest.approx(loss, abs=1e-7)
        smoothed = dpo(beta=0.1, smoothing=1 - label)(pairs)
        assert float(smoothed.loss) == pytest.approx(loss, abs=1e-7), "label smoothing is the same label for all"


def test_a_margin_shifts_a_reward_models_logit() -> None:
    assert float(bradley_terry()(terms([2.0], [1.0], margin=[1.0])).loss) == pytest.approx(math.log(2))


def test_sums_print_as_they_were_written_and_need_what_their_parts_need() -> None:
    both = added(bradley_terry(), likelihood(0.5))
    assert repr(both) == "bradley_terry() + likelihood(0.5, reduction='sum')" and not both.needs_reference
    assert added(dpo(beta=0.1), likelihood(1.0)).needs_reference


def test_what_is_refused() -> None:
    for make in (lambda: dpo(beta=0.0), lambda: dpo(beta=1.0, smoothing=0.5), lambda: likelihood(-1.0), added):
        with pytest.raises(SteelyardError):
            make()
    bare = PairTerms(*(torch.zeros(1) for _ in range(2)), torch.ones(1, 2), torch.ones(1), torch.zeros(1))
    with pytest.raises(SteelyardError, match="needs the reference"):
        dpo(beta=1.0)(bare)
