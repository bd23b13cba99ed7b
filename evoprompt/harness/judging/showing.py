"""Decoded values as text for people and for reports, of bounded length."""

from __future__ import annotations

import math
import struct
from array import array
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction

from evoprompt.harness.inside import digest, kinds
from evoprompt.harness.inside.codec import Elements, Other, Pairs


def show(value: object, limit: int = 200) -> str:
    """The `repr` of a decoded value, cut to `limit` characters. Never raises for its size."""
    text = ""
    try:
        for piece in _pieces(value, limit):
            text += piece
            if len(text) > limit:
                break
        else:
            return text
    except RecursionError:  # an opening bracket for each level
        pass
    return text[: max(limit - 1, 0)] + "…"


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
        case Elements():
            yield from _set_pieces(value, limit)
        case Pairs():
            yield from _dict_pieces(value, limit)
        case Other():
            yield from _other_pieces(value, limit)
        case _:
            yield f"<{type(value).__name__}>"


def _listed(opening: str, items: object, closing: str, limit: int) -> Iterator[str]:
    yield opening
    if isinstance(items, list | tuple):
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


def _other_pieces(value: Other, limit: int) -> Iterator[str]:
    kind, content = value.kind, value.content
    try:
        group, plain = digest.alike(kind, content)
    except (TypeError, ValueError, ArithmeticError, struct.error):
        group, plain = digest.NEVER, None
    match kind, content:
        case (("npscalar" | "UserList" | "UserString" | "enum"), _) if group in (digest.PLAIN, "list", "str"):
            yield from _pieces(plain, limit)
        case "name", str():
            yield content.removeprefix("builtins:").replace(":", ".")
        case (("date" | "datetime" | "time" | "timedelta"), _):
            yield _moment(kind, content)
        case (("array" | "ndarray"), _) if isinstance(plain, array) or (kind == "ndarray" and _is_array(plain)):
            numbers = plain if isinstance(plain, array) else plain[-1]
            items = numbers[: limit + 1].tolist() if isinstance(numbers, array) else numbers
            yield from _listed("array(", (items,), ")", limit)
        case _, tuple():
            yield from _listed(f"{kind}(", content, ")", limit)
        case _:
            yield from _listed(f"{kind}(", (content,), ")", limit)


def _is_array(plain: object) -> bool:
    return isinstance(plain, tuple) and len(plain) == 3 and isinstance(plain[2], list | array)


def _moment(kind: str, content: object) -> str:
    """A date, time or span of time; those that there can't be are shown by their parts."""
    try:
        match kind, content:
            case "date", int():
                return repr(date.fromordinal(content)).removeprefix("datetime.")
            case "timedelta", (int() as days, int() as seconds, int() as micros):
                return repr(timedelta(days, seconds, micros)).removeprefix("datetime.")
            case _, (int() as clock, _, zone):
                told = datetime.min + timedelta(microseconds=clock - (kinds.DAY if kind == "datetime" else 0))
                plain: datetime | time = told if kind == "datetime" else told.time()
                return f"{kind} {plain.isoformat()}" + ("" if zone is None else " (aware)")
    except (OverflowError, ValueError):
        pass
    return f"<{kind}>"
