"""SARM and RA-BC (sheet 37): stage-aware progress, and behaviour cloning weighted by what each chunk gains."""

from __future__ import annotations

import functools
from collections.abc import Callable

from steelyard.methods.cloning_training import (
    CHUNK,
    TRAIN,
    Benches,
    Gains,
    cloned,
    fetch,
    learned,
    model_figures,
    oracle,
    points,
)
from steelyard.methods.core import Card, Claim, Measurement, Measures, Method, Trial


def arms(bench: Benches, **given: Gains | None) -> dict[str, Callable[[Trial], Measures]]:
    """Arms by the name of their gains."""
    return {name: functools.partial(cloned, bench=bench, gain=gain) for name, gain in given.items()}


BY_STAGES, BY_TIME = functools.partial(learned, staged=True), functools.partial(learned, staged=False)
FLIPPED = functools.partial(learned, staged=True, sign=-1.0)

WAYPOINTS = Measurement(
    name="waypoints",
    arms=arms(points, bc=None, time=BY_TIME, sarm=BY_STAGES, flipped=FLIPPED, oracle=oracle),
    claims=(
        Claim("weighted by SARM's gains, a policy succeeds in time more often by 0.2", "success", "sarm", "bc", 0.2),
        Claim("and no less often than weighted by elapsed time's", "success", "sarm", "time", at_least=-0.05),
        Claim("with the gains' sign flipped, fewer succeed even late", "late", "flipped", "bc", at_most=-0.2),
    ),
    settings={"chunk": CHUNK, "kappa": "running mean", "cloning": TRAIN.to_json()},
)

MODELS = Measurement(
    name="reward-models",
    arms={
        "time": functools.partial(model_figures, bench=points, staged=False),
        "sarm": functools.partial(model_figures, bench=points, staged=True),
    },
    claims=(
        Claim("labels differ less at the same true progress", "label_std", "sarm", "time", at_most=-0.03),
        Claim("the model is nearer to true progress by a fifth", "error", "sarm", "time", None, -0.2, "relative"),
        Claim("its gains tell good frames no worse", "auc", "sarm", "time", at_least=-0.02),
    ),
    settings={"chunk": CHUNK},
)

FETCH = Measurement(
    name="pick-and-place",
    arms=arms(fetch, bc=None, sarm=BY_STAGES),
    claims=(Claim("on Fetch's pick-and-place it succeeds in time more often by 0.2", "success", "sarm", "bc", 0.2),),
    settings={"chunk": CHUNK, "kappa": "running mean", "cloning": TRAIN.to_json()},
)

METHOD = Method(
    card=Card(
        number=37,
        slug="sarm",
        title="SARM: Stage-Aware Reward Modeling for Long Horizon Robot Manipulation",
        source="arXiv 2509.25358",
        claim="Behaviour cloning weighted by the progress that a stage-aware reward model sees succeeds more often "
        "than cloning every frame, where many demonstrations idle or go back; its labels agree better than elapsed "
        "time does.",
        problem="Demonstrations differ in speed and quality. Elapsed time labels the same state differently, and "
        "cloning every frame copies the dithering.",
        how="Each episode's stages are annotated; progress is the stages done, by their mean share of an episode, plus "
        "the share of the stage in hand. A model learns the stage and the way into it. RA-BC gives a frame weight 1 if "
        "the next chunk gains more than κ, a soft weight if it gains little, and 0 if it loses.",
        settings={
            "kappa": "0.01 for episodes of 90 s (paper); the running mean of the gains here (recommended)",
            "chunk": "the policy's chunk (paper); 5 steps here",
            "window": "first frame and 8 ending at the target (authors); 9 centred, 30 apart (port)",
            "stage told to the regressor": "the true one half the time (authors), 0.75 (port)",
            "rewind, irrelevant words": "probability 0.8 and 0.2 (paper); off in the small worlds",
            "frames without progress": "weight 1 (port); `missing=0.0` leaves them out",
            "reward model": "two transformers: 8 layers, 12 heads, width 768, on CLIP (paper); small, on states here",
        },
        limits=(
            "It needs annotated stages, and demonstrations that do succeed in the end.",
            "On Fetch's pick-and-place the gain is small here: a small model on 80 episodes tells little headway.",
            "If the mean weight is near 1, it is plain cloning: raise κ.",
            "Idling keeps the soft weight; only losing ground has weight 0.",
            "Centred windows look ahead: right for relabelling, wrong for a reward while acting.",
            "Gains that are misaligned by some frames still help in part: trust the exact checks, not a success rate.",
        ),
        usage="""# Python: episodes with stages; then weights for any policy that can be shown what to do
from steelyard.learn.cloning import ClonedRows, RowTrainer
from steelyard.rewards.models.stage_rows import Causal, StageRows, episode_progress
from steelyard.rewards.progress import RunningGainWeights, gains
RowTrainer(StageRows(model, episodes, orders, window=Causal()), config, folder=folder / "reward").run()
found = episode_progress(model, episodes, window=Causal(), scheme="task")
weigh = RunningGainWeights(np.concatenate([gains(p, 50) for p, _ in found]))
RowTrainer(ClonedRows(policy, samples, chunks), config, folder=folder / "policy", weigh=weigh).run()""",
    ),
    recipe=None,
    evidence=(MODELS, WAYPOINTS, FETCH),
)
