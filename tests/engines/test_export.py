"""Whole recipes carried into another trainer, and those that cannot be."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

from steelyard.engines import export_trl, export_verl
from steelyard.learn.advantages import centre, chain, scale, single, with_signal
from steelyard.learn.curricula import uniform
from steelyard.learn.objectives import clipped
from steelyard.learn.plans import groups
from steelyard.learn.rank_shaping import unlikeliness
from steelyard.learn.recipe import Recipe
from steelyard.methods.grpo import METHOD, grpo, grpo_augmented
from steelyard.methods.rlpr import rlpr
from steelyard.methods.rova import rova
from steelyard.perturb.video import outdoor_corruptions
from steelyard.rewards import math_correct, reward
from steelyard.rewards.consistency import shared_words
from steelyard.types import Advantages, SteelyardError
from tests.engines.tiny import save_tiny_model

SETTING: Any = SimpleNamespace(corruptions=outdoor_corruptions(), similarity=shared_words, attempts=4)


@reward
def vowels(completion: str) -> float:
    """How many letters are vowels."""
    return float(sum(letter in "aeiou" for letter in completion))


def trained_in_trl(recipe: Recipe, folder: Path, **options: Any) -> Any:
    """TRL's trainer after two steps of a recipe on a tiny model."""
    from datasets import Dataset
    from trl import GRPOConfig

    run = export_trl(recipe)
    arguments = GRPOConfig(
        str(folder / "out"), per_device_train_batch_size=8, max_completion_length=8, max_steps=2, logging_steps=1,
        use_cpu=True, bf16=False, report_to=[], save_strategy="no", disable_tqdm=True, **run.arguments, **options,
    )  # fmt: skip
    trainer = run.trainer(
        save_tiny_model(folder / "model"),
        reward_funcs=run.reward_funcs,
        args=arguments,
        train_dataset=Dataset.from_dict({"prompt": ["a b", "c d"] * 4}),
    )
    before = {name: weight.detach().clone() for name, weight in trainer.model.named_parameters()}
    trainer.train()
    assert any(not weight.equal(before[name]) for name, weight in trainer.model.named_parameters())
    return trainer


@pytest.mark.slow
def test_ranks_by_likelihood_train_in_trl_where_it_keeps_the_old_log_probabilities(tmp_path: Path) -> None:
    pytest.importorskip("trl")
    ranked = chain(unlikeliness(0.25), centre(), scale())
    recipe = Recipe(groups(4), vowels, ranked, clipped(epsilon=0.2), uniform())
    trainer = trained_in_trl(recipe, tmp_path / "kept", steps_per_generation=2)
    assert any("loss" in row for row in trainer.state.log_history)
    with pytest.raises(SteelyardError, match="steps_per_generation"):
        trained_in_trl(recipe, tmp_path / "unknown")


def test_rewards_that_ask_the_policy_and_several_advantages_are_refused() -> None:
    pytest.importorskip("trl")
    for name, export in (("TRL", export_trl), ("verl", lambda r: export_verl(r, module="my_verl"))):
        with pytest.raises(SteelyardError, match=f"{name} gives its rewards no policy, which .* asks; train this"):
            export(rlpr(SETTING))
    with pytest.raises(SteelyardError, match="TRL clips one advantage a row and not 2"):
        single(Advantages(np.zeros(3), others=(np.zeros(3),)), "TRL")
    assert single(Advantages(np.zeros(3)), "TRL").others == ()


def test_a_recipe_trains_in_trl(tmp_path: Path) -> None:
    pytest.importorskip("trl")
    recipe = Recipe(
        plan=groups(4), reward=vowels, advantage=chain(with_signal(), centre(), scale()),
        objective=clipped(epsilon=0.2, epsilon_high=0.28, kl=0.04), curriculum=uniform(),
    )  # fmt: skip
    assert export_trl(recipe).arguments == {"num_generations": 4, "beta": 0.04}
    trainer = trained_in_trl(recipe, tmp_path)
    steps = [row for row in trainer.state.log_history if "loss" in row]
    assert len(steps) == 2
    assert {"kl", "ratio", "clip_fraction", "rows_left_out", "reward_part/vowels"} <= set(steps[0])


def test_an_objective_without_kl_asks_for_no_reference() -> None:
    pytest.importorskip("trl")
    recipe = Recipe(groups(2), math_correct, chain(centre()), clipped(), uniform())
    assert export_trl(recipe).arguments == {"num_generations": 2, "beta": 0.0}
    assert export_trl(grpo(SETTING)).arguments == {"num_generations": 4, "beta": 0.04}


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (rova, r"samples n attempts at every prompt as it is, and not TwoBranches; train this recipe with steelyard"),
        (
            grpo_augmented,
            r"samples n attempts at every prompt as it is, and not a perturbed groups\(\); train this recipe with",
        ),
    ],
)
def test_what_a_trainer_cannot_carry_is_refused(make: Any, words: str) -> None:
    pytest.importorskip("trl")
    with pytest.raises(SteelyardError, match="TRL " + words):
        export_trl(make(SETTING))
    with pytest.raises(SteelyardError, match="verl " + words):
        export_verl(make(SETTING), module="my_verl")


def test_a_curriculum_and_what_is_no_recipe_are_refused() -> None:
    pytest.importorskip("trl")
    with pytest.raises(SteelyardError, match=r"TRL is given a Method; it can carry a steelyard\.learn\.recipe\.Recipe"):
        export_trl(METHOD)  # type: ignore[arg-type]
    recipe = rova(SETTING)
    plain = Recipe(groups(4), recipe.reward, recipe.advantage, recipe.objective, recipe.curriculum)
    with pytest.raises(SteelyardError, match=r"TRL walks through the data set, and cannot follow SelfReflective"):
        export_trl(plain)
