"""Short rewards on text: worked verdicts."""

import numpy as np
import pytest

from steelyard.rewards.choices import choice_correct
from steelyard.rewards.core import RowReward, score_one
from steelyard.rewards.form import pattern_match
from steelyard.rewards.text import (
    exact_match,
    fresh_words,
    fuzzy_match,
    normalised_match,
    repetition_penalty,
    token_f1,
)
from steelyard.types import Status, SteelyardError

CITIES = ["A. Rome", "B. Paris", "C. Oslo"]


@pytest.mark.parametrize(
    ("completion", "gold", "value"),
    [
        ("B", "B", 1), ("(B)", "B", 1), ("The answer is B.", "B", 1), ("Answer: **B**", "B", 1), (r"\boxed{B}", "B", 1),
        ("<answer>B</answer>", "B", 1), ("<answer>b, that is Paris</answer>", "B", 1), ("It is Paris", "B", 1),
        ("Paris", "Paris", 1), ("B", "Paris", 1), ("B. Paris", "B. Paris", 1), ("A or rather B", "B", 1), ("A", "B", 0),
        ("Rome, no: Oslo", "C", 1), ("no idea", "B", 0),
        ("A cat sat in a hat", "A", 0), ("A is right", "A", 1), ("", "B", 0), ("The answer is A. Beware of B.", "B", 0),
    ],
)  # fmt: skip
def test_choices(completion: str, gold: str, value: float) -> None:
    assert score_one(choice_correct, completion=completion, answer=gold, options=CITIES).values[0] == value


def test_first_or_last_choice() -> None:
    first = choice_correct.using(take="first")
    assert score_one(first, completion="A, then B", answer="A").values[0] == 1
    assert score_one(choice_correct, completion="A, then B", answer="A").values[0] == 0
    assert score_one(first, completion="Rome, no: Oslo", answer="A", options=CITIES).values[0] == 1


def test_matches() -> None:
    both = {"completion": " The cat! ", "answer": "cat"}
    assert score_one(exact_match, **both).values[0] == 0 and score_one(normalised_match, **both).values[0] == 1
    assert score_one(exact_match, completion=" x\n", answer="x").values[0] == 1
    assert score_one(fuzzy_match, completion="cart", answer="cat").values[0] == pytest.approx(6 / 7)
    assert score_one(fuzzy_match.using(above=0.9), completion="cart", answer="cat").values[0] == 0


def test_token_f1() -> None:
    assert score_one(token_f1, completion="red red car", answer="red car").values[0] == pytest.approx(2 * 2 / 5)
    assert score_one(token_f1, completion="", answer="the").values[0] == 1
    assert score_one(token_f1, completion="car", answer="").values[0] == 0


def test_patterns() -> None:
    assert score_one(pattern_match.using(pattern=r"^\d+$"), completion="12").values[0] == 1
    assert score_one(pattern_match.using(pattern=r"^\d+$"), completion="x12").values[0] == 0
    with pytest.raises(SteelyardError, match="no regular expression"):
        score_one(pattern_match.using(pattern="("), completion="x")


def test_repetition() -> None:
    assert (
        score_one(fresh_words, completion="a b c d").values[0] == score_one(fresh_words, completion="a").values[0] == 1
    )
    assert score_one(fresh_words, completion="a a a a a").values[0] == pytest.approx(1 / 3)


def test_repetition_as_a_penalty() -> None:
    assert score_one(repetition_penalty, completion="a a a a a").values[0] == pytest.approx(-2 / 3)
    assert score_one(repetition_penalty, completion="a b c d").values[0] == 0
    with pytest.raises(SteelyardError, match="at least 1 word"):
        score_one(repetition_penalty.using(n=0), completion="x")


@pytest.mark.parametrize("reward", [exact_match, normalised_match, fuzzy_match, token_f1, choice_correct])
@pytest.mark.parametrize("gold", [None, float("nan")])
def test_without_a_gold_there_is_no_score(reward: RowReward, gold: float | None) -> None:
    for completion in (str(gold), "", "A"):
        scores = score_one(reward, completion=completion, answer=gold, options=["A. None", "B. nan"])
        assert scores.status == [Status.NOT_APPLICABLE] and np.isnan(scores.values).all()


@pytest.mark.parametrize("reward", [exact_match, normalised_match, fuzzy_match, token_f1])
def test_of_several_golds_the_best_counts(reward: RowReward) -> None:
    golds = ["red car", None, "blue car", np.int64(7)]
    assert score_one(reward, completion="blue car", answer=golds).values[0] == 1
    assert score_one(reward, completion="7", answer=golds).values[0] == 1
    assert score_one(reward, completion="green bus", answer=golds).values[0] < 1
    assert score_one(reward, completion="x", answer=[]).status == [Status.NOT_APPLICABLE]
    with pytest.raises(SteelyardError, match="must be a text, a number or a list of them"):
        score_one(reward, completion="x", answer={"text": "x"})


def test_repetition_without_spaces_between_words() -> None:
    assert score_one(fresh_words.using(n=2), completion="好好好好好").values[0] == pytest.approx(1 / 4)
    assert score_one(fresh_words.using(n=2), completion="今天天气很好").values[0] == 1
