"""Truncated steps and whole attempts: sheet 67's exact checks, masks, groups, and what ends them."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from steelyard.learn.advantages import advantages_of, centre, chain, even, scale
from steelyard.learn.branching import at_random, best, by_advantage, truncated_steps
from steelyard.learn.fusion import fused
from steelyard.learn.recipe import Candidate
from steelyard.learn.trajectories import attempts, trajectories
from steelyard.rewards import reward
from steelyard.rewards.agent_steps import final_answer_match, read_agent_step
from steelyard.rewards.stepwise import on_the_way, outcome_beside_steps, stepwise
from steelyard.types import Rollouts, Sample, Scores, SteelyardError
from steelyard.worlds.search_questions import HOPS, RELATIONS, SearchQuestions
from tests.policies import agents

STEP = ("group", "step")
SLATE = chain(centre(by=STEP), scale(by=STEP, epsilon=1e-6))


def advantages(rewards: list[list[float]]) -> list[list[float]]:
    """Of one question, step by step."""
    steps = [t for t, row in enumerate(rewards) for _ in row]
    scores = Scores(np.array([value for row in rewards for value in row]))
    rows = Rollouts([Sample("q", "")] * len(steps), [""] * len(steps), [0] * len(steps), columns={"step": steps})
    values = iter(SLATE(advantages_of(scores), rows, scores).values.tolist())
    return [[next(values) for _ in row] for row in rewards]


def test_the_sheets_advantages_and_selection() -> None:
    five = [0.92035735, -0.61357152, 0.15339287, -1.38053584, 0.92035735]
    equal, one, two = [1.0] * 5, [1.0, 0, 0, 0, 0], [2.0, -2.0]
    found = advantages([[2, 0, 1, -1, 2], equal, one, two, [3.0]])
    assert found[0] == pytest.approx(five, abs=1e-6)
    assert found[1] == [0] * 5 and found[4] == [0], "all equal, and a group of one, teach nothing"
    assert found[2][0] == pytest.approx(1.78885043) and found[3] == pytest.approx([0.70710653, -0.70710653])
    select = by_advantage(0.7)
    wanted = [0.40266526, 0.04500522, 0.13461812, 0.01504605, 0.40266526]
    assert select(np.array([[2.0, 0, 1, -1, 2]]))[0] == pytest.approx(wanted, abs=1e-6)
    assert select(np.array([equal]))[0].tolist() == pytest.approx([0.2] * 5)
    assert select(np.array([one]))[0, 0] == pytest.approx(0.85912973)
    assert select(np.array([[5.0]])).tolist() == [[1.0]]


def test_a_small_eta_is_best_of_k() -> None:
    scores = np.array([[2.0, 1, 0, -1, -2], [0, 1, 0, 0, 0.5]])
    np.testing.assert_allclose(by_advantage(1e-3)(scores), best()(scores), atol=1e-12)
    assert best()(np.array([[1.0, 2, 2]])).tolist() == [[0, 1, 0]], "the first of equals"
    with pytest.raises(SteelyardError, match="eta must be positive"):
        by_advantage(0.0)


@given(st.lists(st.lists(st.sampled_from([-2.0, 0.0, 1.5, np.nan]), min_size=3, max_size=3), min_size=1, max_size=5))
def test_selection_is_a_distribution_over_what_was_judged(rows: list[list[float]]) -> None:
    scores = np.array(rows)
    for select in (by_advantage(0.7), best(), at_random()):
        chances = select(scores)
        assert (chances[np.isnan(scores)] == 0).all() and (chances >= 0).all()
        np.testing.assert_allclose(chances.sum(axis=1), ~np.isnan(scores).all(axis=1), atol=1e-12)


@pytest.mark.parametrize(("steps", "ratio"), [(2, 2.00), (4, 3.98), (8, 7.98)])
def test_the_theorem_of_the_variance(steps: int, ratio: float) -> None:
    draws, k = 200_000, 5
    rewards = np.random.default_rng(67).integers(-1, 2, (draws, steps)).astype(np.float64)
    variance = []
    for values in (rewards.sum(axis=1), rewards[:, 0]):
        scores = Scores(values)
        rows = Rollouts([Sample("d", "")] * draws, [""] * draws, np.arange(draws) // k)
        variance.append(centre()(advantages_of(scores), rows, scores).values.var())
    assert variance[0] / variance[1] == pytest.approx(ratio, rel=0.03)
    assert variance[1] == pytest.approx((1 - 1 / k) * 2 / 3, rel=0.02)


def test_even_weighs_groups_alike() -> None:
    scores = Scores(np.array([1.0, 2, np.nan, 3, 4, 5]))
    rows = Rollouts([Sample("q", "")] * 6, [""] * 6, [0, 0, 0, 1, 1, 1])
    assert even()(advantages_of(scores), rows, scores).weights.tolist() == pytest.approx([0.5, 0.5, 0] + [1 / 3] * 3)


@pytest.fixture(scope="module")
def world() -> SearchQuestions:
    return SearchQuestions(seed=3)


def rolled(world: SearchQuestions, plan, seed: int = 0, policy=None) -> Rollouts:
    candidates = [Candidate(sample) for sample in world.samples("train", 12)]
    return plan.rollouts(policy or world.policy(), candidates, np.random.default_rng(seed))


def test_candidates_share_the_prefix_that_the_selected_one_made(world) -> None:
    plan = truncated_steps(environment=world.environment, score=world.steps, k=5, budget=4)
    rows = rolled(world, plan)
    assert len(rows) == 12 * 4 * 5 and rows.actions.mask.all()
    step, selected = np.array(rows.columns["step"]), np.array(rows.columns["selected"])
    for question in range(12):
        before = ""
        for t in range(4):
            mine = np.flatnonzero((rows.groups == question) & (step == t))
            assert len(mine) == 5 and len({id(rows.samples[i]) for i in mine}) == 1
            prefix = rows.samples[mine[0]].prefix
            assert prefix.text == before and prefix.steps == t
            (chosen,) = mine[selected[mine]]
            brought = world.environment([rows.samples[chosen]], [rows.completions[chosen]])[0]
            before += rows.completions[chosen] + (brought or "")
        assert rows.columns["final"][mine[0]] == rows.completions[chosen]
        assert read_agent_step(rows.completions[chosen]).action == "answer"


def test_scores_made_on_the_way_are_the_recipes_scores(world) -> None:
    plan = truncated_steps(environment=world.environment, score=world.steps, k=3, budget=2, select=best())
    rows = rolled(world, plan)
    before = world.steps.generator.bit_generator.state
    scores = on_the_way(world.steps)(rows)
    assert world.steps.generator.bit_generator.state == before, "nobody was asked again"
    assert len(scores) == len(rows) and {"thought", "query", "answer"} <= set(scores.parts)
    step, selected = np.array(rows.columns["step"]), np.array(rows.columns["selected"])
    for question in range(12):
        for t in range(2):
            mine = np.flatnonzero((rows.groups == question) & (step == t))
            assert mine[selected[mine]] == mine[scores.values[mine].argmax()]


def test_a_question_ends_where_nobody_could_be_judged_or_an_answer_is_chosen(world) -> None:
    @reward
    def judged(sample: Sample, step: int) -> float | None:
        return None if sample.id == "question-3" and step == 1 else 1.0

    rows = rolled(world, truncated_steps(environment=world.environment, score=judged, k=2, budget=6))
    step, selected = np.array(rows.columns["step"]), np.array(rows.columns["selected"])
    lost = rows.groups == 3
    assert step[lost].tolist() == [0, 0, 1, 1] and not selected[lost & (step == 1)].any()
    assert step[~lost].max() == HOPS - 1, "the answer is the fourth step, whatever the budget"
    weights = SLATE(advantages_of(on_the_way(judged)(rows)), rows, on_the_way(judged)(rows)).weights
    assert (weights[lost & (step == 1)] == 0).all() and (weights[~lost] == 1).all()


def test_whole_attempts_go_on_as_the_world_does(world) -> None:
    rows = rolled(world, trajectories(environment=world.environment, n=3, budget=4))
    assert len(rows) == 36 and rows.actions.mask.all() and rows.actions.mask.shape == (36, 4)
    np.testing.assert_array_equal(rows.spans["step"][0], [[0, 1], [1, 2], [2, 3], [3, 4]])
    policy = world.policy()
    assert torch.allclose(policy.logprobs(rows), torch.full((36, 4), -np.log(len(RELATIONS))))
    scores = outcome_beside_steps(final_answer_match, stepwise(world.steps))(rows)
    assert scores.steps.shape == (36, 4)
    both = fused(beta=0.5, by=("group",), span="step")(advantages_of(scores), rows, scores)
    assert both.values.shape == (36, 4) and np.abs(both.values).max() > 0


def test_a_perfect_policy_answers_every_question(world) -> None:
    policy = world.policy()
    with torch.no_grad():
        for place, state in world.state.items():
            policy.module.tables[0][state, int(world.right[place])] = 50.0
    assert world.solved(policy) == pytest.approx(1)
    rows = attempts(
        policy, world.samples("test", 12), 1,
        environment=world.environment, budget=4, generator=np.random.default_rng(0), greedy=True,
    )  # fmt: skip
    assert final_answer_match(rows).values.tolist() == [1] * 12
    values = stepwise(world.steps.inner)(rows).steps
    np.testing.assert_allclose(values, [[2, 2, 2, 2.025]] * 12, atol=1e-6)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return agents.policy(agents.saved(tmp_path_factory.mktemp("agent")))


def test_a_language_models_attempts_mask_what_the_tool_said(model) -> None:
    tool, samples = agents.tool(), agents.questions(6)
    rows = attempts(model, samples, 3, environment=tool, budget=3, generator=np.random.default_rng(1))
    assert max(map(len, rows.columns["turns"])) == 3 and min(map(len, rows.columns["turns"])) >= 1
    actions, spans = rows.actions, rows.spans["step"]
    gap = np.abs(model.logprobs(rows).detach().numpy() - actions.logprobs)
    assert gap[actions.mask].max() < 1e-4, "what was scored apart is what one long sequence gives"
    assert (model.logprobs(rows).detach().numpy()[~actions.mask] == 0).all()
    for row, turns in enumerate(rows.columns["turns"]):
        covered = np.zeros(actions.mask.shape[1], bool)
        for t, (sample, text) in enumerate(turns):
            start, end = spans[row, t]
            covered[start:end] = True
            own = actions.data["tokens"][row, start:end]
            assert model.texts(own[None], np.ones((1, end - start), bool)) == [text]
            np.testing.assert_array_equal(sample.prefix.data["tokens"], actions.data["tokens"][row, :start])
        np.testing.assert_array_equal(covered, actions.mask[row])
        assert (spans[row, len(turns) :] == -1).all()
    assert (~actions.mask & (actions.data["tokens"] > 0)).any(), "a tool was heard"


def test_an_attempts_draws_do_not_depend_on_its_neighbours(model) -> None:
    samples = agents.questions(4)

    def completions(environment) -> list[str]:
        rows = attempts(model, samples, 2, environment=environment, budget=3, generator=np.random.default_rng(5))
        return rows.completions

    class Ending:
        """Ends the first sample's attempts at once."""

        def __call__(self, asked, steps):
            brought = agents.tool()(asked, steps)
            return [None if s.id == "q0" else text for s, text in zip(asked, brought, strict=True)]

    assert completions(Ending())[2:] == completions(agents.tool())[2:]


def test_a_forced_answer_is_not_trained_on(model) -> None:
    class Deaf:
        def __call__(self, asked, steps):
            return ["w1 "] * len(steps)

    kwargs = {"environment": Deaf(), "budget": 2, "generator": np.random.default_rng(2)}
    rows = attempts(model, agents.questions(3), 2, force="w2 w3", **kwargs)
    ends = rows.spans["step"][:, 1, 1]
    assert all(len(turns) == 2 for turns in rows.columns["turns"])
    assert not any(row[end:].any() for row, end in zip(rows.actions.mask, ends, strict=True))
    assert all(text.endswith(final) for text, final in zip(rows.completions, rows.columns["final"], strict=True))

    @reward
    def alike(completion: str) -> float:
        return 1.0

    plan = truncated_steps(environment=Deaf(), score=alike, k=2, budget=2, force="w2 w3")
    rows = plan.rollouts(model, [Candidate(s) for s in agents.questions(3)], np.random.default_rng(2))
    assert len(rows) == 3 * 2 * 2 and not set(rows.columns["final"]) & {""}


def test_an_end_inside_a_step_stays_in_the_prefix(model) -> None:
    """A step that ends without an action is told so; what it wrote, its end token too, is read again as it was."""
    rows = attempts(
        model, agents.questions(8), 4, environment=agents.tool(), budget=2, generator=np.random.default_rng(8)
    )
    ended = [t for turns in rows.columns["turns"] for t in turns[1:] if 1 in t[0].prefix.data["tokens"]]
    assert ended, "some steps ended by the end token"


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (lambda w: truncated_steps(environment=w.environment, score=w.steps, k=0), "k=0"),
        (lambda w: trajectories(environment=w.environment, n=2, budget=0), "budget=0"),
        (lambda w: rolled(w, trajectories(environment=lambda s, t: ["x"], n=2, budget=2)), "1 answers to 24 steps"),
        (lambda w: rolled(w, trajectories(environment=w.environment, n=2, budget=2), policy=object()), "cannot read"),
        (lambda w: trajectories(environment=w.environment, n=2, budget=2).restore(Sample("s", ""), {"a": 1}), "no"),
    ],
)
def test_bad_input_is_refused(world, act, words: str) -> None:
    with pytest.raises(SteelyardError, match=words):
        act(world)
