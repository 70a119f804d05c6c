"""The cliff of tied rewards: the sheet's worked numbers, its propositions as properties, and scipy-free solvers."""

import numpy as np
import pytest

from steelyard.audits.optimal import natural_policy_gradient, optimal_policy, q_soft, softmax
from steelyard.audits.stability import (
    Problem,
    answers,
    effective_reward,
    gaps,
    inverse_reward,
    missing_advantage,
    optimal_actions,
    stability,
    tie_break,
    tied_problem,
    total_variation,
    uniform_over,
    value,
)
from steelyard.types import SteelyardError

TWO = Problem([[0, 0], [1, 1]], [[[0, 1], [0, 1]], [[0, 1], [1, 0]]], 0.9)


def problems(count: int = 6):
    generator = np.random.default_rng(0)
    return [tied_problem(generator) for _ in range(count)]


def test_worked_problem_of_two_states() -> None:
    assert np.allclose(TWO.q, [[9, 9], [10, 9.1]])
    after = tie_break(TWO, 0, 1, 0.01)
    assert np.allclose(after.reward, [[0, 0.01], [1, 0.991]])
    assert optimal_actions(after.q).tolist() == [[False, True], [True, False]]


@pytest.mark.parametrize("m", [2, 3, 7])
def test_the_uniform_policy_jumps_by_m_minus_one_over_m(m: int) -> None:
    tied = answers([1.0] * m + [0.2])
    after = tie_break(tied, 0, 1, 1e-6)
    moved = total_variation(uniform_over(optimal_actions(tied.q)), uniform_over(optimal_actions(after.q)))
    assert moved[0] == pytest.approx((m - 1) / m) and stability(tied).jump[0] == pytest.approx((m - 1) / m)


def test_the_soft_shift_of_two_arms_is_a_tanh_and_the_bound_is_tight() -> None:
    two, epsilon, alpha = answers([1.0, 1.0]), 1e-3, 0.1
    one = two.with_reward(two.reward + np.array([[0, epsilon]]))
    both = two.with_reward(two.reward + np.array([[-epsilon, epsilon]]))
    before = two.soft_policy(alpha)
    assert total_variation(before, one.soft_policy(alpha))[0] == pytest.approx(0.5 * np.tanh(epsilon / (2 * alpha)))
    assert total_variation(before, both.soft_policy(alpha))[0] == pytest.approx(epsilon / (2 * alpha), rel=1e-3)


def test_values_are_stable_and_soft_policies_within_their_bound() -> None:
    generator = np.random.default_rng(1)
    for problem, _ in problems():
        noise = generator.uniform(-1e-2, 1e-2, problem.reward.shape)
        other, size = problem.with_reward(problem.reward + noise), np.abs(noise).max()
        assert np.abs(other.q - problem.q).max() <= size / 0.1 + 1e-12
        for alpha in (0.05, 0.5):
            moved = total_variation(problem.soft_policy(alpha), other.soft_policy(alpha)).max()
            assert moved <= size / (2 * alpha * 0.1)


def test_below_the_radius_no_greedy_action_changes() -> None:
    generator = np.random.default_rng(2)
    for problem, _ in problems():
        clear = problem.with_reward(problem.reward + generator.normal(0, 0.1, problem.reward.shape))
        radius = stability(clear).radius
        noise = generator.choice([-1.0, 1.0], clear.reward.shape) * radius * 0.999
        other = clear.with_reward(clear.reward + noise)
        assert (other.q.argmax(1) == clear.q.argmax(1)).all()


def test_the_inverse_gives_back_the_values_and_shifts_change_no_policy() -> None:
    for problem, tied in problems():
        assert np.allclose(problem.with_reward(inverse_reward(problem.q, problem.kernel, 0.9)).q, problem.q)
        assert (stability(problem).tied == 2).all() and stability(problem).radius == 0.0
        assert all(
            set(np.flatnonzero(row)) == set(pair) for row, pair in zip(optimal_actions(problem.q), tied, strict=True)
        )
        assert np.allclose(problem.with_reward(problem.reward + 3).q, problem.q + 30)
        scaled = problem.with_reward(2 * problem.reward).soft_policy(0.2)
        assert np.allclose(scaled, problem.soft_policy(0.1))
        assert np.allclose(problem.soft_policy(1e-3)[uniform_over(optimal_actions(problem.q)) == 0], 0, atol=1e-6)


def test_a_clever_slacker_is_worse_than_it_need_be() -> None:
    train, missing, policy = answers([1.0, 1.0]), np.array([[0.0, 0.3]]), np.array([[1.0, 0.0]])
    assert missing_advantage(train, missing, policy).tolist() == [[0.0, 0.3]]
    true = train.with_reward(train.reward + missing)
    assert true.q.max() - value(true, policy)[0] == pytest.approx(0.3)


def test_learners_reach_the_soft_optimum_or_keep_their_odds() -> None:
    problem, _ = problems(1)[0]
    start = np.zeros(problem.reward.shape)
    soft = natural_policy_gradient(problem.reward, problem.kernel, 0.9, start=start, rate=0.1, steps=4000, alpha=0.2)
    assert np.allclose(soft, problem.soft_policy(0.2), atol=1e-6)
    hard = natural_policy_gradient(problem.reward, problem.kernel, 0.9, start=start, rate=1.0, steps=4000)
    assert (hard * optimal_actions(problem.q)).sum(1).min() > 0.99, "all on the tied actions, in whatever odds"


def test_closed_forms() -> None:
    assert np.allclose(softmax(np.array([1, 0.9, 0.2]) / 0.1), [0.73087934, 0.26887548, 0.00024518])
    assert np.allclose(
        optimal_policy(np.ones((2, 3)), beta=0.1, reference=np.array([[0.2, 0.3, 0.5]] * 2)), [0.2, 0.3, 0.5]
    )
    assert gaps(np.ones((1, 1)))[0] == np.inf
    mixed = effective_reward([[[1.0, 0.0]], [[0.0, 1.0]]], [[0.501, 0.499]])
    assert optimal_actions(mixed).tolist() == [[True, False]]


def test_what_is_no_problem_is_refused() -> None:
    for bad in (
        ([[1.0]], [[[0.5]]], 0.0),
        ([[1.0]], [[[1.0]]], 1.0),
        ([[np.nan]], [[[1.0]]], 0.0),
        ([1.0], [[[1.0]]], 0.0),
    ):
        with pytest.raises(SteelyardError):
            Problem(*bad)
    with pytest.raises(SteelyardError, match="alpha"):
        q_soft(TWO.reward, TWO.kernel, 0.9, 0.0)
    with pytest.raises(SteelyardError, match="mixtures"):
        effective_reward([[[1.0, 0.0]]], [[0.7]])
    with pytest.raises(SteelyardError, match="beta"):
        optimal_policy(np.ones(2), beta=0)
