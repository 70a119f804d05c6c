"""CREAM (sheet 22): labels of a self-rewarding policy are as soft as two of its iterations rank differently."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from steelyard.learn.config import TrainConfig
from steelyard.learn.preferences import dpo
from steelyard.learn.rounds import Answers, in_rounds, pairs_of
from steelyard.methods.core import Card, Claim, Measurement, Method, Trial
from steelyard.rewards.intrinsic import best_and_worst, intrinsic_reward, kendall_rate
from steelyard.types import Array, Pairs
from steelyard.worlds.self_taught import PROMPTS, SelfTaught

Soften = Callable[[Array], Array]
"""Consistency rates C [P] of a round's prompts to the probabilities [P] that their labels are right."""

BETA, ROUNDS, N = 0.1, 3, 5
TRAIN = TrainConfig(steps=80, prompts=PROMPTS, lr=0.05, weight_decay=0.0, schedule="constant", micro_rows=PROMPTS)


def labels(answers: Answers, *, soften: Soften, seen: list[float] | None = None) -> Pairs:
    """The best and the worst answer by the policy's own log-ratio, with labels as `soften` makes them of C."""
    reference = None if answers.round == 1 else answers.initial
    now = intrinsic_reward(answers.current, answers.initial, answers.lengths)
    before = intrinsic_reward(answers.previous, reference, answers.lengths)
    rate = kendall_rate(now, before)
    best, worst, kept = best_and_worst(now)
    if seen is not None:
        seen.append(float(rate.mean()))
    return pairs_of(answers, best, worst, np.flatnonzero(kept), soften(rate))


def trusting(rate: Array) -> Array:
    """SRLM: every label is certain."""
    return np.ones_like(rate)


def average(rate: Array) -> Array:
    """The mean consistency of the round for every pair (the paper's main form)."""
    return np.full_like(rate, rate.mean())


def dynamic(rate: Array) -> Array:
    """Each prompt's own consistency."""
    return rate


def inverted(rate: Array) -> Array:
    """Each prompt's own consistency turned round: it must fail."""
    return 1.0 - rate


ARMS: dict[str, Soften] = {"srlm": trusting, "cream_avg": average, "cream_dyn": dynamic, "inverted": inverted}


def train(trial: Trial, *, soften: Soften) -> Mapping[str, float]:
    """Three rounds; the expected utility after supervision (m1) and after each (m2, m3, m4), and C of each."""
    world = SelfTaught(seed=trial.seed)
    policy, rates = world.policy(seed=trial.seed), []
    figures = {"m1": world.expected_utility(policy)}
    config = replace(TRAIN, steps=3 if trial.quick else TRAIN.steps, seed=trial.seed)

    def measure(number: int) -> None:
        figures[f"m{number + 1}"] = world.expected_utility(policy)

    in_rounds(
        policy,
        [world.samples("train", PROMPTS)] * ROUNDS,
        n=N,
        label=functools.partial(labels, soften=soften, seen=rates),
        objective=dpo(beta=BETA),
        config=config,
        folder=trial.folder,
        after=measure,
        progress=False,
    )
    return figures | {f"consistency_{i}": rate for i, rate in enumerate(rates, 1)}


def supervised_only(trial: Trial) -> Mapping[str, float]:
    """The policy as the rounds begin, which every arm starts from."""
    world = SelfTaught(seed=trial.seed)
    utility = world.expected_utility(world.policy(seed=trial.seed))
    return {f"m{number}": utility for number in range(1, ROUNDS + 2)}


EVIDENCE = Measurement(
    name="self-taught",
    arms={"supervised": supervised_only, **{name: functools.partial(train, soften=s) for name, s in ARMS.items()}},
    claims=(
        Claim("hard labels lose utility in the first round", "m2", "srlm", "supervised", at_most=0.0),
        Claim("and collapse by the third", "m4", "srlm", "supervised", at_most=-1.0),
        Claim("average consistency gains in the first round", "m2", "cream_avg", "supervised", at_least=0.05),
        Claim("and beats hard labels then", "m2", "cream_avg", "srlm", at_least=0.1),
        Claim("after the second round", "m3", "cream_avg", "srlm", at_least=0.1),
        Claim("and after the third", "m4", "cream_avg", "srlm", at_least=0.0),
        Claim("each prompt's own stays within 0.25", "m4", "cream_dyn", "supervised", at_least=-0.25),
        Claim("turned round it is far below", "m3", "inverted", "cream_avg", at_most=-1.0),
    ),
    settings={"beta": BETA, "rounds": ROUNDS, "n": N, "train": TRAIN.to_json()},
)

METHOD = Method(
    card=Card(
        number=22,
        slug="cream",
        title="CREAM: Consistency Regularized Self-Rewarding Language Models",
        source="arXiv 2410.12735",
        claim="Softening self-made labels by how alike two iterations rank the same answers keeps self-rewarding from "
        "collapsing.",
        problem="A policy that labels its own samples is over-confident about near-ties; the error grows from round to "
        "round, and small models collapse.",
        how="Every round the policy answers each prompt N times and ranks them by their log-ratio to the initial "
        "policy; the share of equally ordered pairs between two iterations (Kendall) is the probability of the label "
        "in a soft-label DPO on the best and the worst answer.",
        settings={
            "N": "5 answers, temperature 0.8, top-p 0.95 (paper's code)",
            "beta": "0.1 (paper's code)",
            "rounds": "3; one epoch a round, learning rate 1e-6 (paper's code)",
            "reference": "the policy as its round begins (code; the paper does not say)",
            "consistency": "Kendall; the round's average, or each prompt's own",
        },
        limits=(
            "Consistency is not correctness: from the second round on both iterations may agree and be wrong.",
            "Sums of log-ratios favour long answers; the first round compares two differently normalised rankings.",
            "Equal answers tie; leave duplicates out before ranking.",
        ),
        usage="""# Python: a policy with the copies `initial` and `previous`, and prompts for every round
from steelyard.learn.preferences import dpo
from steelyard.learn.rounds import in_rounds
from steelyard.methods.cream import average, labels
in_rounds(policy, prompts, n=5, label=lambda a: labels(a, soften=average), objective=dpo(beta=0.1),
          config=config, folder=folder)""",
    ),
    recipe=None,
    evidence=(EVIDENCE,),
)
