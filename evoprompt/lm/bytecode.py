"""Python code as data: all that it does, without docstrings, comments and places; the names it reads and changes."""

from __future__ import annotations

import dis
import re
import types
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

_NO_MATTER = {"CACHE", "EXTENDED_ARG", "RESUME", "NOP", "PRECALL", "MAKE_CELL", "COPY_FREE_VARS"}
_ATTRIBUTE = {"LOAD_ATTR", "LOAD_METHOD", "LOAD_SUPER_ATTR"}
_NAME = {"LOAD_GLOBAL", "LOAD_NAME", "LOAD_DEREF", "LOAD_CLASSDEREF"}
_CHANGING = frozenset(
    {"add", "append", "appendleft", "clear", "discard", "extend", "extendleft", "insert", "pop", "popitem", "popleft"}
    | {"put", "put_nowait", "remove", "reverse", "setdefault", "sort", "update", "write", "writelines"}
)
"""Methods that change what they are called on."""
ALL = "*"
"""Stands for all names of a module, where the one that is read is computed."""


@dataclass
class Uses:
    """Names that code uses.

    Attributes:
        reads: Names of the module, each with the attributes that are read of it.
        imports: Modules that are imported within: the level of a relative import, the name, and the names read of it.
        attributes: All attributes that are read of anything.
        changes: Names of the module or of a surrounding function that the code changes itself: a count, a cache;
            `name.attribute` where it changes only that.
        changes_own: Attributes of its first parameter that it changes.
    """

    reads: dict[tuple[str, ...], None] = field(default_factory=dict)
    imports: dict[tuple[int, str, tuple[str, ...]], None] = field(default_factory=dict)
    attributes: set[str] = field(default_factory=set)
    changes: set[str] = field(default_factory=set)
    changes_own: set[str] = field(default_factory=set)


def told(code: types.CodeType) -> Any:
    """The code as plain data; the same where only docstrings, comments or places differ, in one version of Python."""
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


def uses(code: types.CodeType) -> Uses:
    """The names that the code uses, and the code within it."""
    found = Uses()
    every = [(one, list(_steps(one))) for one in _nested(code)]
    for one, steps in every:
        _look(one, steps, found)
    for _, steps in every:
        for i, step in enumerate(steps):
            if step.opname == "IMPORT_NAME":
                _imported(steps, i, [of for _, of in every], found)
            elif step.argval in ("import_module", "__import__") and steps[i + 1].opname == "LOAD_CONST":
                found.imports[0, str(steps[i + 1].argval), (ALL,)] = None
    return found


def _look(code: types.CodeType, steps: list[dis.Instruction], found: Uses) -> None:
    own = code.co_varnames[0] if code.co_argcount else ""
    for i, step in enumerate(steps):
        if step.opname in _ATTRIBUTE:
            found.attributes.add(step.argval)
            if step.argval in _CHANGING and i:
                _changed(steps, i - 1, found)
        if step.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            found.reads[_chain(steps, i)] = None
        elif step.opname in ("STORE_GLOBAL", "DELETE_GLOBAL") or (
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
            for holder in holders:
                if holder.opname.startswith("LOAD_FAST") and holder.argval == own:
                    found.changes_own.add(step.argval)
                elif holder.opname in _NAME | _ATTRIBUTE:
                    found.changes.add(f"{holder.argval}.{step.argval}")
        elif step.opname in ("STORE_SUBSCR", "DELETE_SUBSCR"):
            holder_at = _holder(steps, i)
            if holder_at is not None:
                _changed(steps, holder_at, found)


def _chain(steps: list[dis.Instruction], at: int) -> tuple[str, ...]:
    """The name that is loaded here with the attributes that are read of it."""
    chain = [steps[at].argval]
    if chain[0] in ("eval", "exec"):
        return (ALL,)
    end = at + 1
    if chain[0] == "globals" and end < len(steps) and steps[end].opname != "CALL":  # PUSH_NULL of later versions
        end += 1
    if chain[0] == "globals":
        following = [s for s in steps[end + 1 : end + 3] if s.opname not in _ATTRIBUTE or s.argval != "get"]
        name = following[0] if following else None
        return (name.argval if name and name.opname == "LOAD_CONST" and isinstance(name.argval, str) else ALL,)
    while end < len(steps) and steps[end].opname in _ATTRIBUTE:
        chain.append(steps[end].argval)
        end += 1
    before = steps[at - 1] if at else None
    if before is not None and before.opname == "PUSH_NULL" and at > 1:
        before = steps[at - 2]
    if before is not None and before.argval in ("getattr", "hasattr") and end < len(steps):
        computed = steps[end].opname != "LOAD_CONST"
        chain.append(ALL if computed else str(steps[end].argval))
    return (ALL,) if chain[:2] == ["sys", "modules"] else tuple(chain)


def _imported(steps: list[dis.Instruction], at: int, every: list[list[dis.Instruction]], found: Uses) -> None:
    """Take note of a module that is imported, and of what is read of it under the name that it gets."""
    level, names, module = steps[at - 2].argval, steps[at - 1].argval, steps[at].argval
    found.imports[level, module, ()] = None
    i = at + 1
    if steps[i].opname.startswith("STORE_"):  # import a.b
        start = module.partition(".")[0]
        bound = [(start if steps[i].argval == start else module, (), steps[i].argval)]
    else:
        bound = []
        while (
            i < len(steps) and steps[i].opname in ("IMPORT_FROM", "SWAP", "POP_TOP") and len(bound) < len(names or "a")
        ):
            if steps[i].opname == "IMPORT_FROM":
                stored = next(s for s in steps[i + 1 :] if s.opname.startswith("STORE_"))
                bound.append((module, (steps[i].argval,) if names else (), stored.argval))
                i = steps.index(stored, i)
            i += 1
    for start, chain, variable in bound:
        if chain:
            found.imports[level, start, chain] = None
        for of in every:
            for j, step in enumerate(of):
                if step.opname.startswith("LOAD_FAST") or step.opname in _NAME:
                    if step.argval == variable:
                        found.imports[level, start, (*chain, *_chain(of, j)[1:]) or (ALL,)] = None


def _changed(steps: list[dis.Instruction], at: int, found: Uses) -> None:
    """Take note that what this step has loaded is changed."""
    step = steps[at]
    if step.opname in _NAME:
        found.changes.add(step.argval)
    elif step.opname in _ATTRIBUTE:
        found.changes_own.add(step.argval)
        if at and steps[at - 1].opname in _NAME:
            found.changes.add(f"{steps[at - 1].argval}.{step.argval}")


def _holder(steps: list[dis.Instruction], at: int) -> int | None:
    """The step that loads what `x[key] = value` or `x[key] += value` changes."""
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
