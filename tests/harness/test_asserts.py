import ast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evoprompt.harness.judging.asserts import NOTHING, defined_names, imports_of, split
from evoprompt.harness.judging.compare import equal, to_host

NAMES = frozenset({"g", "Stack", "make"})


def one(source):
    (check,) = split(source, NAMES, "f")
    return check


@pytest.mark.parametrize(
    ("source", "call", "form", "expected"),
    [
        ("assert f(2) == 4", "f(2)", "==", 4),
        ("assert 4 == f(2)", "f(2)", "==", 4),
        ("assert f('a', k=1) == {'a': (1, -2.5), None: {3}}", "f('a', k=1)", "==", {"a": (1, -2.5), None: {3}}),
        ("assert f(1) == set()", "f(1)", "==", set()),
        ("assert f(1) == 1+2j, 'a message'", "f(1)", "==", 1 + 2j),
        ("assert (f(\n  1,\n  2) ==\n 3)", "f(1, 2)", "==", 3),
        ("assert f(1) != 3", "f(1)", "!=", 3),
        ("assert f(1) is None", "f(1)", "is", None),
        ("assert f(1) is not True", "f(1)", "is not", True),
    ],
)
def test_one_call_and_a_literal(source, call, form, expected):
    check = one(source)
    assert (check.calls, check.form, check.whole) == ((call,), form, False)
    assert equal(check.expected, to_host(expected))


@pytest.mark.parametrize(("source", "form"), [("assert g([1])", "true"), ("assert not f(1)", "false")])
def test_one_call_and_its_truth(source, form):
    check = one(source)
    assert (len(check.calls), check.form, check.expected) == (1, form, NOTHING)


@pytest.mark.parametrize(
    ("source", "script", "literals", "held"),
    [
        ("assert f(g(1)) == 3", "assert __equal__(f(g(1)), 0)", (3,), True),
        ("assert [2] == list(f(1))", "assert __equal__(list(f(1)), 0)", ([2],), True),
        ("assert f(1) == 2 and not g(3) == 4", "assert __equal__(f(1), 0) and (not __equal__(g(3), 1))", (2, 4), False),
        ("assert f(1) in (2, 3)", "assert f(1) in (2, 3)", (), False),
        ("assert f(1) == math.pi", "assert __close__(f(1), math.pi)", (), False),
        ("assert f(1) == f(2), 'no'", "assert __close__(f(1), f(2)), 'no'", (), False),
        ("assert type(f(1)) is int", "assert __type__(f(1)) is int", (), False),
        ("x = f(1)\nassert x == 1", "x = f(1)\nassert __equal__(x, 0)", (1,), True),
        ("for x in [1]:\n    assert f(x) == 1", "for x in [1]:\n    assert __equal__(f(x), 0)", (1,), True),
        ("def check(g):\n    assert g(1) == 1\n    assert g(2)\ncheck(f)", None, (1,), False),
        ("with pytest.raises(ValueError):\n    f(1)", "with pytest.raises(ValueError):\n    f(1)", (), False),
        ("assert 1 == 1", "assert __equal__(1, 0)", (1,), True),
    ],
)
def test_what_a_script_compares_with_stays_in_the_host(source, script, literals, held):
    check = one(source)
    assert (check.form, check.literals, check.held, check.whole) == ("", literals, held, False)
    assert script is None or check.script == script
    assert check.source == source


@pytest.mark.parametrize(
    ("source", "calls"),
    [
        ("assert Stack([1]).push(f(2)).pop() == 1", ("Stack([1]).push(f(2)).pop()",)),
        ("assert f(1) == 2 and g(3) == f(1)", ("f(1)", "g(3)")),
        ("assert all(map(f, [1]))", ()),
    ],
)
def test_the_calls_that_stand_in_a_test(source, calls):
    assert one(source).calls == calls


def test_imports_are_the_callers():
    source = "import math\nfrom os import path as p\nassert f(1) == math.pi\nassert f(2) == p"
    assert [c.script for c in split(source, NAMES, "f")] == [
        "assert __close__(f(1), math.pi)",
        "assert __close__(f(2), p)",
    ]
    assert imports_of(source) == ("import math", "from os import path as p")


@pytest.mark.parametrize(
    "source",
    [
        "import inspect\nassert inspect.signature(f)",
        "from inspect import getsource\nassert 'for' not in getsource(f)",
        "class Mine(Stack):\n    pass\nassert f(Mine())",
        "with mock.patch('random.random', return_value=1):\n    assert f(1) == 1",
        "with mock.patch.object(random, 'random'):\n    assert f(1) == 1",
        "import time\ntime.time = lambda: 3\nassert f(1) == 3",
        "assert 'f' in globals()",
    ],
)
def test_what_reaches_into_the_solutions_module_runs_whole(source):
    check = one(source)
    assert check.whole and (check.form, check.script, check.expected) == ("", "", NOTHING)


def test_input_may_be_patched():
    assert not one("with mock.patch('builtins.input', return_value='1'):\n    assert f() == 1").whole


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
    assert check.form == "==" and equal(check.expected, to_host(expected))


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
