"""A reward as TRL calls it: the callable's own behaviour, and TRL's GRPOTrainer really training with it."""

import math

import pytest

from steelyard.engines.trl import consecutive_groups, to_trl
from steelyard.rewards import reward, think_format
from steelyard.rewards.chat import completion_text
from steelyard.types import Rollouts, Scores, SteelyardError
from tests.engines.tiny import save_tiny_model


@reward
def exact(completion: str, answer: str) -> float:
    """1 iff equal."""
    return float(completion == answer)


@reward
def unsure(completion: str) -> float | None:
    """Judges nothing but a yes."""
    return 1.0 if completion == "yes" else None


@reward(batch=True)
def rank(rollouts: Rollouts) -> Scores:
    """The group's number, to see what groups arrive."""
    return Scores(rollouts.groups.astype("float32"))


def test_values_columns_and_name_reach_trl() -> None:
    function = to_trl(0.8 * exact + 0.2 * think_format)
    good = "<think>a</think><answer>b</answer>"
    assert function.__name__ == "0.8 * exact + 0.2 * think_format"
    values = function(prompts=["p", "p"], completions=[good, "x"], answer=[good, "x"], completion_ids=[[1], [2]])
    assert values == pytest.approx([1.0, 0.8])
    assert all(type(value) is float for value in values)


def test_rows_without_a_verdict_are_none_and_counted() -> None:
    logged: dict[str, float] = {}
    values = to_trl(unsure)(prompts=["p"] * 4, completions=["yes", "no", "no", "no"], log_metric=logged.__setitem__)
    assert values == [1.0, None, None, None]
    assert logged == {"reward_nan/unsure": 0.75, "reward_part/unsure": 1.0}


def test_each_part_is_logged_by_its_name() -> None:
    logged: dict[str, float] = {}
    to_trl(2.0 * exact + unsure)(
        prompts=["p"] * 2, completions=["yes", "yes"], answer=["yes", "no"], log_metric=logged.__setitem__
    )
    assert logged["reward_part/exact"] == 0.5
    assert logged["reward_part/unsure"] == 1.0


def test_chat_completions_become_their_text() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "image"}, {"type": "text", "text": "b"}]
    assert completion_text([{"role": "assistant", "content": "hi"}]) == "hi"
    assert completion_text([{"role": "assistant", "content": parts}]) == "ab"
    assert completion_text([{"role": "assistant", "content": None}, {"role": "tool", "content": "4"}]) == ""
    prompt = [{"role": "user", "content": "?"}]
    chat = [[{"role": "assistant", "content": "b"}]]
    assert to_trl(exact)(prompts=[prompt], completions=chat, answer=["b"]) == [1.0]


def test_groups_are_consecutive_equal_prompts() -> None:
    chat = [{"role": "user", "content": "a"}]
    assert consecutive_groups([chat, list(chat), "b", "b", chat]).tolist() == [0, 0, 1, 1, 2]
    assert to_trl(rank)(prompts=["a", "a", "b"], completions=["", "", ""]) == [0.0, 0.0, 1.0]
    assert to_trl(rank)(prompts=[], completions=[]) == []


def test_a_column_of_the_wrong_length_is_named() -> None:
    with pytest.raises(SteelyardError, match=r"exact.*'answer' 1 rows for 2 completions"):
        to_trl(exact)(prompts=["p", "p"], completions=["a", "b"], answer=["a"])
    with pytest.raises(SteelyardError, match=r"exact.*no column 'answer'"):
        to_trl(exact)(prompts=["p"], completions=["a"])


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny model's folder."""
    pytest.importorskip("trl")
    return save_tiny_model(tmp_path_factory.mktemp("model"))


@reward
def vowels(completion: str, wanted: str) -> float:
    """The share of wanted letters."""
    letters = completion.replace(" ", "")
    return sum(letter in wanted for letter in letters) / max(1, len(letters))


def test_trl_trains_with_a_house_reward(model_folder: str, tmp_path) -> None:
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    arguments = GRPOConfig(
        output_dir=str(tmp_path), per_device_train_batch_size=8, num_generations=4, max_completion_length=8,
        max_steps=2, learning_rate=1e-2, logging_steps=1, report_to=[], use_cpu=True, save_strategy="no", beta=0.0,
        bf16=False, disable_tqdm=True, seed=0,
    )  # fmt: skip
    trainer = GRPOTrainer(
        model_folder,
        reward_funcs=[to_trl(vowels + 0.5 * unsure.using(on_error="nan")), to_trl(vowels)],
        args=arguments,
        train_dataset=Dataset.from_dict({"prompt": ["a b", "c d", "e f", "g h"], "wanted": ["aeiou"] * 4}),
    )
    before = {name: weight.detach().clone() for name, weight in trainer.model.named_parameters()}
    trainer.train()
    assert any(not weight.equal(before[name]) for name, weight in trainer.model.named_parameters())
    steps = [row for row in trainer.state.log_history if "reward_part/vowels" in row]
    assert len(steps) == 2
    for row in steps:
        assert row["reward_part/vowels"] == pytest.approx(row["rewards/vowels/mean"], abs=1e-6)
        assert row["reward_nan/vowels"] == 0.0
        assert row["reward_nan/vowels + 0.5 * unsure"] == 1.0
        assert math.isfinite(row["loss"])
