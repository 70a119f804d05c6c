"""A judge behind any OpenAI-compatible endpoint."""

from __future__ import annotations

import functools
import json
import logging
import math
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from threading import BoundedSemaphore
from typing import Any, TypeAlias

import numpy as np

from steelyard.rewards.judges.cache import AnswerCache, drop_unread, through_cache
from steelyard.rewards.judges.limits import RateLimit
from steelyard.rewards.judges.usage import Prices, Usage
from steelyard.types import Array, Prompt, SteelyardError

log = logging.getLogger(__name__)

ALTERNATIVES = 20
"""Likeliest first tokens that an endpoint is asked for; most give no more."""


Read: TypeAlias = tuple[str, tuple[str, str] | None]
"""A text, or "" with the kind of failure and what happened."""


class EndpointJudge:
    """Asks a chat model over HTTP, several prompts at a time.

    A request that fails after the client's own retries gives None and is counted in `failures` by the kind of
    error; it is never turned into a text or a score. So does an answer that the endpoint cut off at `max_tokens`.
    `usage` counts requests, tokens and failures; `report()` adds the cost.

    Args:
        model: the name that the endpoint knows.
        base_url: the endpoint's address, ending in `/v1` for most servers; None: the client's default.
        api_key_env: environment variable that holds the key; None: the endpoint needs no key.
        temperature: 0 for the same answer every time, as far as the endpoint can.
        max_tokens: longest answer.
        concurrency: requests in flight at once, whoever asks.
        timeout: seconds before an attempt counts as failed, the whole reply included.
        retries: how often the client tries again after a connection error, a time-out, 408, 409, 429 or 5xx; it waits
            as long as the endpoint's Retry-After says (two minutes at most), else exponentially longer each time.
        limit: requests and tokens a minute; may be shared by judges.
        cache: a folder for answers; equal questions to the same model with the same settings are then asked once.
        prices: of a million tokens, for the report.
        options: further fields of the request's body (`seed`, `top_p`, `reasoning_effort`, …).

    Raises:
        SteelyardError: for settings out of range; at the first request, if the endpoint refuses the key or the model.
    """

    def __init__(
        self,
        model: str,
        *,
        base_url: str | None = None,
        api_key_env: str | None = "OPENAI_API_KEY",
        temperature: float = 0.0,
        max_tokens: int = 512,
        concurrency: int = 8,
        timeout: float = 60.0,
        retries: int = 2,
        limit: RateLimit | None = None,
        cache: str | Path | AnswerCache | None = None,
        prices: Prices | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        if concurrency < 1:
            raise SteelyardError(f"judge {model!r}: concurrency is {concurrency}; at least 1 request must be in flight")
        if not (timeout > 0 and max_tokens >= 1 and retries >= 0 and temperature >= 0):
            given = f"timeout={timeout}, max_tokens={max_tokens}, retries={retries}, temperature={temperature}"
            raise SteelyardError(f"judge {model!r} cannot have {given}; the first two are positive, no other negative")
        self.model, self.base_url, self.api_key_env = model, base_url, api_key_env
        self.temperature, self.max_tokens = temperature, max_tokens
        self.concurrency, self.timeout, self.retries = concurrency, timeout, retries
        self.limit, self.prices, self.options = limit or RateLimit(), prices, dict(options or {})
        self.cache = cache if isinstance(cache, AnswerCache) or cache is None else AnswerCache(cache)
        self.usage = Usage()
        self._in_flight = BoundedSemaphore(concurrency)

    @property
    def name(self) -> str:
        """How logs call it."""
        return self.model

    @property
    def failures(self) -> Counter[str]:
        """Prompts without an answer, by the kind of error."""
        return self.usage.failures

    @property
    def settings(self) -> dict[str, Any]:
        """All that determines an answer beside the prompt."""
        said = {"model": self.model, "temperature": self.temperature, "max_tokens": self.max_tokens}
        return {"endpoint": self.base_url or os.environ.get("OPENAI_BASE_URL"), **said, "options": self.options}

    def __repr__(self) -> str:
        return f"EndpointJudge({self.model!r}, base_url={self.base_url!r}, temperature={self.temperature})"

    @cached_property
    def client(self) -> Any:
        """The `openai.OpenAI` client, made at the first request.

        Raises:
            SteelyardError: if the client is not installed, or the environment holds no key.
        """
        try:
            from openai import OpenAI
        except ImportError:
            raise SteelyardError("an endpoint judge needs the openai client; install steelyard[judge]") from None
        from steelyard.rewards.judges.transport import PatientClient

        key = "none" if self.api_key_env is None else os.environ.get(self.api_key_env)
        if not key:
            raise SteelyardError(
                f"judge {self.model!r}: the environment variable {self.api_key_env} is empty; "
                "set it to the endpoint's key, or give api_key_env=None (--judge-key-env '') for one without"
            )
        http = PatientClient(
            limit=self.limit, usage=self.usage, deadline=self.timeout, answer_tokens=self.max_tokens,
            timeout=self.timeout,
        )  # fmt: skip
        return OpenAI(
            api_key=key, base_url=self.base_url, timeout=self.timeout, max_retries=self.retries, http_client=http
        )

    def ask(self, prompts: Sequence[Prompt]) -> list[str | None]:
        """One answer a prompt, in order; None (counted in `failures`) where the endpoint gave none.

        Raises:
            SteelyardError: if the endpoint refuses the key or the model before it has answered anything.
        """
        fixed = self.temperature == 0
        return through_cache(self.cache, self.settings, prompts, self._ask, self.usage, same_each_time=fixed)

    def forget(self, prompts: Sequence[Prompt], unread: Mapping[int, str]) -> None:
        """Count replies that could not be read, and keep them no longer; see `forget_unread`."""
        fixed = self.temperature == 0
        drop_unread(self.cache, self.settings, prompts, unread, self.usage, same_each_time=fixed)

    def report(self) -> dict[str, Any]:
        """What was asked and what it took: see `Usage.report`."""
        return self.usage.report(self.prices)

    def probabilities(self, prompts: Sequence[Prompt], answers: Sequence[str]) -> Array:
        """float64 [N, K]: how likely the reply begins with each answer; NaN where the endpoint did not say.

        One token is asked for with its likeliest alternatives; see `first_token_probabilities`, which reads them.

        Raises:
            SteelyardError: if the endpoint refuses the key or the model before it has answered anything.
        """
        settings = {**self.settings, "top_logprobs": ALTERNATIVES}
        ask = functools.partial(self._ask, one=self._first_token)
        said = through_cache(self.cache, settings, prompts, ask, self.usage, same_each_time=True)
        found = np.full((len(prompts), len(answers)), np.nan)
        for row, text in enumerate(said):
            if text is not None:
                found[row] = first_token_probabilities(json.loads(text), answers)
        return found

    def _ask(
        self, pairs: list[tuple[str, Prompt]], one: Callable[[str, Prompt], str | None] | None = None
    ) -> dict[str, str | None]:
        if not pairs:
            return {}
        _ = self.client
        with ThreadPoolExecutor(min(self.concurrency, len(pairs)), thread_name_prefix="judge") as pool:
            futures = {key: pool.submit(one or self._one, key, prompt) for key, prompt in pairs}
            try:
                return {key: future.result() for key, future in futures.items()}
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _one(self, key: str, prompt: Prompt) -> str | None:
        return self._answered(key, prompt, _text, temperature=self.temperature, max_tokens=self.max_tokens)

    def _first_token(self, key: str, prompt: Prompt) -> str | None:
        body = {"max_tokens": 1, "logprobs": True, "top_logprobs": ALTERNATIVES}
        return self._answered(key, prompt, _alternatives, temperature=0.0, **body)

    def _answered(self, key: str, prompt: Prompt, read: Callable[[Any], Read], **body: Any) -> str | None:
        """What `read` takes from the reply, if it is an answer."""
        from openai import OpenAIError

        messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)
        try:
            with self._in_flight:
                reply = self.client.chat.completions.create(
                    model=self.model, messages=messages, **body, extra_body=self.options
                )
            self._count_tokens(reply)
            text, failure = read(reply.choices[0])
        except OpenAIError as error:
            self._refuse_if_hopeless(error)
            return self._failed(type(error).__name__, str(error))
        except (AttributeError, IndexError, KeyError, TypeError, ValueError, RecursionError) as error:
            return self._failed("malformed reply", repr(error))
        if failure is not None:
            return self._failed(*failure)
        self.usage.add(answers=1)
        if self.cache is not None:
            self.cache.put(key, text)
        return text

    def _count_tokens(self, reply: Any) -> None:
        said = getattr(reply, "usage", None)
        prompt, completion = (getattr(said, name, None) for name in ("prompt_tokens", "completion_tokens"))
        if isinstance(prompt, int) and isinstance(completion, int) and min(prompt, completion) >= 0:
            self.usage.add(prompt_tokens=prompt, completion_tokens=completion)
        else:
            self.usage.add(unreported=1)

    def _refuse_if_hopeless(self, error: Exception) -> None:
        """A wrong key or model fails every prompt alike: say so at once, rather than score a whole run as NaN."""
        status = getattr(error, "status_code", None)
        if status in (401, 404) and self.usage.answers == 0:
            what = f"the key in {self.api_key_env}" if status == 401 else f"the model's name and {self.base_url}"
            raise SteelyardError(f"judge {self.model!r}: the endpoint answers {status}; check {what}") from error

    def _failed(self, kind: str, why: str) -> str | None:
        """No answer, counted; the first of its kind is told."""
        if self.usage.failed(kind):
            log.warning("judge %s: %s: %s (further ones are only counted)", self.model, kind, why[:300])
        return None


def _text(choice: Any) -> Read:
    message, end = choice.message, choice.finish_reason
    text = message.content
    if end in ("length", "content_filter"):
        return "", ("cut off" if end == "length" else "filtered", f"the answer ended by {end!r}")
    return (text, None) if isinstance(text, str) and text.strip() else ("", _instead_of_text(message))


def _instead_of_text(message: Any) -> tuple[str, str]:
    """The kind of a reply without a text, and what it holds: none of it is a verdict, whatever it says."""
    reasoning = ("only reasoning", "reasoning_content"), ("only reasoning", "reasoning")
    for kind, field in (("refused", "refusal"), ("tool call", "tool_calls"), *reasoning):
        if said := getattr(message, field, None):
            return kind, f"no text, but {field}: {said!r:.200}"
    return "empty reply", "no text"


def _alternatives(choice: Any) -> Read:
    """The likeliest first tokens with their log-probabilities, as JSON."""
    if choice.logprobs is None or not choice.logprobs.content:
        return "", ("no log-probabilities", "the endpoint reports no top_logprobs")
    return json.dumps({each.token: float(each.logprob) for each in choice.logprobs.content[0].top_logprobs}), None


def first_token_probabilities(
    logprobs: Mapping[str, float], answers: Sequence[str], *, canonical: bool = True
) -> Array:
    """float64 [K]: the probability of each answer by the likeliest first tokens; 0 where it is not among them.

    Args:
        logprobs: token to log-probability.
        answers: single words.
        canonical: whether case and blanks around a token do not count, and tokens that then are equal add up.

    Source: sheet 15 (PaCo-RL), with and without its option `canonicalise`.
    """
    said = [(token.strip().lower() if canonical else token, math.exp(value)) for token, value in logprobs.items()]
    asked = [answer.strip().lower() if canonical else answer for answer in answers]
    return np.asarray([sum(chance for token, chance in said if token == answer) for answer in asked], np.float64)
