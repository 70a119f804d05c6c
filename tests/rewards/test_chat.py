"""Completions that come as chat messages, or are no text at all."""

import math
from typing import Any

import pytest

from steelyard.engines.trl import to_trl
from steelyard.rewards import bleu, exact_match, math_correct, reward, score_one, thinking_length, tool_calls
from steelyard.rewards.chat import completion_text
from steelyard.rewards.tools import tool_call_format
from steelyard.types import Rollouts, Sample, Status, SteelyardError

CALL = {"type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
GOLD = [{"name": "f", "parameters": {"a": 1}}]


def test_what_the_policy_wrote_is_the_text() -> None:
    turns = [
        {"role": "assistant", "content": "one"},
        {"role": "tool", "content": r"\boxed{7}"},
        {"role": "assistant", "content": [{"type": "text", "text": "two"}]},
    ]
    assert completion_text(turns) == "one\ntwo" and completion_text(turns[0]) == "one"
    assert completion_text([]) == "" and completion_text({"content": None}) == ""


def test_calls_of_tools_stay_in_the_text() -> None:
    message = {"role": "assistant", "content": None, "tool_calls": [CALL]}
    assert score_one(tool_calls, completion=completion_text(message), reference=GOLD).values[0] == 3
    assert score_one(tool_calls, completion=[message], reference=GOLD).values[0] == 3
    assert to_trl(tool_calls)(["p"], [[message]], reference=[GOLD]) == [3.0]


def test_a_call_may_stand_in_a_message_as_text() -> None:
    text = '<tool_call>{"name": "f", "arguments": {"a": 1}}</tool_call>'
    assert score_one(tool_calls, completion=[{"role": "assistant", "content": text}], reference=GOLD).values[0] == 3


@pytest.mark.parametrize("graded", [math_correct, exact_match], ids=repr)
def test_rewards_of_texts_read_messages(graded: Any) -> None:
    assert score_one(graded, completion=[{"role": "assistant", "content": "42"}], answer="42").values[0] == 1


@pytest.mark.parametrize("nothing", [None, 42, math.nan, b"42", ["42"], [{"content": 7}]], ids=repr)
def test_what_is_no_text_is_one_sentence_with_its_row(nothing: Any) -> None:
    samples = [Sample("a", "", columns={"answer": "42", "references": "42"})] * 2
    rollouts = Rollouts(samples, ["42", nothing])
    for graded in (math_correct, bleu, thinking_length(5)):
        with pytest.raises(SteelyardError, match=r"row 1.*(completion is|message holds)"):
            graded(rollouts)
    scores = math_correct.using(on_error="nan")(rollouts)
    assert scores.values[0] == 1 and math.isnan(scores.values[1])
    assert scores.status is not None and scores.status[1] == Status.FAILED


def test_a_reward_that_wants_no_text_gets_what_is_there() -> None:
    @reward
    def turns(completion: Any) -> float:
        return float(len(completion))

    assert score_one(turns, completion=[{"role": "assistant"}] * 3).values[0] == 3


def test_a_users_sentence_stands_as_it_was_written() -> None:
    @reward
    def strict(completion: str) -> float:
        raise SteelyardError("the moon is not full")

    with pytest.raises(SteelyardError, match=r"\(sample 'try'\): the moon is not full; mend it"):
        score_one(strict, completion="x")


def test_a_reference_may_be_a_list_of_calls_for_the_form_too() -> None:
    silent, called = "<think>x</think>", '<think>x</think>\n<tool_call>\n{"name": "f"}\n</tool_call>'
    assert score_one(tool_call_format, completion=silent, reference=GOLD).values[0] == 0
    assert score_one(tool_call_format, completion=called, reference=GOLD).values[0] == 1
    assert score_one(tool_call_format, completion=silent, reference=[]).values[0] == 1
    with pytest.raises(SteelyardError, match="reference's calls cannot be read"):
        score_one(tool_call_format, completion=silent, reference=[7])


def test_settings_of_tool_calls_that_are_none_are_refused() -> None:
    for wrong in ({"form": "line"}, {"low": 3.0, "high": -3.0}, {"low": math.nan}):
        with pytest.raises(SteelyardError, match=r"form is|the range is"):
            score_one(tool_calls.using(**wrong), completion="x", reference=GOLD)
    null = '{"name": "f", "arguments": null}'
    assert score_one(tool_calls, completion=null, reference=[{"name": "f", "parameters": {}}]).values[0] == 3
