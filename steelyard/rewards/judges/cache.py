"""Answers of judges on disk, so that no question is paid for twice."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from steelyard.rewards.judges.usage import Usage
from steelyard.types import Judge, Prompt, SteelyardError

FORM = 1
"""Of the entries; raised when what they hold changes."""


class AnswerCache:
    """Texts in a folder, under a digest of everything that determines them. Threads and processes may share it.

    Failures are never kept: a prompt without an answer is asked again. Nor is an answer that could not be read, once
    its reader has said so (`forget_unread`). Entries are JSON, never pickles.

    Args:
        folder: made where it is not there.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def __repr__(self) -> str:
        return f"AnswerCache({str(self.folder)!r})"

    @cached_property
    def _store(self) -> Any:
        try:
            import diskcache
        except ImportError:
            raise SteelyardError("a judge's cache needs diskcache; install steelyard[judge]") from None
        try:
            return diskcache.Cache(str(self.folder), disk=diskcache.JSONDisk, eviction_policy="none")
        except Exception as error:
            why = f"{type(error).__name__}: {error}"
            raise SteelyardError(f"{self.folder} cannot hold a cache ({why}); give a folder of its own") from None

    def __len__(self) -> int:
        return len(self._store)

    def get(self, key: str) -> str | None:
        """The answer under a key, or None."""
        found = self._store.get(key)
        return found if isinstance(found, str) else None

    def put(self, key: str, answer: str) -> None:
        """Keep an answer."""
        self._store.set(key, answer)

    def drop(self, key: str, answer: str) -> None:
        """Keep an answer no longer; another that somebody put there meanwhile stays."""
        with self._store.transact():
            if self._store.get(key) == answer:
                del self._store[key]


def key_of(judge: Mapping[str, Any], prompt: Prompt, draw: int = 0) -> str:
    """A digest of what determines an answer: the judge's settings, the whole prompt, and which draw it is.

    Raises:
        SteelyardError: for a prompt that is not plain JSON.
    """
    messages = prompt if isinstance(prompt, str) else [dict(message) for message in prompt]
    try:
        text = json.dumps([FORM, dict(judge), messages, draw], sort_keys=True, ensure_ascii=True)
    except (TypeError, ValueError) as error:
        raise SteelyardError(f"a judge's prompt must be a text or plain JSON messages: {error}") from None
    return hashlib.sha256(text.encode()).hexdigest()


def through_cache(
    cache: AnswerCache | None,
    judge: Mapping[str, Any],
    prompts: Sequence[Prompt],
    ask: Callable[[list[tuple[str, Prompt]]], Mapping[str, str | None]],
    usage: Usage,
    *,
    same_each_time: bool,
) -> list[str | None]:
    """Answers to prompts, in order: from the cache where it has them, the rest asked, each different one once.

    Args:
        cache: None asks every prompt.
        judge: what determines its answers beside the prompt.
        prompts: N of them.
        ask: pairs of key and prompt to answers by key; it puts each into the cache as it comes.
        usage: where prompts are counted.
        same_each_time: a judge that draws its answers gives equal prompts of one call different draws.
    """
    usage.add(asked=len(prompts))
    if cache is None:
        pairs = [(str(i), prompt) for i, prompt in enumerate(prompts)]
        answers = ask(pairs)
        return [answers[key] for key, _ in pairs]
    keys = _keys(judge, prompts, same_each_time)
    known = {key: cache.get(key) for key in dict.fromkeys(keys)}
    missing = {key: prompt for key, prompt in zip(keys, prompts, strict=True) if known[key] is None}
    usage.add(cached=len(prompts) - len(missing))
    found = known | dict(ask(list(missing.items())) if missing else {})
    return [found[key] for key in keys]


def _keys(judge: Mapping[str, Any], prompts: Sequence[Prompt], same_each_time: bool) -> list[str]:
    """The key of every prompt of a call, each draw of an equal one its own."""
    seen: dict[str, int] = {}
    keys = []
    for prompt in prompts:
        first = key_of(judge, prompt)
        draw = 0 if same_each_time else seen.get(first, 0)
        seen[first] = draw + 1
        keys.append(key_of(judge, prompt, draw) if draw else first)
    return keys


def drop_unread(
    cache: AnswerCache | None,
    judge: Mapping[str, Any],
    prompts: Sequence[Prompt],
    unread: Mapping[int, str],
    usage: Usage,
    *,
    same_each_time: bool,
) -> None:
    """Count replies that could not be read and take them out of the cache, so that they are asked for again.

    Args:
        cache, judge, prompts, usage, same_each_time: as they were given to `through_cache`.
        unread: place of a prompt to the reply to it.
    """
    usage.add(unread=len(unread))
    if cache is None or not unread:
        return
    keys = _keys(judge, prompts, same_each_time)
    for place, reply in unread.items():
        cache.drop(keys[place], reply)


@runtime_checkable
class KeepingJudge(Judge, Protocol):
    """A judge that may keep its answers, and can let go of those that were of no use."""

    def forget(self, prompts: Sequence[Prompt], unread: Mapping[int, str]) -> None:
        """Count, and keep no longer, these replies to prompts of one call, by their places."""
        ...


def forget_unread(
    judge: Judge, prompts: Sequence[Prompt], replies: Sequence[str | None], readable: Sequence[bool]
) -> None:
    """Tell a judge which of its replies could not be read: they are counted, and asked for again another time.

    An endpoint does not say the same each time, even at temperature 0, so that another try may bring a verdict; a row
    that stays without one is asked about in every run.

    Args:
        judge: who was asked; one that keeps nothing is told nothing.
        prompts, replies, readable: of one call [N]; a prompt without a reply is no unread one.
    """
    if isinstance(judge, KeepingJudge):
        said = {i: reply for i, reply in enumerate(replies) if reply is not None and not readable[i]}
        if said:
            judge.forget(prompts, said)
