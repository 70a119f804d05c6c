"""FIRM: the world's truth, its recipe on a real model class, and what the exact checks say of the reward."""

from pathlib import Path

import numpy as np
import pytest

from steelyard.learn.config import TrainConfig
from steelyard.learn.trainer import Trainer
from steelyard.methods.firm import firm, generated_by_firm, guarded_sum
from steelyard.policies.forward_process import ForwardPolicy
from steelyard.rewards import base_and_bonus, fill, reward
from steelyard.types import Rollouts, Sample
from steelyard.worlds.shapes import Shapes, clear
from steelyard.worlds.side_effects import SideEffects, mildly


def attempt(edit, good, rest=0.0):
    return np.repeat(np.float32([edit, good, rest]), 4)[None]


def rollouts(*chunks):
    return Rollouts([Sample(str(i), "edit") for i in range(len(chunks))], list(chunks))


def test_what_an_edit_is_worth() -> None:
    done, lazy, spoilt = attempt(1, -2.5), attempt(0.25, 0), attempt(1, 0, 0.5)
    execution, consistency = SideEffects().truth(rollouts(done, lazy, spoilt))
    assert execution == pytest.approx([1, 0.25, 1]) and consistency == pytest.approx([1, 1 - 1.5 * 0.6 * 0.625, 0])
    _, mild = mildly().truth(rollouts(attempt(1, -1), lazy))
    assert mild == pytest.approx([1, np.exp(-2 * 0.6 * 0.25)])


def test_marks_are_whole_repeatable_and_right_on_average() -> None:
    world, many = SideEffects(), rollouts(*[attempt(0.5, -1.25)] * 4000)
    marks = world.execution(many).values
    assert set(marks.tolist()) <= {1, 2, 3, 4, 5} and abs(marks.mean() - 3) < 0.05 and 0.4 < marks.std() < 0.7
    assert np.array_equal(marks, world.execution(many).values)
    assert not np.array_equal(marks, world.consistency(many).values)


def test_the_policy_begins_with_a_quarter_of_the_edit() -> None:
    world = SideEffects()
    drawn = world.policy().sample(world.samples("test", 1), 1, generator=np.random.default_rng(0), greedy=True)
    assert drawn.completions[0].ravel().tolist() == pytest.approx([0.25] * 4 + [0.0] * 8)


@reward(batch=True)
def bright(rollouts: Rollouts) -> np.ndarray:
    """Mean brightness: it differs between any two pictures."""
    return np.stack(list(rollouts.completions)).mean(axis=(1, 2, 3)) / 255


class Given:
    """Marks that stand in columns."""

    attempts = 2

    @staticmethod
    def _column(name):
        def read(sample: Sample) -> float:
            return sample.columns[name]

        return reward(read, name=name)

    execution, consistency = _column("e"), _column("c")


def given(*pairs):
    return Rollouts([Sample(str(i), "", columns={"e": e, "c": c}) for i, (e, c) in enumerate(pairs)], [""] * len(pairs))


def test_the_rewards_of_the_sheet() -> None:
    pairs = given((1, 5), (1, 1), (3, 3), (5, 1), (5, 5))
    assert firm(Given()).reward(pairs).values == pytest.approx([0.2, 0.136, 0.504, 0.68, 1.0])
    assert guarded_sum(Given()).reward(pairs).values == pytest.approx([0.1, 0.1, 0.3, 0.6, 1.0])
    unread = firm(Given()).reward(given((float("nan"), 5), (5, float("nan"))))
    assert np.isnan(unread.values).all()


def test_two_steps_of_each_recipe_on_a_loaded_image_model(tmp_path: Path) -> None:
    pytest.importorskip("diffusers")
    world = Shapes(steps=3, evaluation_steps=3)
    world.policy().save_pretrained(tmp_path / "model")
    from steelyard.policies.sd3 import load_flow_policy

    class Setting:
        attempts = 4
        execution, consistency = 4 * bright + 1, 4 * clear + 1
        reward = base_and_bonus(bright, fill(clear, 1.0), constant=0.4)

    config = TrainConfig(steps=2, prompts=2, lr=1e-3, micro_rows=8)
    for name, recipe in (("grpo", firm(Setting())), ("nft", generated_by_firm(Setting()))):
        policy = load_flow_policy(tmp_path / "model", guidance=1.0, steps=3, evaluation_steps=3, device="cpu")
        trained = policy if name == "grpo" else ForwardPolicy(policy, copies=2)
        before = [p.detach().clone() for p in policy.module.parameters()]
        samples = world.samples("train", 12)
        rows = Trainer(trained, recipe, samples, config, folder=tmp_path / name, progress=False).run().rows()
        assert len(rows) == 2 and all(np.isfinite(row["reward"]) for row in rows)
        moved = any(not np.array_equal(a, b.detach()) for a, b in zip(before, policy.module.parameters(), strict=True))
        assert moved and all(row["grad_norm"] > 0 for row in rows)
