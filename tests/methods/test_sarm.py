"""SARM on the real things: gymnasium-robotics' Fetch, rendered frames, CLIP and stage models from local folders."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import CLIPConfig, CLIPModel, PreTrainedTokenizerFast

from steelyard.learn.cloning import RowTrainer
from steelyard.learn.config import TrainConfig
from steelyard.methods.cloning_training import Bench, cloned, cloned_rows, fetch, learned, points
from steelyard.methods.core import Trial
from steelyard.policies.control import ControlPolicy
from steelyard.rewards.models.clip import FrozenClip
from steelyard.rewards.models.stage_rows import Causal, Episode, StageRows, episode_progress
from steelyard.rewards.models.stages import StageConfig, StageTransformer, load_stage_model
from steelyard.rewards.progress import RunningGainWeights, complete, gains, temporal_proportions
from steelyard.types import SteelyardError
from steelyard.worlds.pick_and_place import ORDER, SIZE, WORDS, PickAndPlace

CONFIG = TrainConfig(steps=3, prompts=16, micro_rows=16, lr=1e-3)


def clip_folder(folder: Path) -> Path:
    """A CLIP of a few thousand numbers, with a tokenizer of words."""
    torch.manual_seed(0)
    words = {word: i for i, word in enumerate(["<pad>", "<unk>", "<end>", *sorted(set(WORDS.split())), "sing"])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>", eos_token="<end>")
    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {**small, "vocab_size": len(words), "max_position_embeddings": 16, "eos_token_id": 2, "pad_token_id": 0}
    config = CLIPConfig(
        text_config=text, vision_config={**small, "image_size": 32, "patch_size": 16}, projection_dim=12
    )
    CLIPModel(config).save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


def test_the_recipe_runs_on_rendered_frames_of_the_real_task(tmp_path: Path) -> None:
    world = PickAndPlace(size=24, patience=6)
    try:
        demonstrations = world.demonstrations(world.samples("train", 2), dithers=1.0)
    except (SteelyardError, AttributeError, ImportError, RuntimeError) as error:
        pytest.skip(f"no frames can be rendered here: {error}")
    clip = FrozenClip.from_pretrained(clip_folder(tmp_path / "clip"))
    text, other = clip.words([WORDS, "sing"])
    shown = [d.trajectory for d in demonstrations]
    seen = [clip.frames(t.columns["frames"])[:, None] for t in shown]
    assert seen[0].shape == (len(shown[0].observations), 1, 12) and not np.allclose(text, other)
    episodes = [
        Episode(t.observations, frames, text, {"coarse": d.stages})
        for t, frames, d in zip(shown, seen, demonstrations, strict=True)
    ]
    priors = temporal_proportions([d.stages for d in demonstrations], ORDER)
    sizes = {"frame_width": 12, "text_width": 12, "state_width": SIZE, "width": 16, "layers": 1, "heads": 2}
    config = StageConfig({"coarse": list(priors.values())}, **sizes)
    StageTransformer(config).save_pretrained(tmp_path / "stages")
    model, window = load_stage_model(tmp_path / "stages"), Causal(gap=2)
    rows = StageRows(model, episodes, {"coarse": ORDER}, window=window, irrelevant=other[None])
    RowTrainer(rows, CONFIG, folder=tmp_path / "reward", progress=False).run()
    found = episode_progress(model, episodes, window=window, scheme="coarse")
    weigh = RunningGainWeights(np.concatenate([gains(p, 5)[:-1] for p, _ in found]))
    world.policy(seed=0).save_pretrained(tmp_path / "policy")
    policy = ControlPolicy.from_pretrained(tmp_path / "policy", environment=world.environment, patience=6)
    run = RowTrainer(cloned_rows(policy, shown), CONFIG, folder=tmp_path / "bc", weigh=weigh, progress=False).run()
    assert len(run.rows()) == 3 and all(np.isfinite(row["loss"]) for row in run.rows())
    tried = policy.sample(world.samples("test", 2), 1, generator=np.random.default_rng(0))
    assert tried.completions[0].observations.shape == (7, SIZE) and torch.isfinite(policy.logprobs(tried)).all()
    world.close()


def test_the_script_solves_the_task_and_its_stages_are_whole() -> None:
    world = PickAndPlace()
    samples = world.samples("train", 4)
    found = world.demonstrations(samples, dithers=0.0)
    assert len(found) == 4 and all(complete(d.stages, ORDER) and d.good.all() for d in found)
    slow = world.demonstrations(samples, dithers=1.0)
    assert sum(len(d.good) for d in slow) > sum(len(d.good) for d in found) and not all(d.good.all() for d in slow)
    again = world.demonstrations(samples[:1], dithers=0.0)[0]
    assert np.allclose(again.trajectory.actions, found[0].trajectory.actions, atol=1e-6)
    world.close()


@pytest.mark.parametrize("bench", [points, fetch])
def test_an_arm_runs_a_few_steps(bench, tmp_path: Path) -> None:
    by_stages = lambda trial, task: learned(trial, task, staged=True)  # noqa: E731
    found = cloned(Trial(0, tmp_path, quick=True), bench=bench, gain=by_stages)
    assert set(found) == {"success", "late", "weight"} and 0 < found["weight"] <= 1
    assert isinstance(bench(Trial(0, tmp_path, quick=True)), Bench)


def test_clip_refuses_what_it_is_not(tmp_path: Path) -> None:
    StageTransformer(StageConfig(width=12, layers=1)).save_pretrained(tmp_path / "other")
    with pytest.raises(SteelyardError):
        FrozenClip.from_pretrained(tmp_path / "other")
    with pytest.raises(SteelyardError, match="no folder"):
        FrozenClip.from_pretrained(tmp_path / "nothing")
    clip = FrozenClip.from_pretrained(clip_folder(tmp_path / "clip"))
    with pytest.raises(SteelyardError, match="frames for CLIP"):
        clip.frames(np.zeros((2, 8, 8), np.uint8))
    with pytest.raises(SteelyardError, match="at least one text"):
        clip.words([])
