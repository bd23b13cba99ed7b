"""Joins the code blocks of one reply that belong together."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterator, Sequence
from typing import NamedTuple

__all__ = ["Block", "fullness", "is_code", "is_prose", "join", "names_of"]

_BUILTIN = frozenset(dir(builtins)) | {"__name__", "__file__", "__doc__"}
_OUTSIDE = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda


class Block(NamedTuple):
    """A code block and its tree."""

    code: str
    tree: ast.Module


def names_of(tree: ast.Module) -> set[str]:
    """Return the names that a module binds at top level, also within `if`, `try` and `with`."""
    return set().union(*map(_bound_by, _statements(tree)))


def fullness(tree: ast.Module) -> dict[str, int]:
    """Return for each name that a module binds 2 for a full definition, 1 for one with gaps, 0 for a stub."""
    found: dict[str, int] = {}
    for node in _statements(tree):
        for name in _bound_by(node):
            found[name] = max(found.get(name, 0), _fullness(node, name))
    return found


def _statements(tree: ast.Module) -> Iterator[ast.stmt]:
    pending: list[ast.stmt] = list(tree.body)
    while pending:
        node = pending.pop()
        yield node
        if isinstance(node, ast.If):
            pending += node.body + node.orelse
        elif isinstance(node, ast.Try):
            pending += node.body + node.orelse + node.finalbody + [s for h in node.handlers for s in h.body]
        elif isinstance(node, ast.With):
            pending += node.body


def _bound_by(node: ast.stmt) -> set[str]:
    """Return the names that one statement binds."""
    match node:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            return {name}
        case ast.Assign(targets=targets):
            return {n.id for t in targets for n in _targets(t)}
        case ast.AnnAssign(target=ast.Name(id=name), value=value) if value:
            return {name}
        case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
            return {(alias.asname or alias.name).split(".")[0] for alias in aliases}
    return set()


def _targets(target: ast.expr) -> Iterator[ast.Name]:
    if isinstance(target, ast.Name):
        yield target
    elif isinstance(target, ast.Tuple | ast.List):
        yield from (n for n in target.elts if isinstance(n, ast.Name))


def _fullness(node: ast.stmt, name: str) -> int:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return 0 if all(map(_says_nothing, node.body)) else 1 if any(map(_is_ellipsis, ast.walk(node))) else 2
    if isinstance(node, ast.ClassDef):
        levels = [_fullness(n, name) for n in node.body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
        if not levels:
            return 0 if all(map(_says_nothing, node.body)) else 2
        return levels[0] if len(set(levels)) == 1 else 1
    value = getattr(node, "value", None)
    return 1 if value is not None and name in _loaded(value) else 2


def _says_nothing(node: ast.stmt) -> bool:
    """Return True for a statement of a stub: `...`, `pass`, a docstring, `raise NotImplementedError`."""
    match node:
        case ast.Pass() | ast.Expr(value=ast.Constant()) | ast.Return(value=None | ast.Constant(value=None)):
            return True
        case ast.Return(value=ast.Name(id="NotImplemented")):
            return True
        case ast.Raise(exc=ast.Name(id=name) | ast.Call(func=ast.Name(id=name))):
            return name == "NotImplementedError"
    return False


def _is_ellipsis(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and node.value.value is ...


def join(blocks: Sequence[Block], main: int, name: str) -> str:
    """Return the block `main` with those blocks that bind what it needs, directly or through each other.

    Blocks keep their order, but one that `main` needs while it is loaded comes first. A later block that redefines a
    helper of `main` corrects it. Statements of other blocks that define or run `name` are dropped: a draft, a stub, an
    example of its use.

    Args:
        blocks: The blocks of the reply, in order.
        main: Index of the block that defines `name`.
        name: The entry point; may be empty.
    """
    bound = [fullness(b.tree) for b in blocks]
    chosen = {main}
    missing, sought = _needed(blocks[main].tree) - bound[main].keys(), set[str]()
    while missing:
        want = missing.pop()
        sought.add(want)
        binding = [i for i, names in enumerate(bound) if want in names and i != main]
        binding = binding or [i for i, names in enumerate(bound) if "*" in names and i != main]
        if not binding or chosen & set(binding):
            continue
        # As with the solution itself: the fullest, and of several the last.
        best = max(binding, key=lambda i: (bound[i].get(want, 0), i))
        chosen.add(best)
        missing |= _needed(blocks[best].tree) - bound[best].keys() - sought - {name}
    used = _loaded(blocks[main].tree)
    for i in range(main + 1, len(blocks)):  # helpers that a later block corrects
        corrected = {
            n.name for n in blocks[i].tree.body if isinstance(n, ast.FunctionDef) and _fullness(n, n.name) == 2
        }
        if (corrected - {name}) & used & bound[main].keys():
            chosen.add(i)
    at_once = _needed(blocks[main].tree, at_once=True)
    first = [i for i in sorted(chosen) if i < main or (i > main and bound[i].keys() & at_once)]
    last = [i for i in sorted(chosen) if i > main and i not in first]
    parts = [_without(blocks[i], name) for i in first], [blocks[main].code], [_without(blocks[i], name) for i in last]
    return "\n\n".join(part.strip("\n") for group in parts for part in group)


def _needed(tree: ast.Module, *, at_once: bool = False) -> set[str]:
    """Return the names that a module uses and nowhere binds; `at_once` only those used while it is loaded."""
    bound = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and not isinstance(n.ctx, ast.Load)}
    for node in ast.walk(tree):
        if isinstance(node, ast.stmt):
            bound |= _bound_by(node)
        elif isinstance(node, ast.arg):
            bound.add(node.arg)
        elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and node.name:
            bound.add(node.name)
        elif isinstance(node, ast.MatchMapping) and node.rest:
            bound.add(node.rest)
    used = set().union(*map(_loaded_at_once, tree.body)) if at_once else _loaded(tree)
    return used - bound - _BUILTIN


def _loaded(node: ast.AST) -> set[str]:
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}


def _loaded_at_once(node: ast.stmt) -> set[str]:
    """Return the names that a statement uses when it runs, function bodies aside."""
    found: set[str] = set()
    pending: list[ast.AST] = [node]
    while pending:
        one = pending.pop()
        if isinstance(one, _OUTSIDE):
            pending += [*one.args.defaults, *(d for d in one.args.kw_defaults if d)]
            pending += getattr(one, "decorator_list", [])
            continue
        if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Load):
            found.add(one.id)
        pending += ast.iter_child_nodes(one)
    return found


def _without(block: Block, name: str) -> str:
    """Return the block's code without the statements that bind or run `name`."""
    lines = block.code.split("\n")
    for node in reversed(block.tree.body):
        if name in _bound_by(node) or name in _loaded_at_once(node):
            decorators = getattr(node, "decorator_list", [])
            start = min([node.lineno, *(d.lineno for d in decorators)])
            del lines[start - 1 : node.end_lineno]
    return "\n".join(lines)


def is_prose(node: ast.stmt) -> bool:
    """Return True for text that happens to parse: `- first`, `Output: 42`, `Sorry`."""
    if isinstance(node, ast.Expr):
        return not isinstance(node.value, ast.Call | ast.Await | ast.Constant | ast.JoinedStr)
    return isinstance(node, ast.AnnAssign) and node.value is None


def is_code(node: ast.stmt) -> bool:
    """Return True for a statement that no word or two of prose could be."""
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Call | ast.Await)
    maybe = ast.Pass | ast.Return | ast.Break | ast.Continue | ast.Raise | ast.Delete
    return not is_prose(node) and not isinstance(node, maybe)
