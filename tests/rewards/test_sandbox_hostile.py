"""Hostile programs, really run: none scores, none harms, and the next honest program in the same worker is right."""
# ruff: noqa: E501 (programs as they are run)

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from steelyard.rewards.sandbox import Limits, Outcome, Worker
from tests.rewards.hostile_programs import PROGRAMS, TESTS

pytestmark = pytest.mark.skipif(
    shutil.which("bwrap") is None, reason="needs bubblewrap (Debian: apt-get install bubblewrap)"
)

HONEST = "def f(x):\n    return x * x + 17\n"
LIMITS = Limits(seconds=0.4, total_seconds=0.8, memory=192 << 20, files=2 << 20, output=1 << 20)


def judged_honest(worker: Worker) -> Outcome:
    """The honest program, with all the time that a busy machine may need."""
    worker.limits = replace(LIMITS, seconds=10.0, total_seconds=20.0)
    try:
        return worker.judge(HONEST, TESTS)
    finally:
        worker.limits = LIMITS


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    with Worker(LIMITS) as made:
        yield made


@pytest.fixture
def patient(worker: Worker) -> Iterator[Worker]:
    """The same worker, with time enough for a busy machine."""
    worker.limits = replace(LIMITS, seconds=10.0, total_seconds=20.0)
    yield worker
    worker.limits = LIMITS


def descendants(pid: int) -> int:
    """How many processes live below one."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return len(children) + sum(descendants(int(child)) for child in children)


def settled(worker: Worker, at_most: int) -> int:
    """Descendants of a worker, once they are no more than expected, or after two seconds."""
    for _ in range(100):
        count = descendants(worker.process.pid)
        if count <= at_most:
            break
        time.sleep(0.02)
    return count


def test_there_are_enough() -> None:
    assert len(PROGRAMS) >= 60


def test_the_honest_program_passes_every_test(worker: Worker) -> None:
    assert judged_honest(worker).passed == (True,) * len(TESTS)


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_hostile_program_gains_nothing(worker: Worker, name: str) -> None:
    judged_honest(worker)
    before, server = descendants(worker.process.pid), worker.process.pid
    outcome = worker.judge(PROGRAMS[name], TESTS)
    assert outcome.passed == (False,) * len(TESTS), outcome
    assert all(outcome.why) and not outcome.error
    after = judged_honest(worker)
    assert after.passed == (True,) * len(TESTS), after.why
    assert worker.process.pid == server, "the sandbox had to be started anew"
    assert settled(worker, before) <= before, "it left processes behind"


MARKS = """
import os
def f(where):
    made = []
    for path in where:
        try:
            with open(path, 'a') as file: file.write('x')
            made.append(path)
        except OSError: pass
    return made
"""


def test_nothing_is_written_outside(patient: Worker, tmp_path: Path) -> None:
    places = [
        str(tmp_path / "x"),
        str(Path.cwd() / "x"),
        str(Path.home() / "x"),
        f"{os.path.dirname(sys.executable)}/x",
    ]
    assert patient.judge(MARKS, [f"assert f({places!r}) == []"]).passed == (True,)
    assert not any(Path(place).exists() for place in places)


LEAVES = {
    "a file": "open('/tmp/left', 'w').write('42')",
    "a hidden folder": "import os\nos.makedirs('/tmp/.a/b')\nos.chmod('/tmp/.a', 0)",
    "a module": "open('/tmp/math.py', 'w').write('sqrt = 1')\nopen('/tmp/random.py', 'w').write('x = 1')",
    "rights": "import os\nos.chmod('/tmp', 0)",
    "times": "import os\nos.utime('/tmp', (42, 42))",
    "an attribute": "import os\ntry: os.setxattr('/tmp', 'user.left', b'42')\nexcept OSError: pass",
    "a socket": "import socket\ns = socket.socket(socket.AF_UNIX)\ns.bind('/tmp/s')\ns.listen()\n"
    "t = socket.socket(socket.AF_UNIX)\nt.bind('\\0left')\nt.listen()",
    "a lock": "import fcntl\nh = open('/tmp/lock', 'w')\nfcntl.flock(h, fcntl.LOCK_EX)",
    "a full disk": "n = 0\ntry:\n while True:\n  n += 1\n  open(f'/tmp/{n}', 'wb').write(bytes(10**6))\nexcept OSError: pass",
    "a thread": "import threading, time\ndef run():\n while True: open('/tmp/again', 'w').write('x')\n"
    "threading.Thread(target=run, daemon=True).start()\ntime.sleep(0.01)",
    "builtins": "import builtins, math, sys\nbuiltins.len = lambda x: 42\nmath.sqrt = len\nsys.path.insert(0, '/tmp')",
}  # fmt: skip
LOOKS = """
import math, os, socket, sys
def f():
    state = os.stat('/tmp')
    try:
        socket.socket(socket.AF_UNIX).connect('\\0left')
        heard = 1
    except OSError:
        heard = 0
    open('/tmp/room', 'wb').write(bytes(10**6))
    found = sorted(os.listdir('/tmp'))
    return found, os.listxattr('/tmp'), oct(state.st_mode), state.st_mtime > 10**6, heard, math.sqrt(4), '/tmp' in sys.path
"""


@pytest.mark.parametrize("name", LEAVES)
def test_nothing_is_left_for_a_later_program(patient: Worker, name: str) -> None:
    assert patient.judge(LEAVES[name] + "\ndef f(): return 1", ["f()"]).passed is not None
    clean = "assert f() == (['room'], [], '0o40700', True, 0, 2.0, False)"
    outcome = patient.judge(LOOKS, [clean])
    assert outcome.passed == (True,), outcome.why


def test_a_program_of_the_same_job_starts_anew_after_a_crash(patient: Worker) -> None:
    program = "import os\nopen('/tmp/x', 'a').write('x')\nn = 0\ndef f(x):\n global n\n n += 1\n return os._exit(0) if x else n"
    outcome = patient.judge(program, ["assert f(0) == 1", "assert f(0) == 2", "f(1)", "assert f(0) == 1"])
    assert outcome.passed == (True, True, False, True)


SEES = """
import os, socket
def f():
    try:
        socket.socket(socket.AF_INET)
        inet = True
    except OSError:
        inet = False
    return (os.getpid(), sorted(os.listdir('/')), dict(os.environ), os.path.exists('/proc/self'), inet,
            sorted(os.listdir('/dev')), os.listdir('/tmp'), os.getcwd())
"""


@pytest.mark.parametrize("open_before", [17, 18, 19, 90])
def test_no_descriptor_of_ours_reaches_a_program(open_before: int) -> None:
    program = """
import os
def f():
    kinds = []
    for fd in range(5000):
        try: os.fstat(fd)
        except OSError: continue
        kinds.append(fd)
        if fd > 2 and fd != 20: os.write(fd, b'{"tests":[[true,""]]}')
    return kinds
"""
    files = [open(os.devnull) for _ in range(open_before)]  # noqa: SIM115
    try:
        with Worker(replace(LIMITS, seconds=10.0, total_seconds=20.0)) as worker:
            assert worker.judge(program, ["assert f() == [0, 1, 2, 20]", "assert f() == 5"]).passed == (True, False)
            assert worker.judge(HONEST, TESTS).passed == (True,) * len(TESTS)
    finally:
        for file in files:
            file.close()


def test_what_a_program_sees(patient: Worker) -> None:
    test = """
import os
pid, root, environment, proc, inet, devices, files, folder = f()
assert pid == 1 and not proc and not inet and files == [] and folder == '/tmp'
assert not set(root) & {'home', 'work', 'mnt', 'proc', 'sys', 'run', 'var', 'srv', 'opt'}
assert devices == ['full', 'null', 'random', 'urandom', 'zero']
assert set(environment) <= {'PATH', 'HOME', 'LANG', 'PYTHONHASHSEED', 'PWD', 'LC_CTYPE'}
"""
    outcome = patient.judge(SEES, [test])
    assert outcome.passed == (True,), outcome.why


def test_the_sandbox_ends_with_us() -> None:
    code = (
        "from steelyard.rewards.sandbox import Limits, Outcome, Worker; import os, sys\n"
        "w = Worker(Limits()); w.judge('x = 1', ['assert x == 1']); print(w.process.pid, flush=True)\n"
        "os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    child = int(done.stdout)
    for _ in range(100):
        if not Path(f"/proc/{child}").exists() or Path(f"/proc/{child}/stat").read_text().split()[2] == "Z":
            return
        time.sleep(0.02)
    raise AssertionError("the sandbox lived on")


def test_no_network_reaches_us(patient: Worker) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        port = server.getsockname()[1]
        program = f"import socket\ndef f(): return socket.create_connection(('127.0.0.1', {port}), 1)"
        assert patient.judge(program, ["f()"]).passed == (False,)
        with pytest.raises(TimeoutError):
            server.accept()
