"""Real values from decoded ones, for a process that calls a solution or runs tests. Never for the host.

The process may be attacked by what it gets: it is locked in as any. What can be called is in this file, in
`kinds` the types and functions that go by name. Standard library only.
"""

from __future__ import annotations

import importlib
import re
import types
from array import array
from collections import Counter, OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Any

from .kinds import DAY, MODULES, VIEWS, found_in

_DTYPE = re.compile(r"[<>|=](?:[biufcOUSmM])[0-9]{0,9}(?:\[[0-9]{0,9}[a-zA-Z]{1,7}\])?\Z")


def real(kind: str, content: Any) -> object:
    """The value itself. What it may call is in this file; what it is given decides no more than which.

    Raises:
        Exception: The content can't be that of this kind.
    """
    make = _MAKERS.get(kind)
    if make is not None:
        return make(content)
    module, name = _PLACES[kind]
    return getattr(importlib.import_module(module), name)(content)


_PLACES: dict[str, tuple[str, str]] = {
    **{n: ("collections", n) for n in ("deque", "UserDict", "UserList", "UserString", "ChainMap")},
    **{n: ("pathlib", n) for n in ("PurePosixPath", "PosixPath", "PureWindowsPath", "WindowsPath")},
    **{f"IPv{n}{what}": ("ipaddress", f"IPv{n}{what}") for n in "46" for what in ("Address", "Network", "Interface")},
    "ZoneInfo": ("zoneinfo", "ZoneInfo"),
    "dtype": ("numpy", "dtype"),
}


def _named_again(path: str) -> object:
    module = path.partition(":")[0]
    if module not in MODULES:
        raise ValueError(f"no public name: {path}")
    return found_in(path, importlib.import_module(module))


def _zone_again(zone: Any) -> Any:
    import datetime

    if zone is None:
        return None
    offset, sort, name, _ = zone
    if sort == "ZoneInfo":
        try:
            return real("ZoneInfo", name)
        except (OSError, ValueError):  # no time zones here
            pass
    delta = datetime.timedelta(microseconds=offset)
    return datetime.timezone(delta, name) if name and not name.startswith("UTC") else datetime.timezone(delta)


def _datetime_again(content: Any) -> object:
    import datetime

    day, micros = divmod(content[0], DAY)
    start = datetime.datetime.fromordinal(day) + datetime.timedelta(microseconds=micros)
    return start.replace(tzinfo=_zone_again(content[2]), fold=content[1])


def _time_again(content: Any) -> object:
    plain: Any = _datetime_again((DAY + content[0], content[1], None))
    return plain.time().replace(tzinfo=_zone_again(content[2]))


def _of_datetime(name: str, content: Any) -> object:
    import datetime

    if name == "date":
        return datetime.date.fromordinal(content)
    if name == "timezone":
        return _zone_again((content[0], "timezone", content[1], False))
    return datetime.timedelta(*content)


def _array_again(content: Any) -> object:
    return array(content[0], content[1])


def _ndarray_again(content: Any) -> object:
    import numpy

    dtype, shape, data = content
    if not _DTYPE.match(dtype):
        raise ValueError("no dtype")
    if type(data) is list:
        flat = numpy.empty(len(data), dtype)
        flat[:] = data
        return flat.reshape(shape)
    return numpy.frombuffer(bytearray(data), dtype).reshape(shape)


def _npscalar_again(content: Any) -> object:
    import numpy

    dtype, plain = content
    if not _DTYPE.match(dtype):
        raise ValueError("no dtype")
    return numpy.int64(plain).view(dtype) if dtype[1] in "mM" else numpy.dtype(dtype).type(plain)


def _view(kind: str, content: Any) -> object:
    if kind == "items":
        return dict(content).items()
    return dict.fromkeys(content).keys() if kind == "keys" else dict(enumerate(content)).values()


def _uuid(content: Any) -> object:
    import uuid

    return uuid.UUID(int=content)


_MAKERS: dict[str, Callable[[Any], object]] = {
    **{"dict": dict, "OrderedDict": OrderedDict, "Counter": lambda c: Counter(dict(c)), "set": set},
    **{"frozenset": frozenset, "mappingproxy": types.MappingProxyType, "slice": lambda c: slice(*c)},
    **{kind: partial(_view, kind) for kind in VIEWS},
    **{name: partial(_of_datetime, name) for name in ("date", "timedelta", "timezone")},
    **{"datetime": _datetime_again, "time": _time_again, "array": _array_again, "UUID": _uuid},
    **{"ndarray": _ndarray_again, "npscalar": _npscalar_again, "name": _named_again},
    "memoryview": lambda c: memoryview(c[1]).cast(c[0]),
    "SimpleNamespace": lambda c: types.SimpleNamespace(**c),
    "Pattern": lambda c: re.compile(*c),
    "enum": lambda c: getattr(_named_again(c[0]), c[1]),
    "exception": lambda c: _named_again(c[0])(*c[1]),  # type: ignore[operator]
}
