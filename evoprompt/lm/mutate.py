"""Programs with one defect: what a hurried programmer makes of a correct solution.

Works on the syntax tree only; nothing is executed. Used by the simulated model, and by tests that need
wrong solutions whose mistake is known.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from evoprompt.lm.simulated_rewrites import REWRITES, Scope, is_none

CONCEPTS: tuple[str, ...] = (
    "empty",
    "negative",
    "zero",
    "case",
    "whitespace",
    "rounding",
    "ties",
    "duplicates",
    "boundary",
    "mutation",
    "order",
    "types",
    "print",
    "name",
    "imports",
    "format",
    "logic",
)
"""What a defect can be about. `logic` is a plain mistake that no general rule prevents."""


@dataclass(frozen=True)
class Defect:
    """A program that lost something.

    Attributes:
        concept: One of `CONCEPTS`.
        description: What was done, for people; unique within one program.
        code: The whole changed program.
    """

    concept: str
    description: str
    code: str


def defects(code: str, entry_point: str) -> tuple[Defect, ...]:
    """Every program that is one defect away from `code`, in a fixed order.

    Args:
        code: A correct program.
        entry_point: The function that callers use.

    Returns:
        The defects; empty when the code can't be parsed.
    """
    try:
        source = ast.unparse(ast.parse(code))
    except (SyntaxError, ValueError, RecursionError):
        return ()
    seen = {source}
    found: list[Defect] = []
    for concept, description, changed in (*_whole(source, entry_point), *_single(source)):
        if changed not in seen and _parses(changed):
            seen.add(changed)
            found.append(Defect(concept, description, changed))
    return tuple(sorted(found, key=lambda d: CONCEPTS.index(d.concept)))


def _parses(code: str) -> bool:
    try:
        ast.parse(code)
    except SyntaxError:
        return False
    return True


def _single(source: str) -> Iterator[tuple[str, str, str]]:
    tree = ast.parse(source)
    scope = Scope.of(tree)
    for index, node in enumerate(ast.walk(tree)):
        for rewrite in REWRITES:
            for number, (concept, new) in enumerate(rewrite(node, scope)):
                snippet = ast.unparse(node).splitlines()[0][:60]
                # To parse again is much faster than to copy the tree, and numbers the nodes in the same way.
                changed = ast.parse(source)
                target = next(n for i, n in enumerate(ast.walk(changed)) if i == index)
                _Replace(target, new).visit(changed)
                yield concept, f"{rewrite.__name__} {number}: {snippet}", ast.unparse(_filled(changed))


class _Replace(ast.NodeTransformer):
    def __init__(self, target: ast.AST, new: ast.AST | list[ast.stmt]) -> None:
        self.target, self.new = target, new

    def visit(self, node: ast.AST) -> ast.AST | list[ast.stmt]:
        """Swap the one node, walk on through every other."""
        return self.new if node is self.target else self.generic_visit(node)


def _filled(tree: ast.Module) -> ast.Module:
    """Put `pass` where a removed statement left nothing."""
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and not body and not isinstance(node, ast.Module):
            body.append(ast.Pass())
    return tree


class _Everywhere(ast.NodeTransformer):
    """Apply one rewrite of calls to the whole program."""

    def __init__(self, rewrite: Callable[[ast.Call], ast.expr]) -> None:
        self.rewrite = rewrite

    def visit_Call(self, node: ast.Call) -> ast.expr:
        """Rewrite the inner calls first."""
        self.generic_visit(node)
        return self.rewrite(node)


def _whole(source: str, entry_point: str) -> Iterator[tuple[str, str, str]]:
    tree = ast.parse(source)
    calls: tuple[tuple[str, str, Callable[[ast.Call], ast.expr]], ...] = (
        ("case", "does not normalise letter case", _no_case),
        ("whitespace", "does not strip or collapse white space", _no_strip),
        ("rounding", "does not round", _no_round),
        ("negative", "does not take absolute values", _no_abs),
    )
    for concept, description, rewrite in calls:
        changed = _Everywhere(rewrite).visit(ast.parse(source))
        yield concept, description, ast.unparse(changed)
    for name in sorted(Scope.of(tree).sets):
        listed = _listed(source, name)
        if listed:
            yield "duplicates", f"collects {name} in a list", listed
    yield from _imports(tree)
    function = next((n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == entry_point), None)
    if function is None:
        return
    yield from _printed(source, entry_point)
    for other in ("solution", "solve", entry_point + "_func", "main"):
        yield "name", f"calls the function {other}", _renamed(source, entry_point, other)
    required = len(function.args.args) - len(function.args.defaults)
    arguments = ", ".join(f'input("{a.arg}: ")' for a in function.args.args[:required])
    example = f"\n\n# Example usage\nprint({entry_point}({arguments}))"
    yield "format", "ends with an example that reads input", source + example


def _no_case(call: ast.Call) -> ast.expr:
    bare = isinstance(call.func, ast.Attribute) and call.func.attr in ("lower", "casefold") and not call.args
    return call.func.value if bare and isinstance(call.func, ast.Attribute) else call


def _no_strip(call: ast.Call) -> ast.expr:
    if not isinstance(call.func, ast.Attribute) or call.args or call.keywords:
        return call
    if call.func.attr in ("strip", "lstrip", "rstrip"):
        return call.func.value
    if call.func.attr == "split":
        return ast.Call(func=call.func, args=[ast.Constant(" ")], keywords=[])
    return call


def _no_round(call: ast.Call) -> ast.expr:
    if not isinstance(call.func, ast.Name) or call.func.id != "round" or not call.args:
        return call
    if len(call.args) > 1:
        return call.args[0]
    return ast.Call(func=ast.Name(id="int", ctx=ast.Load()), args=call.args, keywords=[])


def _no_abs(call: ast.Call) -> ast.expr:
    if not isinstance(call.func, ast.Name) or call.func.id != "abs":
        return call
    # abs(a - b) is a distance: to drop it is another mistake than to forget negative input.
    distance = isinstance(call.args[0], ast.BinOp) and isinstance(call.args[0].op, ast.Sub)
    return call if distance else call.args[0]


def _listed(source: str, name: str) -> str | None:
    """The program with one set collected in a list, None when it needs the set."""
    changed = ast.parse(source)
    if any(_tests_membership(node, name) for node in ast.walk(changed)):
        return None
    for node in ast.walk(changed):
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name:
            if isinstance(node.value, ast.Set):
                node.value = ast.List(elts=node.value.elts, ctx=ast.Load())
            elif ast.unparse(node.value) == "set()":
                node.value = ast.List(elts=[], ctx=ast.Load())
            else:
                return None
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == name:
            renames = {"add": "append", "update": "extend"}
            if node.attr not in renames:
                return None
            node.attr = renames[node.attr]
    return ast.unparse(changed)


def _tests_membership(node: ast.AST, name: str) -> bool:
    if isinstance(node, ast.BinOp):
        return name in (ast.unparse(node.left), ast.unparse(node.right))
    if not isinstance(node, ast.Compare):
        return False
    return name in [ast.unparse(c) for c in (node.left, *node.comparators)]


def _imports(tree: ast.Module) -> Iterator[tuple[str, str, str]]:
    for node in tree.body:
        if not isinstance(node, ast.Import | ast.ImportFrom):
            continue
        names = {(a.asname or a.name).split(".")[0] for a in node.names}
        if names & {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)}:
            rest = ast.Module(body=[n for n in tree.body if n is not node], type_ignores=[])
            yield "imports", f"forgets {ast.unparse(node)}", ast.unparse(rest)


def _printed(source: str, entry_point: str) -> Iterator[tuple[str, str, str]]:
    changed = ast.parse(source)
    function = next(n for n in changed.body if isinstance(n, ast.FunctionDef) and n.name == entry_point)
    last = function.body[-1]
    if isinstance(last, ast.Return) and last.value is not None and not is_none(last.value):
        shown = ast.Call(func=ast.Name(id="print", ctx=ast.Load()), args=[last.value], keywords=[])
        function.body[-1] = ast.Expr(value=shown)
        yield "print", "prints the result instead of returning it", ast.unparse(changed)


def _renamed(source: str, old: str, new: str) -> str:
    changed = ast.parse(source)
    for node in ast.walk(changed):
        if isinstance(node, ast.FunctionDef) and node.name == old:
            node.name = new
        elif isinstance(node, ast.Name) and node.id == old:
            node.id = new
    return ast.unparse(changed)
