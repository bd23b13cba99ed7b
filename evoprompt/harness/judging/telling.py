"""Removes from a reported exception everything that a solution can choose while it runs.

The process of a solution says what was raised and where, and a solution may say anything in its place, also what it
has read of a hidden test. So a name is kept only if it is Python's own or stands in the source, and a line only if a
statement stands there.
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from evoprompt.harness.judging.report import Case, SuiteResult
from evoprompt.tasks import parse_python

_BUILT_IN: Final = frozenset(
    name for name, value in vars(builtins).items() if isinstance(value, type) and issubclass(value, BaseException)
)
_REMEMBERED = 256


def sanitised(result: SuiteResult, solution: str) -> SuiteResult:
    """The same result with `exception` and `line` of its cases as far as they can be told.

    Args:
        result: What was found.
        solution: The source that was judged.
    """
    cases = tuple(_sanitised(case, solution) if case.exception or case.line else case for case in result.cases)
    return result.model_copy(update={"cases": cases})


def _sanitised(case: Case, solution: str) -> Case:
    if case.status == "invalid":  # the compiler speaks, before anything of the solution has run
        return case
    source = _source(solution)
    name = case.exception if case.exception in _BUILT_IN or case.exception in source.names else ""
    return case.model_copy(update={"exception": name, "line": source.statement(case.line)})


@dataclass(frozen=True)
class _Source:
    """The identifiers of a source, and the first and last lines of its statements."""

    names: frozenset[str] = frozenset()
    statements: tuple[tuple[int, int], ...] = ()

    def statement(self, line: int) -> int:
        """The line where the innermost statement around a line begins; 0 for none."""
        return max((first for first, last in self.statements if first <= line <= last), default=0)


@lru_cache(maxsize=_REMEMBERED)
def _source(solution: str) -> _Source:
    try:
        nodes = list(ast.walk(parse_python(solution)))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return _Source()
    statements = {(n.lineno, n.end_lineno or n.lineno) for n in nodes if isinstance(n, ast.stmt)}
    return _Source(frozenset(name for node in nodes for name in _names(node)), tuple(statements))


def _names(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            yield name
        case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
            yield name
        case ast.alias(name=name, asname=other):
            yield from name.split(".")
            if other:
                yield other
