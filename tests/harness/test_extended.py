"""Classes of the solution that extend a type of data: they keep their methods, and are compared as the data."""

import pytest

from evoprompt.harness import Harness, Limits
from tests.harness.test_conversation import judged
from tests.harness.test_scripts import same_as_python


@pytest.fixture(scope="module")
def harness():
    with Harness(limits=Limits(cpu_seconds=2.0), processes=1) as built:
        yield built


CASES = {
    "class Q(list):\n    def push(self, x):\n        self.append(x)\n": [
        "q = Q()\nq.push(1)\nassert q == [1] and len(q) == 1 and q[0] == 1",
        "assert isinstance(q, list) and isinstance(q, Q) and type(q) is Q",
        "q.append(2)\nassert list(q) == [1, 2] and [1, 2] == q and q != [1] and 2 in q",
        "assert f([3]) == [3] and f([]) == [] and not f([])",
        "for i in range(3):\n    assert f([i]) == [i]",
        "assert [f([1])] == [[1]]",
    ],
    "class Q(dict):\n    def total(self):\n        return sum(self.values())\n": [
        "q = Q(a=1)\nq['b'] = 2\nassert q == {'a': 1, 'b': 2}\nassert q.total() == 3 and list(q) == ['a', 'b']",
        "assert f({1: 2}) == {1: 2} and {**f({1: 2})} == {1: 2} and dict(f({3: 4})) == {3: 4}",
    ],
    "import collections\nclass Q(collections.OrderedDict):\n    def oldest(self):\n        return next(iter(self))\n": [
        "q = Q()\nq[1] = 2\nq[0] = 3\nq.move_to_end(1)\nassert q.oldest() == 0",
        "assert list(q.items()) == [(0, 3), (1, 2)]",
    ],
    "class Q(str):\n    def up(self):\n        return self.upper()\n": [
        "assert f('a') == 'a' and f('a').up() == 'A' and {'a': 1}[f('a')] == 1 and f'{f(1)}' == '1'",
    ],
    "import typing\nclass Q(typing.NamedTuple):\n    x: int\n    def twice(self):\n        return 2 * self.x\n": [
        "assert f(2).twice() == 4 and f(2) == (2,) and isinstance(f(2), tuple) and f(2)[0] == f(2).x == 2",
        "a, = f(3)\nassert a == 3 and f(3) == Q(3)",
    ],
}


@pytest.mark.parametrize("code", CASES, ids=["list", "dict", "OrderedDict", "str", "NamedTuple"])
def test_a_class_that_extends_data_keeps_its_methods(harness, code):
    cases = same_as_python(harness, f"{code}def f(x):\n    return Q(x)\n", CASES[code])
    assert {c.status for c in cases} == {"passed"}
    assert not any(c.whole for c in cases if c.test.count("Q(3)") == 0)


def test_where_plain_data_is_wanted_it_is_taken(harness):
    code = "class Q(list):\n    def index(self, x):\n        return 0\ndef f(x):\n    return Q([x])\n"
    plain = "def f(x):\n    return [x]\n"
    tests = [
        "assert f(1) == [1]",
        "for i in [2]:\n    assert f(i) == [i]",
        "import json\nassert json.dumps(f(1)) == '[1]'",
    ]
    assert judged(harness, code, *tests, canonical=plain).status == "passed"


FORGED = """class Q(list):
    def __init__(self, *values):
        super().__init__()
    def same(self):
        return True
    def __eq__(self, other):
        return True
    def __contains__(self, other):
        return True
    def index(self, other):
        return other
def f(x):
    return Q()
"""


def test_no_method_of_such_a_class_decides_what_it_equals(harness):
    right = "class Q(list):\n    def same(self):\n        return self\ndef f(x):\n    return Q([x])\n"
    tests = ["for i in range(1, 3):\n    assert f(i) == [i]", "x = [4]\nassert f(4) == x", "assert [f(1)] == [[1]]"]
    assert [c.status for c in judged(harness, FORGED, *tests, canonical=right).base.cases] == ["failed"] * 3
    (case,) = judged(harness, FORGED, "for i in [1]:\n    assert f(i) == Q([i])", canonical=right).base.cases
    assert case.status == "failed" or case.whole
