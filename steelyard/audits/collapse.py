"""Does training without labels still help: what votes say beside the truth, and the step at which they collapse."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from steelyard.audits.optimal import optimal_policy
from steelyard.rewards.answers import answer_text
from steelyard.rewards.voting import Answer, majority_answers, majority_rewards, numbered
from steelyard.types import PER_BRANCH, Array, Policy, Rollouts, Sample, SteelyardError, group_index

COLLAPSED, UNANIMOUS = 0.01, 0.99
PROBE_SEED = 26


@dataclass(frozen=True, eq=False)
class Votes:
    """What the votes of K groups are worth, float64 [K] each.

    Attributes:
        label_accuracy: 1 where the majority answer is right.
        reward_accuracy: share of rows whose majority reward is what the true reward would be.
        majority_reward: share of rows that give the majority answer.
        accuracy: share of rows that are right.
        solved: 1 where any row is right (pass@N).
    """

    label_accuracy: Array
    reward_accuracy: Array
    majority_reward: Array
    accuracy: Array
    solved: Array


def votes(answers: Sequence[Hashable], truth: Sequence[Hashable], group: Array) -> Votes:
    """Judge each group's vote by the truth.

    Reward accuracy is not label accuracy: wrong answers that are scattered rightly earn 0, whatever won.

    Args:
        answers: [N], as answers are compared; None for no answer, which has no vote and is never right.
        truth: [N], the right answer of every row's prompt, never None.
        group: int64 [N], 0…K−1.

    Raises:
        SteelyardError: for columns of different lengths, or a row without truth.

    Source: sheet 26 (URLVR, arXiv 2603.08660; the metrics of TTRL).
    """
    if not len(answers) == len(truth) == len(group) or any(t is None for t in truth):
        counts = f"{len(answers)} answers, {len(truth)} truths and {len(group)} groups"
        raise SteelyardError(f"{counts} were given; each row needs all three, and a truth that is not None")
    both = numbered([*answers, *truth])
    ours, gold = both[: len(answers)], both[len(answers) :]
    given, right = majority_rewards(ours, group), (ours == gold).astype(np.float64)
    size = np.maximum(np.bincount(group), 1)

    def mean(values: Array) -> Array:
        return np.bincount(group, values) / size

    first = np.unique(group, return_index=True)[1]
    label = (majority_answers(ours, group)[group[first]] == gold[first]).astype(np.float64)
    return Votes(label, mean(given == right), mean(given), mean(right), (mean(right) > 0).astype(np.float64))


def collapse_step(
    series: Sequence[float | None], *, threshold: float = COLLAPSED, steps: Sequence[int] | None = None
) -> int | None:
    """The first step at which reward accuracy is below the threshold, the paper's Model Collapse Step; None for never.

    A first crossing counts, also where the series recovers. Figures that are missing (None, NaN) are passed over.
    The larger the number, the more training without labels the policy bears.

    Args:
        series: reward accuracy, evaluation by evaluation.
        threshold: 1% in the paper.
        steps: of training at which the series was measured; 0, 1, 2, … if left out.

    Raises:
        SteelyardError: where steps and series differ in length.

    Source: sheet 26 (URLVR, arXiv 2603.08660).
    """
    at = range(len(series)) if steps is None else steps
    if len(at) != len(series):
        raise SteelyardError(f"{len(at)} steps and {len(series)} figures were given; give one step a figure")
    return next((step for step, value in zip(at, series, strict=True) if value is not None and value < threshold), None)


@dataclass(frozen=True)
class Collapse:
    """How a run without labels went. Steps are None where a thing did not happen, or was not measured.

    Attributes:
        collapsed_at: first step with reward accuracy below the threshold.
        unanimous_at: first step at which the majority reward is 0.99 or more: a sign that needs no labels.
        peak_at: the step of the highest accuracy; start, peak, end: accuracy at first, then, at last.
    """

    collapsed_at: int | None
    unanimous_at: int | None
    peak_at: int
    start: float
    peak: float
    end: float


def collapse(evaluations: Sequence[Mapping[str, Any]], *, threshold: float = COLLAPSED) -> Collapse:
    """Read a run's evaluations by `vote_probe`.

    Args:
        evaluations: one mapping an evaluation: `step`, and what `vote_probe` measures.
        threshold: see `collapse_step`.

    Raises:
        SteelyardError: for a run without such evaluations.
    """
    needed = ("step", "reward_accuracy", "majority_reward", "accuracy")
    lacking = [name for name in needed if any(row.get(name) is None for row in evaluations)]
    if not evaluations or lacking:
        what = f"evaluations without {', '.join(lacking)}" if lacking else "no evaluations"
        raise SteelyardError(f"{what}: collapse is read from a run that vote_probe measured (see docs/collapse.md)")
    steps, accuracy, reward, agreed = (
        [row[name] for row in evaluations] for name in ("step", "accuracy", "reward_accuracy", "majority_reward")
    )
    best = int(np.argmax(accuracy))
    return Collapse(
        collapse_step(reward, threshold=threshold, steps=steps),
        next((step for step, share in zip(steps, agreed, strict=True) if share >= UNANIMOUS), None),
        steps[best],
        accuracy[0],
        accuracy[best],
        accuracy[-1],
    )


def vote_probe(
    samples: Sequence[Sample],
    *,
    answer: Answer = answer_text,
    truth: Callable[[Any], Hashable] | None = None,
    column: str = "answer",
    attempts: int = 8,
) -> Callable[[Policy], dict[str, float]]:
    """What to hand a trainer as `evaluate`: the votes on a small labelled probe, and signs that need no label.

    It measures the means of `Votes`, and beside them `length` (steps), `entropy` (−log-probability a step, nats) and
    `repeats` (share of steps that say the same as the step before). The labels are read here and nowhere else. Every
    call draws with the same random numbers.

    Args:
        samples: the probe; the sheet recommends 256.
        answer: completion to answer, None where it gives none.
        truth: what stands in the column to the same kind of answer; its text, stripped, if left out.
        column: of the right answers.
        attempts: completions of every sample.

    Raises:
        SteelyardError: for an empty probe, or a sample without one right answer.
    """
    if not len(samples):
        raise SteelyardError("the probe has no samples; give at least one, 256 are recommended")
    for sample in samples:
        if sample.columns.get(column) is None:
            raise SteelyardError(f"sample {sample.id!r} has no {column!r}; a probe needs the right answer of every row")
    known = [(truth or _text_of)(sample.columns[column]) for sample in samples]

    def measure(policy: Policy) -> dict[str, float]:
        rollouts = policy.sample(samples, attempts, generator=np.random.default_rng(PROBE_SEED))
        gold = [value for value in known for _ in range(attempts)]
        found = votes([answer(text) for text in rollouts.completions], gold, group_index(rollouts, PER_BRANCH))
        return {name: float(value.mean()) for name, value in vars(found).items()} | label_free_signs(rollouts)

    return measure


def _text_of(value: Any) -> str:
    if isinstance(value, str | int | float):
        return str(value).strip()
    raise SteelyardError(f"a probe's right answer is {value!r:.60}; one text or number is needed, or give truth=")


def label_free_signs(rollouts: Rollouts) -> dict[str, float]:
    """`length`: mean number of steps; `entropy`: mean −log-probability a step, nats; `repeats`: share of equal steps.

    `repeats` is the share of steps, first ones left out, that say what the step before said; NaN where none could.

    Raises:
        SteelyardError: for rollouts without actions.
    """
    actions = rollouts.actions
    if actions is None:
        raise SteelyardError("signs of collapse are read from what the policy did; these rollouts carry no actions")
    signs = {"length": actions.mask.sum(axis=1).mean(), "entropy": -_mean(actions.logprobs, actions.mask)}
    if "tokens" in actions.data:
        tokens, both = actions.data["tokens"], actions.mask[:, 1:] & actions.mask[:, :-1]
        signs["repeats"] = _mean(tokens[:, 1:] == tokens[:, :-1], both)
    return {name: float(value) for name, value in signs.items()}


def _mean(values: Array, mask: Array) -> float:
    return float(np.asarray(values, np.float64)[mask].mean()) if mask.any() else float("nan")


def sharpened(reference: Array, reward: Array, *, beta: float, steps: int) -> Array:
    """Policies [steps + 1, R] after 0, 1, … exact KL-regularised steps π ∝ π · exp(r/β), each from the one before.

    With the majority reward the odds of the majority answer grow by e^{1/β} a step: p ← p e^{1/β}/(p e^{1/β} + 1 − p),
    1 − p falls with a rate that tends to e^{−1/β}, and the order among the other answers stays. So what training
    converges to is decided by the first majority, right or wrong.

    Args:
        reference: probabilities [R] at first.
        reward: float [R].
        beta: weight of the KL, above 0.
        steps: how many.

    Source: sheet 26 (URLVR, arXiv 2603.08660).
    """
    policies = [np.asarray(reference, np.float64)]
    for _ in range(steps):
        policies.append(optimal_policy(reward, beta=beta, reference=policies[-1]))
    return np.stack(policies)
