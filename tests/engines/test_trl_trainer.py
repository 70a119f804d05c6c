"""Steelyard's advantages and objectives inside TRL's real GRPOTrainer, beside what TRL itself computes."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

trl = pytest.importorskip("trl", reason="TRL is not installed")

import torch  # noqa: E402
from datasets import Dataset  # noqa: E402
from trl import GRPOConfig, GRPOTrainer  # noqa: E402

from steelyard.engines.trl import to_trl  # noqa: E402
from steelyard.engines.trl_trainer import SHARES, STATE, SteelyardGRPOTrainer, check_seams, weighed  # noqa: E402
from steelyard.learn.advantages import Link, centre, chain, keep_rows, scale  # noqa: E402
from steelyard.learn.objectives import clipped  # noqa: E402
from steelyard.learn.recipe import AdvantageTransform  # noqa: E402
from steelyard.rewards import reward  # noqa: E402
from steelyard.types import Advantages, Rollouts, Scores, SteelyardError  # noqa: E402
from tests.engines.tiny import save_tiny_model  # noqa: E402

PROMPTS = ["a b", "c d", "e f", "g h"]


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny model's folder."""
    return save_tiny_model(tmp_path_factory.mktemp("model"))


@reward
def vowels(completion: str, wanted: str) -> float:
    """The share of wanted letters."""
    letters = completion.replace(" ", "")
    return sum(letter in wanted for letter in letters) / max(1, len(letters))


@reward
def vowels_if_any(completion: str, wanted: str) -> float | None:
    """Cannot judge a completion without a vowel."""
    found = [letter for letter in completion.replace(" ", "") if letter in wanted]
    return len(found) / 8 if found else None


def config(folder: Path, **options: Any) -> GRPOConfig:
    """Two optimiser steps of one generation batch each: 2 prompts × 4 attempts, in micro-batches of 4 rows."""
    given = {
        "per_device_train_batch_size": 4, "gradient_accumulation_steps": 2, "num_generations": 4, "beta": 0.0,
        "max_completion_length": 8, "max_steps": 2, "learning_rate": 1e-2, "logging_steps": 1, "report_to": [],
        "use_cpu": True, "save_strategy": "no", "bf16": False, "disable_tqdm": True, "seed": 0,
    }  # fmt: skip
    return GRPOConfig(output_dir=str(folder), **(given | options))


def data() -> Dataset:
    """Four prompts with one column."""
    return Dataset.from_dict({"prompt": PROMPTS, "wanted": ["aeiou"] * 4})


def make(kind: type, model: str, folder: Path, judge: Any = vowels, parts: Any = None, **options: Any) -> Any:
    """A trainer of either kind on the tiny model."""
    arguments = config(folder, **options)
    return kind(model, reward_funcs=[to_trl(judge)], args=arguments, train_dataset=data(), **(parts or {}))


def trained(trainer: Any) -> tuple[Any, dict[str, torch.Tensor]]:
    """The trainer's log and weights after training."""
    trainer.train()
    return trainer.state.log_history, {k: v.detach().clone() for k, v in trainer.model.named_parameters()}


def watch_batches(trainer: Any) -> list[dict[str, Any]]:
    """Every generation batch that this trainer will train on."""
    seen, inner = [], trainer._generate_and_score_completions

    def outer(inputs: Any) -> Any:
        seen.append(inner(inputs))
        return seen[-1]

    trainer._generate_and_score_completions = outer
    return seen


@pytest.mark.slow
@pytest.mark.parametrize(("average", "loss_type"), [("tokens", "dapo"), ("rows", "grpo")])
def test_the_grpo_recipe_trains_as_trl_itself_does(model_folder: str, tmp_path: Path, average, loss_type) -> None:
    """The same losses, gradients and weights, with clipping, KL and accumulation (SGD: Adam inflates rounding)."""
    shared = {"beta": 0.04, "num_iterations": 2, "max_steps": 4, "optim": "sgd", "learning_rate": 0.3}
    own = {"epsilon": 0.05, "loss_type": loss_type, "use_bias_correction_kl": False}
    theirs, their_weights = trained(make(GRPOTrainer, model_folder, tmp_path / "t", **shared, **own))
    parts = {"advantage": chain(centre(), scale()), "objective": clipped(epsilon=0.05, kl=0.04, average=average)}
    ours, our_weights = trained(make(SteelyardGRPOTrainer, model_folder, tmp_path / "s", parts=parts, **shared))
    losses = [[row["loss"] for row in log if "loss" in row] for log in (ours, theirs)]
    norms = [[row["grad_norm"] for row in log if "loss" in row] for log in (ours, theirs)]
    assert len(losses[0]) == 4
    assert max(map(abs, losses[0])) > 1e-3
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)
    assert norms[0] == pytest.approx(norms[1], rel=1e-4)
    assert max(row["kl"] for row in ours if "loss" in row) > 1e-3
    for name, weight in their_weights.items():
        torch.testing.assert_close(our_weights[name], weight, rtol=1e-3, atol=2e-5)


def test_the_chain_alone_gives_trl_its_advantages(model_folder: str, tmp_path: Path) -> None:
    parts = {"advantage": chain(centre(), scale())}
    theirs = make(GRPOTrainer, model_folder, tmp_path, max_steps=1)
    expected = watch_batches(theirs)
    theirs.train()
    ours = make(SteelyardGRPOTrainer, model_folder, tmp_path, parts=parts, max_steps=1)
    seen = watch_batches(ours)
    ours.train()
    assert expected[0]["advantages"].abs().max() > 0.1
    torch.testing.assert_close(seen[0]["advantages"], expected[0]["advantages"], rtol=1e-5, atol=1e-5)
    assert list(ours._logs["advantages"]) == pytest.approx(seen[0]["advantages"].tolist(), abs=1e-6)


def test_rows_without_a_verdict_are_left_out_everywhere(model_folder: str, tmp_path: Path) -> None:
    parts = {"advantage": chain(centre(), scale()), "objective": clipped(epsilon=0.2, average="rows")}
    trainer = make(SteelyardGRPOTrainer, model_folder, tmp_path, vowels_if_any, parts, max_steps=1)
    seen = watch_batches(trainer)
    trainer.train()
    batch = seen[0]
    shares, mask = batch[SHARES], batch["completion_mask"]
    counted = shares.sum(dim=1) > 0
    assert 0 < counted.sum() < len(counted)
    assert shares.sum().item() == pytest.approx(1.0, abs=1e-6)
    assert (shares[counted].sum(dim=1) - 1 / counted.sum()).abs().max() < 1e-6
    assert not shares[mask == 0].any()
    assert not batch["advantages"][~counted].any()
    row = next(row for row in trainer.state.log_history if "rows_left_out" in row)
    assert row["rows_left_out"] == pytest.approx(1 - counted.float().mean().item())
    assert row["reward_nan/vowels_if_any"] == row["rows_left_out"]
    assert np.isfinite(row["loss"])


def test_one_advantage_a_token(model_folder: str, tmp_path: Path) -> None:
    def later_is_less(advantages: Advantages, rollouts: Rollouts, scores: Scores) -> Advantages:
        assert rollouts.actions is not None
        mask = rollouts.actions.mask
        values = advantages.values[:, None] * 0.5 ** np.arange(mask.shape[1]) * mask
        return Advantages(values, advantages.weights)

    for objective in (None, clipped(epsilon=0.2)):
        parts = {"advantage": chain(centre(), Link("later_is_less()", later_is_less)), "objective": objective}
        trainer = make(SteelyardGRPOTrainer, model_folder, tmp_path, parts=parts, max_steps=1)
        seen = watch_batches(trainer)
        trainer.train()
        batch = seen[0]
        assert batch["advantages"].shape == batch["completion_mask"].shape
        both = batch["completion_mask"][:, :2].all(dim=1)
        first, second = batch["advantages"][both, 0], batch["advantages"][both, 1]
        assert first.abs().max() > 0
        torch.testing.assert_close(second, first / 2)
        assert np.isfinite(next(row["loss"] for row in trainer.state.log_history if "loss" in row))


def test_the_chain_sees_groups_texts_columns_and_parts(model_folder: str, tmp_path: Path) -> None:
    met: list[tuple[Rollouts, Scores]] = []

    def look(rollouts: Rollouts, scores: Scores) -> np.ndarray:
        met.append((rollouts, scores))
        return np.ones(len(rollouts), bool)

    parts = {"advantage": chain(centre(), keep_rows(look))}
    make(SteelyardGRPOTrainer, model_folder, tmp_path, 2.0 * vowels, parts, max_steps=1).train()
    rollouts, scores = met[0]
    assert rollouts.groups.tolist() == [0] * 4 + [1] * 4
    assert list(rollouts.column("wanted")) == ["aeiou"] * 8
    prompts = rollouts.column("prompt")
    assert prompts[0] == prompts[3] != prompts[4]
    np.testing.assert_allclose(scores.values, 2 * scores.parts["vowels"], rtol=1e-6)
    expected = vowels(rollouts).values
    np.testing.assert_allclose(scores.parts["vowels"], expected, rtol=1e-6)


def test_log_probabilities_that_trl_has_not_computed_are_refused(model_folder: str, tmp_path: Path) -> None:
    met: list[np.ndarray] = []

    def likely(rollouts: Rollouts, scores: Scores) -> np.ndarray:
        assert rollouts.actions is not None
        met.append(rollouts.actions.logprobs)
        return np.ones(len(rollouts), bool)

    parts = {"advantage": chain(centre(), keep_rows(likely))}
    with pytest.raises(SteelyardError, match="has not computed the old log-probabilities"):
        make(SteelyardGRPOTrainer, model_folder, tmp_path, parts=parts, max_steps=1).train()
    make(SteelyardGRPOTrainer, model_folder, tmp_path, parts=parts, max_steps=1, num_iterations=2).train()
    assert met[0].shape[0] == 8
    assert (met[0] < 0).any()
    assert np.isfinite(met[0]).all()


def test_an_evaluation_runs_too(model_folder: str, tmp_path: Path) -> None:
    parts = {"advantage": chain(centre(), scale()), "objective": clipped(epsilon=0.2)}
    arguments = config(tmp_path, max_steps=1, eval_strategy="steps", eval_steps=1, per_device_eval_batch_size=8)
    trainer = SteelyardGRPOTrainer(
        model_folder, reward_funcs=[to_trl(vowels)], args=arguments, train_dataset=data(), eval_dataset=data(), **parts
    )
    trainer.train()
    row = next(row for row in trainer.state.log_history if "eval_loss" in row)
    assert np.isfinite(row["eval_loss"])
    assert row["eval_rows_left_out"] == 0.0
    assert row["eval_ratio"] == pytest.approx(1.0)


@pytest.mark.slow
def test_two_processes_share_groups_and_weights(model_folder: str, tmp_path: Path) -> None:
    """A group of eight cut over two processes: the chain sees it whole, and both end with the same weights."""
    worker = Path(__file__).with_name("two_processes.py")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "ACCELERATE_USE_CPU": "true"}
    path = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    processes = [
        subprocess.Popen(
            [sys.executable, str(worker), model_folder, str(tmp_path / str(rank))],
            env=os.environ | shared | {"RANK": str(rank), "LOCAL_RANK": str(rank), "PYTHONPATH": path},
        )
        for rank in range(2)
    ]
    assert [process.wait(timeout=400) for process in processes] == [0, 0]
    one, two = (dict(np.load(tmp_path / f"{rank}.npz")) for rank in range(2))
    rewards, advantages, shares = (np.concatenate([one[k], two[k]]) for k in ("rewards", "advantages", "shares"))
    assert len(rewards) == 8
    counted = ~np.isnan(rewards)
    assert 2 < counted.sum() < 8
    expected = (rewards - rewards[counted].mean()) / (rewards[counted].std(ddof=1) + 1e-4)
    np.testing.assert_allclose(advantages[counted], expected[counted], rtol=1e-4, atol=1e-5)
    assert not advantages[~counted].any()
    np.testing.assert_allclose(shares, counted / counted.sum(), rtol=1e-5)
    assert one["moved"] > 0
    np.testing.assert_array_equal(one["weight"], two["weight"])


class Counting:
    """A link that counts its calls and adds nothing."""

    calls = 0

    def __call__(self, advantages: Advantages, rollouts: Rollouts, scores: Scores) -> Advantages:
        self.calls += 1
        return advantages

    def state_dict(self) -> dict[str, Any]:
        """JSON: the calls so far."""
        return {"calls": self.calls}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on counting."""
        self.calls = state["calls"]


@pytest.mark.slow
def test_state_of_the_chain_is_saved_and_resumed(model_folder: str, tmp_path: Path) -> None:
    def run(link: AdvantageTransform, resume: str | None, **options: Any) -> Path:
        parts = {"advantage": chain(centre(), link)}
        trainer = make(SteelyardGRPOTrainer, model_folder, tmp_path, parts=parts, save_strategy="steps", save_steps=1,
                       **options)  # fmt: skip
        trainer.train(resume_from_checkpoint=resume)
        return tmp_path / f"checkpoint-{trainer.state.global_step}"

    first = run(Counting(), None, max_steps=1)
    assert json.loads((first / STATE).read_text()) == {"1": {"calls": 1}}
    link = Counting()
    run(link, str(first), max_steps=2)
    assert link.calls == 2
    (first / STATE).unlink()
    with pytest.raises(SteelyardError, match=r"checkpoint-1 has no steelyard_advantage.json"):
        run(Counting(), str(first), max_steps=2)


@pytest.mark.parametrize(
    ("options", "objective", "words"),
    [
        ({"scale_rewards": "batch"}, None, r"scale_rewards='batch'\) would do nothing beside the chain"),
        ({"loss_type": "grpo"}, clipped(), r"loss_type='grpo'\) would do nothing beside the objective"),
        ({"epsilon": 0.3}, clipped(), r"epsilon=0.3\) would do nothing beside the objective"),
        ({}, clipped(kl=0.04), r"beta=0.0\) does not fit .* give a positive beta"),
        ({"beta": 0.1}, clipped(), r"beta=0.1\) does not fit .* give beta=0.0"),
    ],
)
def test_options_that_would_be_ignored_are_refused(
    model_folder: str, tmp_path: Path, options, objective, words
) -> None:
    parts = {"advantage": chain(centre()), "objective": objective}
    with pytest.raises(SteelyardError, match=words):
        make(SteelyardGRPOTrainer, model_folder, tmp_path, parts=parts, **options)


def test_a_trainer_that_is_built_otherwise_is_refused() -> None:
    class Later(GRPOTrainer):
        def _compute_loss(self, network, batch):
            """Takes other parameters."""

    check_seams(GRPOTrainer)
    with pytest.raises(SteelyardError, match=rf"TRL {trl.__version__} has another GRPOTrainer._compute_loss"):
        check_seams(Later)
    with pytest.raises(SteelyardError, match=r"_calculate_rewards.*pip install"):
        check_seams(object)


def test_weighed_is_trls_sum_of_reward_functions() -> None:
    by_function = np.asarray([[1.0, 2.0], [np.nan, 2.0], [np.nan, np.nan]], np.float32)
    scores = weighed(by_function, np.asarray([1.0, 0.5]), ["a", "b"])
    np.testing.assert_array_equal(scores.values, [2.0, 1.0, np.nan])
    np.testing.assert_array_equal(scores.parts["a"], by_function[:, 0])
