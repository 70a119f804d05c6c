"""Chains of evidence: the sheet's cases, what is cited, judges that fail, and the group's mixed reward."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steelyard.learn.advantages import advantages_of, centre, chain, scale
from steelyard.methods.carr import c_grpo, credit_for_all, released
from steelyard.rewards.aggregation import relative_to_best
from steelyard.rewards.citations import cited_urls
from steelyard.rewards.core import BatchReward
from steelyard.rewards.evidence import cited_pages, connected, evidence_chain, evidence_credit, filled, placeholders
from steelyard.rewards.judges import RuleJudge
from steelyard.rewards.judges.parsing import parse_entities, parse_support
from steelyard.types import Rollouts, Sample, Scores, Status, SteelyardError

CHAIN = ["<E0> was born in <E1>.", "<E1> is in <E2>.", "<E2> borders <E3>."]
NAMES = {"E0": "x", "E1": "y", "E2": "z", "E3": "w"}
NAN = np.nan


def test_the_sheet_s_chains() -> None:
    broken = evidence_credit(CHAIN, NAMES, [True, False, True])
    assert broken.value == pytest.approx(1 / 3) and broken.connected.tolist() == [True, False, False]
    assert evidence_credit(CHAIN, NAMES, [True] * 3).value == 1
    nameless = evidence_credit(CHAIN, NAMES | {"E0": None}, [True] * 3)
    assert nameless.value == 0 and nameless.supported.tolist() == [False, True, True]
    loose = evidence_credit(["It was in 2015.", CHAIN[0]], NAMES, [True, True])
    assert loose.value == 0.5 and loose.identified.all() and loose.connected.tolist() == [False, True]
    assert evidence_credit(CHAIN, NAMES, [False, False, True], answer="E3").value == pytest.approx(1 / 3)
    with pytest.raises(SteelyardError, match="2 flags for 3 statements"):
        evidence_credit(CHAIN, NAMES, [True, True])
    with pytest.raises(SteelyardError, match="0 statements"):
        evidence_credit([], {}, [])


def test_placeholders_are_whole_numbers_and_filled_at_once() -> None:
    assert placeholders(["<E10> made <E2>.", "<E2> and <E0>, not E5 or <e1>"]) == ["E0", "E2", "E10"]
    assert filled("<E1> saw <E10>.", {"E1": "<E10>", "E10": "b"}) == "<E10> saw b.", "a name is no placeholder"
    assert filled("<E1> saw <E2>.", {"E1": "a", "E2": None}) is None and filled("No one.", {}) == "No one."


@given(st.data())
def test_more_support_never_loses_a_statement_and_rows_are_judged_apart(data) -> None:
    n, entities = 5, 4
    mentions = np.array(data.draw(st.lists(st.lists(st.booleans(), min_size=4, max_size=4), min_size=n, max_size=n)))
    flags = np.array(data.draw(st.lists(st.lists(st.booleans(), min_size=n, max_size=n), min_size=3, max_size=3)))
    found = connected(mentions, flags)
    assert found.shape == (3, n) and not (found & ~flags).any() and entities == mentions.shape[1]
    for row, mine in zip(flags, found, strict=True):
        assert (connected(mentions, row) == mine).all()
        reached, before = {0}, set()
        while reached != before:
            before = set(reached)
            for k in np.flatnonzero(row):
                spoken = set(np.flatnonzero(mentions[k]).tolist())
                reached |= spoken if spoken & reached else set()
        walked = [bool(row[k] and set(np.flatnonzero(mentions[k]).tolist()) & reached) for k in range(n)]
        assert mine.tolist() == walked
        assert (connected(mentions, row | flags[0]) >= mine).all()


def test_links_are_found_whatever_follows_them() -> None:
    text = "a [1](https://a.org/1). b [2](https://b.org/x_(y)) c [3](view-source:http://c.org), [1](https://a.org/1)]"
    assert cited_urls(text) == ["https://a.org/1", "https://b.org/x_(y)", "http://c.org"]
    assert cited_urls("[4](https://r.jina.ai/https://d.org/p)") == ["https://d.org/p"]
    assert cited_urls("[a](https://a.org) [1] (https://a.org) [1](ftp://a.org) [1](https://a b)") == []
    assert cited_urls("[1](https://" + "(" * 50_000) == []


def test_only_cited_pages_that_were_seen_are_shown_once() -> None:
    opened = [("https://a.org", "A", "snippet"), ("https://a.org", "A", "content"), ("https://a.org", "", "snippet")]
    opened += [("https://b.org", "B", "not cited")]
    text = cited_pages("[2](https://c.org) [1](https://a.org).", opened)
    assert text == "[Page 1] https://a.org\nA\nsnippet\ncontent"
    assert cited_pages("[2](https://c.org)", opened) == "" and cited_pages("nothing", opened) == ""
    many = [(f"https://a.org/{i}", "", "t") for i in range(30)]
    assert cited_pages(" ".join(f"[{i}]({url})" for i, (url, _, _) in enumerate(many)), many).count("[Page") == 20


@pytest.mark.parametrize(
    "reply",
    [None, "", "x is E0", '{"E0": "x"}', '{"entities": {"E0": "None"}}', '{"entities": {"E0": 3}}',
     '{"entities": {"E0": "x", "E1": "y"}}', '{"entities": {}}', '{"entities": {"E0": " "}}', '{"entities": null}'],
)  # fmt: skip
def test_entities_are_read_strictly(reply) -> None:
    assert parse_entities(reply, ["E0"]) is None
    assert parse_support(reply, ["S1"]) is None


def test_readable_replies() -> None:
    assert parse_entities('{"entities": {"E0": null, "E1": "y"}}', ["E0", "E1"]) == {"E0": None, "E1": "y"}
    said = '{"statements": {"S1": {"why": "w", "supported": true}}}'
    assert parse_support(said, ["S1"]) == {"S1": True} and parse_support(said.replace("true", "1"), ["S1"]) is None


class Scripted:
    """A judge that counts what it is asked, and answers entities and support from a script."""

    name = "scripted"

    def __init__(self, entities: list, support: list) -> None:
        self.replies, self.asked = {"entities": list(entities), "support": list(support)}, []

    def ask(self, prompts):
        kinds = ["support" if "pages" in json.loads(prompt[-1]["content"]) else "entities" for prompt in prompts]
        self.asked += kinds
        return [self.replies[kind].pop(0) for kind in kinds]


def scored(judge, response="x [1](https://a.org/1).", statements=CHAIN[:1], rows=1, **options) -> Scores:
    columns = {"statements": statements, "opened": [["https://a.org/1", "t", "c"]]}
    return evidence_chain(judge, **options)(Rollouts([Sample("q", "Who?", columns=columns)] * rows, [response] * rows))


GOOD, HELD = '{"entities": {"E0": "x", "E1": "y"}}', '{"statements": {"S1": {"why": "", "supported": true}}}'


def test_the_judge_is_asked_twice_and_equal_rows_once() -> None:
    judge = Scripted([GOOD], [HELD])
    scores = scored(judge, rows=3)
    assert scores.values.tolist() == [1, 1, 1] and judge.asked == ["entities", "support"]
    assert scores.parts["evidence_chain/identified"].tolist() == [1, 1, 1]


def test_what_needs_no_judge_is_not_asked() -> None:
    judge = Scripted([GOOD], [])
    assert scored(judge, "no link").values.tolist() == [0] and judge.asked == ["entities"]
    assert scored(Scripted([GOOD], []), "x\n## References\n[1](https://a.org/1)").values.tolist() == [0]
    assert scored(Scripted([GOOD.replace('"y"', "null")], [])).values.tolist() == [0]
    none = scored(Scripted([], []), statements=[])
    assert np.isnan(none.values).all() and none.status.tolist() == [Status.NOT_APPLICABLE]


def test_a_judge_that_fails_is_asked_again_and_then_leaves_the_row_out() -> None:
    judge = Scripted(["bad", GOOD], ["bad", None, HELD])
    assert scored(judge).values.tolist() == [1] and judge.asked == ["entities"] * 2 + ["support"] * 3
    lost = scored(Scripted(["bad"] * 5, []))
    assert np.isnan(lost.values).all() and lost.status.tolist() == [Status.UNPARSED]
    assert lost.parts["evidence_chain/unjudged"].tolist() == [1]
    assert np.isnan(scored(Scripted([GOOD], ["bad"]), tries=1).values).all()


def test_wrong_columns_are_named() -> None:
    with pytest.raises(SteelyardError, match="column 'statements' holds 'text'"):
        scored(RuleJudge(lambda prompt: None), statements="text")
    with pytest.raises(SteelyardError, match="row 0 opened"):
        rollouts = Rollouts([Sample("q", "", columns={"statements": CHAIN, "opened": ["https://a.org"]})], ["x"])
        evidence_chain(RuleJudge(lambda prompt: None))(rollouts)
    with pytest.raises(SteelyardError, match="tries=0"):
        evidence_chain(RuleJudge(lambda prompt: None), tries=0)


def given_as(values) -> BatchReward:
    return BatchReward(lambda _: np.array(values, float), "given")


def mixed(outcome, credit, mix=c_grpo, groups=None, **options):
    n = len(outcome)
    rollouts = Rollouts([Sample("q", "")] * n, [""] * n, np.zeros(n) if groups is None else groups)
    return mix(given_as(outcome), given_as(credit), **options)(rollouts), rollouts


def test_the_sheet_s_groups() -> None:
    scores, rollouts = mixed([1, 1, 0], [0.375, 0.625, 0.125])
    assert scores.values == pytest.approx([0.88, 1, 0])
    advantages = chain(centre(), scale(epsilon=1e-6))(advantages_of(scores), rollouts, scores).values
    assert advantages == pytest.approx([0.46396613, 0.68373955, -1.14770568], rel=1e-5)
    assert mixed([1, 1, 0], [0.375, 0.625, 0.125], released)[0].values == pytest.approx([0.8125, 0.8875, 0])
    assert mixed([1, 0], [0.25, 0.5])[0].values == pytest.approx([0.85, 0]), "a wrong answer's evidence is the best"
    assert mixed([1, 0, 1], [0.3, 0.9, 0.6], alpha=1.0)[0].values == pytest.approx([1 / 3, 0, 2 / 3])
    assert mixed([1, 0, 1], [0.3, 0.9, 0.6], alpha=0.0)[0].values.tolist() == [1, 0, 1]
    assert mixed([0, 0], [0.2, 0.5])[0].values.tolist() == [0, 0]
    assert mixed([1, 1], [0, 0])[0].values == pytest.approx([0.7, 0.7])
    assert mixed([0, 1], [0.2, 0.5], credit_for_all)[0].values == pytest.approx([0.12, 1.0])


def test_a_judge_s_failure_masks_right_answers_only_and_is_nobody_s_best() -> None:
    values = mixed([1, 0, 1], [NAN, NAN, 0.5])[0].values
    assert np.isnan(values[0]) and values[1] == 0 and values[2] == 1
    assert np.isnan(mixed([NAN], [0.5])[0].values).all()


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 2)), min_size=1, max_size=12))
def test_the_best_of_every_group_is_one_or_all_are_zero(rows) -> None:
    values, groups = (np.array(column) for column in zip(*rows, strict=True))
    rollouts = Rollouts([Sample("q", "")] * len(rows), [""] * len(rows), groups)
    found = relative_to_best(given_as(values))(rollouts).values
    for group in set(groups.tolist()):
        mine, theirs = found[groups == group], np.float32(values[groups == group])
        assert mine.max() == pytest.approx(1.0 if theirs.max() > 0 else 0.0) and (mine >= 0).all()
    with pytest.raises(SteelyardError, match="never below 0"):
        relative_to_best(given_as(-1 - values))(rollouts)
