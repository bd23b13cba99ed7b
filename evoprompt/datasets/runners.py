"""Tests that a runner would find: functions and classes of pytest and `unittest`, each with the call that runs it."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Test:
    """One test of a runner.

    Attributes:
        node: The function or class that holds it.
        body: What it does.
        text: Its source.
        call: What runs it; empty where the source does that itself.
    """

    __test__ = False

    node: ast.stmt
    body: list[ast.stmt]
    text: str
    call: str

    def source(self, shared: Sequence[str]) -> str:
        """The whole test: what it shares with others, itself, its call."""
        return "\n".join([*shared, self.text, *([self.call] if self.call else [])])


def collect(body: Iterable[ast.stmt], reached: set[str]) -> list[Test]:
    """Tests among the statements at the top level of a source that nothing there runs.

    Args:
        body: The statements.
        reached: Names that are called already.

    Raises:
        ValueError: One needs what only pytest has: a fixture, a decorator. One line.
    """
    found: list[Test] = []
    for node in body:
        match node:
            case ast.FunctionDef(name=name) if name.startswith("test") and name not in reached:
                found.append(_function(node))
            case ast.AsyncFunctionDef(name=name) if name.startswith("test") and name not in reached:
                raise ValueError(f"{name!r} is an async test of pytest: write it as plain asserts")
            case ast.ClassDef(name=name) if name not in reached:
                found += _class(node)
    return found


def is_main_call(statement: ast.stmt) -> bool:
    """Whether a statement starts a runner: `unittest.main()`, `sys.exit(pytest.main([…]))`."""
    if not isinstance(statement, ast.Expr):
        return False
    calls = [ast.unparse(n.func) for n in ast.walk(statement) if isinstance(n, ast.Call)]
    return any(c in ("unittest.main", "pytest.main", "main", "doctest.testmod") for c in calls)


def _function(node: ast.FunctionDef) -> Test:
    plain = [a.arg for a in (*node.args.posonlyargs, *node.args.args)]
    needed = plain[: len(plain) - len(node.args.defaults)]
    call = f"{node.name}()"
    for decorator in node.decorator_list:
        names, values = _parametrized(node.name, decorator)
        needed = [n for n in needed if n not in names]
        star = "*" if len(names) > 1 else ""
        if len(node.decorator_list) > 1:
            raise ValueError(f"{node.name!r} has several decorators of pytest: write it as plain asserts")
        call = f"for _case in {values}:\n    {node.name}({star}_case)"
    if needed:
        raise ValueError(f"{node.name!r} needs the pytest fixture {needed[0]!r}: write it as plain asserts")
    if not node.decorator_list and all(isinstance(s, ast.Assert) for s in node.body):
        return Test(node, node.body, "\n".join(map(ast.unparse, node.body)), "")
    bare = ast.FunctionDef(node.name, node.args, node.body, [], node.returns, lineno=node.lineno)
    return Test(node, node.body, ast.unparse(bare), call)


def _parametrized(test: str, decorator: ast.expr) -> tuple[list[str], str]:
    match decorator:
        case ast.Call(func=function, args=[names, values, *_]) if ast.unparse(function).endswith("mark.parametrize"):
            text = ast.unparse(values)
            if "pytest.param" not in text:
                return _parameter_names(test, names), text
    raise ValueError(f"{test!r} is decorated with {ast.unparse(decorator)[:60]!r}: write it as plain asserts")


def _parameter_names(test: str, names: ast.expr) -> list[str]:
    match names:
        case ast.Constant(value=str() as text):
            return [n.strip() for n in text.split(",") if n.strip()]
        case ast.List(elts=elements) | ast.Tuple(elts=elements):
            return [str(e.value) for e in elements if isinstance(e, ast.Constant)]
    raise ValueError(f"{test!r} names its parameters by an expression: write it as plain asserts")


def _class(node: ast.ClassDef) -> Iterator[Test]:
    methods: dict[str, ast.FunctionDef | ast.AsyncFunctionDef] = {
        m.name: m for m in node.body if isinstance(m, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    tests = [n for n in methods if n.startswith("test")]
    unittest = any(ast.unparse(b).endswith("TestCase") for b in node.bases)
    if not tests or not (unittest or node.name.startswith("Test")):
        return
    text = ast.unparse(node)
    for name in tests:
        if unittest:
            before = f"{node.name}.setUpClass()\n" if "setUpClass" in methods else ""
            yield Test(node, methods[name].body, text, f"{before}{node.name}({name!r}).debug()")
            continue
        needed = [a.arg for a in methods[name].args.args[1:]]
        method = methods[name]
        if needed or method.decorator_list or not isinstance(method, ast.FunctionDef):
            what = f"fixture {needed[0]!r}" if needed else "runner"
            raise ValueError(f"'{node.name}.{name}' needs the pytest {what}: write it as plain asserts")
        lines = [f"_case = {node.name}()"]
        if "setup_method" in methods:
            lines.append(f"_case.setup_method({'None' if len(methods['setup_method'].args.args) > 1 else ''})")
        yield Test(node, methods[name].body, text, "\n".join([*lines, f"_case.{name}()"]))
