"""The rules of comparison beside EvalPlus' own functions, on generated data."""

import math
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evoprompt.harness.inside import codec
from evoprompt.harness.judging import oracles
from evoprompt.harness.judging.compare import to_host

quick = settings(deadline=None, derandomize=True, max_examples=300)
small = st.integers(-3, 3)
floats = st.floats(-4, 4).map(lambda x: round(x, 1)) | st.sampled_from([0.0, 1.0, -0.0, math.inf])
nudged = st.tuples(floats, st.sampled_from([0.0, 1e-9, 9e-7, 2e-6, 9e-5, 2e-4])).map(sum)
numbers = small | floats | nudged | st.booleans()
rows = st.lists(numbers, max_size=3)
grids = st.lists(st.lists(nudged, min_size=2, max_size=2), max_size=3)
values = numbers | rows | rows.map(tuple) | grids | st.sampled_from(["a", "1", None])


@pytest.fixture(scope="module")
def theirs():
    numpy = pytest.importorskip("numpy")
    evalplus = pytest.importorskip("evalplus.eval")

    def verdict(entry_point, out, exp, inp, atol):
        """The body of `evalplus.eval.unsafe_execute` for one input, with shapes that have to agree."""
        exact = out == exp
        if entry_point == "surface_Area":
            exact = exact or abs(out - evalplus._surface_Area(*inp)) <= atol
        elif entry_point == "digit_distance_nums":
            exact = exact or out == evalplus._digit_distance_nums(*inp)
        elif entry_point in evalplus.MBPP_OUTPUT_SET_EQ_TASKS:
            exact = set(out) == set(exp)
        elif entry_point in evalplus.MBPP_OUTPUT_NOT_NONE_TASKS:
            exact = out == exp if isinstance(out, bool) else exp == (out is not None)
        elif entry_point == "find_zero":
            return abs(evalplus._poly(*inp, out)) <= atol
        if atol == 0 and evalplus.is_floats(exp):
            atol = 1e-6
        if exact or atol == 0 or type(out) is not type(exp) or numpy.shape(out) != numpy.shape(exp):
            return bool(exact)
        return bool(numpy.allclose(out, exp, rtol=1e-07, atol=atol))

    def safe(*arguments):
        try:
            return verdict(*arguments)
        except (TypeError, ValueError, ArithmeticError):
            return False

    return safe


def ours(entry_point, out, exp, inp, atol):
    oracle = (oracles.MBPP | oracles.HUMANEVAL).get(entry_point, "")
    return oracles.agrees(codec.decode(codec.encode(out)), to_host(exp), list(inp), oracle, atol)


@quick
@given(values, values, st.sampled_from([0.0, 1e-6, 1e-4]))
def test_tolerance_is_evalplus(theirs, out, exp, atol):
    assert ours("f", out, exp, [], atol) == theirs("f", out, exp, [], atol)


@quick
@given(grids | rows | rows.map(tuple), st.sampled_from([0.0, 1e-9, 1e-7, 9e-7, 2e-6, 1e-3]), st.sampled_from([0, 1e-4]))
def test_tolerance_on_nearly_equal_values(theirs, exp, shift, atol):
    def nudge(value):
        if isinstance(value, list | tuple):
            return type(value)(map(nudge, value))
        return value + shift if type(value) is float else value

    assert ours("f", nudge(exp), exp, [], atol) == theirs("f", nudge(exp), exp, [], atol)


keys = small | st.sampled_from(["a", "b", 1.0, True, None]) | st.tuples(small, small) | st.lists(small, max_size=1)
sets = st.lists(keys, max_size=4)


@quick
@given(
    sets | sets.map(tuple) | st.text("ab", max_size=3) | st.sets(small) | st.dictionaries(small, small) | small,
    sets | sets.map(tuple) | st.lists(st.sampled_from([0.5, 1.0]), max_size=3),
)
def test_set_equality_is_evalplus(theirs, out, exp):
    # An unhashable element fails in EvalPlus even where the values are equal; here equal is equal.
    assert ours("Diff", out, exp, [], 0.0) == (theirs("Diff", out, exp, [], 0.0) or out == exp)


@quick
@given(small | st.sampled_from(["", "a", None, 0.0, True, False]) | rows, st.booleans())
def test_not_none_is_evalplus(theirs, out, exp):
    assert ours("check_str", out, exp, ["a"], 0.0) == theirs("check_str", out, exp, ["a"], 0.0)


@quick
@given(st.integers(0, 60), st.integers(0, 60), st.integers(-2, 2), st.sampled_from([float, int, str, lambda v: [v]]))
def test_surface_area_is_evalplus(theirs, edge, height, shift, kind):
    area = edge**2 + round(2 * edge * math.sqrt((edge / 2) ** 2 + height**2))
    out, exp = kind(area + shift), 2 * edge * height + edge**2
    for atol in (0.0, 1.0):
        assert ours("surface_Area", out, exp, [edge, height], atol) == theirs(
            "surface_Area", out, exp, [edge, height], atol
        )


@quick
@given(st.integers(-20, 2000), st.integers(0, 2000), st.integers(0, 30))
def test_digit_distance_is_evalplus(theirs, first, second, out):
    exp = sum(abs(int(a) - int(b)) for a, b in zip(str(abs(first)), str(second), strict=False))
    arguments = ("digit_distance_nums", out, exp, [first, second], 0.0)
    assert ours(*arguments) == theirs(*arguments)


@quick
@given(st.lists(st.integers(-4, 4), min_size=1, max_size=4), floats | small | st.sampled_from(["a", None, [1.0]]))
def test_find_zero_is_evalplus(theirs, coefficients, out):
    arguments = ("find_zero", out, -1e9, [coefficients], 1e-4)
    assert ours(*arguments) == theirs(*arguments)


def test_the_cases_that_evalplus_names():
    assert ours("digit_distance_nums", 8, 7, [123, 256], 0.0) is False
    assert ours("digit_distance_nums", 11, 7, [9, 20], 0.0) is True
    assert ours("surface_Area", 33, 33, [3, 4], 0.0) and ours("surface_Area", 35, 33, [3, 4], 0.0)
    assert ours("find_zero", -0.5, 7.0, [[1, 2]], 1e-4) and not ours("find_zero", -0.4, -0.4, [[1, 2]], 1e-4)
    assert ours("f", Counter("ab"), {"a": 1, "b": 1}, [], 0.0)
    assert not ours("f", [[1.5], [1.5]], [1.5, 1.5], [], 0.0), "no broadcasting"
    assert ours("find_zero", 10**400, 0.0, [[1, 2]], 1e-4) is False


def test_a_numpy_number_within_tolerance_is_right():
    numpy = pytest.importorskip("numpy")
    assert ours("f", numpy.float64(0.1 + 0.2), 0.3, [], 0.0)
    assert ours("f", [numpy.float64(0.1 + 0.2)], [0.3], [], 0.0)
