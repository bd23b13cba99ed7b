"""Calls and their answers as texts, in the judge's process. Standard library only."""

from __future__ import annotations

import reprlib
import sys
from typing import Any

from .proxies import ProxyType, inside
from .shapes import LEAVES

_LONGEST = 1000


class _Repr(reprlib.Repr):
    """A text of plain data that runs nothing of anybody's."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxstring, self.maxlong, self.maxother = 8, 500, 200, 200
        self.maxlist = self.maxtuple = self.maxset = self.maxfrozenset = self.maxdeque = self.maxdict = 100

    def repr_function(self, x: Any, level: int) -> str:
        return str(x.__name__)

    repr_builtin_function_or_method = repr_function

    def repr_type(self, x: Any, level: int) -> str:
        return str(x.__name__)

    def repr_coroutine(self, x: Any, level: int) -> str:
        return "<coroutine>"

    def repr_instance(self, x: Any, level: int) -> str:
        if type(x) in LEAVES:
            return repr(x)[: self.maxstring]
        known = type(x).__module__ != "builtins" and type(x).__module__.partition(".")[0] in sys.stdlib_module_names
        return super().repr_instance(x, level) if known else f"<{type(x).__name__}>"


_REPR = _Repr()


def shown(value: Any) -> str:
    """A value as a text of bounded length."""
    if isinstance(type(value), ProxyType):
        kind = inside(value, "_kind")
        return f"<{kind.__name__}>" if kind else "<object>"
    try:
        return _REPR.repr(value)[:_LONGEST]
    except Exception:
        return f"<{type(value).__name__}>"


def arguments_of(values: tuple[Any, ...], named: dict[str, Any]) -> str:
    """The arguments of a call as a text."""
    return ", ".join([*map(shown, values), *(f"{name}={shown(value)}" for name, value in named.items())])
