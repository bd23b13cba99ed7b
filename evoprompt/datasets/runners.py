"""Finds the tests that pytest or `unittest` would run, and writes down the calls that run them."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from typing import NamedTuple


class RunnerTest(NamedTuple):
    """One test of a runner.

    Attributes:
        node: The function or class that holds it.
        body: Its statements.
        text: Its source, with the call that runs it.
    """

    node: ast.stmt
    body: list[ast.stmt]
    text: str


def collect(body: Iterable[ast.stmt], reached: set[str]) -> list[RunnerTest]:
    """Collect tests among the statements at the top level of a source.

    Args:
        body: The statements.
        reached: Names that are called already.

    Raises:
        ValueError: A test needs what only pytest has: a fixture, a decorator. One line.
    """
    found: list[RunnerTest] = []
    for node in body:
        match node:
            case ast.FunctionDef(name=name) if name.startswith("test") and name not in reached:
                found.append(_function(node))
            case ast.AsyncFunctionDef(name=name) if name.startswith("test") and name not in reached:
                raise _needs(name, "is an async test of pytest")
            case ast.ClassDef(name=name) if name not in reached:
                found += _class(node)
    return found


def is_main_call(statement: ast.stmt) -> bool:
    """True if a statement starts a runner: `unittest.main()`, `sys.exit(pytest.main([…]))`."""
    if not isinstance(statement, ast.Expr):
        return False
    calls = [ast.unparse(n.func) for n in ast.walk(statement) if isinstance(n, ast.Call)]
    return any(c in ("unittest.main", "pytest.main", "main", "doctest.testmod") for c in calls)


def _needs(name: str, what: str) -> ValueError:
    return ValueError(f"{name!r} {what}: write it as plain asserts")


def _function(node: ast.FunctionDef) -> RunnerTest:
    plain = [a.arg for a in (*node.args.posonlyargs, *node.args.args)]
    needed = plain[: len(plain) - len(node.args.defaults)]
    call = f"{node.name}()"
    for decorator in node.decorator_list:
        names, values = _parametrized(node.name, decorator)
        needed = [n for n in needed if n not in names]
        if len(node.decorator_list) > 1:
            raise _needs(node.name, "has several decorators of pytest")
        call = f"for _case in {values}:\n    {node.name}({'*' if len(names) > 1 else ''}_case)"
    if needed:
        raise _needs(node.name, f"needs the pytest fixture {needed[0]!r}")
    if not node.decorator_list and all(isinstance(s, ast.Assert) for s in node.body):
        return RunnerTest(node, node.body, "\n".join(map(ast.unparse, node.body)))
    bare = ast.FunctionDef(node.name, node.args, node.body, [], node.returns, lineno=node.lineno)
    return RunnerTest(node, node.body, f"{ast.unparse(bare)}\n{call}")


def _parametrized(test: str, decorator: ast.expr) -> tuple[list[str], str]:
    """Names of the parameters that a `parametrize` gives, and the source of their values."""
    match decorator:
        case ast.Call(func=function, args=[names, values, *_]) if ast.unparse(function).endswith("mark.parametrize"):
            text = ast.unparse(values)
            match names:
                case _ if "pytest.param" in text:
                    pass
                case ast.Constant(value=str() as joined):
                    return [n.strip() for n in joined.split(",") if n.strip()], text
                case ast.List(elts=elements) | ast.Tuple(elts=elements):
                    return [str(e.value) for e in elements if isinstance(e, ast.Constant)], text
                case _:
                    raise _needs(test, "names its parameters by an expression")
    raise _needs(test, f"is decorated with {ast.unparse(decorator)[:60]!r}")


def _class(node: ast.ClassDef) -> Iterator[RunnerTest]:
    methods = {m.name: m for m in node.body if isinstance(m, ast.FunctionDef | ast.AsyncFunctionDef)}
    unittest = any(ast.unparse(b).endswith("TestCase") for b in node.bases)
    if not (unittest or node.name.startswith("Test")):
        return
    for name, method in methods.items():
        if not name.startswith("test"):
            continue
        if unittest:
            lines = [f"{node.name}.setUpClass()"] if "setUpClass" in methods else []
            lines.append(f"{node.name}({name!r}).debug()")
        else:
            needed = [a.arg for a in method.args.args[1:]]
            if needed or method.decorator_list or not isinstance(method, ast.FunctionDef):
                what = f"fixture {needed[0]!r}" if needed else "runner"
                raise _needs(f"{node.name}.{name}", f"needs the pytest {what}")
            lines = [f"_case = {node.name}()", f"_case.{name}()"]
            if "setup_method" in methods:
                lines.insert(1, f"_case.setup_method({'None' if len(methods['setup_method'].args.args) > 1 else ''})")
        yield RunnerTest(node, method.body, "\n".join([ast.unparse(node), *lines]))
