"""Flow-GRPO, DenseGRPO and RLCM in the trainer: they learn, resume, and their rewards of steps telescope."""

import functools

import numpy as np
import pytest
import torch

from steelyard.learn.config import TrainConfig
from steelyard.learn.noise import calibrated, within_share
from steelyard.learn.trainer import Trainer
from steelyard.methods.core import Trial
from steelyard.methods.densegrpo import densegrpo, terminal
from steelyard.methods.flow_grpo import flow_grpo, spread_of
from steelyard.methods.generation import curve
from steelyard.methods.rlcm import rlcm
from steelyard.policies.kernels import even_sigmas, ode, sde, sde_levels
from steelyard.rewards.denoising import dense_steps, state_steps
from steelyard.types import SteelyardError
from steelyard.worlds import eight_modes

CONFIG = TrainConfig(
    steps=4, prompts=8, lr=1e-3, weight_decay=0.0, schedule="constant", grad_clip=1.0, micro_rows=500, seed=7
)


def train(folder, world, recipe, config=CONFIG):
    policy = world.policy()
    run = Trainer(policy, recipe, world.samples("train", 8), config, folder=folder, progress=False).run()
    return policy, run.rows()


@pytest.mark.parametrize(
    ("world", "make"),
    [
        (eight_modes.without_prompts, flow_grpo),
        (eight_modes.with_prompts, densegrpo),
        (eight_modes.with_prompts, functools.partial(terminal, beta=0.0)),
        (eight_modes.in_few_steps, functools.partial(rlcm, buffer=48)),
    ],
)
def test_the_first_update_is_on_policy(tmp_path, world, make):
    _, rows = train(tmp_path, world(), make(world()))
    assert rows[0]["ratio"] == pytest.approx(1.0, abs=1e-5) and rows[0]["sampler_gap"] < 1e-4
    assert all(row["skipped"] == 0 and row["grad_norm"] > 0 for row in rows)
    assert rows[0].get("kl") in (None, 0.0) and (rows[-1].get("kl") or 0.0) >= 0.0


def test_micro_batches_change_nothing(tmp_path):
    world, ends = eight_modes.with_prompts(), []
    for rows in (24, 4096):
        config = TrainConfig(**{**CONFIG.to_json(), "steps": 2, "micro_rows": rows, "trackers": ()})
        policy, _ = train(tmp_path / str(rows), world, densegrpo(world), config)
        ends.append(torch.nn.utils.parameters_to_vector(policy.module.parameters()))
    assert torch.allclose(*ends, atol=1e-5)


def test_a_run_goes_on_to_the_same_numbers(tmp_path):
    world = eight_modes.in_few_steps()
    whole, _ = train(tmp_path / "whole", world, rlcm(world))
    config = TrainConfig(**{**CONFIG.to_json(), "checkpoint_every": 2, "trackers": ()})
    first = Trainer(
        world.policy(), rlcm(world), world.samples("train", 8), config, folder=tmp_path / "cut", progress=False
    )
    for _ in range(2):
        first.loop._log(first.train_step(), [])
    first.loop._save()
    policy = world.policy()
    Trainer(policy, rlcm(world), world.samples("train", 8), config, folder=tmp_path / "cut", progress=False).run()
    pairs = zip(whole.module.state_dict().values(), policy.module.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_gains_of_steps_telescope():
    world = eight_modes.with_prompts()
    policy = world.policy()
    rollouts = policy.sample(world.samples("train", 3), 4, generator=np.random.default_rng(0))
    dense, states = dense_steps(world.reward), state_steps(world.reward)
    for reward in (dense, states):
        reward.use_policy(policy)
    scores, after = dense(rollouts), states(rollouts)
    assert np.array_equal(scores.values, world.reward(rollouts).values)
    starts = policy.completed(rollouts)[0]
    rollouts.completions = starts
    assert scores.steps.sum(axis=1) == pytest.approx(scores.values - world.reward(rollouts).values, abs=1e-5)
    assert after.steps[:, -1] == pytest.approx(scores.values)
    assert np.diff(after.steps, axis=1) == pytest.approx(scores.steps[:, 1:], abs=1e-6)


def test_a_still_sampler_gains_nothing():
    world = eight_modes.with_prompts()
    policy = world.policy()
    levels = np.zeros(10)
    levels[4] = 0.7
    policy.use_levels(levels)
    rollouts = policy.sample(world.samples("train", 3), 4, generator=np.random.default_rng(0))
    reward = dense_steps(world.reward)
    reward.use_policy(policy)
    steps = reward(rollouts).steps
    assert np.abs(np.delete(steps, 4, axis=1)).max() < 1e-5 < np.abs(steps[:, 4]).max()


def test_noise_is_calibrated_before_training():
    world = eight_modes.with_prompts()
    policy = world.policy()
    first = sde_levels(even_sigmas(10), 0.7)
    found = calibrated(
        policy,
        world.samples("train", 8),
        dense_steps(world.reward),
        first,
        rounds=2,
        attempts=8,
        generator=np.random.default_rng(0),
        balanced=within_share(),
    )
    steps = np.abs(found - first)
    assert ((np.abs(steps - 0.02) < 1e-6) | (steps < 1e-6)).all()
    assert policy.kernel.noise == pytest.approx(sde(even_sigmas(10), found).noise)
    with pytest.raises(SteelyardError, match="no scores of steps"):
        calibrated(policy, world.samples("train", 8), world.reward, first, rounds=1, generator=np.random.default_rng(0))


def test_rewards_of_steps_need_a_denoising_policy():
    with pytest.raises(SteelyardError, match="needs a policy of denoising steps"):
        dense_steps(eight_modes.near_own_mode)(
            eight_modes.with_prompts()
            .policy()
            .sample(eight_modes.with_prompts().samples("train", 2), 2, generator=np.random.default_rng(0))
        )
    with pytest.raises(SteelyardError, match="at least 1"):
        dense_steps(eight_modes.near_own_mode, steps=0)


def test_an_exact_kl_is_refused_to_a_policy_without_one(tmp_path):
    from tests.learn.tiny import TinyPolicy, data, recipe

    parts = recipe(objective=flow_grpo(eight_modes.without_prompts()).objective)
    with pytest.raises(SteelyardError, match="no KL in closed form"):
        Trainer(TinyPolicy(), parts, data(), CONFIG, folder=tmp_path, progress=False)


def test_the_reward_rises_and_the_kl_holds(tmp_path):
    world = eight_modes.without_prompts()
    rows = {}
    config = TrainConfig(**{**CONFIG.to_json(), "steps": 40, "prompts": 4, "micro_rows": 4096, "trackers": ()})
    for beta in (0.0, 2.0):
        _, rows[beta] = train(tmp_path / str(beta), world, flow_grpo(world, beta=beta, epsilon=1e-2), config)
    free, held = (np.mean([row["reward"] for row in rows[beta][-5:]]) for beta in (0.0, 2.0))
    assert free > 1.0 and 0.2 < held < free


def test_a_curve_counts_network_calls(tmp_path):
    world = eight_modes.in_few_steps()
    found = curve(Trial(0, tmp_path, quick=True), world=world, recipe=rlcm, train=CONFIG)
    assert found["network_calls"] == 2 * 8 * 48 * 8 == found["calls_to_goal"] and found["reached"] == 0
    assert {"reward@0", "reward@1", "reward@2"} <= set(found)


def test_the_spread_is_measured(tmp_path):
    figures = spread_of(Trial(0, tmp_path, quick=True), kernel=ode(even_sigmas(20)))
    assert figures["off"] == pytest.approx(abs(figures["spread"] - 0.5)) and figures["off"] < 0.1


def test_the_shipped_networks_know_the_modes():
    for make, most in (
        (eight_modes.without_prompts, 0.45),
        (eight_modes.with_prompts, 0.45),
        (eight_modes.in_few_steps, 0.45),
    ):
        world = make()
        drawn = world.policy().sample(world.samples("test", 8), 64, generator=np.random.default_rng(0), greedy=True)
        points = np.stack(drawn.completions)
        assert eight_modes.distance_to_modes(points).mean() < most
        nearest = np.linalg.norm(points[:, None] - eight_modes.MODES[None], axis=2).argmin(1)
        assert (np.bincount(nearest, minlength=8) > 512 / 24).all()


@pytest.mark.parametrize("slug", ["flow-grpo", "firm", "paco-rl"])
def test_texts_of_ones_own_are_refused_with_a_sentence(tmp_path, slug):
    from steelyard.methods.study import run_study

    (tmp_path / "mine.jsonl").write_text('{"id": "1", "prompt": "a lamp"}\n')
    with pytest.raises(SteelyardError, match="makes images"):
        run_study(slug, out=tmp_path / "out", model="somebody/sd3", data=tmp_path / "mine.jsonl")


def test_the_page_shows_samples_of_every_arm_beside_each_other(tmp_path):
    import json

    from steelyard.methods.pictures import write_grid
    from steelyard.report import build_report
    from steelyard.worlds.shapes import Shapes

    pytest.importorskip("diffusers")
    world = Shapes(steps=3, evaluation_steps=3)
    for name in ("base", "flow-grpo"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "measures.json").write_text('{"asked_for": 0.5}')
    config = TrainConfig(**{**CONFIG.to_json(), "steps": 1, "prompts": 1, "micro_rows": 4, "trackers": ()})
    world.attempts = 4
    folder = tmp_path / "flow-grpo"
    Trainer(world.policy(), flow_grpo(world), world.samples("train", 12), config, folder=folder, progress=False).run()
    arms = [{"name": name, "label": name.upper(), "folder": name} for name in ("base", "flow-grpo")]
    (tmp_path / "study.json").write_text(json.dumps({"title": "Shapes", "arms": arms, "metrics": ["asked_for"]}))
    write_grid(world, tmp_path, "flow-grpo", 2)
    table = json.loads((tmp_path / "samples" / "samples.json").read_text())
    assert table["columns"] == ["BASE", "FLOW-GRPO"] and [row["prompt"] for row in table["rows"]] == [
        "a red circle",
        "a red square",
    ]
    page = build_report(tmp_path).read_text()
    assert page.count('alt="samples for a red circle"') == 2 and "bench pvr" not in page


def test_an_exact_kl_is_not_carried_to_other_trainers():
    from steelyard.engines.export import export_verl

    with pytest.raises(SteelyardError, match="no exact one"):
        export_verl(flow_grpo(eight_modes.without_prompts()), module="somewhere")
