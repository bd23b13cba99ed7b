"""A digest that two values share if and only if Python calls them equal. Standard library only.

A huge output stays in its process, which tells its digest: that costs the host nothing, and nobody can name the digest
of a value without having it. A value is brought, piece by piece, into a form that all equal values share, and `marshal`
writes that form. Two exceptions: a nan equals itself, and where an `OrderedDict` or a `Counter` is inside, equality is
no equivalence, which `Uncertain` reports.
"""

from __future__ import annotations

import hashlib
import marshal
import math
import struct
import sys
from array import array
from collections import Counter, OrderedDict
from types import ModuleType
from typing import Any

from . import kinds
from .encoding import Unencodable, bare

SIZE = 32
"""Bytes of a digest."""
NEVER = "never"
"""The group of values that equal nothing else."""
PLAIN = "plain"
"""The group of values that equal what their content equals."""
_PIECE = 1 << 13
_FIXED = {str, int, bytes, type(None)}
_NUMBERS = {int, float, bool}
_MOST_DIGITS = 10_000
_VERSION = 2
"""Of marshal: the last that writes equal values alike, whoever else holds them."""
_MARK = StopIteration
"""Begins what stands for a value that is no plain data: no plain value holds it."""
_ARRAYS = frozenset("bBhHiIlLqQfd")
_CODES = {"b1": "B", "i1": "b", "i2": "h", "i4": "i", "i8": "q", "u1": "B", "u2": "H", "u4": "I", "u8": "Q"}
_CODES |= {"f2": "f", "f4": "f", "f8": "d", "c8": "f", "c16": "d"}


class Uncertain(Exception):
    """The equality of this value and another depends on more than their digests."""


def digest(value: Any, *, certain: bool = False) -> bytes:
    """Returns the digest of a value.

    Args:
        value: Any value that could be encoded.
        certain: Refuse a value whose equals need not equal one another.

    Raises:
        Unencodable: The value is no plain data, or contains itself.
        Uncertain: `certain` was asked for, and the value holds an `OrderedDict` or a `Counter`.
    """
    whole = hashlib.sha256()
    normal = _Normal(certain)
    try:
        value = _sequence_of(value)
        if type(value) in (list, tuple) and len(value) > _PIECE:
            whole.update(f"{type(value).__name__} {len(value)}".encode())
            for start in range(0, len(value), _PIECE):
                whole.update(_bytes(normal(value[start : start + _PIECE])))
        else:
            whole.update(_bytes(normal(value)))
    except (RecursionError, ValueError):
        raise Unencodable("it contains itself, or is nested too deeply") from None
    return whole.digest()


def _sequence_of(value: Any) -> Any:
    """Returns the plain list or tuple that a value equals; any other value as it is."""
    kind = type(value)
    if kind is list or kind is tuple:
        return value
    reduced = kinds.reduce(value, kind)
    if reduced is not None:
        group, content = alike(*reduced)
        return _sequence_of(content) if group in (PLAIN, "list") else value
    plain = bare(value, kind)
    return plain if type(plain) in (list, tuple) else value


def alike(kind: str, content: Any) -> tuple[str, Any]:
    """Returns a group and a key. Two values are equal if both are; of times and mappings, nearly always.

    The groups `list`, `str`, `bytes`, `dict` and `set` are those of the plain types; the key of a `set` is a list.

    Raises:
        TypeError, ValueError, struct.error: The content can't be that of this kind.
    """
    match kind, content:
        case (("keys" | "items"), list()):
            return "set", content
        case (("mappingproxy" | "UserDict" | "ChainMap"), _):
            return "dict", content
        case "UserList", _:
            return "list", content
        case "UserString", _:
            return "str", content
        case (("exception" | "values"), _):
            return NEVER, None
        case "memoryview", ("B", data):
            return "bytes", data
        case "array", (str() as code, bytes() as data):
            return kind, _numbers(code, data)
        case "npscalar", (str() as dtype, plain) if dtype[1:2] not in ("m", "M"):
            return PLAIN, plain
        case "ndarray", (str() as dtype, tuple() as shape, data):
            return kind, (shape, *_flat(dtype, data))
        case (("datetime" | "time"), (int() as clock, _, None)):
            return kind, (clock, False)
        case (("datetime" | "time"), (int() as clock, _, (int() as offset, *_))):
            return kind, (clock - offset, True)
        case "timezone", (offset, _):
            return kind, offset
        case "enum", (path, name, plain):
            return (kind, (path, name)) if plain is None else (PLAIN, plain)
        case "PurePosixPath", _:
            return "PosixPath", content
        case (("PureWindowsPath" | "WindowsPath"), str()):
            return "WindowsPath", content.lower()
    return kind, content


def _numbers(code: str, data: Any) -> array[Any]:
    """Numbers as an array, which takes no more memory than their bytes, and is compared by value."""
    if code not in _ARRAYS:
        raise ValueError("no type code")
    numbers = array(code)
    numbers.frombytes(data)
    return numbers


def _flat(dtype: str, data: Any) -> tuple[Any, Any]:
    """Returns what is special about the type of an array's elements, and the elements as plain values."""
    size = dtype[1:]
    if type(data) is list or size not in _CODES:
        return size, data if type(data) is list else _numbers("q", data)
    if size == "f2":
        return "", array("f", struct.unpack(f"={len(data) // 2}e", data))
    return "complex" if size.startswith("c") else "", _numbers(_CODES[size], data)


def _bytes(normal: Any) -> bytes:
    return marshal.dumps(normal, _VERSION)


class _Normal:
    """Brings values into the form that all equal values share."""

    def __init__(self, certain: bool) -> None:
        self.certain = certain

    def __call__(self, value: Any) -> object:
        kind = type(value)
        if kind in _FIXED:
            return value
        if kind is list or kind is tuple:
            return self.sequence(value, kind)
        if kind in _NUMBERS:
            return _real(value)
        return self.other(value, kind)

    def sequence(self, value: Any, kind: Any) -> object:
        """Brings a list or tuple into the form: most often its values have it already."""
        found = set(map(type, value))
        if found <= _FIXED:
            return value
        if found <= _NUMBERS:
            return kind([v if type(v) is int else _real(v) for v in value])
        if _are_numbers(found):
            return self.sequence(kind([v.item() for v in value]), kind)
        return kind(list(map(self, value)))

    def other(self, value: Any, kind: type) -> object:
        reduced = kinds.reduce(value, kind)
        if reduced is not None:
            group, content = alike(*reduced)
            if group == PLAIN or group in ("list", "str", "bytes", "dict"):
                return self(content)
            if group == "set":
                return self.set(content)
            parts = content if type(content) is tuple else (content,)
            return _MARK, group, self([part.tolist() if type(part) is array else part for part in parts])
        if issubclass(kind, dict):
            return self.mapping(value, kind)
        if issubclass(kind, set | frozenset):
            return self.set((set if issubclass(kind, set) else frozenset).__iter__(value))
        return self.scalar(value, kind)

    def mapping(self, value: Any, kind: type) -> object:
        if self.certain and issubclass(kind, OrderedDict | Counter):
            raise Uncertain
        pairs = OrderedDict.items(value) if issubclass(kind, OrderedDict) else dict.items(value)
        items = sorted(((_bytes(self(k)), v) for k, v in pairs), key=lambda item: item[0])
        return _MARK, "dict", [k for k, _ in items], self.sequence([v for _, v in items], list)

    def set(self, items: Any) -> object:
        return _MARK, "set", sorted(_bytes(self(item)) for item in items)

    def scalar(self, value: Any, kind: type) -> object:
        decimal, fractions = sys.modules.get("decimal"), sys.modules.get("fractions")
        plain = bare(value, kind)
        match plain:
            case str() | int():
                return plain
            case float():
                return _real(plain)
            case complex():
                parts = (math.nan if part != part else part + 0.0 for part in (plain.real, plain.imag))
                return complex(*parts) if plain.imag else _real(plain.real)
            case bytes() | bytearray():
                return bytes(plain)
            case list() | tuple():
                return self.sequence(plain, type(plain))
        if kind is range:
            count = max(0, -((value.start - value.stop) // value.step))
            return _MARK, "range", [count, value.start, value.step][: min(count, 2) + 1]
        if fractions is not None and issubclass(kind, fractions.Fraction):
            exact = fractions.Fraction
            return _ratio(exact.numerator.fget(value), exact.denominator.fget(value))
        if decimal is not None and issubclass(kind, decimal.Decimal):
            return _decimal(decimal.Decimal, value)
        raise Unencodable(f"it is no plain data but a {type.__dict__['__name__'].__get__(kind)}")


def _are_numbers(found: set[type]) -> bool:
    """True if these are types of numpy's numbers, of which there may be a million."""
    numpy = sys.modules.get("numpy")
    if type(numpy) is not ModuleType or not hasattr(numpy, "generic"):
        return False
    return found <= {numpy.bool_, numpy.int64, numpy.int32, numpy.uint64, numpy.uint8, numpy.float64, numpy.float32}


def _real(value: Any) -> object:
    """Returns an int where a number equals one, and one and the same nan."""
    if type(value) is bool or (type(value) is float and value.is_integer()):
        return int(value)
    return value if value == value else math.nan


def _ratio(top: int, bottom: int) -> object:
    """Returns the int or float that a fraction in lowest terms equals, or else what stands for the fraction."""
    if bottom == 1:
        return top
    try:
        near = top / bottom
        if near.as_integer_ratio() == (top, bottom):
            return near
    except OverflowError:
        pass
    return _MARK, "ratio", top, bottom


def _decimal(kind: Any, value: Any) -> object:
    if not kind.is_finite(value):
        return math.nan if kind.is_nan(value) else -math.inf if kind.is_signed(value) else math.inf
    if value and abs(kind.adjusted(value)) > _MOST_DIGITS:
        sign, digits, exponent = kind.as_tuple(value)
        text = "".join(map(str, digits))
        return _MARK, "decimal", sign, text.rstrip("0"), exponent + len(text) - len(text.rstrip("0"))
    return _ratio(*kind.as_integer_ratio(value))
