import math
import struct
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from decimal import Decimal
from enum import Enum, IntEnum
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evoprompt.harness.inside import codec
from evoprompt.harness.inside.codec import CodecError, Elements, Pairs, TooLarge, Unencodable, decode, encode
from evoprompt.harness.inside.kinds import rebuild
from tests.harness.values import plain

quick = settings(deadline=None, derandomize=True, max_examples=150)


def rebuilt(value):
    """Real Python data from decoded data, as a judge makes it."""
    return decode(encode(value), rebuild)


def exact(value):
    """A text in which two values agree only when types, bits and order agree; sets are sorted."""
    if isinstance(value, set | frozenset):
        return f"{type(value).__name__}({sorted(map(exact, value))})"
    if isinstance(value, dict):
        return f"{type(value).__name__}({[(exact(k), exact(v)) for k, v in value.items()]})"
    if isinstance(value, list | tuple | deque):
        return f"{type(value).__name__}({[exact(v) for v in value]})"
    if isinstance(value, float):
        return f"float {struct.pack('<d', value)!r}"
    if isinstance(value, complex):
        return f"complex {struct.pack('<dd', value.real, value.imag)!r}"
    return f"{type(value).__name__} {value!r}"


@quick
@given(plain)
def test_what_is_encoded_comes_back(value):
    assert exact(rebuilt(value)) == exact(value)


@quick
@given(st.binary(max_size=60))
def test_random_bytes_give_a_value_or_a_codec_error(data):
    try:
        decode(data)
    except CodecError:
        assert data is not None


@quick
@given(plain, st.data())
def test_mutated_encodings_give_a_value_or_a_codec_error(value, data):
    good = bytearray(encode(value))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(good) - 1))
        match data.draw(st.integers(0, 2)):
            case 0:
                good[at] = data.draw(st.integers(0, 255))
            case 1:
                good.insert(at, data.draw(st.sampled_from(b"NTFiIfcsubBltLPSZdoCrQMx\xff")))
            case 2 if len(good) > 1:
                del good[at]
    try:
        decode(bytes(good))
    except CodecError:
        assert good


@quick
@given(plain)
def test_every_proper_prefix_is_refused(value):
    data = encode(value)
    for end in range(0, len(data), max(1, len(data) // 20)):
        with pytest.raises(CodecError):
            decode(data[:end])
    with pytest.raises(CodecError):
        decode(data + b"N")


@pytest.mark.parametrize(
    "value", [2**63, -(2**63) - 1, 2**64, -1, 255, 256, 10**50_000, -(10**5_000)], ids=lambda _: ""
)
def test_ints_of_any_size(value):
    assert decode(encode(value)) == value


def test_subclasses_are_flattened_without_asking_them():
    def forged(base, *arguments):
        def lie(*_):
            raise AssertionError("the encoder called an overridable method")

        names = ["eq", "ne", "hash", "len", "iter", "getitem", "str", "repr", "index", "int", "float", "bool"]
        body = {f"__{n}__": lie for n in names} | {"items": lie, "keys": lie, "encode": lie, "numerator": 7}
        body["__class__"] = property(lie)
        return type("Forged", (base,), body)(*arguments)

    assert decode(encode(forged(list, [1, 2]))) == [1, 2]
    assert decode(encode(forged(tuple, (1,)))) == (1,)
    assert decode(encode(forged(int, 5))) == 5
    assert decode(encode(forged(str, "x"))) == "x"
    assert decode(encode(forged(bytes, b"x"))) == b"x"
    assert decode(encode(forged(float, 1.5))) == 1.5
    assert decode(encode(forged(complex, 2j))) == 2j
    assert decode(encode(forged(deque, [1]))).content == [1]
    assert decode(encode(forged(Decimal, "1.50"))).as_tuple() == Decimal("1.50").as_tuple()
    assert decode(encode(forged(dict, {"a": 1}))).items == (("a", 1),)
    assert decode(encode(forged(OrderedDict, {"a": 1}))).kind == "OrderedDict"
    assert decode(encode(forged(set, {3}))).items == (3,)
    assert decode(encode(forged(frozenset, {3}))).kind == "frozenset"


def test_ordinary_subclasses():
    point = namedtuple("point", "x y")(1, 2)
    color = IntEnum("Color", "RED BLUE").BLUE
    ordered = OrderedDict(a=1, b=2)
    ordered.move_to_end("a")
    assert decode(encode([point, color])) == [(1, 2), 2]
    assert decode(encode(ordered)).items == (("b", 2), ("a", 1))
    assert decode(encode(defaultdict(list, a=[1]))).kind == "dict"
    assert decode(encode(Counter("aab"))).kind == "Counter"


class Plain:
    pass


@pytest.mark.parametrize(
    "value",
    [object(), Plain(), iter([]), (i for i in ()), lambda: 0, Plain, Enum("E", "A").A, (1).__add__, eval],
)
def test_what_is_no_plain_data_is_refused(value):
    with pytest.raises(Unencodable, match="no plain data"):
        encode([value])


def test_cycles_are_refused():
    loop: list[object] = []
    loop.append({"a": (loop,)})
    with pytest.raises(Unencodable, match="contains itself"):
        encode(loop)
    shared = [1]
    assert decode(encode([shared, shared])) == [[1], [1]]


def test_bounds_of_the_encoder():
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(Unencodable, match="deeply"):
        encode(deep)
    doubled: object = "x"
    for _ in range(40):
        doubled = [doubled, doubled]
    with pytest.raises(TooLarge, match="too large"):
        encode(doubled, max_bytes=1 << 20)
    with pytest.raises(TooLarge, match="too large"):
        encode("x" * 100, max_bytes=99)
    with pytest.raises(TooLarge, match="too large"):
        encode(Fraction(1, 3**20_000))
    with pytest.raises(TooLarge, match="too large"):
        encode(range(10**10_000))


def test_bounds_of_the_decoder():
    deep = b"l\x01\0\0\0" * 100_000 + b"N"
    with pytest.raises(CodecError, match="deeply"):
        decode(deep)
    assert decode(deep[5 * 95_000 :], max_depth=10_000) is not None
    with pytest.raises(CodecError, match="too much data"):
        decode(b"l" + struct.pack("<I", 300_000) + b"N" * 300_000, max_cost=10 << 20)
    with pytest.raises(CodecError, match="bytes"):
        decode(b"N" * 11, max_bytes=10)
    with pytest.raises(CodecError, match="short"):
        decode(b"s\xff\xff\xff\xff")
    with pytest.raises(CodecError, match="short"):
        decode(b"Lq" + struct.pack("<I", 2**31))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"x",
        b"s\x01\0\0\0\xff",
        b"M\x03\0\0\0abc",
        b"M\x04\0\0\0 1.0",
        b"M\x03\0\0\x001_0",
        b"Q" + encode(1) + encode(0),
        b"Q" + encode(1.5) + encode(2),
        b"r" + encode(1) + encode(2) + encode(0),
        b"r" + encode(True) + encode(2) + encode(1),
        b"Lx\0\0\0\0",
        b"NN",
        b"u\x04\0\0\0\xff\xff\xff\xff",
        b"u\x01\0\0\0a",
        b"x\x01\xffN",
        b"x\x05ab",
    ],
)
def test_malformed_content_is_refused(data):
    with pytest.raises(CodecError):
        decode(data)


def test_the_decoder_hashes_nothing():
    nest = b"l\0\0\0\0"
    as_key = decode(b"d\x01\0\0\0" + nest + b"N")
    assert isinstance(as_key, Pairs) and as_key.items == (([], None),)
    as_element = decode(b"S\x01\0\0\0" + nest)
    assert isinstance(as_element, Elements) and as_element.items == ([],)


def test_hostile_sizes_are_decoded_in_linear_time():
    """In quadratic time each would keep the tests for minutes."""
    fraction = encode(Fraction(3**10_000, 2**16_000 + 1))
    hostile = [
        b"l" + struct.pack("<I", 200) + fraction * 200,
        encode(Decimal("1" * 4_000_000)),
        b"I" + struct.pack("<I", 8_000_000) + b"\x7f" * 8_000_000,
        b"S" + struct.pack("<I", 100_000) + b"".join(encode(i * (2**61 - 1)) for i in range(100_000)),
    ]
    for data in hostile:
        assert decode(data)


def test_special_floats():
    values = decode(encode([math.inf, -math.inf, -0.0, math.nan]))
    assert isinstance(values, list)
    assert values[:2] == [math.inf, -math.inf] and math.copysign(1, values[2]) == -1 and math.isnan(values[3])


def test_the_codec_stands_alone():
    source = codec.__file__
    with open(source, encoding="utf-8") as file:  # noqa: PTH123
        assert "evoprompt." not in file.read().replace("import of evoprompt:", "")
