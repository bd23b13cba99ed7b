"""Where a program can lose one habit of careful programming, node by node of its syntax tree.

Every rewrite looks at one node and yields `(concept, replacement)` pairs; `mutate` turns them into programs.
A replacement is an expression, or the list of statements that takes the place of a statement.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

Rewrite = tuple[str, ast.AST | list[ast.stmt]]

_TEXT_CALLS = frozenset({"strip", "lstrip", "rstrip", "lower", "casefold", "split"})
_CONVERSIONS = frozenset({"list", "tuple", "int", "float", "str"})
_CHANGERS = frozenset(
    {"append", "pop", "sort", "remove", "reverse", "insert", "extend", "clear", "update", "add", "discard"}
)


@dataclass(frozen=True)
class Scope:
    """What the rewrites must know of the whole program.

    Attributes:
        sets: Names that hold a set; their order is not deterministic.
        changed: Names that are changed in place somewhere.
        loops: There is a `while` loop, so a lost guard may never end.
        fragile: Names that an index, a division, `max` or `min` needs to hold something.
        looked_up: Names on the right of `in`.
        parents: The parent of every node, by `id`.
    """

    sets: frozenset[str]
    changed: frozenset[str]
    loops: bool
    fragile: frozenset[str]
    looked_up: frozenset[str]
    parents: dict[int, ast.AST]

    @classmethod
    def of(cls, tree: ast.Module) -> Scope:
        """Read the program once."""
        sets: set[str] = set()
        changed: set[str] = set()
        parents: dict[int, ast.AST] = {}
        for node in ast.walk(tree):
            for child in ast.iter_child_nodes(node):
                parents[id(child)] = node
            if isinstance(node, ast.Assign) and is_set(node.value, frozenset()):
                sets.update(t.id for t in node.targets if isinstance(t, ast.Name))
            changed |= _changed_by(node)
        nodes = list(ast.walk(tree))
        return cls(
            frozenset(sets),
            frozenset(changed),
            any(isinstance(n, ast.While) for n in nodes) or _recursive(tree),
            frozenset(name for n in nodes for name in _needed(n)),
            frozenset(name for n in nodes for name in _looked_up(n)),
            parents,
        )

    def parent(self, node: ast.AST) -> ast.AST | None:
        """The node that holds this one."""
        return self.parents.get(id(node))

    def inside(self, node: ast.AST, *kinds: type[ast.AST]) -> bool:
        """Whether a node of one of the kinds encloses it."""
        up = self.parent(node)
        while up is not None and not isinstance(up, kinds):
            up = self.parent(up)
        return up is not None


def guards(node: ast.AST, scope: Scope) -> Iterator[Rewrite]:
    """Drop an early exit or a clamp, or let it return None."""
    if not isinstance(node, ast.If) or len(node.body) != 1:
        return
    statement = node.body[0]
    either = isinstance(node.test, ast.BoolOp) and isinstance(node.test.op, ast.Or)
    parts = node.test.values if either and isinstance(node.test, ast.BoolOp) else [node.test]
    kinds = [guard_concept(part, scope) for part in parts]
    leaves = isinstance(statement, ast.Return | ast.Raise | ast.Continue)
    if not (leaves or isinstance(statement, ast.Assign)):
        return
    if len(parts) > 1:
        for index, kind in enumerate(kinds):
            if kind and not (scope.loops and kind in ("negative", "zero", "empty")):
                rest = parts[:index] + parts[index + 1 :]
                test = rest[0] if len(rest) == 1 else ast.BoolOp(op=ast.Or(), values=rest)
                yield kind, [ast.If(test=test, body=node.body, orelse=node.orelse)]
    kind = kinds[0] if len(set(kinds)) == 1 else next((k for k in kinds if k == "empty"), None)
    if kind is None:
        return
    if isinstance(statement, ast.Return) and _stays(kind, node.test, statement.value, scope):
        yield kind, [ast.If(test=node.test, body=[ast.Return(value=ast.Constant(None))], orelse=node.orelse)]
    else:
        yield kind, list(node.orelse)


def _stays(kind: str, test: ast.expr, value: ast.expr | None, scope: Scope) -> bool:
    """Whether the guard should stay and return None, because dropping it would not show or never end."""
    if is_none(value):
        return False
    return scope.loops or (kind == "empty" and not _names(test) & scope.fragile)


def guard_concept(test: ast.expr, scope: Scope) -> str | None:
    """What a condition guards against, None when it is no guard."""
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        operand = test.operand
        if isinstance(operand, ast.Call):
            return "empty" if _method(operand) in _TEXT_CALLS else None
        return "empty" if isinstance(operand, ast.Name | ast.Attribute | ast.Subscript) else None
    if _is_call(test, "isinstance"):
        return "types" if "bool" in ast.unparse(test) else None
    if not isinstance(test, ast.Compare) or len(test.ops) != 1:
        return None
    left, operator, right = test.left, test.ops[0], test.comparators[0]
    if isinstance(operator, ast.In):
        return "duplicates" if isinstance(right, ast.Name) and right.id in scope.sets else None
    if isinstance(operator, ast.Is) and isinstance(right, ast.Constant) and right.value is None:
        return "empty" if isinstance(left, ast.Name) else None
    return _compared(left, operator, right)


def _compared(left: ast.expr, operator: ast.cmpop, right: ast.expr) -> str | None:
    value: Any = right.value if isinstance(right, ast.Constant) else "no constant"
    if isinstance(right, ast.List | ast.Dict | ast.Tuple) and not ast.unparse(right)[1:-1]:
        return "empty" if isinstance(operator, ast.Eq) else None
    how = (type(operator).__name__, value)
    if _is_call(left, "len"):
        return "empty" if how in (("Eq", 0), ("Lt", 1), ("LtE", 0)) else "boundary"
    if isinstance(operator, ast.Eq):
        if value == "":
            return "empty"
        modulo = isinstance(left, ast.BinOp) and isinstance(left.op, ast.Mod)
        return "zero" if type(value) in (int, float) and value == 0 and not modulo else None
    return "negative" if how in (("Lt", 0), ("LtE", 0), ("Lt", 1)) else None


def conditionals(node: ast.AST, scope: Scope) -> Iterator[Rewrite]:
    """Drop the fallback of `a if x else b`, of `max(x, default=...)`, of `max(0, x)`."""
    if isinstance(node, ast.IfExp):
        operators = [n.op for n in ast.walk(node.body) if isinstance(n, ast.BinOp)]
        divides = any(isinstance(op, ast.Div | ast.FloorDiv) for op in operators)
        kind = guard_concept(ast.UnaryOp(op=ast.Not(), operand=node.test), scope)
        if kind == "empty":
            yield ("zero" if divides else "empty"), node.body
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("max", "min"):
        if any(k.arg == "default" for k in node.keywords):
            yield "empty", ast.Call(node.func, node.args, [k for k in node.keywords if k.arg != "default"])
        if node.func.id == "max" and len(node.args) == 2:
            for index in (0, 1):
                constant = node.args[index]
                if isinstance(constant, ast.Constant) and constant.value == 0:
                    yield "negative", node.args[1 - index]


def ties(node: ast.AST, scope: Scope) -> Iterator[Rewrite]:
    """Drop the last part of a sort key, or let a later equal candidate win."""
    del scope
    if isinstance(node, ast.keyword) and node.arg == "key" and isinstance(node.value, ast.Lambda):
        body = node.value.body
        if isinstance(body, ast.Tuple) and len(body.elts) > 1:
            kept = body.elts[:-1]
            short = kept[0] if len(kept) == 1 else ast.Tuple(elts=kept, ctx=ast.Load())
            yield "ties", ast.keyword(arg="key", value=ast.Lambda(args=node.value.args, body=short))
    if isinstance(node, ast.If):
        test = node.test
        if isinstance(test, ast.BoolOp) and isinstance(test.op, ast.Or) and _breaks_tie(test.values[-1]):
            first = test.values[:-1]
            shorter = first[0] if len(first) == 1 else ast.BoolOp(op=ast.Or(), values=first)
            yield "ties", [ast.If(test=shorter, body=node.body, orelse=node.orelse)]
        loose = _loosened(test)
        if loose is not None and len(_targets(node.body)) > 1 and not _swaps(node):
            yield "ties", [ast.If(test=loose, body=node.body, orelse=node.orelse)]


def duplicates(node: ast.AST, scope: Scope) -> Iterator[Rewrite]:
    """Keep repeated values that a set, `dict.fromkeys` or a `seen` check would drop."""
    if isinstance(node, ast.Call) and len(node.args) == 1 and not node.keywords:
        parent = scope.parent(node)
        looked_up = isinstance(parent, ast.Assign) and _names(parent.targets[0]) & scope.looked_up
        if _is_call(node, "set") and not isinstance(parent, ast.BinOp | ast.Compare) and not looked_up:
            plain = isinstance(parent, ast.Call | ast.For | ast.comprehension) and not _method(parent)
            yield "duplicates", node.args[0] if plain else _call("list", node.args[0])
        if _method(node) == "fromkeys":
            yield "duplicates", node.args[0]
    if isinstance(node, ast.SetComp) and isinstance(scope.parent(node), ast.Call):
        yield "duplicates", ast.ListComp(elt=node.elt, generators=node.generators)
    if isinstance(node, ast.If) and isinstance(node.test, ast.Compare) and not node.orelse:
        container = node.test.comparators[0]
        unseen = isinstance(node.test.ops[0], ast.NotIn) and isinstance(container, ast.Name)
        if unseen and _grows(node.body, ast.unparse(container)):
            yield "duplicates", list(node.body)


def boundary(node: ast.AST, scope: Scope) -> Iterator[Rewrite]:
    """Off by one: `<=` becomes `<`, the last item of a range or a slice is lost."""
    if isinstance(node, ast.Compare) and _compared_guard(node, scope) is None:
        strict: dict[type[ast.cmpop], type[ast.cmpop]] = {ast.LtE: ast.Lt, ast.GtE: ast.Gt}
        swapped = [strict.get(type(op), type(op))() for op in node.ops]
        if any(type(new) is not type(old) for new, old in zip(swapped, node.ops, strict=True)):
            yield "boundary", ast.Compare(left=node.left, ops=swapped, comparators=node.comparators)
    if _is_call(node, "range") and isinstance(node, ast.Call):
        index = 0 if len(node.args) == 1 else 1
        less = _without_one(node.args[index])
        if less is not None:
            yield "boundary", ast.Call(node.func, [*node.args[:index], less, *node.args[index + 1 :]], [])
    if isinstance(node, ast.Slice) and node.upper is not None:
        less = _without_one(node.upper)
        if less is not None:
            yield "boundary", ast.Slice(lower=node.lower, upper=less, step=node.step)


def aliasing(node: ast.AST, scope: Scope) -> Iterator[Rewrite]:
    """Drop a defensive copy of something that is changed afterwards."""
    if not isinstance(node, ast.Assign) or not isinstance(node.targets[0], ast.Name):
        return
    source = _copied(node.value)
    if source is not None and scope.changed & {node.targets[0].id, *_names(source)}:
        yield "mutation", [ast.Assign(targets=node.targets, value=source, lineno=0)]


def ordering(node: ast.AST, scope: Scope) -> Iterator[Rewrite]:
    """Leave data in the order in which it came, or sort it the wrong way round."""
    if isinstance(node, ast.Call) and _is_call(node, "sorted"):
        if any(k.arg == "reverse" for k in node.keywords):
            yield "order", ast.Call(node.func, node.args, [k for k in node.keywords if k.arg != "reverse"])
        elif not node.keywords:
            # A set has no order of its own: the defect must not depend on the hash seed.
            if is_set(node.args[0], scope.sets):
                back = ast.keyword(arg="reverse", value=ast.Constant(True))
                yield "order", ast.Call(node.func, node.args, [back])
            else:
                yield "order", _call("list", node.args[0])
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and _method(node.value) == "sort":
        yield "order", []
    if isinstance(node, ast.If) and _swaps(node) and not node.orelse:
        yield "order", []


def types(node: ast.AST, scope: Scope) -> Iterator[Rewrite]:
    """Lose a check for booleans, a conversion, or the integer in a division."""
    if isinstance(node, ast.BoolOp):
        for index, part in enumerate(node.values):
            if "isinstance" in ast.unparse(part) and "bool" in ast.unparse(part):
                rest = node.values[:index] + node.values[index + 1 :]
                yield "types", rest[0] if len(rest) == 1 else ast.BoolOp(op=node.op, values=rest)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.FloorDiv):
        index = scope.inside(node, ast.While, ast.Subscript)
        if not index and scope.inside(node, ast.Return, ast.Assign):
            yield "types", ast.BinOp(left=node.left, op=ast.Div(), right=node.right)
    made = node.value if isinstance(node, ast.Return) else None
    if isinstance(made, ast.Call) and len(made.args) == 1 and ast.unparse(made.func) in _CONVERSIONS:
        yield "types", [ast.Return(value=made.args[0])]
    if isinstance(node, ast.Call) and _is_call(node, "isinstance"):
        kinds = node.args[1]
        if isinstance(kinds, ast.Tuple) and ast.unparse(kinds) != "(int, float)":
            yield "types", ast.Call(node.func, [node.args[0], kinds.elts[0]], [])
    if isinstance(node, ast.Assign) and _is_call(node.value, "str") and isinstance(node.value, ast.Call):
        yield "types", [ast.Assign(targets=node.targets, value=node.value.args[0], lineno=0)]


def logic(node: ast.AST, scope: Scope) -> Iterator[Rewrite]:
    """A plain mistake that no rule of thumb prevents."""
    if (scope.loops or scope.inside(node, ast.Slice)) and not isinstance(node, ast.Return):
        return
    if isinstance(node, ast.BoolOp) and isinstance(node.op, ast.And):
        yield "logic", ast.BoolOp(op=ast.Or(), values=node.values)
    adds = isinstance(node, ast.AugAssign) and isinstance(node.op, ast.Add)
    if adds and isinstance(node, ast.AugAssign) and not isinstance(node.value, ast.Constant):
        yield "logic", [ast.Assign(targets=[node.target], value=node.value, lineno=0)]
    if isinstance(node, ast.Return) and isinstance(node.value, ast.BinOp):
        left, right = node.value.left, node.value.right
        if isinstance(node.value.op, ast.Sub):
            yield "logic", [ast.Return(ast.BinOp(left=right, op=ast.Sub(), right=left))]


REWRITES = (guards, conditionals, ties, duplicates, boundary, aliasing, ordering, types, logic)


def is_set(node: ast.AST, names: frozenset[str]) -> bool:
    """Whether an expression is a set, as far as its text tells."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitAnd | ast.BitOr | ast.Sub | ast.BitXor):
        return is_set(node.left, names) or is_set(node.right, names)
    if isinstance(node, ast.Name):
        return node.id in names
    return isinstance(node, ast.Set | ast.SetComp) or _is_call(node, "set")


def _compared_guard(node: ast.Compare, scope: Scope) -> str | None:
    kind = guard_concept(node, scope)
    return None if kind == "boundary" else kind


def _call(name: str, argument: ast.expr) -> ast.Call:
    return ast.Call(func=ast.Name(id=name, ctx=ast.Load()), args=[argument], keywords=[])


def _is_call(node: ast.AST | None, name: str) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name


def _method(node: ast.AST | None) -> str:
    return node.func.attr if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) else ""


def _names(node: ast.AST) -> set[str]:
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}


def _targets(body: list[ast.stmt]) -> list[ast.expr]:
    found = [t for s in body if isinstance(s, ast.Assign) for t in s.targets]
    return [e for t in found for e in (t.elts if isinstance(t, ast.Tuple) else [t])]


def _swaps(node: ast.If) -> bool:
    swap = node.body[0]
    if len(node.body) != 1 or not isinstance(swap, ast.Assign) or not isinstance(swap.value, ast.Tuple):
        return False
    back = ", ".join(ast.unparse(e) for e in reversed(swap.value.elts))
    return ast.unparse(swap.targets[0]).strip("()") == back


def _loosened(test: ast.expr) -> ast.expr | None:
    if not isinstance(test, ast.Compare) or len(test.ops) != 1:
        return None
    if isinstance(test.comparators[0], ast.Constant):
        return None
    loose: dict[type[ast.cmpop], type[ast.cmpop]] = {ast.Gt: ast.GtE, ast.Lt: ast.LtE}
    new = loose.get(type(test.ops[0]))
    return None if new is None else ast.Compare(left=test.left, ops=[new()], comparators=test.comparators)


def _breaks_tie(part: ast.expr) -> bool:
    if not isinstance(part, ast.BoolOp) or not isinstance(part.op, ast.And):
        return False
    return any(isinstance(v, ast.Compare) and isinstance(v.ops[0], ast.Eq) for v in part.values)


def _grows(body: list[ast.stmt], name: str) -> bool:
    methods = [n for s in body for n in ast.walk(s) if isinstance(n, ast.Attribute)]
    return any(m.attr in ("add", "append") and ast.unparse(m.value) == name for m in methods)


def _without_one(node: ast.expr) -> ast.expr | None:
    plus_one = isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add) and ast.unparse(node.right) == "1"
    return node.left if plus_one and isinstance(node, ast.BinOp) else None


def _copied(value: ast.expr) -> ast.expr | None:
    if isinstance(value, ast.Call):
        if any(_is_call(value, name) for name in ("list", "dict", "set")) and len(value.args) == 1:
            return value.args[0] if isinstance(value.args[0], ast.Name) else None
        if isinstance(value.func, ast.Attribute) and value.func.attr == "copy" and not value.args:
            return value.func.value
    whole = isinstance(value, ast.Subscript) and ast.unparse(value.slice) == ":"
    return value.value if whole and isinstance(value, ast.Subscript) else None


def _changed_by(node: ast.AST) -> set[str]:
    if isinstance(node, ast.Call) and _method(node) in _CHANGERS and isinstance(node.func, ast.Attribute):
        return _names(node.func.value)
    if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store | ast.Del):
        return _names(node.value)
    return set()


def _needed(node: ast.AST) -> set[str]:
    """Names that must hold something for this expression to work."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div | ast.FloorDiv | ast.Mod):
        return _names(node.right) if "len(" in ast.unparse(node.right) else set()
    if isinstance(node, ast.Call) and len(node.args) == 1 and not node.keywords:
        return _names(node.args[0]) if _is_call(node, "max") or _is_call(node, "min") else set()
    fixed = isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant | ast.UnaryOp)
    return _names(node.value) if fixed and isinstance(node, ast.Subscript) else set()


def _looked_up(node: ast.AST) -> set[str]:
    if not isinstance(node, ast.Compare):
        return set()
    pairs = zip(node.ops, node.comparators, strict=True)
    return {name for op, right in pairs if isinstance(op, ast.In | ast.NotIn) for name in _names(right)}


def is_none(node: ast.expr | None) -> bool:
    """Whether `return node` returns None for certain."""
    return node is None or (isinstance(node, ast.Constant) and node.value is None)


def _recursive(tree: ast.Module) -> bool:
    functions = [n for n in tree.body if isinstance(n, ast.FunctionDef)]
    return any(_is_call(n, f.name) for f in functions for n in ast.walk(f))
