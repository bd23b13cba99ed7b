"""Turns the source of a task's test into sources that call what they define.

People keep tests as `def check(candidate)`, as pytest functions, as `unittest` classes or below `if __name__ ==
"__main__"`. Run as they stand, these define something and pass whatever the solution does. A test that can't fail is
refused by name. Nothing is executed.
"""

from __future__ import annotations

import ast
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from evoprompt.datasets.runners import RunnerTest, collect, is_main_call
from evoprompt.datasets.untested import DEFINES, Function, is_idle, why_untested
from evoprompt.tasks import parse_python

_MAIN_GUARD: Final = re.compile(r"""^if\s+\(?__name__\s*==\s*["']__main__["']\)?\s*:""", re.M)
_LONG_LITERAL: Final = re.compile(r"^([ \t]*\w+[ \t]*=[ \t]*)[\[({].{2000,}[\])}][ \t]*$", re.M)
_SOLUTION_MODULES: Final = frozenset((
    "answer", "candidate", "code", "main", "module", "program", "solution", "solutions", "submission",
    "your_module",
))  # fmt: skip
_DEEP: Final = "the test is nested too deeply"

Import = ast.Import | ast.ImportFrom
Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def parse(source: str) -> ast.Module:
    """Parse a source.

    Raises:
        ValueError: It is no Python; the reason in one line. The cause is a SyntaxError where there is one.
    """
    try:
        return parse_python(source)
    except SyntaxError as e:
        raise ValueError(e.msg) from e
    except (ValueError, RecursionError, MemoryError) as e:
        raise ValueError(str(e).splitlines()[0] if str(e) else type(e).__name__) from e


@dataclass
class TestSource:
    """A test, parsed once.

    Attributes:
        text: The source; the block below its main guard runs.
        body: Statements at the top level, those below the main guard included.
        functions: Functions defined there, by name.
        called: Number of calls of each name, anywhere.
    """

    __test__ = False  # pytest must not collect it

    text: str
    body: list[ast.stmt]
    functions: dict[str, Function]
    called: Counter[str]

    @classmethod
    def parse(cls, source: str) -> TestSource:
        """Parse a test.

        Long literals are left out of the tree: parsing the inputs of one HumanEval+ task takes a second.

        Raises:
            ValueError: It is no Python. One line.
        """
        text = _MAIN_GUARD.sub("if True:", source.replace("\r\n", "\n"))
        try:
            tree = parse(_LONG_LITERAL.sub(r"\1[]", text))
            calls = [n.func for n in ast.walk(tree) if isinstance(n, ast.Call)]
        except RecursionError as e:
            raise ValueError(_DEEP) from e
        except ValueError as e:
            line = f" (line {e.__cause__.lineno})" if isinstance(e.__cause__, SyntaxError) else ""
            raise ValueError(f"the test does not parse: {e}{line}") from e
        body = list(_top_level(tree.body))
        functions = {s.name: s for s in body if isinstance(s, Function)}
        return cls(text, body, functions, Counter(f.id for f in calls if isinstance(f, ast.Name)))

    @property
    def only_sets_names(self) -> bool:
        """True if the test only sets names, for a test that comes after it."""
        return all(isinstance(s, ast.Assign | ast.AnnAssign | ast.AugAssign | Import) for s in self.body)

    @property
    def given(self) -> str:
        """Source of the argument that the test itself hands to its `check`; empty if nothing calls that."""
        return next((ast.unparse(given) for _, given in self._check_calls()), "")

    @property
    def waits(self) -> str:
        """Name of a function such as `check(candidate)` that nothing here calls; empty if there is none."""
        takes = {name: _parameters(f) for name, f in self.functions.items()}
        checks = [n for n, of in takes.items() if len(of) == 1 and (n == "check" or of[0] == "candidate")]
        reached = self._reached() if checks else set()
        return next((n for n in checks if n not in reached), "")

    @property
    def uses_candidate(self) -> bool:
        """False if the function that waits for the solution ignores its parameter."""
        function = self.functions.get(self.waits)
        if function is None:
            return True
        parameter = _parameters(function)[0]
        return any(isinstance(n, ast.Name) and n.id == parameter for s in function.body for n in ast.walk(s))

    def sources(self, call: str, provided: frozenset[str]) -> tuple[list[str], str]:
        """Take the test apart.

        Args:
            call: The solution as the tests call it: `f`, or `Solution().f`.
            provided: Names that a solution provides.

        Returns:
            Sources that test something when they run, and the source of helpers that runs before them.

        Raises:
            ValueError: It tests nothing, or it needs a runner that is not here. One line.
        """
        try:
            return self._sources(call, provided)
        except RecursionError as e:
            raise ValueError(_DEEP) from e

    def _sources(self, call: str, provided: frozenset[str]) -> tuple[list[str], str]:
        self._drop_imports_of_the_solution(provided)
        check, given = self.waits, ast.parse(call or "candidate", mode="eval").body
        calls = [] if check else list(self._check_calls())
        if len(calls) == 1 and not self._running(besides=calls[0][0]):
            calls_itself, given = calls[0]
        else:
            calls_itself = ""
        taken = self._asserts_of(check or calls_itself, given, provided) if check or calls_itself else None
        if taken is not None:
            return taken
        if check:
            self._refuse_untested(self._running(), check=check)
            run = f"{check}({call})"
            if isinstance(self.functions[check], ast.AsyncFunctionDef):
                run = f"import asyncio\nasyncio.run({run})"
            return [f"{self.text.rstrip()}\n\n{run}\n"], ""
        running, tests = self._running(), collect(self.body, self._reached())
        if not tests:
            self._refuse_untested(running)
            return [self.text], ""
        for test in tests:
            why = why_untested(test.body, self.functions)
            if why:
                raise ValueError("tests nothing: it holds no assert" if why == DEFINES else why)
        shared = self._shared(tests)
        sources = ["\n".join([*shared, t.text]) for t in tests]
        if running and not why_untested(running, self.functions):
            sources.insert(0, "\n".join([*shared, *map(ast.unparse, running)]))
        return sources, ""

    def _asserts_of(self, name: str, given: ast.expr, provided: frozenset[str]) -> tuple[list[str], str] | None:
        """One source for each assert of a check that holds only asserts; None if it holds more."""
        check = self.functions[name]
        body = [s for s in check.body if not is_idle(s)]
        imports = [s for s in (*self.body, *body) if isinstance(s, Import)]
        asserts = [s for s in body if isinstance(s, ast.Assert)]
        calling = set(self._callers_of(name))
        helpers = [s for s in self.body if isinstance(s, Definition) and s is not check and s.name not in calling]
        parameter = _parameters(check)[0]
        if (
            not asserts
            or not all(isinstance(s, ast.Assert | Import) for s in body)
            or isinstance(check, ast.AsyncFunctionDef)
            or not all(isinstance(s, Definition | Import | ast.Expr) for s in self.body)
            or not _may_stand_for(given, check)
            or any(h.name in provided for h in helpers)
            or any(_binds(s, parameter) for s in asserts)
        ):
            return None
        self._refuse_untested(asserts)
        lines, tests = self.text.split("\n"), []
        for statement in asserts:
            text = _renamed(statement, parameter, given, lines)
            used = {n.id for n in ast.walk(statement) if isinstance(n, ast.Name)} | {"*"}
            tests.append("\n".join([*(ast.unparse(i) for i in imports if _bound(i) & used), text]))
        return tests, "\n".join(map(ast.unparse, (*imports, *helpers))) if helpers else ""

    def _check_calls(self) -> Iterator[tuple[str, ast.expr]]:
        """Calls `check(f)` at the top level, or in a function without parameters that is called there."""
        statements = list(self.body)
        for statement in self.body:
            function = self.functions.get(_called_plainly(statement))
            if function is not None and not _parameters(function):
                statements += function.body
        for statement in statements:
            name = _called_plainly(statement)
            if name in self.functions and len(_parameters(self.functions[name])) == 1:
                arguments = statement.value.args  # type: ignore[attr-defined]
                if len(arguments) == 1:
                    yield name, arguments[0]

    def _callers_of(self, name: str) -> Iterator[str]:
        for caller, function in self.functions.items():
            if caller != name and all(_called_plainly(s) == name or is_idle(s) for s in function.body):
                yield caller

    def _running(self, besides: str = "") -> list[ast.stmt]:
        """Statements that do something when the test runs, without calls of the check `besides`."""
        skipped = {besides, *self._callers_of(besides)} if besides else set()
        return [
            s
            for s in self.body
            if not isinstance(s, Definition | Import | ast.Assign | ast.AnnAssign)
            and not is_idle(s)
            and not is_main_call(s)
            and not (skipped and _called_plainly(s) in skipped)
        ]

    def _reached(self) -> set[str]:
        """Names that running statements refer to, directly or through functions."""
        found: set[str] = set()
        work: list[ast.AST] = [s for s in self.body if not isinstance(s, Definition) and not is_main_call(s)]
        while work:
            for node in ast.walk(work.pop()):
                if isinstance(node, ast.Name) and node.id not in found:
                    found.add(node.id)
                    if node.id in self.functions:
                        work.append(self.functions[node.id])
        return found

    def _shared(self, tests: Sequence[RunnerTest]) -> list[str]:
        """Sources of imports, helpers and constants beside the tests."""
        taken = {t.node for t in tests}
        kinds = Definition | Import | ast.Assign | ast.AnnAssign
        texts = [ast.unparse(s) for s in self.body if s not in taken and isinstance(s, kinds)]
        asked = any("pytest." in t for t in (*texts, *(t.text for t in tests)))
        return [t for t in texts if asked or t != "import pytest"]  # pytest may be missing where a solution runs

    def _drop_imports_of_the_solution(self, provided: frozenset[str]) -> None:
        """`from solution import f` finds no module: the solution is in the test's own namespace."""
        lines = self.text.split("\n")
        for s in [s for s in self.body if isinstance(s, ast.ImportFrom) and _is_of_solution(s, provided)]:
            self.body.remove(s)
            end = s.end_lineno or s.lineno
            lines[s.lineno - 1 : end] = [""] * (end - s.lineno + 1)
        self.text = "\n".join(lines)

    def _refuse_untested(self, statements: Iterable[ast.stmt], check: str = "") -> None:
        """Refuse statements, and the body of a check that waits, of which none can fail."""
        why = why_untested([*(self.functions[check].body if check else ()), *statements], self.functions)
        if why == DEFINES:
            names = ", ".join(repr(s.name) for s in [s for s in self.body if isinstance(s, Definition)][:3])
            why = "tests nothing: begin it with `assert`"
            if check:
                why = f"tests nothing: {check!r} holds no assert"
            elif names:
                why = f"tests nothing: it defines {names}, and nothing calls that"
        if why:
            raise ValueError(why)


def _top_level(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    for statement in body:
        match statement:
            case ast.If(test=ast.Constant(value=True), body=inner):
                yield from inner
            case ast.Assign(targets=[ast.Name(id="METADATA")], value=ast.Dict()):
                pass
            case _:
                yield statement


def _called_plainly(statement: ast.stmt) -> str:
    """The `f` of a statement `f(…)`, or an empty text."""
    match statement:
        case ast.Expr(value=ast.Call(func=ast.Name(id=name), keywords=[])):
            return name
    return ""


def _parameters(function: Function) -> list[str]:
    """Parameters that a caller has to give."""
    plain = [a.arg for a in (*function.args.posonlyargs, *function.args.args)]
    return plain[: len(plain) - len(function.args.defaults)]


def _may_stand_for(given: ast.expr, check: Function) -> bool:
    """True if the argument of a check may replace its only parameter: it is the same each time it is evaluated."""
    arguments = check.args
    if len(arguments.posonlyargs + arguments.args + arguments.kwonlyargs) != 1 or arguments.vararg or arguments.kwarg:
        return False
    match given:
        case ast.Attribute(value=ast.Call(func=ast.Name(), args=[], keywords=[])):  # `Solution().f`
            return True
    while isinstance(given, ast.Attribute):
        given = given.value
    return isinstance(given, ast.Name | ast.Constant)


def _binds(statement: ast.AST, name: str) -> bool:
    return any(
        (isinstance(n, ast.Name) and n.id == name and not isinstance(n.ctx, ast.Load))
        or (isinstance(n, ast.arg) and n.arg == name)
        for n in ast.walk(statement)
    )


def _bound(statement: Import) -> set[str]:
    """Names that an import binds."""
    return {(a.asname or a.name).partition(".")[0] for a in statement.names}


def _is_of_solution(statement: ast.ImportFrom, provided: frozenset[str]) -> bool:
    module = (statement.module or "").partition(".")[0]
    if statement.level == 0 and module in sys.stdlib_module_names:
        return False
    if any(a.name == "*" for a in statement.names):
        return statement.level > 0 or module in _SOLUTION_MODULES
    return all(a.name in provided and a.asname is None for a in statement.names)


class _Rename(ast.NodeTransformer):
    def __init__(self, name: str, given: ast.expr) -> None:
        self.name, self.given = name, given

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return self.given if node.id == self.name else node


def _renamed(statement: ast.Assert, name: str, given: ast.expr, lines: Sequence[str]) -> str:
    """The source of an assert with `given` for a parameter; one on a single line keeps its spelling."""
    line = lines[statement.lineno - 1]
    nodes = list(ast.walk(statement))
    whole = statement.lineno == statement.end_lineno and line.isascii()
    if not whole or any(isinstance(n, ast.JoinedStr) for n in nodes):
        return ast.unparse(_Rename(name, given).visit(statement))
    text, new = line[: statement.end_col_offset], ast.unparse(given)
    for column in sorted({n.col_offset for n in nodes if isinstance(n, ast.Name) and n.id == name}, reverse=True):
        text = text[:column] + new + text[column + len(name) :]
    return text[statement.col_offset :]
