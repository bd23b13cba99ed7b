"""Hypothesis strategies for the values that the codec knows."""

import datetime as dt
import http
import ipaddress
import math
import operator
import re
import types
import uuid
from array import array
from collections import ChainMap, Counter, OrderedDict, UserDict, UserList, UserString, defaultdict, deque
from decimal import Decimal
from fractions import Fraction
from pathlib import Path, PurePosixPath, PureWindowsPath
from zoneinfo import ZoneInfo

from hypothesis import strategies as st

numbers = (
    st.booleans()
    | st.integers()
    | st.integers(min_value=-(10**40), max_value=10**40)
    | st.floats()
    | st.complex_numbers()
    | st.decimals()
    | st.fractions(max_denominator=10**6)
)
texts = st.text(st.characters(), max_size=8) | st.sampled_from(["\ud800", "a\udfff", "\0"])
ranges = st.builds(range, st.integers(-5, 5), st.integers(-5, 5), st.sampled_from([-3, -1, 1, 2]))
atoms = st.none() | numbers | texts | st.binary(max_size=8) | ranges
hashable = st.recursive(
    atoms.filter(lambda v: not isinstance(v, Decimal) or not v.is_snan()),
    lambda inner: st.lists(inner, max_size=3).map(tuple) | st.frozensets(inner, max_size=3),
    max_leaves=6,
)


def containers(inner, keys):
    return (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.lists(inner, max_size=4).map(deque)
        | st.dictionaries(keys, inner, max_size=4)
        | st.dictionaries(keys, inner, max_size=4).map(OrderedDict)
        | st.dictionaries(keys, st.integers(-2, 2), max_size=4).map(Counter)
        | st.sets(keys, max_size=4)
    )


plain = st.recursive(
    hashable
    | st.binary(max_size=8).map(bytearray)
    | st.lists(st.integers(), min_size=8, max_size=12)
    | st.lists(st.floats(), min_size=8, max_size=12).map(tuple),
    lambda inner: containers(inner, hashable),
    max_leaves=12,
)

# Few values, many of them equal to one another across types.
_few_atoms = st.sampled_from(
    [None, True, False, 0, 1, 2, -1, 0.0, -0.0, 1.0, 2.0, 0.5, 1 + 0j, 2 + 1j, 0j, 10**20, 1e20, "", "a", "1"]
    + [Decimal(1), Decimal("0.5"), Decimal("1E+20"), Decimal("1.0"), Decimal("Infinity"), float("inf")]
    + [Fraction(1), Fraction(1, 2), b"a", b"", range(0), range(3, 3), range(1), range(0, 1, 7), range(0, 3, 2)]
)
_few_keys = _few_atoms | st.lists(_few_atoms, max_size=2).map(tuple) | st.frozensets(_few_atoms, max_size=2)
few = st.recursive(
    _few_keys | st.sampled_from([b"a", b""]).map(bytearray),
    lambda inner: containers(inner, _few_keys),
    max_leaves=5,
)


def spelled_alike(value):
    """A value equal to the given one, of other types wherever Python's `==` allows it."""
    match value:
        case bool() | int() if abs(value) < 10:
            return Decimal(int(value))
        case dict():
            return Counter(value) if type(value) is OrderedDict else dict(reversed(list(value.items())))
        case set():
            return frozenset(value)
        case list():
            return [spelled_alike(v) for v in value]
        case tuple():
            return tuple(spelled_alike(v) for v in value)
        case bytes():
            return bytearray(value)
        case range():
            return value[:]
    return value


def _zones():
    yield from (None, dt.UTC, dt.timezone(dt.timedelta(hours=2)), dt.timezone(dt.timedelta(hours=2), "X"))
    try:
        yield from (ZoneInfo("Europe/Berlin"), ZoneInfo("UTC"), ZoneInfo("Africa/Cairo"))
    except LookupError:  # no time zones on this machine
        return


ZONES = list(_zones())
MOMENTS = [
    *(lambda h=h, z=z, f=f: dt.datetime(2021, 10, 31, h, 30, tzinfo=z, fold=f)
      for h in (0, 1, 2, 3) for z in ZONES for f in (0, 1)),
    *(lambda h=h, z=z: dt.time(h, 30, 0, 5, tzinfo=z) for h in (0, 2) for z in ZONES),
    *(lambda d=d: dt.date(2021, 10, d) for d in (30, 31)),
    *(lambda z=z: z for z in ZONES),
    *(lambda h=h: dt.timedelta(hours=h, microseconds=7) for h in (-1, 24)),
    lambda: dt.timedelta(days=1, microseconds=7),
]  # fmt: skip
NAMED = [
    *(
        lambda v=v: v
        for v in (int, bool, type(None), types.FunctionType, Counter, dt.date, ValueError, ..., NotImplemented)
    ),
    *(lambda v=v: v for v in (len, max, math.sqrt, operator.add, http.HTTPStatus.OK, 200, re.RegexFlag.I)),
]
OTHERS = [
    *(lambda p=p: p("a/B") for p in (Path, PurePosixPath, PureWindowsPath)),
    *(lambda t=t: PureWindowsPath(t) for t in ("A\\b", "a/b/c")),
    *(lambda n=n: uuid.UUID(int=n) for n in (0, 1)),
    *(lambda t=t: ipaddress.ip_address(t) for t in ("1.2.3.4", "::1", "::0:1")),
    *(lambda t=t: ipaddress.ip_network(t) for t in ("1.2.3.4/32", "1.2.3.0/24")),
    *(lambda t=t: ipaddress.ip_interface(t) for t in ("1.2.3.4/32", "1.2.3.4/24")),
]
UNHASHABLE = [
    *(lambda c=c: array(c, [1, 2]) for c in "bBhiIlqQfd"),
    *(lambda: array("d", [0.5]), lambda: array("i"), lambda: array("d"), lambda: array("u", "ab")),
    *(lambda: {1: 2}.keys(), lambda: OrderedDict([(1, 2)]).keys(), lambda: UserDict({1: 2}).keys(), lambda: {1}),
    *(lambda: {1: 2}.items(), lambda: {1.0: True + 1}.items(), lambda: {(1, 2)}, lambda: {1: 2}.values()),
    *(lambda c=c: c({"a": 1}) for c in (dict, UserDict, types.MappingProxyType, ChainMap, OrderedDict, Counter)),
    *(lambda: ChainMap({"a": 1}, {"b": 2, "a": 3}), lambda: {"b": 2, "a": 1.0}, lambda: defaultdict(int, a=1)),
    *(lambda: UserList([1, [2]]), lambda: [1.0, [2]], lambda: UserList(), lambda: [], lambda: UserString("a")),
    *(lambda: slice(1, None, 2), lambda: slice(1.0, None, 2), lambda: slice(1), lambda: types.SimpleNamespace(a=1)),
    *(lambda: types.SimpleNamespace(a=True), lambda: types.SimpleNamespace(), lambda: ValueError(1)),
    *(lambda: memoryview(b"a"), lambda: b"a", lambda: bytearray(b"a"), lambda: memoryview(b"ab")[::2]),
    *(
        lambda: re.compile("a"),
        lambda: re.compile("a", re.I),
        lambda: re.compile(b"a"),
        lambda: deque(),
        lambda: deque([1]),
    ),
]


def made(factories):
    """Values that are new each time: of one object Python says that it equals itself without asking it."""
    return st.sampled_from(factories).map(lambda make: make())


standard = made(MOMENTS + NAMED + OTHERS + UNHASHABLE)
any_few = st.recursive(
    few | standard, lambda inner: containers(inner, _few_keys | made(MOMENTS + NAMED + OTHERS)), max_leaves=5
)
