"""Plans, difficulty, routing and memory, driven by a policy whose answers are scripted."""

import json

import numpy as np
import pytest

from steelyard.learn.curricula import Entry, Memory, route, self_reflective, uniform
from steelyard.learn.difficulty import Judgement, agreement, behavioural, parse_judgement, self_judged
from steelyard.learn.plans import groups, two_branches
from steelyard.learn.recipe import Candidate, SampleStream
from steelyard.perturb.video import VideoPerturbation, outdoor_corruptions
from steelyard.rewards.answers import answer_text
from steelyard.types import Rollouts, Sample, SteelyardError


def video(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (4, 12, 12, 3), dtype=np.uint8)


def samples(n: int) -> list[Sample]:
    return [Sample(f"s{i}", "which?", video=video(i)) for i in range(n)]


class Scripted:
    """Answers A to a clean clip; to a disturbed one what `disturbed` says for its sample."""

    def __init__(self, disturbed: dict[str, list[str]]) -> None:
        self.disturbed, self.clean = disturbed, {s.id: s.video for s in samples(10)}
        self.asked = 0

    def sample(self, rows, n, *, generator, greedy=False) -> Rollouts:
        self.asked += len(rows) * n
        texts = []
        for row in rows:
            same = np.array_equal(row.video, self.clean[row.id])
            answers = ["A"] * n if same else (self.disturbed[row.id] * n)[:n]
            texts += [f"<think>t</think><answer>{a}</answer>" for a in answers]
        return Rollouts([r for r in rows for _ in range(n)], texts, group=np.repeat(np.arange(len(rows)), n))


PLAN = two_branches(perturb=outdoor_corruptions(("dark",), severities=(5,)), n=2)


def test_two_branches_see_the_clean_and_the_changed_clip() -> None:
    policy = Scripted({f"s{i}": ["B"] for i in range(3)})
    candidates = [PLAN.draw(sample, np.random.default_rng(i)) for i, sample in enumerate(samples(3))]
    rollouts = PLAN.rollouts(policy, candidates, np.random.default_rng(0))
    assert rollouts.branches.tolist() == [0] * 6 + [1] * 6 and rollouts.groups.tolist() == [0, 0, 1, 1, 2, 2] * 2
    assert [answer_text(text) for text in rollouts.completions] == ["A"] * 6 + ["B"] * 6
    assert rollouts.samples[6] is candidates[0].view


def test_groups_mark_the_rows_that_were_changed() -> None:
    policy = Scripted({"s0": ["B"]})
    plain, changed = groups(2), groups(2, perturb=outdoor_corruptions(("dark",)))
    for plan, branch in ((plain, 0), (changed, 1)):
        rollouts = plan.rollouts(policy, [plan.draw(samples(1)[0], np.random.default_rng(0))], np.random.default_rng(0))
        assert rollouts.branches.tolist() == [branch] * 2
    with pytest.raises(SteelyardError, match="n=0"):
        groups(0)


def test_a_candidate_comes_back_from_its_spec_with_the_same_pixels() -> None:
    candidate = PLAN.draw(samples(1)[0], np.random.default_rng(3))
    assert candidate.perturbation is not None
    spec = json.loads(json.dumps(candidate.perturbation.spec()))
    again = PLAN.restore(samples(1)[0], spec)
    assert np.array_equal(again.view.video, candidate.view.video)
    with pytest.raises(SteelyardError, match="the plan has none"):
        groups(2).restore(samples(1)[0], spec)


def test_agreement_with_the_clean_majority() -> None:
    assert agreement(["A", "A", "B"], ["A", "A"]) == Judgement("easy", 1.0)
    assert agreement(["A", "A", "B"], ["B", "C"]) == Judgement("difficult", 1.0)
    assert agreement(["A", "A", "B"], ["A", "B", "B", "C"]) == Judgement("informative", 0.5)
    assert agreement([None, None], [None]).label == "difficult"


def test_behavioural_difficulty_needs_no_gold_answer_and_says_what_it_costs() -> None:
    policy = Scripted({"s0": ["A"], "s1": ["B"], "s2": ["A", "B"]})
    candidates = [PLAN.draw(sample, np.random.default_rng(0)) for sample in samples(3)]
    judge = behavioural(answer_text, attempts=4)
    labels = [j.label for j in judge(policy, candidates, np.random.default_rng(0))]
    assert labels == ["easy", "difficult", "informative"]
    assert policy.asked == 3 * judge.samples_per_candidate == 24


def test_an_identity_change_is_easy_everywhere() -> None:
    candidates = [Candidate(sample) for sample in samples(4)]
    assert {j.label for j in behavioural(answer_text)(Scripted({}), candidates, np.random.default_rng(0))} == {"easy"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('Sure: {"difficulty": "easy", "confidence": 0.9}', Judgement("easy", 0.9)),
        ('{"difficulty": "trivial", "confidence": 0.9}', Judgement("informative", 0.0)),
        ('{"difficulty": "easy", "confidence": 7}', Judgement("informative", 0.0)),
        ("easy", Judgement("informative", 0.0)),
        ('{"difficulty": ', Judgement("informative", 0.0)),
        ('{"difficulty": "easy", "confidence": NaN}', Judgement("informative", 0.0)),
        ('{"difficulty": "easy", "confidence": 1' + "0" * 400 + "}", Judgement("informative", 0.0)),
        ("{" + "[" * 100_000 + "}", Judgement("informative", 0.0)),
    ],
)
def test_self_judgements_are_parsed_strictly(text: str, expected: Judgement) -> None:
    assert parse_judgement(text) == expected


def test_the_policy_is_asked_with_both_of_its_outputs_and_the_disturbed_clip() -> None:
    seen = []

    class Asked(Scripted):
        def sample(self, rows, n, *, generator, greedy=False):
            if greedy:
                seen.extend(rows)
                return Rollouts(list(rows), ['{"difficulty": "difficult", "confidence": 1}'] * len(rows))
            return super().sample(rows, n, generator=generator)

    candidate = PLAN.draw(samples(1)[0], np.random.default_rng(0))
    assert self_judged()(Asked({"s0": ["B"]}), [candidate], np.random.default_rng(0)) == [Judgement("difficult", 1.0)]
    assert "<answer>A</answer>" in seen[0].prompt and "<answer>B</answer>" in seen[0].prompt
    assert np.array_equal(seen[0].video, candidate.view.video)


def test_an_unknown_label_is_not_taken_for_difficult() -> None:
    with pytest.raises(SteelyardError, match="'hard' is unknown"):
        route(Judgement("hard", 1.0), tau=0.8, k_max=3)  # type: ignore[arg-type]


def test_routing_follows_the_sheet() -> None:
    assert route(Judgement("easy", 0.8), tau=0.8, k_max=3) == "discard"
    assert route(Judgement("easy", 0.7), tau=0.8, k_max=3) == "train"
    assert route(Judgement("difficult", 1), tau=0.8, k_max=3, evaluations=3, from_memory=True) == "evict"


def test_a_difficult_sample_is_evaluated_once_on_entry_and_at_most_k_max_times_after() -> None:
    memory = Memory(capacity=2, k_max=3)
    assert memory.add("a", Entry("a", None)) and memory.add("a", Entry("a", None)) and memory.add("b", Entry("b", None))
    assert memory.full and not memory.add("c", Entry("c", None))
    assert [memory.fail("a") for _ in range(4)] == ["keep", "keep", "evict", None]
    assert memory.counts == {"added": 2, "released": 0, "evicted": 1, "refused": 1, "failed_once": 1}


def steps(curriculum, policy, count: int) -> list[list[str]]:
    stream, generator = SampleStream(samples(4), seed=0), np.random.default_rng(0)
    return [sorted(c.sample.id for c in curriculum.next(stream, PLAN, policy, generator, 4)) for _ in range(count)]


def test_easy_is_left_out_and_difficult_waits_in_memory_until_it_is_not() -> None:
    policy = Scripted({"s0": ["A"], "s1": ["B"], "s2": ["A", "B"], "s3": ["B"]})
    curriculum = self_reflective(behavioural(answer_text), period=2, memory=10)
    assert steps(curriculum, policy, 1) == [["s2"]]
    assert len(curriculum.memory.entries) == 2 and curriculum.metrics()["difficult"] == 0.5
    policy.disturbed["s1"] = ["A", "B"]
    stream, generator = SampleStream(samples(4), seed=0), np.random.default_rng(1)
    curriculum.next(stream, PLAN, policy, generator, 4)
    trained = [c.sample.id for c in curriculum.next(stream, PLAN, policy, generator, 4)]
    assert trained.count("s1") >= 2, "one fresh and at least one from memory"
    assert "s3" not in trained


def test_state_goes_through_json_and_resumes_exactly() -> None:
    policy = Scripted({"s0": ["A"], "s1": ["B"], "s2": ["A", "B"], "s3": ["B"]})
    one = self_reflective(behavioural(answer_text), period=2, memory=10)
    steps(one, policy, 3)
    two = self_reflective(behavioural(answer_text), period=2, memory=10)
    two.load_state_dict(json.loads(json.dumps(one.state_dict())))
    assert two.state_dict() == one.state_dict()
    assert steps(one, policy, 3) == steps(two, policy, 3)


def test_uniform_and_the_stream_give_every_sample_once_an_epoch() -> None:
    stream, generator = SampleStream(samples(5), seed=3), np.random.default_rng(0)
    taken = [c.sample.id for _ in range(2) for c in uniform().next(stream, PLAN, Scripted({}), generator, 5)]
    assert sorted(taken[:5]) == sorted(taken[5:]) == [f"s{i}" for i in range(5)] and taken[:5] != taken[5:]
    again = SampleStream(samples(5), seed=3)
    again.load_state_dict({"position": 5, "seed": 3})
    assert [s.id for s in again.take(5)] == taken[5:]
    assert stream.find("s4").id == "s4"
    with pytest.raises(SteelyardError, match="no sample 'x'"):
        stream.find("x")


def test_a_perturbation_is_worth_nothing_without_pixels() -> None:
    with pytest.raises(SteelyardError):
        VideoPerturbation("dark", 3, 0)(Sample("t", "p"))


def test_answers_may_be_tuples_and_there_must_be_some() -> None:
    policy = Scripted({"s0": ["A"], "s1": ["B"]})
    plan = two_branches(perturb=outdoor_corruptions(("dark",), severities=(5,)), n=2)
    candidates = [plan.draw(sample, np.random.default_rng(0)) for sample in samples(2)]
    judged = behavioural(lambda text: (answer_text(text), 1), attempts=2)(policy, candidates, np.random.default_rng(0))
    assert [judgement.label for judgement in judged] == ["easy", "difficult"]
    with pytest.raises(SteelyardError, match="0 attempts"):
        behavioural(answer_text, attempts=0)


def test_samples_of_one_id_cannot_be_told_apart() -> None:
    stream = SampleStream([Sample("a", "1"), Sample("b", "2"), Sample("a", "3")])
    with pytest.raises(SteelyardError, match="several samples 'a'"):
        stream.find("b")
