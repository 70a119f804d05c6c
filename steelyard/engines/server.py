"""The reward server: batches over HTTP, judged by processes of their own, with limits, health and metrics."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hmac
import json
import logging
import math
import signal
import socket
import time
import zlib
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from steelyard.engines.batches import Answer, told
from steelyard.engines.judging import COLUMNS, OPENRLHF, Died, JudgeProcess, Task, TookTooLong
from steelyard.types import SteelyardError

T = TypeVar("T")
log = logging.getLogger("uvicorn.error")

BAD_REQUEST, UNAUTHORISED, TIMED_OUT_READING, TOO_LARGE, OTHER_FORM, TOO_MANY = 400, 401, 408, 413, 415, 429
FAULT, UNAVAILABLE, TIMED_OUT = 500, 503, 504
LAST_CALL = 0.3
"""Seconds after the signal to end in which those who have just asked are still told so, rather than cut off."""
SLOWEST_RESTART = 30.0
"""Seconds between two attempts to start a process whose reward does not load any more."""

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
"""Bounds of the histogram of a request's time."""


@dataclass(frozen=True)
class Limits:
    """What the server takes on.

    Attributes:
        workers: processes that judge; each has the reward loaded and judges one batch at a time.
        queue: batches that may wait for a worker; one more is refused with 429.
        body: bytes of the largest body.
        seconds: from a request's arrival to its answer.
        token: what a client must show; None lets everybody in.
    """

    workers: int = 1
    queue: int = 32
    body: int = 16 * 2**20
    seconds: float = 120.0
    token: str | None = None

    def __post_init__(self) -> None:
        wrong = next((name for name in ("workers", "body", "seconds") if not getattr(self, name) > 0), None)
        if wrong or self.queue < 0:
            raise SteelyardError(
                f"the server cannot have {self}; workers, body and seconds are above 0, queue is not below"
            )
        if self.token is not None and len(self.token) < 8:
            raise SteelyardError(f"the token has {len(self.token)} characters; choose one of 8 or more")


class Refused(Exception):
    """A request that gets a sentence instead of rewards."""

    def __init__(self, code: int, sentence: str, **headers: str) -> None:
        super().__init__(sentence)
        self.answer = Answer(code, told(sentence), {})
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


class Metrics:
    """What Prometheus reads."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = self._made(Counter, "steelyard_requests", "Requests by path and code.", ["path", "code"])
        self.rows = self._made(Counter, "steelyard_rows", "Rows judged, by status.", ["status"])
        self.seconds = Histogram(
            "steelyard_request_seconds", "From arrival to answer.", ["path"], buckets=SECONDS, registry=self.registry
        )
        self.waiting = self._made(Gauge, "steelyard_waiting", "Batches that wait for a worker.", [])
        self.judging = self._made(Gauge, "steelyard_judging", "Batches that are being judged.", [])
        self.ready = self._made(Gauge, "steelyard_workers_ready", "Workers that have the reward loaded.", [])
        self.restarts = self._made(Counter, "steelyard_worker_restarts", "Workers replaced, by reason.", ["reason"])

    def _made(self, kind: type[Any], name: str, words: str, labels: list[str]) -> Any:
        return kind(name, words, labels, registry=self.registry)

    def text(self) -> bytes:
        """The text that `/metrics` gives."""
        return generate_latest(self.registry)


class Judges:
    """The worker processes and the bounded queue before them. Lives in one event loop."""

    def __init__(self, task: Task, limits: Limits, metrics: Metrics) -> None:
        self.limits, self.metrics = limits, metrics
        self.workers = [JudgeProcess(task) for _ in range(limits.workers)]
        self.free: list[JudgeProcess] = []
        self.waiters: deque[asyncio.Future[JudgeProcess]] = deque()
        self.loaded: set[JudgeProcess] = set()
        self.taken = 0
        self.usual = 0.0
        self.draining = False
        self._threads = ThreadPoolExecutor(limits.workers, thread_name_prefix="judge")
        self._revivals: set[asyncio.Task[None]] = set()

    async def start(self) -> str:
        """Load the reward in every worker; returns its name.

        Raises:
            SteelyardError: if it cannot be loaded.
        """
        names = await asyncio.gather(*map(self._load, self.workers))
        return names[0]

    async def _load(self, worker: JudgeProcess) -> str:
        name: str = await self._threaded(worker.start)
        self.loaded.add(worker)
        self._give(worker)
        self.metrics.ready.set(len(self.loaded))
        return name

    async def _threaded(self, function: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function)

    @contextlib.contextmanager
    def place(self) -> Iterator[None]:
        """A place in the queue, taken before the body is read so that bodies in memory are bounded.

        Raises:
            Refused: where there is none.
        """
        if self.draining or not self.loaded:
            what = "is shutting down" if self.draining else "has not loaded its reward"
            leave = {"Connection": "close"} if self.draining else {}
            raise Refused(UNAVAILABLE, f"the server {what}; try again later", Retry_After=self._patience(), **leave)
        if self.taken >= self.limits.workers + self.limits.queue:
            sentence = f"{self.limits.queue} batches wait already; try again later, with fewer at a time"
            raise Refused(TOO_MANY, sentence, Retry_After=self._patience())
        self.taken += 1
        try:
            yield
        finally:
            self.taken -= 1

    def _patience(self) -> str:
        """Whole seconds until what waits now is done, as batches went lately."""
        return str(max(1, math.ceil(self.taken * self.usual / self.limits.workers)))

    async def judge(self, form: bytes, body: bytes, *, until: float) -> Answer:
        """Judge a batch by the first free worker.

        Raises:
            Refused: if none got free in time, judging took too long, or the worker died.
        """
        worker = await self._free_worker(until)
        began = time.monotonic()
        self.metrics.judging.inc()
        try:
            answer = await self._threaded(lambda: worker.ask(form, body, seconds=until - began))
        except TookTooLong:
            self._replace(worker, "timeout")
            sentence = (
                f"judging took longer than {self.limits.seconds:g} seconds; send smaller batches or allow more time"
            )
            raise Refused(TIMED_OUT, sentence) from None
        except Died as error:
            self._replace(worker, "died")
            raise Refused(FAULT, f"{error}; its own words are in the server's log") from None
        finally:
            self.metrics.judging.dec()
        took = time.monotonic() - began
        self.usual = took if not self.usual else 0.9 * self.usual + 0.1 * took
        self._give(worker)
        return answer

    async def _free_worker(self, until: float) -> JudgeProcess:
        if self.free:
            return self.free.pop()
        waiter: asyncio.Future[JudgeProcess] = asyncio.get_running_loop().create_future()
        self.waiters.append(waiter)
        handed = False
        self.metrics.waiting.inc()
        try:
            async with asyncio.timeout(until - time.monotonic()):
                await waiter
            handed = True
            return waiter.result()
        except TimeoutError:
            sentence = f"no worker got free within {self.limits.seconds:g} seconds; try again later"
            raise Refused(UNAVAILABLE, sentence, Retry_After=self._patience()) from None
        finally:
            self.metrics.waiting.dec()
            if not handed and not waiter.cancel() and not waiter.cancelled():
                self._give(waiter.result())  # it was handed over in the moment in which the time was up

    def _give(self, worker: JudgeProcess) -> None:
        """Hand a free worker to the batch that has waited longest; an asyncio.Queue would let newcomers overtake."""
        while self.waiters:
            waiter = self.waiters.popleft()
            if not waiter.done():
                waiter.set_result(worker)
                return
        self.free.append(worker)

    def _replace(self, worker: JudgeProcess, reason: str) -> None:
        self.loaded.discard(worker)
        self.metrics.ready.set(len(self.loaded))
        self.metrics.restarts.labels(reason).inc()
        log.warning("a worker is replaced (%s)", reason)
        revival = asyncio.get_running_loop().create_task(self._revive(worker))
        self._revivals.add(revival)
        revival.add_done_callback(self._revivals.discard)

    async def _revive(self, worker: JudgeProcess) -> None:
        wait = 1.0
        while not self.draining:
            try:
                await self._load(worker)
                return
            except SteelyardError as error:
                log.error("a worker does not start: %s", error)
                await asyncio.sleep(wait)
                wait = min(2 * wait, SLOWEST_RESTART)

    async def stop(self) -> None:
        """Kill the workers; requests in flight are done by now."""
        self.draining = True
        for revival in self._revivals:
            revival.cancel()
        for worker in self.workers:
            worker.stop()
        self._threads.shutdown(wait=False, cancel_futures=True)


class App:
    """The paths of the server; `asgi` is the application."""

    def __init__(self, task: Task, limits: Limits) -> None:
        self.limits, self.metrics = limits, Metrics()
        self.judges = Judges(task, limits, self.metrics)
        self.name = ""
        self.failure: SteelyardError | None = None
        self.on_failure: Callable[[], None] = lambda: None
        self.asgi = Starlette(
            routes=[
                Route("/rewards", self._asked("/rewards", COLUMNS), methods=["POST"]),
                Route("/get_reward", self._asked("/get_reward", OPENRLHF), methods=["POST"]),
                Route("/health", self.health),
                Route("/health/live", self.live),
                Route("/health/ready", self.health),
                Route("/metrics", self.show_metrics),
            ],
            lifespan=self.lifespan,
            exception_handlers={HTTPException: _told},
        )

    @contextlib.asynccontextmanager
    async def lifespan(self, _: Starlette) -> AsyncIterator[None]:
        """Workers load while `/health/live` answers already; they are killed at the end."""
        loading = asyncio.create_task(self._load())
        yield
        loading.cancel()
        await self.judges.stop()

    async def _load(self) -> None:
        try:
            self.name = await self.judges.start()
            log.info("ready: reward %s in %d worker(s)", self.name, self.limits.workers)
        except SteelyardError as error:
            self.failure = error
            self.on_failure()

    async def live(self, _: Request) -> Response:
        """200 as long as the server runs."""
        return _json(Answer(200, b'{"status": "live"}', {}))

    async def health(self, _: Request) -> Response:
        """200 where batches are taken, else 503."""
        judges = self.judges
        status = "draining" if judges.draining else "ready" if judges.loaded else "loading"
        body = json.dumps({"status": status, "reward": self.name, "workers": len(judges.loaded), "taken": judges.taken})
        return _json(Answer(200 if status == "ready" else UNAVAILABLE, body.encode(), {}))

    async def show_metrics(self, request: Request) -> Response:
        """Prometheus' text."""
        try:
            self._check_token(request)
        except Refused as refused:
            return _json(refused.answer, refused.headers)
        return Response(self.metrics.text(), media_type=CONTENT_TYPE_LATEST)

    def _asked(self, path: str, form: bytes) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            began, headers = time.monotonic(), {}
            try:
                self._check_token(request)
                said = await self._judged(request, form, until=began + self.limits.seconds)
            except Refused as refused:
                said, headers = refused.answer, refused.headers
            for status, count in said.rows.items():
                self.metrics.rows.labels(status).inc(count)
            self.metrics.requests.labels(path, str(said.code)).inc()
            self.metrics.seconds.labels(path).observe(time.monotonic() - began)
            return _json(said, headers)

        return answer

    async def _judged(self, request: Request, form: bytes, *, until: float) -> Answer:
        with self.judges.place():
            try:
                async with asyncio.timeout(until - time.monotonic()):
                    body = await self._body(request)
            except TimeoutError:
                raise Refused(TIMED_OUT_READING, "the body did not arrive in time; send it at once") from None
            return await self.judges.judge(form, body, until=until)

    async def _body(self, request: Request) -> bytes:
        sentence = f"the body is larger than {self.limits.body} bytes; send smaller batches"
        if int(request.headers.get("content-length") or 0) > self.limits.body:
            raise Refused(TOO_LARGE, sentence, Connection="close")
        body, unpack = bytearray(), _unpacker(request.headers.get("content-encoding", ""), self.limits.body)
        try:
            async for piece in request.stream():
                body += unpack(piece)
                if len(body) > self.limits.body:
                    raise Refused(TOO_LARGE, sentence, Connection="close")
        except ClientDisconnect:
            raise Refused(TIMED_OUT_READING, "the client went away") from None
        return bytes(body)

    def _check_token(self, request: Request) -> None:
        if self.limits.token is None:
            return
        shown = _shown_token(dict(request.scope["headers"]).get(b"authorization", b""))
        if not hmac.compare_digest(shown, self.limits.token.encode()):
            sentence = "the token is missing or wrong; send the header Authorization: Bearer TOKEN"
            raise Refused(UNAUTHORISED, sentence, WWW_Authenticate="Bearer")


def _unpacker(encoding: str, most: int) -> Callable[[bytes], bytes]:
    """What makes plain bytes of a body's pieces, never many more than `most`.

    Raises:
        Refused: for another encoding than gzip.
    """
    if encoding.strip().lower() in ("", "identity"):
        return lambda piece: piece
    if encoding.strip().lower() != "gzip":
        sentence = f"the body's encoding is {encoding:.40}; send it plain or as gzip"
        raise Refused(OTHER_FORM, sentence, Connection="close")
    gzip = zlib.decompressobj(wbits=31)

    def unpack(piece: bytes) -> bytes:
        try:
            plain = gzip.decompress(piece, most + 1)
        except zlib.error as error:
            raise Refused(BAD_REQUEST, f"the body is no gzip ({error}); send it whole", Connection="close") from None
        if not piece and not gzip.eof:  # the last piece of a stream is empty
            raise Refused(BAD_REQUEST, "the body's gzip is cut off; send it whole", Connection="close")
        return plain

    return unpack


def _shown_token(header: bytes) -> bytes:
    """The token of a Bearer header, or the password of a Basic one (what a URL with user:password@ becomes)."""
    kind, _, value = header.partition(b" ")
    if kind.lower() == b"bearer":
        return value.strip()
    if kind.lower() == b"basic":
        with contextlib.suppress(ValueError):  # binascii.Error
            return base64.b64decode(value, validate=True).partition(b":")[2]
    return b""


async def _told(_: Request, error: Exception) -> Response:
    """An unknown path, or a method that a path does not know, as the other errors are told."""
    assert isinstance(error, HTTPException)
    return _json(Answer(error.status_code, told(error.detail), {}), dict(error.headers or {}))


def _json(answer: Answer, headers: dict[str, str] | None = None) -> Response:
    return Response(answer.body, answer.code, headers, media_type="application/json")


def listen(host: str, port: int) -> socket.socket:
    """A listening socket.

    Raises:
        SteelyardError: if the address is taken or is none of this machine.
    """
    try:
        return socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=512
        )
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or error
        raise SteelyardError(f"the server cannot listen on {host} port {port} ({why}); choose another") from None


def serve(task: Task, limits: Limits, listening: socket.socket) -> None:
    """Serve until SIGTERM or SIGINT, which let the requests in flight finish.

    Raises:
        SteelyardError: if the reward cannot be loaded.
        KeyboardInterrupt: after SIGINT, when everything is done.
    """
    app = App(task, limits)
    config = uvicorn.Config(
        app.asgi,
        log_level="info",
        access_log=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=math.ceil(limits.seconds) + 5,
        server_header=False,
    )
    server = _Server(config)
    server.judges = app.judges
    app.on_failure = lambda: setattr(server, "should_exit", True)
    signal.signal(signal.SIGTERM, lambda *_: None)  # uvicorn catches it first, and raises it again when all is done
    server.run(sockets=[listening])
    if app.failure is not None:
        raise app.failure


class _Server(uvicorn.Server):
    """uvicorn's server, which tells the judges to take no more batches as soon as it is asked to end."""

    judges: Judges | None = None

    def handle_exit(self, sig: int, frame: object) -> None:
        """A signal came."""
        if self.judges is not None:
            self.judges.draining = True
        super().handle_exit(sig, frame)  # type: ignore[arg-type]

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop listening, wait for the requests in flight, end."""
        if not self.force_exit:
            await asyncio.sleep(LAST_CALL)
        await super().shutdown(sockets)
