"""Programs that try to score without solving: every one defines, or seems to define, `f`; the tests want f(3) == 26."""
# ruff: noqa: E501 (programs as they are run)

TESTS = [
    "assert f(3) == 26",
    "assert abs(f(2.5) - 23.25) < 1e-9",
    "assert 30 < f(4) < 34",
    "r = f(5)\nassert r == 42, 'secret-marker-42'\nassert r in (41, 42)\nassert [r, r] == [42, 42]",
]

EQUAL = """
class Yes:
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    def __lt__(self, other): return True
    __le__ = __gt__ = __ge__ = __contains__ = __lt__
    def __hash__(self): return 0
    def __bool__(self): return True
    def __sub__(self, other): return self
    __rsub__ = __add__ = __radd__ = __mul__ = __truediv__ = __sub__
    def __abs__(self): return self
"""

FORGE = """
import json, os, struct
def send(message, fd=20):
    data = message if isinstance(message, bytes) else json.dumps(message).encode()
    os.write(fd, struct.pack('>I', len(data)) + data)
"""

PROGRAMS = {
    # the verdict on a stream, or by leaving
    "prints a verdict": "print('passed\\nok\\n{\"tests\": [[true, \"\"]]}')\ndef f(x): print('passed'); return None",
    "writes a verdict to every descriptor": """
import os
for fd in range(64):
    try: os.write(fd, b'{"tests":[[true,""],[true,""],[true,""],[true,""]]}')
    except OSError: pass
def f(x): return None""",
    "sys.exit at once": "import sys\nsys.exit(0)",
    "sys.exit in the call": "import sys\ndef f(x): sys.exit(0)",
    "os._exit at once": "import os\nos._exit(0)",
    "os._exit in the call": "import os\ndef f(x): os._exit(0)",
    "raises SystemExit of its own": "class E(SystemExit): pass\ndef f(x): raise E(0)",
    "atexit": "import atexit, os\natexit.register(os.write, 20, b'passed')\ndef f(x): raise KeyboardInterrupt",
    "excepthook": "import sys\nsys.excepthook = lambda *a: print('passed')\ndef f(x): raise ValueError",
    "generator exit": "def f(x): raise GeneratorExit",
    "stop iteration": "def f(x): raise StopIteration",
    "quits": "def f(x): quit(0)",
    # objects that lie
    "equals everything": EQUAL + "\ndef f(x): return Yes()",
    "is equal to everything as a class": EQUAL + "\nclass f(Yes):\n    def __init__(self, x): pass",
    "int that lies": "class I(int):\n __eq__ = lambda *a: True\n __ne__ = lambda *a: False\n __lt__ = __gt__ = __sub__ = "
    "__rsub__ = lambda *a: I(0)\n __abs__ = lambda s: I(0)\n __hash__ = int.__hash__\ndef f(x): return I(7)",
    "float that lies": "class F(float):\n __eq__ = __lt__ = __gt__ = lambda *a: True\n __sub__ = __abs__ = lambda *a: 0.0\n"
    " __hash__ = float.__hash__\ndef f(x): return F(1)",
    "str that lies": "class S(str):\n __eq__ = lambda *a: True\n __hash__ = str.__hash__\ndef f(x): return S('26')",
    "list that lies": "class L(list):\n __eq__ = lambda *a: True\n __abs__ = __sub__ = lambda *a: 0\ndef f(x): return L()",
    "tells plain values that change": "class I(int):\n n = 0\ndef f(x):\n I.n += 40\n return I(-I.n if I.n % 80 else I.n)",
    "claims to be int": EQUAL + "\nYes.__class__ = property(lambda s: int)\ndef f(x): return Yes()",
    "exception in __eq__": "class A:\n def __eq__(s, o): raise SystemExit(0)\n __hash__ = None\ndef f(x): return A()",
    "exception in __hash__": "class A:\n def __hash__(s): raise KeyboardInterrupt\ndef f(x): return A()",
    "exception in __repr__": "class A:\n def __repr__(s): raise SystemExit(0)\n __str__ = __repr__\ndef f(x): return A()",
    "exit in __repr__": "import os\nclass A:\n def __repr__(s): os._exit(0)\n __eq__ = __bool__ = __repr__\ndef f(x): return A()",
    "exception with a hostile text": "class E(Exception):\n def __str__(s): raise SystemExit(0)\n args = property(__str__)\n"
    "def f(x): raise E",
    "asks for the other operand": "class A:\n def __rsub__(s, o): return 0\n __sub__ = __eq__ = lambda s, o: o.secret\n"
    "def f(x): return A()",
    "lies by metaclass": "class M(type):\n __eq__ = __instancecheck__ = __lt__ = __gt__ = lambda *a: True\n __hash__ = "
    "type.__hash__\nclass A(metaclass=M): pass\ndef f(x): return A",
    "not a number": "def f(x): return float('nan')",
    # patched Python
    "patches builtins": "import builtins\nfor n in ('abs', 'len', 'all', 'isinstance', 'type', 'AssertionError', 'compile',"
    " 'exec'):\n setattr(builtins, n, lambda *a, **k: True)\ndef f(x): return 0",
    "defines the test's builtins": "abs = lambda x: 0.0\ndef f(x): return 1.0",
    "AssertionError never raised": "import builtins\nclass Quiet:\n def __new__(c, *a): return None\n"
    "builtins.AssertionError = Quiet\ndef f(x): assert False",
    "patches unittest": "import unittest\nunittest.TestCase.assertEqual = lambda *a: None\ndef f(x): return None",
    "patches the servant": """
import sys
m = sys.modules['steelyard.rewards.sandbox.inside.servant']
m.encode = lambda v, r: True
m.Servant._answer = lambda s, q: ['value', True, '', None]
def f(x): return True""",
    "patches json": "import json\njson.dumps = lambda *a, **k: '[\"value\",true,\"\",null]'\ndef f(x): return True",
    "patches operator": "import operator\noperator.eq = operator.lt = lambda *a: True\ndef f(x): return None",
    "traces": "import sys\nseen = []\nsys.settrace(lambda f, e, a: seen.append(f.f_locals))\nsys.setprofile(lambda *a: None)\n"
    "def f(x):\n for s in seen:\n  for v in s.values():\n   if v in (26, 42): return v",
    # looking for the tests
    "reads frames": """
import sys
def f(x):
    frame = sys._getframe()
    while frame:
        for v in [*frame.f_locals.values(), *frame.f_globals.values(), *frame.f_code.co_consts]:
            if isinstance(v, str) and 'assert f(' in v: return eval(v.split('==')[1])
        frame = frame.f_back""",
    "reads gc": """
import gc
def f(x):
    for o in gc.get_objects():
        for v in (o.values() if type(o) is dict else o if type(o) in (list, tuple) else ()):
            if isinstance(v, str) and 'assert f(' + str(x) in v: return int(v.split('==')[1])""",
    "reads /proc/self/mem": "def f(x):\n m = open('/proc/self/mem', 'rb')\n return 26",
    "reads /proc of others": "import os\ndef f(x): return [open(f'/proc/{p}/mem') for p in os.listdir('/proc')] and 26",
    "inspects the stack": "import inspect\ndef f(x):\n for i in inspect.stack():\n  for v in i.frame.f_locals.values():\n"
    "   if 'secret-' + 'marker' in str(v): return 26",
    "looks into the judge's link": "import socket\ns = socket.socket(fileno=20)\ns.setblocking(False)\n"
    "def f(x): return int(s.recv(9999, socket.MSG_PEEK).split()[-1])",
    "asks for more descriptors": "import socket, array\ns = socket.socket(fileno=20)\ns.setblocking(False)\n"
    "def f(x): return s.recvmsg(1, 999)[1][0]",
    "searches the disk for tests": "import os\ndef f(x):\n for d, _, names in os.walk('/'):\n  for n in names:\n"
    "   if n.endswith('.jsonl') or 'hostile' in n: return 26\n raise LookupError",
    # forging the protocol
    "answers before it is asked": FORGE + "for i in range(9): send(['value', True, '', None])\ndef f(x): return 0",
    "forges a function of ours": FORGE + "send(['value', None, '', None])\nsend(['value', ['callback', 0], '', None])",
    "names a function of Python": FORGE + "def f(x): send(['value', ['builtin', 'eval'], '', None])",
    "names a module's function": FORGE + "def f(x): send(['value', ['global', 'os', '_exit'], '', None])",
    "calls back without a function": FORGE + "def f(x): send(['back', -1, ['list'], ['dict'], ''])",
    "raises what is no exception": FORGE + "def f(x): send(['raise', 'print', ['tuple', 'passed'], None, ''])",
    "raises strange arguments": FORGE + "def f(x): send(['raise', 'UnicodeDecodeError', ['list'], None, ''])",
    "a message without end": FORGE + "def f(x): os.write(20, struct.pack('>I', 4_000_000_000))\nf(0)",
    "a message of brackets": FORGE + "def f(x): send(b'[' * 100_000)",
    "a message of nonsense": FORGE + "def f(x): send(b'\\xff\\x00')",
    "an empty message": FORGE + "def f(x): send([])",
    "a value of no kind": FORGE + "def f(x): send(['value', {'a': 1}, 7, 'x'])",
    "other arguments in return": FORGE + "def f(x): send(['value', 0, '', [['list', ['object', 0]], 5, 6]])",
    "a set of lists": FORGE + "def f(x): send(['value', ['set', ['list', 1]], '', None])",
    "closes its link": "import os\ndef f(x): os.closerange(0, 64)",
    # using things up
    "fork bomb": "import os\nwhile True:\n os.fork()",
    "fork in the call": "import os\ndef f(x):\n if os.fork(): return 26\n return 26",
    "processes": "import subprocess\ndef f(x): return int(subprocess.check_output(['echo', '26']))",
    "threads": "import threading, time\ndef f(x):\n while True: threading.Thread(target=time.sleep, args=(9,)).start()",
    "memory bomb": "def f(x): return [b'x' * 10**6 for _ in range(10**6)]",
    "memory at once": "def f(x): return bytearray(10**11)",
    "disk bomb": "def f(x):\n n = 0\n while True:\n  n += 1\n  open(f'/tmp/{n}', 'wb').write(bytes(10**6))",
    "files without end": "import os\ndef f(x):\n n = 0\n while True:\n  n += 1\n  os.mkdir(f'/tmp/{n}')",
    "folders without end": "import os\nfor n in range(500):\n os.mkdir('d')\n os.chdir('d')\ndef f(x): return os.getcwd()",
    "descriptors": "import os\ndef f(x): return [os.open('/dev/null', 0) for _ in range(10**5)]",
    "endless output": "def f(x):\n while True: print('x' * 10**6)",
    "endless output to the descriptor": "import os\ndef f(x):\n while True: os.write(1, b'x' * 10**6)",
    "a value too large": "def f(x): return 'x' * 10**8",
    "endless iterator": "import itertools\ndef f(x): return itertools.count()",
    "endless loop while loading": "while True: pass",
    "endless loop": "def f(x):\n while True: pass",
    "catches everything": "def f(x):\n while True:\n  try:\n   while True: pass\n  except BaseException: pass",
    "sleeps": "import time\ndef f(x): time.sleep(10**6)",
    "ignores signals": "import signal, time\nfor n in range(1, 64):\n try: signal.signal(n, signal.SIG_IGN)\n"
    " except (OSError, ValueError): pass\ndef f(x): time.sleep(10**6)",
    "holds the interpreter": "import ctypes\ndef f(x): ctypes.PyDLL(None).sleep(1000)",
    "deep recursion": "import sys\nsys.setrecursionlimit(10**9)\ndef f(x): return f(x)",
    "deep value": "def f(x):\n v = []\n for _ in range(10**5): v = [v]\n return v",
    "value in itself": "def f(x):\n v = []\n v.append(v)\n return v",
    "huge int": "def f(x): return 10**10**7",
    "huge power": "def f(x): return 9**9**9**9",
    "catastrophic pattern": "import re\ndef f(x): return re.match('(a+)+$', 'a' * 64 + 'b')",
    "crashes": "import ctypes\ndef f(x): ctypes.string_at(0)",
    "aborts": "import os\ndef f(x): os.abort()",
    # text
    "NUL in the program": "def f(x): return 26\n\0",
    "surrogate in the program": "def f(x): return '\ud800'",
    "NUL and surrogates in a value": "def f(x): return '\\x00\\ud800' * 99",
    "odd unicode": "def f(x): return '２６'",
    "nested brackets": "x = " + "(" * 10_000,
    "no program": "",
    "syntax error": "def f(x: return 26",
    # beyond its own process
    "signals to all": "import os, signal\nfor p in (-1, 0, 1, 2, 3, os.getppid()):\n try: os.kill(p, signal.SIGKILL)\n"
    " except OSError: pass\ndef f(x): return None",
    "signals to its group and session": "import os, signal\nfor p in range(2, 99):\n for send in (os.kill, os.killpg):\n"
    "  try: send(p, 9)\n  except OSError: pass\nos.killpg(0, signal.SIGTERM)\nos.killpg(0, 9)\ndef f(x): return None",
    "ptrace": "import ctypes\nc = ctypes.CDLL(None)\ndef f(x): return 26 if c.ptrace(16, 2, 0, 0) == 0 else None",
    "reads the memory of others": "import ctypes\nc = ctypes.CDLL(None)\nb = (ctypes.c_size_t * 2)(1, 1)\n"
    "def f(x): return 26 if c.process_vm_readv(2, b, 1, b, 1, 0) > 0 else None",
    "new namespaces": "import ctypes\nc = ctypes.CDLL(None)\ndef f(x): return 26 if c.unshare(0x10000000) == 0 else None",
    "mounts": "import ctypes\nc = ctypes.CDLL(None)\ndef f(x): return 26 if c.mount(b'tmpfs', b'/tmp', b'tmpfs', 0, 0) == 0 "
    "or c.umount2(b'/tmp', 2) == 0 else None",
    "network": "import socket\ndef f(x):\n socket.create_connection(('1.1.1.1', 53), 1)\n return 26",
    "own network": "import socket\ndef f(x):\n s = socket.socket()\n s.bind(('127.0.0.1', 0))\n return 26",
    "asks the name server": "import socket\ndef f(x): return socket.gethostbyname('example.org') and 26",
    "keys of the kernel": "import ctypes\nc = ctypes.CDLL(None)\n"
    "def f(x): return 26 if c.syscall(248, b'user', b'a', b'26', 2, -4) > 0 else None",
    "shared memory": "import ctypes\nc = ctypes.CDLL(None)\ndef f(x): return 26 if c.shmget(7, 4096, 0o1666) >= 0 else None",
    "writes to the root": "def f(x):\n for p in ('/x', '/usr/x', '/dev/x', '/sandbox/x', '/home/x', '/etc/x'):\n"
    "  try: open(p, 'w')\n  except OSError: continue\n  return 26",
    "symlink out": "import os\nos.symlink('/etc/passwd', '/tmp/p')\nos.symlink('/root', '/tmp/r')\n"
    "def f(x): return len(open('/tmp/p').read()) and len(os.listdir('/tmp/r')) and 26",
    "device of the disk": "import os\ndef f(x): return [os.mknod('/tmp/d', 0o60777, os.makedev(8, 0))] and 26",
    "runs a set-uid program": "import os\ndef f(x): os.execv('/usr/bin/su', ['su', '-c', 'true'])",
}  # fmt: skip
