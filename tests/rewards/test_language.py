"""The language of a completion."""

import math
from typing import Any

import pytest

from steelyard.rewards import language_is, same_language, score_one
from steelyard.rewards.language import language_of
from steelyard.types import Status, SteelyardError

pytest.importorskip("py3langid")

GERMAN = "Das Wetter ist heute sehr schön, und wir gehen am Nachmittag im Park spazieren."
ENGLISH = "The weather is very nice today, and we will go for a walk in the park this afternoon."
CHINESE = "今天天气很好，我们下午去公园散步，然后一起吃晚饭吧。"


@pytest.mark.parametrize(("text", "code"), [(GERMAN, "de"), (ENGLISH, "en"), (CHINESE, "zh"), (ENGLISH, "EN-gb")])
def test_the_asked_language(text: str, code: str) -> None:
    assert score_one(language_is, completion=text, language=code).values[0] == 1
    assert score_one(language_is.using(language="fr"), completion=text).values[0] == 0


def test_the_prompts_language() -> None:
    chat = [{"role": "system", "content": ENGLISH}, {"role": "user", "content": [{"type": "text", "text": GERMAN}]}]
    for prompt in (GERMAN, chat):
        assert score_one(same_language, completion=GERMAN, prompt=prompt).values[0] == 1
        assert score_one(same_language, completion=ENGLISH, prompt=prompt).values[0] == 0


def test_code_and_formulas_have_no_language() -> None:
    for text in (
        "42",
        "",
        r"$x^2 + y^2 = z^2$",
        f"```python\n{ENGLISH}\n```",
        "https://example.org/a-long-path/of/words",
    ):
        scores = score_one(language_is, completion=text, language="en")
        assert math.isnan(scores.values[0]) and scores.status == [Status.NOT_APPLICABLE]
    assert score_one(language_is, completion=f"{GERMAN}\n```\n{ENGLISH * 5}\n```", language="de").values[0] == 1


def test_an_unknown_language_is_refused() -> None:
    with pytest.raises(SteelyardError, match="give an ISO 639-1 code"):
        score_one(language_is, completion=GERMAN, language="german")


def test_a_few_chinese_characters_have_a_language() -> None:
    assert language_of("今天天气很好") == "zh" and language_of("你好") is None


@pytest.mark.parametrize("prompt", [None, ["hello"], [{"role": "user", "content": 7}]], ids=repr)
def test_a_prompt_that_is_none_is_told(prompt: Any) -> None:
    with pytest.raises(SteelyardError, match=r"prompt is|chat message holds"):
        score_one(same_language, completion="Hello my good friend there", prompt=prompt)


@pytest.mark.parametrize("text", ["A banana is a fruit.", "Google > Microsoft < Nintendo < Sony < EA."])
def test_a_short_text_that_looks_a_little_like_another_language_is_left_out(text: str) -> None:
    scores = score_one(language_is, completion=text, language="en")
    assert scores.status == [Status.NOT_APPLICABLE] and math.isnan(scores.values[0])
    scores = score_one(same_language, completion="Hello, how are you doing today?", prompt=text)
    assert scores.status == [Status.NOT_APPLICABLE]
