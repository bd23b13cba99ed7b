import ast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evoprompt.harness.asserts import NOTHING, defined_names, imports_of, split
from evoprompt.harness.compare import equal, to_host

NAMES = frozenset({"g", "Stack", "make"})


def one(source):
    (check,) = split(source, NAMES, "f")
    return check


@pytest.mark.parametrize(
    ("source", "call", "expected"),
    [
        ("assert f(2) == 4", "f(2)", 4),
        ("assert 4 == f(2)", "f(2)", 4),
        ("assert f('a', k=1) == {'a': (1, -2.5), None: {3}}", "f('a', k=1)", {"a": (1, -2.5), None: {3}}),
        ("assert f(1) == set()", "f(1)", set()),
        ("assert f(1) == 1+2j, 'a message'", "f(1)", 1 + 2j),
        ("assert (f(\n  1,\n  2) ==\n 3)", "f(1, 2)", 3),
        ("assert f(g(1), [g(2)]) == 3", "f(g(1), [g(2)])", 3),
        ("assert f(lambda x: g(x)) == 3", "f(lambda x: g(x))", 3),
        ("assert f([x for x in range(3)]) == 3", "f([x for x in range(3)])", 3),
        ("assert Stack().push(1).size() == 1", "Stack().push(1).size()", 1),
        ("assert Stack([1]).pop() == 1", "Stack([1]).pop()", 1),
        ("assert make(3)(4) == 7", "make(3)(4)", 7),
        ("assert f(1)[0]['a'] == 7", "f(1)[0]['a']", 7),
        ("assert f(1).total == 7", "f(1).total", 7),
        ("assert list(f(1)) == [7]", "list(f(1))", [7]),
        ("assert sorted(set(f(1))) == [7]", "sorted(set(f(1)))", [7]),
        ("assert len(f(1)) == 7", "len(f(1))", 7),
        ("assert str(Stack()) == '<>'", "str(Stack())", "<>"),
    ],
)
def test_a_literal_stays_in_the_host(source, call, expected):
    check = one(source)
    assert (check.calls, check.residual, check.whole) == ((call,), None, False)
    assert equal(check.expected, to_host(expected))


@pytest.mark.parametrize(
    ("source", "calls", "residual"),
    [
        ("assert f(1)", ["f(1)"], "_0"),
        ("assert not f(1)", ["f(1)"], "not _0"),
        ("assert f(1) is None", ["f(1)"], "_0 is None"),
        ("assert f(1) is True", ["f(1)"], "_0 is True"),
        ("assert f(1) != 3", ["f(1)"], "_0 != 3"),
        ("assert f(1) in (2, 3)", ["f(1)"], "_0 in (2, 3)"),
        ("assert 2 in f(1)", ["f(1)"], "2 in _0"),
        ("assert set(f(1)) == set([2])", ["set(f(1))"], "_0 == set([2])"),
        ("assert math.isclose(f(1), 0.3)", ["f(1)"], "math.isclose(_0, 0.3)"),
        ("assert abs(f(1) - 2) < 1e-06", ["f(1)"], "abs(_0 - 2) < 1e-06"),
        ("assert round(f(1), 2) == 0.33", ["f(1)"], "round(_0, 2) == 0.33"),
        ("assert f(1) == math.factorial(5)", ["f(1)"], "_0 == math.factorial(5)"),
        ("assert f(1) == f(2)", ["f(1)", "f(2)"], "_0 == _1"),
        ("assert f(1) == 2 and g(3) == 4", ["f(1)", "g(3)"], "_0 == 2 and _1 == 4"),
        ("assert 1 < f(1) < 3", ["f(1)"], "1 < _0 < 3"),
        ("assert f('a').upper() == 'A'", ["f('a')"], "_0.upper() == 'A'"),
        ("assert f(1).issubset({1, 2})", ["f(1)"], "_0.issubset({1, 2})"),
        ("assert f(1).__eq__(5)", ["f(1)"], "_0.__eq__(5)"),
        ("assert isinstance(f(1), int)", ["f(1)"], "isinstance(_0, int)"),
        ("assert [x for x in f(1)] == [2]", ["f(1)"], "[x for x in _0] == [2]"),
        ("assert f(1) == pytest.approx(0.3)", ["f(1)"], "_0 == pytest.approx(0.3)"),
        ("assert max(f(1), 3) == 3", ["f(1)"], "max(_0, 3) == 3"),
    ],
)
def test_a_residual_goes_to_the_judge(source, calls, residual):
    check = one(source)
    assert (list(check.calls), check.residual, check.whole) == (calls, residual, False)
    assert check.expected is NOTHING


def test_imports_are_the_callers():
    source = "import math\nfrom os import path as p\nassert f(1) == math.pi\nassert f(2) == p"
    assert [c.residual for c in split(source, NAMES, "f")] == ["_0 == math.pi", "_0 == p"]
    assert imports_of(source) == ("import math", "from os import path as p")


@pytest.mark.parametrize(
    ("test", "truths"),
    [
        ("f(1)", {0}),
        ("not f(1)", {0}),
        ("f(1) is not None", {0}),
        ("f(1) is None or not (f(2) and f(3) == 4)", {0, 1}),
        ("f(1) is True", set()),
        ("f(1) in [f(2)]", set()),
        ("isinstance(f(1), int)", set()),
    ],
)
def test_where_only_the_truth_matters(test, truths):
    assert one(f"assert {test}").truths == truths


def test_the_reference_of_a_residual():
    assert one("assert f(1) == math.pi").reference == "math.pi"
    assert one("assert 1 / 3 == f(1)").reference == "1 / 3"
    assert one("assert f(1) != math.pi").reference is None
    assert one("assert f(1) == f(2)").reference is None or one("assert f(1) == f(2)").calls == ("f(1)",)


@pytest.mark.parametrize(
    "source",
    [
        "assert all(f(x) == x for x in [1])",
        "assert isinstance(f(1), Stack)",
        "assert callable(f)",
        "assert 1 == 1",
        "assert _0 == f(1)",
        "with pytest.raises(ValueError):\n    f(1)",
        "for x in range(3):\n    assert f(x) == x",
        "x = f(1)\nassert x == 1",
        "s = Stack()\ns.push(1)\nassert s.pop() == 1",
        "import f\nx = 1",
        "import math",
    ],
)
def test_what_cannot_be_split_runs_whole(source):
    check = one(source)
    assert check.whole
    assert (check.calls, check.residual, check.expected) == ((), None, NOTHING)
    assert ast.parse(check.source)


def test_several_asserts_are_several_checks():
    checks = split("assert f(1) == 1\nassert f(2) == 2, 'no'; assert math.isclose(f(3), 3)", NAMES, "f")
    assert [c.calls for c in checks] == [("f(1)",), ("f(2)",), ("f(3)",)]
    assert checks[0].source == "assert f(1) == 1"


def test_a_candidate_may_be_named_like_a_builtin():
    (check,) = split("assert sum(2) == 3 and len(sum(3)) == 1", {"len"}, "sum")
    assert check.calls == ("sum(2)", "len(sum(3))")


@pytest.mark.parametrize(
    "source",
    ["assert f(", "", "# nothing", "assert f(1) == " + "(" * 500, "a\0", "assert f(1) == " + "-" * 50_000 + "1"]
    + ["assert f(1) == " + "1+" * 20_000 + "1", "assert f(1) = 2", "assert f(1) == '\ud800' +"],
)
def test_what_does_not_parse_says_so_in_one_line(source):
    with pytest.raises(ValueError, match=r"\A[^\n]+\Z"):
        split(source, NAMES, "f")


literals = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner)
        | st.dictionaries(st.integers(), inner, max_size=3)
        | st.sets(st.text(max_size=2), max_size=3)
    ),
    max_leaves=5,
).filter(lambda v: "inf" not in repr(v))


@settings(deadline=None, derandomize=True, max_examples=200)
@given(literals, literals, st.booleans())
def test_no_part_of_the_expected_value_is_in_a_call(argument, expected, swapped):
    sides = [f"f({argument!r})", repr(expected)]
    check = one("assert " + " == ".join(reversed(sides) if swapped else sides))
    assert check.calls == (ast.unparse(ast.parse(sides[0])),)
    assert check.residual is None and equal(check.expected, to_host(expected))


@settings(deadline=None, derandomize=True, max_examples=100)
@given(st.text("f(g)[]{}=, 1'.:x\n_0 assert", max_size=30))
def test_any_text_is_split_or_refused(text):
    for source in (text, f"assert f(1) == {text}"):
        try:
            assert split(source, NAMES, "f")
        except ValueError as e:
            assert "\n" not in str(e)


def test_names_of_a_canonical_solution():
    code = "import os\nfrom math import pi as p\nX, Y = 1, 2\nZ: int = 3\nif X:\n    def f(): q = 1\nclass A: b = 1\n"
    assert defined_names(code) == {"X", "Y", "Z", "f", "A"}
    assert imports_of("from __future__ import annotations\n" + code) == ("import os", "from math import pi as p")
    assert defined_names("def (") == frozenset() and imports_of("def (") == ()


@pytest.mark.parametrize(
    ("source", "call", "expected"),
    [
        ("assert [f(d) for d in [[1]] * 2] == [1, 1]", "[f(d) for d in [[1]] * 2]", [1, 1]),
        ("assert (2, [3]) == (lambda d: (f(d), d))([3])", "(lambda d: (f(d), d))([3])", (2, [3])),
        ("assert list(map(f, [1])) == [1]", "list(map(f, [1]))", [1]),
        ("assert f.__name__ == 'f'", "f.__name__", "f"),
        ("assert pickle.loads(f(1)) == 1", "pickle.loads(f(1))", 1),
    ],
)
def test_a_side_that_is_all_the_candidates_splits_from_a_literal(source: str, call: str, expected: object) -> None:
    (check,) = split(source, (), "f")
    assert (check.calls, check.expected, check.whole, check.source) == ((call,), expected, False, source)


@pytest.mark.parametrize(
    "source", ["assert [f(i) == 2 * i for i in (1, 2)] == [True, True]", "assert all(f(i) == i for i in (1, 2))"]
)
def test_what_is_expected_inside_a_loop_keeps_the_test_whole(source: str) -> None:
    assert [c.whole for c in split(source, (), "f")] == [True]
