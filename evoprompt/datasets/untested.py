"""Tells tests that can fail from those that pass whatever the solution does."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from typing import Final

Function = ast.FunctionDef | ast.AsyncFunctionDef

DEFINES: Final = "defines"
"""The reason of statements that do nothing but define."""


def why_untested(
    statements: Iterable[ast.stmt], functions: Mapping[str, Function], known: dict[str, str] | None = None
) -> str:
    """Return why no statement can fail; an empty text if one can, `DEFINES` if none does anything.

    Args:
        statements: Statements that run.
        functions: Functions of the test that they may call.
        known: Reasons of functions that were looked at already.

    Raises:
        ValueError: An assert of a tuple.
    """
    known = {} if known is None else known
    found = [_why(s, functions, known) for s in statements]
    return "" if "" in found else next((why for why in found if why != DEFINES), DEFINES)


def _why(statement: ast.stmt, functions: Mapping[str, Function], known: dict[str, str]) -> str:
    match statement:
        case ast.Assert(test=ast.Tuple(elts=[_, *_])):
            raise ValueError("asserts a tuple, which is always true: drop the brackets")
        case ast.Assert(test=ast.Constant(value=value)) if value:
            return f"asserts {value!r:.40}, which is always true"
        case ast.Assert(test=ast.Lambda() | ast.JoinedStr()):
            return "asserts what is always true"
        case ast.Expr(value=ast.Call(func=ast.Name(id="print"))):
            return "tests nothing: it prints; begin it with `assert`"
        case ast.Expr(value=ast.Call(func=ast.Name(id=name))) if name in functions:
            if name not in known:
                known[name] = DEFINES  # ends the recursion of a function that calls itself
                known[name] = why_untested(functions[name].body, functions, known)
            return f"tests nothing: {name!r} holds no assert" if known[name] == DEFINES else known[name]
        case ast.Assert() | ast.Raise() | ast.Expr(value=ast.Call() | ast.Await()):
            return ""
        case ast.Expr() if not is_idle(statement):
            return "tests nothing: begin it with `assert`"
        case ast.With(items=items) if any("raises" in ast.unparse(i.context_expr).lower() for i in items):
            return ""
        case ast.Try():
            return _why_try(statement, functions, known)
        case ast.If() | ast.For() | ast.AsyncFor() | ast.While() | ast.With() | ast.AsyncWith() | ast.Match():
            blocks = [statement, *getattr(statement, "cases", ())]
            parts = [getattr(b, name, []) for b in blocks for name in ("body", "orelse")]
            return why_untested([s for part in parts for s in part], functions, known)
    return DEFINES


def _why_try(statement: ast.Try, functions: Mapping[str, Function], known: dict[str, str]) -> str:
    why = why_untested(statement.body, functions, known)
    elsewhere = [s for h in statement.handlers for s in h.body] + statement.orelse + statement.finalbody
    if not why_untested(elsewhere, functions, known):
        return ""
    caught = [h.type for h in statement.handlers]
    names = [ast.unparse(e) for t in caught if t is not None for e in (t.elts if isinstance(t, ast.Tuple) else [t])]
    swallows = None in caught or any(n in ("AssertionError", "Exception", "BaseException") for n in names)
    return "tests nothing: its `except` swallows what its asserts raise" if swallows and not why else why


def is_idle(statement: ast.stmt) -> bool:
    """True if a statement does nothing at all: a docstring, `pass`, a name on a line of its own."""
    return isinstance(statement, ast.Pass) or (
        isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant | ast.Name)
    )
