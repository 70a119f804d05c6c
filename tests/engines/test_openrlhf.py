"""OpenRLHF's own reward client against our server over a real socket: `make openrlhf` runs it."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from steelyard.engines import to_openrlhf
from steelyard.rewards import fill, score_one
from steelyard.types import SteelyardError
from tests.engines.served import mixed, same
from tests.engines.serving import SERVED, Server, serving

END = "<|im_end|>"


def test_a_python_file_gives_what_the_server_gives() -> None:
    reward_func = to_openrlhf(0.8 * fill(same, 0.0) + 0.2 * fill(same, 0.0), endings=[END])
    said = reward_func([f"q2{END}", "q3"], ["q", "q"], ["2", "2"])
    assert said["rewards"] == said["scores"] == [pytest.approx(1.0), 0.0]
    with pytest.raises(SteelyardError, match=r"fill\(reward, VALUE\)"):
        to_openrlhf(mixed)(["q"], ["q"], ["2"])


class Letters:
    """A tokenizer of one token a letter."""

    def __call__(self, text: str, **_: Any) -> dict[str, Any]:
        import torch

        return {"input_ids": torch.tensor([[ord(letter) for letter in text]])}

    def decode(self, tokens: list[int], **_: Any) -> str:
        return "".join(map(chr, tokens))


class Says:
    """A vLLM engine that says one and the same."""

    def __init__(self, text: str) -> None:
        self.text = text

    async def generate(self, *_: Any, **__: Any) -> Any:
        tokens = [ord(letter) for letter in self.text]
        return SimpleNamespace(outputs=[SimpleNamespace(token_ids=tokens, finish_reason="stop", logprobs=None)])


@pytest.fixture(scope="module")
def agent() -> Any:
    """OpenRLHF's module that asks for rewards."""
    return pytest.importorskip("openrlhf.utils.agent", exc_type=ImportError)


@pytest.fixture(scope="module")
def server(agent: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    options = ["--end", END, "--queue", "256", "--token-env", "TOKEN"]
    with serving(tmp_path_factory.mktemp("served"), f"{SERVED}:mixed", *options, TOKEN="a long secret") as server:
        yield server


def address(server: Server) -> str:
    """The URL with the token, as OpenRLHF can carry it."""
    return server.url.replace("//", "//any:a%20long%20secret@") + "/get_reward"


def rollout(executor: Any, prompt: str, label: str, said: str) -> dict[str, Any]:
    """One rollout by OpenRLHF's executor."""
    params = SimpleNamespace(max_tokens=64, logprobs=None)
    return executor.execute(prompt, label, params, 1024, Letters(), Says(said))


@pytest.mark.slow
def test_a_rollout_gets_reward_score_and_parts(agent: Any, server: Server) -> None:
    executor = agent.SingleTurnAgentExecutor(address(server))
    done = asyncio.run(rollout(executor, "<|user|>1 + 1?<|assistant|>", "2", f"2{END}\n"))
    assert done["reward"] == done["scores"] == [pytest.approx(0.8)]
    assert done["extra_logs"] == {"same": [1.0], "think_format": [0.0]}
    alone = score_one(mixed, prompt="1 + 1?", completion="2", answer="2")
    assert done["reward"] == alone.values.tolist()


@pytest.mark.slow
def test_what_it_gets_is_an_experience_that_it_trains_on(agent: Any, server: Server) -> None:
    import torch

    experience = pytest.importorskip("openrlhf.trainer.ppo_utils.experience", exc_type=ImportError)
    executor = agent.SingleTurnAgentExecutor(address(server))

    async def both() -> list[dict[str, Any]]:
        return await asyncio.gather(rollout(executor, "p", "2", "2"), rollout(executor, "p", "2", "3"))

    made = []
    for said in asyncio.run(both()):  # as its samples_generator makes them
        length = torch.ones(1, 3)
        made.append(
            experience.Experience(
                sequences=length.long(), attention_mask=length.long(), action_mask=length[:, 1:].long(),
                rewards=torch.tensor([said["reward"]]), scores=torch.tensor([said["scores"]]),
                response_length=torch.tensor([1]), total_length=torch.tensor([3.0]), truncated=torch.tensor([False]),
                info={name: torch.tensor([value]) for name, value in said["extra_logs"].items()},
            )
        )  # fmt: skip
    batch = experience.Experience.concat_experiences(made, pad_token_id=0)
    assert batch.rewards.flatten().tolist() == [pytest.approx(0.8), 0.0]
    assert batch.info["same"].flatten().tolist() == [1.0, 0.0]


@pytest.mark.slow
def test_many_rollouts_at_once_over_two_servers_lose_none(agent: Any, server: Server, tmp_path: Path) -> None:
    with serving(tmp_path, f"{SERVED}:mixed", "--end", END, "--queue", "256") as other:
        executor = agent.SingleTurnAgentExecutor([address(server), f"{other.url}/get_reward"])

        async def all_of_them() -> list[dict[str, Any]]:
            asked = [rollout(executor, f"question {i}: ", str(i % 3), str(i % 2) + END) for i in range(200)]
            return await asyncio.gather(*asked)

        done = asyncio.run(all_of_them())
        assert [row["scores"] for row in done] == [[pytest.approx(0.8 * (i % 3 == i % 2))] for i in range(200)]
        shards = asyncio.run(executor._fetch_rewards_via_http(["q1", "q2", "q1"], ["q"] * 3, ["1"] * 3))
        rewards = [value for shard in shards for value in shard["rewards"]]
        assert rewards == [pytest.approx(0.8), 0.0, pytest.approx(0.8)]


@pytest.mark.slow
def test_a_row_without_a_verdict_is_tried_five_times_and_gets_no_reward(
    agent: Any, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []

    async def at_once(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr(agent, "asyncio", SimpleNamespace(**{**vars(asyncio), "sleep": at_once}))
    done = asyncio.run(rollout(agent.SingleTurnAgentExecutor(address(server)), "q", "2", ""))
    assert (done["reward"], done["extra_logs"], waited) == (None, {}, [1] * 5)


@pytest.mark.slow
def test_it_loads_a_python_file(agent: Any, tmp_path: Path) -> None:
    path = tmp_path / "my_rewards.py"
    path.write_text(
        "from steelyard.engines import to_openrlhf\nfrom steelyard.rewards import math_correct\n"
        f"reward_func = to_openrlhf(math_correct, endings=[{END!r}])\n"
    )
    done = asyncio.run(rollout(agent.SingleTurnAgentExecutor(str(path)), "What is 17 + 25?", "42", f"42{END}"))
    assert done["reward"] == done["scores"] == [1.0]
