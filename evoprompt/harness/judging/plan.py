"""Reads a suite before its tests run as a script: which names the solution provides, reads and sets."""

from __future__ import annotations

import ast
import builtins
import re
import symtable
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from evoprompt.errors import DataError
from evoprompt.harness.judging.asserts import Check, defined_names, imports_of, parse_or_empty, split
from evoprompt.tasks import Suite, Task

_CONSOLE: Final = re.compile(r"stdout|stderr|stdin|print|input|capsys")
_SEED: Final = re.compile(r"\bseed\b")

_HARMLESS_NAMES = """
__future__ abc array asyncio base64 binascii bisect builtins calendar cmath collections contextlib copy csv
dataclasses datetime decimal difflib enum fractions functools hashlib heapq html io ipaddress itertools json keyword
locale math numbers numpy operator pandas pathlib pprint pytest queue random re secrets statistics string struct sys
tempfile textwrap threading time traceback types typing typing_extensions unicodedata unittest uuid warnings zlib
zoneinfo
"""
_HARMLESS: Final = frozenset(_HARMLESS_NAMES.split())
"""Modules with nothing that executes a text, but for the names below."""
_EXECUTING_NAMES = """
__import__ breakpoint compile eval exec globals locals vars __builtins__ __globals__ __subclasses__ __code__
__getattribute__ attrgetter methodcaller CodeType FunctionType LambdaType modules get_type_hints query f2py load
run_path run_module import_module exec_module system popen runcall runctx read_pickle to_pickle loadTestsFromName
create_subprocess_exec create_subprocess_shell
"""
_EXECUTING: Final = frozenset(_EXECUTING_NAMES.split())


@dataclass(frozen=True)
class Plan:
    """The tests of a suite, and the configuration of the processes that they run in: the judge's and the solution's.

    Attributes:
        checks: The tests.
        imports: Import statements whose names the tests may use.
        fast: No script is needed: every test is one call and a literal, and none leaves anything for another.
        functions: Names of the solution's functions.
        classes: Names of its classes.
        exceptions: Names of its exceptions, each with the name of its base.
        data: Names of other things that it defines.
        names: Those, and what tests set and the solution reads or sets.
        told: What tests set and functions of the solution read, which it is told.
        stored: What functions of the solution set or change: what is there afterwards counts for the tests too.
        methods: Names of the methods of its classes.
        fluent: Those that give back their own object.
        equalities: A class of the solution says itself what it is equal to.
        console: Tests may read what the solution prints, or give it what it reads.
        seeds: Tests may seed random numbers.
        tainted: Positions of the tests that may execute an answer.
    """

    checks: tuple[Check, ...] = ()
    imports: tuple[str, ...] = ()
    fast: bool = True
    functions: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    exceptions: tuple[tuple[str, str], ...] = ()
    data: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    told: tuple[str, ...] = ()
    stored: tuple[str, ...] = ()
    equalities: bool = False
    methods: tuple[str, ...] = ()
    fluent: tuple[str, ...] = ()
    console: bool = False
    seeds: bool = False
    tainted: frozenset[int] = frozenset()

    def config(self, atol: float) -> dict[str, object]:
        """Configuration of the judge's process, as plain data."""
        return {
            "functions": self.functions,
            "classes": self.classes,
            "exceptions": self.exceptions,
            "data": self.data,
            "told": self.told,
            "stored": self.stored,
            "equalities": self.equalities,
            "methods": self.methods,
            "fluent": self.fluent,
            "console": self.console,
            "seeds": self.seeds,
            "close": atol > 0,
        }


def read_suite(task: Task, suite: Suite, what: str, names: Iterable[str] = ()) -> Plan:
    """Reads the canonical solution and the tests of a suite.

    Args:
        task: The task; its canonical solution may be empty.
        suite: The suite of its tests.
        what: Name of such a test in errors.
        names: What the solution provides besides.

    Raises:
        DataError: A test does not parse.
    """
    code, setup, test_setup, entry_point = task.code, task.setup, task.test_setup, task.entry_point
    tests = task.tests(suite)
    tree = parse_or_empty(code)
    provided = defined_names(code) | frozenset(names) | {entry_point}
    checks: list[Check] = []
    for number, test in enumerate(tests):
        try:
            checks += split(test, provided, entry_point)
        except ValueError as e:
            raise DataError(f"{what} {number}: {e}") from e
    bodies = [node for c in tree.body if isinstance(c, ast.ClassDef) for node in ast.walk(c)]
    methods = {node.name for node in bodies if isinstance(node, ast.FunctionDef)}
    checks = _beside_files(checks, setup, test_setup, provided | methods)
    imports = tuple(dict.fromkeys(line for source in (code, *tests) for line in imports_of(source)))
    classes: dict[str, ast.ClassDef] = {n.name: n for n in tree.body if isinstance(n, ast.ClassDef)}
    exceptions = tuple((name, base) for name, node in classes.items() if (base := _exception_base(node, classes)))
    raised = {name for name, _ in exceptions}
    functions = {n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)}
    others = provided - classes.keys()
    upper = {n for n in others - functions if not code and n[:1].isupper()}
    upper |= _made(tree)
    data = {n for n in others - functions - upper - {entry_point} if code}
    scripts = [check.script or check.source for check in checks]
    text = "\n".join((setup, test_setup, *scripts))
    told = _globals_read(code) & _stored(parse_or_empty(setup), *map(parse_or_empty, (test_setup, *scripts)))
    told -= {*functions, *classes, *vars(builtins)}
    return Plan(
        checks=tuple(checks),
        imports=imports,
        fast=all(check.form for check in checks) and not test_setup.strip(),
        functions=tuple(sorted(others - data - upper)),
        classes=tuple(sorted(upper | classes.keys() - raised)),
        exceptions=exceptions,
        data=tuple(sorted(data)),
        names=tuple(sorted(data | told)),
        told=tuple(sorted(told)),
        stored=tuple(sorted((data | told) & _changed(tree))),
        equalities=any(isinstance(n, ast.FunctionDef) and n.name == "__eq__" for n in ast.walk(tree)),
        methods=tuple(sorted(methods)),
        fluent=tuple(sorted(_fluent(tree))),
        console=bool(_CONSOLE.search(text)),
        seeds=bool(_SEED.search(text)),
        tainted=_tainted(setup, test_setup, scripts, imports, provided),
    )


def _fluent(tree: ast.Module) -> set[str]:
    """Names of the functions that return their first parameter."""
    found = set()
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef) and function.args.args:
            own = function.args.args[0].arg
            for node in ast.walk(function):
                match node:
                    case ast.Return(value=ast.Name(id=name)) if name == own:
                        found.add(function.name)
    return found


def _exception_base(node: ast.ClassDef, classes: dict[str, ast.ClassDef], depth: int = 9) -> str:
    """Name of the base of an exception's class; empty for another class."""
    for base in node.bases:
        if isinstance(base, ast.Name):
            known = getattr(builtins, base.id, None)
            if isinstance(known, type) and issubclass(known, BaseException):
                return base.id
            if base.id in classes and depth and _exception_base(classes[base.id], classes, depth - 1):
                return base.id
    return ""


_FACTORIES: Final = frozenset({"namedtuple", "NamedTuple", "Enum", "IntEnum", "make_dataclass", "type"})


def _made(tree: ast.Module) -> set[str]:
    """Names of classes that a solution makes by a call."""
    found = set()
    for node in tree.body:
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Call(func=function)):
                if ast.unparse(function).rpartition(".")[2] in _FACTORIES:
                    found.add(name)
    return found


def _globals_read(code: str) -> set[str]:
    """Names of the module that functions and classes of a solution read or set: never one of a local variable."""
    found: set[str] = set()
    try:
        tables = list(symtable.symtable(code, "<solution>", "exec").get_children())
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return found
    while tables:
        table = tables.pop()
        tables += table.get_children()
        found |= {s.get_name() for s in table.get_symbols() if s.is_global()}
    return found


def _changed(tree: ast.Module) -> set[str]:
    """Names that a solution declares global, or whose object it may change."""
    found: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.Global(names=names):
                found |= set(names)
            case ast.Subscript(value=ast.Name(id=name), ctx=ast.Store() | ast.Del()):
                found.add(name)
            case ast.Attribute(value=ast.Name(id=name), ctx=ast.Store() | ast.Del()):
                found.add(name)
            case ast.Call(func=ast.Attribute(value=ast.Name(id=name))):
                found.add(name)
    return found


def _stored(setup: ast.Module, *tests: ast.Module) -> set[str]:
    """Names of data that setup or tests set."""
    found = {
        n.id for t in (setup, *tests) for n in ast.walk(t) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)
    }
    for tree in tests:
        found |= {n.name for n in tree.body if isinstance(n, ast.FunctionDef | ast.ClassDef)}
    return found


def _names(node: ast.AST) -> set[str]:
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}


def _executes(node: ast.AST, bad: set[str]) -> bool:
    """True if a part of this tree may execute text, or uses a name in `bad`."""
    for inner in ast.walk(node):
        match inner:
            case ast.Name(id=name) if name in bad or name in _EXECUTING:
                return True
            case ast.Attribute(value=ast.Name(id="builtins"), attr=name) if name not in ("input", "print"):
                return True
            case ast.Attribute(value=ast.Name(id="re"), attr="compile") | ast.Attribute(attr="__class__"):
                continue
            case ast.Attribute(attr=name) if name in _EXECUTING:
                return True
            case ast.Call(func=ast.Name(id="getattr" | "setattr"), args=[_, name, *_]) if not isinstance(
                name, ast.Constant
            ):
                return True
            case ast.Import(names=aliases) if any(a.name.partition(".")[0] not in _HARMLESS for a in aliases):
                return True
            case ast.ImportFrom(module=module) if (module or "").partition(".")[0] not in _HARMLESS:
                return True
    return False


def _imported(statements: Iterable[ast.stmt]) -> Iterator[str]:
    """Names that imports bind to what may execute a text."""
    for node in statements:
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.partition(".")[0] not in _HARMLESS:
                    yield (alias.asname or alias.name).partition(".")[0]
        elif isinstance(node, ast.ImportFrom):
            known = (node.module or "").partition(".")[0] in _HARMLESS
            yield from (a.asname or a.name for a in node.names if not known or a.name in _EXECUTING)


def _tainted(
    setup: str, test_setup: str, scripts: Sequence[str], imports: Iterable[str], provided: frozenset[str]
) -> frozenset[int]:
    """Positions of the tests that may execute an answer, or share names with one that does."""
    trees = map(parse_or_empty, (*imports, setup, test_setup, *scripts))
    bad = set(_imported(s for t in trees for s in ast.walk(t) if isinstance(s, ast.stmt)))
    return spread(setup, test_setup, scripts, bad, _executes, provided)


def spread(
    setup: str,
    test_setup: str,
    scripts: Sequence[str],
    bad: set[str],
    is_bad: Callable[[ast.AST, set[str]], bool],
    provided: Iterable[str],
) -> frozenset[int]:
    """Positions of the tests that something is true of, and of those that share names with them.

    Args:
        setup: Source whose helpers tests may call.
        test_setup: Source that runs before the tests; if it is one, all are.
        scripts: The tests.
        bad: Names that make a test one of them; those that are found are added.
        is_bad: Whether something is one of them, given such names.
        provided: Names that are the solution's.
    """
    helpers = [s for s in parse_or_empty(setup).body if not isinstance(s, ast.Import | ast.ImportFrom)]
    trees = [parse_or_empty(test_setup), *map(parse_or_empty, scripts)]
    variables = _stored(*trees) - set(provided)
    found: set[int] = set()
    size = -1
    while size != len(bad) + len(found):
        size = len(bad) + len(found)
        for statement in helpers:
            if is_bad(statement, bad):
                bad |= set(defined_names(ast.unparse(statement)))
        for position, tree in enumerate(trees, -1):
            if is_bad(tree, bad):
                found.add(position)
                bad |= _names(tree) & variables
    return frozenset(range(len(scripts)) if -1 in found else found)


_FILE_WORDS = """
open mkdtemp mkstemp mktemp NamedTemporaryFile TemporaryDirectory TemporaryFile SpooledTemporaryFile write_text
write_bytes read_text read_bytes touch mkdir makedirs removedirs rmdir rmtree unlink symlink symlink_to hardlink_to
copyfile copytree listdir scandir iterdir rglob savetxt to_csv to_excel sqlite3 exists isfile isdir getsize getmtime
is_file is_dir
"""
_OS_WORDS = "remove rename replace link stat chdir getcwd walk access chmod truncate utime"
_FILE_NAMES: Final = frozenset(_FILE_WORDS.split())
_FILE_MODULES: Final = {
    "tempfile": frozenset({"gettempdir"}),
    "shutil": frozenset({"copy", "copy2", "move", "make_archive"}),
    "os": frozenset(_OS_WORDS.split()),
    "glob": frozenset({"glob", "iglob"}),
}
_FILES: Final = re.compile(
    rf"\b({'|'.join([*_FILE_NAMES, *(rf'{m}.{n}' for m, names in _FILE_MODULES.items() for n in names)])})\b"
)


def _beside_files(checks: list[Check], setup: str, test_setup: str, provided: frozenset[str]) -> list[Check]:
    """The same tests; those that have to do with files, or share names with such, are to run beside the solution.

    Args:
        checks: The tests.
        setup: Source that runs before the solution, on both sides.
        test_setup: Source that runs before the tests.
        provided: Names that the solution defines, methods too: they mean what it says.
    """

    def touches(node: ast.AST, bad: set[str]) -> bool:
        return any(_touches(inner, bad, provided) for inner in ast.walk(node))

    sources = [c.source for c in checks]
    if not _FILES.search("\n".join((setup, test_setup, *sources))):
        return checks
    found = spread(setup, test_setup, sources, set(), touches, provided)
    return [Check(c.source, c.calls, whole=True) if i in found else c for i, c in enumerate(checks)]


def _touches(node: ast.AST, bad: set[str], provided: frozenset[str]) -> bool:
    match node:
        case ast.Name(id=name):
            return name in bad or (name in _FILE_NAMES and name not in provided)
        case ast.Attribute(value=ast.Name(id=module), attr=name) if name in _FILE_MODULES.get(module, ()):
            return module not in provided
        case ast.Attribute(attr=name):
            return name in _FILE_NAMES and name not in provided
    return False
