"""The tagged encoding of values that cross the line between a candidate's process and the host.

Standard library only, and no import of evoprompt: the host imports this module, a child loads it by its
location. `encode` runs beside untrusted code and calls nothing that a value could override. `decode` treats
every byte as hostile: it executes nothing, never hashes what it reads, needs no recursion, takes linear time,
and raises `CodecError` only.

A value is a tag byte and its content. Numbers are little-endian, lengths are unsigned 32-bit.

    N T F           None, True, False
    i I f c         64-bit int, int of any size, float, complex
    s b B           str (UTF-8, surrogates kept), bytes, bytearray
    l t q           list, tuple, deque: count, then the elements
    L P             list or tuple of at least 8 ints or floats, packed: item type, count, 8 bytes each
    S Z             set, frozenset: count, then the elements
    d o C           dict, OrderedDict, Counter: count, then key and value in turn
    r Q M           range (3 ints), Fraction (2 ints), Decimal (text)
    g a             numpy scalar, numpy array: the plain number or nested list
"""

from __future__ import annotations

import re
import struct
import sys
from collections import Counter, OrderedDict, deque
from typing import Any

MAX_BYTES = 8 << 20
MAX_NODES = 200_000
MAX_DEPTH = 200
MAX_PART_BYTES = 2048
"""Bytes of a part of a Fraction or a range: dividing them takes quadratic time."""

FRAME = struct.Struct("<cII")
"""Before each answer of a process: its kind, the number of the request from 1, and the length of its content."""
UP = b"\0up"
"""What a zygote says when it is locked in. No error message ends like that."""
JOB = struct.Struct("<qqqq")
"""What a zygote needs to know: memory in MB, bytes of an answer, CPU seconds in all, and of a call or 0."""
ENDED = struct.Struct("<iqq")
"""How a process ended: wait status, CPU microseconds, peak memory in KB."""
READY, DONE, VALUE, ERROR, REFUSED, MISSING = b"R", b"D", b"V", b"E", b"U", b"M"

_PACK_FROM = 8
_FLAT: tuple[tuple[Any, bytes], ...]
_FLAT = ((list, b"l"), (tuple, b"t"), (deque, b"q"), (set, b"S"), (frozenset, b"Z"))
_U32 = struct.Struct("<I")
_I64 = struct.Struct("<q")
_F64 = struct.Struct("<d")
_DECIMAL = re.compile(rb"-?(?:[0-9]+(?:\.[0-9]+)?(?:E[+-]?[0-9]{1,19})?|Infinity|s?NaN[0-9]*)\Z")


class Unencodable(Exception):
    """The value is no plain data, contains itself, or is too large."""


class CodecError(Exception):
    """The bytes are not the encoding of a value within the bounds."""


class Pairs:
    """A decoded mapping (`kind` is `dict`, `OrderedDict` or `Counter`): items in order, no key hashed."""

    __slots__ = ("items", "kind")

    def __init__(self, items: tuple[tuple[object, object], ...], kind: str = "dict") -> None:
        self.items = items
        self.kind = kind


class Elements:
    """A decoded set (`kind` is `set` or `frozenset`): its elements in no particular order, unhashed."""

    __slots__ = ("items", "kind")

    def __init__(self, items: tuple[object, ...], kind: str = "set") -> None:
        self.items = items
        self.kind = kind


class Numpy:
    """A decoded numpy value without its dtype: the plain value of a scalar, the nested list of an array."""

    __slots__ = ("scalar", "value")

    def __init__(self, value: object, scalar: bool) -> None:
        self.value = value
        self.scalar = scalar


def encode(
    value: object, *, max_bytes: int = MAX_BYTES, max_nodes: int = MAX_NODES, max_depth: int = MAX_DEPTH
) -> bytes:
    """Encodes plain data; subclasses of plain types are flattened to their base.

    Raises:
        Unencodable: The value is no plain data, is cyclic, or exceeds a bound.
    """
    encoder = _Encoder(max_bytes, max_nodes, max_depth)
    encoder.add(value, 0)
    return b"".join(encoder.out)


def decode(
    data: bytes, *, max_bytes: int = MAX_BYTES, max_nodes: int = MAX_NODES, max_depth: int = MAX_DEPTH
) -> object:
    """Decodes untrusted bytes; mappings become `Pairs`, sets `Elements`, numpy values `Numpy`.

    Raises:
        CodecError: The bytes are malformed or exceed a bound.
    """
    if len(data) > max_bytes:
        raise CodecError(f"more than {max_bytes} bytes")
    try:
        return _Decoder(data, max_nodes, max_depth).run()
    except (struct.error, ValueError, ArithmeticError, MemoryError) as e:
        raise CodecError(f"malformed content: {type(e).__name__}") from e


class _Encoder:
    def __init__(self, max_bytes: int, max_nodes: int, max_depth: int) -> None:
        self.out: list[bytes] = []
        self.room = max_bytes
        self.nodes = max_nodes
        self.max_depth = max_depth
        self.open: set[int] = set()

    def put(self, *parts: bytes) -> None:
        for part in parts:
            self.room -= len(part)
            if self.room < 0:
                raise Unencodable("it is too large")
            self.out.append(part)

    def sized(self, tag: bytes, data: bytes) -> None:
        self.put(tag, _U32.pack(min(len(data), 0xFFFFFFFF)), data)

    def add(self, value: object, depth: int) -> None:
        self.nodes -= 1
        if self.nodes < 0:
            raise Unencodable("it has too many elements")
        if depth > self.max_depth:
            raise Unencodable("it is nested too deeply")
        kind = type(value)
        if value is None:
            self.put(b"N")
        elif kind is bool:
            self.put(b"T" if value is True else b"F")
        elif not (self._scalar(value, kind) or self._container(value, kind, depth)):
            self._rare(value, kind, depth)

    def _scalar(self, value: Any, kind: type) -> bool:
        if _is_numpy(kind):
            return False
        if issubclass(kind, str):
            self.sized(b"s", str.encode(value, "utf-8", "surrogatepass"))
        elif issubclass(kind, int):
            self._int(int.__index__(value))
        elif issubclass(kind, float):
            self.put(b"f", _F64.pack(float.__float__(value)))
        elif issubclass(kind, complex):
            plain = complex.__complex__(value)
            self.put(b"c", _F64.pack(plain.real), _F64.pack(plain.imag))
        elif issubclass(kind, bytes):
            self.sized(b"b", bytes.__getitem__(value, slice(None)))
        elif issubclass(kind, bytearray):
            self.sized(b"B", bytes(bytearray.__getitem__(value, slice(None))))
        else:
            return False
        return True

    def _int(self, number: int) -> None:
        if -(1 << 63) <= number < 1 << 63:
            self.put(b"i", _I64.pack(number))
        else:
            self.sized(b"I", number.to_bytes(number.bit_length() // 8 + 1, "little", signed=True))

    def _container(self, value: Any, kind: type, depth: int) -> bool:
        found = _flat(value, kind)
        if found is None:
            return False
        tag, items = found
        if not (tag in b"lt" and self._packed(tag, items)):
            self._elements(value, tag, items, depth)
        return True

    def _elements(self, value: object, tag: bytes, items: list[object], depth: int) -> None:
        if id(value) in self.open:
            raise Unencodable("it contains itself")
        self.open.add(id(value))
        self.put(tag, _U32.pack(len(items) // 2 if tag in b"doC" else len(items)))
        for item in items:
            self.add(item, depth + 1)
        self.open.discard(id(value))

    def _packed(self, tag: bytes, items: list[object]) -> bool:
        if len(items) < _PACK_FROM:
            return False
        kind = type(items[0])
        if (kind is not int and kind is not float) or any(type(item) is not kind for item in items):
            return False
        code = "q" if kind is int else "d"
        try:
            data = struct.pack(f"<{len(items)}{code}", *items)
        except struct.error:
            return False
        self.put(b"L" if tag == b"l" else b"P", code.encode(), _U32.pack(len(items)), data)
        return True

    def _rare(self, value: Any, kind: type, depth: int) -> None:
        decimal, fractions = sys.modules.get("decimal"), sys.modules.get("fractions")
        if kind is range:
            self.parts(b"r", (value.start, value.stop, value.step), depth)
        elif decimal is not None and issubclass(kind, decimal.Decimal):
            self.sized(b"M", decimal.Decimal.__str__(value).encode())
        elif fractions is not None and issubclass(kind, fractions.Fraction):
            exact = fractions.Fraction
            self.parts(b"Q", (exact.numerator.fget(value), exact.denominator.fget(value)), depth)
        elif _is_numpy(kind):
            self._numpy(value, kind, depth)
        else:
            raise Unencodable(f"it is no plain data but a {type.__dict__['__name__'].__get__(kind)}")

    def parts(self, tag: bytes, parts: tuple[int, ...], depth: int) -> None:
        if any(part.bit_length() > 8 * MAX_PART_BYTES for part in parts):
            raise Unencodable("it is too large")
        self.put(tag)
        for part in parts:
            self.add(part, depth + 1)

    def _numpy(self, value: Any, kind: type, depth: int) -> None:
        numpy = sys.modules["numpy"]
        if issubclass(kind, numpy.ndarray):
            if numpy.ndarray.size.__get__(value) > self.nodes:
                raise Unencodable("it has too many elements")
            if numpy.ndarray.dtype.__get__(value).kind not in "biufcOUS":
                raise Unencodable("it is an array of no plain data")
            self.put(b"a")
            self.add(numpy.ndarray.tolist(value), depth + 1)
            return
        plain = {"b": bool, "i": int, "u": int, "f": float, "c": complex, "U": str, "S": bytes}
        convert = plain.get(value.dtype.kind)
        if convert is None:
            raise Unencodable("it is no plain data but a numpy scalar")
        self.put(b"g")
        self.add(convert(value), depth + 1)


def _flat(value: Any, kind: type) -> tuple[bytes, list[object]] | None:
    """Tag and contents of a container, read by the base class; None when it is none."""
    for base, tag in _FLAT:
        if issubclass(kind, base):
            return tag, list(base.__iter__(value))
    if not issubclass(kind, dict):
        return None
    ordered = issubclass(kind, OrderedDict)
    pairs = list(OrderedDict.items(value) if ordered else dict.items(value))
    tag = b"o" if ordered else b"C" if issubclass(kind, Counter) else b"d"
    return tag, [part for pair in pairs for part in pair]


def _is_numpy(kind: type) -> bool:
    numpy = sys.modules.get("numpy")
    if numpy is None or not hasattr(numpy, "generic"):
        return False
    return issubclass(kind, (numpy.generic, numpy.ndarray))


_CONTAINERS = {108: 1, 116: 1, 113: 1, 83: 1, 90: 1, 100: 2, 111: 2, 67: 2}
"""Tag -> values per counted element."""
_FIXED = {114: 3, 81: 2, 103: 1, 97: 1}
"""Tag -> number of values that follow."""
_KINDS = {100: "dict", 111: "OrderedDict", 67: "Counter", 83: "set", 90: "frozenset"}


class _Decoder:
    def __init__(self, data: bytes, max_nodes: int, max_depth: int) -> None:
        self.data = data
        self.at = 0
        self.nodes = max_nodes
        self.max_depth = max_depth

    def run(self) -> object:
        unfinished: list[tuple[int, int, list[object]]] = []
        while True:
            self.nodes -= 1
            if self.nodes < 0:
                raise CodecError("too many elements")
            tag = self.take(1)[0]
            need = self.need(tag)
            if need > 0:
                if len(unfinished) >= self.max_depth:
                    raise CodecError("nested too deeply")
                unfinished.append((tag, need, []))
                continue
            value = _build(tag, []) if need == 0 else self.leaf(tag)
            while unfinished:
                outer, need, items = unfinished[-1]
                items.append(value)
                if len(items) < need:
                    break
                unfinished.pop()
                value = _build(outer, items)
            else:
                if self.at != len(self.data):
                    raise CodecError("trailing bytes")
                return value

    def take(self, count: int) -> bytes:
        end = self.at + count
        if end > len(self.data):
            raise CodecError("too short")
        part = self.data[self.at : end]
        self.at = end
        return part

    def length(self) -> int:
        count: int = _U32.unpack(self.take(4))[0]
        if count > len(self.data) - self.at:
            raise CodecError("too short")
        return count

    def need(self, tag: int) -> int:
        """Number of values inside a container; -1 for a leaf."""
        if tag in _CONTAINERS:
            return self.length() * _CONTAINERS[tag]
        return _FIXED.get(tag, -1)

    def leaf(self, tag: int) -> object:
        match tag:
            case 105:
                return _I64.unpack(self.take(8))[0]
            case 115:
                return self.take(self.length()).decode("utf-8", "surrogatepass")
            case 102:
                return _F64.unpack(self.take(8))[0]
            case 78 | 84 | 70:
                return None if tag == 78 else tag == 84
            case 73:
                return int.from_bytes(self.take(self.length()), "little", signed=True)
            case 98:
                return self.take(self.length())
            case 66:
                return bytearray(self.take(self.length()))
            case 99:
                return complex(*struct.unpack("<dd", self.take(16)))
            case 76 | 80:
                return self.packed(list if tag == 76 else tuple)
            case 77:
                return _decimal(self.take(self.length()))
            case _:
                raise CodecError(f"unknown tag {tag}")

    def packed(self, kind: type[list[object]] | type[tuple[object, ...]]) -> object:
        code = self.take(1).decode("ascii")
        if code not in "qd":
            raise CodecError("unknown item type")
        count = self.length()
        return kind(struct.unpack(f"<{count}{code}", self.take(8 * count)))


def _decimal(text: bytes) -> object:
    from decimal import Decimal

    if not _DECIMAL.match(text):
        raise CodecError("malformed Decimal")
    return Decimal(text.decode("ascii"))


def _build(tag: int, items: list[object]) -> object:
    match tag:
        case 108:
            return items
        case 116:
            return tuple(items)
        case 113:
            return deque(items)
        case 100 | 111 | 67:
            return Pairs(tuple(zip(items[::2], items[1::2], strict=True)), _KINDS[tag])
        case 83 | 90:
            return Elements(tuple(items), _KINDS[tag])
        case 103 | 97:
            return Numpy(items[0], tag == 103)
        case _:
            return _exact(tag, items)


def _exact(tag: int, items: list[object]) -> object:
    """A range or a Fraction, from parts that must be ints."""
    from fractions import Fraction

    parts = [part for part in items if type(part) is int]
    if len(parts) != len(items):
        raise CodecError("a part is no int")
    if any(part.bit_length() > 8 * MAX_PART_BYTES for part in parts):
        raise CodecError("a part is too large")
    return range(parts[0], parts[1], parts[2]) if tag == 114 else Fraction(parts[0], parts[1])
