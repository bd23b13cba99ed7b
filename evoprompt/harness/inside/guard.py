"""Guards what a test may hand a solution, and notes when the solution itself decides the verdict.

A test that makes an object of a class of the solution uses it as it was written to be used. But what the solution
returns may have methods and operators that agree to everything: it is not asked what is right, or the test is marked.
So it matters how a test got an object. Standard library only.
"""

from __future__ import annotations

import reprlib
import sys
from collections import deque
from typing import Any

from .contents import LEAVES, parts_of
from .peer import Peer
from .proxies import MADE, ONCE, fill, inside, is_proxy, put

_SHOWN_CALLS = 3
"""The last calls of a test that are shown."""
_LONGEST = 1000
"""Most characters of a value that is shown."""
_PLAIN = frozenset(
    name for kind in (int, float, complex, str, bytes, list, tuple, set, frozenset, dict, range) for name in dir(kind)
) - frozenset(dir(object))
"""Methods of plain data: called on plain answers, they run here."""
_ADDRESSES = frozenset({"__array_interface__", "__array_struct__", "__cuda_array_interface__"})
"""Attributes that would tell numpy where in the memory of this process an array is."""
_GUARDED, _FOREIGN, _ONCE, _FLUENT = 1, 2, 3, -1
"""Methods: of an object that the test did not make; the same, named as one of plain data; of an object that the test
made and got back from the solution; of one that it made, and the method returns the object itself in the canonical
solution."""


class Ended(BaseException):
    """The test can't go on: the solution is gone, or what is needed may not be done in this session."""


class Guard(Peer):
    """The judge's side, as far as it guards what is expected.

    Attributes:
        status: What ended the test: `deferred`, `refused`, `malformed`, or nothing so far.
        marked: The verdict of the test rests on what the solution says of its own objects.
        telling: May the test hand the solution what may be expected: `never`, `always`, or `later`, which ends it.
        told: It did.
        constructed: The test has made an object of a class of the solution.
    """

    def __init__(self, server: Any, config: dict[str, Any]) -> None:
        super().__init__(server, 1)
        self.config = config
        self.status = ""
        self.marked = self.told = False
        self.telling = "never"
        self.calls: deque[list[str]] = deque(maxlen=_SHOWN_CALLS)
        self.constructed = False

    def reached(self, value: Any, field: bool = False) -> Any:
        """Notes that an object came from the solution; a callable in a field counts as a guarded method."""
        if is_proxy(value):
            put(value, "_made", min(ONCE, inside(value, "_made")))
            if field and callable(value):
                if isinstance(inside(value, "_number"), str):
                    return self.method(value, inside(value, "_name"), _GUARDED)
                put(value, "_guarded", _GUARDED)
        elif self.constructed:
            waiting, seen = [value], set()
            while waiting:
                inner = waiting.pop()
                if is_proxy(inner):
                    put(inner, "_made", min(ONCE, inside(inner, "_made")))
                elif type(inner) not in LEAVES and id(inner) not in seen:
                    seen.add(id(inner))
                    waiting += parts_of(inner, type(inner) in self.classes)
        return value

    def restore(self, value: Any) -> None:
        """Notes again that the test made an object, where the canonical solution gives back the same."""
        if is_proxy(value) and inside(value, "_made"):
            put(value, "_made", MADE)

    def method(self, result: Any, name: str, guarded: int) -> Any:
        """Returns another proxy of a method, with a name and how it is guarded."""
        proxy = object.__new__(type(result))
        return fill(proxy, self, inside(result, "_number"), name, inside(result, "_kind"), guarded)

    def called(self, proxy: Any, values: tuple[Any, ...], named: dict[str, Any]) -> Any:
        """Calls an object of the solution, and keeps the call as a text."""
        number, guarded, operands = inside(proxy, "_number"), inside(proxy, "_guarded"), (*values, *named.values())
        # A method that no class of the solution's has would be asked what is right.
        if guarded > 0 and operands and (guarded == _FOREIGN or not self.may_have(proxy, operands)):
            if guarded != _ONCE:
                raise AttributeError(f"the object has no attribute {inside(proxy, '_name')!r}")
            self.marked = self.told = True
        arguments = ", ".join([*map(shown, values), *(f"{name}={shown(value)}" for name, value in named.items())])
        told = [f"{inside(proxy, '_name') or 'it'}({arguments})", ""]
        self.calls.append(told)
        result = super().called(proxy, values, named)
        told[1] = shown(result)
        if is_proxy(result):
            if number in self.config["classes"] and inside(proxy, "_made") == MADE:
                self.constructed = True
                put(result, "_made", MADE)
            elif guarded == _FLUENT:
                self.restore(result)
        return result

    def got(self, proxy: Any, name: str) -> Any:
        """Returns an attribute; a method of an object that the test did not make is guarded."""
        if name in _ADDRESSES:
            raise AttributeError(f"the object has no attribute {name!r}")
        result = super().got(proxy, name)
        if not is_proxy(result):
            return result
        number = inside(result, "_number")
        if name == "__class__" and number in self.config["classes"]:
            self.restore(result)
            return result
        if inside(proxy, "_made") == MADE:
            if isinstance(inside(proxy, "_number"), str) and not callable(result):
                self.marked = True  # a member of a class of the solution's, for comparison
            if isinstance(number, int):
                put(result, "_name", f"{inside(proxy, '_name')}.{name}")
            fluent = name in self.config["fluent"] and isinstance(number, int) and callable(result)
            return self.method(result, inside(result, "_name"), _FLUENT) if fluent else result
        if not callable(result):
            return result
        if name in self.config["methods"]:
            return self.method(result, name, _ONCE if inside(proxy, "_made") == ONCE else _GUARDED)
        return self.method(result, name, _FOREIGN if name in _PLAIN and proxy.__class__ is type(proxy) else _GUARDED)

    def may_have(self, proxy: Any, operands: tuple[Any, ...]) -> bool:
        """True if the solution may have these operands of its object."""
        if inside(proxy, "_made") == MADE or all(is_proxy(o) for o in operands):
            return True
        return self.may_tell()

    def may_tell(self) -> bool:
        """True if the solution may be told what may be expected; ends the test where that is to be found out."""
        if self.telling == "later":
            self.status = "deferred"
            raise Ended
        if self.telling == "always":
            self.marked = self.told = True
            return True
        return False

    def equality(self, proxy: Any, other: Any) -> bool:
        """True if the solution compares: two objects of its own, or where its class says what it equals."""
        if is_proxy(other):
            self.marked = True
            return True
        return self.config["equalities"] and self.may_tell()


class _Repr(reprlib.Repr):
    """Shows plain data without running any method of a test's or solution's class."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxstring, self.maxlong, self.maxother = 8, 500, 200, 200
        self.maxlist = self.maxtuple = self.maxset = self.maxfrozenset = self.maxdeque = self.maxdict = 100

    def repr_function(self, x: Any, level: int) -> str:
        return str(x.__name__)

    repr_builtin_function_or_method = repr_type = repr_function

    def repr_coroutine(self, x: Any, level: int) -> str:
        return "<coroutine>"

    def repr_instance(self, x: Any, level: int) -> str:
        if type(x) in LEAVES:
            return repr(x)[: self.maxstring]
        known = type(x).__module__ != "builtins" and type(x).__module__.partition(".")[0] in sys.stdlib_module_names
        return super().repr_instance(x, level) if known else f"<{type(x).__name__}>"


_REPR = _Repr()


def shown(value: Any) -> str:
    """Returns a value as a text of bounded length."""
    if is_proxy(value):
        kind = inside(value, "_kind")
        return f"<{kind.__name__}>" if kind else "<object>"
    try:
        return _REPR.repr(value)[:_LONGEST]
    except Exception:
        return f"<{type(value).__name__}>"
