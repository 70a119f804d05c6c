"""The text of a completion, which may come as chat messages."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from steelyard.types import Rollouts, SteelyardError

NOT_THE_POLICY = ("system", "developer", "user", "tool", "function")
"""Roles of messages that stand in a completion of several turns and that the policy did not write."""


def completion_text(completion: Any) -> str:
    """A completion's text: itself, or what the policy wrote in its chat messages, joined by newlines.

    Messages of the roles in `NOT_THE_POLICY` (a tool's output) are left out; calls of tools become
    `<tool_call>` blocks.

    Raises:
        SteelyardError: for anything but a text or chat messages.
    """
    if isinstance(completion, str):
        return completion
    messages = [completion] if isinstance(completion, Mapping) else completion
    if not isinstance(messages, (list, tuple)) or not all(isinstance(message, Mapping) for message in messages):
        what = f"{type(completion).__name__} {completion!r:.60}" if completion is not None else "None"
        raise SteelyardError(f"the completion is {what}; it must be a text or chat messages")
    return "\n".join(_written(message) for message in messages if message.get("role") not in NOT_THE_POLICY)


def _written(message: Mapping[str, Any]) -> str:
    calls = [call for call in message.get("tool_calls") or () if isinstance(call, Mapping)]
    blocks = [f"<tool_call>\n{json.dumps(call.get('function', call), default=str)}\n</tool_call>" for call in calls]
    return "\n".join([text for text in [content_text(message.get("content"))] if text or not blocks] + blocks)


def content_text(content: Any) -> str:
    """A message's text: a text, none (""), or parts of which only the texts count.

    Raises:
        SteelyardError: for any other content.
    """
    if content is None or isinstance(content, str):
        return content or ""
    if not isinstance(content, (list, tuple)) or not all(map(_is_part, content)):
        raise SteelyardError(f"a chat message holds {content!r:.60}; its content is a text or a list of parts")
    return "".join(part.get("text", "") for part in content if part.get("type") == "text")


def _is_part(part: Any) -> bool:
    return isinstance(part, Mapping) and isinstance(part.get("text", ""), str)


def as_texts(completions: Sequence[Any]) -> tuple[list[Any], dict[int, str]]:
    """The completions as texts [N], and row to reason of those that are none."""
    texts, unread = list(completions), {}
    for row, completion in enumerate(texts):
        if not isinstance(completion, str):
            try:
                texts[row] = completion_text(completion)
            except SteelyardError as error:
                unread[row] = str(error)
    return texts, unread


def texts_in(rollouts: Rollouts) -> list[str]:
    """The completions as texts [N].

    Raises:
        SteelyardError: naming the first row that has none.
    """
    texts, unread = as_texts(rollouts.completions)
    for row, reason in unread.items():
        raise SteelyardError(f"row {row}: {reason}")
    return texts
