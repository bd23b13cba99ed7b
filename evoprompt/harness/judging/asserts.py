"""Reads tests: which are a call and a literal to compare with, and which have to run as they are written.

Nothing is executed here. `assert f(2) == 4` becomes the call `f(2)`, which the solution answers, and the expected
value 4, which stays in the host. Every other test is a script for the judge's process, where `f` stands for the
solution's; literals that its asserts compare with are taken out of it, and stay in the host too.
"""

from __future__ import annotations

import ast
import contextlib
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Final, final

from evoprompt.harness.inside import codec
from evoprompt.harness.judging import compare
from evoprompt.tasks import parse_python


@final
class _Nothing:
    def __repr__(self) -> str:
        return "NOTHING"


NOTHING: Final = _Nothing()
"""The `expected` of a check that is no comparison of one call with one literal."""


@dataclass(frozen=True)
class Check:
    """One test, or one assert of a test that is asserts only.

    Attributes:
        source: The test as it is shown to people.
        calls: The calls of the solution in it, as far as they stand there.
        form: How the answer to the only call is judged: `==`, `!=`, `is`, `is not`, `true` or `false`; else empty.
        expected: Decoded form of the literal for that, else `NOTHING`.
        script: What the judge's process runs.
        literals: What was taken out of the script: the values themselves.
        held: Nothing but literals that were taken out decides.
        whole: It can't be told apart from the solution: `source` runs beside the solution.
    """

    source: str
    calls: tuple[str, ...] = ()
    form: str = ""
    expected: object = NOTHING
    script: str = ""
    literals: tuple[object, ...] = ()
    held: bool = False
    whole: bool = False


def split(source: str, names: Iterable[str], entry_point: str) -> tuple[Check, ...]:
    """Takes a test apart.

    Args:
        source: One or more asserts, with imports or without, or any other statements. The names of the imports are
            left to the caller to provide where there are asserts only, see `imports_of`.
        names: What the solution provides besides the entry point.
        entry_point: Name of the function under test.

    Returns:
        One check per assert, in order; one check for a test with other statements.

    Raises:
        ValueError: The test does not parse or holds no statement. One line.
    """
    body = _parse(source).body
    if not body:
        raise ValueError("the test is empty")
    asserts = [statement for statement in body if isinstance(statement, ast.Assert)]
    provided = frozenset(names) | {entry_point}
    bound = _is_bound(_imports(body), provided)
    try:
        if not asserts or len(asserts) + len(_imports(body)) != len(body):
            return (_script(body, source, provided),)
        sources = [source.strip()] if len(asserts) == 1 else map(ast.unparse, asserts)
        checks = tuple(_assert(a, text, provided) for a, text in zip(asserts, sources, strict=True))
        return tuple(Check(c.source, c.calls, whole=True) for c in checks) if bound else checks
    except RecursionError as e:
        raise ValueError("the test is nested too deeply") from e


def defined_names(code: str) -> frozenset[str]:
    """Names that trusted code defines at its top level, without imports: a solution has to provide them."""
    return frozenset(_defined(parse_or_empty(code).body))


def imports_of(code: str) -> tuple[str, ...]:
    """The import statements at the top level of trusted code, for tests that lean on them."""
    return tuple(map(ast.unparse, _imports(parse_or_empty(code).body)))


def _imports(body: Iterable[ast.stmt]) -> list[ast.stmt]:
    plain = [s for s in body if isinstance(s, ast.Import | ast.ImportFrom)]
    return [s for s in plain if isinstance(s, ast.Import) or s.module != "__future__"]


def _parse(source: str) -> ast.Module:
    try:
        return parse_python(source)
    except SyntaxError as e:
        raise ValueError(f"the test does not parse: {e.msg} (line {e.lineno})") from e
    except (ValueError, RecursionError, MemoryError) as e:
        reason = str(e).splitlines()[0] if str(e) else type(e).__name__
        raise ValueError(f"the test does not parse: {reason}") from e


def parse_or_empty(source: str) -> ast.Module:
    """The tree of a source; an empty one where it does not parse."""
    try:
        return _parse(source)
    except ValueError:
        return ast.Module(body=[], type_ignores=[])


def _defined(body: Iterable[ast.stmt]) -> Iterator[str]:
    for statement in body:
        match statement:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.Assign() | ast.AnnAssign():
                for node in ast.walk(statement):
                    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                        yield node.id
            case ast.If(body=inner, orelse=other) | ast.Try(body=inner, orelse=other):
                yield from _defined([*inner, *other])


_NOT_LITERAL = (ValueError, TypeError, SyntaxError, MemoryError, codec.Unencodable, codec.CodecError)
_FORMS: Final[dict[type[ast.cmpop], str]] = {ast.Eq: "==", ast.NotEq: "!=", ast.Is: "is", ast.IsNot: "is not"}


def _assert(statement: ast.Assert, source: str, provided: frozenset[str]) -> Check:
    script = _script([statement], source, provided)
    for form, call, value in _forms(statement.test):
        if not isinstance(call, ast.Call) or not _is_direct(call, provided):
            continue
        literal = (None, NOTHING) if value is None else _literal(value)
        singleton = literal is not None and (literal[1] is None or isinstance(literal[1], bool))
        if literal is not None and (singleton or not form.startswith("is")):
            return replace(script, calls=(ast.unparse(call),), form=form, expected=literal[1])
    return script


def _forms(test: ast.expr) -> Iterator[tuple[str, ast.expr, ast.expr | None]]:
    """Yields the possible readings of a test: form, expression that is judged, expression it is compared with."""
    match test:
        case ast.UnaryOp(op=ast.Not(), operand=inner):
            yield "false", inner, None
        case ast.Compare(left=left, ops=[op], comparators=[right]) if type(op) in _FORMS:
            yield _FORMS[type(op)], left, right
            yield _FORMS[type(op)], right, left
        case _:
            yield "true", test, None


def _is_direct(call: ast.Call, provided: frozenset[str]) -> bool:
    """True if the call names something that the solution provides, and every argument is a literal."""
    if not isinstance(call.func, ast.Name) or call.func.id not in provided or any(not k.arg for k in call.keywords):
        return False
    return all(_literal(argument) is not None for argument in (*call.args, *(k.value for k in call.keywords)))


def _literal(node: ast.expr) -> tuple[object, object] | None:
    """The value of a literal, and its decoded form."""
    with contextlib.suppress(*_NOT_LITERAL):
        value = ast.literal_eval(node)
        return value, compare.to_host(value)
    return None


def _script(body: list[ast.stmt], source: str, provided: frozenset[str]) -> Check:
    calls = tuple(dict.fromkeys(ast.unparse(c) for s in body for c in _calls(s, provided)))
    if _is_bound(body, provided):
        return Check(source, calls, whole=True)
    rewriter = _Rewriter()
    rest = [rewriter.visit(parse_python(ast.unparse(statement)).body[0]) for statement in body]
    module = ast.fix_missing_locations(ast.Module(body=rest, type_ignores=[]))
    held = bool(rewriter.literals) and rewriter.asserts == rewriter.held
    return Check(source, calls, script=ast.unparse(module), literals=tuple(rewriter.literals), held=held)


def _calls(node: ast.AST, provided: frozenset[str]) -> Iterator[ast.Call]:
    """The outermost calls of what the solution provides."""
    inner = node
    while isinstance(inner, ast.Call | ast.Attribute | ast.Subscript):
        inner = inner.func if isinstance(inner, ast.Call) else inner.value
    if isinstance(node, ast.Call) and isinstance(inner, ast.Name) and inner.id in provided:
        yield node
        return
    for child in ast.iter_child_nodes(node):
        yield from _calls(child, provided)


class _Rewriter(ast.NodeTransformer):
    """Takes the literals out of the comparisons of asserts."""

    def __init__(self) -> None:
        self.literals: list[object] = []
        self.asserts = self.held = 0

    def visit_Assert(self, node: ast.Assert) -> ast.AST:
        self.asserts += 1
        before = len(self.literals)
        single = isinstance(node.test, ast.Compare)
        test = self.condition(node.test)
        self.held += single and len(self.literals) == before + 1
        message = self.visit(node.msg) if node.msg is not None else None
        return ast.copy_location(ast.Assert(test=test, msg=message), node)

    def condition(self, test: ast.expr) -> ast.expr:
        """A test whose truth is all that matters."""
        match test:
            case ast.BoolOp(op=op, values=values):
                return ast.BoolOp(op=op, values=[self.condition(value) for value in values])
            case ast.UnaryOp(op=ast.Not(), operand=inner):
                return ast.UnaryOp(op=ast.Not(), operand=self.condition(inner))
            case ast.Compare(left=left, ops=[ast.Eq()], comparators=[right]):
                return self.equality(left, right)
        visited: ast.expr = self.visit(test)
        return visited

    def equality(self, left: ast.expr, right: ast.expr) -> ast.expr:
        for value, other in ((left, right), (right, left)):
            found = _literal(other)
            if found is not None:
                self.literals.append(found[0])
                return _call("__equal__", self.visit(value), ast.Constant(len(self.literals) - 1))
        return _call("__close__", self.visit(left), self.visit(right))

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        match node:
            case ast.Call(func=ast.Name(id="type"), args=[_], keywords=[]):
                node.func = ast.Name("__type__", ast.Load())
        return node

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        self.generic_visit(node)
        if node.attr == "__class__" and isinstance(node.ctx, ast.Load):
            return _call("__type__", node.value)
        return node


def _call(name: str, *arguments: ast.expr) -> ast.Call:
    return ast.Call(func=ast.Name(name, ast.Load()), args=list(arguments), keywords=[])


_REFLECTIVE = frozenset({"inspect", "sys.modules", "globals", "locals", "os.environ", "dis", "importlib", "__main__"})
_PATCHED = frozenset({"builtins.input", "builtins.print", "sys.stdin", "sys.stdout", "sys.stderr"})
"""Names that a test may replace; the replacement is made for the solution too."""
_HERE_ONLY_NAMES = """
assertLogs assertNoLogs assertWarns assertWarnsRegex deprecated_call getLogger getcontext localcontext setcontext
asdict astuple is_dataclass
"""
_HERE_ONLY: Final = frozenset(_HERE_ONLY_NAMES.split())
"""Names that work only in the solution's process, because they read or change its state."""


def _is_bound(body: list[ast.stmt], provided: frozenset[str]) -> bool:
    """True if a test reaches into the module of the solution, and so has to run in its process."""
    for node in (n for statement in body for n in ast.walk(statement)):
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name) if name in _HERE_ONLY:
                return True
            case ast.Attribute(value=ast.Name(id="pytest"), attr="warns"):
                return True
            case ast.Call(func=function, keywords=[ast.keyword(arg="record")]) if _ends(function, "catch_warnings"):
                return True
            case ast.Call(func=function, args=[ast.Constant("error"), *_]) if _ends(
                function, "simplefilter", "filterwarnings"
            ):
                return True
            case ast.ClassDef(bases=bases) if any(isinstance(b, ast.Name) and b.id in provided for b in bases):
                return True
            case ast.Name(id=name) | ast.ImportFrom(module=str(name)) if name in _REFLECTIVE:
                return True
            case ast.Attribute(value=ast.Name(id=module), attr=name, ctx=context):
                path = f"{module}.{name}"
                if path in _REFLECTIVE or (
                    isinstance(context, ast.Store | ast.Del)
                    and module in sys.stdlib_module_names
                    and path not in _PATCHED
                ):
                    return True
            case ast.Call(func=function, args=[what, *_]) if ast.unparse(function).endswith(("patch", "patch.object")):
                if not _may_be_patched(what, provided):
                    return True
    return False


def _ends(function: ast.expr, *names: str) -> bool:
    return ast.unparse(function).rpartition(".")[2] in names


def _may_be_patched(what: ast.expr, provided: frozenset[str]) -> bool:
    match what:
        case ast.Constant(value=str(path)):
            return path in _PATCHED
        case ast.Name(id=name):
            return name in provided or name in ("sys", "builtins")
    return False
