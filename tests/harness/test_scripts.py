"""Tests that run as a script beside the candidate: they mean what they mean in plain Python, and none is forged."""

import builtins
import random
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evoprompt.errors import DataError
from evoprompt.harness import Harness, Limits
from evoprompt.harness.inside import codec
from evoprompt.harness.sandbox.pool import TIERS
from evoprompt.tasks import Task
from tests.harness.scripts import FORMS, SETUP_FORMS


@pytest.fixture(scope="module")
def harness():
    with Harness(limits=Limits(cpu_seconds=1.0), processes=1) as built:
        yield built


def task(code, *tests, **fields):
    return Task(**{"task_id": "t/1", "prompt": "p", "entry_point": "f", "code": code, "base": tests} | fields)


def plain(code, tests, setup="", test_setup=""):
    """Whether each test passes in one plain Python module."""
    module = {"__name__": "__main__"}
    kept = builtins.input, sys.stdin, random.seed
    try:
        return list(_plain(module, code, tests, setup, test_setup))
    finally:
        builtins.input, sys.stdin, random.seed = kept


def _plain(module, code, tests, setup, test_setup):
    for source in (setup, code, test_setup):
        exec(source, module)
    for test in tests:
        try:
            exec(test, module)
            yield True
        except Exception:
            yield False


def same_as_python(harness, code, tests, canonical="", setup="", test_setup=""):
    report = harness.check(task(canonical or code, *tests, setup=setup, test_setup=test_setup), code)
    cases = report.base.cases
    assert [c.status == "passed" for c in cases] == plain(code, tests, setup, test_setup), cases
    return cases


def cases_of(text):
    parts = [[part.strip("\n") for part in case.split("\n----\n")] for case in text.split("\n====\n")]
    return [(code, tests) for code, *tests in parts]


SORTS = "def f(a):\n    a.sort()\n    return a\n"
NEW = "def f(a):\n    return sorted(a)\n"
NOTHING = "def f(a):\n    a.sort()\n"

IDENTITY = [
    "A = [2, 1]",
    "assert f(A) == [1, 2]",
    "assert A == [2, 1]",
    "assert f(A) is A",
    "assert f(A) is not A",
    "assert f(A) is None and A == [1, 2]",
    "B = [3, 1]",
    "assert (f(B), B) == (None, [1, 3])",
    "L = [[2, 1], [4, 3]]\nassert f(L.pop()) == L.pop()",
    "L = [[2, 1], [4, 3]]\nassert [f(x) for x in L] == L",
    "C = f(A)\nC.append(0)\nassert A[-1] == 0",
    "assert f([]) == [] or f(None)",
    "assert f(A)[0] <= f(A)[-1] < 9",
    "assert (y := f([1])) == [1] and len(y) == 1",
    "try:\n    f(3)\n    assert False\nexcept AttributeError:\n    pass",
    "try:\n    f(3)\n    assert False\nexcept (TypeError, AttributeError) as e:\n    assert e.args",
    "assert sum(len(f(x)) for x in ([1], [2, 3])) == 3",
    "assert all(map(f, [[1], [2]]))",
    "assert [*f([2, 1])] == [1, 2] and f(a=[3]) == [3]",
]


@pytest.mark.parametrize("code", [SORTS, NEW, NOTHING])
def test_shared_state_and_identity(harness, code):
    same_as_python(harness, code, IDENTITY, canonical=SORTS)


@pytest.mark.parametrize(("code", "tests"), cases_of(FORMS))
def test_forms_of_scripts(harness, code, tests):
    assert not any(c.whole for c in same_as_python(harness, code, tests))


SETUP = """
from dataclasses import dataclass, field
from enum import Enum
from collections import namedtuple
class Node:
    def __init__(self, v, nxt=None):
        self.v, self.nxt = v, nxt
@dataclass(frozen=True)
class P:
    x: int
    y: int = 0
class S:
    __slots__ = ('a',)
class L(list):
    pass
class Color(Enum):
    RED = 1
    BLUE = 2
T = namedtuple('T', 'x y')
def chain(*values):
    head = None
    for v in reversed(values):
        head = Node(v, head)
    return head
def unchain(n):
    found = []
    while n:
        found.append(n.v)
        n = n.nxt
    return found
"""


@pytest.mark.parametrize(("code", "tests"), cases_of(SETUP_FORMS))
def test_classes_of_the_setup(harness, code, tests):
    assert not any(c.whole for c in same_as_python(harness, code, tests, setup=SETUP))


STACK = """
class Stack:
    def __init__(self, items=()):
        self.items = list(items)
    def push(self, x):
        self.items.append(x)
        return self
    def pop(self):
        return self.items.pop()
    def __len__(self):
        return len(self.items)
    def __eq__(self, other):
        return self.items == other.items
def f(*items):
    return Stack(items)
"""


@pytest.mark.parametrize(
    ("test", "marked"),
    [
        ("s = Stack()\ns.push(1)\ns.push(2)\nassert s.pop() == 2 and len(s) == 1", False),
        ("assert Stack([1]).push(2).items == [1, 2]", False),
        ("s = Stack()\nassert s.push(1) is s and type(s) is Stack and isinstance(s, Stack)", False),
        ("assert f(1, 2).items == [1, 2] and f(1).pop() == 1", False),
        ("assert f(1) == Stack([1])", True),
        ("assert f(1).push(2).pop() == 2", True),
        ("assert not isinstance(3, Stack) and not f()", False),
    ],
)
def test_objects_of_the_solutions_own_classes(harness, test, marked):
    (case,) = same_as_python(harness, STACK, [test])
    assert case.whole is marked


def test_what_a_test_sets_up_from_the_solution(harness):
    code = "class Node:\n    def __init__(self, v):\n        self.v = v\ndef f(n):\n    return n.v"
    same_as_python(harness, code, ["assert f(root) == 7", "assert f(root) == 8"], test_setup="root = Node(7)")
    wrong = harness.check(task(code, "assert f(root) == 7", test_setup="root = Node(7)"), "def f(n): return 7")
    assert wrong.status == "error" and wrong.failures[0].exception == "NameError"
    with pytest.raises(DataError, match="the setup of the tests fails: it raised NameError"):
        harness.check(task(code, "assert f(root) == 7", test_setup="root = Leaf(7)"), code)


def test_pytest_and_unittest(harness):
    code = "def f(x):\n    if x < 0:\n        raise ValueError(f'negative: {x}')\n    return x * 0.1\n"
    tests = [
        "import pytest\nwith pytest.raises(ValueError, match='negative: -1'):\n    f(-1)",
        "import pytest\nassert f(3) == pytest.approx(0.3)",
        "import unittest\nclass T(unittest.TestCase):\n    def test(self):\n        self.assertAlmostEqual(f(3), 0.3)\n"
        "        with self.assertRaises(ValueError):\n            f(-1)\n"
        "r = unittest.TestResult()\nunittest.defaultTestLoader.loadTestsFromTestCase(T).run(r)\n"
        "assert r.wasSuccessful()",
        "def check(candidate):\n    assert candidate(1) == 0.1\ncheck(f)",
    ]
    given = task(code, *tests)
    assert harness.check(given, code).passed
    wrong = harness.check(given, "def f(x):\n    return x")
    assert [c.status for c in wrong.base.cases] == ["failed"] * 4
    assert not any(c.whole for c in wrong.base.cases)


def test_statuses(harness):
    tests = ["assert f(1) + 0 == 1", "assert f(2) + 0 == 3", "assert len(f(1)) == 1", "assert f('') + 0 == 1"]
    result = harness.check(task("def f(x):\n    return x", *tests), "def f(x):\n    return x / 1")
    cases = result.base.cases
    assert [c.status for c in cases] == ["passed", "failed", "failed", "error"]
    assert [c.observed for c in cases[:3]] == [
        "returned 1.0",
        "returned 2.0",
        "returned 1.0; comparing it raised TypeError",
    ]
    assert (cases[3].exception, cases[3].line, cases[3].call) == ("TypeError", 2, "f('')")
    for body, status in (("while True: pass", "timeout"), ("import os; os._exit(0)", "crashed")):
        result = harness.check(task("def f(x):\n    return x", *tests), f"def f(x):\n    {body}")
        assert [c.status for c in result.base.cases] == [status]


READ = "def f(path):\n    with open(path) as h:\n        return len(h.readlines())\n"
WRITE = "def f(path):\n    with open(path, 'w') as h:\n        h.write('a')\n"
FOLDER = "import os, tempfile\nd = tempfile.mkdtemp()\np = os.path.join(d, 'x.txt')\n"
MAKER = "import os, tempfile\ndef made(text):\n    p = os.path.join(tempfile.mkdtemp(), 'x')\n"
MAKER += "    with open(p, 'w') as h:\n        h.write(text)\n    return p\n"


@pytest.mark.parametrize(
    ("code", "tests", "setup", "test_setup"),
    [
        (READ, [FOLDER + "open(p, 'w').write('a\\nb\\n')\nassert f(p) == 2", "assert f(p) == 2"], "", ""),
        (
            READ,
            [FOLDER + "with open(p, 'w') as h:\n    h.write('a')", "assert 1 == f(p)", "q = p\nassert f(q) == 2"],
            "",
            "",
        ),
        (READ, ["assert f(made('a\\nb')) == 2", "assert f(made('')) == 0"], MAKER, ""),
        (READ, ["assert f(p) == 1"], "", FOLDER + "open(p, 'w').write('a')"),
        (READ, ["import tempfile\nwith tempfile.NamedTemporaryFile() as h:\n    assert f(h.name) == 0"], "", ""),
        (WRITE, [FOLDER + "f(p)\nassert os.path.exists(p)", "assert open(p).read() == 'a'"], "", ""),
    ],
)
def test_files_that_tests_and_solutions_share(harness, code, tests, setup, test_setup):
    if harness.tier != TIERS[0]:
        pytest.skip("no folder for temporary files")
    same_as_python(harness, code, tests, setup=setup, test_setup=test_setup)


def test_what_only_looks_like_a_file_is_judged_as_ever(harness):
    code = "class Door:\n    def open(self):\n        return 'open'\n    def exists(self):\n        return True\n"
    tests = ["d = Door()\nassert d.open() == 'open' and d.exists()", "import io\nassert f(io.StringIO('a')) == 'a'"]
    tests += ["assert f(io.BytesIO(b'a.b/c')) == b'a.b/c'", "assert 'open' != Door().open().upper()"]
    cases = same_as_python(harness, code + "def f(h):\n    return h.read()", tests)
    assert not any(c.whole for c in cases)


def test_an_answer_that_is_too_large_is_not_equal(harness, monkeypatch):
    monkeypatch.setitem(codec.decode.__kwdefaults__, "max_cost", 1 << 16)
    given = task("def f(x):\n    return 3.5", "x = f(2)\nassert x == 3.5")
    (case,) = harness.check(given, "def f(x):\n    return [None] * 3_000").base.cases
    assert case.status == "failed"


SOLUTIONS = [
    SORTS,
    NEW,
    NOTHING,
    "def f(a=[], *b):\n    a.append(len(a))\n    return a if len(a) < 20 else a.none\n",
    "kept = []\ndef f(a=0, *b):\n    kept.append(a)\n    return kept if len(kept) < 20 else kept.none\n",
    "n = 0\ndef f(*a):\n    global n\n    n += 1\n    return n\n",
    "def f(a=(1, 2), *b):\n    yield from a\n",
    "def f(a=None, *b):\n    return a\n",
    "def f(a=None, *b):\n    return [a, a]\n",
    "def f(a, *b):\n    if not a:\n        raise ValueError(a)\n    return (a, *b)\n",
    "def f(a=0, *b):\n    return lambda x=3: (a, x)\n",
    "def f(a=0, *b):\n    return {1: a, 2: {3}}\n",
    "def f(a=0, *b):\n    return True\n",
]
names = st.sampled_from("ABC")
plain_values = st.sampled_from(
    ["[2, 1]", "[1, 2]", "[]", "[[3], [1]]", "1", "2", "None", "True", "(1, 2)", "{1: [2]}", "'b'"]
)


def compound(inner):
    pair = st.tuples(inner, inner)
    return st.one_of(
        st.builds("f({})".format, inner),
        st.builds("f({})".format, names),
        st.builds("f(*{})".format, inner),
        st.builds("f({}, {})".format, inner, inner),
        st.builds("list({})".format, inner),
        st.builds("[*{}]".format, inner),
        st.builds("len({})".format, inner),
        st.builds("type({}).__name__".format, inner),
        st.builds("{}[0]".format, inner),
        st.builds("[f(x) for x in {}]".format, inner),
        st.builds("(lambda x: f(x))({})".format, inner),
        st.builds("list(map(f, {}))".format, inner),
        st.builds("(w := {})".format, inner),
        st.builds("(1 if {} else f(2))".format, inner),
        pair.map(lambda p: f"({p[0]}, {p[1]})"),
        pair.map(lambda p: f"[{p[0]}, {p[1]}]"),
        pair.map(lambda p: f"({p[0]} or {p[1]})"),
        pair.map(lambda p: f"({p[0]} and {p[1]})"),
        pair.map(lambda p: f"({p[0]} is {p[1]})"),
        pair.map(lambda p: f"({p[0]} == {p[1]})"),
        pair.map(lambda p: f"(not {p[0]} != {p[1]})"),
        pair.map(lambda p: f"({p[0]} in {p[1]})"),
    )


expressions = st.recursive(plain_values | names, compound, max_leaves=4)
calls = st.builds("f({})".format, expressions | names)
statements = st.one_of(
    st.builds("{} = {}".format, names, expressions),
    st.builds("{} = {}".format, names, names),
    st.builds("{}.append({})".format, names, expressions),
    st.builds("{} = {}\nassert {} == {}".format, names, calls, names, expressions),
    st.builds("assert {} == {}".format, calls, plain_values),
    st.builds("assert {} == {}".format, plain_values, expressions),
    st.builds("assert {} is {}".format, calls, names),
    st.builds("assert {} is not {}".format, calls, calls),
    st.builds("assert {} is None and {} == {}".format, calls, names, plain_values),
    st.builds("assert ({}, {}) == ({}, {})".format, calls, names, plain_values, plain_values),
    st.builds("assert {}".format, expressions),
    st.builds("assert not {}".format, expressions),
    st.builds("assert 0 < {} <= 3".format, calls),
    st.builds("for x in {}:\n    assert f(x) == x".format, expressions),
    st.builds("try:\n    {}\nexcept (ValueError, TypeError) as e:\n    assert {}".format, calls, expressions),
    st.builds("g = {}\nassert next(g) == {}".format, calls, plain_values),
)


@pytest.mark.slow
@settings(deadline=None, derandomize=True, max_examples=120, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(SOLUTIONS), st.lists(statements, min_size=1, max_size=6))
def test_a_script_means_what_it_means_in_plain_python(harness, code, tests):
    setup = "A, B, C = [2, 1], [[1], [1]], 3"
    same_as_python(harness, code, tests, setup=setup)
