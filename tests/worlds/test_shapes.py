"""The world of coloured shapes: its checker cannot be fooled, its base listens half of the time, recipes train it."""

import json
import shutil

import numpy as np
import pytest
import torch

from steelyard.learn.config import TrainConfig
from steelyard.learn.trainer import Trainer
from steelyard.methods.densegrpo import densegrpo
from steelyard.methods.flow_grpo import flow_grpo
from steelyard.methods.rlcm import rlcm
from steelyard.rewards import reward
from steelyard.types import Rollouts, Sample, SteelyardError
from steelyard.worlds import shapes
from steelyard.worlds.shapes import ASSETS, CLOSE, COLOURS, SHAPES, Shapes, asked_for, clear, draw, pictures, seen

pytest.importorskip("diffusers")

CONFIG = TrainConfig(steps=2, prompts=2, lr=1e-4, weight_decay=0.0, micro_rows=4, seed=1)


def test_the_checker_knows_every_picture():
    images, shape, colour = pictures(600, np.random.default_rng(0))
    found = seen(images)
    assert (found[0] == shape).all() and (found[1] == colour).all() and (found[2] < 0.5 * CLOSE).all()


def test_the_checker_is_not_fooled_by_noise_flat_paint_or_half_a_picture():
    generator = np.random.default_rng(0)
    noise = generator.integers(0, 256, (64, 16, 16, 3)).astype(np.uint8)
    flat = np.broadcast_to(np.asarray(list(COLOURS.values()), np.uint8)[:, None, None, :], (4, 16, 16, 3))
    faint = (0.5 * pictures(64, generator)[0]).astype(np.uint8)
    for images in (noise, flat, faint):
        assert (seen(images)[2] > CLOSE).all()


def test_the_reward_reads_what_was_asked():
    image = draw(*(np.asarray([value]) for value in (0, 1, 5.0, 0.0, 0.0)))[0]
    samples = [Sample(f"{c}{s}", "", columns={"colour": c, "shape": s}) for c in COLOURS for s in SHAPES]
    rollouts = Rollouts(samples, [image] * len(samples))
    values = asked_for(rollouts).values
    assert values.sum() == 1 and samples[int(values.argmax())].id == "greencircle"
    assert clear(rollouts).values.min() == 1
    with pytest.raises(SteelyardError, match="16×16×3"):
        asked_for(Rollouts(samples[:1], [np.zeros((8, 8, 3), np.uint8)]))


@pytest.fixture(scope="module")
def policy():
    return Shapes(steps=4, evaluation_steps=12).policy()


def test_the_base_draws_clearly_and_listens_half_of_the_time(policy):
    samples = Shapes().samples("test", 12)
    drawn = policy.sample(samples, 16, generator=np.random.default_rng(0), greedy=True)
    assert drawn.completions[0].shape == (16, 16, 3) and drawn.completions[0].dtype == np.uint8
    assert clear(drawn).values.mean() > 0.6
    assert 0.25 < asked_for(drawn).values.mean() < 0.85


def test_the_assets_are_diffusers_own_and_small():
    about = json.loads((ASSETS / "model_index.json").read_text())
    assert about["_class_name"] == "StableDiffusion3Pipeline" and about["transformer"][1] == "SD3Transformer2DModel"
    assert sum(path.stat().st_size for path in shapes.ASSETS.rglob("*.safetensors")) < 2e6


@reward(batch=True)
def brightness(rollouts):
    return np.stack(rollouts.completions).mean(axis=(1, 2, 3)) / 255


@pytest.mark.parametrize("make", [flow_grpo, densegrpo, rlcm])
def test_every_recipe_trains_the_real_classes(make, tmp_path):
    world = Shapes(steps=4, evaluation_steps=4)
    world.attempts, world.reward = 4, brightness
    policy = world.policy()
    before = torch.nn.utils.parameters_to_vector(policy.module.parameters()).clone()
    run = Trainer(policy, make(world), world.samples("train", 12), CONFIG, folder=tmp_path, progress=False).run()
    rows = run.rows()
    assert rows[0]["sampler_gap"] < 1e-4 and rows[0]["grad_norm"] > 0
    after = torch.nn.utils.parameters_to_vector(policy.module.parameters())
    assert torch.isfinite(after).all() and not torch.equal(before, after)


def test_a_saved_policy_is_loaded_the_same(policy, tmp_path):
    from steelyard.policies.sd3 import load_flow_policy

    policy.save_pretrained(tmp_path)
    again = load_flow_policy(tmp_path, guidance=1.5, steps=4, evaluation_steps=12, device="cpu")
    one, two = (
        p.sample(Shapes().samples("test", 2), 2, generator=np.random.default_rng(0), greedy=True).completions
        for p in (policy, again)
    )
    assert np.array_equal(np.stack(one), np.stack(two))


def test_adapters_train_alone_and_are_merged_when_saved(tmp_path):
    from steelyard.policies.lora import LoRA
    from steelyard.policies.sd3 import TARGETS, load_flow_policy

    options = {"guidance": 1.0, "steps": 3, "evaluation_steps": 3, "device": "cpu"}
    adapted = load_flow_policy(str(ASSETS), lora=LoRA(rank=4, alpha=8, targets=TARGETS), **options)
    assert all("lora" in name for name, p in adapted.module.named_parameters() if p.requires_grad)
    adapted.snapshot("reference")
    assert adapted.copies["reference"] is None
    with torch.no_grad():
        for name, parameter in adapted.module.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.1)
    samples = Shapes().samples("test", 2)
    rollouts = adapted.sample(samples, 2, generator=np.random.default_rng(0))
    base = load_flow_policy(str(ASSETS), **options)
    assert torch.allclose(adapted.logprobs(rollouts, copy="reference"), base.logprobs(rollouts), atol=1e-4)
    assert not torch.allclose(adapted.logprobs(rollouts), base.logprobs(rollouts), atol=1e-3)
    adapted.save_pretrained(tmp_path)
    merged = load_flow_policy(tmp_path, **options)
    assert torch.allclose(adapted.logprobs(rollouts), merged.logprobs(rollouts), atol=1e-3)


def test_a_pipeline_with_a_decoder_gives_its_images(tmp_path):
    from diffusers import AutoencoderKL, SD3Transformer2DModel, StableDiffusion3Pipeline

    from steelyard.policies.sd3 import load_flow_policy
    from steelyard.worlds.shapes_base import untrained

    pipeline = untrained()
    vae = AutoencoderKL(block_out_channels=(8, 8), down_block_types=("DownEncoderBlock2D",) * 2,
                        up_block_types=("UpDecoderBlock2D",) * 2, norm_num_groups=4, latent_channels=4,
                        shift_factor=0.1)  # fmt: skip
    transformer = SD3Transformer2DModel(
        sample_size=8, patch_size=2, in_channels=4, out_channels=4, num_layers=1, attention_head_dim=8,
        num_attention_heads=2, joint_attention_dim=64, caption_projection_dim=16, pooled_projection_dim=64,
        pos_embed_max_size=8,
    )  # fmt: skip
    parts = {**pipeline.components, "vae": vae, "transformer": transformer}
    StableDiffusion3Pipeline(**parts).save_pretrained(tmp_path)
    loaded = load_flow_policy(tmp_path, guidance=2.0, steps=2, evaluation_steps=2, device="cpu")
    drawn = loaded.sample(Shapes().samples("test", 2), 2, generator=np.random.default_rng(0))
    assert drawn.completions[0].shape == (16, 16, 3) and drawn.actions.data["x"].shape == (4, 2, 4, 8, 8)
    assert np.abs(loaded.logprobs(drawn).detach().numpy() - drawn.actions.logprobs).max() < 1e-4


def test_bad_folders_are_one_sentence(tmp_path):
    from steelyard.policies.sd3 import load_flow_policy

    with pytest.raises(SteelyardError, match="there is no folder"):
        load_flow_policy(tmp_path / "nothing")
    with pytest.raises(SteelyardError, match="no model_index"):
        load_flow_policy(tmp_path)
    broken = tmp_path / "broken"
    shutil.copytree(str(ASSETS), broken)
    next((broken / "transformer").glob("*.safetensors")).write_bytes(b"none")
    with pytest.raises(SteelyardError, match="could not be loaded"):
        load_flow_policy(broken)
    (broken / "model_index.json").write_text('{"_class_name": "FluxPipeline"}')
    with pytest.raises(SteelyardError, match="must be a StableDiffusion3Pipeline"):
        load_flow_policy(broken)


def test_chat_messages_are_refused(policy):
    with pytest.raises(SteelyardError, match="reads a text"):
        policy.sample(
            [Sample("a", [{"role": "user", "content": "a red circle"}])], 1, generator=np.random.default_rng(0)
        )
