"""The user's own code: tells its modules from libraries, and reads what its functions hold, name, import and change."""

from __future__ import annotations

import ast
import dis
import functools
import importlib.util
import inspect
import sys
import textwrap
import types
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

_LIBRARIES = {*sys.stdlib_module_names, "dspy", "evoprompt", "signatures"} - {"__main__"}
_INSTALLED = {"site-packages", "dist-packages"}
_CHANGING = frozenset(
    {"add", "append", "appendleft", "clear", "discard", "extend", "extendleft", "insert", "pop", "popitem", "popleft"}
    | {"put", "put_nowait", "remove", "reverse", "setdefault", "sort", "update", "write", "writelines"}
)
"""Methods that change the object on which they are called."""
_NO_MATTER = {"CACHE", "EXTENDED_ARG", "RESUME", "NOP", "PRECALL", "MAKE_CELL", "COPY_FREE_VARS"}


@functools.cache
def own(module: str | None) -> bool:
    """Return True for a module of the user's own, in neither the standard library nor an installed package."""
    top = (module or "").partition(".")[0]
    if not top or top in _LIBRARIES:
        return False
    known = sys.modules.get(module or "")
    places = [getattr(known, "__file__", None)]
    if known is None:
        with suppress(ImportError, ValueError, AttributeError):
            spec = importlib.util.find_spec(top)
            places = [spec.origin, *(spec.submodule_search_locations or ())] if spec else []
    return not any(_INSTALLED & set(Path(place).parts) for place in places if place)


def functions(value: Any) -> list[types.FunctionType]:
    """Return the functions within a property, a class member or a wrapper."""
    if isinstance(value, types.FunctionType):
        return [value]
    inner: Collection[Any] = ()
    if isinstance(value, property):
        inner = (value.fget, value.fset, value.fdel)
    elif isinstance(value, staticmethod | classmethod):
        inner = (value.__func__,)
    elif isinstance(value, functools.cached_property):
        inner = (value.func,)
    elif isinstance(value, functools.singledispatchmethod):
        inner = (value.func, *value.dispatcher.registry.values())
    elif not isinstance(value, type) and not own(type(value).__module__):
        inner = (getattr(value, "__wrapped__", None),)
    return [function for one in inner if one is not value for function in functions(one)]


def _nested(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _nested(constant)


@functools.lru_cache(maxsize=4096)
def told(code: types.CodeType) -> Any:
    """Return the code as plain data, which is stable within one minor version of Python."""
    steps = [s for s in dis.get_instructions(code) if s.opname not in _NO_MATTER]
    found = []
    for step, following in zip(steps, [*steps[1:], None], strict=True):
        if not any(s is not None and s.opname == "STORE_NAME" and s.argval == "__doc__" for s in (step, following)):
            found.append([step.opname, _constant(step.argval)])
    taken = code.co_argcount + code.co_kwonlyargcount
    kinds = [code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount]
    return [kinds, list(code.co_varnames[:taken]), found, code.co_exceptiontable.hex()]


def _constant(value: Any) -> Any:
    if isinstance(value, types.CodeType):
        return told(value)
    if isinstance(value, tuple):
        return [_constant(v) for v in value]
    if isinstance(value, frozenset):  # in no order, which differs between processes
        return sorted((_constant(v) for v in value), key=repr)
    return [type(value).__name__, repr(value)]


def names_in(code: types.CodeType) -> set[str]:
    """Return the names that the code reads, of anything; a text may be one, as in `getattr(x, "name")`."""
    parts = list(_nested(code))
    texts = {c for one in parts for c in one.co_consts if isinstance(c, str) and c.isidentifier()}
    return texts.union(*(one.co_names for one in parts))


def imported(code: types.CodeType, package: str) -> Iterator[types.ModuleType]:
    """Import the modules of one's own that code imports within, as it does while it runs."""
    for one in _nested(code):
        steps = [s for s in dis.get_instructions(one) if s.opname not in _NO_MATTER]
        for i, step in enumerate(steps):
            if step.opname == "IMPORT_NAME":
                with suppress(Exception, SystemExit):  # the program meets the same error
                    whole = importlib.util.resolve_name("." * steps[i - 2].argval + step.argval, package)
                    if own(top := whole.partition(".")[0]):
                        module = importlib.import_module(whole)
                        for name in steps[i - 1].argval or ():
                            if not hasattr(module, name) and name != "*":
                                importlib.import_module(f"{whole}.{name}")
                        yield from (module, sys.modules[top])


@functools.lru_cache(maxsize=4096)
def changes(code: types.CodeType, method: bool) -> set[str]:
    """Return what the code changes: a name, `name.attribute`, and of its own object `self.attribute`."""
    if method and code.co_name in ("__init__", "__new__", "__post_init__"):
        return set()
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(code)))
    except (OSError, TypeError, ValueError, SyntaxError, RecursionError):  # written in a shell; half a lambda
        return set()
    first = code.co_varnames[0] if code.co_argcount else ""
    found: set[str] = set()
    assigned = [
        n for n in ast.walk(tree) if isinstance(n, ast.Assign) and isinstance(n.value, ast.Name | ast.Attribute)
    ]
    others = {t.id: n.value for n in assigned for t in n.targets if isinstance(t, ast.Name)}
    for node in ast.walk(tree):
        held: list[ast.expr] = list(getattr(node, "targets", ()))
        if isinstance(node, ast.AugAssign | ast.AnnAssign):
            held = [node.target]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _CHANGING:
            held = [node.func.value]
        for one in held:
            inner = isinstance(node, ast.Call) or isinstance(one, ast.Subscript)
            while isinstance(one, ast.Subscript):
                one = one.value
            if inner and isinstance(one, ast.Name):
                one = others.get(one.id, one)  # the object that a local variable stands for
            names = ast.unparse(one).split(".") if isinstance(one, ast.Name | ast.Attribute) else [""]
            if names[0] == first and len(names) > 1:
                found.add(f"self.{names[1]}")
            elif names[0] not in code.co_varnames:
                found.add(".".join(names[-2:]))
    return found - {""}
