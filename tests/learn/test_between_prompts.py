"""Advantages between prompts: sheet 10's exact checks."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from steelyard.learn.advantages import advantages_of, centre, chain, clip, scale, with_signal
from steelyard.learn.between_prompts import (
    answer_entropy,
    blend,
    by_entropy,
    centre_prompts,
    entropy_share,
    forced,
    numbered_answers,
    prompt_reward,
    rewarded,
    scale_prompts,
)
from steelyard.learn.filters import spread_filter
from steelyard.learn.objectives import clipped, clipped_surrogate
from steelyard.types import Advantages, Rollouts, Sample, Scores, SteelyardError

REWARDS = [1, 0, 1, 1, 0, 0] + [0] * 6 + [1] * 6
ANSWERS = list("737735") + list("123456") + list("999999")
GROUP = [0] * 6 + [1] * 6 + [2] * 6
LOCAL = chain(centre(), scale(epsilon=1e-6))


def text(completion: str) -> str | None:
    return completion or None


GLOBAL = chain(prompt_reward(agreement=text), centre_prompts(), scale_prompts(epsilon=1e-6))


def rollouts(answers=ANSWERS, group=GROUP) -> Rollouts:
    return Rollouts([Sample("s", "p")] * len(answers), list(answers), np.array(group))


def run(link, rewards=REWARDS, answers=ANSWERS, group=GROUP) -> Advantages:
    scores = Scores(np.array(rewards, np.float32))
    return link(advantages_of(scores), rollouts(answers, group), scores)


def per_prompt(values) -> list[float]:
    values = np.asarray(values).reshape(3, 6)
    assert (values == values[:, :1]).all()
    return values[:, 0].tolist()


def test_entropy_reward_and_both_advantages():
    entropy = answer_entropy(numbered_answers(rollouts(), text), np.array(GROUP))
    assert entropy == pytest.approx([1.45915, 2.58496, 0], abs=1e-5)
    nats = answer_entropy(numbered_answers(rollouts(), text), np.array(GROUP), base=np.e)
    assert nats[1] == pytest.approx(np.log(6)) and np.log(6) == pytest.approx(1.79, abs=0.01)
    assert per_prompt(run(prompt_reward(agreement=text)).values) == pytest.approx([0.26480, 0, 1], abs=1e-5)
    assert per_prompt(run(GLOBAL).values) == pytest.approx([-0.30263, -0.81372, 1.11636], abs=1e-4)
    assert run(LOCAL).values[:6] == pytest.approx([0.91287, -0.91287, 0.91287, 0.91287, -0.91287, -0.91287], abs=1e-4)
    assert run(LOCAL).values[6:].tolist() == [0] * 12


def test_agreement_coefficient_alone():
    ones = run(prompt_reward(agreement=text), rewards=[1] * 18)
    assert per_prompt(ones.values) == pytest.approx([0.5296, 1 / 6, 1], abs=1e-4)


def test_without_the_coefficient():
    link = chain(prompt_reward(), centre_prompts(), scale_prompts(epsilon=1e-6))
    assert per_prompt(run(prompt_reward()).values) == pytest.approx([0.5, 0, 1])
    assert per_prompt(run(link).values) == pytest.approx([0, -1, 1], abs=1e-5)


def test_equal_prompts_and_a_single_prompt_are_zero_without_nan():
    assert run(GLOBAL, rewards=[1] * 6, answers="a" * 6, group=[0, 0, 0, 1, 1, 1]).values.tolist() == [0] * 6
    assert run(GLOBAL, rewards=[1, 0, 1], answers="aba", group=[0] * 3).values.tolist() == [0] * 3
    nothing = run(GLOBAL, rewards=[np.nan] * 2, answers="ab", group=[0, 1])
    assert nothing.weights.tolist() == [0, 0] and np.isfinite(nothing.values).all()


def test_prompts_count_once_whatever_their_attempts():
    link = chain(prompt_reward(), centre_prompts())
    got = run(link, rewards=[1] * 9 + [0], answers="a" * 10, group=[0] * 9 + [1])
    assert got.values.tolist() == [0.5] * 9 + [-0.5]


def test_shares():
    entropy = [1.45915, 2.58496, 0.0]
    share = entropy_share(entropy, gamma=20, threshold=1.5)
    assert share == pytest.approx([0.3064, 1, 0], abs=1e-4) and share[2] == pytest.approx(1e-13, rel=0.1)
    assert entropy_share(entropy, gamma=0, threshold=1.5).tolist() == [0.5] * 3
    assert entropy_share(entropy, gamma=20, threshold=-1e9).tolist() == [1] * 3


def both(share) -> np.ndarray:
    """[18, 2]: the weighed advantages of the two sides."""
    got = run(blend(LOCAL, GLOBAL, share=share))
    return np.stack(got.terms, axis=1)


def test_the_soft_blend_loses_diverse_wrong_groups_and_the_forced_one_does_not():
    local, across = run(LOCAL).values, run(GLOBAL).values
    soft, hard = both(by_entropy(text)), both(forced(by_entropy(text)))
    assert soft[6:12] == pytest.approx(0, abs=1e-8), "all wrong, all different: no gradient at all"
    assert hard[6:12, 1] == pytest.approx(across[6:12]) and (hard[6:12, 0] == 0).all()
    assert soft[:6, 0] == pytest.approx(0.3064 * local[:6], abs=1e-4)
    assert both(forced())[:6, 0] == pytest.approx(local[:6]) and both(forced())[:6, 1].tolist() == [0] * 6
    assert both(rewarded())[:, 1] == pytest.approx(np.where(np.array(REWARDS) == 0, across, 0))
    assert both(1.0)[:, 0] == pytest.approx(local) and both(0.0)[:, 1] == pytest.approx(across)


def test_completions_without_an_answer_agree_with_nobody():
    numbers = numbered_answers(rollouts(["", "", "1", "1"], [0] * 4), text)
    assert answer_entropy(numbers, np.zeros(4, np.int64)) == pytest.approx([1.5])


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2), st.booleans()), min_size=1, max_size=16), st.randoms())
def test_invariant_to_order_and_names(rows, random):
    group, answers = np.array([g for g, _, _ in rows]), [str(a) for _, a, _ in rows]
    rewards = [float(r) for _, _, r in rows]
    link = blend(LOCAL, GLOBAL, share=forced(by_entropy(text, threshold=0.3)))
    plain = np.stack(run(link, rewards, answers, group).terms)
    order = list(range(len(rows)))
    random.shuffle(order)
    renamed = [f"x{answers[i]}y" for i in order]
    moved = np.stack(run(link, [rewards[i] for i in order], renamed, group[order]).terms)
    np.testing.assert_allclose(moved, plain[:, order], atol=1e-6)
    assert np.isfinite(plain).all()


def loss_of(advantages: torch.Tensor, **settings):
    generator = torch.Generator().manual_seed(0)
    old = -torch.rand(4, 3, generator=generator) * 2
    new = (old + torch.randn(4, 3, generator=generator)).requires_grad_()
    return clipped(epsilon=0.2, epsilon_high=0.28, dual=3.0, **settings)(new, old, None, advantages).loss


def test_several_advantages_are_clipped_apart_and_added_up():
    one, two = torch.randn(4, 3, generator=torch.Generator().manual_seed(1)), torch.tensor([[1.0], [-1], [0.5], [-2]])
    w, two = torch.tensor([[0.3], [0.0], [1.0], [0.9]]), two.expand(4, 3)
    together = loss_of(torch.stack([w * one, (1 - w) * two]))
    torch.testing.assert_close(together, w * loss_of(one) + (1 - w) * loss_of(two))
    assert torch.equal(loss_of(torch.stack([one, torch.zeros(4, 3)])), loss_of(one)), "GRPO to the bit"


def test_dual_clip_bounds_what_a_bad_row_can_cost():
    ratio, advantages = torch.tensor([0.5, 2.0, 10.0, 10.0]), torch.tensor([-1.0, -1.0, -1.0, 1.0])
    assert clipped_surrogate(ratio, advantages, 0.2, 0.28).tolist() == pytest.approx([0.8, 2.0, 10.0, -1.28])
    assert clipped_surrogate(ratio, advantages, 0.2, 0.28, 3.0).tolist() == pytest.approx([0.8, 2.0, 3.0, -1.28])
    with pytest.raises(SteelyardError, match="dual=1"):
        clipped(dual=1.0)


def test_links_after_a_blend_see_both_or_refuse():
    two = blend(LOCAL, GLOBAL, share=0.5)
    assert np.abs(np.stack(run(chain(two, clip(0.1))).terms)).max() == pytest.approx(0.1)
    with pytest.raises(SteelyardError, match="group statistics need one advantage a row, not 2"):
        run(chain(two, scale()))
    with pytest.raises(SteelyardError, match="a share lies between 0 and 1"):
        run(blend(LOCAL, GLOBAL, share=1.5))
    with pytest.raises(SteelyardError, match="blends one advantage a row"):
        run(blend(two, GLOBAL, share=0.5))


def test_rows_count_where_their_sides_do():
    got = run(blend(chain(with_signal(), LOCAL), GLOBAL, share=forced()))
    assert got.weights.tolist() == [1] * 18
    got = run(blend(chain(with_signal(), LOCAL), GLOBAL, share=0.5))
    assert got.weights.tolist() == [1] * 6 + [0] * 12
    got = run(blend(LOCAL, GLOBAL, share=forced()), rewards=[*REWARDS[:17], np.nan])
    assert got.weights[17] == 0


def test_a_blend_keeps_its_sides_state():
    link = chain(blend(chain(spread_filter(), LOCAL), GLOBAL, share=0.5))
    run(link)
    again = chain(blend(chain(spread_filter(), LOCAL), GLOBAL, share=0.5))
    again.load_state_dict(json.loads(json.dumps(link.state_dict())))
    assert again.state_dict() == link.state_dict() and again.links[0].links[0].links[0].step == 1
    assert link.metrics()["blend_share"] == 0.5
    assert "blend(chain(spread_filter(" in repr(link) and "share=0.5" in repr(link)
