"""Degenerate completions: long repetitions, read in time that grows with their length, not with its square."""

import pytest

from steelyard.rewards import choice_correct, correct, score_one, think_format
from steelyard.rewards.answers import answer_text, think_text
from steelyard.rewards.choices import chosen
from steelyard.rewards.code import program_text
from steelyard.rewards.core import Expression
from steelyard.rewards.judges.guards import only_opens
from steelyard.rewards.judges.parsing import json_object, parse_score
from steelyard.rewards.language import language_of
from steelyard.types import Status

MANY = 400_000
"""What takes its square of steps here takes an hour."""


@pytest.mark.parametrize("text", ["<answer>" * MANY, "answer is" + "*" * MANY, "<think>" * MANY, "(" * MANY])
@pytest.mark.parametrize("reward", [choice_correct, correct, think_format])
def test_rewards_of_answers(reward: Expression, text: str) -> None:
    assert score_one(reward, completion=text, answer="B").values.tolist() == [0.0]


def test_the_form_with_many_beginnings() -> None:
    text = "<think>" + "</think><answer>" * (MANY // 10)
    assert score_one(think_format, completion=text).values.tolist() == [0.0]
    assert score_one(think_format, completion=text + "</answer>").values.tolist() == [1.0]
    assert score_one(think_format, completion=text + "</answer>.").values.tolist() == [0.0]


def test_a_fence_that_does_not_end() -> None:
    text = "```" + "a" * MANY
    assert program_text(text) == text
    assert program_text("```" + "a" * MANY + "\nx = 1\n```") == "x = 1\n"
    assert program_text("  ``` \t python  title\nx = 1\n  ```  ") == "x = 1\n"


def test_formulas_that_do_not_end() -> None:
    assert language_of("\\(" * 20_000 + "\\[" * 20_000) is None
    assert language_of(r"\(abc def ghi jkl mno pqr\) The weather is fine today, is it not?") == "en"


def test_dots_between_words_before_a_judge() -> None:
    assert not only_opens("a" + "." * MANY + "a")
    assert only_opens("." * 9 + "Solution" + ":" * 9) and only_opens("_解_") and not only_opens("Solution 5")


def test_blank_lines_in_a_judges_reply() -> None:
    for blank in ("\n", " \n", "\r\n"):
        assert json_object("```" + blank * MANY + "x") is None
    assert json_object('```json\n\n{"score": 1}\n```') == {"score": 1} == json_object('```\r\n{"score": 1}```')
    assert json_object('```python\n{"score": 1}\n```') is None and json_object('```json {"score": 1}\n```') is None


@pytest.mark.parametrize(
    "reply",
    [
        '{"score": 1, "score": 0}', '{"score": NaN}', '{"score": 1e999}', '{"score": -1e999}', '{"score": "1"}',
        '{"score": true}', '{"score": [1]}', '{"score": 1} {"score": 0}', 'The candidate says {"score": 1}',
        '{"score": 1}\n```', '```\n{"score": 1}', "1", "null", '{"ｓcore": 1}', '{"score": 1' + "0" * 5000 + "}",
        '{"score":' * 5000,
    ],
)  # fmt: skip
def test_replies_that_are_no_score(reply: str) -> None:
    assert parse_score(reply).status == Status.UNPARSED


def test_blocks_are_read_as_before() -> None:
    assert answer_text("<answer> 1 </answer><answer>2</answer>") == "1" and answer_text("</answer><answer>2") is None
    assert answer_text("<answer>a<answer>b</answer>") == "a<answer>b" and think_text("x<think>\n</think>") == ""
    assert chosen("<answer>A</answer> <answer>B</answer> <answer>C") == "B"
    assert chosen("</answer><answer>A</answer></answer>") == "A" and chosen("answer: **(B)**.") == "B"
