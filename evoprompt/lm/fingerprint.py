"""Fingerprints the code and state of a program or metric, with everything of the user's own that they refer to.

Each function, class, global and attribute is a part with a name, so that an error message can name a difference.
Libraries count by name alone. Docstrings count for nothing, nor do counters and caches that the code itself changes.
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

from evoprompt.lm.bytecode import ALL, Uses, told, uses
from evoprompt.lm.owncode import content, functions, imported, own

_ENTRIES = {"forward", "aforward", "__call__", "acall"}
_APART = {"history", "callbacks", "_compiled", "stage", "traces", "train", "detailed_results"}
"""Attributes of DSPy's modules that do not influence an answer."""
_SHOWN_BY_STATE = types.SimpleNamespace | string.Template
"""Library classes whose content is their attributes, and does not show in their repr."""
_PLAIN = (bool, int, float, str, bytes, list, tuple, set, frozenset, Mapping, re.Pattern)
_LONG = 500
"""Characters of the longest value that is shown within another one; longer ones are hashed."""
_DEEPEST = 20
_PASSES = 3
"""Walks at most: each learns from the one before which names the reached code changes."""

Described = Callable[[Any], Any]


def fingerprint(roots: Mapping[str, Any], described: Described, apart: Collection[Any] = ()) -> dict[str, Any]:
    """Return the parts of objects by name, each a small value or a hash; empty if all comes from libraries.

    Args:
        roots: Functions, classes, programs or other objects by name.
        described: Returns a model as plain data.
        apart: Predictors whose state is part of the identity already.
    """
    before = Uses()
    for _ in range(_PASSES):
        walk = _Walk(described, apart, before)
        for name, root in roots.items():
            walk.root(name, root)
        walk.finish()
        if walk.uses == before:
            break
        before = walk.uses
    found = {name: told[0] if len(told) == 1 else digest(told) for name, told in sorted(walk.parts.items())}
    return found | ({"python": ".".join(map(str, sys.version_info[:2]))} if found else {})


def digest(value: Any) -> str:
    """Return a short hash of plain data."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:12]


class _Walk:
    def __init__(self, described: Described, apart: Collection[Any], before: Uses) -> None:
        self._described, self.before, self.uses = described, before, Uses()
        self._apart = {id(one) for one in apart}
        self.parts: dict[str, list[Any]] = {}
        self._seen: dict[int, Any] = {}  # with the objects, so that no other gets their id
        self._values: dict[int, Any] = {}
        self._modules: set[tuple[types.ModuleType, frozenset[str]]] = set()
        self._waiting: deque[Callable[[], None]] = deque()  # code that is reached: calls may be nested deeply

    def root(self, name: str, value: Any) -> None:
        """Add a root and its attributes."""
        if isinstance(value, dspy.Module) and not isinstance(value, dspy.Predict):
            self._class(type(value))
            if type(value).__module__.partition(".")[0] != "evoprompt":  # they tell of themselves
                self._seen[id(value)], self._values[id(value)] = value, ["see", type(value).__qualname__]
                for key, attribute in self._attributes(value, "self", 0).items():
                    self._show(f"self.{key}", attribute)
        else:
            found = self._value(value, name, 0)
            if not _elsewhere(found):
                self._show(name, found)

    def finish(self) -> None:
        """Add all code that the parts refer to."""
        while self._waiting:
            self._waiting.popleft()()

    def _tell(self, name: str, value: Any) -> None:
        """Add a part. Texts are hashed: they may be secret."""
        if value is not None:
            shown = value if isinstance(value, bool | int | float) else digest(value)
            self.parts.setdefault(name, []).append(shown)

    def _show(self, name: str, value: Any) -> None:
        """Add a value, and the attributes of an object each as a part."""
        if isinstance(value, list) and value[:1] == ["object"] and len(value) == 3:  # no bare `object()`
            self._tell(name, value[1])
            for key, attribute in value[2].items():
                self._show(f"{name}.{key}", attribute)
        elif not _elsewhere(value) or (value[1] and name.rpartition(".")[2] not in (value[1], value[1].split(".")[-1])):
            self._tell(name, value)

    def _function(self, function: types.FunctionType, depth: int, *, reached: bool = True) -> None:
        if id(function) in self._seen:
            return
        self._seen[id(function)] = function
        name = function.__qualname__.replace("<locals>.", "")
        self._tell(name, told(function.__code__))
        found = uses(function.__code__)
        if reached:
            self.uses.changes |= found.changes
        self.uses.attributes |= found.attributes
        defaults = {"defaults": function.__defaults__, **(function.__kwdefaults__ or {})}
        for key, value in defaults.items():
            if value:
                self._tell(f"{name}({key})", self._value(value, f"{name}({key})", depth + 1))
        for key, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=False):
            if key not in self.before.changes and key != "__class__":
                self._named(key, content(cell), depth + 1)
        for name_read in found.reads:
            self._read(function.__globals__, name_read, found, depth + 1)
        package = function.__globals__.get("__package__") or function.__module__.rpartition(".")[0]
        for level, module_name, members in found.imports:
            module = imported(level, module_name, package, members)
            if module is None:
                self._tell(module_name, "cannot be imported")
            elif own(module.__name__):
                self._members(module, {ALL} if members == (ALL,) else found.attributes, depth + 1)
        for key, value in self._attributes(function, name, depth).items():
            if key != "__wrapped__":
                self._show(f"{name}.{key}", value)

    def _read(self, scope: Mapping[str, Any], name: str, found: Uses, depth: int) -> None:
        value = scope.get(name)
        if name == ALL:
            self._all(scope, depth)
        elif isinstance(value, types.ModuleType) and own(value.__name__):
            self._members(value, {ALL} if name in found.computed else found.attributes, depth)
        elif name in scope and name not in self.before.changes:
            self._named(name, value, depth)

    def _members(self, module: types.ModuleType, wanted: set[str], depth: int) -> None:
        """Add the members of a module that code names; all of them if it names none, as with a computed name."""
        if (module, frozenset(wanted)) in self._modules:
            return
        self._modules.add((module, frozenset(wanted)))
        scope = vars(module)
        names = sorted(n for n in wanted & scope.keys() if n[:2] != "__")
        if not names or "__getattr__" in scope:
            self._all(scope, depth)
        for name in names:
            self._read(scope, name, Uses(attributes=wanted), depth)

    def _all(self, scope: Mapping[str, Any], depth: int) -> None:
        """Add the functions, classes and plain data of a module."""
        if id(scope) in self._seen:
            return
        self._seen[id(scope)] = scope
        for name, value in sorted(scope.items()):
            plain = name[:1] != "_" and isinstance(value, _PLAIN)
            code = (name == "__getattr__" or name[:2] != "__") and (callable(value) or own(type(value).__module__))
            if name not in self.before.changes and (plain or code):
                self._named(name, value, depth)

    def _named(self, name: str, value: Any, depth: int) -> None:
        self._show(name, self._value(value, name, depth))

    def _class(self, kind: type, depth: int = 0) -> None:
        if id(kind) in self._seen or not own(kind.__module__):
            return
        self._seen[id(kind)] = kind
        self._tell(f"{kind.__qualname__}(bases)", [base.__qualname__ for base in kind.__bases__])
        for base in (type(kind), *kind.__mro__[1:]):
            self._class(base, depth + 1)
        members = kind.__members__ if issubclass(kind, enum.Enum) else {}
        for name, one in members.items():
            self._named(f"{kind.__qualname__}.{name}", one.value, depth + 1)
        for name, value in sorted(vars(kind).items()):
            if not isinstance(value, type):
                self._class(type(value), depth + 1)  # a descriptor's
            for function in functions(value):
                reached = name in _ENTRIES or name in self.before.attributes
                self._function(function, depth + 1, reached=reached)
                if reached and name not in ("__init__", "__new__"):
                    self.uses.changes_own |= uses(function.__code__).changes_own
            if name == "__annotations__":
                self._tell(f"{kind.__qualname__}(fields)", {k: str(v) for k, v in value.items()} or None)
            hidden = name.startswith("__") or name.startswith("_abc") or name in self.before.changes_own
            hidden = hidden or f"{kind.__name__}.{name}" in self.before.changes
            hidden = hidden or (issubclass(kind, enum.Enum) and (name in members or name.strip("_") != name))
            if not hidden and not functions(value) and not isinstance(value, types.MemberDescriptorType):
                self._named(f"{kind.__qualname__}.{name}", value, depth + 1)

    def _attributes(self, value: Any, name: str, depth: int) -> dict[str, Any]:
        """Return an object's attributes, without those that the code itself changes."""
        state = inspect.getattr_static(value, "__dict__", None)
        found = dict(value.__dict__) if state is not None else {}  # never what a `__getattr__` of one's own makes up
        kinds = [vars(kind) for kind in type(value).__mro__ if kind.__module__ != "builtins"]
        for members in kinds:
            for key, one in members.items():
                if isinstance(one, types.MemberDescriptorType) and key not in ("__dict__", "__weakref__"):
                    with suppress(AttributeError):  # not set
                        found[key] = one.__get__(value)
                elif isinstance(one, functools.cached_property):
                    found.pop(key, None)
        last = name.rpartition(".")[2]
        return {
            key: self._value(attribute, f"{name}.{key}", depth + 1)
            for key, attribute in sorted(found.items())
            if key not in _APART | self.before.changes_own
            and not key.startswith("_evoprompt")
            and (key == "__wrapped__" or not (key.startswith("__") and key.endswith("__")))
            and not {f"{last}.{key}", f"{type(value).__name__}.{key}"} & self.before.changes
        }

    def _value(self, value: Any, name: str, depth: int) -> Any:
        """Return a value as plain data; `["see", name]` for what is a part of its own."""
        if isinstance(value, enum.Enum):
            self._class(type(value), depth)
            return ["enum", type(value).__qualname__, value.name]
        if value is None or type(value) in (bool, int, float, str):
            return value if not isinstance(value, float) or math.isfinite(value) else repr(value)
        if isinstance(value, types.FunctionType | type | types.ModuleType):
            return self._code(value, depth)
        if id(value) not in self._values:
            self._seen[id(value)], self._values[id(value)] = value, ["see", type(value).__qualname__]
            self._values[id(value)] = self._told(value, name, depth)
        return self._values[id(value)]

    def _within(self, value: Any, name: str, depth: int) -> Any:
        found = self._value(value, name, depth + 1)
        return digest(found) if isinstance(found, list) and len(repr(found)) > _LONG else found

    def _told(self, value: Any, name: str, depth: int) -> Any:
        kind = type(value)
        if depth > _DEEPEST:
            return ["see", kind.__qualname__]
        if functions(value) or isinstance(value, types.MethodType | functools.partial | functools.partialmethod):
            return self._bound(value, name, depth)
        if isinstance(value, dspy.BaseLM):
            self._class(kind, depth)
            return ["model", self._described(value)]
        if isinstance(value, dspy.Predict):
            self._class(kind, depth)
            if id(value) in self._apart:
                return self._types(value.signature, depth) or ["see", ""]
            state = {k: v for k, v in vars(value).items() if k not in _APART and k != "lm" and k[:10] != "_evoprompt"}
            return [kind.__qualname__, self._data(state, name, depth + 1), self._described(value.lm)]
        if own(kind.__module__) and not isinstance(value, dspy.Example | BaseModel):
            self._class(kind, depth)
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
            items = sorted(value.items(), key=lambda i: i[0]) if all(type(k) is str for k in value) else value.items()
            pairs = [[self._within(k, name, depth), self._within(v, f"{name}.{k}", depth)] for k, v in items]
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
            self._class(kind, depth)
            value = dict(value.items())
        elif isinstance(value, BaseModel):
            self._class(kind, depth)
            value = {key: getattr(value, key) for key in type(value).model_fields}
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
            return ["signature", state.dump_state(), self._types(state, depth)]
        module = value.__name__ if isinstance(value, types.ModuleType) else value.__module__
        if not own(module):
            return ["see", getattr(value, "__qualname__", module), (module or "").partition(".")[0]]
        if isinstance(value, types.FunctionType):
            self._waiting.append(lambda: self._function(value, 0))
            return ["see", value.__qualname__.replace("<locals>.", ""), digest(told(value.__code__))]
        if isinstance(value, type):
            self._waiting.append(lambda: self._class(value))
            return ["see", value.__qualname__]
        self._waiting.append(lambda: self._all(vars(value), 0))
        return ["see", value.__name__]

    def _types(self, signature: type[dspy.Signature], depth: int) -> dict[str, str]:
        """Return the types of a signature's fields that are no text, and add their classes."""
        found = {name: one.annotation for name, one in signature.model_fields.items() if one.annotation is not str}
        waiting = list(found.values())
        while waiting:
            one = waiting.pop()
            waiting += getattr(one, "__args__", ())
            if isinstance(one, type):
                self._class(one, depth + 1)
        return {name: str(one) for name, one in found.items()}

    def _bound(self, value: Any, name: str, depth: int) -> Any:
        """Return wrapped functions with the values that are bound to them."""
        if isinstance(value, types.MethodType):
            return ["method", self._within(value.__func__, name, depth), self._within(value.__self__, name, depth)]
        if isinstance(value, functools.partial | functools.partialmethod):
            parts = (value.func, value.args, value.keywords)
            return ["partial", *(self._within(part, name, depth) for part in parts)]
        return ["wrapped", type(value).__qualname__, *(self._within(one, name, depth) for one in functions(value))]


def _elsewhere(value: Any) -> bool:
    """Return True for what is a part of its own, or a library's."""
    return isinstance(value, list) and value[:1] == ["see"]


def _order(value: Any) -> str:
    return getattr(value, "__qualname__", None) or repr(value)
