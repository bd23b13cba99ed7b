"""The user's own code: tells its modules from libraries, imports as it does, unwraps its functions."""

from __future__ import annotations

import builtins
import functools
import importlib.util
import sys
import types
from collections.abc import Collection
from pathlib import Path
from typing import Any

_LIBRARIES = {*sys.stdlib_module_names, "dspy", "evoprompt", "signatures"} - {"__main__"}


@functools.cache
def own(module: str | None) -> bool:
    """Return True for a module of the user's own, in neither the standard library nor an installed package."""
    if not module or module.partition(".")[0] in _LIBRARIES:
        return False
    file = getattr(sys.modules.get(module), "__file__", None)
    return file is None or not {"site-packages", "dist-packages"} & set(Path(file).parts)


def imported(level: int, name: str, package: str | None, members: Collection[str] = ()) -> types.ModuleType | None:
    """Import a module as code does while it runs, with those of its members that are modules.

    Returns:
        What the code names next: the module, or the top package of `import a.b`; `builtins` for any library; None
        where the import fails.
    """
    try:
        whole = importlib.util.resolve_name("." * level + name, package)
        top = whole.partition(".")[0]
        if top not in _LIBRARIES and top not in sys.modules and (found := importlib.util.find_spec(top)):
            places = [found.origin or "", *(found.submodule_search_locations or ())]
            if any({"site-packages", "dist-packages"} & set(Path(place).parts) for place in places):
                return builtins
        if not own(top):
            return builtins
        module = importlib.import_module(whole)
        for one in members:
            if not hasattr(module, one) and one != "*":
                importlib.import_module(f"{whole}.{one}")
        return module if members else sys.modules[top]
    except (Exception, SystemExit):  # the program meets the same error
        return None


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
    elif isinstance(value, map | filter):
        inner = (value.__reduce__()[1][0],)
    elif not isinstance(value, type) and not own(type(value).__module__):
        inner = (getattr(value, "__wrapped__", None),)
    return [function for one in inner if one is not value for function in functions(one)]


def content(cell: Any) -> Any:
    """Return the value in a cell of a closure."""
    try:
        return cell.cell_contents
    except ValueError:  # not there yet
        return None
