"""The tagged encoding of values that cross the line between a solution's process and the host. Standard library only.

The host imports this module; a zygote loads it by its location. `encoding` writes, this module reads. `decode` treats
every byte as hostile: it executes nothing, never hashes what it reads, takes linear time, does not recurse, and raises
`CodecError` only. `kinds` takes apart and puts together values that are no plain data.

A value is a tag byte and its content. Numbers are little-endian, lengths are unsigned 32-bit.

    N T F           None, True, False
    i I f c         64-bit int, int of any size, float, complex
    s u b B         str in UTF-8, str with surrogates (32 bits for each character), bytes, bytearray
    l t             list, tuple: count, then the elements
    L P             list or tuple of at least 8 ints or floats, packed: item type, count, 8 bytes each
    S Z             set, frozenset: count, then the elements
    d o C           dict, OrderedDict, Counter: count, then key and value in turn
    r Q M           range (3 ints), Fraction (2 ints), Decimal (text)
    x               anything else: the length of its kind in a byte, the kind, and plain data that says all about it
"""

from __future__ import annotations

import re
import struct
import sys
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .encoding import MAX_BYTES as MAX_BYTES
from .encoding import MAX_DEPTH, MAX_PART_BYTES
from .encoding import TooLarge as TooLarge
from .encoding import Unencodable as Unencodable
from .encoding import encode as encode

MAX_COST = 128 << 20
"""Bytes of memory that the decoded form may take, as estimated while decoding."""
UNBOUNDED = 1 << 62
"""No bound on bytes, memory or depth."""

FRAME = struct.Struct("<cII")
"""Header of an answer: its kind, the number of the request from 1, and the length of its content."""
UP = b"\0up"
"""A zygote says this when it is locked in. No error message ends like that."""
JOB = struct.Struct("<qqqq")
"""Order to start a process: memory in MB, bytes of an answer, CPU seconds in all, and of a call or 0."""
ENDED = struct.Struct("<iqq")
"""Report of an end: wait status, CPU microseconds, peak memory in KB."""
READY, DONE, VALUE, ERROR, REFUSED, MISSING, DIGEST = b"R", b"D", b"V", b"E", b"U", b"M", b"H"
AS_VALUE, AS_LIST, AS_DIGEST, COMPACT = b"v", b"l", b"d", b"c"
"""Before each input: how to answer. With the value; with the value, but a range or iterator as a list; with the digest;
or with the value unless it is large and its digest settles equality."""
PACKING = b"P"
"""No answer yet: the call is over, and encoding its value takes a while."""
STDERR, STDERR_BYTES = b"W", 2_000
"""No answer yet: the end of what was written to standard error since the last answer, and its most bytes."""
TO_SOLUTION, COMPARE, CLOSE, LITERAL, OVER = b">", b"=", b"~", b"#", b"."
"""First byte of what the side of the tests sends: a message for the solution; a value to compare with a literal; two to
compare closely; a literal to hand out; the end of a test."""
ANSWER, RAISED, UNTOLD = b"<", b"!", b"?"
"""First byte of what the side of the solution sends: a message; one that tells an exception; why there is none."""

_U32 = struct.Struct("<I")
_I64 = struct.Struct("<q")
_F64 = struct.Struct("<d")
_DECIMAL = re.compile(rb"-?(?:[0-9]+(?:\.[0-9]+)?(?:E[+-]?[0-9]{1,19})?|Infinity|s?NaN[0-9]*)\Z")

Build = Callable[[str, Any], object]
"""Makes a value from its kind (also `dict`, `set` and the like) and its content."""


class CodecError(Exception):
    """The bytes don't encode a value within the bounds."""


class TooMuch(CodecError):
    """The value would take more memory than it may."""


@dataclass(slots=True, eq=False)
class Pairs:
    """A decoded mapping (`kind` is `dict`, `OrderedDict` or `Counter`): key and value in turn, no key hashed."""

    flat: tuple[object, ...]
    kind: str = "dict"

    @property
    def items(self) -> tuple[tuple[object, object], ...]:
        """The items in order."""
        return tuple(zip(self.flat[::2], self.flat[1::2], strict=True))


@dataclass(slots=True, eq=False)
class Elements:
    """A decoded set (`kind` is `set` or `frozenset`): its elements in no particular order, unhashed."""

    items: tuple[object, ...]
    kind: str = "set"


@dataclass(slots=True, eq=False)
class Other:
    """A decoded value of another type: its kind, and its content unchecked. See `kinds`."""

    kind: str
    content: object


def decode(
    data: bytes,
    build: Build | None = None,
    *,
    max_bytes: int = MAX_BYTES,
    max_cost: int = MAX_COST,
    max_depth: int = MAX_DEPTH,
) -> object:
    """Decodes untrusted bytes. Mappings become `Pairs`, sets `Elements`, other values that are no plain data `Other`.

    Don't change the result: all empty containers are one object.

    Args:
        data: Any bytes.
        build: Makes real objects instead of `Pairs`, `Elements` and `Other`. Not for the host.
        max_bytes: Most bytes of `data`.
        max_cost: Most bytes of memory for the result, as estimated.
        max_depth: Most containers around a value.

    Raises:
        CodecError: The bytes are malformed or exceed a bound.
    """
    if len(data) > max_bytes:
        raise CodecError(f"more than {max_bytes} bytes")
    try:
        return _Decoder(data, build, max_cost, max_depth).run()
    except (struct.error, ValueError, ArithmeticError, MemoryError) as e:
        if build is not None:
            raise
        raise CodecError(f"malformed content: {type(e).__name__}") from e


_TAGS: dict[int, tuple[str, int]] = {
    **{108: ("list", 1), 116: ("tuple", 1), 83: ("set", 1), 90: ("frozenset", 1)},
    **{100: ("dict", 2), 111: ("OrderedDict", 2), 67: ("Counter", 2), 114: ("range", 3), 81: ("Fraction", 2)},
}
"""Tag of a container -> its kind, and the values of each counted element; of a range or Fraction, of all of it."""
_EXACT, _OTHER = (114, 81), 120
_COST = 48
"""Bytes of memory that any value takes."""
_CONTAINER_COST = 96
"""Bytes that a container takes besides, without its items."""
_EMPTY: dict[str, object] = {"list": [], "tuple": ()}
_EMPTY |= {kind: Pairs((), kind) for kind in ("dict", "OrderedDict", "Counter")}
_EMPTY |= {kind: Elements((), kind) for kind in ("set", "frozenset")}


class _Decoder:
    def __init__(self, data: bytes, build: Build | None, max_cost: int, max_depth: int) -> None:
        self.data = data
        self.at = 0
        self.build = build
        self.room = max_cost
        self.max_depth = max_depth

    def run(self) -> object:
        unfinished: list[tuple[int, str, int, list[object]]] = []
        while True:
            self.pay(_COST)
            tag = self.take(1)[0]
            kind, need = self.container(tag)
            if need > 0:
                if len(unfinished) >= self.max_depth:
                    raise CodecError("nested too deeply")
                unfinished.append((tag, kind, need, []))
                continue
            value = self.made(tag, kind, []) if need == 0 else self.leaf(tag)
            while unfinished:
                tag, kind, need, items = unfinished[-1]
                items.append(value)
                if len(items) < need:
                    break
                unfinished.pop()
                value = self.made(tag, kind, items)
            else:
                if self.at != len(self.data):
                    raise CodecError("trailing bytes")
                return value

    def pay(self, cost: int) -> None:
        self.room -= cost
        if self.room < 0:
            raise TooMuch("too much data")

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

    def content(self) -> bytes:
        count = self.length()
        self.pay(count)
        return self.take(count)

    def container(self, tag: int) -> tuple[str, int]:
        """Kind of a container and number of the values inside it; -1 for a leaf."""
        if tag == _OTHER:
            return self.take(self.take(1)[0]).decode("ascii"), 1
        kind, each = _TAGS.get(tag, ("", -1))
        if each < 0 or tag in _EXACT:
            return kind, each
        count = self.length() * each
        if count:
            self.pay(_CONTAINER_COST + 8 * count)
        return kind, count

    def leaf(self, tag: int) -> object:
        match tag:
            case 105:
                return _I64.unpack(self.take(8))[0]
            case 115:
                return self.content().decode()
            case 102:
                return _F64.unpack(self.take(8))[0]
            case 78 | 84 | 70:
                return None if tag == 78 else tag == 84
            case 73:
                return int.from_bytes(self.content(), "little", signed=True)
            case 98:
                return self.content()
            case 66:
                return bytearray(self.content())
            case 117:
                codes = self.content()
                self.pay(7 * len(codes))  # takes longer than other text
                return "".join(map(chr, _numbers("I", codes)))
            case 99:
                return complex(*struct.unpack("<dd", self.take(16)))
            case 76 | 80:
                return self.packed(list if tag == 76 else tuple)
            case 77:
                return _decimal(self.content())
            case _:
                raise CodecError(f"unknown tag {tag}")

    def packed(self, kind: type[list[object]] | type[tuple[object, ...]]) -> object:
        code = self.take(1).decode("ascii")
        if code not in "qd":
            raise CodecError("unknown item type")
        count = self.length()
        self.pay(40 * count)
        return kind(_numbers(code, self.take(8 * count)))

    def made(self, tag: int, kind: str, items: list[object]) -> object:
        """Makes a container from its items."""
        if tag == _OTHER:
            return self.build(kind, items[0]) if self.build else Other(kind, items[0])
        match kind:
            case "range" | "Fraction":
                return _exact(kind, items)
            case "tuple":
                return tuple(items)
            case "list" if items or self.build:
                return items
        if not items and not self.build:
            return _EMPTY[kind]
        if kind in ("set", "frozenset"):
            return self.build(kind, items) if self.build else Elements(tuple(items), kind)
        return self.build(kind, zip(items[::2], items[1::2], strict=True)) if self.build else Pairs(tuple(items), kind)


def _numbers(code: str, data: bytes) -> array[Any]:
    numbers = array(code)
    numbers.frombytes(data)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers


def _decimal(text: bytes) -> object:
    from decimal import Decimal

    if not _DECIMAL.match(text):
        raise CodecError("malformed Decimal")
    return Decimal(text.decode("ascii"))


def _exact(kind: str, items: list[object]) -> object:
    """Makes a range or a Fraction from parts that must be ints."""
    from fractions import Fraction

    parts = [part for part in items if type(part) is int]
    if len(parts) != len(items):
        raise CodecError("a part is no int")
    if any(part.bit_length() > 8 * MAX_PART_BYTES for part in parts):
        raise CodecError("a part is too large")
    return range(parts[0], parts[1], parts[2]) if kind == "range" else Fraction(parts[0], parts[1])
