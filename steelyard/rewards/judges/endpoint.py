"""A judge behind any OpenAI-compatible endpoint."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from threading import Lock
from typing import Any

from steelyard.types import Prompt, SteelyardError

log = logging.getLogger(__name__)


class EndpointJudge:
    """Asks a chat model over HTTP, several prompts at a time.

    A request that fails after the client's own retries gives None and is counted in `failures` by the kind of
    error; it is never turned into a text or a score.

    Args:
        model: the name that the endpoint knows.
        base_url: the endpoint's address, ending in `/v1` for most servers; None: the client's default.
        api_key_env: environment variable that holds the key; None: the endpoint needs no key.
        temperature: 0 for the same answer every time, as far as the endpoint can.
        max_tokens: longest answer.
        concurrency: requests in flight at once.
        timeout: seconds before a request counts as failed.
        retries: how often the client tries again after a connection error, 408, 409, 429 or 5xx.
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
    ) -> None:
        if concurrency < 1:
            raise SteelyardError(f"judge {model!r}: concurrency is {concurrency}; at least 1 request must be in flight")
        self.model, self.base_url, self.api_key_env = model, base_url, api_key_env
        self.temperature, self.max_tokens = temperature, max_tokens
        self.concurrency, self.timeout, self.retries = concurrency, timeout, retries
        self.failures: Counter[str] = Counter()
        self._lock = Lock()

    @property
    def name(self) -> str:
        """How logs call it."""
        return self.model

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
        key = "none" if self.api_key_env is None else os.environ.get(self.api_key_env)
        if not key:
            raise SteelyardError(
                f"judge {self.model!r}: the environment variable {self.api_key_env} is empty; "
                "set it to the endpoint's key, or give api_key_env=None (--judge-key-env '') for one without"
            )
        return OpenAI(api_key=key, base_url=self.base_url, timeout=self.timeout, max_retries=self.retries)

    def ask(self, prompts: Sequence[Prompt]) -> list[str | None]:
        """One answer a prompt, in order; None (counted in `failures`) where the endpoint gave none."""
        if not prompts:
            return []
        _ = self.client
        with ThreadPoolExecutor(min(self.concurrency, len(prompts))) as pool:
            return list(pool.map(self._one, prompts))

    def _one(self, prompt: Prompt) -> str | None:
        from openai import OpenAIError

        messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)
        try:
            reply = self.client.chat.completions.create(
                model=self.model, messages=messages, temperature=self.temperature, max_tokens=self.max_tokens
            )
            text = reply.choices[0].message.content
        except OpenAIError as error:
            self._count(type(error).__name__, str(error))
            return None
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            self._count("malformed reply", repr(error))
            return None
        if isinstance(text, str) and text.strip():
            return text
        self._count("empty reply", "no text")
        return None

    def _count(self, kind: str, why: str) -> None:
        with self._lock:
            self.failures[kind] += 1
            first = self.failures[kind] == 1
        if first:
            log.warning("judge %s: %s: %s (further ones are only counted)", self.model, kind, why[:300])
