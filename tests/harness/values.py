"""Hypothesis strategies for the values that the codec knows."""

from collections import Counter, OrderedDict, deque
from decimal import Decimal
from fractions import Fraction

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
