import copy
import os
import pickle
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from evoprompt.errors import DataError, SandboxError
from evoprompt.harness import Harness, Limits
from evoprompt.harness.inside.codec import AS_VALUE, encode
from evoprompt.harness.sandbox import launch
from evoprompt.harness.sandbox import pool as sandbox_module
from evoprompt.harness.sandbox.pool import Sandbox
from evoprompt.harness.sandbox.process import Process
from evoprompt.tasks import Task

SMALL = Limits(cpu_seconds=0.5, wall_seconds=60.0, memory_mb=256, output_mb=1)


@pytest.fixture(scope="module")
def small():
    with Harness(limits=SMALL) as harness:
        yield harness


def run(harness, solution, *tests, **options):
    return harness.check_asserts(solution, "f", tests or ("assert f(2) == 4",), **options)


def task(**fields):
    fields = {"task_id": "t/1", "prompt": "p", "entry_point": "f", "base": ("assert f(2) == 4",)} | fields
    return Task(**fields)


SQUARE = "def f(x):\n    return x * x\n"


@pytest.mark.parametrize(
    ("solution", "status", "observed"),
    [
        (SQUARE, "passed", "returned 4"),
        ("def f(x):\n    return 3", "failed", "returned 3"),
        ("def f(x):\n    print(x * x)", "failed", "returned None"),
        ("def f(x):\n    return (4,)", "failed", "returned (4,)"),
        ("def f(x):\n    yield 4", "failed", "returned an object that cannot be compared: it is no plain data"),
        ("def f(x):\n    a = []\n    a.append(a)\n    return a", "failed", "cannot be compared: it contains itself"),
        ("def f(x):\n    return object()", "failed", "cannot be compared"),
        ("def f(x):\n    return 'x' * (2 << 20)", "failed", "cannot be compared: it is too large"),
        ("def f(x):\n    return {}['a']", "error", "raised KeyError: 'a' (line 2)"),
        ("def g():\n    raise ValueError\ndef f(x):\n    g()", "error", "raised ValueError (line 2)"),
        ("import sys\ndef f(x):\n    sys.exit(0)", "error", "raised SystemExit: 0 (line 3)"),
        ("def f(x):\n    exit()", "error", "raised SystemExit"),
        ("def f(x):\n    return input()", "error", "raised EOFError"),
        ("def f(x):\n    return math.floor(4)", "error", "raised NameError: name 'math' is not defined (line 2)"),
        ("def f(x):\n    return f(x)", "error", "raised RecursionError"),
        ("import nothing_like_this", "error", "raised ModuleNotFoundError"),
        ("1 / 0\n" + SQUARE, "error", "raised ZeroDivisionError: division by zero (line 1)"),
        ("def g(x):\n    return 4", "error", "does not define `f`"),
        ("def f(x):\n    while True:\n        pass", "timeout", "used more than 0.5 s"),
        ("while True:\n    pass", "timeout", "used more than 0.5 s"),
        ("import os\ndef f(x):\n    while True:\n        os.write(1, b'x' * 65536)", "timeout", "more than 0.5 s"),
        ("import os\ndef f(x):\n    os._exit(0)", "crashed", "ended its own process (exit status 0)"),
        ("import os\nos._exit(0)", "crashed", "ended its own process (exit status 0)"),
        ("import ctypes\ndef f(x):\n    ctypes.string_at(0)", "crashed", "was killed by SIGSEGV"),
        ("def f(x):\n    return len(bytearray(1 << 30))", "crashed", "ran out of memory (limit 256 MB)"),
        ("import os\ndef f(x):\n    os.killpg(0, 9)", "crashed", "was killed by SIGKILL"),
        ("def f(x) return", "invalid", "SyntaxError: expected ':' (line 1)"),
        ("def f(x):\n    return 1\0", "invalid", "null bytes"),
        ("return 4", "invalid", "'return' outside function (line 1)"),
        ("(" * 3000, "invalid", "too many nested parentheses"),
        ("x = " + "-" * 200_000 + "1", "invalid", "nested"),
        ("x = '\ud800'", "invalid", "UnicodeEncodeError"),
        ("", "invalid", "is empty"),
        (" \n\t", "invalid", "is empty"),
    ],
)
def test_statuses(small, solution, status, observed):
    result = run(small, solution)
    assert (result.status, result.total, len(result.cases)) == (status, 1, 1)
    assert observed in result.cases[0].observed
    assert result.passed == (status == "passed")


ERRORS = "import sys\nprint('loading', file=sys.stderr)\n"


@pytest.mark.parametrize(
    ("solution", "test", "stderr"),
    [
        (ERRORS + "def f(x): print('x is', x, file=sys.stderr)", "assert f(2) == 4", "x is 2"),
        (
            ERRORS + "def f(x): print('x is', x, file=sys.stderr)",
            "assert all([f(i) for i in (1, 2)])",
            "x is 1\nx is 2",
        ),
        (ERRORS + "def f(x): print('x is', x, file=sys.stderr)", "a = f(1)\nassert a == f.__name__", "x is 1"),
        (ERRORS + "raise ValueError", "assert f(2) == 4", "loading"),
        ("import warnings\ndef f(x): warnings.warn('odd')", "assert f(2) == 4", "<solution>:2: UserWarning: odd"),
        ("import sys\ndef f(x): sys.stderr.write('a\\x1b[31m\\0')", "assert f(2) == 4", r"a\x1b[31m\x00"),
        ("import sys\ndef f(x): sys.stderr.buffer.write(b'\\xff')", "assert f(2) == 4", "\ufffd"),
        ("import sys\ndef f(x): sys.stderr.write('a' * 10**6 + 'b')", "assert f(2) == 4", "… " + "a" * 1999 + "b"),
        (
            "import sys\ndef f(x): print('no', file=sys.stderr)",
            "import contextlib, io\nwith contextlib.redirect_stderr(io.StringIO()) as b:\n    f(2)\n"
            "assert b.getvalue() == 'yes'",
            "no",
        ),
        (ERRORS + SQUARE, "assert f(2) == 5", ""),
        ("import sys\ndef f(x): print('two'[x - 2], file=sys.stderr)", "assert f(2) is None", ""),
    ],
)
def test_standard_error_of_what_does_not_pass(small, solution, test, stderr):
    (case,) = run(small, solution, test).cases
    assert case.stderr == stderr
    assert ("stderr" in case.model_dump()) == bool(stderr)


def test_standard_error_is_that_of_the_test_alone(small):
    told = "import sys\ndef f(x):\n    print(x, file=sys.stderr)\n    return x"
    result = run(small, told, "assert f(1) == 1", "assert f(2) == 0", "assert f(3) in (3,)", "assert f(4) in (5,)")
    assert [case.stderr for case in result.cases] == ["", "2", "", "4"]


def test_sleeping_ends_at_the_wall(small):
    harness = Harness(limits=Limits(cpu_seconds=0.5, wall_seconds=0.3))
    result = run(harness, "import time\ndef f(x):\n    time.sleep(1000)")
    assert (result.status, result.cases[0].observed) == ("timeout", "did not answer within 0.3 s")


def test_a_stopped_reader_does_not_block_the_host():
    harness = Harness(limits=Limits(cpu_seconds=0.3, wall_seconds=0.6))
    argument = "x" * 3_000_000
    result = run(harness, "import time\ndef f(x): time.sleep(100)", f"assert f({argument!r}) == 4")
    assert result.status == "timeout"


@pytest.mark.parametrize(
    "solution",
    [
        "import threading, time\nthreading.Thread(target=lambda: time.sleep(1000)).start()\n" + SQUARE,
        "import os, contextlib\nwith contextlib.suppress(OSError): os.rmdir(os.getcwd())\n" + SQUARE,
        "import atexit, time\natexit.register(lambda: time.sleep(1000))\n" + SQUARE,
        "class A:\n    def __del__(self):\n        while True: pass\na = A()\n" + SQUARE,
        SQUARE + "if __name__ == '__main__':\n    raise SystemExit(1)",
        SQUARE + "import sys\nsys.stdout.write('x' * 100000)\nprint('y', file=sys.stderr)\n",
        "def g(n):\n    return 0 if n == 0 else 1 + g(n - 1)\ndef f(x):\n    return g(100_000) - 100_000 + x * x",
        "import signal\nfor s in (1, 2, 15): signal.signal(s, signal.SIG_IGN)\n" + SQUARE,
        "from dataclasses import dataclass\n@dataclass\nclass P:\n    x: int\ndef f(x): return P(x).x ** 2",
        "from enum import IntEnum\nclass C(IntEnum):\n    A = 4\ndef f(x): return C.A",
        "def f(x): return 4 if x is 2 else '\\d'",
    ],
)
def test_odd_but_right(small, solution):
    assert run(small, solution).status == "passed"


def test_numpy_works_where_it_is_installed(small):
    pytest.importorskip("numpy")
    solution = "import numpy as np\ndef f(x):\n    return np.int64(x) ** 2"
    harness = Harness(limits=Limits(cpu_seconds=4))
    assert run(harness, solution).status == "passed"
    truth = "import numpy as np\ndef f(x):\n    return np.bool_(True)"
    assert run(harness, truth, "assert f(1)", "assert f(1) == True").passed == 2
    assert run(harness, truth, "assert f(1) is True").status == "failed"


@pytest.mark.parametrize(
    ("returned", "test", "status"),
    [
        ("None", "assert f(1) is None", "passed"),
        ("re.match('a', 'a')", "assert f(1)", "passed"),
        ("re.match('a', 'a')", "assert f(1) is not None and not not f(2)", "passed"),
        ("re.match('a', 'a')", "assert f(1) is None", "failed"),
        ("re.match('a', 'a')", "assert f(1) is True", "failed"),
        ("re.match('a', 'a')", "assert f(1) == True", "failed"),
        ("2", "import operator\nassert operator.eq(f(1), 2)", "passed"),
        ("True", "assert f(1) is True", "passed"),
        ("1", "assert f(1) is True", "failed"),
        ("[]", "assert not f(1)", "passed"),
        ("[0]", "assert f(1)", "passed"),
        ("0.1 + 0.2", "assert f(1) == 0.3", "failed"),
        ("0.1 + 0.2", "assert math.isclose(f(1), 0.3)", "passed"),
        ("0.1 + 0.2", "assert abs(f(1) - 0.3) < 1e-6", "passed"),
        ("[3, 1, 3]", "assert set(f(1)) == set([1, 3])", "passed"),
        ("(i for i in range(3))", "assert list(f(1)) == [0, 1, 2]", "passed"),
        ("{1: {2}}", "assert f(1)[1] == {2}", "passed"),
        ("{1: {2}}", "assert f(1).get(1).issubset({2, 3})", "passed"),
        ("Counter('aab')", "assert f(1).most_common(1) == [('a', 2)]", "passed"),
        ("OrderedDict(a=1)", "assert list(f(1).items()) == [('a', 1)]", "passed"),
        ("deque([1])", "assert f(1).popleft() == 1", "passed"),
        ("Decimal('1.5')", "assert f(1) == Decimal('1.50')", "passed"),
        ("120", "assert f(1) == math.factorial(5) and f(2) == 120", "passed"),
        ("120", "assert f(1) == math.factorial(5) and f(2) == 121", "failed"),
        ("3", "assert 2 < f(1) < 4", "passed"),
        ("3", "assert f(1).upper() == 'A'", "failed"),
        ("3", "assert helper(f(1)) == 6", "passed"),
        ("x * x", "assert [f(i) for i in range(3)] == [0, 1, 4]", "passed"),
        ("x * x", "assert [f(i) for i in range(3)] == [0, 1, 5]", "failed"),
        ("x * x", "for i in range(3):\n    assert f(i) == i * i", "passed"),
        ("x + ''", "try:\n    f(1)\nexcept TypeError:\n    pass\nelse:\n    assert False", "passed"),
        ("x + ''", "for i in range(3):\n    assert f(i) == i * i", "error"),
    ],
)
def test_forms_of_asserts(small, returned, test, status):
    solution = f"import re\nfrom collections import *\nfrom decimal import Decimal\ndef f(x):\n    return {returned}"
    setup = "from decimal import Decimal\ndef helper(x):\n    return 2 * x"
    result = run(small, solution, test, setup=setup)
    assert result.status == status, result.cases


def test_whole_tests_are_marked_and_run_apart(small):
    solution = (
        "import gc\nseen = []\ndef f(x):\n    seen.append(x)\n"
        "    needle = ''.join(['3141592', '6535897'])\n"
        "    return 4 if x == 2 else [s for s in map(str, gc.get_objects()) if needle in s][:1]"
    )
    apart = "import inspect\nassert all(f(x) == 4 for x in [2] if 31415926535897 and inspect)"
    tests = [apart, "assert f(2) == 4", "assert f(3) == []"]
    result = run(small, solution, *tests)
    assert [c.whole for c in result.cases] == [True, False, False]
    assert result.status == "passed", result.cases


def test_a_tolerance(small):
    tests = ["assert f(1) == 0.3", "assert f(1) == 3 / 10", "assert [f(1)] == [0.3]", "assert f(1) == undefined"]
    solution = "def f(x):\n    return 0.1 + 0.2"
    assert [c.status for c in run(small, solution, *tests, atol=1e-6).cases] == ["passed"] * 3 + ["failed"]
    assert [c.status for c in run(small, solution, *tests).cases] == ["failed"] * 4


def test_state_is_kept_between_calls_and_errors_end_nothing(small):
    solution = "n = 0\ndef f(x):\n    global n\n    n += 1\n    return 1 // x if x == 0 else n"
    result = run(small, solution, "assert f(1) == 1", "assert f(0) == 1", "assert f(1) == 3")
    assert [c.status for c in result.cases] == ["passed", "error", "passed"]
    assert (result.status, result.passed, result.total) == ("error", 2, 3)


def test_a_crash_ends_the_suite(small):
    solution = "import os\ndef f(x):\n    if x == 2: os._exit(0)\n    return x"
    tests = [f"assert f({i}) == {i}" for i in range(5)]
    result = run(small, solution, *tests[:4], "assert all(f(i) == i for i in [0])")
    assert [c.status for c in result.cases] == ["passed", "passed", "crashed"]
    assert (result.status, result.passed, result.total) == ("crashed", 2, 5)


def test_the_total_time_of_a_suite_is_limited():
    harness = Harness(limits=Limits(cpu_seconds=0.4, total_cpu_seconds=0.5))
    solution = "import time\ndef f(x):\n    end = time.process_time() + 0.2\n    while time.process_time() < end: pass"
    result = run(harness, solution, *["assert f(1) is None"] * 9)
    assert result.cases[-1].status == "timeout" and len(result.cases) < 5
    assert result.cases[-1].observed == "used more than 0.5 s in all"


def test_a_report():
    with Harness(limits=SMALL) as harness:
        wanted = task(plus=("assert f(3) == 9", "assert f(-1) == 1"))
        report = harness.check(wanted, SQUARE)
        assert report.passed and report.tier == harness.tier in sandbox_module.TIERS
        assert report.base and report.plus and report.cpu_seconds > 0
        assert (report.base.total, report.plus.total) == (1, 2)
        assert [c.index for c in report.plus.cases] == [0, 1]
        report = harness.check(wanted, "def f(x):\n    return 4")
        assert report.status == "failed" and report.base and report.base.status == "passed"
        assert [(c.suite, c.index, c.call, c.test) for c in report.failures] == [
            ("plus", 0, "f(3)", "assert f(3) == 9"),
            ("plus", 1, "f(-1)", "assert f(-1) == 1"),
        ]
        report = harness.check(wanted, "def f(x) return")
        assert report.status == "invalid" and "expected ':'" in report.detail
        assert harness.check(wanted, "def f(x):\n    return 4", plus=False).passed
        assert harness.check(wanted, SQUARE, base=False).base is None
        assert harness.check(task(), SQUARE).plus is None


def test_what_the_canonical_solution_gives_to_the_tests(small):
    code = "from fractions import Fraction\nclass Pile:\n    def size(self): return 4\ndef f(x): return Fraction(x)"
    given = task(
        code=code, base=("assert Pile().size() == 4", "assert f(2) == Fraction(2)", "assert f(Fraction(1)) == 1")
    )
    assert small.check(given, code).passed
    mine = "import fractions\nclass Pile:\n    size = lambda self: 4\ndef f(x): return fractions.Fraction(x)"
    assert small.check(given, mine).passed
    own_imports_only = small.check(given, "class Pile:\n    size = lambda self: 4\ndef f(x): return Fraction(x)")
    assert own_imports_only.failures[0].exception == "NameError"


def test_verdicts_are_remembered(monkeypatch):
    started = []
    fork = Sandbox.open
    monkeypatch.setattr(Sandbox, "open", lambda *a, **k: started.append(a) or fork(*a, **k))
    harness = Harness(limits=SMALL)
    first = harness.check(task(), SQUARE)
    assert harness.check(task(), SQUARE) == first and len(started) == 1
    harness.check(task(plus=("assert f(1) == 1",)), SQUARE)
    assert len(started) == 3, "other tests, other verdict"
    harness.close()
    assert harness.check(task(), SQUARE).passed and len(started) == 4


def test_a_broken_test_or_setup_is_no_verdict(small):
    with pytest.raises(DataError, match="task t/1: base test 1: the test does not parse"):
        small.check(task(base=("assert f(1) == 1", "assert f(")), SQUARE)
    with pytest.raises(DataError, match="task t/1: the setup of the tests fails: it raised NameError: name 'q'"):
        small.check(task(setup="q"), SQUARE)
    with pytest.raises(DataError, match="used more than"):
        small.check(task(setup="while True: pass"), SQUARE)


def test_copies_and_pickles():
    harness = Harness(limits=SMALL, processes=3)
    assert copy.deepcopy({"a": harness})["a"] is harness
    again = pickle.loads(pickle.dumps(harness))
    assert again.limits == SMALL and again.check(task(), SQUARE).passed


def test_probe(monkeypatch):
    assert Harness().probe() is None
    for name in ("executable", "_base_executable"):
        monkeypatch.setattr(sys, name, "/nonexistent/python")
    assert "no sandbox process can be started" in (Harness().probe() or "")


def test_a_zygote_that_does_not_come_up_is_no_verdict(monkeypatch):
    monkeypatch.setattr(launch, "INSIDE", Path("/nonexistent"))
    with pytest.raises(SandboxError, match=r"can't open file '/nonexistent/zygote\.py'"):
        Harness().check(task(), SQUARE)


def test_many_threads_at_once():
    harness = Harness(limits=Limits(cpu_seconds=2.0))
    solutions = [f"def f(x):\n    return {i % 2 * 4}" for i in range(24)]
    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(lambda s: harness.check(task(), s).status, solutions))
    assert statuses == ["failed", "passed"] * 12


def test_nothing_is_left_behind(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    fds = Path("/dev/fd")
    before = len(list(fds.iterdir()))
    harness = Harness(limits=Limits(cpu_seconds=0.3, wall_seconds=0.6))
    assert harness.tier
    for body in (
        "return 4",
        "os._exit(1)",
        "os.fork()\n    return 4",
        "while True: pass",
        "os.close(int(sys.argv[1]))",
    ):
        run(harness, f"import os, sys\nos.mkdir('d')\nos.chmod('d', 0)\nos.chmod('.', 0)\ndef f(x):\n    {body}")
    with pytest.raises(DataError):
        run(harness, SQUARE, setup="q")
    with monkeypatch.context() as patch:
        patch.setattr(Process, "_parse", lambda self: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run(harness, SQUARE)
        harness.close()
        patch.setattr(subprocess, "Popen", lambda *a, **k: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run(harness, SQUARE)
    harness.close()
    assert len(list(fds.iterdir())) == before
    assert list(tmp_path.glob("evoprompt-*")) == []
    try:
        zombie = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        zombie = None
    assert zombie is None


def test_the_world_of_a_candidate(small, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    solution = (
        "import os, sys\ndef f(x):\n    return [dict(os.environ), os.listdir('.'), sys.path, __name__, sys.argv[2:]]"
    )
    harness = Harness(limits=SMALL)
    observed = run(harness, solution, "assert f(1)[0].get('OPENAI_API_KEY') == None", "assert f(1)[1] == []")
    assert observed.passed == 2, observed.cases
    temporary = ", 'TMPDIR'" if harness.tier.endswith("+ns") else ""
    names = "sorted(f(1)[0]) == ['LANG', 'MALLOC_ARENA_MAX', 'MKL_NUM_THREADS', 'OMP_NUM_THREADS', "
    names += f"'OPENBLAS_NUM_THREADS', 'PATH', 'PYTHONHASHSEED'{temporary}]"
    assert run(harness, solution, f"assert {names}").passed == 1
    repository = str(Path(sandbox_module.__file__).parents[2])
    assert run(harness, solution, f"assert not {repository!r} in f(1)[2]", "assert f(1)[3] == 'builtins'").passed == 2


SEARCH = r"""
import gc, re, sys, os
PATTERN = "XQZ" + r"\d{6}"
def memory():
    found = []
    try:
        with open("/proc/self/maps") as maps, open("/proc/self/mem", "rb", 0) as mem:
            for line in maps:
                span, mode = line.split()[:2]
                if not mode.startswith("rw") or "[v" in line: continue
                low, high = (int(n, 16) for n in span.split("-"))
                try:
                    mem.seek(low)
                    found += re.findall(PATTERN.encode(), mem.read(high - low))
                except (OSError, OverflowError, ValueError): pass
    except OSError: pass
    return found
def objects():
    held, frame = [sys.argv, dict(os.environ)], sys._getframe(1)
    while frame:
        held += [frame.f_locals, frame.f_globals]
        frame = frame.f_back
    held += [o for o in gc.get_objects() if type(o) in (dict, list, tuple) and o is not held]
    return [m for o in held for m in re.findall(PATTERN, repr(o)[:100_000])]
def f(x):
    return [repr(s) for s in (*memory(), *objects())][:3]
"""


def test_expected_values_never_enter():
    tests = [f"assert f({i}) == 'XQZ{i:06}'" for i in range(5)]
    tests += ["assert f(6) != 'XQZ777777'", "assert 'XQZ888888' not in f(7)", "assert f(8) == sorted(['XQZ999999'])"]
    result = run(Harness(limits=Limits(cpu_seconds=4)), SEARCH, *tests)
    assert [c.observed for c in result.cases] == ["returned []"] * 8
    assert [c.status for c in result.cases] == ["failed"] * 5 + ["passed"] * 2 + ["failed"]
    seen = run(Harness(limits=Limits(cpu_seconds=4)), SEARCH, "assert f('XQZ123456') == 1")
    assert "XQZ123456" in seen.cases[0].observed, "the search does find what is there"


def test_a_stream_of_replies(small):
    source = "def f(x, y):\n    if x == 3:\n        raise ValueError(x)\n    return {x: [y]}"
    inputs = tuple(AS_VALUE + encode([x, (x,)]) for x in range(5))
    with small.sandbox.open(small.limits) as process:
        assert process.ask("prepare", "", (), ()).kind == "done"
        assert process.ask("compile", source).kind == "done"
        assert process.ask("load", "f").kind == "done"
        kinds = [reply.kind for reply in process.stream(5, "apply", "f", inputs)]
        assert kinds == ["value", "value", "value", "error", "value"]
        assert process.ask("call", "f(0, 0)").kind == "value"
        hang = "def g(x):\n    while x: pass"
        assert process.ask("compile", hang).kind == process.ask("load", "g").kind == "done"
        kinds = [
            reply.kind for reply in process.stream(3, "apply", "g", tuple(AS_VALUE + encode([x]) for x in (0, 1, 0)))
        ]
        assert kinds == ["value", "timeout"]
