"""ROVA (sheet 01): video reasoning that stays right under rain, fog, night, shake and occlusion."""

from __future__ import annotations

from steelyard.learn.advantages import centre, chain, only, scale
from steelyard.learn.config import TrainConfig
from steelyard.learn.curricula import self_reflective, uniform
from steelyard.learn.difficulty import behavioural
from steelyard.learn.objectives import clipped
from steelyard.learn.plans import two_branches
from steelyard.learn.recipe import Curriculum, Recipe
from steelyard.methods.core import Card, Claim, Experiment, Method, VideoSetting
from steelyard.methods.grpo import grpo, grpo_augmented
from steelyard.methods.video import pvr, write_examples
from steelyard.rewards.answers import INSTRUCTION, answer_text, correct, think_format
from steelyard.rewards.consistency import branch_alignment, reasoning_similarity, same_answer
from steelyard.worlds.moving_blob import MovingBlob
from steelyard.worlds.video_questions import VideoQuestions


def _aligned(setting: VideoSetting, curriculum: Curriculum, *, trained_branch: int = 1) -> Recipe:
    reasoning = branch_alignment(reasoning_similarity(setting.similarity), name="same_reasoning")
    answer = branch_alignment(same_answer, name="same_answer")
    return Recipe(
        plan=two_branches(perturb=setting.corruptions, n=setting.attempts),
        reward=think_format + correct + 0.5 * reasoning + 0.5 * answer,
        advantage=chain(only(branch=trained_branch), centre(), scale()),
        objective=clipped(epsilon=0.2, kl=0.04),
        curriculum=curriculum,
    )


def rova(setting: VideoSetting) -> Recipe:
    """Dual-branch alignment, trained on what is neither trivial nor hopeless."""
    return _aligned(setting, self_reflective(behavioural(answer_text), tau=0.8, k_max=3, period=50, memory=100))


def naive_dual(setting: VideoSetting) -> Recipe:
    """Alignment on every sample, without the curriculum."""
    return _aligned(setting, uniform())


def wrong_wiring(setting: VideoSetting) -> Recipe:
    """As the released code has it: the gradient goes through the clean completions. It must fail."""
    return _aligned(setting, uniform(), trained_branch=0)


_ARMS = {"grpo": grpo, "grpo_augmented": grpo_augmented, "naive_dual": naive_dual, "rova": rova}
_LABELS = {"grpo": "GRPO", "grpo_augmented": "GRPO + augmentation", "rova": "ROVA"}
_SHARED_CLAIMS = (
    Claim("clean accuracy is not lower by more than 0.01", "clean", "rova", "grpo", at_least=-0.01),
    Claim("within 0.02 of training on every corrupted sample", "corrupted", "rova", "naive_dual", at_least=-0.02),
    Claim("at most 40% of its gradient prompts", "gradient_prompts", "rova", "naive_dual", at_most=0.4, form="share"),
    Claim("alignment raises reasoning agreement", "agreement", "naive_dual", "grpo_augmented", at_least=0.02),
    Claim("ROVA's reasoning agreement is above augmentation's", "agreement", "rova", "grpo_augmented", at_least=0.0),
)

BENCH_TOP = Experiment(
    name="moving-blob",
    world=MovingBlob,
    arms=_ARMS | {"wrong_wiring": wrong_wiring},
    train=TrainConfig(steps=300, prompts=32, lr=1e-3, weight_decay=0.0, micro_rows=1024),
    measure=pvr,
    examples=write_examples,
    demo_arms=tuple(_LABELS),
    labels=_LABELS,
    claims=(
        Claim("ROVA beats GRPO on clean clips under corruption", "corrupted", "rova", "grpo", at_least=0.07),
        *_SHARED_CLAIMS,
        Claim("the wrong wiring gains less than 0.02 over GRPO", "corrupted", "wrong_wiring", "grpo", at_most=0.02),
    ),
    data=9600,
    test_count=128,
    greedy=False,
    quick={"steps": 4},
)

VIDEO = Experiment(
    name="video-questions",
    world=VideoQuestions,
    arms=_ARMS,
    train=TrainConfig(steps=100, prompts=64, lr=1e-4, weight_decay=0.0, warmup=10, micro_rows=256),
    measure=pvr,
    examples=write_examples,
    demo_arms=tuple(_LABELS),
    labels=_LABELS,
    claims=(
        Claim("24% relative over GRPO under corruption", "corrupted", "rova", "grpo", at_least=0.24, form="relative"),
        *_SHARED_CLAIMS,
    ),
    data=6400,
    test_count=128,
    quick={"steps": 2, "prompts": 4},
    demo={"steps": 50},
)

METHOD = Method(
    card=Card(
        number=1,
        slug="rova",
        title="Are Video Reasoning Models Ready to Go Outside?",
        source="arXiv 2603.10652",
        claim="Aligning the reasoning on a corrupted clip with that on the clean one, on clips that are neither "
        "trivial nor hopeless, raises accuracy under corruption without losing it on clean clips, at a fraction of "
        "the gradient prompts.",
        problem="A video model loses up to a third of its accuracy when the same clip is seen through fog, darkness, "
        "an occluder or a shaking camera.",
        how="Two branches answer each question: one sees the clip as it is, one under a corruption. The corrupted "
        "branch is rewarded for form, for the right answer, and for the reasoning and answer that the clean branch "
        "gave; only it is trained. The policy itself says which corrupted clips are easy (left out), informative "
        "(trained) or difficult (kept by name and seed in a memory, asked again later).",
        settings={
            "alpha_r, alpha_a": "0.5 each (recommended; not found in the paper)",
            "epsilon": "0.2 (recommended)",
            "kl": "0.04 with the k3 estimator (paper's code)",
            "group": "8 (paper's code with memory; 4 without)",
            "tau, k_max, period, memory": "0.8, 3, 50 steps, 100 (recommended)",
            "difficulty": "behavioural, 4 clean and 4 corrupted answers (recommended where a model can't be prompted)",
        },
        limits=(
            "Corruptions that destroy the answer only fill the memory: train on those that a person could answer.",
            "Alignment can be won by being wrong the same way twice: watch accuracy and alignment apart.",
            "Judging difficulty costs 8 short label-free samples a candidate.",
        ),
    ),
    recipe=rova,
    evidence=(BENCH_TOP, VIDEO),
    instruction=INSTRUCTION,
)
