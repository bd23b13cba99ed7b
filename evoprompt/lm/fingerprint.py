"""Fingerprints the user's own code and state: functions, classes, and the data that they read, each a named part.

A function counts by its bytecode, without docstring and lines; a value by its content. Names are followed through
globals, closures, imports and class members; libraries count by name alone. Not followed is a name that code computes,
other than from one text, as in `getattr(x, "name")`. Not counted is what the code itself changes: a counter, a cache.
"""

from __future__ import annotations

import enum
import functools
import hashlib
import inspect
import json
import math
import re
import string
import sys
import types
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from typing import Any

import dspy
from pydantic import BaseModel

from evoprompt.lm.owncode import changes, functions, imported, names_in, own, told

_ENTRIES = {"forward", "aforward", "__call__", "acall"}
_APART = {"history", "callbacks", "_compiled", "stage", "traces", "train", "detailed_results"}
"""Attributes of DSPy's modules that do not influence an answer."""
_SHOWN_BY_STATE = types.SimpleNamespace | string.Template
"""Library classes whose content is their attributes, and does not show in their repr."""
_LONG = 500
"""Characters of the longest value that is shown within another one; longer ones are hashed."""
_DEEPEST = 20
_PASSES = 3
"""The first walk learns which methods are called by name, the second what they change; the last leaves that out."""

Described = Callable[[Any], Any]


def fingerprint(roots: Mapping[str, Any], described: Described, apart: Collection[Any] = ()) -> dict[str, Any]:
    """Return the parts of objects by name, each a small value or a hash; empty if all comes from libraries.

    Args:
        roots: Functions, classes, programs or other objects by name.
        described: Returns a model as plain data.
        apart: Predictors whose state is part of the identity already.
    """
    called, changed = set[str](), set[str]()
    for _ in range(_PASSES):
        walk = _Walk(described, apart, called, changed)
        for name, root in roots.items():
            walk.root(name, root)
        walk.finish()
        called, changed = walk.names, walk.changes
    found = {name: one[0] if len(one) == 1 else digest(one) for name, one in sorted(walk.parts.items())}
    return found | ({"python": ".".join(map(str, sys.version_info[:2]))} if found else {})


def digest(value: Any) -> str:
    """Return a short hash of plain data."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:12]


class _Walk:
    def __init__(self, described: Described, apart: Collection[Any], called: set[str], changed: set[str]) -> None:
        self._described, self._called, self._changed = described, called, changed
        self._apart = {id(one) for one in apart}
        self.names, self.changes = set[str](), set[str]()
        self.parts: dict[str, list[Any]] = {}
        self._seen: dict[int, Any] = {}  # with the objects, so that no other gets their id
        self._values: dict[int, Any] = {}
        self._waiting: deque[Callable[[], None]] = deque()  # code that is reached: calls may be nested deeply

    def root(self, name: str, value: Any) -> None:
        """Add a root and its attributes."""
        if isinstance(value, dspy.Module) and not isinstance(value, dspy.Predict):
            self._class(type(value))
            if type(value).__module__.partition(".")[0] != "evoprompt":  # they tell of themselves
                self._seen[id(value)], self._values[id(value)] = value, ["see", type(value).__qualname__]
                for key, attribute in self._attributes(value, "self", 0).items():
                    self._show(f"self.{key}", attribute)
        elif not _elsewhere(found := self._value(value, name, 0)):
            self._show(name, found)

    def finish(self) -> None:
        """Add all code that the parts refer to."""
        while self._waiting:
            self._waiting.popleft()()

    def _tell(self, name: str, value: Any) -> None:
        """Add a part. Texts are hashed: they may be secret."""
        if value is not None:
            shown = value if isinstance(value, bool | int | float) else digest(value)
            known = self.parts.setdefault(name, [])
            known += [shown] if shown not in known else []

    def _show(self, name: str, value: Any) -> None:
        """Add a value, and the attributes of an object each as a part."""
        if isinstance(value, list) and value[:1] == ["object"] and len(value) == 3:  # no bare `object()`
            self._tell(name, value[1])
            for key, attribute in value[2].items():
                self._show(f"{name}.{key}", attribute)
        elif not _elsewhere(value) or (value[1] and name.rpartition(".")[2] not in (value[1], value[1].split(".")[-1])):
            self._tell(name, value)

    def _named(self, name: str, value: Any, depth: int = 0) -> None:
        if name not in self._changed:
            self._show(name, self._value(value, name, depth))

    def _function(self, function: types.FunctionType, *, called: bool = True, method: bool = False) -> None:
        if id(function) in self._seen:
            return
        self._seen[id(function)] = function
        name, code = function.__qualname__.replace("<locals>.", ""), function.__code__
        self._tell(name, told(code))
        if called:
            self.changes |= changes(code, method)
        defaults = {"defaults": function.__defaults__, **(function.__kwdefaults__ or {})}
        for key, value in defaults.items():
            if value:
                self._tell(f"{name}({key})", self._value(value, f"{name}({key})", 1))
        for key, cell in zip(code.co_freevars, function.__closure__ or (), strict=False):
            with suppress(ValueError):  # not there yet
                if key != "__class__":
                    self._named(key, cell.cell_contents)
        names = names_in(code)
        self.names |= names
        self._members(function.__globals__, names)
        package = function.__globals__.get("__package__") or function.__module__.rpartition(".")[0]
        for module in imported(code, package):
            self._members(vars(module), names)
        for key, value in self._attributes(function, name, 0).items():
            if key != "__wrapped__":
                self._show(f"{name}.{key}", value)

    def _members(self, scope: Mapping[str, Any], names: set[str]) -> None:
        """Add the members of a module that code names, and of modules among them."""
        for name in sorted(names & scope.keys()):
            value = scope[name]
            if isinstance(value, types.ModuleType) and own(value.__name__):
                self._members(vars(value), names - {name})
            elif name[:2] != "__" or callable(value):
                self._named(name, value)

    def _class(self, kind: type) -> None:
        if id(kind) in self._seen or not own(kind.__module__):
            return
        self._seen[id(kind)] = kind
        self._tell(f"{kind.__qualname__}(bases)", [base.__qualname__ for base in kind.__bases__])
        for base in (type(kind), *kind.__mro__[1:]):
            self._class(base)
        members = kind.__members__ if issubclass(kind, enum.Enum) else {}
        for name, one in members.items():
            self._named(f"{kind.__qualname__}.{name}", one.value)
        for name, value in sorted(vars(kind).items()):
            if not isinstance(value, type):
                self._class(type(value))  # a descriptor's
            for function in functions(value):
                self._function(function, called=name in _ENTRIES | self._called, method=True)
            if name == "__annotations__":
                self._tell(f"{kind.__qualname__}(fields)", {k: str(v) for k, v in value.items()} or None)
            hidden = name.startswith(("__", "_abc")) or bool(
                {f"self.{name}", f"{kind.__name__}.{name}"} & self._changed
            )
            hidden = hidden or (issubclass(kind, enum.Enum) and (name in members or name.strip("_") != name))
            if not hidden and not functions(value) and not isinstance(value, types.MemberDescriptorType):
                self._named(f"{kind.__qualname__}.{name}", value)

    def _attributes(self, value: Any, name: str, depth: int) -> dict[str, Any]:
        """Return an object's attributes, without those that the code itself changes."""
        state = inspect.getattr_static(value, "__dict__", None)
        found = dict(value.__dict__) if state is not None else {}  # never what a `__getattr__` of one's own makes up
        kinds = [vars(kind) for kind in type(value).__mro__ if kind.__module__ != "builtins"]
        for key, one in (item for members in kinds for item in members.items()):
            if isinstance(one, types.MemberDescriptorType) and key not in ("__dict__", "__weakref__"):
                with suppress(AttributeError):  # not set
                    found[key] = one.__get__(value)
            elif isinstance(one, functools.cached_property):
                found.pop(key, None)
        holders = ("self", name.rpartition(".")[2], type(value).__name__)
        return {
            key: self._value(attribute, f"{name}.{key}", depth + 1)
            for key, attribute in sorted(found.items())
            if key not in _APART
            and not key.startswith("_evoprompt")
            and (key == "__wrapped__" or not (key.startswith("__") and key.endswith("__")))
            and not {f"{holder}.{key}" for holder in holders} & self._changed
        }

    def _value(self, value: Any, name: str, depth: int) -> Any:
        """Return a value as plain data; `["see", name]` for what is a part of its own."""
        if isinstance(value, enum.Enum):
            self._class(type(value))
            return ["enum", type(value).__qualname__, value.name]
        if value is None or type(value) in (bool, int, float, str):
            return value if not isinstance(value, float) or math.isfinite(value) else repr(value)
        if isinstance(value, types.FunctionType | type | types.ModuleType):
            return self._code(value, depth)
        if id(value) not in self._values:
            self._seen[id(value)], self._values[id(value)] = value, ["see", type(value).__qualname__]
            self._values[id(value)] = self._content(value, name, depth)
        return self._values[id(value)]

    def _within(self, value: Any, name: str, depth: int) -> Any:
        found = self._value(value, name, depth + 1)
        return digest(found) if isinstance(found, list) and len(repr(found)) > _LONG else found

    def _content(self, value: Any, name: str, depth: int) -> Any:
        kind = type(value)
        if depth > _DEEPEST:
            return ["see", kind.__qualname__]
        if (inner := functions(value)) or isinstance(
            value, types.MethodType | functools.partial | functools.partialmethod
        ):
            parts: Collection[Any] = inner
            if isinstance(value, types.MethodType):
                parts = (value.__func__, value.__self__)
            elif isinstance(value, functools.partial | functools.partialmethod):
                parts = (value.func, value.args, value.keywords)
            return ["bound", kind.__qualname__, *(self._within(part, name, depth) for part in parts)]
        self._class(kind)
        if isinstance(value, dspy.BaseLM):
            return ["model", self._described(value)]
        if isinstance(value, dspy.Predict):
            if id(value) in self._apart:
                return self._types(value.signature) or ["see", ""]
            state = {k: v for k, v in vars(value).items() if k not in _APART and k != "lm" and k[:10] != "_evoprompt"}
            return [kind.__qualname__, self._data(state, name, depth + 1), self._described(value.lm)]
        if own(kind.__module__) and not isinstance(value, dspy.Example | BaseModel):
            attributes = self._attributes(value, name, depth)
            if plain := self._plain(value, name, depth):
                attributes["()"] = plain
            return ["object", kind.__qualname__, attributes]
        return self._data(value, name, depth)

    def _plain(self, value: Any, name: str, depth: int) -> Any:
        """Return the content of a container or plain value; None for another object."""
        if isinstance(value, bool | int | float | str | bytes):
            return repr(value) if type(value).__module__ == "builtins" else str(value)
        if isinstance(value, Mapping):
            pairs = [[self._within(k, name, depth), self._within(v, f"{name}.{k}", depth)] for k, v in value.items()]
            made = self._within(value.default_factory, name, depth) if isinstance(value, defaultdict) else None
            return [sorted(pairs, key=repr), made]
        if isinstance(value, list | tuple | deque):
            return [self._within(v, name, depth) for v in value]
        if isinstance(value, set | frozenset):
            return sorted((self._within(v, name, depth) for v in sorted(value, key=_order)), key=repr)
        return None

    def _data(self, value: Any, name: str, depth: int) -> Any:
        kind = type(value)
        if isinstance(value, dspy.Example):
            value = dict(value.items())
        elif isinstance(value, BaseModel):
            value = {key: getattr(value, key) for key in kind.model_fields}
        plain = self._plain(value, name, depth)
        if plain is not None:
            return [kind.__qualname__, plain]
        if isinstance(value, re.Pattern):  # its repr is cut
            return [kind.__qualname__, str(value.pattern), value.flags]
        if callable(told_of := getattr(value, "describe", None)):
            return [kind.__qualname__, told_of()]
        if callable(getattr(value, "tobytes", None)):
            return [kind.__qualname__, value.tobytes().hex()]
        if isinstance(value, _SHOWN_BY_STATE) or kind.__module__.partition(".")[0] == "dspy":
            return ["object", kind.__qualname__, self._attributes(value, name, depth)]
        try:
            shown = repr(value)
        except Exception:
            shown = ""
        placed = re.search(r" at 0x[0-9a-fA-F]+", shown) or f"{id(value):x}" in shown.lower()
        return [kind.__qualname__, "" if placed else shown]

    def _code(self, value: Any, depth: int) -> Any:
        if isinstance(value, type) and issubclass(value, dspy.Signature):
            state: Any = value
            return ["signature", state.dump_state(), self._types(state)]
        module = value.__name__ if isinstance(value, types.ModuleType) else value.__module__
        if not own(module):
            return ["see", getattr(value, "__qualname__", module), (module or "").partition(".")[0]]
        if isinstance(value, types.FunctionType):
            self._waiting.append(lambda: self._function(value))
            return ["see", value.__qualname__.replace("<locals>.", ""), digest(told(value.__code__))]
        if isinstance(value, type):
            self._waiting.append(lambda: self._class(value))
        return ["see", getattr(value, "__qualname__", module)]

    def _types(self, signature: type[dspy.Signature]) -> dict[str, str]:
        """Return the types of a signature's fields that are no text, and add their classes."""
        found = {name: one.annotation for name, one in signature.model_fields.items() if one.annotation is not str}
        waiting = list(found.values())
        while waiting:
            one = waiting.pop()
            waiting += getattr(one, "__args__", ())
            if isinstance(one, type):
                self._class(one)
        return {name: str(one) for name, one in found.items()}


def _elsewhere(value: Any) -> bool:
    """Return True for what is a part of its own, or a library's."""
    return isinstance(value, list) and value[:1] == ["see"]


def _order(value: Any) -> str:
    return getattr(value, "__qualname__", None) or repr(value)
