"""The HTTP client of an endpoint judge: it keeps to the rate limit, to a deadline and to a largest reply."""

from __future__ import annotations

import importlib
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from typing import Any

from openai import DefaultHttpxClient

from steelyard.rewards.judges.limits import RateLimit
from steelyard.rewards.judges.usage import Usage

LONGEST_REPLY = 8 * 2**20
"""Bytes of a reply that are read; more is no chat completion."""
LONGEST_HOLD = 120.0
"""Seconds of a Retry-After that are honoured; the openai client itself gives up on a longer one."""


_HTTP: Any = importlib.import_module(DefaultHttpxClient.__mro__[1].__module__.partition(".")[0])
"""httpx under whichever name openai brings it: only its errors are tried again."""


class ReplyTooSlow(_HTTP.ReadTimeout):
    """The reply was not complete by the deadline, although bytes kept coming."""


class ReplyTooLong(_HTTP.ReadError):
    """The reply had more bytes than any answer."""


class PatientClient(DefaultHttpxClient):
    """The openai client's own HTTP client, with every attempt counted, limited, and read to the end by a deadline.

    The time-outs of an HTTP client are for each read: an endpoint that sends a byte a second never meets one. Here
    the whole reply has `deadline` seconds.
    """

    def __init__(self, *, limit: RateLimit, usage: Usage, deadline: float, answer_tokens: int, **options: Any) -> None:
        super().__init__(**options)
        self.limit, self.usage, self.deadline, self.answer_tokens = limit, usage, deadline, answer_tokens

    def send(self, request: Any, **options: Any) -> Any:
        """One attempt: wait for leave, send, read the reply whole.

        Raises:
            ReplyTooSlow: past the deadline.
            ReplyTooLong: past `LONGEST_REPLY` bytes.
        """
        grant = self.limit.acquire(len(request.content) // 4 + self.answer_tokens)
        self.usage.add(requests=1)

        def traced(event: str, _: Any) -> None:
            if event.endswith("send_request_body.complete"):
                self.limit.sent(grant)

        request.extensions = {**request.extensions, "trace": traced}
        deadline = time.monotonic() + self.deadline
        response = super().send(request, **{**options, "stream": True})
        try:
            content = _read(response.iter_bytes(), deadline)
        finally:
            response.close()
        response = _whole(response, content)
        if response.status_code in (429, 503):
            self.limit.settle(grant, 0)
            self.limit.hold(retry_after(response.headers.get("retry-after"), response.headers.get("date")))
        elif response.status_code == 200:
            self.limit.settle(grant, _tokens(response, grant.tokens))
        return response


def _read(chunks: Iterator[bytes], deadline: float) -> bytes:
    parts, size = [], 0
    for chunk in chunks:
        size += len(chunk)
        if size > LONGEST_REPLY:
            raise ReplyTooLong(f"the reply has more than {LONGEST_REPLY} bytes")
        if time.monotonic() > deadline:
            raise ReplyTooSlow("the reply was not complete in time")
        parts.append(chunk)
    return b"".join(parts)


def _whole(response: Any, content: bytes) -> Any:
    """The same response with its body read and decoded."""
    about_body = ("content-encoding", "content-length", "transfer-encoding")
    spoken = [(name, value) for name, value in response.headers.items() if name not in about_body]
    return type(response)(response.status_code, headers=spoken, content=content, request=response.request)


def retry_after(header: str | None, now: str | None = None) -> float:
    """Seconds that all requests are held for; 0 for a header that is missing, past, too long, no number and no date.

    Args:
        header: a number of seconds, or the date from which on requests are welcome again.
        now: the endpoint's own date of its reply, so that its clock need not be ours; without one a date says nothing.
    """
    try:
        seconds = float(header or 0)
    except ValueError:
        seconds = _until(header or "", now or "")
    return seconds if 0 < seconds <= LONGEST_HOLD else 0.0


def _until(date: str, now: str) -> float:
    try:
        return (parsedate_to_datetime(date) - parsedate_to_datetime(now)).total_seconds()
    except (ValueError, TypeError):  # TypeError: only one of them names its zone
        return 0.0


def _tokens(response: Any, estimate: int) -> int:
    try:
        total = response.json()["usage"]["total_tokens"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return estimate
    return total if isinstance(total, int) and total >= 0 else estimate
