"""Public types and functions of the standard library, and of numpy, that cross between processes by name.

Only a name that is listed here is looked up. None of them makes code of data, or opens what it is told.
"""

from __future__ import annotations

import importlib
import sys
import types
from typing import Any

TYPES: dict[str, str] = {
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
    "enum": "Enum EnumCheck EnumMeta EnumType Flag FlagBoundary IntEnum IntFlag StrEnum auto",
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
"""Module -> its types that a name may stand for, besides the built-in exceptions and the scalars of numpy."""
MODULES = frozenset({*TYPES, "cmath", "functools", "math", "operator", "string"})
"""Modules whose public types and pure functions have a name that the host compares."""
_PURE = """
abs all any ascii bin bool chr divmod format hash hex isinstance issubclass len max min oct ord pow repr round sorted
sum
"""
HOMES = {
    "_io": "io",
    "_operator": "operator",
    "_queue": "queue",
    "json.decoder": "json",
    "pathlib._local": "pathlib",
    "zoneinfo._common": "zoneinfo",
}
"""Modules that some versions of CPython define public names in -> the public module."""
_CALLS_ITS_ARGUMENT = frozenset({"attrgetter", "call", "itemgetter", "methodcaller"})


def path_of(value: Any) -> str | None:
    """Returns the `module:name` of a public type or function; None if it has none in `MODULES`."""
    if isinstance(value, type):
        module, name = type.__dict__["__module__"].__get__(value), type.__dict__["__qualname__"].__get__(value)
    else:
        module, name = value.__module__, value.__qualname__
    if type(module) is not str or type(name) is not str:
        return None
    module = HOMES.get(module, module)
    if module == "builtins" and not hasattr(sys.modules["builtins"], name):
        module, name = "types", next((n for n, v in vars(types).items() if v is value), name)
    path = f"{module}:{name}"
    try:
        return path if _found(path, sys.modules.get(module)) is value else None
    except (AttributeError, ValueError):
        return None


def named(path: str) -> object:
    """Returns the type or function with this `module:name`.

    Raises:
        ValueError: The name may not be looked up.
        AttributeError: The module has no such name.
    """
    module, _, name = path.partition(":")
    if module not in MODULES:
        raise ValueError(f"no public name: {path}")
    found = _found(path, importlib.import_module(module))
    if isinstance(found, type) and name not in TYPES.get(module, "").split():
        base = {"builtins": BaseException, "numpy": getattr(sys.modules.get("numpy"), "generic", ())}.get(module, ())
        if not issubclass(found, base):
            raise ValueError(f"this type can't be looked up: {path}")
    return found


def _found(path: str, module: object) -> object:
    where, _, name = path.partition(":")
    if where not in MODULES or not name.isidentifier() or name.startswith("_"):
        raise ValueError(f"no public name: {path}")
    value = getattr(module, name)
    pure = isinstance(value, types.BuiltinFunctionType) and (
        name in _PURE.split()
        if where == "builtins"
        else where in ("math", "cmath", "operator") and name not in _CALLS_ITS_ARGUMENT
    )
    if not isinstance(value, type) and not pure and value is not Ellipsis and value is not NotImplemented:
        raise ValueError(f"no type: {path}")
    return value
