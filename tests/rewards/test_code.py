"""Code rewards: shares, weights, turns, fences, forms of tests, other languages, and refusals."""
# ruff: noqa: E501 (programs as they are run)

import shutil
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from steelyard.rewards import code_tests, output_tests, score_one
from steelyard.rewards.code import program_text
from steelyard.rewards.sandbox import Limits, Outcome, Pool, Worker, bubblewrap, run_command
from steelyard.types import Rollouts, Sample, Scores, Status, SteelyardError

needs_bubblewrap = pytest.mark.skipif(
    shutil.which("bwrap") is None, reason="needs bubblewrap (Debian: apt-get install bubblewrap)"
)

ADD = "def add(a, b):\n    return a + b\n"
TESTS = ["assert add(1, 2) == 3", "assert add('a', 'b') == 'ab'", "assert add(1, 1) == 3", "add(1, '2')"]


def scores(*completions: Any, tests: Any = TESTS, **columns: Any) -> Scores:
    samples = [Sample(str(i), "p", columns={"tests": tests, **columns}) for i in range(len(completions))]
    return code_tests.using(seconds=10.0, workers=2)(Rollouts(samples, completions))


@needs_bubblewrap
def test_the_share_of_tests_that_pass() -> None:
    found = scores(ADD, "def add(a, b):\n    return 3", "no program", "")
    np.testing.assert_array_equal(found.values, np.float32([0.5, 0.75, 0, 0]))
    assert found.steps is not None
    assert found.steps.tolist() == [[1, 1, 0, 0], [1, 0, 1, 1], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert found.status is not None and (found.status == Status.SCORED).all()


@needs_bubblewrap
def test_weights_turns_and_rows_without_tests() -> None:
    found = scores(ADD, test_weights=[3, 0, 1, 0])
    assert found.values.tolist() == [0.75]
    several = scores(["x = 1", ADD], [ADD])
    assert several.values.tolist() == [0.5, 0.5] and several.steps is not None
    np.testing.assert_array_equal(several.steps[1, 1], [np.nan] * 4)
    assert several.steps[0].tolist() == [[0, 0, 0, 0], [1, 1, 0, 0]]
    none = scores(ADD, tests=[])
    assert np.isnan(none.values).all() and none.status is not None and none.status.tolist() == [Status.NOT_APPLICABLE]


def test_fences() -> None:
    assert program_text("x = 1") == "x = 1"
    assert program_text("Here:\n```python\nx = 1\n```\nand\n```python\nx = 2\n```\nthen\n```bash\nls\n```") == "x = 2\n"
    assert program_text("```\ny\n```") == "y\n" and program_text("```python\nz = 1\ncut off") == "z = 1\ncut off"
    assert program_text("```js\na\n```\n```python\nb\n```", languages=("js",)) == "a\n"
    assert program_text("s = 'an ``` inside'") == "s = 'an ``` inside'"


@pytest.mark.parametrize(
    ("tests", "words"),
    [("assert 1", "tests are a list"), ([1], "tests are a list"), (["assert ("], "test 0 is no Python"), (3, "a list")],
)
def test_tests_that_are_none(tests: Any, words: str) -> None:
    with pytest.raises(SteelyardError, match=f"row 0: .*{words}"):
        scores(ADD, tests=tests)


@pytest.mark.parametrize("weights", [[1], [1, 1, 1, -1], [0, 0, 0, 0], [1, 1, 1, float("nan")]])
def test_weights_that_do_not_fit(weights: list[float]) -> None:
    with pytest.raises(SteelyardError, match="test_weights"):
        scores(ADD, test_weights=weights)


def test_a_completion_that_is_no_text() -> None:
    with pytest.raises(SteelyardError, match="row 0: a completion"):
        scores(5)


PROGRAM = """
import math
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from dataclasses import dataclass
from decimal import Decimal
from enum import IntEnum
from fractions import Fraction
MOD = 7
Point = namedtuple("Point", "x y")
class Colour(IntEnum):
    RED = 1
class TooSmall(ValueError): pass
class Stack:
    def __init__(self, items=()): self.items = list(items)
    def push(self, x): self.items.append(x); return self
    def pop(self): return self.items.pop()
    def __len__(self): return len(self.items)
    def __eq__(self, other): return self.items == other.items
    def __iter__(self): return iter(self.items)
    def __repr__(self): return f"Stack({self.items})"
    def __enter__(self): return self
    def __exit__(self, *a): self.items.clear()
    def __add__(self, other): return Stack(self.items + other.items)
@dataclass
class Node:
    value: int
    next: object = None
def same(x): return x
def sort(x): x.sort()
def nested(x): x["a"].append(1); x["b"] = {2}
def point(): return Point(1, 2)
def red(): return Colour.RED
def raising(x):
    if x < 0: raise TooSmall("less than nothing")
    return {}[x]
def lazily(n):
    for i in range(n): yield i
def mapped(f, xs): return [f(x) for x in xs]
def counted(xs): return Counter(xs)
def chain(): return Node(1, Node(2))
def says(x): print("it is", x)
def adder(n): return lambda x: x + n
def default(): d = defaultdict(list); d["a"].append(1); return d
def safe(f):
    try: return f()
    except ZeroDivisionError: return "caught"
def check(x): return x == 1
class MyList(list):
    def first(self): return self[0]
def mine(): return MyList([1, 2])
"""

FORMS = {
    "plain values": "for x in (1, 'a', 2.5, None, True, [1, (2, 3)], {1: {'a'}}, b'x', 3j, 10**5000, float('inf'), "
    "'\\ud800\\0', frozenset({1}), range(3), ..., -0.0):\n    r = same(x)\n    assert r == x and type(r) is type(x)",
    "types of the library": "from decimal import Decimal\nfrom fractions import Fraction\nimport datetime, collections\n"
    "for x in (Decimal('1.5'), Fraction(1, 3), datetime.date(2020, 1, 2), datetime.timedelta(1, 2), "
    "datetime.datetime(2020, 1, 2, 3), collections.deque([1]), collections.OrderedDict(a=1), collections.Counter('aab')):\n"
    "    assert same(x) == x and type(same(x)) is type(x)",
    "values of the program": "assert MOD == 7 and counted('aab') == {'a': 2, 'b': 1} and default() == {'a': [1]}",
    "tuples with names": "p = point()\nassert p == (1, 2) and p.x == 1 and p[1] == 2 and list(p) == [1, 2]",
    "enums": "assert red() == 1 and red() + 1 == 2 and red().name == 'RED' and red() == Colour.RED",
    "arguments changed in place": "x = [3, 1, 2]\ny = x\nsort(x)\nassert y == [1, 2, 3]\nd = {'a': []}\nnested(d)\n"
    "assert d == {'a': [1], 'b': {2}}",
    "exceptions": "try:\n    raising(5)\n    assert False\nexcept KeyError as e:\n    assert e.args == (5,)",
    "exceptions of the program": "try:\n    raising(-1)\n    assert False, 'no'\nexcept TooSmall as e:\n"
    "    assert isinstance(e, ValueError) and str(e) == 'less than nothing'",
    "generators": "assert list(lazily(3)) == [0, 1, 2]\ng = lazily(2)\nassert next(g) == 0 and next(g) == 1\n"
    "try:\n    next(g)\n    assert False\nexcept StopIteration:\n    pass",
    "functions given": "seen = []\nassert mapped(lambda x: seen.append(x) or x * 2, [1, 2]) == [2, 4] and seen == [1, 2]\n"
    "assert mapped(int, ['1']) == [1]\nimport math\nassert mapped(math.sqrt, [4]) == [2.0]",
    "exceptions of functions given": "def f(): return 1 / 0\nassert safe(f) == 'caught'",
    "functions returned": "assert adder(2)(3) == 5",
    "classes": "s = Stack([1]).push(2).push(3)\nassert s.pop() == 3 and len(s) == 2 and s.items == [1, 2]\n"
    "assert Stack([1]) == Stack([1]) and Stack([1]) != Stack([2]) and repr(s) == 'Stack([1, 2])'\n"
    "assert isinstance(s, Stack) and not isinstance(3, Stack) and list(s) == [1, 2] and 2 in s and 5 not in s\n"
    "assert (Stack([1]) + Stack([2])).items == [1, 2]\ns.items = [9]\nassert s.items == [9]\nassert not Stack()\n"
    "with s as t:\n    assert t.items == [9]\nassert s.items == []",
    "linked objects": "n, seen = chain(), []\nwhile n:\n    seen.append(n.value)\n    n = n.next\nassert seen == [1, 2]",
    "subclasses of builtins": "m = mine()\nassert m == [1, 2] and m.first() == 1 and sorted(m) == [1, 2] and m != [1]",
    "what it prints": "import io, contextlib\nout = io.StringIO()\nwith contextlib.redirect_stdout(out):\n    says(5)\n"
    "assert out.getvalue() == 'it is 5\\n'",
    "modules that it imported": "assert math.floor(2.5) == 2",
    "functions of the test": "def double(x):\n    return same(x) * 2\nassert [double(i) for i in range(3)] == [0, 2, 4]",
    "files that it reads": "open('/tmp/given', 'w').write('5')\nassert same(open('/tmp/given').read()) == '5'",
    "async": "import asyncio\nasync def go():\n    return same(3)\nassert asyncio.run(go()) == 3",
}


@pytest.fixture(scope="module")
def worker() -> Any:
    with Worker(Limits(seconds=10.0)) as made:
        yield made


@needs_bubblewrap
@pytest.mark.parametrize("name", FORMS)
def test_forms_of_tests(worker: Worker, name: str) -> None:
    outcome = worker.judge(PROGRAM, [FORMS[name]])
    assert outcome == Outcome((True,), ("",))


@needs_bubblewrap
def test_a_program_cannot_stand_in_for_the_tests_names(worker: Worker) -> None:
    program = "abs = len = lambda x: 0\nclass math: fabs = staticmethod(lambda x: 0)\ndef f(): return 5.0"
    found = worker.judge(program, ["assert abs(f()) == 0", "assert math.fabs(f()) == 0", "assert f() == 5.0"])
    assert found.passed == (False, False, True)


@needs_bubblewrap
def test_a_function_that_the_program_binds_anew_is_the_new_one(worker: Worker) -> None:
    program = "def f(): return 1\ndef start():\n    global f\n    f = lambda: 2"
    assert worker.judge(program, ["start()\nassert f() == 2"]).passed == (True,)
    assert (
        worker.judge("def f(): return 1", ["f = lambda: 3\nassert f() == 3", "assert f() == 3"]).passed == (True,) * 2
    )


def test_a_program_is_told_only_names_that_the_tests_want_of_it(worker: Worker) -> None:
    tells = "import sys\nnames = sys._getframe(1).f_locals['names']\ndef f(x): return names\ndef told(): return names"
    tests = ["secret = 7\nfor each in (1,):\n    assert f(secret) == ['f', 'told']", "assert told() == ['f', 'told']"]
    assert worker.judge(tells, tests).passed == (True, True)


def test_only_plain_values_where_objects_are_refused(worker: Worker) -> None:
    program = "class A:\n def startswith(self, x): return True\ndef f(): return A()\ndef g(): return 'abc'"
    tests = ["assert f().startswith('a')", "assert g().startswith('a')"]
    assert worker.judge(program, tests).passed == (True, True)
    assert worker.judge(program, tests, objects=False).passed == (False, True)


@needs_bubblewrap
def test_what_a_test_may_not_give_is_said(worker: Worker) -> None:
    outcome = worker.judge("def f(x): return x", ["class T: pass\nf(T())"])
    assert outcome.passed is None and "a T of its own" in outcome.error


@needs_bubblewrap
def test_time_is_limited_for_each_test_and_for_all() -> None:
    program = "def f(x):\n while x: pass\n return 1"
    with Worker(Limits(seconds=1.0, total_seconds=2.5)) as worker:
        found = worker.judge(program, ["f(0)", "f(1)", "f(0)", "f(1)", "f(1)", "f(0)"])
        swallowing = worker.judge(program, ["while True:\n try: f(1)\n except BaseException: pass"])
    assert found.passed == (True, False, True, False, False, False) and "no time is left" in found.why[-1]
    assert swallowing.passed == (False,)


@needs_bubblewrap
def test_a_killed_sandbox_is_started_anew() -> None:
    with Worker(Limits()) as worker:
        worker.process.kill()
        worker.process.wait()
        assert worker.judge(ADD, ["assert add(1, 2) == 3"]).passed == (True,)


@needs_bubblewrap
def test_a_pool_keeps_the_order() -> None:
    from steelyard.rewards.sandbox import Job

    with Pool(Limits(), workers=2) as pool:
        found = pool.judge([Job(f"x = {i}", [f"assert x == {i % 3}"]) for i in range(40)])
    assert [outcome.passed for outcome in found] == [(i < 3,) for i in range(40)]


def test_without_bubblewrap_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    bubblewrap.find_bubblewrap.cache_clear()
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(SteelyardError, match=r"apt-get install bubblewrap.*unsafe=True"):
        Worker(Limits())
    bubblewrap.find_bubblewrap.cache_clear()


def test_the_unsafe_runner_is_chosen_explicitly_and_judges_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    found = score_one(code_tests.using(unsafe=True, workers=1), completion=ADD, tests=TESTS)
    assert found.values.tolist() == [0.5]
    crashing = "import os\ndef add(a, b): os._exit(0)"
    assert score_one(code_tests.using(unsafe=True, workers=1), completion=crashing, tests=TESTS).values.tolist() == [0]


@needs_bubblewrap
def test_programs_in_any_language() -> None:
    cases = [{"input": "1 2", "output": "3\n"}, {"input": "5 5", "output": "11"}]
    python = "a, b = map(int, input().split())\nprint(a + b)"
    found = score_one(output_tests, completion=f"```python\n{python}\n```", cases=cases)
    assert found.values.tolist() == [0.5] and found.steps is not None and found.steps.tolist() == [[1, 0]]
    if shutil.which("perl"):
        perl = "```perl\nmy ($a, $b) = split ' ', <STDIN>; print $a + $b, \"\\n\";\n```"
        reward = output_tests.using(command=("perl", "main.pl"), file="main.pl", languages=("perl",))
        assert score_one(reward, completion=perl, cases=cases).values.tolist() == [0.5]
    with pytest.raises(SteelyardError, match="cases are a list"):
        score_one(output_tests, completion="x", cases=[{"in": "1"}])


@needs_bubblewrap
def test_commands_are_held_to_their_limits() -> None:
    limits = Limits(seconds=10.0, output=1000, memory=256 << 20)
    python = [bubblewrap.interpreter(), "-S", "-c"]
    assert run_command([*python, "while True: pass"], limits=Limits(seconds=0.5)).stopped == "timed out"
    loud = run_command([*python, "while True: print('x' * 99)"], limits=limits)
    assert loud.stopped == "too much output" and len(loud.stdout) == 1000
    assert run_command([*python, "b'x' * 10**10"], limits=limits).code == 1
    assert run_command([*python, "import os; os.fork()"], limits=limits).code == 1
    assert (
        b"'note'" in run_command([*python, "import os; print(os.listdir())"], files={"note": "x"}, limits=limits).stdout
    )
    assert run_command(["/no/such"], limits=limits).stderr == b"/no/such: No such file or directory\n"
    with pytest.raises(SteelyardError, match="no file name"):
        run_command(["true"], files={"../x": ""})


def test_limits_are_checked() -> None:
    with pytest.raises(SteelyardError, match="seconds is 0"):
        Limits(seconds=0)
    with pytest.raises(SteelyardError, match="64 MiB"):
        Limits(memory=1)


def test_importing_the_rewards_starts_nothing() -> None:
    code = "import steelyard.rewards, threading; print(threading.active_count())"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "1\n"
