"""Real Python values to the bytes that `codec` describes. Standard library only.

It runs beside untrusted code, so it calls nothing that a plain value could override. It does not recurse.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from . import kinds
from .kinds import Unencodable as Unencodable

MAX_BYTES = 64 << 20
MAX_DEPTH = 2_000
"""Most containers around a value."""
MAX_PART_BYTES = 2048
"""Most bytes of a part of a Fraction or a range: dividing them takes quadratic time."""

_PACK_FROM = 8
_LONG = 4096
_U32 = struct.Struct("<I")
_I64 = struct.Struct("<q")
_F64 = struct.Struct("<d")
_BASES: dict[type, Callable[[Any], Any]] = {
    str: str.__str__,
    int: int.__index__,
    float: float.__float__,
    complex: complex.__complex__,
    bytes: lambda value: bytes.__getitem__(value, slice(None)),
    bytearray: lambda value: bytearray.__getitem__(value, slice(None)),
    list: lambda value: list(list.__iter__(value)),
    tuple: lambda value: tuple(tuple.__iter__(value)),
    frozenset: lambda value: frozenset(frozenset.__iter__(value)),
}


class TooLarge(Unencodable):
    """The value needs more bytes than it may."""


def bare(value: Any, kind: type) -> Any:
    """Returns a value as plain data without its class, read by the base class; None if it extends no plain type."""
    for base, read in _BASES.items():
        if issubclass(kind, base):
            return read(value)
    return None


def encode(value: object, *, max_bytes: int = MAX_BYTES, on_long: Callable[[], object] | None = None) -> bytes:
    """Encodes plain data; subclasses of plain types are flattened to their base.

    Args:
        value: The value to encode.
        max_bytes: Most bytes of the result.
        on_long: Called once if this is going to take longer than a few milliseconds.

    Raises:
        TooLarge: It needs more bytes.
        Unencodable: The value is no plain data, or contains itself.
    """
    encoder = _Encoder(max_bytes, on_long)
    encoder.run(value)
    return b"".join(encoder.out)


class _Encoder:
    def __init__(self, max_bytes: int, on_long: Callable[[], object] | None) -> None:
        self.out: list[bytes] = []
        self.room = max_bytes
        self.on_long = on_long

    def run(self, value: object) -> None:
        """Adds a value. Each open container has an iterator over what is left of it, and its id."""
        rest: list[Iterator[object]] = [iter((value,))]
        ids: list[int] = [0]
        open_ids: set[int] = set()
        while rest:
            for item in rest[-1]:
                inner = self.add(item, type(item))
                if inner is None:
                    continue
                if len(rest) > MAX_DEPTH:
                    raise Unencodable("it is nested too deeply")
                if id(item) in open_ids:
                    raise Unencodable("it contains itself")
                open_ids.add(id(item))
                ids.append(id(item))
                rest.append(iter(inner))
                break
            else:
                rest.pop()
                open_ids.discard(ids.pop())

    def put(self, *parts: bytes) -> None:
        for part in parts:
            self.room -= len(part)
            self.out.append(part)
        if self.room < 0:
            raise TooLarge("it is too large")

    def reserve(self, size: int, is_long: bool) -> None:
        """Refuses what is sure to be too large before it is copied, and reports that the rest takes a while."""
        if size > min(self.room, 0xFFFFFFFF):
            raise TooLarge("it is too large")
        if is_long and self.on_long is not None:
            self.on_long()
            self.on_long = None

    def sized(self, tag: bytes, data: bytes) -> None:
        self.reserve(len(data), False)
        self.put(tag + _U32.pack(len(data)), data)

    def count(self, tag: bytes, items: list[object] | tuple[object, ...], each: int = 1) -> None:
        self.reserve(len(items), len(items) > _LONG or len(self.out) > _LONG)
        self.put(tag + _U32.pack(len(items) // each))

    def add(self, value: Any, kind: type) -> Iterable[object] | None:
        """Adds a value. Returns the values inside a container, to be added next."""
        if kind is int:
            self.integer(value)
        elif kind is str:
            self.text(value)
        elif kind is float:
            self.put(b"f" + _F64.pack(value))
        elif kind is list or kind is tuple:
            return self.sequence(value, kind is list)
        elif value is None:
            self.put(b"N")
        elif kind is bool:
            self.put(b"T" if value is True else b"F")
        elif (found := kinds.reduce(value, kind)) is not None:
            name, content = found
            self.put(b"x" + bytes((len(name),)) + name.encode())
            return (content,)
        elif issubclass(kind, set | frozenset | dict):
            return self.hashed(value, kind)
        elif not self.exact(value, kind):
            plain = bare(value, kind)
            if type(plain) is complex:
                self.put(b"c" + _F64.pack(plain.real) + _F64.pack(plain.imag))
            elif type(plain) in (bytes, bytearray):
                self.sized(b"b" if type(plain) is bytes else b"B", bytes(plain))
            elif plain is None:
                raise Unencodable(f"it is no plain data but a {type.__dict__['__name__'].__get__(kind)}")
            else:
                return self.add(plain, type(plain))
        return None

    def integer(self, number: int) -> None:
        if -(1 << 63) <= number < 1 << 63:
            self.put(b"i" + _I64.pack(number))
        else:
            self.sized(b"I", number.to_bytes(number.bit_length() // 8 + 1, "little", signed=True))

    def text(self, value: str) -> None:
        try:
            self.sized(b"s", str.encode(value))
        except UnicodeEncodeError:
            self.sized(b"u", array("I", map(ord, str.__iter__(value))).tobytes())

    def exact(self, value: Any, kind: type) -> bool:
        """Adds a number or a range that has a tag of its own; False for anything else."""
        decimal, fractions = sys.modules.get("decimal"), sys.modules.get("fractions")
        if kind is range:
            self.parts(b"r", value.start, value.stop, value.step)
        elif decimal is not None and issubclass(kind, decimal.Decimal):
            self.sized(b"M", decimal.Decimal.__str__(value).encode())
        elif fractions is not None and issubclass(kind, fractions.Fraction):
            self.parts(b"Q", *(getattr(fractions.Fraction, n).fget(value) for n in ("numerator", "denominator")))
        else:
            return False
        return True

    def parts(self, tag: bytes, *parts: int) -> None:
        if any(part.bit_length() > 8 * MAX_PART_BYTES for part in parts):
            raise TooLarge("it is too large")
        self.put(tag)
        for part in parts:
            self.integer(part)

    def hashed(self, value: Any, kind: type) -> Iterable[object]:
        """Begins a set or mapping, read by the base class; no element or key is hashed."""
        if not issubclass(kind, dict):
            base, tag = (set, b"S") if issubclass(kind, set) else (frozenset, b"Z")
            items: list[object] = list(base.__iter__(value))
            self.count(tag, items)
            return items
        ordered = issubclass(kind, OrderedDict)
        pairs = OrderedDict.items(value) if ordered else dict.items(value)
        items = [part for pair in pairs for part in pair]
        self.count(b"o" if ordered else b"C" if issubclass(kind, Counter) else b"d", items, 2)
        return items

    def sequence(self, items: Any, is_list: bool) -> Iterable[object] | None:
        if len(items) >= _PACK_FROM:
            found = set(map(type, items))
            if len(found) == 1 and (int in found or float in found) and self.packed(items, int in found, is_list):
                return None
        self.count(b"l" if is_list else b"t", items)
        return items  # type: ignore[no-any-return]

    def packed(self, items: Any, ints: bool, is_list: bool) -> bool:
        self.reserve(8 * len(items), len(items) > 16 * _LONG)
        try:
            data = array("q" if ints else "d", items)
        except OverflowError:
            return False
        if sys.byteorder == "big":
            data.byteswap()
        self.put(b"L" if is_list else b"P", b"q" if ints else b"d", _U32.pack(len(items)), data.tobytes())
        return True
