"""Real Python values to the bytes that `codec` describes. Candidate's side, standard library only.

It runs beside untrusted code and calls nothing that a plain value could override. It does not recurse.
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
MAX_PART_BYTES = 2048
"""Bytes of a part of a Fraction or a range: dividing them takes quadratic time."""

Reduce = Callable[[Any, type], "tuple[str, object] | None"]
"""Takes a value of a given type apart into a kind and plain data; None where it can't."""

_PACK_FROM = 8
_LONG = 4096
_U32 = struct.Struct("<I")
_I64 = struct.Struct("<q")
_F64 = struct.Struct("<d")


class TooLarge(Unencodable):
    """The value needs more bytes than it may."""


def encode(
    value: object,
    *,
    max_bytes: int = MAX_BYTES,
    max_depth: int = MAX_DEPTH,
    reduce: Reduce = kinds.reduce,
    on_long: Callable[[], object] | None = None,
) -> bytes:
    """Encodes plain data; subclasses of plain types are flattened to their base.

    Args:
        value: What to encode.
        max_bytes: Most bytes of the result.
        max_depth: Most containers around a value.
        reduce: Takes apart what is no plain data.
        on_long: Called once if this is going to take longer than a few milliseconds.

    Raises:
        Unencodable: The value is no plain data, is cyclic, or exceeds a bound.
    """
    encoder = _Encoder(reduce, max_bytes, max_depth, on_long)
    encoder.run(value)
    return b"".join(encoder.out)


class _Encoder:
    def __init__(self, reduce: Reduce, max_bytes: int, max_depth: int, on_long: Callable[[], object] | None) -> None:
        self.out: list[bytes] = []
        self.reduce = reduce
        self.room = max_bytes
        self.max_depth = max_depth
        self.on_long = on_long

    def run(self, value: object) -> None:
        """Adds a value. Each container that is open has an iterator over what is left of it, and its id."""
        rest: list[Iterator[object]] = [iter((value,))]
        ids: list[int] = [0]
        open_ids: set[int] = set()
        while rest:
            for item in rest[-1]:
                inner = self.add(item, type(item))
                if inner is None:
                    continue
                if len(rest) > self.max_depth:
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

    def sized(self, tag: bytes, data: bytes) -> None:
        if len(data) > min(self.room, 0xFFFFFFFF):
            raise TooLarge("it is too large")
        self.put(tag + _U32.pack(len(data)), data)

    def count(self, tag: bytes, items: list[object] | tuple[object, ...], each: int = 1) -> None:
        if self.on_long is not None and (len(items) > _LONG or len(self.out) > _LONG):
            self.on_long()
            self.on_long = None
        if len(items) > self.room:
            raise TooLarge("it is too large")
        self.put(tag + _U32.pack(len(items) // each))

    def add(self, value: Any, kind: type) -> Iterable[object] | None:
        """Adds a value, or begins to: then what is inside is returned, to be added next."""
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
        elif (found := self.reduce(value, kind)) is not None:
            name, content = found
            self.put(b"x" + bytes((len(name),)) + name.encode())
            return (content,)
        elif not self.scalar(value, kind):
            return self.container(value, kind)
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

    def scalar(self, value: Any, kind: type) -> bool:
        decimal, fractions = sys.modules.get("decimal"), sys.modules.get("fractions")
        if issubclass(kind, str):
            self.text(str.__str__(value))
        elif issubclass(kind, int):
            self.integer(int.__index__(value))
        elif issubclass(kind, float):
            self.put(b"f" + _F64.pack(float.__float__(value)))
        elif issubclass(kind, complex):
            plain = complex.__complex__(value)
            self.put(b"c" + _F64.pack(plain.real) + _F64.pack(plain.imag))
        elif issubclass(kind, bytes):
            self.sized(b"b", bytes.__getitem__(value, slice(None)))
        elif issubclass(kind, bytearray):
            self.sized(b"B", bytes(bytearray.__getitem__(value, slice(None))))
        elif kind is range:
            self.parts(b"r", value.start, value.stop, value.step)
        elif decimal is not None and issubclass(kind, decimal.Decimal):
            self.sized(b"M", decimal.Decimal.__str__(value).encode())
        elif fractions is not None and issubclass(kind, fractions.Fraction):
            exact = fractions.Fraction
            self.parts(b"Q", exact.numerator.fget(value), exact.denominator.fget(value))
        else:
            return False
        return True

    def parts(self, tag: bytes, *parts: int) -> None:
        if any(part.bit_length() > 8 * MAX_PART_BYTES for part in parts):
            raise TooLarge("it is too large")
        self.put(tag)
        for part in parts:
            self.integer(part)

    def container(self, value: Any, kind: type) -> Iterable[object]:
        """The contents of a container, read by the base class."""
        if issubclass(kind, list | tuple):
            base: Any = list if issubclass(kind, list) else tuple
            return self.sequence(base(base.__iter__(value)), base is list) or ()
        if issubclass(kind, set | frozenset):
            base, tag = (set, b"S") if issubclass(kind, set) else (frozenset, b"Z")
            items = list(base.__iter__(value))
            self.count(tag, items)
            return items
        if issubclass(kind, dict):
            ordered = issubclass(kind, OrderedDict)
            pairs = OrderedDict.items(value) if ordered else dict.items(value)
            items = [part for pair in pairs for part in pair]
            self.count(b"o" if ordered else b"C" if issubclass(kind, Counter) else b"d", items, 2)
            return items
        raise Unencodable(f"it is no plain data but a {type.__dict__['__name__'].__get__(kind)}")

    def sequence(self, items: Any, is_list: bool) -> Iterable[object] | None:
        if len(items) >= _PACK_FROM:
            kinds = set(map(type, items))
            if len(kinds) == 1 and (int in kinds or float in kinds) and self.packed(items, int in kinds, is_list):
                return None
        self.count(b"l" if is_list else b"t", items)
        return items  # type: ignore[no-any-return]

    def packed(self, items: Any, ints: bool, is_list: bool) -> bool:
        if 8 * len(items) > self.room:
            raise TooLarge("it is too large")
        if self.on_long is not None and len(items) > 16 * _LONG:
            self.on_long()
            self.on_long = None
        try:
            data = array("q" if ints else "d", items)
        except OverflowError:
            return False
        if sys.byteorder == "big":
            data.byteswap()
        self.put(b"L" if is_list else b"P", b"q" if ints else b"d", _U32.pack(len(items)), data.tobytes())
        return True
