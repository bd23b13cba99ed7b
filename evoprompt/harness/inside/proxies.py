"""Proxies: objects that pass every operation on to an object in another process. Standard library only."""

from __future__ import annotations

import copy
import math
import operator
import os
from collections.abc import Callable
from typing import Any

_UNARY: dict[str, Callable[..., Any]] = {
    "len": len, "bool": bool, "str": str, "repr": repr, "iter": iter, "hash": hash, "abs": abs, "int": int,
    "float": float, "complex": complex, "index": operator.index, "neg": operator.neg, "pos": operator.pos,
    "invert": operator.invert, "reversed": reversed, "trunc": math.trunc, "floor": math.floor, "ceil": math.ceil,
    "bytes": bytes, "fspath": os.fspath,
}  # fmt: skip
_ARITHMETIC_NAMES = "add sub mul truediv floordiv mod pow matmul lshift rshift and or xor"
_ARITHMETIC = _ARITHMETIC_NAMES.split()
_COMPARED = ("eq", "ne", "lt", "le", "gt", "ge", "contains")
_BINARY: dict[str, Callable[..., Any]] = {
    **{n: getattr(operator, f"__{n}__") for n in (*_ARITHMETIC, *(f"i{n}" for n in _ARITHMETIC), *_COMPARED)},
    "divmod": divmod,
}
_BINARY |= {f"r{n}": (lambda f: lambda a, b: f(b, a))(_BINARY[n]) for n in (*_ARITHMETIC, "divmod")}
_ITEMS: dict[str, Callable[..., Any]] = {
    "getitem": operator.getitem, "setitem": operator.setitem, "delitem": operator.delitem, "format": format,
    "round": round, "isinstance": isinstance, "issubclass": issubclass,
    "enter": lambda value: type(value).__enter__(value),
    "exit": lambda value, error: type(value).__exit__(value, type(error) if error else None, error, None),
}  # fmt: skip
OPERATIONS: dict[str, Callable[..., Any]] = {
    **_UNARY, **_BINARY, **_ITEMS, "copy": copy.copy, "deepcopy": copy.deepcopy
}  # fmt: skip
_METHODS = [f"__{name}__" for name in (*_UNARY, *_BINARY, *_ITEMS, "next", "call", "await")]
_ALWAYS = frozenset({"__str__", "__repr__", "__format__", "__isinstance__", "__issubclass__"})
_BY_DEFAULT = {
    name: getattr(object, name) for name in ("__eq__", "__ne__", "__hash__", "__lt__", "__le__", "__gt__", "__ge__")
}


def bits(*names: str) -> int:
    """Returns special methods, given by their names without underscores, as bits."""
    return sum(1 << _METHODS.index(f"__{name}__") for name in names)


def methods_of(kind: type) -> int:
    """Returns which special methods a class has, as bits."""
    found, mro = 0, type.__dict__["__mro__"].__get__(kind)
    for position, name in enumerate(_METHODS):
        own = next((c.__dict__[name] for c in mro if name in c.__dict__), None)
        if own is not None and own is not _BY_DEFAULT.get(name):
            found |= 1 << position
    return found


class ProxyType(type):
    """The metaclass of proxies, by which they are known: `proxy.__class__` is that of the object."""


_SLOTS = ("_peer", "_number", "_name", "_kind", "_made", "_guarded", "_base")
OTHERS, ONCE, MADE = 0, 1, 2
"""How a test got an object: from the solution; from it, but the test made it before; by making it and no other way."""
_GET: dict[str, Any] = {}


def is_proxy(value: Any) -> bool:
    """True for a proxy, whatever class it claims."""
    return isinstance(type(value), ProxyType)


def inside(proxy: Any, name: str) -> Any:
    """Returns what a proxy itself has in one of its slots."""
    return _GET[name].__get__(proxy)


def fill(
    proxy: Any, peer: Any, number: int | str, name: str, kind: type | None, guarded: int = 0, base: type | None = None
) -> Any:
    """Fills the slots of a new proxy, and returns it."""
    for slot, value in zip(_SLOTS, (peer, number, name, kind, OTHERS, guarded, base), strict=True):
        put(proxy, slot, value)
    return proxy


def put(proxy: Any, name: str, value: Any) -> None:
    """Sets one of a proxy's own slots."""
    _GET[name].__set__(proxy, value)


class Proxy(metaclass=ProxyType):
    """An object of the other side.

    Its slots: the side that it belongs to and its number there, the name that it is shown by, and a class that both
    sides have. `_made` is how the test got it; `_guarded` is set for a method of an object that the test did not make;
    `_base` is the type of data that its class extends.
    """

    __slots__ = _SLOTS

    def __getattribute__(self, name: str) -> Any:
        if name == "__class__":
            return inside(self, "_kind") or inside(self, "_base") or type(self)
        if name == "__deepcopy__":  # looked up in the object, not in its class
            return lambda memo: _copied(self, "deepcopy")
        return inside(self, "_peer").got(self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        inside(self, "_peer").request(("set", name), [self, value])

    def __delattr__(self, name: str) -> None:
        inside(self, "_peer").request(("del", name), [self])

    def __repr__(self) -> str:
        return str(_operation(self, "repr"))

    def __str__(self) -> str:
        return str(_operation(self, "str"))

    def __format__(self, spec: str) -> str:
        return str(_operation(self, "format", spec))

    def __instancecheck__(self, value: Any) -> bool:
        if isinstance(value, tuple) and inside(self, "_number") == type(value).__name__ and hasattr(value, "_fields"):
            return True
        return is_proxy(value) and bool(_operation(value, "isinstance", self))

    def __subclasscheck__(self, value: Any) -> bool:
        return is_proxy(value) and bool(_operation(value, "issubclass", self))

    def __copy__(self) -> Any:
        return _copied(self, "copy")

    def __dir__(self) -> Any:
        return self.__class__.__dict__

    def __hash__(self) -> int:
        return object.__hash__(self)

    def __eq__(self, other: object) -> Any:
        return _equal(self, other)

    def __ne__(self, other: object) -> Any:
        found = _equal(self, other)
        return found if found is NotImplemented else not found


_GET.update({name: Proxy.__dict__[name] for name in _SLOTS})


def _equal(self: Any, other: object) -> Any:
    if self is other:
        return True
    if inside(self, "_base") and not is_proxy(other):
        return content(self) == other
    if not inside(self, "_peer").equality(self, other):
        return NotImplemented
    return _operation(self, "eq", other)


def _copied(self: Any, name: str) -> Any:
    found = _operation(self, name)
    if found is not self and is_proxy(found):
        put(found, "_made", inside(self, "_made"))
    return found


def content(value: Any) -> Any:
    """Returns a value; for an object of a class that extends a type of data, what it holds as such."""
    if not is_proxy(value) or not (base := inside(value, "_base")):
        return value
    found = inside(value, "_peer").request(("content", ""), [value])
    if type(found) is not base:
        raise TypeError(f"it is no {base.__name__}")
    return found


def _operation(self: Any, name: str, *operands: Any) -> Any:
    return inside(self, "_peer").request(("operation", name), [self, *operands])


def _next(self: Any) -> Any:
    return inside(self, "_peer").request(("next", ""), [self])  # one at a time: what it does meanwhile may be seen


def _call(self: Any, /, *values: Any, **named: Any) -> Any:
    return inside(self, "_peer").called(self, values, named)


def _await(self: Any) -> Any:
    return (yield from inside(self, "_peer").coroutine(self).__await__())


def _exit(self: Any, kind: Any, error: Any, trace: Any) -> Any:
    return _operation(self, "exit", error)


def _disclosing(name: str) -> Callable[..., Any]:
    def method(self: Any, other: Any) -> Any:
        if not inside(self, "_peer").may_have(self, (other,)):
            if name == "contains":
                raise TypeError("argument of type 'object' is not iterable")
            return NotImplemented
        return _operation(self, name, other)

    return method


def _plainly(name: str) -> Callable[..., Any]:
    return lambda self, *operands: _operation(self, name, *operands)


_CLASSES: dict[int, type] = {}


def proxy_class(methods: int) -> Any:
    """Returns the class of proxies that have these special methods and no others."""
    if methods not in _CLASSES:
        special = {"__next__": _next, "__call__": _call, "__await__": _await, "__exit__": _exit}
        body: dict[str, Any] = {"__slots__": ()}
        for position, name in enumerate(_METHODS):
            if not methods >> position & 1 or name in _ALWAYS or name in ("__eq__", "__ne__"):
                continue
            plain = name[2:-2]
            body[name] = special.get(name) or (_disclosing(plain) if plain in _BINARY else _plainly(plain))
        _CLASSES[methods] = ProxyType("Proxy", (Proxy,), body)
    return _CLASSES[methods]
