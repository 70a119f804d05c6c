"""Chains and objectives in verl's registries, beside verl's own estimators and losses on the same tensors."""

import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("verl", minversion="0.9.1", reason="verl 0.9 is not installed (pip install steelyard[verl])")

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from verl import DataProto
from verl.trainer.ppo import core_algos
from verl.workers.config import ActorConfig, PolicyLossConfig

from steelyard.engines import export_verl
from steelyard.engines.verl_training import AGGREGATION, register_advantage, register_objective
from steelyard.learn.advantages import Link, centre, chain, keep_rows, scale, with_signal
from steelyard.learn.curricula import uniform
from steelyard.learn.objectives import clipped, step_weights
from steelyard.learn.plans import groups
from steelyard.learn.recipe import Recipe
from steelyard.rewards import math_correct
from steelyard.types import Advantages, SteelyardError

GRPO = chain(centre(), scale(epsilon=1e-6))
UIDS = np.array(["u", "v", "u", "u", "w", "v", "u"], dtype=object)


def rewards_of(values: list[float], mask: torch.Tensor) -> torch.Tensor:
    """Each row's number at its last valid token."""
    tensor = torch.zeros(mask.shape)
    tensor[torch.arange(len(mask)), mask.sum(dim=1) - 1] = torch.tensor(values, dtype=torch.float32)
    return tensor


def mask_of(lengths: list[int], width: int = 6) -> torch.Tensor:
    """1 on the first tokens of each row."""
    return (torch.arange(width) < torch.tensor(lengths)[:, None]).long()


MASK = mask_of([3, 6, 1, 4, 2, 5, 6])


@settings(max_examples=25)
@given(values=st.lists(st.floats(-5, 5, width=32), min_size=7, max_size=7))
def test_centre_and_scale_is_verls_grpo(values: list[float]) -> None:
    estimator = register_advantage("steelyard_grpo", GRPO)
    rewards = rewards_of(values, MASK)
    ours, returns = estimator(token_level_rewards=rewards, response_mask=MASK, index=UIDS, config=None)
    theirs, _ = core_algos.compute_grpo_outcome_advantage(rewards.clone(), MASK, UIDS, epsilon=1e-6)
    lonely = (UIDS == "w").nonzero()[0]  # verl gives a row without company its own score, the house 0
    assert not ours[lonely].any()
    ours[lonely] = theirs[lonely] = 0
    spread = np.asarray(values)
    clear = all(np.ptp(spread[uid == UIDS]) == 0 or np.ptp(spread[uid == UIDS]) > 1e-2 for uid in "uv")
    if clear:  # nearly equal scores: the 1e-6 in the denominator weighs rounding
        torch.testing.assert_close(ours, theirs, rtol=2e-4, atol=2e-4)
    torch.testing.assert_close(returns[lonely], ours[lonely])


def test_the_trainer_s_own_function_finds_the_estimator() -> None:
    """`compute_advantage`, as verl's trainers call it, on a real DataProto with uneven groups and a NaN row."""
    from verl.trainer.ppo.ray_trainer import compute_advantage

    register_advantage("steelyard_chain", chain(centre(), scale()))
    values = [1.0, 0.0, math.nan, 0.0, 5.0, 1.0, 0.5]
    tensors = {"token_level_rewards": rewards_of(values, MASK), "response_mask": MASK}
    data = DataProto.from_dict(tensors=tensors, non_tensors={"uid": UIDS})
    out = compute_advantage(data, "steelyard_chain", config={"norm_adv_by_std_in_grpo": True}).batch
    assert torch.isfinite(out["advantages"]).all()
    assert not out["advantages"][MASK == 0].any()
    assert not out["advantages"][2].any()
    per_row = out["advantages"][:, 0]
    u = np.asarray([1.0, 0.0, 0.5])
    expected = (u - u.mean()) / (u.std(ddof=1) + 1e-4)
    np.testing.assert_allclose(per_row[[0, 3, 6]].numpy(), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(per_row[[1, 5]].numpy(), np.asarray([-1, 1]) / (math.sqrt(2) + 2e-4), rtol=1e-4)
    assert per_row[4] == 0
    assert torch.equal(out["returns"], out["advantages"])


@pytest.mark.parametrize("average", ["tokens", "rows"])
def test_rows_left_out_count_in_no_mean_when_the_objective_is_known(average: Any) -> None:
    """The loss that verl aggregates equals the house's own Σ share · loss over the rows that count."""
    objective = clipped(epsilon=0.2, average=average)
    values = [1.0, 0.0, math.nan, 0.0, 5.0, 1.0, 0.5]
    estimator = register_advantage("steelyard_shares", chain(centre(), with_signal()), objective=objective)
    advantages, _ = estimator(rewards_of(values, MASK), MASK, UIDS)
    plain, _ = register_advantage("steelyard_plain", chain(centre(), with_signal()))(
        rewards_of(values, MASK), MASK, UIDS
    )
    loss = register_objective("steelyard_shares", objective)
    old, new = torch.randn(2, *MASK.shape, generator=torch.Generator().manual_seed(0)) * 0.2
    mode = AGGREGATION[average]
    theirs, _ = loss(old, new, advantages, MASK.bool(), mode)
    counted = np.asarray([1, 1, 0, 1, 0, 1, 1], np.float32)
    shares = torch.as_tensor(step_weights(MASK.bool().numpy(), counted, average))
    ours = (objective(new, old, None, plain).loss * shares).sum()
    assert theirs.item() == pytest.approx(ours.item(), rel=1e-4, abs=1e-7)
    assert abs(ours.item()) > 1e-4


def actor(**options: Any) -> ActorConfig:
    """verl's actor configuration."""
    given = {"strategy": "fsdp", "rollout_n": 4, "ppo_micro_batch_size_per_gpu": 1, "clip_ratio_c": 1e6}
    return ActorConfig(**(given | options))


@pytest.mark.parametrize("mode", ["token-mean", "seq-mean-token-mean", "seq-mean-token-sum"])
def test_clipped_is_verls_vanilla_loss_and_gradient(mode: str) -> None:
    """Equal but for verl's second clip of negative advantages (clip_ratio_c), which is off here."""
    settings_ = {"clip_ratio": 0.2, "clip_ratio_low": 0.2, "clip_ratio_high": 0.28, "loss_agg_mode": mode}
    config = actor(**settings_)
    ours = register_objective("steelyard_clipped", clipped(epsilon=0.2, epsilon_high=0.28, kl=0.04))
    assert core_algos.get_policy_loss_fn("steelyard_clipped") is ours
    generator = torch.Generator().manual_seed(1)
    old, advantages = torch.randn(7, 6, generator=generator) * 0.5 - 2, torch.randn(7, 6, generator=generator)
    correction = torch.rand(7, 6, generator=generator) + 0.5
    moved = old + 0.4 * torch.randn(7, 6, generator=generator)
    for weights in (None, correction):
        results = []
        for function in (ours, core_algos.get_policy_loss_fn("vanilla")):
            new = moved.clone().requires_grad_()
            loss, metrics = function(
                old_log_prob=old, log_prob=new, advantages=advantages, response_mask=MASK.bool(), loss_agg_mode=mode,
                config=config, rollout_is_weights=weights,
            )  # fmt: skip
            loss.backward()
            results.append((loss.item(), new.grad.clone(), metrics))
        (our_loss, our_gradient, our_metrics), (their_loss, their_gradient, their_metrics) = results
        assert our_loss == pytest.approx(their_loss, rel=1e-5)
        torch.testing.assert_close(our_gradient, their_gradient, rtol=1e-5, atol=1e-7)
        assert our_gradient.abs().max() > 1e-3
        clipped_share = our_metrics["actor/clip_fraction"]
        assert clipped_share == pytest.approx(their_metrics["actor/pg_clipfrac"], abs=1e-6)
        assert 0 < clipped_share < 1


def unpadded(values: torch.Tensor, prompt: int) -> torch.Tensor:
    """[N, T] as verl's engines give them: one row after another, the prompt's positions too, moved left by one."""
    rows = [torch.cat([torch.zeros(prompt - 1), row[:length], torch.zeros(1)]) for row, length in
            zip(values, MASK.sum(dim=1), strict=True)]  # fmt: skip
    return torch.cat(rows)


@pytest.mark.parametrize("cuts", [[slice(0, 7)], [slice(0, 3), slice(3, 7)]], ids=["whole", "micro-batches"])
@pytest.mark.parametrize("average", ["tokens", "rows"])
def test_a_recipe_through_verls_actor_loss_is_the_house_loss(average: Any, cuts: list[slice]) -> None:
    """`ppo_loss`, as verl's actor calls it, with the KL term that `export_verl` asks for, whole or in micro-batches."""
    from tensordict import TensorDict
    from verl.workers.utils.losses import ppo_loss

    objective = clipped(epsilon=0.2, kl=0.04, average=average)
    own = chain(centre(), scale())
    advantages, _ = register_advantage("steelyard_whole", own, objective=objective)(
        rewards_of([1, 0, 0.5, 0, 5, 1, 0.5], MASK), MASK, UIDS
    )
    register_objective("steelyard_whole", objective)
    config = actor(
        loss_agg_mode=AGGREGATION[average], use_kl_loss=True, kl_loss_coef=0.04, kl_loss_type="k3",
        policy_loss=PolicyLossConfig(loss_mode="steelyard_whole"),
    )  # fmt: skip
    old, moved, reference = torch.randn(3, *MASK.shape, generator=torch.Generator().manual_seed(3)) * 0.3 - 1
    new = moved.clone().requires_grad_()
    total = 0.0
    for cut in cuts:
        mask = MASK[cut]
        rows = {
            "prompts": torch.ones(len(mask), 2), "responses": torch.ones(mask.shape), "response_mask": mask,
            "attention_mask": torch.cat([torch.ones(len(mask), 2).long(), mask], dim=1), "old_log_probs": old[cut],
            "advantages": advantages[cut], "ref_log_prob": reference[cut],
        }  # fmt: skip
        batch = TensorDict(rows, batch_size=len(mask))
        for name, value in {"dp_size": 1, "batch_num_tokens": int(MASK.sum()), "global_batch_size": len(MASK)}.items():
            batch.set_non_tensor(name, value)
        ends = (2 + MASK.sum(dim=1)).cumsum(dim=0).tolist()
        first, last = ([0, *ends])[cut.start], ends[cut.stop - 1]
        loss, metrics = ppo_loss(config, {"log_probs": unpadded(new, 2)[first:last]}, batch)
        loss.backward()
        total += loss.item()
        assert "actor/clip_fraction" in metrics
    gradient, new.grad = new.grad, None
    shares = torch.as_tensor(step_weights(MASK.bool().numpy(), np.ones(len(MASK), np.float32), average))
    expected = (objective(new, old, reference, advantages).loss * shares).sum()
    expected.backward()
    assert total == pytest.approx(expected.item(), rel=1e-4)
    torch.testing.assert_close(gradient, new.grad, rtol=1e-4, atol=1e-7)
    assert gradient.abs().max() > 1e-3


@pytest.mark.parametrize("estimator", ["k1", "k2", "k3"])
def test_verls_kl_of_our_name_is_ours(estimator: Any) -> None:
    from steelyard.learn.objectives import kl_estimate

    new, reference = torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(2))
    theirs = core_algos.kl_penalty(new, reference, estimator)
    torch.testing.assert_close(kl_estimate(new, reference, estimator), theirs)


def test_one_advantage_a_token() -> None:
    def later_is_less(advantages: Advantages, rollouts: Any, scores: Any) -> Advantages:
        return Advantages(advantages.values[:, None] * 0.5 ** np.arange(6), advantages.weights)

    estimator = register_advantage("steelyard_tokens", chain(centre(), Link("later_is_less()", later_is_less)))
    advantages, _ = estimator(rewards_of([1, 0, 0, 0, 0, 1, 0], MASK), MASK, UIDS)
    np.testing.assert_allclose(advantages[0].numpy(), [0.75, 0.375, 0.1875, 0, 0, 0], rtol=1e-6)


def test_what_verl_does_not_hand_over_is_refused() -> None:
    by_length = keep_rows(lambda rollouts, scores: np.asarray([len(text) > 1 for text in rollouts.completions]))
    estimator = register_advantage("steelyard_texts", chain(centre(), by_length))
    with pytest.raises(SteelyardError, match="gives an advantage estimator rewards, masks and uids only"):
        estimator(rewards_of([1] * 7, MASK), MASK, UIDS)
    for register, what in ((register_advantage, "grpo"), (register_objective, "vanilla")):
        with pytest.raises(SteelyardError, match=f"verl has a .* '{what}' of its own; choose another name"):
            register(what, clipped())  # type: ignore[operator]


def recipe(**parts: Any) -> Recipe:
    """GRPO with an exact match."""
    given = {
        "plan": groups(4), "reward": math_correct, "advantage": GRPO, "curriculum": uniform(),
        "objective": clipped(epsilon=0.2, kl=0.04, average="rows"),
    }  # fmt: skip
    return Recipe(**(given | parts))


@pytest.mark.slow
def test_a_module_that_verl_imports_registers_the_recipe_and_its_words_fit_verls_configuration(tmp_path: Path) -> None:
    """A new process, as verl's workers start: VERL_USE_EXTERNAL_MODULES, then verl's own configuration and loaders."""
    (tmp_path / "my_verl.py").write_text(
        "from steelyard.engines import export_verl\n"
        "from tests_recipe import recipe\n\n"
        "run = export_verl(recipe, module='my_verl')\n"
        "RewardManager = run.reward_manager\n"
    )
    (tmp_path / "tests_recipe.py").write_text(
        "from steelyard.learn.advantages import centre, chain, scale\n"
        "from steelyard.learn.curricula import uniform\n"
        "from steelyard.learn.objectives import clipped\n"
        "from steelyard.learn.plans import groups\n"
        "from steelyard.learn.recipe import Recipe\n"
        "from steelyard.rewards import math_correct\n\n"
        "recipe = Recipe(groups(4), math_correct, chain(centre(), scale()), clipped(kl=0.04), uniform())\n"
    )
    (tmp_path / "check.py").write_text(
        "import verl, os\n"
        "from hydra import compose, initialize_config_dir\n"
        "from verl.trainer.ppo import core_algos\n"
        "from verl.trainer.ppo.reward import resolve_reward_manager_cls\n"
        "from verl.utils.config import omega_conf_to_dataclass\n"
        "import my_verl\n"
        "core_algos.get_adv_estimator_fn('steelyard'), core_algos.get_policy_loss_fn('steelyard')\n"
        "folder = os.path.join(os.path.dirname(verl.__file__), 'trainer', 'config')\n"
        "with initialize_config_dir(folder, version_base=None):\n"
        "    config = compose('ppo_trainer', overrides=list(my_verl.run.overrides) +\n"
        "                     ['actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=1'])\n"
        "assert resolve_reward_manager_cls(config) is my_verl.RewardManager\n"
        "actor = config.actor_rollout_ref.actor\n"
        "print(config.algorithm.adv_estimator, actor.policy_loss.loss_mode, actor.loss_agg_mode, actor.use_kl_loss,\n"
        "      actor.kl_loss_coef, actor.kl_loss_type, config.actor_rollout_ref.rollout.n)\n"
    )
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": path, "VERL_USE_EXTERNAL_MODULES": "my_verl"}
    done = subprocess.run(
        [sys.executable, "check.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=400
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split("\n")[-2] == "steelyard steelyard token-mean True 0.04 k3 4"


def test_export_names_what_verl_is_told() -> None:
    run = export_verl(recipe(objective=clipped(epsilon=0.1, average="rows")), module="my_verl")
    assert "actor_rollout_ref.rollout.n=4" in run.overrides
    assert "actor_rollout_ref.actor.loss_agg_mode=seq-mean-token-mean" in run.overrides
    assert "actor_rollout_ref.actor.use_kl_loss=False" in run.overrides
    assert not any("kl_loss_coef" in word for word in run.overrides)
    assert run.compute_score("x", "4", "4")["score"] == 1.0
