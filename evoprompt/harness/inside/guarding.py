"""What a test in the judge's process may hand a candidate, and of what it is told that the solution says so itself.

A test that makes an object of a class of the solution's uses it as it was written to be used. What the solution
returns, though, may have methods and operators that agree to everything: it is not asked what is right, or the test
is marked. So it matters how a test came to have an object. Standard library only.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from . import proxies
from .proxies import MADE, ONCE, ProxyType, fill, inside
from .remote import Peer
from .shapes import LEAVES, parts_of
from .texts import arguments_of, shown

_SHOWN_CALLS = 3
_PLAIN = frozenset(
    name for kind in (int, float, complex, str, bytes, list, tuple, set, frozenset, dict, range) for name in dir(kind)
) - frozenset(dir(object))
"""What is called on plain answers, and then runs here."""
_ADDRESSES = frozenset({"__array_interface__", "__array_struct__", "__cuda_array_interface__"})
"""What would tell numpy where in the memory of this process an array is."""
_GUARDED, _FOREIGN, _ONCE, _FLUENT = 1, 2, 3, -1
"""Methods: of what the test did not make; such of plain data; of what it made and has from the solution; of what it
made, where the canonical solution's gives back the object itself."""


class Ended(BaseException):
    """The test can't go on: the candidate is gone, or what is needed may not be done in this session."""


class Guard(Peer):
    """The judge's side, as far as it guards what is expected.

    Attributes:
        status: What has ended the test, if anything has: `deferred`, `refused`, `malformed`.
        marked: The verdict of the test rests on what the candidate says of its own objects.
        telling: Whether it may hand the candidate what may be expected: `never`, `always`, or `later`, which ends it.
        told: It did.
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
        """What the candidate refers to is no longer only what the test made, and in a field no method of its class."""
        if isinstance(type(value), ProxyType):
            if inside(value, "_made") == MADE:
                proxies.mark_made(value, ONCE)
            if field and callable(value):
                if isinstance(inside(value, "_number"), str):
                    return self.method(value, inside(value, "_name"), _GUARDED)
                proxies.guard(value, _GUARDED)
        elif self.constructed:
            waiting, seen = [value], set()
            while waiting:
                inner = waiting.pop()
                if isinstance(type(inner), ProxyType):
                    proxies.mark_made(inner, min(ONCE, inside(inner, "_made")))
                elif type(inner) not in LEAVES and id(inner) not in seen:
                    seen.add(id(inner))
                    waiting += parts_of(inner, type(inner) in self.classes)
        return value

    def restore(self, value: Any) -> None:
        """Says again that the test made what it made, where the canonical solution gives back the same."""
        if isinstance(type(value), ProxyType) and inside(value, "_made"):
            proxies.mark_made(value, MADE)

    def method(self, result: Any, name: str, guarded: int) -> Any:
        """The same callable of the candidate's, guarded."""
        made: Any = object.__new__(type(result))
        fill(made, self, inside(result, "_number"), name, inside(result, "_kind"), guarded)
        return made

    def called(self, proxy: Any, values: tuple[Any, ...], named: dict[str, Any]) -> Any:
        """A call, kept as a text too."""
        number, guarded, operands = inside(proxy, "_number"), inside(proxy, "_guarded"), (*values, *named.values())
        # A method that no class of the solution's has would be asked what is right.
        if guarded > 0 and operands and (guarded == _FOREIGN or not self.may_have(proxy, operands)):
            if guarded != _ONCE:
                raise AttributeError(f"the object has no attribute {inside(proxy, '_name')!r}")
            self.marked = self.told = True
        told = [f"{inside(proxy, '_name') or 'it'}({arguments_of(values, named)})", ""]
        self.calls.append(told)
        result = super().called(proxy, values, named)
        told[1] = shown(result)
        if isinstance(type(result), ProxyType):
            if number in self.config["classes"] and inside(proxy, "_made") == MADE:
                self.constructed = True
                proxies.mark_made(result, MADE)
            elif guarded == _FLUENT:
                self.restore(result)
        return result

    def got(self, proxy: Any, name: str) -> Any:
        """An attribute; a method of what the test did not make is guarded."""
        if name in _ADDRESSES:
            raise AttributeError(f"the object has no attribute {name!r}")
        result = super().got(proxy, name)
        if not isinstance(type(result), ProxyType):
            return result
        number = inside(result, "_number")
        if name == "__class__" and number in self.config["classes"]:
            self.restore(result)
            return result
        if inside(proxy, "_made") == MADE:
            if isinstance(inside(proxy, "_number"), str) and not callable(result):
                self.marked = True  # a member of a class of the candidate's, for comparison
            proxies.rename(result, f"{inside(proxy, '_name')}.{name}")
            fluent = name in self.config["fluent"] and isinstance(number, int) and callable(result)
            return self.method(result, inside(result, "_name"), _FLUENT) if fluent else result
        if not callable(result):
            return result
        if name in self.config["methods"]:
            return self.method(result, name, _ONCE if inside(proxy, "_made") == ONCE else _GUARDED)
        return self.method(result, name, _FOREIGN if name in _PLAIN and proxy.__class__ is type(proxy) else _GUARDED)

    def may_have(self, proxy: Any, operands: tuple[Any, ...]) -> bool:
        """Whether the candidate may have these operands of its object."""
        if inside(proxy, "_made") == MADE or all(isinstance(type(o), ProxyType) for o in operands):
            return True
        return self.may_tell()

    def may_tell(self) -> bool:
        """Whether the candidate may be told what may be expected; ends the test where that is to be found out."""
        if self.telling == "later":
            self.status = "deferred"
            raise Ended
        if self.telling == "always":
            self.marked = self.told = True
            return True
        return False

    def equality(self, proxy: Any, other: Any) -> bool:
        """Whether the candidate compares: two objects of its own, or where its class says what it equals."""
        if isinstance(type(other), ProxyType):
            self.marked = True
            return True
        return self.config["equalities"] and self.may_tell()
