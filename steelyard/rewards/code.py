"""Programs judged by running them: the share of a list of tests, or of cases of input and output, that passes."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from steelyard.rewards.chat import texts_in
from steelyard.rewards.core import reward
from steelyard.rewards.golds import listed
from steelyard.rewards.sandbox.bubblewrap import interpreter
from steelyard.rewards.sandbox.command import run_command
from steelyard.rewards.sandbox.limits import Limits
from steelyard.rewards.sandbox.pool import Job, shared_pool
from steelyard.rewards.sandbox.worker import Outcome
from steelyard.types import Array, Rollouts, Scores, Status, SteelyardError

_FENCE = re.compile(r"^[ \t]*```[ \t]*+([\w+#.-]*+)[^\n]*+\n(.*?)(?:^[ \t]*```[ \t]*$|\Z)", re.DOTALL | re.MULTILINE)
_PYTHON = ("python", "py", "python3")


def program_text(completion: str, *, languages: Sequence[str] = _PYTHON) -> str:
    """The program in a completion: the last block fenced as one of `languages`, else the last fenced block, else all.

    A block that was cut off before its closing fence counts.
    """
    blocks = _FENCE.findall(completion)
    named = [text for language, text in blocks if language.lower() in languages]
    return (named or [text for _, text in blocks] or [completion])[-1]


@reward(batch=True)
def code_tests(
    rollouts: Rollouts,
    *,
    seconds: float = 3.0,
    total_seconds: float = 30.0,
    memory: int = 512 << 20,
    objects: bool = True,
    workers: int | None = None,
    unsafe: bool = False,
) -> Scores:
    """Σ_j w_j p_j / Σ_j w_j: the weighted share of the tests that the program passes.

    Columns: `completion`, a program (a fenced block or the whole text), or a list of programs where a row has several
    turns, of which the last is scored; `tests`, a list of Python statements that raise where they fail; optionally
    `test_weights`, one number a test. The program runs in the sandbox and never sees the tests; see the page on it.

    `steps` holds p, 1 or 0 a test: float32 [N, K], or [N, T, K] where a row has turns; NaN where a row has fewer. A
    time-out, a crash or a program that does not load is a fail. A row that the sandbox could not judge is NaN
    (`FAILED`), one without tests too (`NOT_APPLICABLE`).

    Args:
        seconds: of wall time to load the program, and for each test; total_seconds: for a program with all its tests.
        memory: bytes of address space.
        objects: whether the program may return what is no plain data (then such a test trusts its methods).
        workers: programs at a time; unsafe: run without bubblewrap, only for programs that you trust.

    Raises:
        SteelyardError: if bubblewrap is missing; for tests that are no list of Python statements, or weights that do
            not fit them.
    """
    limits = Limits(seconds=seconds, total_seconds=total_seconds, memory=memory)
    tests = [_tests(given, row) for row, given in enumerate(rollouts.column("tests"))]
    weights = _weights(rollouts, tests)
    turns = [_turns(completion, row) for row, completion in enumerate(rollouts.completions)]
    places = [(row, turn) for row in range(len(turns)) for turn in range(len(turns[row])) if tests[row]]
    jobs = [Job(program_text(turns[row][turn]), tests[row], objects) for row, turn in places]
    outcomes = shared_pool(limits, workers=workers, unsafe=unsafe).judge(jobs) if jobs else []
    passed = _passed(places, outcomes, turns, tests)
    last = np.asarray([len(row) - 1 for row in turns], np.int64)
    values = _shares(passed[np.arange(len(turns)), last], weights) if len(turns) else np.zeros(0)
    status = np.where(np.isnan(values), Status.FAILED, Status.SCORED)
    status = np.where([not row for row in tests], Status.NOT_APPLICABLE, status)
    several = any(not isinstance(completion, str) for completion in rollouts.completions)
    return Scores(values, status, steps=passed if several else passed[:, 0])


def _turns(completion: Any, row: int) -> list[str]:
    completion = listed(completion)
    turns = [completion] if isinstance(completion, str) else completion
    if not isinstance(turns, (list, tuple)) or not turns or not all(isinstance(turn, str) for turn in turns):
        raise SteelyardError(f"row {row}: a completion is a program's text or a list of them, not {completion!r:.60}")
    return list(turns)


def _tests(given: Any, row: int) -> tuple[str, ...]:
    given = listed(given)
    if isinstance(given, str) or not isinstance(given, Sequence) or not all(isinstance(test, str) for test in given):
        raise SteelyardError(f"row {row}: tests are a list of Python statements, not {given!r:.60}")
    wrong = _no_python(tuple(given))
    if wrong:
        raise SteelyardError(f"row {row}: {wrong}")
    return tuple(given)


@functools.lru_cache(maxsize=1024)
def _no_python(tests: tuple[str, ...]) -> str:
    for number, test in enumerate(tests):
        try:
            ast.parse(test)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            return f"test {number} is no Python ({error}): {test!r:.60}"
    return ""


def _weights(rollouts: Rollouts, tests: Sequence[Sequence[str]]) -> Array:
    """float64 [N, K], 0 where a row has fewer tests."""
    width = max(map(len, tests), default=0)
    weights = np.zeros((len(tests), width))
    given = rollouts.column("test_weights") if rollouts.has("test_weights") else [[1.0] * len(row) for row in tests]
    for row, (numbers, own) in enumerate(zip(given, tests, strict=True)):
        try:
            array = np.asarray(numbers, np.float64)
        except (TypeError, ValueError):
            array = np.full(1, np.nan)
        if array.shape != (len(own),) or not np.isfinite(array).all() or (array < 0).any() or (own and not array.any()):
            raise SteelyardError(
                f"row {row}: test_weights {numbers!r:.60} do not fit {len(own)} tests; one number a test, "
                "none negative, not all 0"
            )
        weights[row, : len(own)] = array
    return weights


def _passed(
    places: Sequence[tuple[int, int]],
    outcomes: Sequence[Outcome],
    turns: Sequence[Sequence[str]],
    tests: Sequence[Sequence[str]],
) -> Array:
    """float32 [N, T, K]; NaN for absent turns and tests, and where the sandbox failed."""
    passed = np.full((len(turns), max(map(len, turns), default=1), max(map(len, tests), default=0)), np.nan, np.float32)
    for (row, turn), outcome in zip(places, outcomes, strict=True):
        if outcome.passed is not None:
            passed[row, turn, : len(outcome.passed)] = outcome.passed
    return passed


def _shares(passed: Array, weights: Array) -> Array:
    """Weighted shares [N] of passes [N, K]; NaN without tests, and where a test that counts is NaN."""
    total = weights.sum(axis=1)
    earned = np.where(weights > 0, weights * passed, 0.0).sum(axis=1)
    return np.divide(earned, total, out=np.full(len(total), np.nan), where=total > 0)


@reward(batch=True)
def output_tests(
    rollouts: Rollouts,
    *,
    command: Sequence[str] | None = None,
    file: str = "main.py",
    languages: Sequence[str] = _PYTHON,
    readable: Sequence[str] = (),
    seconds: float = 3.0,
    memory: int = 512 << 20,
    processes: int = 1,
) -> Scores:
    """Share of cases for which a program in any language writes the right output.

    Columns: `completion`, the program; `cases`, a list of `{"input": text, "output": text}`. Each case runs in a
    sandbox of its own; its output is compared here, white space at the ends of lines and of the text aside. `steps`
    holds float32 [N, K], 1 or 0 a case. A time-out, too much output or an exit code but 0 is a fail.

    Args:
        command: how it is run (`("node", "main.js")`); this environment's Python by default.
        file: the name that the program gets in its folder; languages: names of its fence.
        readable: folders beyond /usr that the command needs. seconds, memory, processes: limits of each case.

    Raises:
        SteelyardError: if bubblewrap is missing, or for cases that are no such list.
    """
    limits = Limits(seconds=seconds, memory=memory, processes=processes)
    call = tuple(command or (interpreter(), "-s", "-S", file))
    rows = [_cases(given, row) for row, given in enumerate(rollouts.column("cases"))]
    steps = np.full((len(rows), max(map(len, rows), default=0)), np.nan, np.float32)
    for row, (completion, cases) in enumerate(zip(texts_in(rollouts), rows, strict=True)):
        text = program_text(completion, languages=languages)
        for number, (given, expected) in enumerate(cases):
            stdin = given.encode("utf-8", "surrogatepass")  # half a letter is a fault of one row, not of the batch
            done = run_command(call, stdin=stdin, files={file: text}, readable=readable, limits=limits)
            right = done.code == 0 and _lines(done.stdout.decode("utf-8", "replace")) == _lines(expected)
            steps[row, number] = right
    counts = np.asarray([len(cases) for cases in rows])
    values = np.divide(np.nansum(steps, axis=1), counts, out=np.full(len(rows), np.nan), where=counts > 0)
    return Scores(values, np.where(counts > 0, Status.SCORED, Status.NOT_APPLICABLE), steps=steps)


def _cases(given: Any, row: int) -> list[tuple[str, str]]:
    try:
        cases = [(case["input"], case["output"]) for case in given]
    except (TypeError, KeyError):
        cases = [(0, 0)]
    if isinstance(given, Mapping) or not all(isinstance(text, str) for case in cases for text in case):
        raise SteelyardError(f'row {row}: cases are a list of {{"input": text, "output": text}}, not {given!r:.60}')
    return cases


def _lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.rstrip().splitlines()]
