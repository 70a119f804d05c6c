"""Sheet 47: keys against judges, agreement, truncation, the guard, and the augmentation of a judge's data."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steelyard.audits.agreement import cohen_kappa
from steelyard.audits.master_keys import false_positives, fpr_table
from steelyard.rewards import reward
from steelyard.rewards.judges import MASTER_KEYS, OPENERS, RuleJudge, first_sentence, guarded, is_content_free, verified
from steelyard.rewards.judges.guards import only_opens
from steelyard.rewards.judges.hardening import Labelled, augmented, check_disjoint
from steelyard.types import Rollouts, Sample, Status, SteelyardError

ITEMS = [Sample(f"s{i}", "What is 2+2?", columns={"answer": str(i)}) for i in range(4)]


def fooled(prompt) -> str | None:
    """Says YES to what has no wrong number in it, UNSURE to a comma, nothing to a colon."""
    fields = json.loads(prompt[-1]["content"])
    if fields["response"] in (",", ":"):
        return "UNSURE" if fields["response"] == "," else None
    digits = [c for c in fields["response"] if c.isdigit()]
    return "NO" if digits and digits != [fields["reference"]] else "YES"


def test_table_of_the_sheet() -> None:
    table = fpr_table(np.asarray([[0.9, 0.5, 0], [0.1, 0.2, 0.6]]))
    np.testing.assert_allclose(table.per_key, [0.5, 0.35, 0.3])
    assert table.mean == pytest.approx(0.38333333) and table.worst == 0.9
    with pytest.raises(SteelyardError, match="shares from 0 to 1"):
        fpr_table(np.asarray([[1.5]]))


def test_keys_are_put_to_a_judge_and_to_a_reward_alike() -> None:
    judge = RuleJudge(fooled)
    sets = {"small": ITEMS[:1], "large": ITEMS}
    for target in (judge, verified(judge)):
        found = false_positives(target, sets, [" ", "Solution", "7", ",", ":"])
        assert found.datasets == ("small", "large") and found.rates[:, :3].tolist() == [[1, 1, 0]] * 2
        assert np.isnan(found.rates[:, 3:]).all() and (found.unjudged[:, 3:] == 1).all()
        assert (found.mean, found.worst) == (pytest.approx(2 / 3), 1)
    plain = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert plain["rates"]["large"][","] is None and plain["unjudged"]["large"][","] == 1


def test_every_key_reaches_the_judge_as_it_is() -> None:
    """A blank must not become an empty prompt."""
    seen: list[str] = []

    def listen(prompt) -> str:
        seen.append(json.loads(prompt[-1]["content"])["response"])
        return "NO"

    assert false_positives(RuleJudge(listen), ITEMS[:1]).worst == 0 and seen == list(MASTER_KEYS)
    for bad in ([], {"empty": []}):
        with pytest.raises(SteelyardError, match="at least one key and one item"):
            false_positives(RuleJudge(listen), bad)


def test_kappa_of_the_sheet() -> None:
    found = cohen_kappa(np.asarray([1, 1, 0, 0, 1]), np.asarray([1, 0, 0, 0, 1]))
    assert found.agreement == 0.8 and found.kappa == pytest.approx(0.61538462)
    assert cohen_kappa(np.asarray([1, 0]), np.asarray([0, 1])).kappa == -1
    assert math.isnan(cohen_kappa(np.ones(3), np.ones(3)).kappa)
    assert cohen_kappa(np.zeros(4), np.asarray([1, 0, 1, 0])).kappa == 0, "a judge that always says NO"
    assert cohen_kappa(np.asarray([1, np.nan, 0]), np.asarray([1, 1, 0])) == (1.0, 1.0, 2)
    with pytest.raises(SteelyardError, match="cannot be compared"):
        cohen_kappa(np.zeros(2), np.zeros(3))


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=2, max_size=30))
def test_kappa_is_scikit_learns(labels: list[tuple[int, int]]) -> None:
    cohen_kappa_score = pytest.importorskip("sklearn.metrics").cohen_kappa_score

    a, b = np.asarray(labels).T
    found = cohen_kappa(a, b).kappa
    if len(np.unique(labels)) > 1:
        assert found == pytest.approx(cohen_kappa_score(a, b), abs=1e-9)


@pytest.mark.parametrize(
    ("text", "opening"),
    [
        ("We need the sets A and B. Then we intersect.", "We need the sets A and B."),
        ("It is 3.14 exactly. Yes", "It is 3.14 exactly."),
        ("Thought process: first add", "Thought process:"),
        ("Let me think\nthe answer is 3", "Let me think"),
        ("Why? Because", "Why?"),
        ("", ""),
        ("3.14", "3.14"),
    ],
)
def test_first_sentence(text: str, opening: str) -> None:
    assert first_sentence(text) == opening


@given(st.text())
def test_first_sentence_is_a_prefix_and_stays_itself(text: str) -> None:
    opening = first_sentence(text)
    assert text.startswith(opening) and first_sentence(opening) == opening


def test_what_has_no_content() -> None:
    assert all(map(is_content_free, ["", " ", ".", "…", "()[]{}", "\u3000", "🙂", "—"]))
    assert not any(map(is_content_free, ["Solution", "解", "42", "x", "½", "Ⅳ"]))
    assert only_opens("  thought process…") and only_opens("解") and not only_opens("Solution: 4")


def test_a_guard_keeps_empty_responses_from_the_judge() -> None:
    asked: list[str] = []

    def listen(prompt) -> str | None:
        asked.append(json.loads(prompt[-1]["content"])["response"])
        return None if asked[-1] == "b" else "YES"

    inner = verified(RuleJudge(listen, name="judge"))
    rollouts = Rollouts([ITEMS[0]] * 5, [" ", "4", "…", "b", "Solution"])
    scores = guarded(inner)(rollouts)
    assert asked == ["4", "b", "Solution"]
    np.testing.assert_array_equal(scores.values, [0, 1, 0, np.nan, 1])
    assert scores.status.tolist() == [0, 0, 0, Status.FAILED, 0]
    assert scores.parts["guarded/refused"].tolist() == [1, 0, 1, 0, 0] and np.isnan(scores.parts["verified"][0])
    assert guarded(inner, openers=OPENERS)(rollouts).values[4] == 0
    assert repr(guarded(inner)) == "guarded(verified('judge'))"
    assert guarded(inner)(rollouts.take([0, 2])).values.tolist() == [0, 0]


def test_a_guard_lays_steps_and_confidence_back_onto_their_rows() -> None:
    from steelyard.types import Scores

    @reward(batch=True)
    def stepped(rollouts: Rollouts) -> Scores:
        n = len(rollouts)
        return Scores(np.ones(n), steps=np.ones((n, 2), np.float32), confidence=np.full(n, 0.5, np.float32))

    scores = guarded(stepped)(Rollouts([ITEMS[0]] * 2, [".", "x"]))
    assert np.isnan(scores.steps[0]).all() and scores.steps[1].tolist() == [1, 1]
    assert np.isnan(scores.confidence[0]) and scores.confidence[1] == 0.5


def test_augmentation_leaves_originals_alone_and_drops_keys() -> None:
    rows = [Labelled("q", str(i), f"It is {i}.", i % 2 == 0) for i in range(16)]
    written = [(0, "First, we add. Then 4."), (1, "Thought process: add"), (2, "   "), (3, "Solution\n4")]
    found = augmented(rows, written)
    assert found.rows[:16] == tuple(rows) and found.dropped == 3
    assert found.rows[16:] == (Labelled("q", "0", "First, we add.", False),)
    check_disjoint(found.rows)
    with pytest.raises(SteelyardError, match="'Solution'"):
        check_disjoint([*found.rows, Labelled("q", "1", "Solution", False)])
    with pytest.raises(SteelyardError, match="row 99"):
        augmented(rows, [(99, "x")])


def test_the_paper_s_mixture_is_a_ninth() -> None:
    rows = [Labelled("q", "1", "It is 1.", True)] * 160
    assert augmented(rows, [(i, "We add first. Then") for i in range(20)]).share(160) == pytest.approx(1 / 9)
