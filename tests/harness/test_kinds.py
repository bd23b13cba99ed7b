"""What real solutions return besides plain data: it travels, is compared as Python would, and keeps its type."""

import contextlib
import datetime as dt
import enum
import http
import re
import struct
import tracemalloc
from array import array
from collections import Counter, OrderedDict, UserList, deque
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evoprompt.harness.inside import digest
from evoprompt.harness.inside.codec import CodecError, Other, Unencodable, decode, encode
from evoprompt.harness.inside.kinds import rebuild
from evoprompt.harness.judging import compare
from tests.harness.values import UNHASHABLE, any_few, few, plain, spelled_alike, standard

thorough = settings(deadline=None, derandomize=True, max_examples=600)
quick = settings(deadline=None, derandomize=True, max_examples=150)


def same(a, b, atol=0.0, **options):
    return compare.equal(decode(encode(a)), decode(encode(b)), atol, **options)


def back(value):
    return decode(encode(value), rebuild)


@thorough
@given(standard, standard)
def test_equality_is_pythons(a, b):
    assert same(a, b) == bool(a == b), (a, b)


@pytest.mark.slow
@thorough
@given(any_few, any_few)
def test_equality_of_nested_values_is_pythons(a, b):
    assert same(a, b) == bool(a == b), (a, b)


@pytest.mark.slow
@thorough
@given(st.sampled_from(UNHASHABLE), st.sampled_from(UNHASHABLE), st.sampled_from(UNHASHABLE))
def test_equality_in_lists_is_pythons(a, b, c):
    assert same([a(), b()], [c(), b()]) == bool([a(), b()] == [c(), b()])


@pytest.mark.slow
@thorough
@given(any_few)
def test_what_is_rebuilt_is_equal_and_of_one_type(value):
    found = back(value)
    assert bool(found == value) == same(value, value)
    assert type(found) is type(value) or not isinstance(value, dict | OrderedDict | dt.tzinfo)


def certain(value):
    return not isinstance(value, OrderedDict | Counter) and not (
        (isinstance(value, dict) and not all(map(certain, value.values())))
        or (isinstance(value, list | tuple | deque | UserList) and not all(map(certain, value)))
    )  # fmt: skip


@pytest.mark.slow
@thorough
@given(any_few, any_few)
def test_the_digests_are_equal_where_the_values_are(a, b):
    try:
        left, right = (digest.digest(v, certain=True) for v in (a, b))
    except digest.Uncertain:
        return
    if not _odd_moments(a) and not _odd_moments(b):
        assert (left == right) == bool(a == b) or not bool(a == a), (a, b)


def _odd_moments(value):
    """In the hour that a clock shows twice, equality is no equivalence, and a view of values equals nothing."""
    return (
        "fold=1" in repr(value) or "ZoneInfo" in repr(value) or "dict_values" in repr(value) or "Error" in repr(value)
    )


@pytest.mark.slow
@thorough
@given(few)
def test_the_digests_of_what_is_spelled_differently(value):
    other = spelled_alike(value)
    assert (digest.digest(value) == digest.digest(other)) == bool(value == other) or not certain(value)


@pytest.mark.slow
@quick
@given(st.lists(st.floats() | st.integers(-3, 3) | st.booleans() | st.text(max_size=2), max_size=40), st.data())
def test_digests_of_long_sequences_are_those_of_their_elements(items, data):
    items = (items or [1]) * 2_000
    other = list(items)
    at = data.draw(st.integers(0, len(items) - 1))
    other[at] = data.draw(st.sampled_from([0, 1, 1.0, "a", None, 0.5]))
    equal = other[at] == items[at] or other[at] is items[at]
    assert (digest.digest(items) == digest.digest(other)) == equal
    assert digest.digest(items) != digest.digest(tuple(items)) != digest.digest(tuple(items[:-1]))


class _List(list):
    pass


class _Tuple(tuple):
    pass


@pytest.mark.parametrize("count", [3, 9_000])
@pytest.mark.parametrize("item", [1, 0.5, "a", float("nan"), [2]], ids=repr)
def test_a_subclass_of_a_sequence_has_the_digest_of_what_it_extends(item, count):
    items = [item] * count
    assert digest.digest(_List(items)) == digest.digest(UserList(_List(items))) == digest.digest(items)
    assert digest.digest(_Tuple(items)) == digest.digest(tuple(items)) != digest.digest(items)


def test_all_nans_have_one_digest():
    infinite = float("inf")
    for one in (infinite - infinite, -(infinite - infinite), Decimal("nan"), Decimal("-nan")):
        assert digest.digest([one, 1]) == digest.digest([float("nan"), 1])
    assert digest.digest(complex(1, infinite - infinite)) == digest.digest(complex(1, float("nan")))


@quick
@given(
    st.lists(st.floats(allow_nan=True), min_size=8, max_size=60),
    st.lists(st.sampled_from([0.0, 1e-9, 9e-7, 2e-6, 1e-3]), min_size=60, max_size=60),
    st.sampled_from([1e-6, 1e-4]),
    st.booleans(),
)
def test_floats_are_compared_in_pieces_as_in_memory(wanted, shifts, atol, sign):
    seen = [w + (s if sign else -s) for w, s in zip(wanted, shifts, strict=False)]
    a, b = encode(seen), encode(wanted)
    assert a[:2] == b"Ld"
    assert compare.close_floats(a, b, 6, atol) == compare.equal(decode(a), decode(b), atol)


def test_types_that_only_say_so_are_none():
    class Date:
        def toordinal(self):
            return 1

    Date.__module__, Date.__name__, Date.__qualname__ = "datetime", "date", "date"
    color = enum.Enum("Color", "RED")
    for value in (Date(), Date, color.RED, type("int", (), {}), print, eval, getattr, open, re.match("a", "a")):
        with pytest.raises(Unencodable, match="no plain data"):
            encode(value)


def test_subclasses_count_as_what_they_extend():
    class Day(dt.date):
        def __eq__(self, other):
            return True

        def toordinal(self):
            return 7

        __hash__ = None

    assert same(Day(2020, 1, 2), dt.date(2020, 1, 2)) and not same(Day(2020, 1, 2), dt.date(2020, 1, 3))
    assert back(http.HTTPStatus.OK) is http.HTTPStatus.OK and same(http.HTTPStatus.OK, 200.0)


def test_numpy_keeps_its_types():
    numpy = pytest.importorskip("numpy")
    values = [
        numpy.float32(0.5),
        numpy.int8(-3),
        numpy.bool_(True),
        numpy.complex64(1j),
        numpy.str_("a"),
        numpy.float16(2),
    ]
    values += [numpy.datetime64("2020-01-01"), numpy.timedelta64(3, "h"), numpy.longdouble(0.25)]
    for value in values:
        again = back(value)
        assert again == value and (type(again) is type(value) or value.dtype.char == "g")
        assert same(value, value) and digest.digest([value]) == digest.digest([again])
    assert same(numpy.int64(3), 3) and same([numpy.float64(0.5)], [0.5]) and same(numpy.bool_(True), True)
    for kind in ("?", "i1", "u2", "f2", "f4", "f8", "c8", "c16", "M8[D]", "m8[s]", "U3", "S2", "O"):
        grid = numpy.arange(6).reshape(2, 3).astype("i8" if kind in ("M8[D]", "m8[s]") else "f4").astype(kind)
        again = back(grid)
        assert again.dtype == grid.dtype and again.shape == (2, 3) and (again == grid).all() and again.flags.writeable
        assert same(grid, grid) and same(grid.T, grid.T.copy()) and not same(grid, grid.T)
    assert same(numpy.arange(3), numpy.arange(3.0)) and not same(numpy.arange(3), [0, 1, 2])
    assert same(numpy.array([0.30000001]), numpy.array([0.3]), evalplus=True)
    assert same([numpy.float64(0.30000001)], [numpy.float64(0.3)], evalplus=True)
    assert same(numpy.dtype("f4"), numpy.dtype("f4")) and back(numpy.float32) is numpy.float32
    with pytest.raises(Unencodable):
        encode(numpy.ma.masked_array([1, 2], [True, False]))
    with pytest.raises(Unencodable):
        encode(numpy.zeros(2, dtype=[("a", "i4")]))


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (dt.date(2020, 2, 1), "date(2020, 2, 1)"),
        (dt.timedelta(hours=3), "timedelta(seconds=10800)"),
        (dt.datetime(2020, 2, 1, 3), "datetime 2020-02-01T03:00:00"),
        (PATH := __import__("pathlib").PurePosixPath("a"), "PurePosixPath('a')"),
        ([int, Counter], "[int, collections.Counter]"),
        ({1: 2}.keys(), "keys([1])"),
        (deque([1]), "deque([1])"),
        (UserList([1]), "[1]"),
        (http.HTTPStatus.OK, "200"),
        (array("d", [0.5]), "array([0.5])"),
    ],
)
def test_how_they_are_shown(value, shown):
    assert compare.show(decode(encode(value))) == shown


@quick
@given(standard, st.data())
def test_contents_that_are_made_up_are_unequal_and_nothing_worse(value, data):
    decoded = decode(encode(value))
    kind = decoded.kind if isinstance(decoded, Other) else "array"
    other = Other(kind, decode(encode(data.draw(few | plain))))
    for a, b in ((other, decoded), (decoded, other), (other, other)):
        assert compare.equal(a, b, data.draw(st.sampled_from([0.0, 1e-6]))) in (True, False)
        assert compare.show(a)


def _judged(data):
    """What a host does with a frame: it decodes, compares and shows it."""
    with contextlib.suppress(CodecError):
        value = decode(data)
        compare.equal(value, decode(data), 1e-6)
        compare.show(value)


def _many(count, item):
    return b"l" + struct.pack("<I", count) + item * count


FRAMES = {
    "empty deques": _many(10_000, b"x\x05deque" + b"l\0\0\0\0"),
    "empty lists": _many(20_000, b"l\0\0\0\0"),
    "empty dicts": _many(20_000, b"d\0\0\0\0"),
    "small dicts": _many(14_000, b"d\x01\0\0\0NN"),
    "small lists": _many(16_000, b"l\x01\0\0\0N"),
    "Decimals": _many(8_000, encode(Decimal("1E-1200"))),
    "large Decimals": _many(8_000, encode(Decimal("1E+1200"))),
    "Fractions": _many(50, encode(Fraction(3**10_000, 2**16_000 + 1))),
    "a tower": b"l\x01\0\0\0" * 20_000 + b"N",
    "surrogates": encode("\ud800" * 25_000),
    "wrong text": b"s" + struct.pack("<I", 35_000 * 3) + b"\xed\xa0\x80" * 35_000,
    "arrays": _many(3_000, encode(array("b", [1] * 9))),
    "moments": _many(2_000, encode(dt.datetime(2020, 1, 1))),
    "one key": b"d" + struct.pack("<I", 15_000) + b"NN" * 15_000,
    "ranges": _many(3_000, encode(range(10**9))),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FRAMES)
def test_a_frame_costs_the_host_a_small_multiple_of_its_bytes(name):
    """A megabyte may take fifty, to decode it twice and compare."""
    data = FRAMES[name]
    tracemalloc.start()
    _judged(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50 * len(data) + 2**18
