"""Values of the standard library's types, and numpy's, as plain data. Standard library only; stands alone.

`reduce` takes a value apart, beside untrusted code; `rebuild` puts it together. `alike` says what a reduced value is
equal to, without making it; the host asks that of data that anybody may have made up. A type counts as itself only
if its module says so: a name proves nothing.
"""

from __future__ import annotations

import struct
import sys
import types
from array import array
from collections import OrderedDict
from collections.abc import Callable
from typing import Any


class Unencodable(Exception):
    """The value is no plain data, contains itself, or is too large."""


Reduced = tuple[str, object]
NEVER = "never"
"""The group of what is equal to nothing else."""
PLAIN = "plain"
"""The group of what is equal to what its content is equal to."""

_WORDS = """
abc array builtins calendar cmath collections collections.abc dataclasses datetime decimal enum fractions functools
http io ipaddress itertools json math numbers numpy operator pathlib queue random re signal statistics string time
types typing uuid zoneinfo
"""
MODULES = frozenset(_WORDS.split())
"""Whose public types go by name, and those of their functions that compute and do nothing else."""
_COMPUTING = """
abs all any ascii bin bool chr divmod format hash hex isinstance issubclass len max min oct ord pow repr round sorted
sum
"""
_FUNCTIONS = frozenset(_COMPUTING.split())
_KEEP_FROM = frozenset({"attrgetter", "call", "itemgetter", "methodcaller"})
_US = 1_000_000
DAY = 86_400 * _US
VIEWS = ("keys", "items", "values")
_ARRAYS = frozenset("bBhHiIlLqQfd")
_CODES = {"b1": "B", "i1": "b", "i2": "h", "i4": "i", "i8": "q", "u1": "B", "u2": "H", "u4": "I", "u8": "Q"}
_CODES |= {"f2": "f", "f4": "f", "f8": "d", "c8": "f", "c16": "d"}


def reduce(value: Any, kind: type) -> Reduced | None:
    """A kind and plain data that say all about a value; None for plain data, and for what nothing is known of."""
    for base in type.__dict__["__mro__"].__get__(kind):
        name = type.__dict__["__module__"].__get__(base), type.__dict__["__name__"].__get__(base)
        if type(name[0]) is not str or type(name[1]) is not str:
            continue
        known = _TABLE.get(name)
        if known is not None and _is(base, *name):
            found: Reduced | None = known(base, value)
            if found is not None:
                return found
    return None


def _is(base: type, module: str, name: str) -> bool:
    return base is (_HIDDEN.get(name) if module == "builtins" else getattr(sys.modules.get(module), name, None))


def path_of(value: Any) -> str | None:
    """The name by which a public type or function of an allowed module is found; None for any other."""
    if isinstance(value, type):
        module, name = type.__dict__["__module__"].__get__(value), type.__dict__["__qualname__"].__get__(value)
    else:
        module, name = {"_operator": "operator"}.get(value.__module__, value.__module__), value.__qualname__
    if type(module) is not str or type(name) is not str:
        return None
    if module == "builtins" and not hasattr(sys.modules["builtins"], name):
        module, name = "types", next((n for n, v in vars(types).items() if v is value), name)
    path = f"{module}:{name}"
    try:
        return path if found_in(path, sys.modules.get(module)) is value else None
    except (AttributeError, ValueError):
        return None


def found_in(path: str, module: object) -> object:
    """What has this name in an allowed module, and may be had by it."""
    where, _, name = path.partition(":")
    if where not in MODULES or not name.isidentifier() or name.startswith("_"):
        raise ValueError(f"no public name: {path}")
    value = getattr(module, name)
    builtin = isinstance(value, types.BuiltinFunctionType) and (
        name in _FUNCTIONS if where == "builtins" else where in ("math", "cmath", "operator") and name not in _KEEP_FROM
    )
    if not isinstance(value, type) and not builtin and value is not Ellipsis and value is not NotImplemented:
        raise ValueError(f"no type: {path}")
    return value


def _named(base: Any, value: Any) -> Reduced | None:
    path = path_of(value)
    return None if path is None else ("name", path)


def _enum(base: Any, value: Any) -> Reduced | None:
    path, name = path_of(type(value)), value._name_
    if path is None or type(name) is not str:
        return None
    plain = int(value) if isinstance(value, int) else str.__str__(value) if isinstance(value, str) else None
    return "enum", (path, name, plain)


def _raised(base: Any, value: Any) -> Reduced | None:
    path = path_of(type(value))
    return None if path is None else ("exception", (path, value.args))


def _micros(delta: Any) -> int:
    return int((delta.days * 86_400 + delta.seconds) * _US + delta.microseconds)


def _zone(offset: Any, flipped: Any, zone: Any) -> tuple[int, str, str, bool] | None:
    """Offset in microseconds, sort and name of the zone, and whether the offset depends on which of two times it is."""
    if offset is None:
        return None
    module, name = type(zone).__module__, type(zone).__name__
    known = (module, name) in (("datetime", "timezone"), ("zoneinfo", "ZoneInfo"))
    text = str(zone.key if name == "ZoneInfo" else zone.tzname(None)) if known else ""
    return _micros(offset), name if known else "", text, flipped != offset


def _datetime(base: Any, value: Any) -> Reduced:
    def get(name: str) -> Any:
        return getattr(base, name).__get__(value)

    fields = [get(n) for n in ("year", "month", "day", "hour", "minute", "second", "microsecond")]
    zone, fold = get("tzinfo"), get("fold")
    plain, other = (base(*fields, tzinfo=zone, fold=f) for f in (fold, 1 - fold))
    clock = (plain.hour * 3600 + plain.minute * 60 + plain.second) * _US + plain.microsecond
    told = _zone(plain.utcoffset(), other.utcoffset(), zone)
    return "datetime", (plain.toordinal() * DAY + clock, fold, told)


def _time(base: Any, value: Any) -> Reduced:
    hour, minute, second, micro, zone, fold = (
        getattr(base, n).__get__(value) for n in ("hour", "minute", "second", "microsecond", "tzinfo", "fold")
    )
    offset = base(hour, minute, second, micro, tzinfo=zone, fold=fold).utcoffset()
    return "time", ((hour * 3600 + minute * 60 + second) * _US + micro, fold, _zone(offset, offset, zone))


def _array(base: Any, value: Any) -> Reduced:
    code = base.typecode.__get__(value)
    return "array", (code, base.tounicode(value) if code == "u" else base.tobytes(value))


def _memoryview(base: Any, value: Any) -> Reduced | None:
    return ("memoryview", (value.format, value.tobytes())) if value.ndim == 1 else None


def _ndarray(base: Any, value: Any) -> Reduced | None:
    numpy = sys.modules["numpy"]
    plain = numpy.array(value, subok=False, order="C")
    if plain.dtype.char in "gG":  # a long double has no size that all machines share
        plain = plain.astype("d" if plain.dtype.char == "g" else "D")
    plain = plain.astype(plain.dtype.newbyteorder("="))
    if plain.dtype.kind not in "biufcOUSmM":
        return None
    listed = plain.dtype.kind in "OUS"
    return "ndarray", (plain.dtype.str, plain.shape, plain.ravel().tolist() if listed else plain.tobytes())


def _generic(base: Any, value: Any) -> Reduced | None:
    dtype = base.dtype.__get__(value)
    if dtype.kind in "mM":
        return "npscalar", (dtype.newbyteorder("=").str, int(base.view(value, "i8")))
    plain = {"b": bool, "i": int, "u": int, "f": float, "c": complex, "U": str, "S": bytes}.get(dtype.kind)
    if plain is None:
        return None
    sort = {"g": "<f8", "G": "<c16"}.get(dtype.char, dtype.newbyteorder("=").str)
    return "npscalar", (sort, plain(value))


def _masked(base: Any, value: Any) -> Reduced | None:
    raise Unencodable("it is no plain data but a masked array")


def _content(kind: str, take: Callable[[Any, Any], object]) -> Callable[[Any, Any], Reduced]:
    return lambda base, value: (kind, take(base, value))


def _simple() -> dict[tuple[str, str], Callable[[Any, Any], Reduced | None]]:
    def text(base: Any, value: Any) -> object:
        return base.__str__(value)

    taken: dict[str, dict[str, Callable[[Any, Any], object]]] = {
        "collections": {
            "deque": lambda base, value: list(base.__iter__(value)),
            "UserDict": lambda base, value: dict(value.data),
            "UserList": lambda base, value: list(value.data),
            "UserString": lambda base, value: str(value.data),
            "ChainMap": lambda base, value: dict(value.items()),
        },
        "datetime": {
            "date": lambda base, value: base.toordinal(value),
            "timedelta": lambda base, value: tuple(
                getattr(base, n).__get__(value) for n in ("days", "seconds", "microseconds")
            ),
            "timezone": lambda base, value: (_micros(base.utcoffset(value, None)), base.tzname(value, None)),
        },
        "zoneinfo": {"ZoneInfo": lambda base, value: value.key},
        "pathlib": dict.fromkeys(("PurePosixPath", "PosixPath", "PureWindowsPath", "WindowsPath"), text),
        "uuid": {"UUID": lambda base, value: base.int.__get__(value)},
        "ipaddress": {f"IPv{n}{what}": text for n in "46" for what in ("Address", "Network", "Interface")},
        "types": {"SimpleNamespace": lambda base, value: dict(object.__getattribute__(value, "__dict__"))},
        "builtins": {
            "mappingproxy": lambda base, value: dict(value),
            "slice": lambda base, value: (value.start, value.stop, value.step),
        },
        "re": {"Pattern": lambda base, value: (value.pattern, value.flags)},
        "numpy": {"dtype": lambda base, value: value.str},
    }
    found = {(module, name): _content(name, take) for module, all_ in taken.items() for name, take in all_.items()}
    for kind in VIEWS:
        listed = _content(kind, lambda base, value: list(base.__iter__(value)))
        found |= {("builtins", f"{sort}_{kind}"): listed for sort in ("dict", "odict")}
        found["collections.abc", f"{kind.capitalize()}View"] = listed
    return dict(found)


_TABLE = _simple() | {
    ("datetime", "datetime"): _datetime,
    ("datetime", "time"): _time,
    ("array", "array"): _array,
    ("builtins", "memoryview"): _memoryview,
    ("builtins", "type"): _named,
    ("builtins", "builtin_function_or_method"): _named,
    ("builtins", "BaseException"): _raised,
    ("builtins", "ellipsis"): lambda base, value: ("name", "builtins:Ellipsis"),
    ("builtins", "NotImplementedType"): lambda base, value: ("name", "builtins:NotImplemented"),
    ("enum", "Enum"): _enum,
    ("numpy", "ndarray"): _ndarray,
    ("numpy", "generic"): _generic,
    ("numpy.ma", "MaskedArray"): _masked,
    ("numpy.ma.core", "MaskedArray"): _masked,
}
_HIDDEN: dict[str, type] = {
    **{f"dict_{kind}": type(getattr({}, kind)()) for kind in VIEWS},
    **{f"odict_{kind}": type(getattr(OrderedDict(), kind)()) for kind in VIEWS},
    **{t.__name__: t for t in (memoryview, type, slice, BaseException, type(...), type(NotImplemented), type(len))},
    "mappingproxy": types.MappingProxyType,
}
"""Types that say they are of `builtins`: some have no name there."""


def alike(kind: str, content: Any) -> tuple[str, Any]:
    """A group and what decides within it: two values are equal when both are, of times and mappings all but so.

    The groups `list`, `str`, `bytes`, `dict` and `set` are those of the plain types; `set` is given by a list.

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
    """What is special about the type of an array's elements, and these as plain values."""
    size = dtype[1:]
    if type(data) is list or size not in _CODES:
        return size, data if type(data) is list else _numbers("q", data)
    if size == "f2":
        return "", array("f", struct.unpack(f"={len(data) // 2}e", data))
    return "complex" if size.startswith("c") else "", _numbers(_CODES[size], data)
