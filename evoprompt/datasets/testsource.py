"""Reads the source of a task's test: what in it runs, what can fail, and the calls that it leaves to a test runner.

People keep tests as `def check(candidate)`, as pytest functions, as `unittest` classes or below `if __name__ ==
"__main__"`. Run as they stand these define something and pass whatever the solution does. Here each becomes sources
that call what they define; what can't fail is refused by name. Nothing is executed.
"""

from __future__ import annotations

import ast
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from evoprompt.datasets import runners
from evoprompt.datasets.untested import DEFINES, Function, is_idle, why_untested
from evoprompt.tasks import parse_python

_MAIN_GUARD: Final = re.compile(r"""^if\s+\(?__name__\s*==\s*["']__main__["']\)?\s*:""", re.M)
_LONG_LITERAL: Final = re.compile(r"^([ \t]*\w+[ \t]*=[ \t]*)[\[({].{2000,}[\])}][ \t]*$", re.M)
_SOLUTION_MODULES: Final = frozenset(
    ("answer", "candidate", "code", "main", "module", "program", "solution", "solutions", "submission", "your_module")
)

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


@dataclass(frozen=True)
class Sources:
    """What one test becomes.

    Attributes:
        tests: Sources that test something when they run.
        setup: Helpers of theirs that run before them.
    """

    tests: tuple[str, ...]
    setup: str = ""


@dataclass
class TestSource:
    """A test, parsed once.

    Attributes:
        text: The source, with a main guard that lets its block run.
        body: What it does at the top level; the block of a main guard counts as that.
        functions: Functions that it defines there, by name.
    """

    __test__ = False  # no test of pytest's

    text: str
    body: list[ast.stmt]
    functions: dict[str, Function]
    called: Counter[str] = field(default_factory=Counter)

    @classmethod
    def parse(cls, source: str) -> TestSource:
        """Parse a test.

        Long literals are left out of the tree: to parse the inputs of one HumanEval+ task takes a second.

        Raises:
            ValueError: It is no Python. One line.
        """
        text = _MAIN_GUARD.sub("if True:", source.replace("\r\n", "\n"))
        try:
            tree = parse_python(_LONG_LITERAL.sub(r"\1[]", text))
        except SyntaxError as e:
            raise ValueError(f"the test does not parse: {e.msg} (line {e.lineno})") from e
        except (ValueError, RecursionError, MemoryError) as e:
            reason = str(e).splitlines()[0] if str(e) else type(e).__name__
            raise ValueError(f"the test does not parse: {reason}") from e
        body = list(_top_level(tree.body))
        functions = {s.name: s for s in body if isinstance(s, Function)}
        try:
            called = Counter(
                n.func.id for n in ast.walk(tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)
            )
        except RecursionError as e:
            raise ValueError("the test is nested too deeply") from e
        return cls(text, body, functions, called)

    @property
    def leads(self) -> bool:
        """Whether it only sets names, for a test that comes after it."""
        kinds = ast.Assign | ast.AnnAssign | ast.AugAssign | ast.Import | ast.ImportFrom
        return all(isinstance(s, kinds) for s in self.body)

    @property
    def checks(self) -> str:
        """What the test itself gives to its `check`, as source; empty where nothing calls that."""
        return next((ast.unparse(given) for _, given in self._check_calls()), "")

    @property
    def waits(self) -> str:
        """Name of a function such as `check(candidate)` that nothing here calls; empty when there is none."""
        reached = self._reached()
        for name, function in self.functions.items():
            parameters = _parameters(function)
            if name not in reached and len(parameters) == 1 and (name == "check" or parameters[0] == "candidate"):
                return name
        return ""

    def sources(self, call: str, provided: frozenset[str]) -> Sources:
        """Take the test apart.

        Args:
            call: How the solution is called: `f`, or `Solution().f`.
            provided: Names that a solution provides.

        Raises:
            ValueError: It tests nothing, or it needs a runner that is not here. One line.
        """
        try:
            return self._sources(call, provided)
        except RecursionError as e:
            raise ValueError("the test is nested too deeply") from e

    def _sources(self, call: str, provided: frozenset[str]) -> Sources:
        self._drop_imports_of_the_solution(provided)
        name = self.waits
        given: ast.expr = ast.parse(call, mode="eval").body if call else ast.Name("candidate", ast.Load())
        if not name:
            found = list(self._check_calls())
            if len(found) == 1 and not self._running(besides=found[0][0]):
                check, given = found[0]
                taken = self._asserts_of(check, given, provided)
                if taken is not None:
                    return taken
        if name:
            taken = self._asserts_of(name, given, provided)
            if taken is not None:
                return taken
            self._refuse_untested([self.functions[name], *self._running()], reached={name})
            run = (
                f"import asyncio\nasyncio.run({name}({call}))" if _is_async(self.functions[name]) else f"{name}({call})"
            )
            return Sources((f"{self.text.rstrip()}\n\n{run}\n",))
        tests = runners.collect(self.body, self._reached())
        running = self._running()
        if not tests:
            self._refuse_untested(running)
            return Sources((self.text,))
        shared = self._shared(tests)
        for test in tests:
            why = why_untested(test.body, self.functions)
            if why:
                raise ValueError("tests nothing: it holds no assert" if why == DEFINES else why)
        sources = [t.source(shared) for t in tests]
        if running and not why_untested(running, self.functions):
            sources.insert(0, "\n".join([*shared, *map(ast.unparse, running)]))
        return Sources(tuple(sources))

    def _asserts_of(self, name: str, given: ast.expr, provided: frozenset[str]) -> Sources | None:
        """One source for each assert of a check that holds asserts only; None where it holds more."""
        check = self.functions[name]
        body = [s for s in check.body if not is_idle(s)]
        imports = [s for s in (*self.body, *body) if isinstance(s, ast.Import | ast.ImportFrom)]
        asserts = [s for s in body if isinstance(s, ast.Assert)]
        calling = set(self._callers_of(name))
        helpers = [s for s in self.body if isinstance(s, Definition) and s is not check and s.name not in calling]
        others = [s for s in self.body if not isinstance(s, Definition | ast.Import | ast.ImportFrom | ast.Expr)]
        parameter = _parameters(check)[0]
        if (
            not asserts
            or len(asserts) + sum(isinstance(s, ast.Import | ast.ImportFrom) for s in body) != len(body)
            or isinstance(check, ast.AsyncFunctionDef)
            or others
            or not _may_stand_for(given, check)
            or any(h.name in provided for h in helpers)
            or any(_binds(s, parameter) for s in asserts)
        ):
            return None
        self._refuse_untested(asserts)
        lines = self.text.split("\n")
        tests = []
        for statement in asserts:
            text = _renamed(statement, parameter, given, lines)
            used = {n.id for n in ast.walk(statement) if isinstance(n, ast.Name)}
            needed = [ast.unparse(i) for i in imports if _bound(i) & used or "*" in _bound(i)]
            tests.append("\n".join([*needed, text]))
        setup = [ast.unparse(s) for s in (*imports, *helpers)] if helpers else []
        return Sources(tuple(tests), "\n".join(setup))

    def _check_calls(self) -> Iterator[tuple[str, ast.expr]]:
        """Calls `check(f)` at the top level or in a function `test_check()` that is called there."""
        statements = list(self.body)
        for statement in list(statements):
            function = self.functions.get(_plain_call(statement))
            if function is not None and not _parameters(function):
                statements += function.body
        for statement in statements:
            name = _plain_call(statement)
            if name in self.functions and len(_parameters(self.functions[name])) == 1:
                value = statement.value.args  # type: ignore[attr-defined]
                if len(value) == 1:
                    yield name, value[0]

    def _callers_of(self, name: str) -> Iterator[str]:
        for caller, function in self.functions.items():
            if caller != name and all(_plain_call(s) == name or is_idle(s) for s in function.body):
                yield caller

    def _running(self, besides: str = "") -> list[ast.stmt]:
        """Statements that do something when the test runs; `besides`: but for calls of that check."""
        skipped = {besides, *self._callers_of(besides)} if besides else set()
        return [
            s
            for s in self.body
            if not isinstance(s, Definition | ast.Import | ast.ImportFrom | ast.Assign | ast.AnnAssign)
            and not is_idle(s)
            and not (skipped and _plain_call(s) in skipped)
            and not runners.is_main_call(s)
        ]

    def _reached(self) -> set[str]:
        """Functions and classes that what runs refers to, directly or through one another."""
        found: set[str] = set()
        work: list[ast.AST] = [s for s in self.body if not isinstance(s, Definition) and not runners.is_main_call(s)]
        while work:
            for node in ast.walk(work.pop()):
                if isinstance(node, ast.Name) and node.id not in found:
                    found.add(node.id)
                    if node.id in self.functions:
                        work.append(self.functions[node.id])
        return found

    def _shared(self, tests: Sequence[runners.Test]) -> list[str]:
        """Imports, helpers and constants beside the tests."""
        taken = {t.node for t in tests}
        kept = [
            s
            for s in self.body
            if s not in taken
            and isinstance(s, Definition | ast.Import | ast.ImportFrom | ast.Assign | ast.AnnAssign)
            and not is_idle(s)
        ]
        texts = [*map(ast.unparse, kept)]
        asked = any("pytest." in t for t in (*texts, *(t.text for t in tests)))
        return [t for t in texts if asked or t != "import pytest"]  # it may not be there where a solution runs

    def _drop_imports_of_the_solution(self, provided: frozenset[str]) -> None:
        """`from solution import f` finds no module: the solution is in the test's own namespace."""
        lines = self.text.split("\n")
        for s in [s for s in self.body if isinstance(s, ast.ImportFrom) and _is_of_solution(s, provided)]:
            self.body.remove(s)
            lines[s.lineno - 1 : s.end_lineno] = [""] * ((s.end_lineno or s.lineno) - s.lineno + 1)
        self.text = "\n".join(lines)

    def _refuse_untested(self, statements: Iterable[ast.stmt], reached: set[str] | None = None) -> None:
        statements = [
            inner
            for s in statements
            for inner in (s.body if reached and _name(s) in reached else [s])  # type: ignore[attr-defined]
        ]
        why = why_untested(statements, self.functions)
        if why == DEFINES and reached:
            raise ValueError(f"tests nothing: {', '.join(map(repr, reached))} holds no assert")
        if why == DEFINES:
            names = [s.name for s in self.body if isinstance(s, Definition)]
            if names:
                raise ValueError(f"tests nothing: it defines {', '.join(map(repr, names[:3]))}, and nothing calls that")
            raise ValueError("tests nothing: begin it with `assert`")
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


def _is_async(function: ast.stmt) -> bool:
    return isinstance(function, ast.AsyncFunctionDef)


def _plain_call(statement: ast.stmt) -> str:
    """The `f` of a statement `f(…)`, or an empty text."""
    match statement:
        case ast.Expr(value=ast.Call(func=ast.Name(id=name), keywords=[])):
            return name
    return ""


def _name(statement: ast.stmt) -> str:
    return statement.name if isinstance(statement, Definition) else ""


def _parameters(function: Function) -> list[str]:
    """Parameters that a caller has to give."""
    plain = [a.arg for a in (*function.args.posonlyargs, *function.args.args)]
    return plain[: len(plain) - len(function.args.defaults)]


def _may_stand_for(given: ast.expr, check: Function) -> bool:
    """Whether what a check is given may stand in its asserts for its parameter, and it has no other."""
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


def _bound(statement: ast.stmt) -> set[str]:
    """Names that an import binds."""
    names = statement.names if isinstance(statement, ast.Import | ast.ImportFrom) else []
    return {(a.asname or a.name).partition(".")[0] for a in names}


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
    """The source of an assert with `given` for a parameter's name: as it was written where it is one line."""
    line = lines[statement.lineno - 1]
    if statement.lineno == statement.end_lineno and line.isascii():
        nodes = list(ast.walk(statement))
        if not any(isinstance(n, ast.JoinedStr) for n in nodes):
            text, new = line[: statement.end_col_offset], ast.unparse(given)
            at = sorted({n.col_offset for n in nodes if isinstance(n, ast.Name) and n.id == name}, reverse=True)
            for column in at:
                text = text[:column] + new + text[column + len(name) :]
            return text[statement.col_offset :]
    return ast.unparse(_Rename(name, given).visit(statement))
