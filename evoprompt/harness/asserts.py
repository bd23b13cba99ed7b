"""Splits an assert into what the candidate's process evaluates and what only the host or the judge may see.

Nothing is executed here. `assert f(2) == 4` becomes the call `f(2)`, which the candidate answers, and the
expected value 4, which stays in the host. `assert math.isclose(f(2), 4)` becomes the same call and the
residual `math.isclose(_0, 4)`, which the judge evaluates on the plain value that came back.

All calls of an assert are evaluated, also those that `or` or a conditional expression would have skipped.
"""

from __future__ import annotations

import ast
import contextlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, cast, final

from evoprompt.harness import codec, compare
from evoprompt.tasks import parse_python


@final
class _Nothing:
    def __repr__(self) -> str:
        return "NOTHING"


NOTHING: Final = _Nothing()
"""The `expected` of a check that has a residual or runs whole."""


@dataclass(frozen=True)
class Check:
    """One assert, taken apart.

    Attributes:
        source: The test as it is shown to people.
        calls: Expressions that the candidate's process evaluates, in order.
        residual: The rest of the assert over the answers `_0`, `_1`, …, for the judge; None where not needed.
        expected: Decoded form of the literal that the single answer must equal, else `NOTHING`.
        whole: It could not be taken apart: `source` runs beside the candidate.
        reference: Where the residual is `_0 == reference`: that expression, to compare with a tolerance.
        truths: Positions of the calls of whose answers only the truth matters, or whether they are None: where an
            answer is no plain data, its truth stands for it.
    """

    source: str
    calls: tuple[str, ...] = ()
    residual: str | None = None
    expected: object = NOTHING
    whole: bool = False
    reference: str | None = None
    truths: frozenset[int] = frozenset()


def split(source: str, names: Iterable[str], entry_point: str) -> tuple[Check, ...]:
    """Takes the asserts of a test apart.

    Args:
        source: One or more asserts, with imports or without, or any other test, which then runs whole. The names
            of the imports are left to the caller to provide, see `imports_of`.
        names: What the candidate provides besides the entry point.
        entry_point: Name of the function under test.

    Returns:
        One check per assert, in order; one whole check for a test with other statements.

    Raises:
        ValueError: The test does not parse or holds no statement. One line.
    """
    body = _parse(source).body
    if not body:
        raise ValueError("the test is empty")
    asserts = [statement for statement in body if isinstance(statement, ast.Assert)]
    if not asserts or len(asserts) + len(_imports(body)) != len(body):
        return (Check(source=source, whole=True),)
    provided = frozenset(names) | {entry_point}
    try:
        if len(asserts) == 1:
            return (_check(asserts[0].test, source.strip(), provided),)
        return tuple(_check(a.test, ast.unparse(a), provided) for a in asserts)
    except RecursionError as e:
        raise ValueError("the test is nested too deeply") from e


def defined_names(code: str) -> frozenset[str]:
    """What trusted code defines at its top level, imports aside: what a candidate is to provide."""
    return frozenset(_defined(_parse_or_empty(code).body))


def imports_of(code: str) -> tuple[str, ...]:
    """The import statements at the top level of trusted code, for tests that lean on them."""
    return tuple(map(ast.unparse, _imports(_parse_or_empty(code).body)))


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


def _parse_or_empty(source: str) -> ast.Module:
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


class _Unsplittable(Exception):
    """The assert has to run whole."""


_CONSUMERS = frozenset(
    {"all", "any", "dict", "frozenset", "len", "list", "max", "min", "next", "repr", "set", "sorted"}
    | {"str", "sum", "tuple", "asyncio.run"}
)
"""Called with nothing but a candidate's answer, these go along: it may be a generator or an own class."""

_EXECUTORS = frozenset(
    {"__import__", "compile", "eval", "exec", "getattr", "importlib", "marshal", "os", "pickle", "subprocess"}
)
"""Residuals that name one could run an answer as code, and the judge must run none of the candidate's."""

_PLAIN_ATTRIBUTES = frozenset(
    name for kind in (int, float, complex, str, bytes, list, tuple, set, frozenset, dict, range) for name in dir(kind)
)


class _Splitter(ast.NodeTransformer):
    """Replaces every maximal expression of the candidate by `_0`, `_1` and so on."""

    def __init__(self, provided: frozenset[str]) -> None:
        self.provided = provided
        self.calls: list[str] = []
        self.repeated = 0

    def visit(self, node: ast.AST) -> ast.AST:
        """Takes a node out if it is the candidate's, and goes into it otherwise."""
        if isinstance(node, ast.expr) and self._is_candidate(node):
            if self.repeated:
                raise _Unsplittable
            self.calls.append(ast.unparse(node))
            return ast.Name(f"_{len(self.calls) - 1}", ast.Load())
        if isinstance(node, ast.NamedExpr | ast.Await):
            raise _Unsplittable
        if isinstance(node, ast.Name) and node.id in self.provided | _EXECUTORS:
            raise _Unsplittable
        if isinstance(node, ast.Name) and re.fullmatch(r"_\d+", node.id):
            raise _Unsplittable
        if isinstance(node, ast.Lambda):
            return self._inside(node)
        if isinstance(node, ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp):
            first = node.generators[0]  # evaluated once, outside the loop
            iterated = self.visit(first.iter)
            first.iter = ast.Constant(None)
            self._inside(node)
            first.iter = cast(ast.expr, iterated)
            return node
        return self.generic_visit(node)

    def _inside(self, node: ast.AST) -> ast.AST:
        """Goes into what is evaluated any number of times: the candidate must not be in there."""
        self.repeated += 1
        self.generic_visit(node)
        self.repeated -= 1
        return node

    def _is_candidate(self, node: ast.expr) -> bool:
        """Whether this is a call of the candidate's, a chain that starts with one, or a consumer of one."""
        if self._is_chain(node):
            return True
        if not isinstance(node, ast.Call) or node.keywords or len(node.args) != 1:
            return False
        function = ast.unparse(node.func) if isinstance(node.func, ast.Name | ast.Attribute) else ""
        if function not in _CONSUMERS or function in self.provided:
            return False
        return self._is_candidate(node.args[0])

    def _is_chain(self, node: ast.expr) -> bool:
        called = False
        plain_method = later_arguments = False
        while not isinstance(node, ast.Name):
            match node:
                case ast.Call(func=inner):
                    called = True
                    later_arguments = later_arguments or (
                        not isinstance(inner, ast.Name) and bool(node.args or node.keywords)
                    )
                case ast.Subscript(value=inner):
                    pass
                case ast.Attribute(value=inner, attr=attribute):
                    plain_method = plain_method or attribute in _PLAIN_ATTRIBUTES
                case _:
                    return False
            node = inner
        # A class makes objects of its own; the methods of a plain answer are the judge's to call.
        if not called or node.id not in self.provided:
            return False
        if later_arguments and not plain_method and not node.id[:1].isupper():
            raise _Unsplittable  # `f(3).equals(expected)` would hand over what is expected
        return node.id[:1].isupper() or not plain_method


def _names(node: ast.AST) -> frozenset[str]:
    return frozenset(n.id for n in ast.walk(node) if isinstance(n, ast.Name))


def _check(test: ast.expr, source: str, provided: frozenset[str]) -> Check:
    splitter = _Splitter(provided)
    if not _names(test) & provided:
        return Check(source=source, whole=True)
    original = ast.unparse(test)
    try:
        rest = splitter.visit(test)
    except _Unsplittable:
        whole = parse_python(original).body[0]
        assert isinstance(whole, ast.Expr)  # it was unparsed from an expression
        return _one_side(whole.value, source, provided)
    calls = tuple(splitter.calls)
    other = _other_side(rest) if len(calls) == 1 else None
    if other is None:
        truths = frozenset(_truths(rest))
        return Check(source=source, calls=calls, residual=ast.unparse(rest), truths=truths)
    try:
        expected = compare.to_host(ast.literal_eval(other))
    except _NOT_LITERAL:
        return Check(source=source, calls=calls, residual=ast.unparse(rest), reference=ast.unparse(other))
    return Check(source=source, calls=calls, expected=expected)


def _one_side(test: ast.expr, source: str, provided: frozenset[str]) -> Check:
    """Splits `[f(x) for x in xs] == [1, 2]` and the like: one side is all the candidate's, the other a literal.

    A comparison inside the candidate's side could hold what is expected, so it makes the test whole.
    """
    match test:
        case ast.Compare(left=left, ops=[ast.Eq()], comparators=[right]):
            mine, other = (left, right) if _names(left) & provided else (right, left)
            if not _names(other) and not any(isinstance(n, ast.Compare) for n in ast.walk(mine)):
                with contextlib.suppress(*_NOT_LITERAL):
                    expected = compare.to_host(ast.literal_eval(other))
                    return Check(source=source, calls=(ast.unparse(mine),), expected=expected)
    return Check(source=source, whole=True)


def _other_side(test: ast.AST) -> ast.expr | None:
    """The `x` of `_0 == x` or `x == _0`."""
    match test:
        case ast.Compare(left=ast.Name(id="_0"), ops=[ast.Eq()], comparators=[other]):
            return other
        case ast.Compare(left=other, ops=[ast.Eq()], comparators=[ast.Name(id="_0")]):
            return other
    return None


def _truths(test: ast.AST) -> Iterator[int]:
    """Positions of the answers that stand where only their truth matters, or whether they are None."""
    match test:
        case ast.Name(id=name) if re.fullmatch(r"_\d+", name):
            yield int(name[1:])
        case ast.UnaryOp(op=ast.Not(), operand=inner):
            yield from _truths(inner)
        case ast.BoolOp(values=values):
            for value in values:
                yield from _truths(value)
        case ast.Compare(left=left, ops=[ast.Is() | ast.IsNot()], comparators=[ast.Constant(value=None)]):
            if isinstance(left, ast.Name):
                yield from _truths(left)
