"""RPO (sheet 33): the likelihood of the chosen answers keeps preference optimisation from drifting off its data."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import replace

import torch

from steelyard.learn.config import TrainConfig
from steelyard.learn.pairs import PairTrainer, PolicyPairs, pair_accuracy
from steelyard.learn.preferences import rpo
from steelyard.methods.core import Card, Claim, Measurement, Method, Trial
from steelyard.worlds.uncovered import Uncovered

BETA, ETAS = 0.1, {"dpo": 0.0, "weak": 0.005, "rpo": 0.2, "strong": 5.0}
TRAIN = TrainConfig(steps=600, prompts=400, lr=0.05, weight_decay=0.0, schedule="constant", micro_rows=400)


def train(trial: Trial, *, eta: float) -> Mapping[str, float]:
    """One policy trained on the world's pairs, measured exactly."""
    world = Uncovered(seed=trial.seed)
    pairs, policy = world.pairs(), world.policy()
    config = replace(TRAIN, steps=5 if trial.quick else TRAIN.steps, seed=trial.seed)
    model = PolicyPairs(policy)
    PairTrainer(model, rpo(beta=BETA, eta=eta), pairs, config, folder=trial.folder / "run", progress=False).run()
    with torch.no_grad():
        moved = (model.both(pairs)[0] - model.both(pairs, copy="reference")[0])[:, 0]
    figures = world.figures(policy) | {"pair_accuracy": pair_accuracy(model, pairs)}
    return figures | {"chosen_moved": float(moved.mean())}


EVIDENCE = Measurement(
    name="uncovered",
    arms={name: functools.partial(train, eta=eta) for name, eta in ETAS.items()},
    claims=(
        Claim("true reward is higher than DPO's by 1.5", "reward", "rpo", "dpo", at_least=1.5),
        Claim("answers that no pair covers get less probability", "uncovered", "rpo", "dpo", at_most=-0.5),
        Claim("its pair accuracy tells little of that", "pair_accuracy", "rpo", "dpo", at_least=-0.05),
        Claim("chosen answers lose less probability", "chosen_moved", "rpo", "dpo", at_least=5.0),
        Claim("too weak a term protects less", "reward", "rpo", "weak", at_least=0.5),
        Claim("too strong a term is supervision only", "reward", "rpo", "strong", at_least=0.1),
    ),
    settings={"beta": BETA, "etas": ETAS, "train": TRAIN.to_json()},
)

METHOD = Method(
    card=Card(
        number=33,
        slug="rpo",
        title="Provably Mitigating Overoptimization in RLHF: Your SFT Loss is Implicitly an Adversarial Regularizer",
        source="arXiv 2405.16436",
        claim="DPO with the likelihood of the chosen answers added ends with a higher true reward and less probability "
        "on answers that no pair covers, although the accuracy on the pairs hardly differs.",
        problem="A finite set of pairs says nothing of most answers; preference optimisation drifts to those that the "
        "data happen to make look good, while every training figure stays fine.",
        how="Optimising against the worst reward that the pairs allow comes down to the DPO loss plus βη times the "
        "negative log-likelihood of the chosen answers.",
        settings={
            "beta": "0.01 and 0.05 in the paper (sum form), 0.5 (mean form); 0.1 in the small world",
            "eta": "0.005 (sum form), 0.2 (mean form without β); 0.2 in the small world",
            "learning rate": "5e-7, cosine, warm-up 0.1 (paper)",
        },
        limits=(
            "It cures drift off the data, not wrong labels in it; too large an η is supervision only.",
            "The sum form grows with the answer's length: η does not carry over between the two forms.",
            "TRL's `rpo_alpha` is another paper's weighting (mean per token, no β).",
        ),
        usage="""# Python: any policy that can score given answers, and pairs
from steelyard.learn.pairs import PairTrainer, PolicyPairs
from steelyard.learn.preferences import rpo
PairTrainer(PolicyPairs(policy), rpo(beta=0.01, eta=0.005), pairs, config, folder=folder).run()""",
    ),
    recipe=None,
    evidence=(EVIDENCE,),
)
