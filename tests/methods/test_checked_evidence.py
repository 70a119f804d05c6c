"""ACE-RL and CaRR: their worlds' rules, and their recipes on a real model class loaded from a folder."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from steelyard.learn.config import TrainConfig
from steelyard.learn.trainer import Trainer
from steelyard.methods.registry import find
from steelyard.policies.language import LanguagePolicy
from steelyard.policies.sampling import Sampling
from steelyard.rewards.core import BatchReward
from steelyard.rewards.evidence import evidence_chain
from steelyard.rewards.judges import RuleJudge
from steelyard.rewards.rubrics import MET_PARTLY_NOT
from steelyard.types import Rollouts, Sample, SteelyardError
from steelyard.worlds import hop_chains, short_demands
from tests.policies.tiny import saved, text_config, tokenizer

LINK = "[1](https://a.org/1)"
WORDS = ["x", "y", LINK, *(f"w{i}" for i in range(54))]


def _label(prompt) -> str:
    asked = json.loads(prompt[-1]["content"])
    return json.dumps({"label": "fully met" if asked["criterion"] in asked["response"] else "not met"})


def _judge(prompt) -> str:
    asked = json.loads(prompt[-1]["content"])
    if "pages" in asked:
        return json.dumps({"statements": {label: {"supported": True} for label in asked["statements"]}})
    said = asked["response"].split()
    return json.dumps({"entities": {"E0": "x" if "x" in said else None, "E1": "y" if "y" in said else None}})


class Own:
    """What the recipes need of a person's own task."""

    attempts = 8
    verifier = RuleJudge(_label, name="labels")
    outcome = BatchReward(lambda rollouts: np.array([float("x" in text.split()) for text in rollouts.completions]), "x")
    evidence = evidence_chain(RuleJudge(_judge, name="chain"))


COLUMNS = {
    "rubric": [{"text": word, "levels": MET_PARTLY_NOT} for word in ("x", "w3")],
    "length_band": [2, 4],
    "statements": ["<E0> is beside <E1>.", "<E0> is alone."],
    "opened": [["https://a.org/1", "A", "x is beside y"]],
}


@pytest.mark.parametrize("slug", ["ace-rl", "carr"])
def test_the_recipe_trains_a_real_model(slug: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Qwen2ForCausalLM(Qwen2Config(**text_config(initializer_range=0.1)))
    folder = saved(LanguagePolicy(model, tokenizer(WORDS), Sampling(max_tokens=24)), tmp_path / "model")
    policy = LanguagePolicy.from_pretrained(folder, sampling=Sampling(max_tokens=24))
    samples = [Sample(f"s{i}", "w1 w2", columns=COLUMNS) for i in range(4)]
    before = [p.detach().clone() for p in policy.module.parameters()]
    recipe = find(slug).recipe
    assert recipe is not None
    config = TrainConfig(steps=3, prompts=2, lr=1e-2)
    Trainer(policy, recipe(Own()), samples, config, folder=tmp_path / "run", progress=False).run()
    rows = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text("utf-8").splitlines()]
    assert len(rows) == 3 and all(0 <= row["reward"] <= 1 for row in rows)
    assert sum(row["prompts_trained"] for row in rows) > 0
    assert any(not torch.equal(a, b.detach()) for a, b in zip(before, policy.module.parameters(), strict=True))


def test_demands_are_told_apart_and_the_empty_text_meets_none() -> None:
    text = "a f g e e e j c"
    met = {axis[0].text for axis in short_demands.AXES}
    for demand in itertools.chain.from_iterable(short_demands.AXES):
        given = short_demands.credit(demand.text, text)
        assert short_demands.credit(demand.text, "") == 0
        want = {"says h": 0, "never says h": 1, "says i": 0, "never says i": 1, "says no word twice in a row": 0}
        want |= {"says a word twice in a row": 1, "says both j and k": 0.5, "says neither j nor k": 0.5}
        assert given == want.get(demand.text, float(demand.text in met)), demand.text
    assert short_demands.credit("says e three times", "e a e") == 0.5


def test_requests_carry_their_own_checks_and_another_s() -> None:
    world = short_demands.ShortDemands(seed=0)
    samples = world.samples("train", 50, seed=1)
    assert [s.columns["rubric"] for s in samples[1:]] == [s.columns["other_rubric"] for s in samples[:-1]]
    assert all(3 <= len(s.columns["demands"]) <= 6 for s in samples)
    other = world.samples("test", 50, seed=1)
    assert [s.prompt for s in samples] != [s.prompt for s in other]
    assert [s.prompt for s in samples] == [s.prompt for s in world.samples("train", 50, seed=1)]
    seen = short_demands.observe(samples[0])
    assert seen.shape == (27,) and seen.sum() == len(samples[0].columns["demands"]) + 1


def test_the_verifier_and_the_satisfaction_are_one_and_the_mark_is_noisy() -> None:
    world = short_demands.ShortDemands(seed=0)
    policy = world.policy(seed=0)
    rollouts = policy.sample(world.samples("train", 16), 8, generator=np.random.default_rng(0))
    assert max(len(text.split()) for text in rollouts.completions) <= short_demands.LONGEST
    reward = find("ace-rl").recipe(world).reward
    scores = reward(rollouts)
    np.testing.assert_allclose(scores.parts["rubric"], short_demands.satisfaction(rollouts), rtol=1e-6)
    marks, again = (world.impression(rollouts).values for _ in range(2))
    assert {round(float(mark) * 10) for mark in marks} <= set(range(1, 11)) and (marks != again).any()


def test_a_recurrent_policy_scores_what_it_sampled() -> None:
    world = short_demands.ShortDemands()
    policy, samples = world.policy(seed=1), world.samples("train", 6)
    rollouts = policy.sample(samples, 4, generator=np.random.default_rng(0))
    assert rollouts.actions is not None
    mask = rollouts.actions.mask
    with torch.no_grad():
        again = policy.logprobs(rollouts).numpy()
    np.testing.assert_allclose(again[mask], rollouts.actions.logprobs[mask], atol=1e-5)
    words = mask.sum(axis=1) - [len(text.split()) for text in rollouts.completions]
    assert set(words.tolist()) <= {0, 1}, "one action a word, and one for the end"
    alone = policy.sample(samples[:2], 4, generator=np.random.default_rng(0))
    assert alone.completions == rollouts.completions[:8]
    assert (
        policy.sample(samples, 1, generator=np.random.default_rng(1), greedy=True).completions
        == policy.sample(samples, 1, generator=np.random.default_rng(2), greedy=True).completions
    )
    policy.snapshot("reference")
    np.testing.assert_allclose(policy.logprobs(rollouts, copy="reference").numpy(), again)
    with pytest.raises(SteelyardError, match="no tokens"):
        policy.logprobs(Rollouts(samples, [""] * 6))


def test_chains_of_hops_are_judged_as_they_are_counted() -> None:
    world = hop_chains.HopChains(risk=0.0)
    moves = list(itertools.product(hop_chains.MOVES, repeat=4))
    texts = [hop_chains.render(row) for row in moves]
    assert [tuple(hop_chains.read(text)) for text in texts] == moves
    rollouts = Rollouts(list(world.samples("train", len(texts))), texts, np.zeros(len(texts)))
    leading = [next((i for i, move in enumerate(row) if move != "search"), 4) / 4 for row in moves]
    np.testing.assert_allclose(world.evidence(rollouts).values, leading)
    right = world.rightness(np.array([[m == "search" for m in row] for row in moves]), 0.8)
    assert right.max() == 0.95 and (right == 0.8).sum() == 26 and (right == 0.05).sum() == 54


def test_figures_of_a_policy_are_exact() -> None:
    world = hop_chains.HopChains()
    policy = world.policy()
    with torch.no_grad():
        for table in policy.module.tables:
            table[0, 1] = 50.0
    all_searched = 0.95**4
    expected = {"accuracy": 0.95 * all_searched, "robust": 0.95 * all_searched, "evidence": 1.0, "searched": 1.0}
    assert world.figures(policy) == pytest.approx(expected)
    with torch.no_grad():
        for table in policy.module.tables[1:]:
            table[0, 0] = 100.0
    shortcut = {"accuracy": 0.8 * 0.95, "robust": 0.15 * 0.95, "evidence": 0.25, "searched": 0.25}
    assert world.figures(policy) == pytest.approx(shortcut)


def test_what_the_world_draws_goes_on_where_it_was_saved() -> None:
    world = hop_chains.HopChains(seed=3)
    rollouts = world.policy().sample(world.samples("train", 8), 8, generator=np.random.default_rng(0))
    reward = find("carr").recipe(world).reward
    reward(rollouts)
    state = json.loads(json.dumps(reward.state_dict()))
    first = reward(rollouts).values
    fresh = find("carr").recipe(hop_chains.HopChains(seed=3)).reward
    fresh.load_state_dict(state)
    np.testing.assert_array_equal(fresh(rollouts).values, first)
    assert (reward(rollouts).values != first).any()
