"""Python code as data: all that it does, without docstrings, comments and places; the names it reads and changes."""

from __future__ import annotations

import dis
import types
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

_NO_MATTER = {"CACHE", "EXTENDED_ARG", "RESUME", "NOP", "PRECALL", "MAKE_CELL", "COPY_FREE_VARS"}
_ATTRIBUTE = {"LOAD_ATTR", "LOAD_METHOD"}
_NAME = {"LOAD_GLOBAL", "LOAD_NAME", "LOAD_DEREF", "LOAD_CLASSDEREF"}
_CHANGING = frozenset(
    {"add", "append", "appendleft", "clear", "discard", "extend", "extendleft", "insert", "pop", "popitem", "popleft"}
    | {"put", "put_nowait", "remove", "reverse", "setdefault", "sort", "update", "write", "writelines"}
)
"""Methods that change what they are called on."""


@dataclass
class Uses:
    """Names that code uses.

    Attributes:
        reads: Names of the module, each with the attributes that are read of it.
        attributes: All attributes that are read of anything.
        changes: Names of the module or of a surrounding function that the code changes itself: a count, a cache.
        changes_own: Attributes of its first parameter that it changes.
    """

    reads: dict[tuple[str, ...], None] = field(default_factory=dict)
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
    for one in _nested(code):
        _look(one, found)
    return found


def _look(code: types.CodeType, found: Uses) -> None:
    steps = list(_steps(code))
    own = code.co_varnames[0] if code.co_argcount else ""
    for i, step in enumerate(steps):
        before = steps[i - 1] if i else None
        if step.opname in _ATTRIBUTE:
            found.attributes.add(step.argval)
            if step.argval in _CHANGING and before is not None:
                _changed(before, found)
        if step.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            chain = [step.argval]
            for following in steps[i + 1 :]:
                if following.opname not in _ATTRIBUTE:
                    break
                chain.append(following.argval)
            found.reads[tuple(chain)] = None
        elif step.opname in ("STORE_GLOBAL", "DELETE_GLOBAL") or (
            step.opname in ("STORE_DEREF", "DELETE_DEREF") and step.argval in code.co_freevars
        ):
            found.changes.add(step.argval)
        elif step.opname in ("STORE_ATTR", "DELETE_ATTR"):
            plain = before is not None and before.opname.startswith("LOAD_FAST") and before.argval == own
            counted = any(
                s.opname.startswith("LOAD_FAST") and s.argval == own and t.opname == "COPY" and u.argval == step.argval
                for s, t, u in zip(steps[:i], steps[1:i], steps[2:i], strict=False)
            )
            if plain or counted:
                found.changes_own.add(step.argval)
        elif step.opname in ("STORE_SUBSCR", "DELETE_SUBSCR"):
            holder = _holder(steps, i)
            if holder is not None:
                _changed(holder, found)


def _changed(step: dis.Instruction, found: Uses) -> None:
    """Take note that what this step has loaded is changed."""
    if step.opname in _NAME:
        found.changes.add(step.argval)
    elif step.opname in _ATTRIBUTE:
        found.changes_own.add(step.argval)


def _holder(steps: list[dis.Instruction], at: int) -> dis.Instruction | None:
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
            return steps[i - 1]
    return None


def _steps(code: types.CodeType) -> Iterator[dis.Instruction]:
    return (step for step in dis.get_instructions(code) if step.opname not in _NO_MATTER)


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
