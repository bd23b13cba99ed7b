"""All that decides about what a program or a metric does: its code, its plain state, and what both refer to.

One line for each function, class, global and attribute, so that a difference has a name. The libraries that are used
count by name alone, and so does what the code itself changes while it runs, as a count or a cache.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
import re
import sys
import types
from collections import deque
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import dspy
from pydantic import BaseModel

from evoprompt.lm.bytecode import Uses, told, uses

_LIBRARIES = {*sys.stdlib_module_names, "dspy", "evoprompt", "signatures"} - {"__main__"}
_ENTRIES = {"forward", "aforward", "__call__", "acall"}
_APART = {"history", "callbacks", "_compiled", "stage", "traces", "train", "detailed_results"}
"""Attributes of DSPy's modules that decide about nothing."""
_DEEPEST = 20
_PASSES = 3
"""Walks until it is known which names are changed by what is reached."""

Described = Callable[[Any], Any]


def origin(roots: Mapping[str, Any], described: Described, apart: Collection[Any] = ()) -> dict[str, Any]:
    """All that decides about what these objects do, by its name; empty where only libraries have a part in it.

    Args:
        roots: Functions, classes, programs or other objects by name.
        described: Tells of a model as plain data.
        apart: Predictors that are told of elsewhere.
    """
    before = Uses()
    for _ in range(_PASSES):
        walk = _Walk(described, apart, before)
        for name, root in roots.items():
            walk.root(name, root)
        if walk.uses == before:
            break
        before = walk.uses
    found = {name: told[0] if len(told) == 1 else digest(told) for name, told in sorted(walk.parts.items())}
    return found | ({"python": ".".join(map(str, sys.version_info[:2]))} if found else {})


def digest(value: Any) -> str:
    """A few letters that differ where the plain value differs."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:12]


@functools.cache
def _own(module: str | None) -> bool:
    """True for code of the user's own: neither Python's nor an installed package's."""
    if not module or module.partition(".")[0] in _LIBRARIES:
        return False
    file = getattr(sys.modules.get(module), "__file__", None)
    return file is None or not {"site-packages", "dist-packages"} & set(Path(file).parts)


class _Walk:
    def __init__(self, described: Described, apart: Collection[Any], before: Uses) -> None:
        self._described, self.before, self.uses = described, before, Uses()
        self._apart = {id(one) for one in apart}
        self.parts: dict[str, list[Any]] = {}
        self._seen: dict[int, Any] = {}  # the objects themselves, or another could get an id

    def root(self, name: str, value: Any) -> None:
        """Tell of an object whose name is known otherwise."""
        if isinstance(value, dspy.Module) and not isinstance(value, dspy.Predict):
            self._class(type(value))
            if type(value).__module__.partition(".")[0] != "evoprompt":  # they tell of themselves
                self._attributes(value, "self", 0)
        else:
            self._named(name, value, 0)

    def _tell(self, name: str, value: Any) -> None:
        """Texts may be secret, and are told by a digest."""
        if value is not None:
            shown = value if isinstance(value, bool | int | float) else digest(value)
            self.parts.setdefault(name, []).append(shown)

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
                self._named(key, _content(cell), depth + 1)
        for chain in found.reads:
            self._read(function.__globals__, chain, depth + 1)
        if hasattr(function, "__wrapped__"):
            self._value(function.__wrapped__, name, depth + 1)

    def _read(self, scope: Mapping[str, Any], chain: tuple[str, ...], depth: int) -> None:
        """A global that is read, or an attribute of a module of one's own."""
        name, *rest = chain
        while name in scope and isinstance(scope[name], types.ModuleType) and _own(scope[name].__name__) and rest:
            scope, (name, *rest) = vars(scope[name]), rest
        if name in scope and name not in self.before.changes:
            self._named(name, scope[name], depth)

    def _named(self, name: str, value: Any, depth: int) -> None:
        value = self._value(value, name, depth)
        if not (isinstance(value, list) and value[:1] == ["see"]):  # that has a line of its own, or is a library's
            self._tell(name, value)

    def _class(self, kind: type, depth: int = 0) -> None:
        if id(kind) in self._seen or not _own(kind.__module__):
            return
        self._seen[id(kind)] = kind
        for base in kind.__bases__:
            self._class(base, depth + 1)
        for name, value in vars(kind).items():
            for function in _functions(value):
                reached = name in _ENTRIES or name in self.before.attributes
                self._function(function, depth + 1, reached=reached)
                if reached and name not in ("__init__", "__new__"):
                    self.uses.changes_own |= uses(function.__code__).changes_own
            if name == "__annotations__":
                self._tell(f"{kind.__qualname__}(fields)", {k: str(v) for k, v in value.items()} or None)
            hidden = name.startswith("__") or name.startswith("_abc") or name in self.before.changes_own
            if not hidden and not _functions(value) and not isinstance(value, types.MemberDescriptorType):
                self._named(f"{kind.__qualname__}.{name}", value, depth + 1)

    def _attributes(self, value: Any, name: str, depth: int) -> None:
        for key, attribute in sorted(vars(value).items()):
            if key not in _APART and not key.startswith("_evoprompt") and key not in self.before.changes_own:
                self._named(f"{name}.{key}", attribute, depth + 1)

    def _value(self, value: Any, name: str, depth: int) -> Any:
        """A value as plain data. What has lines of its own is told as `["see", …]`."""
        if value is None or isinstance(value, bool | int | float | str):
            return value if not isinstance(value, float) or math.isfinite(value) else repr(value)
        kind = type(value)
        if depth > _DEEPEST:
            return ["see", kind.__qualname__]
        if isinstance(value, types.FunctionType | type | types.ModuleType):
            return self._code(value, depth)
        if _functions(value) or isinstance(value, types.MethodType | functools.partial):
            return self._bound(value, name, depth)
        if isinstance(value, dspy.BaseLM):
            self._class(kind, depth)
            return ["model", self._described(value)]
        if id(value) in self._seen:
            return ["see", kind.__qualname__]
        self._seen[id(value)] = value
        if isinstance(value, dspy.Predict):
            self._class(kind, depth)
            if id(value) in self._apart:
                return self._types(value.signature, depth) or ["see", kind.__qualname__]
            state = {k: v for k, v in vars(value).items() if k not in _APART and k != "lm" and k[:10] != "_evoprompt"}
            return [kind.__qualname__, self._value(state, name, depth + 1), self._described(value.lm)]
        return self._data(value, name, depth)

    def _data(self, value: Any, name: str, depth: int) -> Any:
        kind = type(value)
        if isinstance(value, dspy.Example):
            value = dict(value.items())
        elif isinstance(value, BaseModel):
            self._class(kind, depth)
            value = {key: getattr(value, key) for key in type(value).model_fields}
        if isinstance(value, Mapping):
            pairs = [
                [self._value(k, name, depth + 1), self._value(v, f"{name}.{k}", depth + 1)] for k, v in value.items()
            ]
            return [kind.__qualname__, sorted(pairs, key=repr)]
        if isinstance(value, list | tuple | deque):
            return [kind.__qualname__, [self._value(v, name, depth + 1) for v in value]]
        if isinstance(value, set | frozenset):
            return [kind.__qualname__, sorted((self._value(v, name, depth + 1) for v in value), key=repr)]
        if callable(told_of := getattr(value, "describe", None)) and not _own(kind.__module__):
            return [kind.__qualname__, told_of()]
        if callable(getattr(value, "tobytes", None)):
            return [kind.__qualname__, value.tobytes().hex()]
        return self._object(value, name, depth)

    def _object(self, value: Any, name: str, depth: int) -> Any:
        kind = type(value)
        if _own(kind.__module__) or kind.__module__.partition(".")[0] == "dspy":
            self._class(kind, depth)
            if hasattr(value, "__dict__"):
                self._attributes(value, name, depth + 1)
            return ["see", kind.__qualname__] if _own(kind.__module__) else kind.__qualname__
        try:
            shown = repr(value)
        except Exception:
            shown = ""
        return [kind.__qualname__, "" if re.search(r" at 0x[0-9a-fA-F]+", shown) else shown]

    def _code(self, value: Any, depth: int) -> Any:
        if isinstance(value, type) and issubclass(value, dspy.Signature):
            state: Any = value
            return ["signature", state.dump_state(), self._types(state, depth)]
        module = value.__name__ if isinstance(value, types.ModuleType) else value.__module__
        if _own(module) and isinstance(value, types.FunctionType):
            self._function(value, depth)
        elif _own(module) and isinstance(value, type):
            self._class(value, depth)
        return ["see", module, getattr(value, "__qualname__", "")] if not _own(module) else ["see", value.__name__]

    def _types(self, signature: type[dspy.Signature], depth: int) -> dict[str, str]:
        """The types of fields that are no text, and the classes among them."""
        found = {name: one.annotation for name, one in signature.model_fields.items() if one.annotation is not str}
        waiting = list(found.values())
        while waiting:
            one = waiting.pop()
            waiting += getattr(one, "__args__", ())
            if isinstance(one, type):
                self._class(one, depth + 1)
        return {name: str(one) for name, one in found.items()}

    def _bound(self, value: Any, name: str, depth: int) -> Any:
        """Functions in some wrapping, with what they were bound to."""
        if isinstance(value, types.MethodType):
            return [self._value(value.__func__, name, depth + 1), self._value(value.__self__, name, depth + 1)]
        if isinstance(value, functools.partial):
            parts = (value.func, value.args, value.keywords)
            return ["partial", *(self._value(part, name, depth + 1) for part in parts)]
        return ["see", *(self._value(function, name, depth + 1) for function in _functions(value))]


def _functions(value: Any) -> list[types.FunctionType]:
    """The functions of a member of a class, or of a function that is wrapped."""
    if isinstance(value, types.FunctionType):
        return [value]
    if isinstance(value, property):
        return [f for f in (value.fget, value.fset) if isinstance(f, types.FunctionType)]
    inner = getattr(value, "__func__" if isinstance(value, staticmethod | classmethod) else "__wrapped__", None)
    return [inner] if isinstance(inner, types.FunctionType) and not isinstance(value, type) else []


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not there yet
        return None
