"""What crosses between tests and solution that run in processes of their own."""

import pytest

from evoprompt.harness import Harness, Limits
from evoprompt.harness.judging import driver
from evoprompt.tasks import Task
from tests.harness.test_scripts import same_as_python


@pytest.fixture(scope="module")
def harness():
    with Harness(limits=Limits(cpu_seconds=2.0), processes=1) as built:
        yield built


def judged(harness, code, *tests, canonical="", **fields):
    base = {"task_id": "t/1", "prompt": "p", "entry_point": "f", "code": canonical or code, "base": tests}
    return harness.check(Task(**base | fields), code)


CART = """class f:
    def __init__(self):
        self.items, self.groups = [], {"a": []}
    def total(self):
        return sum(self.items) + len(self.groups["a"])
"""


@pytest.mark.parametrize(
    "change",
    ["c.items.append(5)", "c.items += [2, 3]", "c.groups['a'].append(5)", "c.groups['a'] = [1]\nc.groups['a'].pop()"],
)
def test_a_change_of_data_that_the_test_does_not_keep_arrives(harness, change):
    tests = [f"c = f()\n{change}\nassert c.total() == c.total() > -1", "found = c.total()\nassert found == 5"]
    same_as_python(harness, CART, tests)


def test_nothing_is_asked_of_a_generator_before_its_turn(harness):
    code = "def f(g):\n    for i in range(100):\n        yield g(i)\n"
    test = "seen = []\nmade = f(lambda i: seen.append(i) or i)\nfor i in range(60):\n    next(made)\n"
    later = "it = iter(range(99))\nmade = f(lambda i: next(it))\nfor _ in range(50):\n    next(made)\n"
    test, later = test + "assert len(seen) == 60", later + "assert next(it) == 50"
    assert [c.status for c in same_as_python(harness, code, [test, later])] == ["passed"] * 2


RAISES = "def f(x):\n    raise ValueError(x)\n"
TALKS = """import sys
def f(x):
    server = sys._getframe(1).f_locals["self"].server
    encode = server.send.__globals__["codec"].encode
    server.describe = lambda e: encode(("ValueError", "m" * 1_000_000, 1), max_bytes=1 << 27)
    raise ValueError(x)
"""


def test_what_tells_an_exception_is_short(harness):
    test = "for i in range(3):\n    try:\n        f(i)\n    except ValueError:\n        pass"
    (case,) = judged(harness, TALKS, test, canonical=RAISES).base.cases
    assert (case.status, case.observed) == ("failed", "sent a malformed answer")


def test_of_very_many_exceptions_the_last_are_kept(harness, monkeypatch):
    monkeypatch.setattr(driver, "_MOST_RAISED", 2)
    many = "caught = []\nfor i in range(5):\n    try:\n        f(i)\n"
    many += "    except ValueError as e:\n        caught.append(e)\n"
    last, first = judged(harness, RAISES, f"{many}raise caught[-1]", f"{many}raise caught[0]").base.cases
    assert (last.status, last.observed) == ("error", "raised ValueError: 4 (line 2)")
    assert (first.status, first.observed) == ("error", "raised an exception")


def test_an_exception_in_the_guise_of_an_answer_is_the_candidates(harness):
    code = "import sys\ndef f(x):\n    peer = sys._getframe(1).f_locals['self']\n    told = peer.told\n"
    code += "    peer.told = lambda e: b'<' + peer.message(('raise',), [e])\n    raise ValueError(x)\n"
    report = judged(harness, code, "for i in [1]:\n    assert f(i) == 2", canonical="def f(x):\n    return x + 1\n")
    assert report.base.cases[0].status == "error"


def test_answers_may_keep_the_tests_of_a_suite_busy_for_so_long_in_all(harness, monkeypatch):
    monkeypatch.setattr(driver, "JUDGE_CPU_SECONDS", 0.6)
    monkeypatch.setattr(driver, "_LEAST_SECONDS", 0.3)
    tests = [f"for i in [{k}]:\n    assert sum(f(i)) == i" for k in range(40)]
    code = "def f(x):\n    return range(3_000_000)\n"
    report = judged(harness, code, *tests, canonical="def f(x):\n    return [x]\n")
    assert report.base.cases[0].status == "failed"
    assert report.base.cases[-1].status == "timeout" and len(report.base.cases) < 40
    assert "keeps the tests busy" in report.base.cases[-1].observed


UNITTEST = "import unittest\nclass T(unittest.TestCase):\n    def test_a(self):\n        self.assertEqual(f(3), 6)\n"
ENDS = [
    "if __name__ == '__main__':\n    unittest.main()",
    "unittest.main(exit=False)",
    "unittest.main(argv=['x'], verbosity=2, exit=False)",
    "import sys\nunittest.main(module=sys.modules[__name__], exit=False)",
    "import sys\nif __name__ == '__main__':\n    unittest.main(module=sys.modules['__main__'])",
    "unittest.TextTestRunner().run(unittest.defaultTestLoader.loadTestsFromTestCase(T))",
]


@pytest.mark.parametrize("end", ENDS)
def test_what_unittest_finds_decides(harness, end):
    right, wrong = "def f(x):\n    return 2 * x\n", "def f(x):\n    return 5\n"
    (case,) = judged(harness, right, UNITTEST + end).base.cases
    assert case.status == "passed" and case.whole == ("sys.modules" in end)
    (case,) = judged(harness, wrong, UNITTEST + end, canonical=right).base.cases
    assert case.status == "failed"


def test_a_test_may_pickle_objects_of_its_own_classes(harness):
    test = "import pickle, math\nclass B:\n    x = 2\nassert f(pickle.loads(pickle.dumps(B())).x) == 4"
    assert judged(harness, "def f(x):\n    return 2 * x\n", test).status == "passed"


NODE = """class f:
    def __init__(self, x):
        self.x = x
    def same(self, other):
        return self.x == other.x
"""
FROM = """def f(x):
    try:
        return 1 // x
    except ZeroDivisionError as e:
        raise ValueError(x) from e
"""


def test_objects_of_the_solution_can_be_copied_and_tell_their_class(harness):
    tests = [
        "import copy\na = f([4])\nb = copy.copy(a)\nassert b.x is a.x and b is not a and a.same(b)",
        "c = copy.deepcopy(a)\nc.x.append(1)\nassert c.x == [4, 1] and a.x == [4] and not c.same(a)",
        "assert a.__class__.__name__ == 'f' and a.__class__ is f and [1].__class__ is list",
        "d = copy.deepcopy({'k': [a, a]})\nassert d['k'][0] is d['k'][1] is not a",
    ]
    assert {c.status for c in same_as_python(harness, NODE, tests)} == {"passed"}


def test_an_exception_tells_what_it_was_raised_from(harness):
    test = "try:\n    f(0)\n    assert False\nexcept ValueError as e:\n"
    test += "    assert isinstance(e.__cause__, ZeroDivisionError)"
    alone = test.replace("isinstance(e.__cause__, ZeroDivisionError)", "e.__cause__ is None")
    assert [c.status for c in same_as_python(harness, FROM, [test, alone])] == ["passed", "failed"]
    circular = (
        "def f(x):\n    e = ValueError(x)\n    e.__cause__ = KeyError(1)\n    e.__cause__.__cause__ = e\n    raise e\n"
    )
    assert judged(harness, circular, alone).status == "passed"


LEFT_BEHIND = {
    "import warnings\ndef f(x):\n    warnings.warn('old')\n    return x\n": [
        "import warnings\nwith warnings.catch_warnings(record=True) as w:\n"
        "    warnings.simplefilter('always')\n    f(1)\nassert w",
        "import warnings\ntry:\n    with warnings.catch_warnings():\n        warnings.simplefilter('error')\n"
        "        f(1)\n    assert False\nexcept UserWarning:\n    pass",
        "import unittest\nwith unittest.TestCase().assertWarns(UserWarning):\n    f(1)",
    ],
    "import logging\ndef f(x):\n    logging.getLogger('a').warning('hi')\n": [
        "import unittest\nwith unittest.TestCase().assertLogs('a') as told:\n    f(1)\nassert len(told.output) == 1",
    ],
    "from decimal import Decimal\ndef f(x):\n    return Decimal(1) / x\n": [
        "import decimal\ndecimal.getcontext().prec = 4\nassert str(f(3)) == '0.3333'",
    ],
    "import dataclasses\n@dataclasses.dataclass\nclass P:\n    x: int\ndef f(x):\n    return P(x)\n": [
        "import dataclasses\nassert dataclasses.asdict(f(2)) == {'x': 2} and dataclasses.is_dataclass(f(1))",
    ],
}


@pytest.mark.parametrize("code", LEFT_BEHIND, ids=["warnings", "logging", "decimal", "dataclass"])
def test_what_only_the_process_of_the_solution_knows_is_tested_there(harness, code):
    cases = judged(harness, code, *LEFT_BEHIND[code]).base.cases
    assert all(c.status == "passed" and c.whole for c in cases), cases
