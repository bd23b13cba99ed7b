"""Comparison of what a solution returned with what was expected: in the host, on decoded data.

Equality is Python's own `==` for the types that the codec knows, decided without hashing an untrusted object
and without arithmetic whose cost a solution could choose. Nothing recurses but what goes into a key. Two
deliberate limits: a Decimal with more than 120 decimal places or 450 zeros equals floats and other Decimals only,
and a key that is nested more than 64 deep equals none.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import struct
from array import array
from decimal import Decimal
from fractions import Fraction
from typing import Any, TypeAlias

from evoprompt.harness.inside import codec, digest
from evoprompt.harness.inside.codec import UNBOUNDED, Elements, Other, Pairs
from evoprompt.harness.judging.showing import show as show

Number: TypeAlias = int | float | complex | Decimal | Fraction

RTOL = 1e-7
EVALPLUS_ATOL = 1e-6
_MOST_PLACES, _MOST_ZEROS = 120, 450
_MAX_KEY_DEPTH = 64
_FLAT = frozenset({int, float, bool, str, bytes, type(None)})
_PIECE = 1 << 14


def to_host(value: object) -> object:
    """Brings a trusted Python value, such as a literal, into the form that `decode` gives.

    Raises:
        codec.Unencodable: The value is no plain data.
    """
    data = codec.encode(value, max_bytes=UNBOUNDED)
    return codec.decode(data, max_bytes=UNBOUNDED, max_cost=UNBOUNDED)


def equal(observed: object, expected: object, atol: float = 0.0, *, evalplus: bool = False) -> bool:
    """True if two decoded values are equal, or close where a tolerance applies.

    Args:
        observed: What the solution returned.
        expected: What the test wants.
        atol: Absolute tolerance for numbers; 0 means exact.
        evalplus: Where `atol` is 0, allow 1e-6 if a float or a flat list or tuple of floats is expected.

    Returns:
        True when `observed == expected` in Python, or when both have one type and shape and every number
        agrees within `atol + 1e-7 * abs(expected)`; where a tolerance applies, nan agrees with nan.
    """
    if same(observed, expected):
        return True
    if evalplus and atol == 0 and is_floats(expected):
        atol = EVALPLUS_ATOL
    return atol > 0 and _close(observed, expected, atol)


def same(a: object, b: object) -> bool:
    """True if `a == b` in Python."""
    waiting: list[tuple[object, object]] = [(a, b)]
    try:
        while waiting:
            if not _step(*waiting.pop(), waiting):
                return False
    except _NeverEqual:
        return False
    return True


def is_floats(value: object) -> bool:
    """True if EvalPlus allows a tolerance for this expected value: a float, a flat list or tuple of floats."""
    if isinstance(value, list | tuple):
        return bool(value) and all(_is_float(v) for v in value)
    return _is_float(value) or (isinstance(value, Other) and value.kind == "ndarray" and _dtype(value) in ("f4", "f8"))


def _is_float(value: object) -> bool:
    if isinstance(value, Other):
        return value.kind == "npscalar" and _dtype(value) == "f8"
    return type(value) is float


def _dtype(value: Other) -> str:
    match value.content:
        case (str() as dtype, *_):
            return dtype[1:]
    return ""


class _NeverEqual(ValueError):
    """The value holds a nan, which equals nothing."""


def form(value: object) -> object:
    """Comparable form of an `Other`: the plain data that it is equal to, or its group and the data that decides.

    Raises:
        ValueError: There is nothing that it is equal to.
    """
    while isinstance(value, Other):
        try:
            group, content = digest.alike(value.kind, value.content)
        except (TypeError, ValueError, ArithmeticError, struct.error) as e:
            raise _NeverEqual from e
        match group, content:
            case ("list", list()) | ("str", str()) | ("bytes", bytes()) | ("dict", Pairs()):
                return content
            case "set", list():
                return Elements(tuple(content))
            case digest.PLAIN, _:
                value = content
            case (("list" | "str" | "bytes" | "dict" | "set" | digest.NEVER), _):
                raise _NeverEqual
            case _:
                return Other(group, content)
    return value


def _step(a: object, b: object, waiting: list[tuple[object, object]]) -> bool:
    """False if two values differ; pairs that have to be equal too are added to `waiting`."""
    if type(a) is Other or type(b) is Other:
        if type(a) is Other and type(b) is Other and a.kind == b.kind in ("datetime", "time"):
            return _same_time(a.kind, a.content, b.content)
        a, b = form(a), form(b)
    match a, b:
        case (list(), list()) | (tuple(), tuple()):
            return _same_items(a, b, waiting)  # type: ignore[arg-type]
        case Pairs(), Pairs():
            return _same_pairs(a, b, waiting)
        case Elements(), Elements():
            return _same_elements(a, b)
        case Other(), Other():
            waiting.append((a.content, b.content))
            return a.kind == b.kind
        case array(), array():
            return a == b
        case ((bytes() | bytearray()), (bytes() | bytearray())):
            return a == b
        case range(), range():
            return _range_key(a) == _range_key(b)
    if isinstance(a, Number) and isinstance(b, Number):
        return _same_number(a, b)
    return type(a) is type(b) and (a is b or (isinstance(a, str) and a == b))


def _same_items(a: list[object], b: list[object], waiting: list[tuple[object, object]]) -> bool:
    if len(a) != len(b):
        return False
    if _FLAT.issuperset(map(type, a)) and _FLAT.issuperset(map(type, b)):
        return a == b
    waiting.extend(zip(reversed(a), reversed(b), strict=True))
    return True


def _same_number(a: Number, b: Number) -> bool:
    if isinstance(a, Decimal) or isinstance(b, Decimal):
        return _number_key(a) == _number_key(b)
    return a == b


def _same_time(kind: str, a: Any, b: Any) -> bool:
    """As Python has it: in one zone by the clock, else by the instant, unless one zone's clock shows that twice."""
    match a, b:
        case (int(), _, None), (int(), _, None):
            return bool(a[0] == b[0])
        case (int(), _, (int(), str(), str(), bool()) as x), (int(), _, (int(), str(), str(), bool()) as y):
            if x[1:3] == y[1:3] and x[1] == "ZoneInfo":
                return bool(a[0] == b[0])
            if kind == "datetime" and (x[3] or y[3]):
                return False
            return bool(a[0] - x[0] == b[0] - y[0])
    return False


def _same_pairs(a: Pairs, b: Pairs, waiting: list[tuple[object, object]]) -> bool:
    kinds_ = {a.kind, b.kind}
    if kinds_ == {"OrderedDict"}:
        if [canonical(k) for k in a.flat[::2]] != [canonical(k) for k in b.flat[::2]]:
            return False
        waiting.extend(zip(a.flat[1::2], b.flat[1::2], strict=True))
        return True
    tally = kinds_ == {"Counter"}
    if not tally and len(a.flat) != len(b.flat):
        return False
    left, right = _by_key(a, tally), _by_key(b, tally)
    if left.keys() != right.keys():
        return False
    waiting.extend((value, right[key]) for key, value in left.items())
    return True


def _by_key(pairs: Pairs, tally: bool) -> dict[Any, object]:
    """Values by canonical key, or by the key itself where all are text; as between two Counters, without the zeros."""
    keys = pairs.flat[::2]
    named: Any = keys if all(type(k) is str for k in keys) else [canonical(k) for k in keys]
    found = {k: v for k, v in zip(named, pairs.flat[1::2], strict=True) if not (tally and same(v, 0))}
    if not tally and len(found) != len(keys):
        raise _NeverEqual  # no dict has one key twice
    return found


def _same_elements(a: Elements, b: Elements) -> bool:
    if len(a.items) != len(b.items):
        return False
    types = set(map(type, a.items)) | set(map(type, b.items))
    if types == {str} or types == {int}:
        return sorted(a.items) == sorted(b.items)  # type: ignore[type-var]
    return sorted(map(canonical, a.items)) == sorted(map(canonical, b.items))


def canonical(value: object, depth: int = 0) -> bytes:
    """Bytes that are the same for decoded values that are equal as keys of a dict would be.

    Raises:
        ValueError: The value holds a nan, which equals nothing.
    """
    if depth > _MAX_KEY_DEPTH:
        raise _NeverEqual
    value = form(value)
    match value:
        case None:
            return b"N"
        case str():
            return b"s" + value.encode("unicode_escape")
        case bytes() | bytearray():
            return b"b" + value
        case int() | float() | complex() | Decimal() | Fraction():
            return b"n" + codec.encode(_number_key(value), max_bytes=UNBOUNDED)
        case range():
            return b"r" + codec.encode(_range_key(value), max_bytes=UNBOUNDED)
        case tuple() | list():
            return _digest(type(value).__name__, [canonical(v, depth + 1) for v in value])
        case Elements():
            return _digest("set", sorted(canonical(v, depth + 1) for v in value.items))
        case Pairs():
            parts = [canonical(v, depth + 1) for v in value.flat]
            return _digest("dict", sorted(_digest("", [k, v]) for k, v in zip(parts[::2], parts[1::2], strict=True)))
        case Other():
            return _digest(value.kind, [canonical(value.content, depth + 1)])
        case array():
            return _digest("array", [canonical(value.tolist(), depth + 1)])
    raise TypeError(f"no decoded value: {type(value).__name__}")


def _digest(name: str, parts: list[bytes]) -> bytes:
    digest = hashlib.blake2b(name.encode(), digest_size=32)
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return b"c" + digest.digest()


def _range_key(value: range) -> tuple[int, ...]:
    count = max(0, -((value.start - value.stop) // value.step))
    return (count, value.start, value.step)[: min(count, 2) + 1]


def _number_key(number: Number) -> tuple[int | str, ...]:
    """A key that is the same for equal numbers, at a cost linear in their size."""
    if isinstance(number, complex):
        if number.imag == 0:
            return _number_key(number.real)
        return ("complex", *_number_key(number.real), *_number_key(number.imag))
    if isinstance(number, Decimal):
        return _decimal_key(number)
    if isinstance(number, float) and not math.isfinite(number):
        if math.isnan(number):
            raise _NeverEqual
        return ("inf", 1 if number > 0 else -1)
    top, bottom = number.as_integer_ratio()
    return (top,) if bottom == 1 else (top, bottom)


def _decimal_key(number: Decimal) -> tuple[int | str, ...]:
    if number.is_nan():
        raise _NeverEqual
    if number.is_infinite():
        return ("inf", -1 if number.is_signed() else 1)
    if not number:
        return (0,)
    mantissa, _, exponent = format(number.copy_abs(), "E").partition("E")
    digits = mantissa.replace(".", "").rstrip("0")
    power = int(exponent) - len(digits) + 1
    if len(digits) <= _FLOAT_DIGITS and -_MOST_PLACES <= power <= _MOST_ZEROS:
        top, bottom = number.as_integer_ratio()
        return (top,) if bottom == 1 else (top, bottom)
    if len(digits) <= _FLOAT_DIGITS and abs(power) <= _FLOAT_DIGITS:
        near = float(number)
        if math.isfinite(near) and near and Decimal(near) == number:
            return _number_key(near)
    return ("decimal", int(number.is_signed()), digits, power)


_FLOAT_DIGITS = 1_100
"""No float has more."""


def _close(a: object, b: object, atol: float) -> bool:
    try:
        a, b = form(a), form(b)
        if type(a) is not type(b):
            return False
        waiting = [(a, b)]
        while waiting:
            if not _close_step(*waiting.pop(), atol, waiting):
                return False
    except _NeverEqual:
        return False
    return True


def _close_step(a: object, b: object, atol: float, waiting: list[tuple[object, object]]) -> bool:
    """As `_step`, with a tolerance: numbers of different types may agree."""
    a, b = form(a), form(b)
    match a, b:
        case (list(), list()) | (tuple(), tuple()):
            return len(a) == len(b) and _close_items(a, b, atol, waiting)  # type: ignore[arg-type]
        case Pairs(), Pairs():
            if len(a.flat) != len(b.flat):
                return False
            left, right = _by_key(a, False), _by_key(b, False)
            waiting.extend((value, right.get(key, Ellipsis)) for key, value in left.items())
            return True
        case Other(), Other() if a.kind == b.kind:
            waiting.append((a.content, b.content))
            return True
        case array(), array():
            return len(a) == len(b) and _close_items(a.tolist(), b.tolist(), atol, waiting)
    if isinstance(a, Number) and isinstance(b, Number):
        return _close_number(a, b, atol)
    return same(a, b)


def _close_items(a: list[Any], b: list[Any], atol: float, waiting: list[tuple[object, object]]) -> bool:
    if {float} == set(map(type, a)) == set(map(type, b)):
        return all(
            x == y or abs(x - y) <= atol + RTOL * abs(y) < math.inf or _close_number(x, y, atol)
            for x, y in zip(a, b, strict=True)
        )
    waiting.extend(zip(reversed(a), reversed(b), strict=True))
    return True


def close_floats(a: bytes, b: bytes, start: int, atol: float) -> bool:
    """True if two packed sequences of floats agree, compared a piece at a time.

    Args:
        a: The bytes of one, as observed.
        b: Those of the other, as expected.
        start: Where the floats begin.
        atol: Absolute tolerance.
    """
    if len(a) != len(b) or (len(a) - start) % 8:
        return False
    left, right = (memoryview(data)[start:].cast("d") for data in (a, b))
    ends = range(0, len(left), _PIECE)
    return all(_close_items(left[i : i + _PIECE].tolist(), right[i : i + _PIECE].tolist(), atol, []) for i in ends)


def _close_number(a: Number, b: Number, atol: float) -> bool:
    try:
        x, y = _inexact(a), _inexact(b)
        if not (_finite(x) and _finite(y)):
            return x == y or (x != x and y != y)
        return abs(x - y) <= atol + RTOL * abs(y)
    except (OverflowError, ValueError):  # too large, or a signalling nan
        with contextlib.suppress(_NeverEqual):
            return _same_number(a, b)
        return False


def _inexact(number: Number) -> float | complex:
    return number if isinstance(number, complex) else float(number)


def _finite(number: float | complex) -> bool:
    return math.isfinite(number.real) and math.isfinite(number.imag)
