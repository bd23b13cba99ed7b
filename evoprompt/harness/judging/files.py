"""Finds the tests that make or read files: they run beside the solution, as a judge's process has other files."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from typing import Final

from evoprompt.harness.judging.asserts import Check
from evoprompt.harness.judging.plan import spread

_NAME_WORDS = """
open mkdtemp mkstemp mktemp NamedTemporaryFile TemporaryDirectory TemporaryFile SpooledTemporaryFile write_text
write_bytes read_text read_bytes touch mkdir makedirs removedirs rmdir rmtree unlink symlink symlink_to hardlink_to
copyfile copytree listdir scandir iterdir rglob savetxt to_csv to_excel sqlite3 exists isfile isdir getsize getmtime
is_file is_dir
"""
_OS_WORDS = "remove rename replace link stat chdir getcwd walk access chmod truncate utime"
_NAMES: Final = frozenset(_NAME_WORDS.split())
_MODULES: Final = {
    "tempfile": frozenset({"gettempdir"}),
    "shutil": frozenset({"copy", "copy2", "move", "make_archive"}),
    "os": frozenset(_OS_WORDS.split()),
    "glob": frozenset({"glob", "iglob"}),
}
_ANY: Final = re.compile(
    rf"\b({'|'.join([*_NAMES, *(rf'{m}.{n}' for m, names in _MODULES.items() for n in names)])})\b"
)


def beside_files(checks: Sequence[Check], setup: str, test_setup: str, provided: frozenset[str]) -> tuple[Check, ...]:
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
    if not _ANY.search("\n".join((setup, test_setup, *sources))):
        return tuple(checks)
    found = spread(setup, test_setup, sources, set(), touches, provided)
    return tuple(Check(c.source, c.calls, whole=True) if i in found else c for i, c in enumerate(checks))


def _touches(node: ast.AST, bad: set[str], provided: frozenset[str]) -> bool:
    match node:
        case ast.Name(id=name):
            return name in bad or (name in _NAMES and name not in provided)
        case ast.Attribute(value=ast.Name(id=module), attr=name) if name in _MODULES.get(module, ()):
            return module not in provided
        case ast.Attribute(attr=name):
            return name in _NAMES and name not in provided
    return False
