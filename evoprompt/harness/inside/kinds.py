"""Values of standard library and numpy types as plain data, and back. Standard library only.

`KINDS` has a row for each kind of value. `reduce` takes a value apart beside untrusted code; `rebuild` makes it again
in a sandboxed process, never in the host. A type counts as itself only if its module agrees: a name proves nothing.
"""

from __future__ import annotations

import datetime
import importlib
import re
import sys
import types
from array import array
from collections import ChainMap, Counter, OrderedDict, UserDict, UserList, UserString, deque
from collections.abc import Callable
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from typing import Any, NamedTuple

from .names import HOMES, named, path_of


class Unencodable(Exception):
    """The value is no plain data, contains itself, or is too large."""


DAY = 86_400 * 1_000_000
"""Microseconds of a day."""
_MAX_ARRAY = 256 << 20
"""Most bytes of an array whose elements are listed one by one."""
_DTYPE = re.compile(r"[<>|=](?:[biufcOUSmM])[0-9]{0,9}(?:\[[0-9]{0,9}[a-zA-Z]{1,7}\])?\Z")
_DATA = (type(None), bool, int, float, complex, str, bytes, bytearray, Decimal, Fraction, range, BaseException)


def reduce(value: Any, kind: type) -> tuple[str, object] | None:
    """Takes a value of the type `kind` apart: returns its kind and content, or None for plain and unknown values."""
    for base in type.__dict__["__mro__"].__get__(kind):
        module, name = type.__dict__["__module__"].__get__(base), type.__dict__["__name__"].__get__(base)
        if type(module) is not str or type(name) is not str:
            continue
        module = HOMES.get(module, module)
        known = _BY_TYPE.get((module, name))
        if known is not None and base is (
            _HIDDEN.get(name) if module == "builtins" else getattr(sys.modules.get(module), name, None)
        ):
            content = KINDS[known].take(base, value)
            if content is not None:
                return known, content
    return None


def rebuild(kind: str, content: Any) -> object:
    """Makes a value from its kind and content. Calls only what `KINDS` lists. Not for the host.

    Raises:
        Exception: The content can't be that of this kind.
    """
    row = KINDS[kind]
    if type(content) is not row.content:
        raise ValueError(f"no content of a {kind}")
    return row.make(content)


def _typed(value: Any, *kinds: type) -> Any:
    if type(value) not in kinds:
        raise ValueError("it is of another type")
    return value


def _class(path: Any, base: type) -> Any:
    """Returns the class with this name if it extends `base`."""
    found = named(_typed(path, str))
    if not isinstance(found, type) or not issubclass(found, base):
        raise ValueError(f"no {base.__name__}: {path}")
    return found


def _items(base: Any, value: Any) -> list[Any]:
    return list(base.__iter__(value))


def _text(base: Any, value: Any) -> str:
    return str(base.__str__(value))


# Types, functions and exceptions.


def _take_enum(base: Any, value: Any) -> object:
    path, name = path_of(type(value)), value._name_
    if path is None or type(name) is not str:
        return None
    plain = int(value) if isinstance(value, int) else str.__str__(value) if isinstance(value, str) else None
    return path, name, plain


def _take_exception(base: Any, value: Any) -> object:
    path = path_of(type(value))
    return None if path is None else (path, value.args)


def _make_exception(content: Any) -> object:
    kind, arguments = _class(content[0], BaseException), _typed(content[1], tuple)
    if not _is_data(arguments):
        raise ValueError("no arguments of an exception")
    if kind.__module__ == "builtins":
        return kind(*arguments)
    made = kind.__new__(kind, *arguments)
    made.args = arguments
    return made


def _is_data(value: Any) -> bool:
    """True if a value and all that it holds is plain data, or an exception."""
    if isinstance(value, dict):
        value = [*value.keys(), *value.values()]
    if isinstance(value, list | tuple | set | frozenset):
        return all(map(_is_data, value))
    return isinstance(value, _DATA)


def _take_namespace(base: Any, value: Any) -> object:
    return dict(object.__getattribute__(value, "__dict__"))


def _make_namespace(content: Any) -> object:
    if any(name.startswith("__") for name in content):  # by such names numpy is told where in memory an array is
        raise ValueError("no names")
    return types.SimpleNamespace(**content)


def _take_memoryview(base: Any, value: Any) -> object:
    return (value.format, value.tobytes()) if value.ndim == 1 else None


def _make_memoryview(content: Any) -> object:
    return memoryview(_typed(content[1], bytes)).cast(_typed(content[0], str))


def _make_pattern(content: Any) -> object:
    return re.compile(_typed(content[0], str, bytes), _typed(content[1], int))


def _make_uuid(content: int) -> object:
    import uuid

    return uuid.UUID(int=content)


# Dates and times: microseconds, and of a zone its offset.


def _micros(delta: Any) -> int:
    return int(delta // datetime.timedelta(microseconds=1))


def _zone(offset: Any, flipped: Any, zone: Any) -> tuple[int, str, str, bool] | None:
    """Offset in microseconds, sort and name of the zone; True if the offset differs for the other `fold`."""
    if offset is None:
        return None
    module, name = type(zone).__module__, type(zone).__name__
    known = (module, name) in (("datetime", "timezone"), ("zoneinfo", "ZoneInfo"))
    text = str(zone.key if name == "ZoneInfo" else zone.tzname(None)) if known else ""
    return _micros(offset), name if known else "", text, flipped != offset


def _make_zone(zone: Any) -> Any:
    if zone is None:
        return None
    offset, sort, name = _typed(zone[0], int), zone[1], _typed(zone[2], str)
    if sort == "ZoneInfo":
        try:
            return _make_zoneinfo(name)
        except (OSError, ValueError):  # no time zones here
            pass
    delta = datetime.timedelta(microseconds=offset)
    return datetime.timezone(delta, name) if name and not name.startswith("UTC") else datetime.timezone(delta)


def _make_zoneinfo(key: str) -> Any:
    import zoneinfo

    return zoneinfo.ZoneInfo(key)


def _take_timezone(base: Any, value: Any) -> object:
    return _micros(base.utcoffset(value, None)), base.tzname(value, None)


def _take_timedelta(base: Any, value: Any) -> object:
    return tuple(_fields(base, value, "days seconds microseconds"))


def _make_timedelta(content: Any) -> object:
    return datetime.timedelta(*(_typed(part, int) for part in content))


def _fields(base: Any, value: Any, names: str) -> list[Any]:
    return [getattr(base, name).__get__(value) for name in names.split()]


def _take_datetime(base: Any, value: Any) -> object:
    *fields, zone, fold = _fields(base, value, "year month day hour minute second microsecond tzinfo fold")
    plain, other = (base(*fields, tzinfo=zone, fold=f) for f in (fold, 1 - fold))
    return plain.toordinal() * DAY + _clock(*fields[3:]), fold, _zone(plain.utcoffset(), other.utcoffset(), zone)


def _take_time(base: Any, value: Any) -> object:
    *fields, zone, fold = _fields(base, value, "hour minute second microsecond tzinfo fold")
    offset = base(*fields, tzinfo=zone, fold=fold).utcoffset()
    return _clock(*fields), fold, _zone(offset, offset, zone)


def _clock(hour: int, minute: int, second: int, microsecond: int) -> int:
    return (hour * 3600 + minute * 60 + second) * 1_000_000 + microsecond


def _make_datetime(content: Any) -> Any:
    day, micros = divmod(content[0], DAY)
    start = datetime.datetime.fromordinal(day) + datetime.timedelta(microseconds=micros)
    return start.replace(tzinfo=_make_zone(content[2]), fold=content[1])


def _make_time(content: Any) -> object:
    plain = _make_datetime((DAY + content[0], content[1], None))
    return plain.time().replace(tzinfo=_make_zone(content[2]))


# Arrays and numpy.


def _take_array(base: Any, value: Any) -> object:
    code = base.typecode.__get__(value)
    return code, base.tounicode(value) if code == "u" else base.tobytes(value)


def _take_ndarray(base: Any, value: Any) -> object:
    numpy = sys.modules["numpy"]
    plain = numpy.array(value, subok=False, order="C")
    if plain.dtype.char in "gG":  # a long double has no size that all machines share
        plain = plain.astype("d" if plain.dtype.char == "g" else "D")
    plain = plain.astype(plain.dtype.newbyteorder("="))
    if plain.dtype.kind not in "biufcOUSmM":
        return None
    listed = plain.dtype.kind in "OUS"
    return plain.dtype.str, plain.shape, plain.ravel().tolist() if listed else plain.tobytes()


def _take_masked(base: Any, value: Any) -> object:
    raise Unencodable("it is no plain data but a masked array")


def _take_scalar(base: Any, value: Any) -> object:
    dtype = base.dtype.__get__(value)
    if dtype.kind in "mM":
        return dtype.newbyteorder("=").str, int(base.view(value, "i8"))
    plain = {"b": bool, "i": int, "u": int, "f": float, "c": complex, "U": str, "S": bytes}.get(dtype.kind)
    if plain is None:
        return None
    return {"g": "<f8", "G": "<c16"}.get(dtype.char, dtype.newbyteorder("=").str), plain(value)


def _dtype(content: str) -> Any:
    if not _DTYPE.match(content.replace("V", "S")):
        raise ValueError("no dtype")
    return importlib.import_module("numpy").dtype(content)


def _sized_dtype(content: str) -> Any:
    if not _DTYPE.match(content):
        raise ValueError("no dtype")
    return _dtype(content)


def _make_ndarray(content: Any) -> object:
    text, shape, data = content
    dtype, numpy = _sized_dtype(text), importlib.import_module("numpy")
    if type(_typed(data, bytes, list)) is list:
        if dtype.itemsize * len(data) > _MAX_ARRAY:
            raise ValueError("too large an array")
        flat = numpy.empty(len(data), dtype)
        flat[:] = data
    else:
        flat = numpy.frombuffer(bytearray(data), dtype)
    return flat.reshape(shape)


def _make_scalar(content: Any) -> object:
    text, plain = content
    dtype = _sized_dtype(text)
    _typed(plain, bool, int, float, complex, str, bytes)
    return importlib.import_module("numpy").int64(plain).view(dtype) if text[1] in "mM" else dtype.type(plain)


class Kind(NamedTuple):
    """The two ways that values of one kind cross between processes.

    Attributes:
        types: The types, as `module:name`; values of their subclasses are of the kind too.
        take: Takes such a type and a value; returns plain data that says all about the value, or None if it can't.
        content: The type of that data: `make` is called with no other.
        make: Makes the value.
    """

    types: str
    take: Callable[[Any, Any], object]
    content: type
    make: Callable[[Any], object]


def _view(name: str, make: Callable[[Any], object]) -> Kind:
    types = f"builtins:dict_{name} builtins:odict_{name} collections.abc:{name.capitalize()}View"
    return Kind(types, _items, list, make)


def _by_text(module: str, name: str) -> Kind:
    return Kind(f"{module}:{name}", _text, str, lambda c: getattr(importlib.import_module(module), name)(c))


KINDS: dict[str, Kind] = {
    "dict": Kind("", _items, zip, dict),
    "OrderedDict": Kind("", _items, zip, OrderedDict),
    "Counter": Kind("", _items, zip, lambda c: Counter(dict(c))),
    "set": Kind("", _items, list, set),
    "frozenset": Kind("", _items, list, frozenset),
    "deque": Kind("collections:deque", _items, list, deque),
    "UserDict": Kind("collections:UserDict", lambda _, v: dict(v.data), dict, UserDict),
    "UserList": Kind("collections:UserList", lambda _, v: list(v.data), list, UserList),
    "UserString": Kind("collections:UserString", lambda _, v: str(v.data), str, UserString),
    "ChainMap": Kind("collections:ChainMap", lambda _, v: dict(v.items()), dict, ChainMap),
    "keys": _view("keys", lambda c: dict.fromkeys(c).keys()),
    "items": _view("items", lambda c: dict(c).items()),
    "values": _view("values", lambda c: dict(enumerate(c)).values()),
    "mappingproxy": Kind("builtins:mappingproxy", lambda _, v: dict(v), dict, types.MappingProxyType),
    "SimpleNamespace": Kind("types:SimpleNamespace", _take_namespace, dict, _make_namespace),
    "slice": Kind("builtins:slice", lambda _, v: (v.start, v.stop, v.step), tuple, lambda c: slice(*c)),
    "memoryview": Kind("builtins:memoryview", _take_memoryview, tuple, _make_memoryview),
    "Pattern": Kind("re:Pattern", lambda _, v: (v.pattern, v.flags), tuple, _make_pattern),
    "UUID": Kind("uuid:UUID", lambda base, v: base.int.__get__(v), int, _make_uuid),
    **{name: _by_text("pathlib", name) for name in ("PurePosixPath", "PosixPath", "PureWindowsPath", "WindowsPath")},
    **{f"IPv{n}{of}": _by_text("ipaddress", f"IPv{n}{of}") for n in "46" for of in ("Address", "Network", "Interface")},
    "name": Kind(
        "builtins:type builtins:builtin_function_or_method builtins:ellipsis builtins:NotImplementedType",
        lambda _, v: f"builtins:{v!r}" if v is ... or v is NotImplemented else path_of(v),
        str,
        named,
    ),
    "enum": Kind("enum:Enum", _take_enum, tuple, lambda c: _class(c[0], Enum).__members__[_typed(c[1], str)]),
    "exception": Kind("builtins:BaseException", _take_exception, tuple, _make_exception),
    "date": Kind("datetime:date", lambda base, v: base.toordinal(v), int, datetime.date.fromordinal),
    "datetime": Kind("datetime:datetime", _take_datetime, tuple, _make_datetime),
    "time": Kind("datetime:time", _take_time, tuple, _make_time),
    "timedelta": Kind("datetime:timedelta", _take_timedelta, tuple, _make_timedelta),
    "timezone": Kind("datetime:timezone", _take_timezone, tuple, lambda c: _make_zone((c[0], "timezone", c[1]))),
    "ZoneInfo": Kind("zoneinfo:ZoneInfo", lambda _, v: v.key, str, _make_zoneinfo),
    "array": Kind("array:array", _take_array, tuple, lambda c: array(_typed(c[0], str), _typed(c[1], bytes, str))),
    "ndarray": Kind("numpy:ndarray", _take_ndarray, tuple, _make_ndarray),
    "masked array": Kind("numpy.ma:MaskedArray numpy.ma.core:MaskedArray", _take_masked, type(None), bool),
    "npscalar": Kind("numpy:generic", _take_scalar, tuple, _make_scalar),
    "dtype": Kind("numpy:dtype", lambda _, v: v.str, str, _dtype),
}
"""The kinds by name. The first five need no taking apart: `encoding` has tags for them."""
_BY_TYPE = {(*path.split(":"),): name for name, row in KINDS.items() for path in row.types.split()}
_HIDDEN: dict[str, type] = {
    **{f"dict_{name}": type(getattr({}, name)()) for name in ("keys", "items", "values")},
    **{f"odict_{name}": type(getattr(OrderedDict(), name)()) for name in ("keys", "items", "values")},
    **{t.__name__: t for t in (memoryview, type, slice, BaseException, type(...), type(NotImplemented), type(len))},
    "mappingproxy": types.MappingProxyType,
}
"""Types that say they are of `builtins`: some have no name there."""
