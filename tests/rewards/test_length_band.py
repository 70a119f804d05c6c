"""Lengths that are asked for, means of what applies, and checklists that a model writes (sheet 45)."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steelyard.learn.advantages import advantages_of, centre, chain, group_std, scale
from steelyard.methods.ace_rl import ace_reward
from steelyard.rewards.checklists import DIMENSIONS, parse_checklist, write_checklists
from steelyard.rewards.combinators import mean_applicable
from steelyard.rewards.core import BatchReward
from steelyard.rewards.judges import RuleJudge
from steelyard.rewards.rubrics import MET_PARTLY_NOT, read_criteria
from steelyard.rewards.shaping import band_fit, count_words, length_in_band, stated_band
from steelyard.types import Rollouts, Sample, Scores, Status, SteelyardError

NAN = np.nan


def fit(n, low, high) -> float:
    return float(band_fit(np.array([n]), np.array([low]), np.array([high]))[0])


def test_the_sheet_s_lengths() -> None:
    assert fit(1500, 2700, 3300) == pytest.approx(0.6) and fit(9000, 2700, 3300) == pytest.approx(0.42424242)
    assert fit(3000, 2700, 3300) == fit(2700, 2700, 3300) == fit(3300, 2700, 3300) == 1
    assert fit(4000, 1000, 1000) == 0 and fit(2500, 1000, 1000) == 0.5 and fit(300, 1000, 1000) == 0
    assert fit(334, 1000, 1000) == pytest.approx(0.00299401) and fit(0, 1000, 1000) == 0
    assert np.isnan(fit(5, NAN, NAN))


@given(st.floats(1, 1e4), st.floats(1, 3), st.integers(0, 10**5))
def test_fits_lie_in_the_unit_interval_and_fall_away_from_the_band(low, ratio, n) -> None:
    value, high = fit(n, low, low * ratio), low * ratio
    assert 0 <= value <= 1 and (value == 1) == (low <= n <= high)
    assert value >= fit(n + 1, low, high) if n >= low else value <= fit(min(n + 1, low), low, high)


@pytest.mark.parametrize(
    ("text", "band"),
    [
        ("Write an essay of 1,000 words on tea.", (900, 1100)),
        ("A 500-word letter, please.", (450, 550)),
        ("Between 800 and 1000 words about rain", (800, 1000)),
        ("800-1,000 words", (800, 1000)),
        ("写一篇2000字的文章", (1800, 2200)),
        ("Write about the year 2000.", None),
        ("at least 500 words", None),
        ("A 500-word letter with an abstract of 50 words", None),
        ("500 words. Again: 500 words.", (450, 550)),
    ],
)
def test_lengths_that_instructions_state(text, band) -> None:
    assert stated_band(text) == (band if band is None else pytest.approx(band))


def test_words_and_characters() -> None:
    assert count_words("It's a well-known tale — 3 of them.") == 7 and count_words("") == count_words(" — ") == 0
    assert count_words("今天 is 好天") == 5


def rollouts(completions, **columns) -> Rollouts:
    each = [{name: values[i] for name, values in columns.items()} for i in range(len(completions))]
    return Rollouts([Sample(f"s{i}", "p", columns=c) for i, c in enumerate(each)], completions, np.zeros(len(each)))


def test_bands_of_rows() -> None:
    rows = rollouts(["a b", "a b", "a b", ""], length_band=[2, (4, 6), None, 3])
    scores = length_in_band()(rows)
    np.testing.assert_allclose(scores.values, [1, 0.5, NAN, 0])
    assert scores.status[2] == Status.NOT_APPLICABLE and scores.parts["length_in_band/length"].tolist() == [2, 2, 2, 0]
    for wrong in (0, -3, (5, 4), "ten", True, (1, 2, 3), NAN):
        with pytest.raises(SteelyardError, match="row 0, column 'length_band' asks for the length"):
            length_in_band()(rollouts(["a"], length_band=[wrong]))
    with pytest.raises(SteelyardError, match="tolerance 1"):
        length_in_band(tolerance=1)


def part(values, status=None) -> BatchReward:
    return BatchReward(lambda _: Scores(np.array(values, float), status), "part")


def test_means_of_what_applies() -> None:
    na, failed, ok = Status.NOT_APPLICABLE, Status.FAILED, Status.SCORED
    first, second = part([1, NAN, NAN, NAN], [ok, na, na, failed]), part([0.5, 0.5, NAN, 0.5], [ok, ok, na, ok])
    scores = mean_applicable(first, second)(rollouts([""] * 4))
    np.testing.assert_allclose(scores.values, [0.75, 0.5, NAN, NAN])
    assert scores.status.tolist() == [ok, ok, na, failed]
    other = mean_applicable(part([NAN], [na]), part([NAN], [failed]))(rollouts([""]))
    assert other.status.tolist() == [failed], "what does not apply explains no failure"


def labelling(prompt) -> str | None:
    asked = json.loads(prompt[-1]["content"])
    label = {"f": "fully met", "p": "partially met", "n": "not met"}.get(
        asked["response"].split()[int(asked["criterion"])]
    )
    return json.dumps({"label": label}) if label else "cannot say"


def test_ace_reward_on_replies() -> None:
    items = [{"text": str(i), "levels": MET_PARTLY_NOT} for i in range(5)]
    rows = rollouts(
        ["f f p f n", "f f p x n", "f f p f n", "f f"], rubric=[items, items, items, []], length_band=[5, 5, None, 2]
    )
    scores = ace_reward(RuleJudge(labelling))(rows)
    assert scores.values == pytest.approx([0.85, (0.5 + 1) / 2, 0.7, 1.0])
    assert scores.parts["rubric/unjudged"] == pytest.approx([0, 0.2, 0, 0])
    neither = ace_reward(RuleJudge(labelling))(rollouts(["f"], rubric=[[]], length_band=[None]))
    assert neither.status.tolist() == [Status.NOT_APPLICABLE]


@given(st.lists(st.lists(st.sampled_from([0, 0.5, 1]), min_size=3, max_size=3), min_size=2, max_size=8))
def test_an_item_that_all_meet_shrinks_the_spread_and_no_sign(table) -> None:
    credits = np.array(table, float)
    plain, more = credits.mean(axis=1), np.c_[credits, np.ones(len(table))].mean(axis=1)
    group, all_ = np.zeros(len(table), int), np.ones(len(table), bool)
    assert group_std(more, all_, group)[0] <= group_std(plain, all_, group)[0] + 1e-12
    rows = rollouts([""] * len(table))
    signs = [
        np.sign(np.round(chain(centre(), scale(ddof=0, epsilon=1e-6))(advantages_of(s), rows, s).values, 3))
        for s in (Scores(plain), Scores(more))
    ]
    assert (signs[0] == signs[1]).all()


CHECKS = {"checks": [{"dimension": DIMENSIONS[0], "question": "Is rain in it?"}]}


def test_checklists_are_written_once_for_equal_requests_and_asked_again() -> None:
    replies = {"tea": ["sorry", json.dumps(CHECKS)], "rain": [None, None, "x"]}
    asked = []

    def writer(prompt):
        asked.append(json.loads(prompt[-1]["content"])["request"])
        return replies[asked[-1]].pop(0)

    written = write_checklists(RuleJudge(writer), ["tea", "rain", "tea"])
    assert written[0] == written[2] and written[1] is None and asked == ["tea", "rain", "tea", "rain", "rain"]
    assert read_criteria(written[0])[0].levels == MET_PARTLY_NOT
    assert written[0][0]["name"] == "content completeness 1"
    with pytest.raises(SteelyardError, match="0 tries"):
        write_checklists(RuleJudge(writer), ["tea"], tries=0)


@pytest.mark.parametrize(
    "checks",
    [None, [], "x", [{"dimension": "mood", "question": "q"}], [{"dimension": DIMENSIONS[0], "question": " "}],
     [{"dimension": DIMENSIONS[0]}], CHECKS["checks"] * 2, [["q"]], [{**CHECKS["checks"][0], "question": 3}]],
)  # fmt: skip
def test_checklists_of_another_form_are_none(checks) -> None:
    assert parse_checklist(json.dumps({"checks": checks})) is None
