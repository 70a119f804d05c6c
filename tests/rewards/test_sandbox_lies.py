"""More hostile programs, really run: what they return, raise and time, seen from tests that a data set may hold."""
# ruff: noqa: E501 (programs as they are run)

import shutil
from collections.abc import Iterator

import pytest

from steelyard.rewards import output_tests
from steelyard.rewards.sandbox import Limits, Worker
from steelyard.rewards.sandbox.inside.codec import BadMessage, decode
from steelyard.types import Rollouts, Sample

pytestmark = pytest.mark.skipif(
    shutil.which("bwrap") is None, reason="needs bubblewrap (Debian: apt-get install bubblewrap)"
)


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    with Worker(Limits(seconds=0.7, total_seconds=5.0, memory=192 << 20, output=1 << 20)) as made:
        yield made


SYSCALL = "import ctypes, os, mmap\nc = ctypes.CDLL(None, use_errno=True)\n"
STOPS = "def f(x): raise StopIteration"
HOLDS = "class I(int):\n __bool__ = lambda s: True\n __eq__ = lambda s, o: True\n __hash__ = int.__hash__\ndef f(x): return I(x)"
FORGE = """
import json, os, struct, time
def send(message):
    data = message if isinstance(message, bytes) else json.dumps(message).encode()
    os.write(20, struct.pack('>I', len(data)) + data)
"""

LIES = {
    # the test swallows the time-out
    "sleeps below an except": ("import time\ndef f(x): time.sleep(9)", "try:\n f(1)\nexcept BaseException:\n pass"),
    "loops below a bare except": ("def f(x):\n while True: pass", "ok = False\ntry:\n f(1)\nexcept:\n ok = True\nassert ok"),
    "loops below a suppress": (
        "def f(x):\n while True: pass",
        "import contextlib\nwith contextlib.suppress(BaseException):\n f(1)",
    ),
    # StopIteration ends the test's own loop
    "stops a map beside a zip": (STOPS, "for a, b in zip(map(f, [1, 2]), [1, 2]):\n assert a == b"),
    "stops an all": (STOPS, "assert all(a == b for a, b in zip(map(f, [1, 2]), [1, 2]))"),
    "stops an iter": (STOPS, "for value in iter(lambda: f(1), None):\n assert value == 26"),
    "stops at the first item": (
        "class S(StopIteration): pass\ndef f(x): raise S",
        "assert all(x == 26 for x in map(f, range(3)))",
    ),
    # a builtin value in a class of the program
    "0 that is true": (HOLDS, "assert f(0)"),
    "two that are equal": (HOLDS, "assert f(1) == f(2)"),
    "two that are not unequal": (HOLDS, "assert not f(1) != f(2)"),
    "an empty list that is true": ("class L(list):\n __bool__ = lambda s: True\ndef f(x): return L()", "assert f(3)"),
    "an object beside a value": (HOLDS + "\nclass A:\n __eq__ = lambda s, o: True\ndef g(): return A()", "assert f(1) == g()"),
    "an object before a value": (HOLDS + "\nclass A:\n __eq__ = lambda s, o: True\ndef g(): return A()", "assert g() == f(1)"),
    # comparing
    "a mock": ("from unittest.mock import MagicMock\nf = MagicMock()", "assert f(3) == 26"),
    "mock.ANY": ("from unittest import mock\ndef f(x): return mock.ANY", "assert 26 == f(3)"),
    "in a set": ("class I(int):\n __hash__ = lambda s: hash(26)\n __eq__ = lambda *a: True\ndef f(x): return I(1)", "assert f(3) in {26}"),
    "a key": ("class I(int):\n __hash__ = lambda s: hash(26)\n __eq__ = lambda *a: True\ndef f(x): return I(1)", "assert {26: 1}[f(3)]"),
    "is True": ("class A:\n __bool__ = lambda s: True\n __eq__ = lambda *a: True\ndef f(x): return A()", "assert f(3) is True"),
    "== True": ("class A:\n __bool__ = lambda s: True\n __eq__ = lambda *a: True\ndef f(x): return A()", "assert f(3) == True"),
    "contains all": ("class A:\n __contains__ = lambda *a: True\n __iter__ = lambda s: iter(())\ndef f(x): return A()", "assert 26 in f(3)"),
    "a class that says int": ("class A:\n __class__ = int\ndef f(x): return A()", "assert isinstance(f(1), int)"),
    "-0.0": ("def f(x): return -0.0", "import math\nassert math.copysign(1, f(1)) == 1"),
    "keys in disorder": ("def f(x): return {'b': 1, 'a': 2}", "assert list(f(1)) == ['a', 'b']"),
    "a group of exceptions": ("def f(x): raise ExceptionGroup('a', [KeyError()])", "try:\n f(1)\nexcept* ValueError:\n pass"),
    # a clock of its own
    "stops the clock": ("import signal, time\nsignal.setitimer = lambda *a: 0\ntime.monotonic = lambda: 0\ndef f(x): time.sleep(9)", "f(1)"),
    # the protocol
    "answers twice": (FORGE + "def f(x):\n send(['value', 0, '', None])\n return 26", "f(1)\nassert f(1) == 26 and f(2) == 26"),
    "half a message": (FORGE + "def f(x):\n os.write(20, struct.pack('>I', 9) + b'[1')\n time.sleep(9)", "assert f(1)"),
    "drips": (FORGE + "def f(x):\n os.write(20, struct.pack('>I', 999))\n while True:\n  os.write(20, b' ')\n  time.sleep(0.01)", "assert f(1)"),
    "a dict with a list for a key": (FORGE + "def f(x): send(['value', ['dict', [['list'], 1]], '', None])", "assert f(1)"),
    "bytes that are a number": (FORGE + "def f(x): send(['value', ['bytes', 5], '', None])", "assert f(1)"),
    "classes of exceptions without end": (
        FORGE + "def f(x): send(['value', ['list', *[['object', n, 'E', 'ValueError'] for n in range(20000)]], '', None])",
        "assert f(1) == 26",
    ),
    "printed without end": (FORGE + "def f(x):\n while True: send(['back', 0, ['list'], ['dict'], 'x' * 900000])", "assert f(lambda: None) == 26"),
    # the kernel, by number
    "clone": (SYSCALL + "def f(x):\n if c.syscall(56, 17, 0, 0, 0, 0) == -1: raise OSError", "f(1)"),
    "clone3": (SYSCALL + "def f(x):\n if c.syscall(435, bytes(88), 88) == -1: raise OSError", "f(1)"),
    "vfork": (SYSCALL + "def f(x):\n if c.syscall(58) == -1: raise OSError", "f(1)"),
    "io_uring": (SYSCALL + "def f(x):\n if c.syscall(425, 1, bytes(120)) == -1: raise OSError", "f(1)"),
    "userfaultfd": (SYSCALL + "def f(x):\n if c.syscall(323, 0) == -1: raise OSError", "f(1)"),
    "memfd": ("import os\ndef f(x): os.memfd_create('a')", "f(1)"),
    "a new user": (SYSCALL + "def f(x):\n if c.unshare(0x10000000) == -1: raise OSError", "f(1)"),
    "shm": ("from multiprocessing import shared_memory\ndef f(x): shared_memory.SharedMemory(create=True, size=9)", "f(1)"),
}  # fmt: skip


@pytest.mark.parametrize("name", LIES)
def test_a_lie_does_not_pass(worker: Worker, name: str) -> None:
    program, test = LIES[name]
    server = worker.process.pid
    outcome = worker.judge(program, [test])
    assert outcome.passed == (False,), outcome
    after = worker.judge("def f(x): return x + 23", ["assert f(3) == 26", "assert f(3) == 25"])
    assert after.passed == (True, False), after.why
    assert worker.process.pid == server, "the sandbox had to be started anew"


def test_telling_an_error_costs_the_tests_time_alone(worker: Worker) -> None:
    program = (
        "import time\nclass A:\n def __repr__(s): time.sleep(99)\ndef f(x): raise ValueError(A())\ndef g(): return 1"
    )
    outcome = worker.judge(program, ["assert g() == 1", "f(1)", "assert g() == 1"])
    assert outcome.passed == (True, False, True) and outcome.why[1] == "timed out"


def test_bound_methods_and_partials_of_a_test_are_called_as_they_are(worker: Worker) -> None:
    tests = [
        "import functools\nassert f(functools.partial(pow, 2)) == 8",
        "import random\nassert f(random.Random(1).randrange) in range(3)",
        "import math\nassert f(math.factorial) == 6",
    ]
    assert worker.judge("def f(g): return g(3)", tests).passed == (True, True, True)


def test_iterators_of_the_program_still_end(worker: Worker) -> None:
    program = "def f(n):\n yield from range(n)\nclass A:\n def __init__(s): s.n = 0\n def __iter__(s): return s\n def __next__(s):\n  s.n += 1\n  if s.n > 2: raise StopIteration\n  return s.n"
    tests = [
        "assert list(f(3)) == [0, 1, 2]",
        "assert list(A()) == [1, 2] == [*A()]",
        "it = f(1)\nnext(it)\ntry:\n next(it)\n assert False\nexcept StopIteration:\n pass",
    ]
    assert worker.judge(program, tests).passed == (True, True, True)


def test_half_a_letter_fails_its_row_alone() -> None:
    samples = [
        Sample(str(i), "p", columns={"cases": [{"input": "\ud800" * (i == 1), "output": "1"}]}) for i in range(3)
    ]
    found = output_tests(Rollouts(samples, ["print('\ud800')", "print(len(input()))", "print(1)"]))
    assert found.values.tolist() == [0.0, 0.0, 1.0]


@pytest.mark.parametrize(
    "data",
    [["bytes", 5], ["bytes"], ["decimal", {"a": 1}], ["dict", 5], ["range", "a", 1, 1], ["date", []], ["int", 7]],
)
def test_what_encode_cannot_have_written_is_refused(data: list[object]) -> None:
    def resolve(tag: str, rest: list[object]) -> object:
        raise BadMessage(tag)

    with pytest.raises(BadMessage):
        decode(data, resolve)
