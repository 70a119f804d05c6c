"""PaCo-RL: its world's base, its recipe on a real image model at half the size, and the exact checks of the sum."""

from pathlib import Path

import numpy as np
import pytest
import torch

from steelyard.learn.advantages import advantages_of, scale
from steelyard.learn.config import TrainConfig
from steelyard.learn.step_advantages import scale_overall
from steelyard.learn.trainer import Trainer
from steelyard.methods.paco_rl import paco_rl
from steelyard.policies.sd3 import resized
from steelyard.rewards import log_tamed, reward
from steelyard.types import Rollouts, Sample, Scores, SteelyardError
from steelyard.worlds.eight_modes import with_prompts
from steelyard.worlds.shapes import Shapes
from steelyard.worlds.tight_and_wide import SPREAD, TightAndWide, tight, wide


def test_the_base_is_the_normal_that_it_says() -> None:
    world = TightAndWide()
    policy = world.policy(seed=3)
    drawn = policy.sample(world.samples("test", 4), 1000, generator=np.random.default_rng(0), greedy=True)
    points = np.stack(list(drawn.completions))
    assert np.abs(points.mean(0)).max() < 0.03 and np.abs(points.std(0) - SPREAD).max() < 0.05
    assert wide(drawn).values.mean() == pytest.approx(3.5, abs=0.25)
    assert tight(drawn).values.mean() == pytest.approx(2.54, abs=0.05)
    spread = {name: part[0] for name, part in log_tamed(wide, tight)(drawn).parts.items() if "spread" in name}
    assert spread["spread/wide"] == pytest.approx(0.93, abs=0.1)
    assert spread["spread/tight"] == pytest.approx(0.12, abs=0.03)


def test_rewards_are_what_they_say() -> None:
    points = [np.float32(point) for point in ([0, 0.8, 9, 9], [-1, 0.8, 0, 0], [3, 0, 0, 0])]
    rollouts = Rollouts([Sample(str(i), "") for i in range(3)], points)
    assert wide(rollouts).values == pytest.approx([3, 0, 33]) and tight(rollouts).values == pytest.approx([3, 2.5, 0])


def test_equal_rewards_teach_nothing_without_an_epsilon() -> None:
    values = np.full(4, 0.3)
    rollouts = Rollouts([Sample(str(i), "") for i in range(4)], [""] * 4, group=np.zeros(4, int))
    for link in (scale(ddof=0, epsilon=0.0, floor=1e-6), scale_overall(epsilon=0.0, floor=1e-6)):
        found = link(advantages_of(Scores(values - values.mean())), rollouts, Scores(values))
        assert np.abs(found.values).max() == 0 and "floor=1e-06" in repr(link)


@reward(batch=True)
def bright(rollouts: Rollouts) -> np.ndarray:
    """Mean brightness, 0 to 1."""
    return np.stack(list(rollouts.completions)).mean(axis=(1, 2, 3)) / 255


@reward(batch=True)
def red(rollouts: Rollouts) -> np.ndarray:
    """Mean of the red, 0 to 10."""
    return np.stack(list(rollouts.completions))[..., 0].mean(axis=(1, 2)) / 25.5


def test_two_steps_at_half_the_size_train_the_loaded_model(tmp_path: Path) -> None:
    pytest.importorskip("diffusers")
    from steelyard.policies.sd3 import load_flow_policy

    world = Shapes(steps=3, evaluation_steps=3)
    world.policy().save_pretrained(tmp_path / "model")
    whole = load_flow_policy(tmp_path / "model", guidance=1.0, steps=3, evaluation_steps=3, device="cpu")

    class Setting:
        attempts, rewards = 4, (red, bright)

    small = resized(whole, 8)
    before = torch.nn.utils.parameters_to_vector(whole.module.parameters()).detach().clone()
    config = TrainConfig(steps=2, prompts=2, lr=1e-3, micro_rows=8)
    samples = world.samples("train", 12)
    rows = Trainer(small, paco_rl(Setting()), samples, config, folder=tmp_path / "run", progress=False).run().rows()
    assert all(np.isfinite(row["reward"]) and row["grad_norm"] > 0 for row in rows)
    assert "part/tamed/red" in rows[0]
    assert not torch.equal(before, torch.nn.utils.parameters_to_vector(whole.module.parameters()))
    for policy, side in ((small, 8), (whole, 16)):
        image = policy.sample(samples[:1], 1, generator=np.random.default_rng(0), greedy=True).completions[0]
        assert image.shape == (side, side, 3)


def test_sizes_that_do_not_fit_are_refused() -> None:
    pytest.importorskip("diffusers")
    for size in (0, 7, 4096):
        with pytest.raises(SteelyardError, match="do not fit"):
            resized(Shapes().policy(), size)
    with pytest.raises(SteelyardError, match="draws one size only"):
        resized(with_prompts().policy(), 8)
