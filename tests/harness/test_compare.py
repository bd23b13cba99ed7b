import math
from collections import Counter, OrderedDict, deque
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given, settings

from evoprompt.harness.inside.codec import decode, encode
from evoprompt.harness.judging.compare import equal, show, to_host
from tests.harness.values import few, plain, spelled_alike

quick = settings(deadline=None, derandomize=True, max_examples=250)


def same(a, b, atol=0.0, **options):
    return equal(decode(encode(a)), to_host(b), atol, **options)


@quick
@given(few, few)
def test_equality_is_pythons(a, b):
    assert same(a, b) == (a == b)


@quick
@given(few)
def test_equality_of_what_is_spelled_differently_is_pythons(a):
    b = spelled_alike(a)
    assert same(a, b) == (a == b)
    assert same(b, a) == (b == a)


@pytest.mark.slow
@quick
@given(plain)
def test_a_value_equals_itself_unless_it_holds_a_nan(value):
    assert same(value, value) or "nan" in repr(value).lower()


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (True, 1),
        (2, 2.0),
        (1 + 0j, 1),
        (Decimal("1.50"), Fraction(3, 2)),
        (Decimal("0.5"), 0.5),
        (Decimal("1E+3"), 1000),
        (5e-324, Decimal.from_float(5e-324)),
        (10**400, Decimal(10**400)),
        (Decimal("-0"), 0),
        (Decimal("1E+999999999"), Decimal("10E+999999998")),
        ({1, 2}, frozenset({2.0, True})),
        ({1: "a", 2: "b"}, OrderedDict([(2, "b"), (1, "a")])),
        (Counter("aab"), {"a": 2, "b": 1}),
        (Counter(a=1, b=0), Counter(a=1)),
        (b"a", bytearray(b"a")),
        (range(0), range(5, 2)),
        (range(0, 5, 2), range(0, 6, 2)),
        ({(1, frozenset({2})): [1]}, {(1.0, frozenset({2})): [True]}),
        (math.inf, Decimal("Infinity")),
        ("\ud800", "\ud800"),
    ],
)
def test_equal(a, b):
    assert a == b
    assert same(a, b) and same(b, a)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ([1], (1,)),
        (math.nan, math.nan),
        ([math.nan], [math.nan]),
        ({math.nan: 1}, {math.nan: 1}),
        ({1: math.nan}, {1: math.nan}),
        (Decimal("NaN"), Decimal("NaN")),
        (Decimal("sNaN"), 1),
        ("1", 1),
        (b"a", "a"),
        (None, False),
        (None, 0),
        (deque([1]), [1]),
        ({1}, [1]),
        ({}, set()),
        (OrderedDict([(1, 1), (2, 2)]), OrderedDict([(2, 2), (1, 1)])),
        (Counter(a=1, b=0), {"a": 1}),
        (range(3), [0, 1, 2]),
        (0.1 + 0.2, 0.3),
        (2**53 + 1, float(2**53)),
        (math.inf, -math.inf),
        ([1, 2], [1]),
        ({1: 2}, {1: 2, 3: 4}),
    ],
)
def test_unequal(a, b):
    assert not same(a, b) and not same(b, a)


def test_numpy_scalars_are_numbers_and_arrays_are_arrays():
    numpy = pytest.importorskip("numpy")
    assert same(numpy.int64(3), 3) and same([numpy.float64(0.5)], [0.5]) and same(numpy.bool_(True), True)
    assert not same(numpy.array([1, 2]), [1, 2])
    assert same(numpy.array([1, 2]), numpy.array([1, 2]))
    assert same(numpy.float64(0.30000001), 0.3, 1e-6)


def test_the_tolerance():
    assert same(0.1 + 0.2, 0.3, 1e-9)
    assert same([0.1 + 0.2, [1.0]], [0.3, [1]], 1e-9)
    assert same({"a": 0.1 + 0.2}, {"a": 0.3}, 1e-9)
    assert same(1e10, 1e10 + 500, 1e-9), "the relative tolerance of 1e-7 is added"
    assert same(math.nan, math.nan, 1e-6) and same([math.inf, 1.0], [math.inf, 1.0000001], 1e-6)
    assert same((1 + 1e-9j), (1 + 0j), 1e-6)
    assert not same(0.3001, 0.3, 1e-6)
    assert not same([math.inf], [-math.inf], 1e-6) and not same(1.0, math.inf, 1e-6)
    assert not same((0.1 + 0.2,), [0.3], 1e-6), "types differ"
    assert not same(1, 1.0000001, 1e-6), "types differ"
    assert not same([[1.5], [1.5]], [1.5, 1.50000001], 1e-6), "no broadcasting"
    assert not same([0.3, 0.3], [0.3], 1e-6)
    assert not same(["a", 0.3], ["b", 0.3], 1e-6)
    assert not same({"a": 0.3}, {"b": 0.3}, 1e-6)
    assert not same(10**400, 10**400 + 1, 1e-6), "too large for a float: exact"
    assert not same([Decimal("sNaN")], [0.3], 1e-6) and not same({1: Decimal("sNaN")}, {1: 0.3}, 1e-6)
    assert not same(Decimal("sNaN"), Decimal("sNaN"), 1e-6)


def test_evalplus_allows_floats_a_little_by_itself():
    assert not same(0.1 + 0.2, 0.3)
    assert same(0.1 + 0.2, 0.3, evalplus=True)
    assert same([0.1 + 0.2], [0.3], evalplus=True) and same((0.1 + 0.2,), (0.3,), evalplus=True)
    assert not same([[0.1 + 0.2]], [[0.3]], evalplus=True), "not flat"
    assert not same([0.1 + 0.2, 1], [0.3, 1], evalplus=True), "not only floats"
    assert not same([], [0.3], evalplus=True) and same([], [], evalplus=True)


@pytest.mark.slow
def test_hostile_numbers_cost_nothing():
    hostile = [Decimal("1E+999999999999"), Decimal("1E-999999999999"), Decimal("7" * 1_000_000), 10**1_000_000]
    hostile += [math.inf, Decimal("Infinity"), Fraction(1, 3**5000), -(7**300_000)]
    for a in hostile:
        for b in [*hostile, 5, 0.3, 1j]:
            assert same(a, b) == same(b, a)
            same({a: a, 1: [a]}, {b: b, 1: [b]}, 1e-6)


@pytest.mark.slow
@quick
@given(plain)
def test_show_is_bounded_and_never_raises(value):
    assert len(show(to_host(value))) <= 200
    assert show(to_host(value), 30).encode("utf-8") is not None


@pytest.mark.parametrize(
    "value",
    [None, -1, 1.5, "a'b", b"x", [], [1, (2,), ()], {"a": {1}}, set(), frozenset(), frozenset({1}), range(3)]
    + [range(1, 9, 2), Decimal("1.0"), Fraction(1, 2), deque([1]), bytearray(b"a"), Counter(a=1)],
)
def test_show_is_the_repr(value):
    assert show(to_host(value)) == repr(value)


def test_show_cuts_and_counts():
    assert show(10**20_000) == "<int of about 20001 digits>"
    assert show([10**20_000]) == "[<int of about 20001 digits>]"
    assert show("x" * 1000, 10) == "'xxxxxxxx…"
    assert len(show(to_host(list(range(10**5))))) == 200
    assert show("\ud800") == r"'\ud800'"
