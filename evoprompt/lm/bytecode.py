"""Static analysis of Python code objects: their content as data, the names that they read, and what they change.

Docstrings, comments and line numbers count for nothing.
"""

from __future__ import annotations

import dis
import re
import types
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from typing import Any

_NO_MATTER = {"CACHE", "EXTENDED_ARG", "RESUME", "NOP", "PRECALL", "MAKE_CELL", "COPY_FREE_VARS"}
_ATTRIBUTE = {"LOAD_ATTR", "LOAD_METHOD", "LOAD_SUPER_ATTR"}
_GLOBAL = {"LOAD_GLOBAL", "LOAD_NAME"}
_NAME = _GLOBAL | {"LOAD_DEREF", "LOAD_CLASSDEREF"}
_CHANGING = frozenset(
    {"add", "append", "appendleft", "clear", "discard", "extend", "extendleft", "insert", "pop", "popitem", "popleft"}
    | {"put", "put_nowait", "remove", "reverse", "setdefault", "sort", "update", "write", "writelines"}
)
"""Methods that change the object on which they are called."""
ALL = "*"
"""Stands for all names of a module, where the code computes the name that it reads."""


@dataclass
class Uses:
    """Names that code uses, with the functions and classes within it.

    Attributes:
        reads: Global names.
        attributes: Attributes that are read of anything, and names that are imported from modules.
        computed: Names of objects of which an attribute is read by a computed name.
        imports: Modules that are imported within: the level of a relative import, the name, and the names read of it.
        changes: Names of the module or of a surrounding function that the code changes, like a counter or a cache;
            `name.attribute` where it changes only that.
        changes_own: Attributes of its first parameter that it changes.
    """

    reads: dict[str, None] = field(default_factory=dict)
    attributes: set[str] = field(default_factory=set)
    computed: set[str] = field(default_factory=set)
    imports: dict[tuple[int, str, tuple[str, ...]], None] = field(default_factory=dict)
    changes: set[str] = field(default_factory=set)
    changes_own: set[str] = field(default_factory=set)


@lru_cache(maxsize=4096)
def told(code: types.CodeType) -> Any:
    """Return the code as plain data, which is stable within one minor version of Python."""
    found = []
    steps = list(_steps(code))
    for step, following in zip(steps, [*steps[1:], None], strict=True):
        if step.opname == "STORE_NAME" and step.argval == "__doc__":
            continue
        if following is not None and following.opname == "STORE_NAME" and following.argval == "__doc__":
            continue
        found.append([step.opname, _constant(step.argval)])
    taken = code.co_argcount + code.co_kwonlyargcount
    kinds = [code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount]
    return [kinds, list(code.co_varnames[:taken]), found, code.co_exceptiontable.hex()]


@lru_cache(maxsize=4096)
def uses(code: types.CodeType) -> Uses:
    """Return the names that the code uses."""
    found = Uses()
    for one in _nested(code):
        steps = list(_steps(one))
        _add_changes(one, steps, found)
        for i, step in enumerate(steps):
            if step.opname in _GLOBAL:
                found.reads[_read(steps, i, found)] = None
            elif step.opname in _ATTRIBUTE or step.opname == "IMPORT_FROM":
                found.attributes.add(step.argval)
            elif step.opname == "IMPORT_NAME":
                names = steps[i - 1].argval or ()
                found.imports[steps[i - 2].argval, step.argval, names] = None
            if step.argval in ("import_module", "__import__") and steps[i + 1].opname == "LOAD_CONST":
                found.imports[0, str(steps[i + 1].argval), (ALL,)] = None
    return found


def _read(steps: list[dis.Instruction], at: int, found: Uses) -> str:
    """Return the global that is read here, also through `globals()`; look what `getattr` reads."""
    name = str(steps[at].argval)
    rest = [s for s in steps[at + 1 : at + 8] if s.opname != "PUSH_NULL"]
    if name in ("eval", "exec") or (name == "sys" and rest and rest[0].argval == "modules"):
        return ALL
    if name == "globals":
        key = next((s for s in rest if s.opname != "CALL" and s.argval != "get"), None)
        return key.argval if key and key.opname == "LOAD_CONST" and isinstance(key.argval, str) else ALL
    if name in ("getattr", "hasattr"):
        place = next((i for i, s in enumerate(rest) if i and s.opname not in _ATTRIBUTE), 0)
        if rest[place].opname == "LOAD_CONST":
            found.attributes.add(str(rest[place].argval))
        elif place:
            found.computed.add(str(rest[place - 1].argval))
    return name


def _add_changes(code: types.CodeType, steps: list[dis.Instruction], found: Uses) -> None:
    own = code.co_varnames[0] if code.co_argcount else ""
    for i, step in enumerate(steps):
        if step.opname in _ATTRIBUTE and step.argval in _CHANGING and i:
            _changed(steps, i - 1, found)
        if step.opname in ("STORE_GLOBAL", "DELETE_GLOBAL") or (
            step.opname in ("STORE_DEREF", "DELETE_DEREF") and step.argval in code.co_freevars
        ):
            found.changes.add(step.argval)
        elif step.opname in ("STORE_ATTR", "DELETE_ATTR"):
            holders = [steps[i - 1]] if i else []
            holders += [
                s
                for s, t, u in zip(steps[:i], steps[1:i], steps[2:i], strict=False)
                if t.opname == "COPY" and u.argval == step.argval  # x.count += 1
            ]
            for one in holders:
                holder = _source(steps, one)
                if holder.opname.startswith("LOAD_FAST") and holder.argval == own:
                    found.changes_own.add(step.argval)
                elif holder.opname in _NAME | _ATTRIBUTE:
                    found.changes.add(f"{holder.argval}.{step.argval}")
        elif step.opname in ("STORE_SUBSCR", "DELETE_SUBSCR"):
            holder_at = _holder(steps, i)
            if holder_at is not None:
                _changed(steps, holder_at, found)


def _changed(steps: list[dis.Instruction], at: int, found: Uses) -> None:
    """Add the object that this step loads to the changes."""
    step = _source(steps, steps[at])
    at = steps.index(step)
    if step.opname in _NAME:
        found.changes.add(step.argval)
    elif step.opname in _ATTRIBUTE:
        found.changes_own.add(step.argval)
        if at and steps[at - 1].opname in _NAME:
            found.changes.add(f"{steps[at - 1].argval}.{step.argval}")


def _source(steps: list[dis.Instruction], step: dis.Instruction) -> dis.Instruction:
    """Return the step that loads the global or attribute for which a local variable stands."""
    if step.opname.startswith("LOAD_FAST"):
        for before, stored in pairwise(steps):
            if stored.opname == "STORE_FAST" and stored.argval == step.argval and before.opname in _NAME | _ATTRIBUTE:
                return before
    return step


def _holder(steps: list[dis.Instruction], at: int) -> int | None:
    """Return the index of the step that loads `x` for `x[key] = value` or `x[key] += value`."""
    if at and steps[at - 1].opname == "SWAP":
        copies = [i for i in range(1, at) if steps[i].opname == steps[i - 1].opname == "COPY"]
        if not copies:
            return None
        at = copies[-1] - 1
    depth = 1  # of the stack above the holder: the key
    for i in range(at - 1, 0, -1):
        try:
            depth -= dis.stack_effect(steps[i].opcode, steps[i].arg, jump=False)
        except ValueError:
            return None
        if depth <= 0:
            return i - 1
    return None


def _steps(code: types.CodeType) -> Iterator[dis.Instruction]:
    for step in dis.get_instructions(code):
        if "_FAST_" in step.opname and isinstance(step.argval, tuple):  # two in one, in later versions of Python
            for name, of in zip(re.findall("(?:LOAD|STORE)_FAST", step.opname), step.argval, strict=True):
                yield step._replace(opname=name, opcode=dis.opmap[name], argval=of)
        elif step.opname not in _NO_MATTER:
            yield step


def _nested(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _nested(constant)


def _constant(value: Any) -> Any:
    if isinstance(value, types.CodeType):
        return told(value)
    if isinstance(value, tuple):
        return [_constant(v) for v in value]
    if isinstance(value, frozenset):  # in no order, which differs between processes
        return sorted((_constant(v) for v in value), key=repr)
    return [type(value).__name__, repr(value)]
