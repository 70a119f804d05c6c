"""Citations: markers, the sources that they name, sentences with and without them, quotations."""

import math

import pytest

from steelyard.rewards import (
    citation_f1,
    citation_precision,
    citation_recall,
    quotes_found,
    score_one,
    sentences_cited,
)
from steelyard.rewards.citations import cited, sentences
from steelyard.rewards.core import Expression
from steelyard.types import Status, SteelyardError

SOURCES = ["The cat sat on the mat.", "A dog ran away, fast."]


def value(part: Expression, completion: str, **columns: object) -> float:
    return float(score_one(part, completion=completion, **columns).values[0])


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("a [1] b [2][1]", ["1", "2"]), ("a [doc2, 3; x.y]", ["doc2", "3", "x.y"]), ("a [2-4] b", ["2", "3", "4"]),
        ("a [b](http://x) [ 1 ]", ["1"]), ("none [] [a b] (1)", []), ("[9-1] [1-9999]", ["9-1", "1-9999"]),
    ],
)  # fmt: skip
def test_markers(text: str, names: list[str]) -> None:
    assert cited(text) == names


def test_precision_recall_and_f1() -> None:
    text, gold = "It rained [1][2]. It froze [7].", ["2", 1, "3", "4"]
    assert value(citation_precision, text, relevant=gold) == pytest.approx(2 / 3)
    assert value(citation_recall, text, relevant=gold) == 0.5
    assert value(citation_f1, text, relevant=gold) == pytest.approx(4 / 7)
    assert value(citation_precision, "none", relevant=gold) == value(citation_f1, "none", relevant=gold) == 0
    assert value(citation_f1, "none", relevant=[]) == 1
    scores = score_one(citation_recall, completion="a [1]", relevant=[])
    assert math.isnan(scores.values[0]) and scores.status == [Status.NOT_APPLICABLE]
    with pytest.raises(SteelyardError, match="give a list of the sources' names"):
        value(citation_precision, text, relevant="1")


def test_sentences_end_behind_their_markers() -> None:
    text = "Rain fell [1]. It was cold. [2] See e.g. Fig. 3 of Dr. A. Smith [3]! No.\n- a list [1]\n\n[2]"
    assert sentences(text) == [
        "Rain fell [1].", "It was cold. [2]", "See e.g. Fig. 3 of Dr. A. Smith [3]!", "No.", "- a list [1]",
    ]  # fmt: skip
    assert value(sentences_cited, text) == pytest.approx(4 / 5)
    assert value(sentences_cited, text, sources=SOURCES) == pytest.approx(3 / 5)
    assert value(sentences_cited, " ") == 0
    assert value(sentences_cited, "It rains [1].", sources=[]) == 0 < value(sentences_cited, "It rains [1].")


def test_quotations_stand_in_their_source() -> None:
    right, wrong = '"the CAT  sat on" [1]', '"the cat sat on" [2]'
    assert value(quotes_found, f"One: {right}.", sources=SOURCES) == 1
    assert value(quotes_found, f"{right} and {wrong}", sources=SOURCES) == 0.5
    assert value(quotes_found, "He says “a dog ran away, fast.”", sources={"d": SOURCES[1]}) == 1
    assert value(quotes_found, '"never was it said" [1]', sources=SOURCES) == 0
    assert math.isnan(value(quotes_found, 'a "short one" only', sources=SOURCES))
    assert value(quotes_found.using(shortest=1), 'a "short" one', sources=SOURCES) == 0
    with pytest.raises(SteelyardError, match="give a mapping of name to text"):
        value(quotes_found, right, sources="text")


def test_hostile_texts_end() -> None:
    for text in ("[" * 50_000, "[1," * 20_000, '"' * 50_001, ". " * 30_000, "[1] " * 20_000, "“" * 20_000):
        assert 0 <= value(sentences_cited, text) <= 1
        assert value(quotes_found, text, sources=SOURCES) in (0, pytest.approx(math.nan, nan_ok=True))


def test_ranges_with_a_long_dash() -> None:
    assert cited("so [1–3]") == ["1", "2", "3"]


def test_a_quotation_is_of_whole_words() -> None:
    assert score_one(quotes_found, completion='"he cat sa on"', sources=["the cat sa on"]).values[0] == 0
    assert score_one(quotes_found, completion='"the cat sat"', sources=["(the cat sat)"]).values[0] == 1


def test_sentences_of_languages_without_spaces() -> None:
    assert sentences("中文句子。[1]第二句！第三句") == ["中文句子。[1]", "第二句！", "第三句"]
