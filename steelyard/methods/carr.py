"""CaRR and C-GRPO (sheet 56): right answers earn more, the more of the chain of evidence they name, cite and link."""

from __future__ import annotations

import functools
import math
from pathlib import Path
from typing import Protocol

from steelyard.learn.advantages import centre, chain, scale
from steelyard.learn.config import TrainConfig
from steelyard.learn.curricula import uniform
from steelyard.learn.objectives import clipped
from steelyard.learn.plans import groups
from steelyard.learn.recipe import Recipe
from steelyard.methods.core import Card, Claim, Experiment, Measures, Method, Setting
from steelyard.policies.categorical import CategoricalPolicy
from steelyard.rewards.aggregation import relative_to_best
from steelyard.rewards.combinators import base_and_bonus
from steelyard.rewards.core import Expression, gate
from steelyard.worlds.hop_chains import HopChains

ALPHA = 0.3


class EvidenceSetting(Setting, Protocol):
    """A setting whose answers are right or not (0 or 1), and give evidence."""

    @property
    def outcome(self) -> Expression:
        """Whether the final answer is right."""
        ...

    @property
    def evidence(self) -> Expression:
        """The share of the chain that is named, supported and linked, such as `evidence_chain(judge)`."""
        ...


def c_grpo(outcome: Expression, credit: Expression, *, alpha: float = ALPHA) -> Expression:
    """R = R_o ((1 − α) + α R_r / max R_r of the group); a wrong answer needs no verdict on its evidence."""
    return released(outcome, relative_to_best(credit), alpha=alpha)


def released(outcome: Expression, credit: Expression, *, alpha: float = ALPHA) -> Expression:
    """R = R_o ((1 − α) + α R_r): what the released trainer computes."""
    return base_and_bonus(outcome, gate(credit, by=outcome), constant=1 - alpha, weights=[alpha])


def credit_for_all(outcome: Expression, credit: Expression, *, alpha: float = ALPHA) -> Expression:
    """R = (1 − α) R_o + α R_r / max R_r: wrong answers earn by their evidence too. An ablation."""
    return (1 - alpha) * outcome + alpha * relative_to_best(credit)


def _recipe(setting: Setting, reward: Expression) -> Recipe:
    return Recipe(
        plan=groups(setting.attempts),
        reward=reward,
        advantage=chain(centre(), scale(epsilon=1e-6)),
        objective=clipped(epsilon=0.2, epsilon_high=0.28),
        curriculum=uniform(),
    )


def recipe(setting: EvidenceSetting) -> Recipe:
    """The paper's setting."""
    return _recipe(setting, c_grpo(setting.outcome, setting.evidence))


def released_recipe(setting: EvidenceSetting) -> Recipe:
    """The evidence as it is, not against the group's best."""
    return _recipe(setting, released(setting.outcome, setting.evidence))


def outcome_only(setting: EvidenceSetting) -> Recipe:
    """GRPO on the answer alone."""
    return _recipe(setting, setting.outcome)


def measure(world: HopChains, policy: CategoricalPolicy, *, folder: Path, count: int, greedy: bool) -> Measures:
    """Exact figures; nothing is drawn."""
    return world.figures(policy)


ARMS = {"grpo": outcome_only, "c_grpo": recipe}
TRAIN = TrainConfig(
    steps=400, prompts=32, optimiser="sgd", lr=4.0, schedule="constant", weight_decay=0.0, grad_clip=math.inf,
    micro_rows=256,
)  # fmt: skip
_experiment = functools.partial(
    Experiment,
    seeded=True,
    train=TRAIN,
    measure=measure,  # type: ignore[arg-type]
    data=32,
    test_count=32,
    quick={"steps": 3},
    demo={"steps": 100},
    demo_arms=("grpo", "c_grpo"),
    labels={"grpo": "answer alone", "c_grpo": "with evidence", "released": "as released"},
)
EVIDENCE = _experiment(
    name="hop-chains",
    world=HopChains,
    arms={**ARMS, "released": released_recipe},
    claims=(
        Claim("where the shortcut fails, evidence is worth 0.5 of accuracy", "robust", "c_grpo", "grpo", at_least=0.5),
        Claim("where it works, accuracy is not lower", "accuracy", "c_grpo", "grpo", at_least=0.0),
        Claim("the chain of evidence is more complete by 0.5", "evidence", "c_grpo", "grpo", at_least=0.5),
    ),
)
WEAKER = _experiment(
    name="hop-chains-weaker",
    arms=ARMS,
    world=functools.partial(HopChains, shortcut=0.75, risk=0.03),
    claims=(
        Claim("the same with a weaker shortcut and cheaper searches", "robust", "c_grpo", "grpo", at_least=0.5),
        Claim("where accuracy gains too", "accuracy", "c_grpo", "grpo", at_least=0.05),
    ),
)

METHOD = Method(
    card=Card(
        number=56,
        slug="carr",
        title="Chaining the Evidence: Robust Reinforcement Learning for Deep Search Agents with Citation-Aware Rubric "
        "Rewards",
        source="arXiv 2601.06021",
        claim="Right answers that earn more for a complete chain of cited evidence teach an agent to search every hop, "
        "where the answer alone teaches the shortcut.",
        problem="A search agent that is rewarded for its answer alone reaches it by some clues or a "
        "lucky guess, and breaks where the shortcut does.",
        how="A question is taken apart beforehand into single-hop statements over unknown entities. A judge finds "
        "which entities the answer names, and which statements the pages that it cites support; those count that a "
        "chain of supported statements links to the answer. In a group each row's share is divided by the best "
        "one's, and right answers earn (1 − alpha) + alpha times that; wrong ones earn nothing.",
        settings={
            "alpha": "0.3 (paper)",
            "group": "8, 16 prompts a step (paper)",
            "clip": "0.2 and 0.28, no KL (paper)",
            "lr": "2e-6, constant (paper)",
            "best": "over all rows of the group, right or wrong (code)",
            "as released": "the trainer's published flags use the share itself: `released`",
            "tries": "5 (code); then the row is left out here, and 0 there",
        },
        limits=(
            "A right answer earns the whole only if no wrong one of its group has more evidence.",
            "Statements that speak of the answer in passing make everything connected: check them beforehand.",
            "Twenty pages may not fit into the judge's context.",
            "A wrong entity with a page that supports it counts; the chain and the outcome only limit that.",
            "Watch `evidence_chain/unjudged`: rows that the judge failed on carry no gradient.",
        ),
        usage="steelyard evidence carr --seeds 5   # the small world; your own agent: docs/agents.md",
    ),
    recipe=recipe,
    evidence=(EVIDENCE, WEAKER),
)
