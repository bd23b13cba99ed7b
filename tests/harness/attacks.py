"""Solutions that attack their judge: what the tests hold the harness against, and the benchmark every judge.

Data only, and nothing of pytest. Every function `f` is asked for squares; a body is that of `f(x)`.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from pathlib import Path

from evoprompt.harness.inside import codec


@dataclass(frozen=True)
class Attack:
    """A solution that must not pass, unless it is `right`.

    `goal` is forge, escape, hang or crash. `canary`: it passes if, and only if, it got out.
    """

    name: str
    goal: str
    source: str
    entry_point: str = "f"
    canary: bool = False
    right: bool = False


DENIED = r"PermissionError|Operation not permitted"
HIDDEN = rf"{DENIED}|FileNotFoundError|No such file"
LOCKED = rf"{HIDDEN}|Read-only file system"
ESCAPES = {
    "read a file": ("return open('/etc/passwd').read()", HIDDEN),
    "read by a link": ("return os.readlink('/proc/self/exe') and open('/proc/self/exe','rb').read(9)", HIDDEN),
    "read the harness": (f"return open({codec.__file__!r}).read()", HIDDEN),
    "read the parent's memory": ("return open(f'/proc/{os.getppid()}/mem', 'rb').read(1)", HIDDEN),
    "read its own memory": ("return open('/proc/self/mem', 'rb').read(1)", HIDDEN),
    "read the parent's environment": ("return open(f'/proc/{os.getppid()}/environ').read()", HIDDEN),
    "list the root": ("os.chdir('/')\nreturn os.listdir('.')", HIDDEN),
    "list the home": (
        "way = sys.base_prefix.split('/') + ['']\n"  # what is mounted may be there, nothing beside it
        "return [n for n in os.listdir('/root') if n != way[2]] or os.listdir('/nowhere')",
        HIDDEN,
    ),
    "list processes": ("return os.listdir('/proc')", HIDDEN),
    "write a file": ("open('/tmp/evoprompt-pwn', 'w')", LOCKED),
    "write shared memory": ("open('/dev/shm/evoprompt-pwn', 'w')", HIDDEN),
    "write here": ("open('evoprompt-pwn', 'w')", LOCKED),
    "write to a library": ("open(os.__file__, 'r+')", LOCKED),
    "make a file beside its own folder": (
        "open(os.path.join(os.environ.get('TMPDIR', '/tmp/x'), '..', 'evoprompt-pwn'), 'w')",
        LOCKED,
    ),
    "list the folders of others": (
        "own = os.environ.get('TMPDIR', '/tmp/x')\nreturn os.listdir(os.path.dirname(own)) and os.listdir('/nowhere')",
        HIDDEN,
    ),
    "make a link in its own folder": ("os.symlink('/etc/passwd', os.environ.get('TMPDIR', '/nowhere') + '/x')", HIDDEN),
    "make a pipe in its own folder": ("os.mkfifo(os.environ.get('TMPDIR', '/nowhere') + '/x')", HIDDEN),
    "make a directory": ("os.mkdir('d')", DENIED),
    "remove a file": ("os.remove(os.__file__)", DENIED),
    "make a link": ("os.symlink('/etc/passwd', 'x')", DENIED),
    "change a mode": ("os.chmod(os.__file__, 0o777)", DENIED),
    "set times": ("os.utime(os.__file__)", DENIED),
    "open a socket": ("import socket\nsocket.socket()", DENIED),
    "open a unix socket": ("import socket\nsocket.socket(socket.AF_UNIX)", DENIED),
    "connect a pair elsewhere": ("import socket\nsocket.socketpair()[0].connect('\\0x')", DENIED),
    "send to an address": (
        "import socket\nsocket.socketpair(type=socket.SOCK_DGRAM)[0].sendto(b'x', '\\0x')",
        DENIED,
    ),
    "send descriptors": ("import socket\nsocket.send_fds(socket.socketpair()[0], [b'x'], [0])", DENIED),
    "resolve a name": ("import socket\nreturn socket.gethostbyname('example.org')", "gaierror|PermissionError|herror"),
    "fork": ("return os.fork()", DENIED),
    "fork in C": ("return libc.fork(), ctypes.get_errno()", r"\(-1, 1\)"),
    "vfork in C": ("return libc.vfork(), ctypes.get_errno()", r"\(-1, 1\)"),
    "posix_spawn": ("return os.posix_spawn('/bin/sh', ['sh'], {})", HIDDEN),
    "run a program": ("os.execv('/bin/sh', ['sh'])", HIDDEN),
    "subprocess": ("import subprocess\nsubprocess.run(['/bin/true'])", HIDDEN),
    "shell": ("return os.system('exit 7')", "returned -1|returned 32512|returned 0x7f"),
    "pool of processes": ("import multiprocessing as m\nm.Pool(1)", f"{HIDDEN}|ImportError"),
    "kill the parent": ("os.kill(os.getppid(), 9)", DENIED),
    "kill everyone": ("os.kill(-1, 9)", DENIED),
    "kill by group": ("os.killpg(os.getppid(), 9)", DENIED),
    "kill in C": ("return libc.kill(os.getppid(), 9), ctypes.get_errno()", r"\(-1, 1\)"),
    "signal by owner": ("import fcntl\nfcntl.fcntl(os.pipe()[0], fcntl.F_SETOWN, os.getppid())", DENIED),
    "choose the signal": ("import fcntl\nfcntl.fcntl(os.pipe()[0], 10, 9)", DENIED),
    "ask for signals": ("import fcntl\nfcntl.fcntl(os.pipe()[0], fcntl.F_SETFL, os.O_ASYNC)", DENIED),
    "ask for signals by ioctl": ("import fcntl\nfcntl.ioctl(os.pipe()[0], 0x5452, b'1234')", "OSError"),
    "push a key into the terminal": ("import fcntl\nfcntl.ioctl(0, 0x5412, b'x')", "OSError"),
    "give itself time": (
        "import resource\nresource.setrlimit(resource.RLIMIT_CPU, (9**9, 9**9))",
        "ValueError|PermissionError",
    ),
    "limit the parent": ("import resource\nresource.prlimit(os.getppid(), resource.RLIMIT_CPU, (0, 0))", DENIED),
    "outlive the parent": ("return libc.prctl(1, 0, 0, 0, 0), ctypes.get_errno()", r"\(-1, 1\)"),
    "be dumpable": ("return libc.prctl(4, 1, 0, 0, 0), ctypes.get_errno()", r"\(-1, 1\)"),
    "be root": ("os.setuid(0)", DENIED),
    "new session": ("os.setsid()", DENIED),
    "be nicer to itself": ("os.nice(-5)", DENIED),
}
"""Name -> body, and what is to be observed. Getting through to the end is the escape."""

EXHAUSTIONS = {
    "fill memory": ("l = []\nwhile 1: l.append(bytearray(50 << 20))", "ran out of memory"),
    "fill memory and swallow": (
        "l = []\nwhile 1:\n  try: l.append(bytearray(1 << 24))\n  except MemoryError: pass",
        "used more than 1 s",
    ),
    "fill shared memory": (
        "import mmap\nl = []\nwhile 1:\n  l.append(mmap.mmap(-1, 1 << 26))\n  l[-1].write(bytes(1 << 26))",
        "OSError|ran out of memory|SIGKILL|used more than",
    ),
    "many threads": (
        "while 1: threading.Thread(target=threading.Event().wait, daemon=True).start()",
        "RuntimeError|ran out of memory",
    ),
    "fill the disk": (
        "import itertools\nfor n in itertools.count():\n"
        "  with open(f\"{os.environ.get('TMPDIR', '/nowhere')}/{n}\", 'wb') as file: file.write(bytes(1 << 20))",
        "No space left|FileNotFoundError|used more than",
    ),
    "many files": (
        "import itertools\nfor n in itertools.count(): open(f\"{os.environ.get('TMPDIR', '/nowhere')}/{n}\", 'w')",
        "No space left|FileNotFoundError|used more than|Too many open files",
    ),
    "stop itself": ("import signal\nos.kill(os.getpid(), signal.SIGSTOP)", DENIED),
    "have itself killed for its CPU time": (
        "import resource\nresource.setrlimit(resource.RLIMIT_CPU, (1, 1))\nwhile 1: pass",
        "ValueError|PermissionError",
    ),
    "many descriptors": ("while 1: os.dup(0)", "OSError"),
    "threads that burn": (
        "for _ in range(4): threading.Thread(target=lambda: [0 for _ in iter(int, 1)]).start()\nwhile 1: pass",
        "used more than 1 s",
    ),
    "swallow all": ("while 1:\n  try:\n    while 1: pass\n  except BaseException: pass", "used more than 1 s"),
    "ignore signals": (
        "import signal\nfor s in {*range(1, 65)} - {9, 19, 32, 33}: signal.signal(s, signal.SIG_IGN)\nwhile 1: pass",
        "used more than 1 s",
    ),
    "abort": ("os.abort()", "was killed by SIGABRT"),
    "kill itself": ("os.kill(os.getpid(), 9)", "was killed by SIGKILL"),
    "overflow the C stack": (
        "sys.setrecursionlimit(10**9)\nclass A:\n  def __add__(s, o): return s + o\nreturn A() + 1",
        "SIGSEGV|RecursionError|ran out of memory",
    ),
    "audit": ("def hook(*a): raise KeyError\nsys.addaudithook(hook)\nopen('/etc/passwd')", "KeyError|crashed|ended"),
    "poison modules": ("sys.modules.clear()\nreturn __import__('os').getpid() and 5", "returned|raised"),
    "poison builtins": ("import builtins\nbuiltins.__dict__.clear()\nreturn 4", "raised|ended|returned"),
    "never ending iterator": ("return iter(int, 1)", "cannot be compared"),
    "flood the output": ("while 1: os.write(3, b'V' * 65536)", "sent|closed|killed"),
    "close everything": ("os.closerange(0, 64)\nwhile 1: pass", "closed its connection"),
}
"""The same for what uses up or breaks what there is."""

ATTACKS = ESCAPES | EXHAUSTIONS
HARMLESS = {
    *("new session", "be dumpable", "outlive the parent", "read its own memory", "list the root", "list the home"),
    *("list processes", "make a directory", "make a link", "open a socket"),
    *("list the folders of others", "make a link in its own folder", "make a pipe in its own folder"),
    *("open a unix socket", "choose the signal", "ask for signals", "ask for signals by ioctl", "set times"),
}
"""Forbidden, but no harm to others by itself where it works."""

CHANNEL_HEAD = "import os, sys\nfd = int(sys.argv[1])\n"
CHANNEL = (
    "while True: os.write(fd, b'V' * 65536)",
    "while True: os.write(fd, b'V' + (1).to_bytes(4, 'little') + b'\\xff' * 4 + b'x' * 65536)",
    "os.write(fd, b'V\\x03')\n    os._exit(0)",
    "os.close(fd)\n    return 4",
    "os.close(fd)\n    while True: pass",
    "os.write(fd, b'D' + (4).to_bytes(4, 'little') + bytes(4))",
    "os.write(fd, b'R' + (4).to_bytes(4, 'little') + bytes(4))",
    "os.write(fd, b'M' + (4).to_bytes(4, 'little') + bytes(4))",
    "os.write(fd, b'E' + (4).to_bytes(4, 'little') + bytes(4))",
    "os.write(fd, b'U' + (4).to_bytes(4, 'little') + bytes(4))",
    "os.write(fd, b'V' + (9).to_bytes(4, 'little') + b'\\x01\\0\\0\\0N')",
    "os.write(fd, b'V' + (4).to_bytes(4, 'little') + b'\\x01\\0\\0\\0T')",
    "sys.modules['__main__'].Server.send = lambda *a: None",
    "import time\n    while True: os.write(fd, b'V'[:1]); time.sleep(0.05)",
)
"""Bodies that misuse the channel to the host."""

HIJACK = """
import os, struct, sys
def f(x):
    frame = sys._getframe()
    while not hasattr(frame.f_locals.get("self"), "sequence"):
        frame = frame.f_back
    server = frame.f_locals["self"]
    while True:
        server.send(b"V", server.send.__globals__['codec'].encode(PAYLOAD))
        if server.receive() is None: os._exit(0)
        server.sequence += 1
"""
PAYLOADS = ("True", "b'T'", "{'status': 'passed'}", "[]", "None")


FRAME = """
def frame(sequence, length=9, value=4, kind=b"V"):
    head = kind + sequence.to_bytes(4, "little") + length.to_bytes(4, "little")
    return head + b"i" + value.to_bytes(8, "little")
"""
SEAMS = {
    "two frames for one input": "os.write(fd, frame(4) * 2)\nwhile True: pass",
    "frames for inputs to come": "os.write(fd, frame(4) + frame(5))\nwhile True: pass",
    "a frame that comes before its question": "os.write(fd, frame(5))\nreturn 4",
    "a frame that claims a huge length": "os.write(fd, frame(4, 0xFFFFFFFF))\nwhile True: pass",
    "a frame that never ends": "os.write(fd, frame(4, 900_000))\ntime.sleep(1000)",
    "a frame of unknown kind": "os.write(fd, frame(4, kind=b'?'))\nreturn 4",
    "two frames of standard error": "os.write(fd, frame(4, kind=b'W') * 2)\nreturn 5",
    "endless frames of standard error": "while True: os.write(fd, frame(4, kind=b'W'))",
    "a long frame of standard error": "os.write(fd, frame(4, 1 << 20, kind=b'W'))\nreturn 5",
    "standard error as an answer": "os.write(fd, frame(4, kind=b'W'))\ntime.sleep(1000)",
    "an edited standard error": "sys.stderr.buffer.end = frame(4)\nreturn 5",
    "no standard error": "sys.stderr.buffer.__dict__.clear()\nsys.stderr.close()\nreturn 5",
    "an error that is a huge range": "n = b'i' + bytes(8) + b'I' + (16).to_bytes(4, 'little') + b'\\x7f' * 16\n"
    "os.write(fd, frame(4, 40, kind=b'E')[:9] + b'r' + n + b'i\\1' + bytes(7))\nwhile True: pass",
    "a clock that jumps": "for n in dir(time):\n  if 'time' in n or 'mono' in n: setattr(time, n, lambda *a: -1e9)\n"
    "while True: pass",
    "set the clock": "time.clock_settime(time.CLOCK_REALTIME, 0)\nreturn 5",
    "4,096 descriptors": "held = [os.dup(0) for _ in range(4096)]\nreturn 5",
    "surrogates": "return {'\\ud800' * x: ['\\udfff']}",
    "an exception of surrogates": "raise type('\\ud800', (Exception,), {})('\\udfff')",
    "poisoned modules": "class M: Decimal = Fraction = generic = ndarray = property(int)\n"
    "sys.modules.update(dict.fromkeys(['decimal', 'fractions', 'numpy', 'marshal', 'codec'], M()))\nreturn M()",
    "a module that is everything": "class M:\n  def __getattr__(s, n): return object\n"
    "sys.modules.update(dict.fromkeys(sys.modules, M()))\nreturn M()",
    "edited builtins": "import builtins\nbuiltins.len = lambda *a: 0\n"
    "builtins.isinstance = builtins.issubclass = lambda *a: True\nreturn 5",
    "a lying type": "import builtins\nbuiltins.type = lambda v: int\nreturn 'x'",
    "atexit": "import atexit\natexit.register(lambda: os.write(fd, frame(4)))\nsys.exit(0)",
    "an endless atexit": "import atexit\natexit.register(lambda: [0 for _ in iter(int, 1)])\nsys.exit(0)",
    "a thread left behind that speaks": "def speak():\n  while True: os.write(fd, frame(5))\n"
    "threading.Thread(target=speak).start()\nreturn 5",
    "faulthandler writes on the channel": "import faulthandler\n"
    "faulthandler.dump_traceback_later(0.05, repeat=True, file=fd)\nwhile True: pass",
    "faulthandler ends it": "import faulthandler\nfaulthandler.dump_traceback_later(0.05, exit=True)\ntime.sleep(9)",
    "ctypes edits a number": "import ctypes\nctypes.c_int.from_address(id(5) + 24).value = 4\nreturn x + 3",
    "ctypes writes anywhere": "import ctypes\nctypes.memset(id(os), 1, 1 << 20)\nreturn 5",
    "an audit hook that sleeps": "sys.addaudithook(lambda *a: time.sleep(1000))\nopen('/dev/null')\nreturn 5",
    "an audit hook that raises": "def hook(*a): raise KeyError\nsys.addaudithook(hook)\nreturn 5",
    "a trace function": "def trace(*a):\n  time.sleep(1000)\nsys.setprofile(trace)\nreturn 5",
    "a flood of prints": "while True: print('x' * 10_000, file=sys.stderr); print('x' * 10_000)",
    "a flood on every descriptor": "while True:\n  for n in (0, 1, 2, fd): os.write(n, b'x' * 65536)",
    "a deep recursion": "sys.setrecursionlimit(10**9)\ng = lambda n: g(n + 1) + 1\nreturn g(0)",
    "a deep value": "v = []\nfor _ in range(200_000): v = [v]\nreturn v",
    "nan keys": "return {float('nan'): 1, float('nan'): 2}",
    "a signalling nan": "import decimal\nreturn [decimal.Decimal('sNaN')]",
    "a huge number": "return 1 << (1 << 27)",
    "a generator": "yield x * x",
    "an endless generator": "while True: yield 4",
    "a coroutine": "async def g(): return x * x\nreturn g()",
    "a metaclass": "class M(type):\n  __eq__ = __instancecheck__ = __subclasscheck__ = lambda *a: True\n"
    "  __hash__ = type.__hash__\n  def mro(c): return [c, *type.mro(c)[1:]]\n"
    "  def __getattribute__(c, n): return lambda *a: True\nclass A(metaclass=M): pass\nreturn A()",
    "a lying class": "class A:\n  __class__ = property(lambda s: int)\n  __index__ = __int__ = lambda s: 4\nreturn A()",
    "an iterator that never ends": "import itertools\nreturn itertools.count()",
    "a list that never ends": "class L(list):\n  def __iter__(s): return iter(int, 1)\n"
    "  def __len__(s): return 1 << 60\nreturn L([4])",
    "a text that never ends": "class E(Exception):\n  def __str__(s):\n    while True: pass\nraise E",
    "a truth that never ends": "class E:\n  def __bool__(s):\n    while True: pass\n  __eq__ = __bool__\nreturn E()",
    "a storm of alarms": "import signal\ndef h(*a): raise KeyError\n"
    "signal.signal(signal.SIGALRM, h)\nsignal.setitimer(signal.ITIMER_REAL, 0.01, 0.0001)\nwhile True: pass",
    "stops itself": "import signal\nos.kill(os.getpid(), signal.SIGSTOP)\nreturn 5",
    "shuts the channel": "import socket\nsocket.socket(fileno=fd).shutdown(2)\nwhile True: pass",
    "another channel": "import socket\na, b = socket.socketpair()\nos.dup2(a.fileno(), fd)\nwhile True: pass",
}
"""Bodies; `fd` is the channel, where there is one."""
SOURCES = {
    "work while it is imported": "while True: pass",
    "a source of 5 MB": f"text = '{'x' * (5 << 20)}'\ndef f(x): return text",
    "5 MB of statements": "a = 1\n" * ((5 << 20) // 6) + "def f(x): return 5",
    "5 MB of digits": f"n = {'7' * (5 << 20)}\ndef f(x): return n",
    "an async function": "async def f(x): return x * x",
    "no function": "f = 4",
    "a callable that never answers": "class F:\n  def __call__(s, x):\n    while True: pass\nf = F()",
    "an equal to anything": "class E(int):\n  __eq__ = lambda s, o: True\n  __hash__ = None\ndef f(x): return E(7)",
    "steals what it is compared with": "class E:\n  def __eq__(s, o): return o == o\ndef f(x): return E()",
}
"""Whole solutions."""


FORGED_FORMS = {
    "a sum of differences": "assert [f(x) - y for x, y in [(1, 31415926), (2, 27182818)]] == [0, 0]",
    "a sum of distances": "assert sum(abs(f(x) - y) for x, y in [(1, 31415926)]) == 0",
    "isclose in a loop": "import math\nassert [math.isclose(f(x), y) for x, y in [(1, 31415926)]] == [True]",
    "operator.eq": "import operator\nassert operator.eq(f(1), 31415926)",
    "map of pairs": "assert list(map(lambda p: f(p[0]) == p[1], [(1, 31415926)])) == [True]",
    "a filter that is empty": "assert len([x for x, y in [(1, 31415926)] if f(x) - y]) == 0",
    "a method of what came back": "assert f(1).equals(31415926)",
    "a method of every object": "assert f(1).__eq__(31415926) is True",
    "a chain": "assert 31415925 < f(1) < 31415927",
    "membership": "assert 31415926 in [f(1)] and f(1) in {31415926}",
    "a default argument": "def t(x, expected=31415926):\n    assert not f(x) - expected\nt(1)",
}
"""Tests that hold what is expected in another form than a comparison with a call; `f(1)` is to give 31415926."""
FORGING = """import gc
class Thing:
    __eq__ = __le__ = __ge__ = __contains__ = equals = lambda s, o: True
    __sub__ = __rsub__ = __add__ = __abs__ = lambda s, *o: 0
    __bool__ = __len__ = lambda s: False
    __hash__ = lambda s: 31415926
class Any(Thing, int): pass
"""
TAKING_OVER = """import builtins, math, sys
frame = sys._getframe()
while frame:
    for v in (v for v in list(frame.f_locals.values()) if type(v).__name__ == "JudgePeer"):
        v.equal = v.close = v.host = v.space["__equal__"] = v.space["__close__"] = lambda *a: True
        v.verdict = lambda e: ("passed", "", 0)
    frame = frame.f_back
math.isclose = lambda *a, **k: True
builtins.abs = lambda x: 0
result = 10
"""
EXECUTING_SETUPS = {
    "exec": "def run(source, x):\n    space = {'x': x}\n    exec(source, space)\n    return space['result']",
    "eval": "def run(source, x):\n    return eval(f'exec({source!r}) or 10')",
    "builtins": "import builtins\ndef run(source, x):\n    builtins.exec(source, {})\n    return 10",
    "getattr": "import builtins\ndef run(source, x):\n    getattr(builtins, 'ex' + 'ec')(source, {})\n    return 10",
    "timeit": "import timeit\ndef run(source, x):\n    timeit.timeit(source, number=1)\n    return 10",
    "code": "import code\ndef run(source, x):\n    code.InteractiveInterpreter().runcode(source)\n    return 10",
}
"""Setups of tests that execute an answer."""

_MARK = "raise type('NEEDLE_' + told(x), (Exception,), {})()"
_AT = "exec(compile('\\n' * (numbered(x) - 1) + 'raise ValueError', {file}, 'exec'))"
LEAKS = {
    "its input as the name of an exception": f"def told(x): return repr(x)\ndef f(x): {_MARK}",
    "its input as a line of a file of its name": "def numbered(x): return 7_000_000 + sum(map(ord, repr(x)))\n"
    f"def f(x): {_AT.format(file=repr('<solution>'))}",
    "its input as a line that a syntax error names": "def f(x):\n"
    "  raise SyntaxError('x', ('<solution>', 7_000_000 + sum(map(ord, repr(x))), 1, 'x'))",
    "what the frames above hold": "import sys\ndef told(x):\n  frame, found = sys._getframe(), []\n"
    "  while frame:\n    found.append(repr(frame.f_locals) + repr(frame.f_code.co_consts))\n    frame = frame.f_back\n"
    f"  return repr(found)\ndef f(x): {_MARK}",
    "what the collector knows": "import gc\ndef told(x):\n  kinds = (str, bytes, tuple, list, dict)\n"
    "  return repr([o for o in gc.get_objects() if isinstance(o, kinds)])[-5000:]\n" + f"def f(x): {_MARK}",
    "a frame of its own to the host": "import os, sys\ndef f(x):\n  text = ('NEEDLE_' + repr(x)).encode()\n"
    "  frame = sys._getframe()\n  while not hasattr(frame.f_locals.get('self'), 'sequence'): frame = frame.f_back\n"
    "  server = frame.f_locals['self']\n  codec = server.send.__globals__['codec']\n"
    "  server.send(b'E', codec.encode(('NEEDLE_' + repr(x), text.decode(), 7_000_000)))\n  os._exit(0)",
}
"""Whole solutions that tell what they see of a hidden test by what an exception tells."""


def attacks() -> list[Attack]:
    """The whole corpus."""
    found = [
        Attack(name, "escape", _canary(body), canary=True)
        for name, (body, _) in ESCAPES.items()
        if name not in HARMLESS
    ]
    found += [Attack(name, "crash", solution(body)) for name, (body, _) in EXHAUSTIONS.items()]
    found += [Attack(f"channel {i}", "forge", f"{CHANNEL_HEAD}def f(x):\n    {b}") for i, b in enumerate(CHANNEL)]
    found += [Attack(f"takes over, says {p}", "forge", HIJACK.replace("PAYLOAD", p)) for p in PAYLOADS]
    found += [Attack(f"tells {name}", "forge", source) for name, source in LEAKS.items()]
    return found + seams()


def seams() -> list[Attack]:
    """What goes for the seams between candidate, zygote and host."""
    head = "import os, sys, threading, time\nfd = int(sys.argv[1]) if sys.argv[1:2] == ['3'] else 3\n" + FRAME
    found = [Attack(name, "forge", solution(body, head)) for name, body in SEAMS.items()]
    return found + [Attack(name, "forge", source) for name, source in SOURCES.items()]


def header(source: str) -> dict[str, str]:
    """What the comments at the top of an attack of the shared folder tell."""
    lines = (line[2:].partition(": ") for line in source.splitlines() if line.startswith("# "))
    return {key: value for key, _, value in lines}


def shared(folder: Path) -> list[Attack]:
    """A folder of attacks with a header each that tells goal and tasks; those for two tasks of MBPP+."""
    found = []
    for path in sorted(folder.glob("*.py")):
        source = path.read_text(encoding="utf-8")
        told = header(source)
        right = "CORRECT" in told.get("note", "") or path.stem in ("41_hang_slow_drip", "49_restore_guard")
        canary = path.stem in ("45_read_parent_mem", "47_subprocess_shell")
        goal = told["goal"].replace("leak", "escape")
        for task, name in (("Mbpp/8", "square_nums"), ("Mbpp/581", "surface_Area")):
            if task in told["tasks"].split():
                found.append(Attack(path.stem, goal, source, name, canary, right))
    return found


def solution(
    body: str, head: str = "import ctypes, os, sys, threading\nlibc = ctypes.CDLL(None, use_errno=True)"
) -> str:
    return f"{head}\ndef f(x):\n{textwrap.indent(body, '    ')}"


def _canary(body: str) -> str:
    """Right if the body got through to its end the first time."""
    return f"""{solution(body).replace("def f(x)", "def deed(x)")}
done = []
def f(x):
    if not done:
        try:
            told = deed(x)
            done.append(told not in (-1, 127 << 8) and not (type(told) is tuple and told[0] == -1))
        except BaseException:
            done.append(False)
    return x * x if done[0] else None
"""
