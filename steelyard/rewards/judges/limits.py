"""How fast a judge may be asked: requests and tokens in any window of time, shared by all threads."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock

from steelyard.types import SteelyardError


@dataclass(eq=False)
class Grant:
    """Leave to send one request: when it was given, or used, and the tokens that it is charged with."""

    at: float
    tokens: int


class RateLimit:
    """At most so many requests, and tokens, in any window of `per` seconds (a sliding window, not a bucket: a bucket
    of the same size lets twice as many pass around its edge).

    The window is held where requests go out (`sent`): what a connection takes between leave and departure would else
    let more of them arrive within one. A request is charged with an estimate of its tokens before it is sent and with
    the true number once it is known. One that alone is dearer than the limit waits until nothing else stands in the
    window.

    Args:
        requests: in a window; None: without limit.
        tokens: in a window, prompt and completion together; None: without limit.
        per: seconds of a window.
        clock: seconds that only go forward; sleep: waits so many of them.

    Raises:
        SteelyardError: for a limit or a window that is not positive.
    """

    def __init__(
        self,
        *,
        requests: int | None = None,
        tokens: int | None = None,
        per: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        for name, number in (("requests", requests), ("tokens", tokens), ("per", per)):
            if number is not None and not number > 0:
                raise SteelyardError(f"a rate limit with {name}={number} lets nothing pass; it must be positive")
        self.requests, self.tokens, self.per = requests, tokens, per
        self.clock, self.sleep = clock, sleep
        self._grants: list[Grant] = []
        self._held_until = -float("inf")
        self._lock = Lock()

    def __repr__(self) -> str:
        return f"RateLimit(requests={self.requests}, tokens={self.tokens}, per={self.per:g})"

    def acquire(self, tokens: int = 0) -> Grant:
        """Wait until a request of about so many tokens may be sent."""
        while True:
            with self._lock:
                wait = self._wait(tokens)
                if wait <= 0:
                    grant = Grant(self.clock(), tokens)
                    self._grants.append(grant)
                    return grant
            self.sleep(wait)

    def sent(self, grant: Grant) -> None:
        """Count a request from now on: it has just left."""
        with self._lock:
            grant.at = self.clock()

    def settle(self, grant: Grant, tokens: int) -> None:
        """Charge a request with the tokens that it really took."""
        with self._lock:
            grant.tokens = tokens

    def hold(self, seconds: float) -> None:
        """Let nothing pass for so long: the endpoint told one request to come back later, so the others wait too."""
        with self._lock:
            self._held_until = max(self._held_until, self.clock() + seconds)

    def _wait(self, tokens: int) -> float:
        """Seconds until a request of so many tokens may be asked about again; 0 where it may go."""
        now = self.clock()
        self._grants = [grant for grant in self._grants if grant.at > now - self.per]
        if now < self._held_until:
            return self._held_until - now
        full = self.requests is not None and len(self._grants) >= self.requests
        spent = sum(grant.tokens for grant in self._grants)
        dear = self.tokens is not None and bool(self._grants) and spent + tokens > self.tokens
        return max(min(grant.at for grant in self._grants) + self.per - now, 1e-3) if full or dear else 0.0
