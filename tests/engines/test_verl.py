"""A reward as verl calls it: plain functions, and verl's real managers over real DataProto batches."""

import asyncio
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from steelyard.engines import to_verl, to_verl_batch
from steelyard.rewards import fill, math_correct, reward
from steelyard.rewards.schedules import linear, scheduled
from steelyard.types import Rollouts, Scores, SteelyardError, group_index


@reward
def exact(completion: str, answer: str) -> float:
    """1 iff equal."""
    return float(completion == answer)


@reward
def unsure(completion: str) -> float | None:
    """Judges nothing but a yes."""
    return 1.0 if completion == "yes" else None


@reward
def asked(completion: str, prompt: str, level: int) -> float:
    """Reads the prompt and a column."""
    return float(prompt == "ab") + level


@reward(batch=True)
def share_of_group(rollouts: Rollouts) -> Scores:
    """How much of its group says the same as this row."""
    group = group_index(rollouts, ("group",))
    texts = np.asarray([hash(text) for text in rollouts.completions])
    same = (group[:, None] == group) & (texts[:, None] == texts)
    return Scores(same.sum(axis=1) / (group[:, None] == group).sum(axis=1))


def test_a_row_is_scored_with_its_parts() -> None:
    compute_score = to_verl(0.5 * exact + 1.0)
    score = compute_score(data_source="gsm8k", solution_str="4", ground_truth="4", extra_info={"index": 3})
    assert score == {"exact": 1.0, "score": 1.5, "unjudged": 0.0}
    assert compute_score("gsm8k", "5", "4") == {"exact": 0.0, "score": 1.0, "unjudged": 0.0}
    named = to_verl(math_correct, ground_truth="answer")("x", "The answer is 1,234.", "1234")
    assert named["score"] == 1.0


def test_extra_info_and_the_prompt_are_columns() -> None:
    assert to_verl(asked)("x", "", "", {"prompt": "ab", "level": 2})["score"] == 3.0
    with pytest.raises(SteelyardError, match=r"asked.*no column 'level'"):
        to_verl(asked)("x", "", "", {"prompt": "ab"})


def test_a_row_without_a_verdict_stops_the_run_unless_the_caller_chose() -> None:
    with pytest.raises(SteelyardError, match=r"'unsure' could not judge a row \(not applicable\); wrap it in fill"):
        to_verl(unsure)("x", "no", "")
    score = to_verl(unsure, unjudged="nan")("x", "no", "")
    assert math.isnan(score["score"])
    assert score["unjudged"] == 1.0
    assert to_verl(fill(unsure, 0.25))("x", "no", "")["score"] == 0.25
    with pytest.raises(SteelyardError, match="unjudged='zero' is none of raise, nan"):
        to_verl(unsure, unjudged="zero")  # type: ignore[arg-type]


def test_what_verl_cannot_tell_a_reward_is_refused() -> None:
    with pytest.raises(SteelyardError, match=r"does not tell rewards the step.*scheduled"):
        to_verl(exact + scheduled(exact, linear(0, 1, steps=5)))
    with pytest.raises(SteelyardError, match="'share_of_group': it compares the rows of a group"):
        to_verl(share_of_group)("x", "a", "a")
    with pytest.raises(SteelyardError, match="compares the rows of a group"):
        to_verl_batch(exact + share_of_group)(["x"] * 2, ["a", "b"], ["a", "a"], [None, None])


def test_a_batch_is_scored_row_by_row() -> None:
    scores = to_verl_batch(exact + unsure, unjudged="nan")(["x"] * 2, ["yes", "no"], ["yes", "no"], [None, {}])
    assert [score["exact"] for score in scores] == [1.0, 1.0]
    assert scores[0]["score"] == 2.0
    assert math.isnan(scores[1]["score"])
    assert to_verl_batch(exact)([], [], [], []) == []


# From here on with verl itself.


@pytest.fixture(scope="module")
def verl() -> Any:
    """verl, if a version that we know can be imported."""
    return pytest.importorskip(
        "verl", minversion="0.9.1", reason="verl 0.9 is not installed (pip install steelyard[verl])"
    )


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Letters as words."""
    transformers = pytest.importorskip("transformers")
    from tests.engines.tiny import save_tiny_model

    return transformers.AutoTokenizer.from_pretrained(save_tiny_model(tmp_path_factory.mktemp("model")))


def batch(tokenizer: Any, rows: list[tuple[str, str, str, str]]) -> Any:
    """A DataProto of (uid, prompt, response, truth): prompts padded on the left, responses on the right."""
    import torch
    from verl import DataProto

    def padded(texts: list[str], left: bool) -> tuple[Any, Any]:
        ids = [tokenizer(text)["input_ids"] for text in texts]
        width = max(map(len, ids)) + 1
        fill = [[0] * (width - len(row)) for row in ids]
        mask = [[0] * len(f) + [1] * len(row) if left else [1] * len(row) + [0] * len(f) for row, f in zip(ids, fill)]  # noqa: B905
        whole = [f + row if left else row + f for row, f in zip(ids, fill)]  # noqa: B905
        return torch.tensor(whole), torch.tensor(mask)

    prompts, prompt_mask = padded([row[1] for row in rows], True)
    responses, response_mask = padded([row[2] for row in rows], False)
    arrays = {
        "uid": np.array([row[0] for row in rows], dtype=object),
        "data_source": np.array(["letters"] * len(rows), dtype=object),
        "reward_model": np.array([{"style": "rule", "ground_truth": row[3]} for row in rows], dtype=object),
        "extra_info": np.array([{"level": i} for i in range(len(rows))], dtype=object),
    }
    tensors = {"prompts": prompts, "responses": responses, "attention_mask": torch.cat([prompt_mask, response_mask], 1)}
    return DataProto.from_dict(tensors=tensors, non_tensors=arrays)


ROWS = [("u", "a b", "y e s", "yes"), ("u", "a b", "n o", "yes"), ("v", "c", "n", "n"), ("u", "a b", "n o", "no")]
"""Letters are tokens; the tokenizer decodes them without blanks."""


def test_the_loop_manager_judges_each_row_with_prompt_and_columns(verl: Any, tokenizer: Any) -> None:
    from verl.experimental.reward_loop.reward_manager import get_reward_manager_cls, register

    from steelyard.engines.verl import reward_manager

    kind = register("steelyard_test")(reward_manager(exact + asked))
    assert get_reward_manager_cls("steelyard_test") is kind
    data = batch(tokenizer, ROWS)

    async def judge() -> list[Any]:
        manager = kind(_config("grpo"), tokenizer, None, reward_router_address=None, reward_model_tokenizer=None)
        return await asyncio.gather(*[manager.run_single(data[i : i + 1]) for i in range(len(data))])

    results = asyncio.run(judge())
    assert [result["reward_score"] for result in results] == [2.0, 2.0, 3.0, 5.0]
    assert results[3]["reward_extra_info"] == {"exact": 1.0, "asked": 4.0, "score": 5.0, "unjudged": 0.0}
    rewards = kind.assemble_rm_scores(data, [result["reward_score"] for result in results])
    np.testing.assert_array_equal(rewards.numpy(), [[0, 0, 2, 0], [0, 2, 0, 0], [3, 0, 0, 0], [0, 5, 0, 0]])


def _config(estimator: str) -> Any:
    from omegaconf import OmegaConf

    return OmegaConf.create({"algorithm": {"adv_estimator": estimator}})


def test_the_loop_manager_asks_whether_the_estimator_leaves_rows_out(verl: Any, tokenizer: Any) -> None:
    from steelyard.engines.verl import reward_manager
    from steelyard.engines.verl_training import register_advantage
    from steelyard.learn.advantages import centre, chain

    register_advantage("steelyard_nan_test", chain(centre()))
    kind, data = reward_manager(unsure), batch(tokenizer, ROWS)

    async def judge(estimator: str) -> Any:
        return await kind(_config(estimator), tokenizer).run_single(data[1:2])

    with pytest.raises(SteelyardError, match="could not judge a row"):
        asyncio.run(judge("grpo"))
    result = asyncio.run(judge("steelyard_nan_test"))
    assert math.isnan(result["reward_score"])
    assert result["reward_extra_info"]["unjudged"] == 1.0


def test_verls_own_manager_and_loader_take_our_function(verl: Any, tokenizer: Any, tmp_path: Path) -> None:
    """The file that a person writes, loaded by verl's own `load_reward_manager`."""
    from omegaconf import OmegaConf
    from verl.trainer.ppo.reward import load_reward_manager

    place = tmp_path / "my_rewards.py"
    place.write_text(
        "from steelyard.engines import to_verl\nfrom steelyard.rewards import math_correct\n\n"
        "compute_score = to_verl(2.0 * math_correct)\n"
    )
    loop = {"source": "register", "name": "naive"}
    own = {"path": str(place), "name": "compute_score"}
    config = {"reward": {"custom_reward_function": own, "reward_manager": loop}, "algorithm": {"adv_estimator": "grpo"}}

    async def judge() -> Any:
        manager = load_reward_manager(OmegaConf.create(config), tokenizer)
        return await manager.run_single(batch(tokenizer, ROWS)[0:1])

    result = asyncio.run(judge())
    assert result["reward_score"] == 2.0
    assert result["reward_extra_info"]["math_correct"] == 1.0


def test_the_batch_manager_sees_groups_by_uid(verl: Any, tokenizer: Any) -> None:
    """Uneven groups: three rows of u, one of v, not beside each other."""
    from steelyard.engines.verl import batch_manager

    data = batch(tokenizer, ROWS)
    manager = batch_manager(share_of_group + 0.0 * exact)(tokenizer, num_examine=0, compute_score=None)
    result = manager(data, return_dict=True)
    np.testing.assert_allclose(
        result["reward_tensor"].numpy(), [[0, 0, 1 / 3, 0], [0, 2 / 3, 0, 0], [1, 0, 0, 0], [0, 2 / 3, 0, 0]], rtol=1e-6
    )
    assert result["reward_extra_info"]["exact"] == [1.0, 0.0, 1.0, 1.0]
    assert (manager(data) == result["reward_tensor"]).all()
    blank = batch_manager(unsure)(tokenizer)(data, return_dict=True)
    assert blank["reward_extra_info"]["unjudged"] == [0.0, 1.0, 1.0, 1.0]
    assert np.isnan(blank["reward_tensor"].sum(dim=1).numpy()).tolist() == [False, True, True, True]
