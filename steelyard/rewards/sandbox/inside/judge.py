"""The trusted side: runs the test statements, with the program's names standing for what another process holds."""

from __future__ import annotations

import ast
import builtins
import contextlib
import functools
import importlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import CodeType
from typing import Any, NamedTuple

from steelyard.rewards.sandbox.inside.codec import receive, send
from steelyard.rewards.sandbox.inside.remote import Session, Unsupported


class TimedOut(BaseException):
    """A test's time is up."""


def _time_is_up(*_: Any) -> None:
    raise TimedOut


@contextlib.contextmanager
def _within(seconds: float) -> Iterator[None]:
    """Raise `TimedOut` after so many seconds, and again every tenth, should a test swallow it."""
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 1e-3), 0.1)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


class Names(dict[str, Any]):
    """The tests' names: their own, then Python's, then modules of the standard library, then the program's.

    So a program that defines `abs` or `math` changes nothing for a test that relies on Python's.
    """

    def __init__(self, judge: Judge, modules: frozenset[str]) -> None:
        super().__init__({"__name__": "tests", "__builtins__": builtins})
        self.judge, self.modules = judge, modules

    def __missing__(self, name: str) -> Any:
        if hasattr(builtins, name):
            return getattr(builtins, name)
        if name in self.modules:
            return importlib.import_module(name)
        if name.startswith("__"):
            raise KeyError(name)
        try:
            return self.judge.session.named(name)
        except NameError:
            raise KeyError(name) from None


def modules_meant(trees: Sequence[ast.AST]) -> frozenset[str]:
    """Names of standard modules that the tests use as modules (`math.pi`) and nowhere else."""
    nodes = [node for tree in trees for node in ast.walk(tree)]
    before_a_dot = [n.value for n in nodes if isinstance(n, ast.Attribute) and isinstance(n.value, ast.Name)]
    ids = {id(name) for name in before_a_dot}
    alone = {node.id for node in nodes if isinstance(node, ast.Name) and id(node) not in ids}
    return frozenset({name.id for name in before_a_dot} - alone) & sys.stdlib_module_names


def _free(trees: Sequence[ast.AST]) -> frozenset[str]:
    """Names that the tests use and never bind."""
    nodes = [node for tree in trees for node in ast.walk(tree)]
    used = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    bound = {node.id for node in nodes if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load)}
    bound |= {node.arg for node in nodes if isinstance(node, ast.arg)}
    bound |= {getattr(node, "name", None) or "" for node in nodes}  # functions, classes, exceptions, imports, patterns
    return frozenset(used - bound)


class Tests(NamedTuple):
    """Tests as code.

    Attributes:
        codes: one a test; modules: of the standard library that they mean; names: that the program may have to give.
    """

    codes: list[CodeType]
    modules: frozenset[str]
    names: list[str]


@functools.lru_cache(maxsize=64)
def compiled(tests: tuple[str, ...]) -> Tests:
    """The tests as code; kept, as a group's programs share their tests.

    Raises:
        Unsupported: naming the test that is no Python.
    """
    trees = []
    for number, test in enumerate(tests):
        try:
            trees.append(ast.parse(test))
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise Unsupported(f"test {number} is no Python: {error}") from None
    codes = [compile(tree, f"<test {n}>", "exec") for n, tree in enumerate(trees)]
    modules = modules_meant(trees)
    return Tests(codes, modules, sorted(name for name in _free(trees) - modules if not hasattr(builtins, name)))


class Judge:
    """Runs one program's tests. The program is started anew where it ended, or a test's time was up.

    Args:
        more: gives a link to a fresh process, ends the one before; job: program, tests, limits, and whether objects may
            come back.
    """

    def __init__(self, more: Callable[[], int], job: Mapping[str, Any]) -> None:
        self.more, self.program, self.limits = more, job["program"], job["limits"]
        self.objects, self.tests = job["objects"], job["tests"]
        self.deadline = time.monotonic() + self.limits["total_seconds"]
        self.disturbed = False
        self.link = -1

    def verdict(self) -> dict[str, Any]:
        """`tests`: for each, whether it passed and why not; or `error`, where a test itself is at fault."""
        try:
            tests = compiled(tuple(self.tests))
            return {"tests": self._run_all(tests, Names(self, tests.modules))}
        except Unsupported as error:
            return {"error": str(error)}

    def _run_all(self, tests: Tests, names: Names) -> list[tuple[bool, str]]:
        outcomes: list[tuple[bool, str]] = []
        trouble = self._load(tests.names)
        for code in tests.codes:
            if time.monotonic() > self.deadline:
                outcomes.append((False, "timed out: no time is left for this test"))
                continue
            if not trouble and self.session.gone:
                trouble = self._load(tests.names)
            why = f"loading: {trouble}" if trouble else self._attempt(lambda: builtins.exec(code, names))  # noqa: B023
            outcomes.append((not why, why))
        return outcomes

    def _load(self, names: Sequence[str]) -> str:
        """The program in a fresh process: an empty text, or why it does not load; tests may ask for `names`."""
        self.close()
        self.link = self.more()
        self.session = Session(self.link, limit=self.limits["output"], objects=self.objects)
        return self._attempt(lambda: self.session.load(self.program, names))

    def close(self) -> None:
        """Leave the program."""
        if self.link >= 0:
            os.close(self.link)
            self.link = -1

    def _attempt(self, action: Callable[[], Any]) -> str:
        """Do it within the time of a test: an empty text, or why it failed."""
        session, until = self.session, min(time.monotonic() + self.limits["seconds"], self.deadline)
        why = ""
        try:
            with _within(until - time.monotonic()):
                why = _reason(action)
        except TimedOut:
            why = "timed out"
        if time.monotonic() >= until:  # a test that swallows the time-out has failed all the same
            session.gone = self.disturbed = True
            return "timed out"
        return why or ("crashed" if session.gone else "")


def _reason(action: Callable[[], Any]) -> str:
    """Do it: an empty text, or why it failed. The error's text may ask the program, so it costs the test's time."""
    try:
        action()
    except (Unsupported, TimedOut):
        raise
    except BaseException as error:
        return f"{type(error).__name__}: {_text(error)}"
    return ""


def _text(error: BaseException) -> str:
    try:
        return str(error)[:300]
    except TimedOut:
        raise
    except BaseException:
        return "(its text cannot be told)"


def judge(report: int, more: Callable[[], int], done: Callable[[], None], *, jobs: int) -> None:
    """Take jobs from the host and report, until the host leaves, a test timed out, or so many are done.

    Args:
        report: the descriptor to the host; more: gives a link to a fresh process for a program; done: ends it.
        jobs: after how many another judge shall take over.
    """
    signal.signal(signal.SIGALRM, _time_is_up)
    sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    for _ in range(jobs):
        judged = Judge(more, receive(report, 1 << 30))
        verdict = judged.verdict()
        judged.close()
        done()
        send(report, verdict)
        if judged.disturbed:
            return
