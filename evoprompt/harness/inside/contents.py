"""The content of what can be changed, containers and objects of the setup's classes: read, and filled again.

Standard library only. Everything is read and written by the base class, so that no method of a solution's runs.
"""

from __future__ import annotations

import enum
import functools
import io
import sys
import types
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from functools import cached_property
from typing import Any

from .encoding import bare

LEAVES = frozenset({int, str, float, bool, type(None), complex, bytes})
BASES: dict[str, Any] = {
    "OrderedDict": OrderedDict, "Counter": Counter, "defaultdict": defaultdict, "dict": dict,
    "list": list, "set": set, "deque": deque, "bytearray": bytearray,
    "StringIO": io.StringIO, "BytesIO": io.BytesIO,
}  # fmt: skip
"""Kinds of values whose content may change."""
KINDS = {base: kind for kind, base in BASES.items()}
FROZEN = (str, int, float, complex, bytes, tuple, frozenset)
DATA = (OrderedDict, Counter, defaultdict, dict, list, set, deque, bytearray, *FROZEN)
"""Types that a class may extend by methods of its own."""
_MAKING = frozenset({"__init__", "__new__", "__init_subclass__", "__class_getitem__"})
_OF_NAMED_TUPLES = frozenset({"_make", "_replace", "__replace__", "_asdict", "__repr__", "__getnewargs__"})
_METHODS = (types.FunctionType, property, classmethod, staticmethod, functools.cached_property)


class Malformed(Exception):
    """The other side does not keep to the protocol."""


def extended(kind: type) -> Any:
    """Returns the type of data that a class extends by methods of its own; None for a class that doesn't."""
    mro = type.__dict__["__mro__"].__get__(kind)
    base = next((base for base in DATA if base in mro), None)
    if base is None or enum.Enum in mro:
        return None
    made = _MAKING | (_OF_NAMED_TUPLES if any("_fields" in c.__dict__ for c in mro) else frozenset())
    own = ((name, value) for c in mro[: mro.index(base)] for name, value in c.__dict__.items())
    return base if any(isinstance(value, _METHODS) and name not in made for name, value in own) else None


def plain_of(base: Any, value: Any) -> Any:
    """Returns what an object of a class that extends a type of data holds, as data of that type."""
    if base in FROZEN:
        return bare(value, type(value))
    found = BASES[base.__name__]()
    refill(base.__name__, found, content_of(base.__name__, value)[2])
    return found


def is_plain(value: tuple[Any, ...], depth: int) -> bool:
    """True if a tuple holds leaves and such tuples only."""
    return all(type(v) in LEAVES or (type(v) is tuple and depth > 0 and is_plain(v, depth - 1)) for v in value)


def same(a: list[Any], b: Any) -> bool:
    """True if two contents are the same objects, or equal leaves."""
    if len(a) != len(b):
        return False
    return all(
        x is y or (type(x) is type(y) and type(x) in LEAVES and x == y and x == x) for x, y in zip(a, b, strict=True)
    )


def content_of(kind: str, value: Any) -> tuple[str, Any, list[Any]]:
    """Returns the kind of a container, its limit if it has one, and what it holds, read by the base class."""
    base = BASES[kind]
    if issubclass(base, dict):
        pairs = OrderedDict.items(value) if base is OrderedDict else dict.items(value)
        held = [part for pair in pairs for part in pair]
        return (kind, "", [value.default_factory, *held]) if base is defaultdict else (kind, "", held)
    if base is bytearray:
        return kind, "", [bytes(value)]
    if base in (io.StringIO, io.BytesIO):
        return kind, "", ["", 0, True] if value.closed else [value.getvalue(), value.tell(), False]
    return kind, value.maxlen if base is deque else "", list(base.__iter__(value))


def fields_of(value: Any) -> dict[str, Any]:
    """Returns what an object holds by name, in its dict and in slots."""
    found: dict[str, Any] = {}
    for kind in type(value).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if name.startswith("__") and not name.endswith("__"):
                name = f"_{kind.__name__.lstrip('_')}{name}"
            if name not in ("__dict__", "__weakref__") and hasattr(value, name):
                found[name] = getattr(value, name)
    return found | dict(getattr(value, "__dict__", {}))


def parts_of(value: Any, fields: bool) -> list[Any]:
    """Returns what a container holds, with `fields` also what an object holds by name."""
    base = next((b for b in (dict, list, tuple, set, frozenset, deque) if isinstance(value, b)), None)
    held: list[Any] = list(base.__iter__(value)) if base else []
    if base is dict:
        held += dict.values(value)
    return [*held, *fields_of(value).values()] if fields else held


def standard_class(module: str, name: str) -> Any:
    """Looks a name up in a module of the standard library that is loaded; None if there is none."""
    known = module.partition(".")[0] in sys.stdlib_module_names
    return getattr(sys.modules.get(module), name, None) if known else None


def shell(kind: Any, base: str) -> Any:
    """Makes an object of a class of the setup, without its fields; `base` is the container that the class extends."""
    if base:
        if not issubclass(kind, BASES[base]):
            raise Malformed("it is of another class")
        return BASES[base].__new__(kind)
    if kind.__new__ is not object.__new__ and issubclass(kind, (*FROZEN, BaseException, type, enum.Enum)):
        raise Malformed("it is of another kind")
    return object.__new__(kind)


def set_fields(value: Any, fields: dict[str, Any]) -> None:
    """Gives an object of the setup these fields and no others."""
    kind = type(value)
    for name in fields:
        if type(name) is not str:
            raise Malformed("a field has no name")
        own = next((c.__dict__[name] for c in kind.__mro__ if name in c.__dict__), None)
        computes = callable(own) or hasattr(type(own), "__get__")
        if (computes and not isinstance(own, types.MemberDescriptorType | cached_property)) or (
            name.startswith("__") and name.endswith("__")
        ):
            raise Malformed(f"the field {name!r} hides a method")
    inside = getattr(value, "__dict__", None)
    for name in fields_of(value).keys() - fields.keys():
        if inside is not None and name in inside:
            del inside[name]
        else:
            object.__delattr__(value, name)
    if inside is not None and not any("__slots__" in c.__dict__ for c in kind.__mro__[:-1]):
        inside.clear()
        inside.update(fields)
        return
    for name, field in fields.items():
        object.__setattr__(value, name, field)


def refill(kind: str, value: Any, held: list[Any]) -> None:
    """Gives a container this content and no other."""
    base = BASES[kind]
    if kind == "list":
        list.__setitem__(value, slice(None), held)
    elif kind == "bytearray":
        bytearray.__setitem__(value, slice(None), held[0])
    elif kind in ("StringIO", "BytesIO"):
        text, position, closed = held
        value.seek(0)
        value.truncate()
        value.write(text)
        value.seek(position)
        if closed:
            value.close()
    else:
        if kind == "defaultdict":
            factory = held[0]
            if factory is not None and not callable(factory):
                raise Malformed("it is no factory")
            value.default_factory = factory
            held = held[1:]
        base.clear(value)
        if issubclass(base, dict):
            insert: Callable[..., Any] = base.__setitem__
            for key, item in zip(held[::2], held[1::2], strict=True):
                insert(value, key, item)
        elif base is set:
            set.update(value, held)
        else:
            base.extend(value, held)


def structure_of(value: Any) -> tuple[str, Any, list[Any]] | None:
    """Describes a tuple of the system that has names for its items, such as a `time.struct_time`."""
    kind = type(value)
    where = kind.__dict__.get("__module__"), kind.__name__
    if "n_sequence_fields" not in kind.__dict__ or structure_class(*where) is not kind:
        return None
    return "structure", where, list(kind.__reduce__(value)[1])


def structure_class(module: Any, name: Any) -> Any:
    """Returns the class of such tuples with this name; None where there is none that can be made."""
    kind = standard_class({"posix": "os"}.get(module, module), name) if isinstance(module, str) else None
    made = (
        isinstance(kind, type) and issubclass(kind, tuple) and {"n_sequence_fields", "__new__"} <= kind.__dict__.keys()
    )
    return kind if made else None


def named_of(kind: type) -> Any:
    """Returns name and fields of a class of named tuples; an empty string for another class."""
    fields = next((c.__dict__["_fields"] for c in kind.__mro__ if "_fields" in c.__dict__), None)
    if type(fields) is tuple and fields and all(type(f) is str for f in fields):
        return str(type.__dict__["__name__"].__get__(kind)), fields
    return ""
