"""Policy Cliff (sheet 16): where best actions tie, an arbitrarily small change of the reward moves the policy far."""

from __future__ import annotations

import functools
from collections.abc import Mapping

import numpy as np

from steelyard.audits.optimal import natural_policy_gradient
from steelyard.audits.stability import (
    Problem,
    optimal_actions,
    stability,
    tie_break,
    tied_problem,
    total_variation,
    uniform_over,
)
from steelyard.methods.core import Card, Claim, Measurement, Method, Trial

PROBLEMS, SIZES, BUMP = 10, {"large": 1e-1, "small": 1e-3, "tiny": 1e-6}, 1e-3
LEARNED, STEPS, RATE = 5, {"short": 200, "long": 10_000}, 0.1


def _problems(trial: Trial, count: int) -> list[tuple[Problem, int, int]]:
    generator = np.random.default_rng([16, trial.seed])
    found = []
    for _ in range(2 if trial.quick else count):
        problem, tied = tied_problem(generator)
        state = int(generator.integers(len(tied)))
        found.append((problem, state, tied[state][1]))
    return found


def best_policies(trial: Trial, *, alpha: float) -> Mapping[str, float]:
    """How far the best policy moves where one of two tied actions is raised by ε, and what smoothing costs."""
    figures: dict[str, list[float]] = {}
    for problem, state, action in _problems(trial, PROBLEMS):
        for name, size in SIZES.items():
            both = (problem, tie_break(problem, state, action, size))
            policies = [_policy(each, alpha, size) for each in both]
            moved = total_variation(*policies)
            figures.setdefault(f"moved_{name}", []).append(float(moved[state] if alpha == 0 else moved.max()))
            if alpha:
                norm = np.abs(both[1].reward - problem.reward).max()
                bound = norm / (2 * alpha * (1 - problem.discount))
                figures.setdefault(f"of_bound_{name}", []).append(float(moved.max() / bound))
        report = stability(problem, alphas=(alpha,) if alpha else ())
        figures.setdefault("lost", []).append(report.soft[0]["return_lost_per_step"] if alpha else 0.0)
        figures.setdefault("radius", []).append(report.radius)
    return {name: float(np.mean(values)) for name, values in figures.items()}


def _policy(problem: Problem, alpha: float, size: float) -> np.ndarray:
    tolerance = min(1e-9, size / 100)
    return problem.soft_policy(alpha) if alpha else uniform_over(optimal_actions(problem.q, tolerance=tolerance))


def learned_policies(trial: Trial, *, alpha: float) -> Mapping[str, float]:
    """How far two learners drift apart whose rewards differ by 1e-3, after a short and a long training."""
    figures: dict[str, list[float]] = {}
    for problem, state, action in _problems(trial, LEARNED):
        other, start = tie_break(problem, state, action, BUMP), np.zeros(problem.reward.shape)
        for name, steps in STEPS.items():
            count = min(steps, 5) if trial.quick else steps
            learned = [_learn(each, start, count, alpha) for each in (problem, other)]
            figures.setdefault(f"drift_{name}", []).append(float(total_variation(*learned)[state]))
    return {name: float(np.mean(values)) for name, values in figures.items()}


def _learn(problem: Problem, start: np.ndarray, steps: int, alpha: float) -> np.ndarray:
    settings = {"start": start, "rate": RATE, "steps": steps, "alpha": alpha}
    return natural_policy_gradient(problem.reward, problem.kernel, problem.discount, **settings)


BEST = Measurement(
    name="tied-problems",
    arms={
        "hard": functools.partial(best_policies, alpha=0.0),
        "soft_0.02": functools.partial(best_policies, alpha=0.02),
        "soft_0.1": functools.partial(best_policies, alpha=0.1),
        "soft_0.5": functools.partial(best_policies, alpha=0.5),
    },
    claims=(
        Claim(
            "a bump of 1e-6 moves the best policy by half",
            "moved_tiny",
            "hard",
            "soft_0.1",
            at_least=0.49,
        ),
        Claim("the smoothed policy hardly moves", "moved_small", "soft_0.1", "hard", at_most=-0.45),
        Claim("smoothing more moves less", "moved_tiny", "soft_0.1", "soft_0.02", at_most=0.0),
        Claim("smoothing more costs more return", "lost", "soft_0.5", "soft_0.1", at_least=0.02),
    ),
    settings={"problems": PROBLEMS, "bumps": SIZES},
)

LEARNED_APART = Measurement(
    name="learners",
    arms={
        "no_entropy": functools.partial(learned_policies, alpha=0.0),
        "entropy": functools.partial(learned_policies, alpha=0.05),
    },
    claims=(
        Claim("learners without entropy drift apart", "drift_long", "no_entropy", "entropy", at_least=0.3),
        Claim("which a short training does not show", "drift_short", "no_entropy", "entropy", at_most=0.2),
    ),
    settings={"problems": LEARNED, "steps": STEPS, "rate": RATE, "bump": BUMP},
)

METHOD = Method(
    card=Card(
        number=16,
        slug="policy-cliff",
        title="The Policy Cliff: A Theoretical Analysis of Reward-Policy Maps in Large Language Models",
        source="arXiv 2507.20150",
        claim="Where best actions tie, the best policy jumps however small the reward's change is; with an entropy "
        "bonus its shift is bounded and linear, at a cost in return.",
        problem="Two trainings whose rewards hardly differ end in different behaviour, and nobody can say beforehand "
        "which rewards do that.",
        how="Reduce the task to finite states and actions (a prompt with its candidate answers is one state), compute "
        "the best values, and report ties, gaps, the size of the jump, the certified radius, and what smoothing costs.",
        settings={"tolerance of ties": "1e-9 of the values' scale", "alpha": "a list; 0.02, 0.1, 0.5 by default"},
        limits=(
            "It speaks of best policies: a half-trained softmax policy has smoothed itself.",
            "The bounds are loose by up to 1/(1 − γ) for a change at one state; they are no estimates.",
            "Mixing weights that depend on the reward or the policy void the proofs.",
        ),
        usage="""# Python: what do these scores of one prompt's candidate answers do to the best policy?
from steelyard.audits.stability import answers, stability
stability(answers([1.0, 1.0, 0.2]))""",
    ),
    recipe=None,
    evidence=(BEST, LEARNED_APART),
)
