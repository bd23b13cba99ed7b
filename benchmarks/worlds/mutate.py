"""Programs with one defect: what a hurried programmer makes of a correct solution.

Works on the syntax tree only; nothing is executed. Most defects are rows of the tables below: the form of some
code, and what becomes of it. In a form `N` and `M` stand for a name, other capital letters for any expression.
Of the rows that fit, the first one decides; a row without a second form leaves the code alone.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from evoprompt.tasks import parse_python

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

_EVERYWHERE = (
    *(("case", f"X.{method}()", "X") for method in ("lower", "casefold")),
    *(("whitespace", f"X.{method}()", "X") for method in ("strip", "lstrip", "rstrip")),
    ("whitespace", "X.split()", "X.split(' ')"),
    ("rounding", "round(X, Y)", "X"),
    ("rounding", "round(X)", "int(X)"),
    ("negative", "abs(X - Y)", ""),  # a distance: to drop it is another mistake than to forget negative input
    ("negative", "abs(X)", "X"),
)
"""Habits that are lost in the whole program at once."""

_ONCE = (
    *(("empty", f"{best}(X, default=Y)", f"{best}(X)") for best in ("max", "min")),
    ("negative", "max(0, X)", "X"),
    ("negative", "max(X, 0)", "X"),
    ("zero", "X / Y if N else Z", "X / Y"),
    ("zero", "X // Y if N else Z", "X // Y"),
    ("empty", "X if N else Y", "X"),
    ("ties", "(X, Y)", "X"),
    ("ties", "(X, Y, Z)", "(X, Y)"),
    ("ties", "X or (Y == Z and A)", "X"),
    ("order", "if X > Y:\n    X, Y = Y, X", "pass"),
    ("ties", "if X > N:\n    A, B = C, D", "if X >= N:\n    A, B = C, D"),
    ("ties", "if X < N:\n    A, B = C, D", "if X <= N:\n    A, B = C, D"),
    ("ties", "if X > N:\n    A = C\n    B = D", "if X >= N:\n    A = C\n    B = D"),
    ("duplicates", "dict.fromkeys(X)", "X"),
    ("duplicates", "set(X)", "list(X)"),
    ("boundary", "X <= 0", ""),
    ("boundary", "X <= Y", "X < Y"),
    ("boundary", "X >= Y", "X > Y"),
    ("boundary", "X <= Y <= Z", "X < Y < Z"),
    ("boundary", "X <= Y < Z", "X < Y < Z"),
    ("boundary", "range(X + 1)", "range(X)"),
    ("boundary", "range(X, Y + 1)", "range(X, Y)"),
    ("boundary", "range(X, Y + 1, Z)", "range(X, Y, Z)"),
    ("boundary", "X[:Y + 1]", "X[:Y]"),
    *(("mutation", f"N = {copy}", "N = M") for copy in ("list(M)", "dict(M)", "M.copy()", "M[:]")),
    ("order", "X.sort()", "pass"),
    ("order", "sorted(X)", "list(X)"),
    ("order", "sorted(X, reverse=Y)", "sorted(X)"),
    ("types", "X and not isinstance(Y, bool)", "X"),
    ("types", "X and not isinstance(Y, bool) and Z", "X and Z"),
    ("types", "isinstance(X, (int, float))", ""),
    ("types", "isinstance(X, (Y, Z))", "isinstance(X, Y)"),
    ("types", "X // Y", "X / Y"),
    ("types", "N = str(X)", "N = X"),
    *(("types", f"return {kind}(X)", "return X") for kind in ("list", "tuple", "int", "float", "str")),
)
"""Habits that are lost in one place."""

_LOGIC = (
    ("logic", "X and Y", "X or Y"),
    ("logic", "X and Y and Z", "X or Y or Z"),
    ("logic", "X += 1", ""),
    ("logic", "X += Y", "X = Y"),
    ("logic", "return X - Y", "return Y - X"),
)
"""Plain mistakes, in one place."""

_GUARDS = (
    *(("empty", form, "") for form in ("not N", "not X.strip()", "not X.split()", "N is None")),
    *(("empty", form, "") for form in ("len(X) == 0", "len(X) < 1", "X == ''", "X == []", "X == {}")),
    *(("boundary", f"len(X) {sign} Y", "") for sign in ("==", "<", "<=", ">", ">=")),
    *(("negative", form, "") for form in ("X < 0", "X <= 0", "X < 1")),
    ("modulo", "X % Y == 0", ""),
    ("zero", "X == 0", ""),
    ("types", "isinstance(X, bool)", ""),
    ("duplicates", "X in N", ""),
)
"""What a condition guards against."""

_NEEDY = ("max(N)", "min(N)", "N[0]", "N[-1]", "X / len(N)", "X // len(N)", "X % len(N)")
"""Code that needs `N` to hold something."""

_CHANGE = r"\b(\w+)(?:\[.*\])?(?:\.(?:append|pop|sort|remove|reverse|insert|extend|clear|update|add)\(|\[.*\] \W?= )"
_SET = r"\b(\w+) = (?:set\(|\{[^:\n]+\}$)"


@dataclass(frozen=True)
class Defect:
    """A program that lost something.

    Attributes:
        concept: One of `CONCEPTS`.
        description: What was done, for people.
        code: The whole changed program.
    """

    concept: str
    description: str
    code: str


@lru_cache(maxsize=4096)
def defects(code: str, entry_point: str) -> tuple[Defect, ...]:
    """Every program that is one defect away from `code`, in a fixed order.

    Args:
        code: A correct program.
        entry_point: The function that callers use.

    Returns:
        The defects; empty when the code can't be parsed.
    """
    try:
        source = ast.unparse(parse_python(code))
    except (SyntaxError, ValueError, RecursionError):
        return ()
    program = _Program(source)
    found: dict[str, Defect] = {}
    for defect in (*_everywhere(source), *program.once(), *_whole(program, entry_point)):
        if defect.code != source:
            found.setdefault(defect.code, defect)
    return tuple(sorted(found.values(), key=lambda d: CONCEPTS.index(d.concept)))


@lru_cache(maxsize=512)
def _form(text: str) -> ast.AST:
    """A form as a tree: a statement, or an expression that stands anywhere."""
    node = parse_python(text).body[0]
    return node.value if isinstance(node, ast.Expr) else node


def _fits(form: object, node: object, bound: dict[str, ast.expr]) -> bool:
    """Whether code has a form; what the capital letters stand for goes into `bound`."""
    if isinstance(form, ast.Name) and re.fullmatch("[A-Z]", form.id):
        if not isinstance(node, ast.Name if form.id in "NM" else ast.expr):
            return False
        return ast.unparse(bound.setdefault(form.id, node)) == ast.unparse(node)
    if type(form) is not type(node):
        return False
    if isinstance(form, ast.AST):
        return all(_fits(getattr(form, f), getattr(node, f), bound) for f in form._fields if f != "ctx")
    if isinstance(form, list) and isinstance(node, list):
        return len(form) == len(node) and all(_fits(f, n, bound) for f, n in zip(form, node, strict=True))
    return form == node


def _first(table: Sequence[tuple[str, str, str]], node: ast.AST) -> tuple[str, str, dict[str, ast.expr]]:
    """The concept and the second form of the first row that fits, and what its letters stand for."""
    for concept, form, becomes in table:
        bound: dict[str, ast.expr] = {}
        if _fits(_form(form), node, bound):
            return concept, becomes, bound
    return "", "", {}


def _filled(form: str, bound: dict[str, ast.expr]) -> ast.AST:
    return _form(re.sub(r"\b[A-Z]\b", lambda m: f"({ast.unparse(bound[m[0]])})", form))


class _Program:
    """A program, the place of every node in it, and what the conditions of the tables ask about it."""

    def __init__(self, source: str) -> None:
        self.source, self.tree = source, parse_python(source)
        self.nodes = list(ast.walk(self.tree))
        self.place: dict[ast.AST, tuple[ast.AST, str, int | None]] = {}
        for node in self.nodes:
            for field, value in ast.iter_fields(node):
                if isinstance(value, ast.AST):
                    self.place[value] = (node, field, None)
                elif isinstance(value, list):
                    self.place.update({item: (node, field, i) for i, item in enumerate(value)})
        functions = re.findall(r"^def (\w+)", source, re.MULTILINE)
        again = any(source.count(f"{name}(") > 1 for name in functions)
        self.endless = again or bool(re.search(r"^ *while ", source, re.MULTILINE))
        self.sets = set(re.findall(_SET, source, re.MULTILINE))
        self.changed = set(re.findall(_CHANGE, source))
        self.looked_up = self._names("X in N") | self._names("X not in N")
        self.needed = {name for form in _NEEDY for name in self._names(form)}

    def changed_to(self, node: ast.AST, new: ast.AST | list[ast.stmt]) -> str:
        """The program with another node, or other statements, in the place of one; as it was if that can't be."""
        holder, field, index = self.place[node]
        old = getattr(holder, field)
        new = ast.Expr(new) if isinstance(node, ast.stmt) and isinstance(new, ast.expr) else new
        if index is None:
            setattr(holder, field, new)
        else:
            items = [*old[:index], *(new if isinstance(new, list) else [new]), *old[index + 1 :]]
            setattr(holder, field, items or ([ast.Pass()] if field == "body" else []))
        try:
            return ast.unparse(parse_python(ast.unparse(self.tree)))
        except (SyntaxError, ValueError):  # not everything can stand in an f-string
            return self.source
        finally:
            setattr(holder, field, old)

    def once(self) -> Iterator[Defect]:
        """The defects in one place."""
        for node in self.nodes:
            before = ast.unparse(node).splitlines()[0] if isinstance(node, ast.expr | ast.stmt) else ""
            for table in (_ONCE, _LOGIC):
                concept, becomes, bound = _first(table, node)
                if concept == "order" and becomes == "list(X)" and self._is_set(bound["X"]):
                    # A set has no order of its own: the defect must not depend on the hash seed.
                    becomes = "sorted(X, reverse=True)"
                if becomes == "pass":
                    statement = node if isinstance(node, ast.stmt) else self.place[node][0]
                    yield Defect(concept, f"forgets {before}", self.changed_to(statement, []))
                elif becomes and self.shows(node, concept, bound):
                    new = _filled(becomes, bound)
                    yield Defect(concept, f"{before} becomes {ast.unparse(new)}", self.changed_to(node, new))
            if isinstance(node, ast.If):
                for concept, statements in self.guards(node):
                    yield Defect(concept, f"{before} is weakened", self.changed_to(node, statements))

    def shows(self, node: ast.AST, concept: str, bound: dict[str, ast.expr]) -> bool:
        """Whether the defect would show here, and the program still end."""
        above = list(self._above(node))
        if isinstance(node, ast.Tuple):
            return isinstance(above[0], ast.Lambda)
        if concept == "mutation":
            return bool(self.changed & {n.id for n in bound.values() if isinstance(n, ast.Name)})
        if concept == "duplicates" and isinstance(node, ast.Call):
            targets = above[0].targets if isinstance(above[0], ast.Assign) else []
            looked_up = self.looked_up & {ast.unparse(t) for t in targets}
            return not looked_up and not isinstance(above[0], ast.BinOp | ast.Compare)
        if concept == "types" and isinstance(node, ast.BinOp):
            return not any(isinstance(up, ast.While | ast.Subscript) for up in above)
        if concept == "logic" and not isinstance(node, ast.Return):
            return not self.endless and not any(isinstance(up, ast.Slice) for up in above)
        return True

    def guards(self, node: ast.If) -> Iterator[tuple[str, list[ast.stmt]]]:
        """Drop an early exit or a clamp, or a part of its condition, or let it return None."""
        statement, bound = node.body[0], dict[str, ast.expr]()
        unseen = _fits(_form("X not in N"), node.test, bound) and not node.orelse
        if unseen and re.search(rf"\b{ast.unparse(bound['N'])}\.(add|append)\(", ast.unparse(node)):
            yield "duplicates", node.body
        if len(node.body) > 1 or not isinstance(statement, ast.Return | ast.Raise | ast.Continue | ast.Assign):
            return
        either = isinstance(node.test, ast.BoolOp) and isinstance(node.test.op, ast.Or)
        parts = node.test.values if either and isinstance(node.test, ast.BoolOp) else [node.test]
        kinds = [self._guarded(part) for part in parts]
        for index, kind in enumerate(kinds):
            if kind and len(parts) > 1 and not (self.endless and kind in ("negative", "zero", "empty")):
                rest = ast.BoolOp(op=ast.Or(), values=parts[:index] + parts[index + 1 :])
                yield kind, [ast.If(test=rest, body=node.body, orelse=node.orelse)]
        kind = kinds[0] if len(set(kinds)) == 1 else "empty" if "empty" in kinds else ""
        if not kind:
            return
        harmless = kind == "empty" and not self.needed & {n.id for n in ast.walk(node.test) if isinstance(n, ast.Name)}
        gives = isinstance(statement, ast.Return) and ast.unparse(statement) not in ("return", "return None")
        if gives and (self.endless or harmless):
            yield kind, [ast.If(test=node.test, body=[ast.Return(ast.Constant(None))], orelse=node.orelse)]
        else:
            yield kind, list(node.orelse)

    def _guarded(self, test: ast.expr) -> str:
        concept, _, bound = _first(_GUARDS, test)
        foreign = concept == "duplicates" and ast.unparse(bound["N"]) not in self.sets
        return "" if concept == "modulo" or foreign else concept

    def _is_set(self, node: ast.expr) -> bool:
        text = ast.unparse(node)
        return text.startswith(("set(", "{")) or bool(self.sets & set(re.findall(r"\w+", text)))

    def _above(self, node: ast.AST) -> Iterator[ast.AST]:
        while node in self.place:
            node = self.place[node][0]
            yield node

    def _names(self, form: str) -> set[str]:
        found: list[dict[str, ast.expr]] = [{} for _ in self.nodes]
        fitting = [b for b, node in zip(found, self.nodes, strict=True) if _fits(_form(form), node, b)]
        return {ast.unparse(b["N"]) for b in fitting}


def _everywhere(source: str) -> Iterator[Defect]:
    for concept in dict.fromkeys(concept for concept, _, _ in _EVERYWHERE):
        code: str | None = source
        while code is not None:
            last, code = code, _without(code, concept)
        yield Defect(concept, f"minds {concept} nowhere", last)


def _without(source: str, concept: str) -> str | None:
    """The program after the first change of a habit, None when there is nothing left to change."""
    program = _Program(source)
    for node in program.nodes:
        found, becomes, bound = _first(_EVERYWHERE, node)
        changed = program.changed_to(node, _filled(becomes, bound)) if becomes and found == concept else source
        if changed != source:
            return changed
    return None


def _whole(program: _Program, entry_point: str) -> Iterator[Defect]:
    """Defects of the program as a whole."""
    source = program.source
    for name in re.findall(r"\b(\w+) = set\(\)$", source, re.MULTILINE):
        if name not in program.looked_up and not re.search(rf"\b{name}(\.(?!add\()| [-&|])|[-&|] {name}\b", source):
            listed = source.replace(f"{name} = set()", f"{name} = []").replace(f"{name}.add(", f"{name}.append(")
            yield Defect("duplicates", f"collects {name} in a list", listed)
    for node in program.tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = {(a.asname or a.name).split(".")[0] for a in node.names}
            if names & {n.id for n in program.nodes if isinstance(n, ast.Name)}:
                yield Defect("imports", f"forgets {ast.unparse(node)}", program.changed_to(node, []))
    function = next((n for n in program.tree.body if isinstance(n, ast.FunctionDef) and n.name == entry_point), None)
    if function is None:
        return
    last = function.body[-1]
    if isinstance(last, ast.Return) and last.value is not None:
        printed = program.changed_to(last, _filled("print(X)", {"X": last.value}))
        yield Defect("print", "prints the result instead of returning it", printed)
    for other in ("solution", "solve", f"{entry_point}_func", "main"):
        yield Defect("name", f"calls the function {other}", re.sub(rf"\b{entry_point}\b", other, source))
    required = function.args.args[: len(function.args.args) - len(function.args.defaults)]
    arguments = ", ".join(f'input("{a.arg}: ")' for a in required)
    example = f"{source}\n\n# Example usage\nprint({entry_point}({arguments}))"
    yield Defect("format", "ends with an example that reads input", example)
