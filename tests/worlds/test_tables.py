"""The bench-top worlds of sheets 40, 10 and 32: what their policies may choose, and what is exact of them."""

import numpy as np
import pytest
import torch

from steelyard.audits.separation import separation
from steelyard.policies.categorical import from_tags, in_tags
from steelyard.rewards.answers import one_of
from steelyard.rewards.likelihood import base_likelihood, reference_likelihood
from steelyard.types import Rollouts, Sample, SteelyardError
from steelyard.worlds import reference_answers, shared_strategies, stubborn_mistakes


def draws(policy, samples, n=64):
    return policy.sample(samples, n, generator=np.random.default_rng(0))


def test_references_are_likelier_after_the_right_reasoning_and_no_answer_is_one():
    world = reference_answers.ReferenceAnswers()
    policy, samples = world.policy(seed=100), world.samples("test", 32, seed=100)
    rollouts = draws(policy, samples)
    right, hard = reference_answers.reasoned_right(rollouts), ~np.asarray(rollouts.column("easy"))
    assert right.mean() == pytest.approx(1 / 8, abs=0.03) and policy.rightness() == pytest.approx(1 / 8)
    values = reference_likelihood(policy=policy)(rollouts).values
    assert 0.8 < separation(values[hard], right[hard]) < 0.95
    assert abs(separation(values[~hard], right[~hard]) - 0.5) < 0.1, "easy questions tell nothing"
    assert one_of(rollouts).values.sum() == 0
    base = base_likelihood(policy=policy)(rollouts).values
    assert len(np.unique(base)) == 32


def test_a_references_words_are_found_and_nothing_else_is_known():
    world = reference_answers.ReferenceAnswers()
    policy, sample = world.policy(seed=3), world.samples("test", 1, seed=3)[0]
    reference = sample.columns["answer"]
    text = f"<think>way 2 told 5</think><answer> {reference}</answer>"
    start = text.index(reference)
    found = policy.score_texts([sample], [text], spans=np.array([[start, start + len(reference)]]))
    assert [text[a:b] for a, b in found.offsets[0]] == reference.split() and found.mask.all()
    other = policy.score_texts([sample], [reference])
    assert other.logprobs.shape == (1, 12) and not np.allclose(other.logprobs, found.logprobs)
    with pytest.raises(SteelyardError, match="is not the reference of 'question-0'"):
        policy.score_texts([sample], ["something"])


def test_telling_is_not_trained():
    policy = reference_answers.ReferenceAnswers().policy()
    assert [table.requires_grad for table in policy.module.tables] == [True, False]


def test_seeds_have_other_questions_and_problems():
    world = reference_answers.ReferenceAnswers()
    first, second = (world.samples("train", 32, seed=seed) for seed in (0, 1))
    assert [s.columns["right"] for s in first] != [s.columns["right"] for s in second]
    kinds = [shared_strategies.works(split, 50, seed=seed) for split, seed in [("train", 0), ("test", 0), ("train", 1)]]
    assert all((kinds[0] != other).any() for other in kinds[1:])
    assert (kinds[0] == shared_strategies.works("train", 50, seed=0)).all()


def test_three_of_four_prompts_begin_sure_of_a_wrong_answer():
    world = stubborn_mistakes.StubbornMistakes()
    right = world.rightness(world.policy())
    sure = np.exp(3) / (np.exp(3) + 11)
    assert right[~world.hard] == pytest.approx(sure) and right[world.hard] == pytest.approx(1 / (np.exp(3) + 11))
    assert world.hard.mean() == 0.75
    rollouts = draws(world.policy(), world.samples("train", 128))
    values = one_of(rollouts).values.reshape(128, 64).mean(1)
    assert values[~world.hard].mean() == pytest.approx(sure, abs=0.05)


def test_strategies_are_shared_and_solved_is_exact():
    world = shared_strategies.SharedStrategies()
    policy = world.policy(seed=2)
    weights = 1 / np.arange(1, 65)
    assert policy.chances() == pytest.approx(weights / weights.sum())
    samples = world.samples("test", 40, seed=2)
    found = one_of(draws(policy, samples, 512)).values.reshape(40, 512).mean(1)
    assert found == pytest.approx(policy.solved(40), abs=0.08)
    shares = shared_strategies.works("test", 4000, seed=2).mean(0)
    assert shares[:8].min() > 0.2 and shares[8:].max() < 0.25
    with torch.no_grad():
        policy.module.tables[0][0, 0] = 50.0
    assert policy.solved(40) == pytest.approx(shared_strategies.works("test", 40, seed=2)[:, 0].astype(float))


@pytest.mark.parametrize(
    ("render", "read", "words"),
    [(reference_answers.render, reference_answers.read, ["3", "7"]), (in_tags, from_tags, ["3"])],
)
def test_words_and_completions_are_one_another(render, read, words):
    assert list(read(render(words))) == words
    with pytest.raises(SteelyardError, match="is not of the form"):
        read("hello")


def test_one_of_several_answers():
    rows = [("<answer> 7 </answer>", "7", 1), ("<answer>7</answer>", ["3", "7"], 1), ("7", "7", 0)]
    rows.append(("<answer>7</answer>", [], np.nan))
    for text, answer, expected in rows:
        found = one_of(Rollouts([Sample("s", "", columns={"answer": answer})], [text])).values
        assert np.array_equal(found, [expected], equal_nan=True)
