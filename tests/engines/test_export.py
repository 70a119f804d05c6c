"""Whole recipes carried into another trainer, and those that cannot be."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("torch")

from steelyard.engines import export_trl, export_verl
from steelyard.learn.advantages import centre, chain, scale, with_signal
from steelyard.learn.curricula import uniform
from steelyard.learn.objectives import clipped
from steelyard.learn.plans import groups
from steelyard.learn.recipe import Recipe
from steelyard.methods.grpo import METHOD, grpo, grpo_augmented
from steelyard.methods.rova import rova
from steelyard.perturb.video import outdoor_corruptions
from steelyard.rewards import math_correct, reward
from steelyard.rewards.consistency import shared_words
from steelyard.types import SteelyardError
from tests.engines.tiny import save_tiny_model

SETTING: Any = SimpleNamespace(corruptions=outdoor_corruptions(), similarity=shared_words, attempts=4)


@reward
def vowels(completion: str) -> float:
    """How many letters are vowels."""
    return float(sum(letter in "aeiou" for letter in completion))


def test_a_recipe_trains_in_trl(tmp_path: Path) -> None:
    pytest.importorskip("trl")
    from datasets import Dataset
    from trl import GRPOConfig

    recipe = Recipe(
        plan=groups(4), reward=vowels, advantage=chain(with_signal(), centre(), scale()),
        objective=clipped(epsilon=0.2, epsilon_high=0.28, kl=0.04), curriculum=uniform(),
    )  # fmt: skip
    run = export_trl(recipe)
    assert run.arguments == {"num_generations": 4, "beta": 0.04}
    arguments = GRPOConfig(
        str(tmp_path / "out"), per_device_train_batch_size=8, max_completion_length=8, max_steps=2, logging_steps=1,
        use_cpu=True, bf16=False, report_to=[], save_strategy="no", disable_tqdm=True, **run.arguments,
    )  # fmt: skip
    trainer = run.trainer(
        save_tiny_model(tmp_path / "model"),
        reward_funcs=run.reward_funcs,
        args=arguments,
        train_dataset=Dataset.from_dict({"prompt": ["a b", "c d"]}),
    )
    before = {name: weight.detach().clone() for name, weight in trainer.model.named_parameters()}
    trainer.train()
    assert any(not weight.equal(before[name]) for name, weight in trainer.model.named_parameters())
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
