"""A digest that two values share if and only if Python calls them equal. Candidate's side, standard library only.

Where an output is huge it stays in its process: that costs the host nothing, and nobody can name the digest of a
value without having it. A value is brought into a form that all equal values have, a piece at a time, and that
form is hashed as `marshal` writes it. Two exceptions: a nan is equal to itself, and where an `OrderedDict` or a
`Counter` is inside, equality is no equivalence, which `Uncertain` says.
"""

from __future__ import annotations

import hashlib
import marshal
import math
import sys
from array import array
from collections import Counter, OrderedDict
from types import ModuleType
from typing import Any

from . import kinds
from .encoding import Unencodable

SIZE = 32
_PIECE = 1 << 13
_FIXED = {str, int, bytes, type(None)}
_NUMBERS = {int, float, bool}
_MOST_DIGITS = 10_000
_VERSION = 2
"""Of marshal: the last that writes equal values alike, whoever else holds them."""
_MARK = StopIteration
"""Begins what stands for a value that is no plain data: no plain value holds it."""


class Uncertain(Exception):
    """Whether another value is equal to this one depends on more than their digests."""


def digest(value: Any, *, certain: bool = False) -> bytes:
    """The digest of a value.

    Args:
        value: Any value that could be encoded.
        certain: Whether to refuse a value whose equals need not be equal to one another.

    Raises:
        Unencodable: The value is no plain data, or contains itself.
        Uncertain: The value holds an `OrderedDict` or a `Counter`, and certainty was asked for.
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
    """The plain list or tuple that a value is equal to; any other value as it is."""
    kind = type(value)
    if kind is list or kind is tuple:
        return value
    reduced = kinds.reduce(value, kind)
    if reduced is not None:
        group, content = kinds.alike(*reduced)
        return _sequence_of(content) if group in (kinds.PLAIN, "list") else value
    for base in (list, tuple):
        if issubclass(kind, base):
            return base(base.__iter__(value))
    return value


def _bytes(normal: Any) -> bytes:
    return marshal.dumps(normal, _VERSION)


class _Normal:
    """Brings values into the form that all equal values have."""

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
        """A list or a tuple, most often of values that are in that form already."""
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
            group, content = kinds.alike(*reduced)
            if group == kinds.PLAIN or group in ("list", "str", "bytes", "dict"):
                return self(content)
            if group == "set":
                return self.set(content)
            parts = content if type(content) is tuple else (content,)
            return _MARK, group, self([part.tolist() if type(part) is array else part for part in parts])
        if issubclass(kind, dict):
            return self.mapping(value, kind)
        if issubclass(kind, set | frozenset):
            return self.set((set if issubclass(kind, set) else frozenset).__iter__(value))
        for base in (list, tuple):
            if issubclass(kind, base):
                return self.sequence(base(base.__iter__(value)), base)
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
        if issubclass(kind, str):
            return str.__str__(value)
        if issubclass(kind, int):
            return int.__index__(value)
        if issubclass(kind, float):
            return _real(float.__float__(value))
        if issubclass(kind, complex):
            plain = complex.__complex__(value)
            parts = (math.nan if part != part else part + 0.0 for part in (plain.real, plain.imag))
            return complex(*parts) if plain.imag else _real(plain.real)
        if issubclass(kind, bytes | bytearray):
            return bytes(value)
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
    """Whether these are types of numpy's numbers, of which there may be a million."""
    numpy = sys.modules.get("numpy")
    if type(numpy) is not ModuleType or not hasattr(numpy, "generic"):
        return False
    return found <= {numpy.bool_, numpy.int64, numpy.int32, numpy.uint64, numpy.uint8, numpy.float64, numpy.float32}


def _real(value: Any) -> object:
    """An int, or a float that is none; all nans are one."""
    if type(value) is bool or (type(value) is float and value.is_integer()):
        return int(value)
    return value if value == value else math.nan


def _ratio(top: int, bottom: int) -> object:
    """A fraction in lowest terms: an int or a float where there is one, as these are equal to it."""
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
