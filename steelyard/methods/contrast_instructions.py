"""Contrast Instructions (sheet 04): a reward model that knows which answer suits which of two look-alikes."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from steelyard.audits.contrast import contrast, contrast_scores
from steelyard.learn.config import TrainConfig
from steelyard.learn.pairs import PairTrainer, pair_accuracy
from steelyard.learn.preferences import bradley_terry
from steelyard.methods.core import Card, Claim, Measurement, Method, Trial
from steelyard.rewards.models.convex import with_rewrites
from steelyard.rewards.models.fusion import fused
from steelyard.worlds.look_alikes import BagReward, LookAlikes

PAIRS, ITEMS, REWRITES = 800, 1000, 5
TRAIN = TrainConfig(steps=1500, prompts=256, lr=3e-3, weight_decay=0.0, schedule="constant", micro_rows=256)


def train(trial: Trial, *, rewritten: bool, above: float | None) -> Mapping[str, float]:
    """A reward model trained on pairs, with or without rewrites and fusion; its accuracy and consistency."""
    world = LookAlikes(seed=trial.seed)
    pairs, held_out = world.pairs(PAIRS), world.pairs(1000)
    instructions, answers = world.look_alikes(ITEMS)
    used = pairs
    if rewritten:
        generator = np.random.default_rng([5, trial.seed])
        used = with_rewrites(pairs, world.rewrites, world.embed, count=REWRITES, generator=generator)
    model = BagReward(seed=trial.seed)
    config = replace(TRAIN, steps=5 if trial.quick else TRAIN.steps, seed=trial.seed)
    PairTrainer(model, bradley_terry(), used, config, folder=trial.folder / "run", progress=False).run()
    reward = model if above is None else fused(model, pairs.samples, list(pairs.chosen), world.embed, above=above)
    found = contrast(contrast_scores(reward, instructions, answers))
    return {"c_res": found.response, "c_ins": found.instruction, "accuracy": pair_accuracy(model, held_out)}


EVIDENCE = Measurement(
    name="look-alikes",
    arms={
        "base": functools.partial(train, rewritten=False, above=None),
        "fusion": functools.partial(train, rewritten=False, above=0.8),
        "loose_fusion": functools.partial(train, rewritten=False, above=0.5),
        "convex": functools.partial(train, rewritten=True, above=None),
        "both": functools.partial(train, rewritten=True, above=0.8),
    },
    claims=(
        Claim("fusion raises C_res", "c_res", "fusion", "base", at_least=0.01),
        Claim("fusion raises C_ins", "c_ins", "fusion", "base", at_least=0.01),
        Claim("rewrites raise C_res", "c_res", "convex", "base", at_least=0.01),
        Claim("both raise C_res by 3 points", "c_res", "both", "base", at_least=0.03),
        Claim("both raise C_ins by 3 points", "c_ins", "both", "base", at_least=0.03),
        Claim("a threshold under the look-alikes' similarity loses", "c_ins", "loose_fusion", "base", at_most=0.0),
    ),
    settings={"pairs": PAIRS, "items": ITEMS, "rewrites": REWRITES, "train": TRAIN.to_json()},
)

METHOD = Method(
    card=Card(
        number=4,
        slug="contrast-instructions",
        title="The Trickle-down Impact of Reward (In-)consistency on RLHF",
        source="arXiv 2309.16155",
        claim="Rewriting training answers along the corners of their embeddings' convex hull, and averaging scores "
        "with near training texts, make a reward model more consistent on look-alike instructions.",
        problem="A reward model that ranks answers to one prompt well may score a good answer to another prompt, that "
        "only looks alike, just as high: pairs never show it that contrast.",
        how="Measure C_res and C_ins on quadruples of look-alikes. In training add one rewrite of each answer, drawn "
        "among those whose embeddings reach furthest. At inference average with up to five training texts that are "
        "nearly the same, weighted by similarity.",
        settings={
            "look-alikes": "cosine of instructions in [0.75, 0.9] (released files)",
            "rewrites": "5 each, one hull corner added to the pair's own (recommended: both sides)",
            "fusion": "5 neighbours at a similarity of 0.9 and more (code)",
        },
        limits=(
            "A fusion threshold under the look-alikes' similarity mixes the wrong neighbour in and does harm.",
            "Fusion costs an embedding a sample, and needs scores that are on one scale across prompts.",
        ),
        usage="""# Python: scores of quadruples, whatever the reward is
from steelyard.audits.contrast import contrast, contrast_scores
contrast(contrast_scores(reward, instructions, answers))""",
    ),
    recipe=None,
    evidence=(EVIDENCE,),
)
