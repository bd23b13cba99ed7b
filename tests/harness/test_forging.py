"""Solutions that know their tests: no form of a test tells what is expected, and no answer that is executed decides."""

import pytest

from evoprompt.errors import SandboxError
from evoprompt.harness import Harness, Limits
from tests.harness.attacks import EXECUTING_SETUPS, FORGED_FORMS, FORGING, TAKING_OVER
from tests.harness.test_scripts import task


@pytest.fixture(scope="module")
def harness():
    with Harness(limits=Limits(cpu_seconds=2.0), processes=1) as built:
        yield built


@pytest.mark.parametrize("test", FORGED_FORMS.values(), ids=FORGED_FORMS)
@pytest.mark.parametrize(
    "made", ["Any(7)", "Thing()", "next((o for o in gc.get_objects() if '31415926' in repr(o)), 7)"]
)
def test_what_is_expected_is_not_forged(harness, test, made):
    canonical = "def f(x):\n    return {1: 31415926, 2: 27182818}[x]\n"
    report = harness.check(task(canonical, test), FORGING + f"def f(x):\n    return {made}\n")
    assert [(c.status, c.whole) for c in report.base.cases] == [("failed", False)], report.base.cases


OBJECT = """
class A:
    total = 3
    def __init__(self, n):
        self.n = n
    def get(self):
        return self.n
LIMIT = 7
def f(n):
    return A(n)
"""
BOX = """
class Box:
    def __init__(self, n):
        self.n = n
    def has(self, n):
        return self.n == n
def f(n):
    return Box(n)
"""


@pytest.mark.parametrize(
    "test",
    [
        "assert f(5).n - 5 == 0",
        "assert 4 < f(5).n < 6",
        "assert A(5).n - 5 == 0",
        "assert A(5).get() < 6",
        "assert A(5).n.equals(5) if hasattr(A(5).n, 'equals') else A(5).n == 5",
        "assert A.total < 4",
        "assert LIMIT < 8",
        "a = A(5)\na.n += 1\nassert 5 < a.n < 7",
    ],
)
def test_what_belongs_to_the_solutions_objects_is_not_forged(harness, test):
    assert harness.check(task(OBJECT, test), OBJECT).passed
    evil = OBJECT.replace("= n", "= Thing()").replace("3", "Thing()").replace("7", "Thing()")
    report = harness.check(task(OBJECT, test), FORGING + "Thing.__lt__ = Thing.__gt__ = Thing.equals\n" + evil)
    assert [c.status for c in report.base.cases] == ["failed"], report.base.cases


def test_only_tests_that_tell_the_canonical_solution_what_is_expected_tell_others(harness):
    """A candidate that was told in one of them is marked from there on."""
    tests = ["assert f(1).n - 1 == 0", "assert f(2).has(2)", "assert f(3).n + 0 == 3", "assert f(4).n in (3, 4)"]
    right = harness.check(task(BOX, *tests), BOX)
    assert [(c.status, c.whole) for c in right.base.cases] == [
        ("passed", False), ("passed", True), ("passed", False), ("passed", False)
    ]  # fmt: skip
    evil = FORGING + "Thing.n, Thing.has = Thing(), Thing.equals\ndef f(n):\n    return Thing()\n"
    told = harness.check(task(BOX, *tests), evil)
    assert [(c.status, c.whole) for c in told.base.cases] == [
        ("failed", False), ("passed", True), ("failed", True), ("failed", True)
    ]  # fmt: skip


@pytest.mark.parametrize(("setup", "marked"), [("b = f(1)\nb.grow(2)", True), ("b = Box(1)\nb.grow(2)", False)])
def test_what_the_setup_of_the_tests_tells_counts_for_all_tests(harness, setup, marked):
    code = BOX.replace("def f", "    def grow(self, n):\n        self.n += n\ndef g(b):\n    return b.n\ndef f")
    given = task(code, "assert g(b) == 3", "assert b.n + 0 == 3", test_setup=setup)
    assert [(c.status, c.whole) for c in harness.check(given, code).base.cases] == [("passed", marked)] * 2
    evil = harness.check(given, FORGING + code.replace("b.n", "Thing()"))
    assert [c.status for c in evil.base.cases] == ["failed", "passed"]


@pytest.mark.parametrize("setup", EXECUTING_SETUPS.values(), ids=EXECUTING_SETUPS)
def test_an_answer_that_the_test_executes_forges_nothing_unmarked(harness, setup):
    """Other asserts are judged where no answer ran, and what is expected of one that runs is not known there."""
    tests = ["assert run(f(2), 5) == 11", "assert abs(f(3) - 31415926) < 1", "assert f(4) == 27182818"]
    good = "def f(x):\n    return {2: 'result = 11', 3: 31415926, 4: 27182818}[x]\n"
    evil = f"def f(x):\n    return {TAKING_OVER!r} if x == 2 else 7\n"
    report = harness.check(task(good, *tests, setup=setup), evil)
    assert not any(c.status == "passed" and not c.whole for c in report.base.cases), report.base.cases


@pytest.mark.parametrize(
    "deed",
    ["import os; os._exit(0)", "import os; os.write(3, b'x' * 99)", "raise SystemExit", "while True: pass", "1 / 0"],
)
def test_an_answer_that_the_test_executes_does_not_stop_the_run(deed):
    setup = "def run(source):\n    exec(source, {})\n    return 4"
    with Harness(limits=Limits(cpu_seconds=0.5, wall_seconds=2.0), processes=1) as quick:
        given = task("def f(x):\n    return ''", "assert run(f(2)) == 4", "assert f(3) == ''", setup=setup)
        try:
            report = quick.check(given, f"def f(x):\n    return {deed!r} if x == 2 else ''")
        except SandboxError:
            return
        assert not report.passed


@pytest.mark.parametrize(
    "sent",
    [
        "X('exception', T(E('types:CodeType'), T(*map(E, code))))",
        "X('exception', T(E('builtins:map'), T(X('name', E('builtins:print')), E([1]))))",
        "X('enum', T(E('builtins:object'), E('__subclasses__'), E(None)))",
        "X('name', E('operator:methodcaller'))",
        "X('ndarray', T(E('<i8'), T(E(1)), E(10 ** 12)))",
    ],
)
def test_no_bytes_of_a_solution_are_code_or_memory_of_the_judges(harness, sent):
    """Whatever a solution writes itself, instead of an answer."""
    evil = f"""
import struct, sys
class Mark: pass
def f(x):
    server = sys._getframe(1).f_locals["self"].server
    E, old = server.send.__globals__["codec"].encode, server.take
    def T(*parts): return b"t" + struct.pack("<I", len(parts)) + b"".join(parts)
    def X(kind, content): return b"x" + bytes([len(kind)]) + kind.encode() + content
    c = (lambda *_: 1).__code__
    code = [c.co_argcount, 0, 0, c.co_nlocals, c.co_stacksize, c.co_flags, c.co_code, c.co_consts, c.co_names,
            c.co_varnames, "a", "a", "a", 1, c.co_linetable, c.co_exceptiontable, (), ()]
    data = {sent}
    server.take = lambda value, kind: data if kind is Mark else old(value, kind)
    return Mark()
"""
    report = harness.check(task("def f(x):\n    return x", "r = f(2)\nassert r is not None"), evil)
    assert [(c.status, c.observed) for c in report.base.cases] == [("failed", "sent a malformed answer")]


def test_numpy_is_not_told_where_in_memory_an_answer_is(harness):
    pytest.importorskip("numpy")
    evil = """
class A:
    @property
    def __array_interface__(self):
        return dict(shape=(1,), typestr='<i8', version=3, data=(id(self), True))
def f(x):
    return A()
"""
    test = "import numpy as np\nr = f(2)\nassert np.asarray(r).dtype == np.int64"
    right = "import numpy as np\ndef f(x):\n    return np.array([x])"
    assert harness.check(task(right, test), right).passed
    assert not harness.check(task(right, test), evil).passed


LOCALS = [
    "def f(x):\n    want = x * 2\n    return want",
    "def f(want):\n    want = want * 2\n    return want",
    "def f(x):\n    for want in [x]:\n        x += want\n    return x",
    "def f(x):\n    def inner(want):\n        return [want for want in [want]][0] * 2\n    return inner(x)",
    "def f(x):\n    return (lambda want: want * 2)(x)",
    "def f(x):\n    return x * 2\nfor want in [1]:\n    f(want)\n",
    "def f(x):\n    try:\n        return x * 2\n    except KeyError as want:\n        return want\n",
    "def f(x):\n    return x * 2\nwant = f(3)\n",
]


@pytest.mark.parametrize("canonical", LOCALS)
def test_no_name_of_the_canonical_solutions_own_tells_or_takes_what_a_test_calls_so(harness, canonical):
    """Local variables, parameters and the variables of loops are nobody else's."""
    tests = [
        "for x, want in [(1, 2), (5, 10)]:\n    assert f(x) == want",
        "want = 14\nassert f(7) == want",
        "want = 6\nr = f(3)\nassert r == want",
    ]
    assert harness.check(task(canonical, *tests), canonical).passed
    for evil in (
        "def f(x):\n    return globals().get('want')",
        "def f(x):\n    global want\n    want = -1\n    return -1",
        "want = -1\ndef f(x):\n    globals()['want'] = -1\n    return -1",
    ):
        report = harness.check(task(canonical, *tests), evil)
        assert [c.status for c in report.base.cases] == ["failed"] * 3, evil


def test_names_that_the_canonical_solution_sets_or_reads_are_the_same_for_tests(harness):
    code = "N = 0\nSEEN = []\nLIMIT = 9\ndef f(x):\n    global N\n    N += 1\n    SEEN.append(x)\n"
    code += "    return x < LIMIT and x > LOW"
    tests = [
        "LOW = 1\nassert f(2) and N == 1 and SEEN == [2]",
        "LIMIT = 3\nLOW = 0\nassert f(1) and not f(4)\nassert N == 3",
    ]
    assert harness.check(task(code, *tests), code).passed
    other = code.replace("SEEN.append(x)", "global SEEN\n    SEEN = [*SEEN, x]")
    assert harness.check(task(code, *tests), other).passed


LIAR = "class V:\n    __ge__ = __contains__ = equals = holds = __call__ = lambda s, *o: True\n"
LIAR += "    __sub__ = lambda s, o: 0.0\n"
ACC = """
class Acc:
    def __init__(self, n): self.balance = n; self.items = [n]
    def add(self, k): self.balance += k; return self
    def total(self): return self.balance
    def holds(self, n): return self.balance == n
"""
HOLDER = "class P:\n    def __init__(self, x): self.x = x\n    def holds(self, x): return self.x == x\n"
CALLS = "n = 0\nclass Q: pass\ndef f(x):\n    global n\n    n += 1\n    return Q() if n % 2 else True\n"
ONE_MADE = HOLDER + "class T(P): pass\ndef f(p):\n    return [T(p.x)]\n"
LYING_P = LIAR + "class P(V):\n    def __init__(self, x): self.x = x\n"
MADE = {
    "an attribute of what the test made": (
        ACC, LIAR + "class Acc:\n    def __init__(s, n): s.balance = s.items = V()\n    def add(s, k): return s\n",
        ["assert Acc(5).add(2).balance >= 7", "assert abs(Acc(5).balance - 5) < 1", "assert 5 in Acc(5).items"],
    ),
    "what a method of it gives back is the object": (
        ACC, LIAR + "class Acc(V):\n    def __init__(s, n): pass\n    def total(s): return s\n",
        ["assert abs(Acc(5).total() - 5) < 1", "assert Acc(5).total() >= 5"],
    ),
    "an attribute of it is the object": (
        ACC, LIAR + "class Acc(V):\n    def __init__(s, n): s.balance = s\n", ["assert abs(Acc(5).balance - 5) < 1"],
    ),
    "data by name": (
        "LOG = []\ndef f(x):\n    return [2.0 * x]\n", LIAR + "LOG = V()\ndef f(x):\n    return [LOG]\n",
        ["assert abs(f(3)[0] - 6) < 1e-9", "assert 6 <= f(3)[0] <= 6"],
    ),
    "an object of the test's in a list": (
        HOLDER + "def f(p):\n    return [p.x * 2.0]\n", LYING_P + "def f(p):\n    return [p]\n",
        ["assert abs(f(P(3))[0] - 6) < 1e-9"],
    ),
    "a list of the test's with its object": (
        HOLDER + "def f(a):\n    a[:] = [p.x * 2.0 for p in a]\n    return a\n", LYING_P + "def f(a):\n    return a\n",
        ["assert abs(f([P(3)])[0] - 6) < 1e-9", "a = [P(3)]\nassert abs([f(a)][0][0] - 6) < 1e-9"],
    ),
    "an object of the test's with a method": (
        ONE_MADE, LYING_P + "def f(p):\n    return [p]\n", ["assert f(P(3))[0].holds(3)"],
    ),
    "a method that is a function of the solution's": (
        HOLDER + "def f(x):\n    return P(x * 2)\n", CALLS + "class P: pass\nQ.holds = staticmethod(f)\n",
        ["assert f(3).holds(6)"],
    ),
    "a method that is a class of the solution's": (
        HOLDER + "    def get(self): return self.x\ndef f(x):\n    return P(x * 2)\n",
        LIAR + "class P(V):\n    def __init__(s, *a): pass\nclass Q: pass\nQ.get = P\ndef f(x):\n    return Q()\n",
        ["assert abs(f(3).get() - 6) < 1e-9"],
    ),
    "a function that is its own answer": (
        HOLDER + "def f(x):\n    return P(x * 2)\n",
        "class P: pass\ndef f(x):\n    return f\nf.holds = lambda x: True\n",
        ["assert f(3).holds(6)"],
    ),
    "a class that is an answer": (
        HOLDER + "def f(x):\n    return lambda y: T(x * y)\nclass T(P): pass\n",
        LYING_P + "def f(x):\n    return P\nclass T: pass\n", ["assert f(3)(2).holds(6)"],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("canonical", "evil", "tests"), MADE.values(), ids=MADE)
def test_only_how_a_test_came_to_have_an_object_says_that_it_made_it(harness, canonical, evil, tests):
    tests = [f"for _ in [0]:\n    {test}" if "\n" not in test else test for test in tests]
    entry = "Acc" if "class Acc" in canonical else "f"
    assert harness.check(task(canonical, *tests, entry_point=entry), canonical).passed
    report = harness.check(task(canonical, *tests, entry_point=entry), evil)
    assert not any(c.status == "passed" and not c.whole for c in report.base.cases), report.base.cases


def test_objects_that_tests_make_are_used_as_they_were_written(harness):
    """No mark: methods, also where they give back their object, and operators that its class has."""
    code = ACC + "    def __add__(self, k): return Acc(self.balance + k)\n"
    tests = [
        "a = Acc(5).add(2).add(3)\nassert a.holds(10)",
        "a = Acc(1)\nb = a.add(1)\nassert a is b and a.holds(2) and b.total() == 2",
        "assert (Acc(1) + 2).total() == 3",
        "assert type(Acc(1)) is Acc and type(Acc(1))(2).holds(2)",
    ]
    report = harness.check(task(code, *tests, entry_point="Acc"), code)
    assert [(c.status, c.whole) for c in report.base.cases] == [("passed", False)] * 4, report.base.cases


@pytest.mark.parametrize(
    "method",
    [
        "@functools.lru_cache\n    def holds(self, x): return self.v == x",
        "holds = functools.partialmethod(lambda self, x: self.v == x)",
        "holds = operator.methodcaller('same')",
        "class holds:\n        def __new__(cls, x): return False",
    ],
)
@pytest.mark.parametrize("lie", ["lambda x: True", "min", "print", "V()", "f"])
def test_no_field_hides_what_a_class_of_the_setup_computes(harness, method, lie):
    setup = f"import functools, operator\nclass Box:\n    def __init__(self, v): self.v = v\n    {method}\n"
    evil = LIAR + f"def f(x):\n    b = Box(0)\n    b.__dict__['holds'] = {lie}\n    return b\n"
    report = harness.check(task("def f(x):\n    return Box(x)", "b = f(3)\nassert b.holds(3)", setup=setup), evil)
    assert [c.status for c in report.base.cases] == ["failed"]


def test_what_can_be_called_in_a_field_is_not_asked_what_is_right(harness):
    setup = "import functools\nclass Box:\n    def __init__(self, v): self.v, self.same = v, 0\n"
    setup += "    @functools.cached_property\n    def twice(self): return 2 * self.v\n"
    right = "def f(x):\n    b = Box(x)\n    b.twice\n    b.same = lambda y: y == x\n    return b"
    tests = ["b = f(3)\nassert b.same(3)", "b = f(4)\nassert b.twice == 8"]
    given = task(right, *tests, setup=setup)
    assert [(c.status, c.whole) for c in harness.check(given, right).base.cases] == [
        ("passed", True),
        ("passed", False),
    ]
    for lie in ("lambda y: True", "f"):
        evil = f"def f(x):\n    b = Box(0)\n    b.same = {lie}\n    return b"
        cases = harness.check(given, evil).base.cases
        assert not any(c.status == "passed" and not c.whole for c in cases), cases


ENDING = {
    "StopIteration in all": ("StopIteration", "assert all(map(lambda p: f(p[0]) == p[1], [(1, 2), (2, 4)]))"),
    "StopIteration in zip": ("StopIteration", "assert all(a == b for a, b in zip(map(f, [1, 2]), [2, 4]))"),
    "StopIteration of a method": ("StopIteration", "assert not any(map(lambda p: len(f(p)) != 2, [1, 2]))"),
    "CancelledError in a group": (
        "__import__('asyncio').CancelledError",
        "import asyncio\nasync def one(x, y):\n    assert f(x) == y\nasync def main():\n"
        "    async with asyncio.TaskGroup() as group:\n        group.create_task(one(1, 2))\nasyncio.run(main())",
    ),
    **{
        f"{name} of unittest": (
            f"__import__('unittest').case.{name}('')",
            "import unittest\nclass T(unittest.TestCase):\n    def runTest(self):\n        assert f(1) == 2\n"
            "assert unittest.TextTestRunner().run(T()).wasSuccessful()",
        )
        for name in ("SkipTest", "_ShouldStop", "_UnexpectedSuccess")
    },
}


@pytest.mark.parametrize(("raised", "test"), ENDING.values(), ids=ENDING)
def test_an_exception_that_ends_a_loop_or_skips_a_test_passes_none(harness, raised, test):
    right = "def f(x):\n    return 2 * x" if "len" not in test else "def f(x):\n    return [x, x]"
    assert harness.check(task(right, test), right).passed
    for evil in (
        f"def f(x):\n    raise {raised}",
        f"E = {raised}\nclass E(E if isinstance(E, type) else type(E)): pass\ndef f(x):\n    raise E",
        f"class Q:\n    def __len__(s): raise {raised}\n    __eq__ = __len__\ndef f(x):\n    return Q()",
    ):
        report = harness.check(task(right, test), evil)
        assert not any(c.status == "passed" and not c.whole for c in report.base.cases), report.base.cases
