"""Real values from decoded ones, for a process that calls a solution or runs tests. Never for the host.

The process may be attacked by what it gets: it is locked in as any. What can be called, and what goes by name, is in
this file: nothing that makes code of data, or opens what it is told. Standard library only.
"""

from __future__ import annotations

import importlib
import re
import sys
import types
from array import array
from collections import Counter, OrderedDict
from collections.abc import Callable
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from functools import partial
from typing import Any

from .kinds import DAY, MODULES, VIEWS, found_in

_DTYPE = re.compile(r"[<>|=](?:[biufcOUSmM])[0-9]{0,9}(?:\[[0-9]{0,9}[a-zA-Z]{1,7}\])?\Z")
_MAX_ARRAY = 256 << 20
_TYPES: dict[str, str] = {
    "abc": "ABC ABCMeta",
    "array": "array",
    "builtins": "bool bytearray bytes classmethod complex dict enumerate filter float frozenset int list map "
    "memoryview object property range reversed set slice staticmethod str tuple type zip",
    "calendar": "Day IllegalMonthError IllegalWeekdayError Month",
    "collections": "ChainMap Counter OrderedDict UserDict UserList UserString defaultdict deque",
    "collections.abc": "AsyncGenerator AsyncIterable AsyncIterator Awaitable Buffer ByteString Callable Collection "
    "Container Coroutine Generator Hashable ItemsView Iterable Iterator KeysView Mapping MappingView MutableMapping "
    "MutableSequence MutableSet Reversible Sequence Set Sized ValuesView",
    "dataclasses": "FrozenInstanceError InitVar",
    "datetime": "date datetime time timedelta timezone tzinfo",
    "decimal": "Clamped Context Decimal DecimalException DivisionByZero FloatOperation Inexact InvalidOperation "
    "Overflow Rounded Subnormal Underflow",
    "enum": "Enum EnumCheck EnumMeta Flag FlagBoundary IntEnum IntFlag StrEnum auto",
    "fractions": "Fraction",
    "http": "HTTPMethod HTTPStatus",
    "io": "BufferedIOBase BytesIO IOBase RawIOBase StringIO TextIOBase UnsupportedOperation",
    "ipaddress": "AddressValueError IPv4Address IPv4Interface IPv4Network IPv6Address IPv6Interface IPv6Network "
    "NetmaskValueError",
    "itertools": "accumulate batched chain combinations combinations_with_replacement compress count cycle dropwhile "
    "filterfalse groupby islice pairwise permutations product repeat starmap takewhile zip_longest",
    "json": "JSONDecodeError",
    "numbers": "Complex Integral Number Rational Real",
    "numpy": "dtype ndarray ufunc",
    "pathlib": "Path PosixPath PurePath PurePosixPath PureWindowsPath WindowsPath",
    "queue": "Empty Full LifoQueue PriorityQueue Queue SimpleQueue",
    "random": "Random",
    "re": "Match Pattern PatternError RegexFlag error",
    "signal": "Handlers Sigmasks Signals",
    "statistics": "NormalDist StatisticsError",
    "time": "struct_time",
    "types": "AsyncGeneratorType BuiltinFunctionType BuiltinMethodType ClassMethodDescriptorType CoroutineType "
    "EllipsisType FrameType FunctionType GeneratorType GetSetDescriptorType LambdaType MappingProxyType "
    "MemberDescriptorType MethodDescriptorType MethodType MethodWrapperType ModuleType NoneType NotImplementedType "
    "SimpleNamespace UnionType WrapperDescriptorType",
    "typing": "Any Generic Protocol",
    "uuid": "SafeUUID UUID",
    "zoneinfo": "ZoneInfo ZoneInfoNotFoundError",
}
"""Module -> the types of it that go by name, besides the built-in exceptions and the scalars of numpy."""
_DATA = (type(None), bool, int, float, complex, str, bytes, bytearray, Decimal, Fraction, range, BaseException)


def real(kind: str, content: Any) -> object:
    """The value itself. What it may call is in this file; what it is given decides no more than which.

    Raises:
        Exception: The content can't be that of this kind.
    """
    if type(content) is not _CONTENTS[kind]:
        raise ValueError(f"no content of a {kind}")
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
}


def _named_again(path: str) -> object:
    module, _, name = path.partition(":")
    if module not in MODULES:
        raise ValueError(f"no public name: {path}")
    found = found_in(path, importlib.import_module(module))
    if isinstance(found, type) and name not in _TYPES.get(module, "").split():
        base = {"builtins": BaseException, "numpy": getattr(sys.modules.get("numpy"), "generic", ())}.get(module, ())
        if not issubclass(found, base):
            raise ValueError(f"no type to be had by name: {path}")
    return found


def _class(path: Any, base: type) -> Any:
    """A class that goes by name and extends another."""
    found = _named_again(_typed(path, str))
    if not isinstance(found, type) or not issubclass(found, base):
        raise ValueError(f"no {base.__name__}: {path}")
    return found


def _typed(value: Any, *kinds: type) -> Any:
    """The value, if it is of one of these types exactly."""
    if type(value) not in kinds:
        raise ValueError("it is of another type")
    return value


def _member(content: Any) -> object:
    return _class(content[0], Enum).__members__[_typed(content[1], str)]


def _exception(content: Any) -> object:
    kind, arguments = _class(content[0], BaseException), _typed(content[1], tuple)
    if not _is_data(arguments):
        raise ValueError("no arguments of an exception")
    if kind.__module__ == "builtins":
        return kind(*arguments)
    made = kind.__new__(kind, *arguments)
    made.args = arguments
    return made


def _is_data(value: Any) -> bool:
    """Whether a value and all that it holds is plain data, or an exception."""
    if isinstance(value, dict):
        value = [*value.keys(), *value.values()]
    if isinstance(value, list | tuple | set | frozenset):
        return all(map(_is_data, value))
    return isinstance(value, _DATA)


def _namespace(content: Any) -> object:
    if any(name.startswith("__") for name in content):  # by such names numpy is told where in memory an array is
        raise ValueError("no names")
    return types.SimpleNamespace(**content)


def _pattern(content: Any) -> object:
    return re.compile(_typed(content[0], str, bytes), _typed(content[1], int))


def _memoryview(content: Any) -> object:
    return memoryview(_typed(content[1], bytes)).cast(_typed(content[0], str))


def _dtype(content: str) -> object:
    import numpy

    if not _DTYPE.match(content.replace("V", "S")):
        raise ValueError("no dtype")
    return numpy.dtype(content)


def _zone_again(zone: Any) -> Any:
    import datetime

    if zone is None:
        return None
    offset, sort, name = _typed(zone[0], int), zone[1], _typed(zone[2], str)
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
    return datetime.timedelta(*(_typed(part, int) for part in content))


def _array_again(content: Any) -> object:
    return array(_typed(content[0], str), _typed(content[1], bytes, str))


def _ndarray_again(content: Any) -> object:
    import numpy

    dtype, shape, data = content
    if not _DTYPE.match(dtype):
        raise ValueError("no dtype")
    if type(_typed(data, bytes, list)) is list:
        if numpy.dtype(dtype).itemsize * len(data) > _MAX_ARRAY:
            raise ValueError("too large an array")
        flat = numpy.empty(len(data), dtype)
        flat[:] = data
        return flat.reshape(shape)
    return numpy.frombuffer(bytearray(data), dtype).reshape(shape)


def _npscalar_again(content: Any) -> object:
    import numpy

    dtype, plain = content
    if not _DTYPE.match(dtype):
        raise ValueError("no dtype")
    _typed(plain, bool, int, float, complex, str, bytes)
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
    **{"memoryview": _memoryview, "SimpleNamespace": _namespace, "Pattern": _pattern, "dtype": _dtype},
    **{"enum": _member, "exception": _exception},
}
_CONTENTS: dict[str, type] = {
    **dict.fromkeys(_MAKERS, tuple),
    **dict.fromkeys(("dict", "OrderedDict", "Counter"), zip),
    **dict.fromkeys(("set", "frozenset", "deque", "UserList", *VIEWS), list),
    **dict.fromkeys(("mappingproxy", "SimpleNamespace", "UserDict", "ChainMap"), dict),
    **dict.fromkeys((*_PLACES.keys() - {"deque", "UserList", "UserDict", "ChainMap"}, "name", "dtype"), str),
    **dict.fromkeys(("date", "UUID"), int),
}
"""Kind -> the type of what tells it: nothing else is handed to a maker."""
