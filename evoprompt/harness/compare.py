"""Comparison of what a candidate returned with what was expected: in the host, on decoded data.

Equality is Python's own `==` for the types that the codec knows, decided without hashing an untrusted object
and without arithmetic whose cost a candidate could choose. One deliberate limit: a Decimal with more than
1,200 digits or a larger exponent equals other Decimals only.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
from collections import deque
from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction
from typing import TypeAlias

from evoprompt.harness import codec
from evoprompt.harness.codec import Elements, Numpy, Pairs

Number: TypeAlias = int | float | complex | Decimal | Fraction

RTOL = 1e-7
EVALPLUS_ATOL = 1e-6
_MAX_DIGITS = 1_200
_UNBOUNDED = 1 << 62


def to_host(value: object) -> object:
    """Brings a trusted Python value, such as a literal, into the form that `decode` gives.

    Raises:
        codec.Unencodable: The value is no plain data.
    """
    data = codec.encode(value, max_bytes=_UNBOUNDED, max_nodes=_UNBOUNDED)
    return codec.decode(data, max_bytes=_UNBOUNDED, max_nodes=_UNBOUNDED)


def equal(observed: object, expected: object, atol: float = 0.0, *, evalplus: bool = False) -> bool:
    """Whether two decoded values are equal, or close where a tolerance applies.

    Args:
        observed: What the candidate returned.
        expected: What the test wants.
        atol: Absolute tolerance for numbers; 0 means exact.
        evalplus: Where `atol` is 0, allow 1e-6 if a float or a flat list or tuple of floats is expected.

    Returns:
        True when `observed == expected` in Python, or when both have one type and shape and every number
        agrees within `atol + 1e-7 * abs(expected)`; where a tolerance applies, nan agrees with nan.
    """
    try:
        if _same(observed, expected):
            return True
    except _NeverEqual:
        pass
    if evalplus and atol == 0 and is_floats(expected):
        atol = EVALPLUS_ATOL
    return atol > 0 and _close(observed, expected, atol)


def show(value: object, limit: int = 200) -> str:
    """The `repr` of a decoded value, cut to `limit` characters. Never raises for its size."""
    text = ""
    for piece in _pieces(value, limit):
        text += piece
        if len(text) > limit:
            return text[: max(limit - 1, 0)] + "…"
    return text


def canonical(value: object) -> bytes:
    """Bytes that are the same for decoded values that are equal as keys of a dict would be.

    Raises:
        ValueError: The value holds a nan, which equals nothing.
    """
    return _canonical(value)


def is_floats(value: object) -> bool:
    """Whether EvalPlus allows a tolerance where this is expected: a float, a flat list or tuple of floats."""
    if isinstance(value, list | tuple):
        return bool(value) and all(type(v) is float for v in value)
    return type(value) is float


class _NeverEqual(ValueError):
    """The value holds a nan, which equals nothing."""


def _plain(value: object) -> object:
    while isinstance(value, Numpy) and value.scalar:
        value = value.value
    return value


def _same(a: object, b: object) -> bool:
    a, b = _plain(a), _plain(b)
    if isinstance(a, Number) and isinstance(b, Number):
        return _same_number(a, b)
    if isinstance(a, Pairs) and isinstance(b, Pairs):
        return _same_pairs(a, b)
    if isinstance(a, Elements) and isinstance(b, Elements):
        return _same_elements(a, b)
    if isinstance(a, Numpy) and isinstance(b, Numpy):
        return _same(a.value, b.value)
    if isinstance(a, bytes | bytearray) and isinstance(b, bytes | bytearray):
        return a == b
    if isinstance(a, range) and isinstance(b, range):
        return _range_key(a) == _range_key(b)
    if type(a) is not type(b):
        return False
    if isinstance(a, list | tuple | deque) and isinstance(b, list | tuple | deque):
        return len(a) == len(b) and all(_same(x, y) for x, y in zip(a, b, strict=True))
    return a is b or (isinstance(a, str) and a == b)


def _same_number(a: Number, b: Number) -> bool:
    if isinstance(a, Decimal) or isinstance(b, Decimal):
        return _number_key(a) == _number_key(b)
    return a == b


def _same_pairs(a: Pairs, b: Pairs) -> bool:
    if a.kind == b.kind == "OrderedDict":
        keys = ([_canonical(k) for k, _ in m.items] for m in (a, b))
        return next(keys) == next(keys) and all(_same(x, y) for (_, x), (_, y) in zip(a.items, b.items, strict=True))
    tally = a.kind == b.kind == "Counter"
    if not tally and len(a.items) != len(b.items):
        return False
    left, right = _sorted(a, tally), _sorted(b, tally)
    if [k for k, _ in left] != [k for k, _ in right]:
        return False
    return all(_same(x, y) for (_, x), (_, y) in zip(left, right, strict=True))


def _sorted(pairs: Pairs, tally: bool) -> list[tuple[bytes, object]]:
    """Items by canonical key; as between two Counters, without the zeros."""
    items = [(_canonical(k), v) for k, v in pairs.items if not (tally and _same(v, 0))]
    return sorted(items, key=lambda item: item[0])


def _same_elements(a: Elements, b: Elements) -> bool:
    if len(a.items) != len(b.items):
        return False
    return sorted(map(_canonical, a.items)) == sorted(map(_canonical, b.items))


def _canonical(value: object) -> bytes:
    """Bytes that are the same for equal keys; those of a container are a digest of its parts."""
    value = _plain(value)
    match value:
        case None:
            return b"N"
        case str():
            return b"s" + value.encode("utf-8", "surrogatepass")
        case bytes() | bytearray():
            return b"b" + value
        case int() | float() | complex() | Decimal() | Fraction():
            return b"n" + codec.encode(_number_key(value), max_bytes=_UNBOUNDED)
        case range():
            return b"r" + codec.encode(_range_key(value), max_bytes=_UNBOUNDED)
        case tuple() | list() | deque():
            return _digest(type(value).__name__, [_canonical(v) for v in value])
        case Elements():
            return _digest("set", sorted(map(_canonical, value.items)))
        case Pairs():
            return _digest("dict", sorted(_digest("", [_canonical(k), _canonical(v)]) for k, v in value.items))
        case Numpy():
            return _digest("array", [_canonical(value.value)])
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
    if len(digits) > _MAX_DIGITS or abs(power) > _MAX_DIGITS:
        return ("decimal", int(number.is_signed()), digits, power)
    top, bottom = number.as_integer_ratio()
    return (top,) if bottom == 1 else (top, bottom)


def _close(a: object, b: object, atol: float) -> bool:
    a, b = _plain(a), _plain(b)
    if isinstance(a, Numpy) and isinstance(b, Numpy):
        return _close(a.value, b.value, atol)
    if type(a) is not type(b):
        return False
    if isinstance(a, Number) and isinstance(b, Number):
        return _close_number(a, b, atol)
    if isinstance(a, list | tuple | deque) and isinstance(b, list | tuple | deque):
        return len(a) == len(b) and all(_near(x, y, atol) for x, y in zip(a, b, strict=True))
    if isinstance(a, Pairs) and isinstance(b, Pairs) and len(a.items) == len(b.items):
        try:
            left, right = _sorted(a, False), _sorted(b, False)
        except _NeverEqual:
            return False
        return all(j == k and _near(x, y, atol) for (j, x), (k, y) in zip(left, right, strict=True))
    return False


def _near(a: object, b: object, atol: float) -> bool:
    """As `_close`, inside a container: numbers of different types may agree."""
    a, b = _plain(a), _plain(b)
    if isinstance(a, Number) and isinstance(b, Number):
        return _close_number(a, b, atol)
    try:
        return _same(a, b) or _close(a, b, atol)
    except _NeverEqual:
        return _close(a, b, atol)


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


def _pieces(value: object, limit: int) -> Iterator[str]:
    match value:
        case bool() | None | float() | complex() | Decimal():
            yield repr(value)
        case int():
            yield _int(value)
        case Fraction():
            yield f"Fraction({_int(value.numerator)}, {_int(value.denominator)})"
        case range():
            step = "" if value.step == 1 else f", {_int(value.step)}"
            yield f"range({_int(value.start)}, {_int(value.stop)}{step})"
        case str() | bytes() | bytearray():
            yield repr(value[: limit + 1]).encode("utf-8", "backslashreplace").decode()
        case list():
            yield from _listed("[", value, "]", limit)
        case tuple():
            yield from _listed("(", value, ",)" if len(value) == 1 else ")", limit)
        case deque():
            yield from _listed("deque([", value, "])", limit)
        case Elements():
            yield from _set_pieces(value, limit)
        case Pairs():
            yield from _dict_pieces(value, limit)
        case Numpy():
            yield from (_pieces(value.value, limit) if value.scalar else _listed("array(", (value.value,), ")", limit))
        case _:
            yield f"<{type(value).__name__}>"


def _listed(opening: str, items: object, closing: str, limit: int) -> Iterator[str]:
    yield opening
    if isinstance(items, list | tuple | deque):
        for index, item in enumerate(items):
            if index:
                yield ", "
            yield from _pieces(item, limit)
    yield closing


def _set_pieces(value: Elements, limit: int) -> Iterator[str]:
    if not value.items:
        yield f"{value.kind}()"
    elif value.kind == "set":
        yield from _listed("{", value.items, "}", limit)
    else:
        yield from _listed("frozenset({", value.items, "})", limit)


def _dict_pieces(value: Pairs, limit: int) -> Iterator[str]:
    opening, closing = ("{", "}") if value.kind == "dict" else (f"{value.kind}({{", "})")
    yield opening
    for index, (key, item) in enumerate(value.items):
        yield ", " if index else ""
        yield from _pieces(key, limit)
        yield ": "
        yield from _pieces(item, limit)
    yield closing


def _int(number: int) -> str:
    if number.bit_length() > 10_000:
        return f"<int of about {int(number.bit_length() * math.log10(2)) + 1} digits>"
    return str(number)
