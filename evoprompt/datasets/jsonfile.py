"""Tasks out of rows: checked field by field before anything is loaded."""

from __future__ import annotations

import ast
import contextlib
import difflib
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from evoprompt.datasets import evalplus, shapes
from evoprompt.datasets.base import Dataset
from evoprompt.datasets.files import Row, Unreadable, rows_of
from evoprompt.datasets.problems import Problems
from evoprompt.datasets.testsource import TestSource
from evoprompt.tasks import Task, parse_python

FIELDS: Final = ("task_id", "prompt", "code", "test", "plus_test", "entry_point", "setup", "test_setup", "atol")
REQUIRED: Final = ("task_id", "prompt", "test")
MAX_ATOL: Final = 1e9
_CODE: Final = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Assign)
_CALLABLE: Final = re.compile(r"([^\W\d]\w*)(\(\))?(\.[^\W\d]\w*)*")


def read_tasks(content: bytes, name: str, *, source: str = "", skip_bad: bool = False) -> Dataset:
    """Read tasks from the bytes of a file.

    Args:
        content: The file, in one of the shapes of `docs/reference/data.md`.
        name: What to call it in messages.
        source: Stored in each task's `source`.
        skip_bad: Leave out rows that can't be read; `Dataset.notices` names them.

    Raises:
        DataError: One line for each thing that is wrong: which task, which field, what.
    """
    return from_rows(rows_of(content, name), name, source=source, skip_bad=skip_bad)


def from_rows(rows: Iterable[Row], name: str, *, source: str = "", skip_bad: bool = False) -> Dataset:
    """Tasks from rows, each with its place in the file. See `read_tasks`."""
    tasks: list[Task] = []
    problems = Problems(name)
    unread: Counter[str] = Counter()
    seen: dict[str, str] = {}
    count = 0
    for place, row in rows:
        count += 1
        task, wrong, ignored = _read(row, source)
        if task is not None and task.task_id in seen:
            wrong, task = [f"field 'task_id': the same id as {seen[task.task_id]}"], None
        problems.add(place, _id(row), wrong)
        if task is not None:
            unread.update(ignored)
            seen[task.task_id] = place
            tasks.append(task)
    notices = problems.settle(count, len(tasks), skip_bad=skip_bad)
    if unread:
        fields = ", ".join(repr(field) for field, _ in unread.most_common(12))
        notices.append(f"{name}: not read: {fields}" + (" and more" if len(unread) > 12 else ""))
    return Dataset(tasks, name, notices)


def _id(row: Any) -> Any:
    return (
        next((row[a] for a in shapes.ALIASES["task_id"] if row.get(a) is not None), None)
        if isinstance(row, dict)
        else None
    )


def _read(row: Any, source: str) -> tuple[Task | None, list[str], tuple[str, ...]]:
    """Returns the task, or None; what is wrong with the row; its fields that are not read."""
    if isinstance(row, Unreadable):
        return None, [row.reason], ()
    if not isinstance(row, dict):
        return None, [f"must be an object with the fields {', '.join(REQUIRED)}, not {type(row).__name__}"], ()
    try:
        if evalplus.is_row(row) or (evalplus.is_evoeval(row) and not shapes.has_tests(row)):
            return evalplus.task(row, source), [], ()
        fields = shapes.fields_of(row)
        reader = _Reader(row, fields)
        task = reader.task(source)
    except (ValueError, RecursionError) as e:
        return None, [str(e) or "nested too deeply"], ()
    return task, reader.wrong, fields.unread


@dataclass
class _Program:
    """The canonical solution as one program.

    Attributes:
        code: All of it.
        names: What it defines at the top level, in order.
        header: Helpers that the prompt has before the function, with their imports; empty where it has imports only.
    """

    code: str
    names: list[str]
    header: str = ""


class _Reader:
    """Reads one row; what is wrong is collected."""

    def __init__(self, row: dict[str, Any], fields: shapes.Fields) -> None:
        self.row, self.fields, self.values = row, fields, fields.values
        self.wrong: list[str] = []

    def task(self, source: str) -> Task | None:
        """The task, or None where anything is wrong."""
        base, plus = self._checked()
        if self.wrong:
            return None
        given = str(self.values.get("entry_point") or "").strip()
        if given and not _CALLABLE.fullmatch(given):
            self.wrong.append(f"field 'entry_point': must be the name of a function, not {given!r:.80}")
            return None
        setup = self.values.get("setup") or ""
        _names_of(setup, "setup", self.wrong)
        program = self._program(given.partition("(")[0].partition(".")[0])
        parsed = [
            (f, i, _parse(t, f, i, self.wrong)) for f, s in (("test", base), ("plus_test", plus)) for i, t in _joined(s)
        ]
        call = self._call(given, program, [t for _, _, t in parsed if t is not None])
        entry_point = call.partition("(")[0].partition(".")[0]
        if not call:  # a test that tests nothing calls nothing: that is the thing to tell
            untested = [why for f, i, t in parsed if t is not None and (why := _untested(t, f, i))]
            self.wrong = untested or self.wrong
        if self.wrong:
            return None
        tests: dict[str, list[str]] = {"test": [], "plus_test": []}
        helpers = [self.values.get("test_setup") or ""]
        for field, number, test in parsed:
            assert test is not None  # else something is wrong
            try:
                sources = test.sources(call, frozenset((*program.names, entry_point)))
            except ValueError as e:
                self.wrong.append(f"field {field!r}, assert {number}: {e}")
                continue
            tests[field] += sources.tests
            helpers.append(sources.setup)
        if self.wrong:
            return None
        return Task(
            task_id=str(self.values["task_id"]), prompt=self.values["prompt"], code=program.code,
            entry_point=entry_point, base=tuple(tests["test"]), plus=tuple(tests["plus_test"]),
            setup="\n".join(s for s in (program.header, setup) if s),
            test_setup="\n".join(s for s in dict.fromkeys(helpers) if s.strip()),
            atol=float(self.values.get("atol") or 0), source=source,
        )  # fmt: skip

    def _checked(self) -> tuple[list[tuple[int, str]], list[tuple[int, str]]]:
        """Checks the types of all fields; returns the numbered tests of both suites."""
        values, wrong = self.values, self.wrong
        missing = [f"field {f!r} is missing" for f in ("task_id", "prompt") if f not in values]
        missing += ["field 'test' is missing"] if self.fields.base is None else []
        if missing:
            has = ", ".join(repr(str(k))[:40] for k in list(self.row)[:8])
            wrong.append(", ".join(missing) + (f"; it has {has}" if len(missing) > 1 else ""))
        for key in self.fields.unknown:
            close = difflib.get_close_matches(key, FIELDS, n=1, cutoff=0.8)
            if close and close[0] not in self.row:
                wrong.append(f"field {key!r} is unknown; did you mean {close[0]!r}?")
        task_id, prompt = values.get("task_id"), values.get("prompt")
        if "task_id" in values and (isinstance(task_id, bool) or not isinstance(task_id, int | str) or task_id == ""):
            wrong.append(f"field 'task_id': must be a number or a string, not {task_id!r:.80}")
        if "prompt" in values and (not isinstance(prompt, str) or not prompt.strip()):
            wrong.append(f"field 'prompt': must be text, not {prompt!r:.80}")
        wrong += [f"field {k!r}: holds half a surrogate pair" for k, v in self.row.items() if not _encodes(v)]
        for key in ("code", "setup", "test_setup", "entry_point"):
            if not isinstance(values.get(key) or "", str):
                wrong.append(f"field {key!r}: must be text, not {values[key]!r:.80}")
        atol = values.get("atol", 0.0)
        with contextlib.suppress(ValueError):  # a number in a CSV file is text
            atol = values["atol"] = float(atol) if isinstance(atol, str) else atol
        if isinstance(atol, bool) or not isinstance(atol, int | float) or not 0 <= atol <= MAX_ATOL:
            wrong.append(f"field 'atol': must be a number ≥ 0, not {atol!r:.80}")
        base = _texts(self.fields.base, "test", wrong) if self.fields.base is not None else []
        if self.fields.base is not None and self.fields.base in ([], ""):
            wrong.append("field 'test': holds no assert")
        plus = [t for value in self.fields.plus for t in _texts(value, "plus_test", wrong)]
        return list(enumerate(base, 1)), list(enumerate(plus, 1))

    def _program(self, entry_point: str) -> _Program:
        """The canonical solution: as it stands, or after the prompt that it goes on from."""
        code = (self.values.get("code") or "").replace("\r\n", "\n")
        joined = [p.replace("\r\n", "\n") for p in self.fields.joined] if code.strip() else []
        alone: list[str] = []
        if entry_point in _names_of(code, "", alone) and not alone:
            joined = [p for p in joined if _is_code(p)]  # one word of English is Python too
        for prompt in joined:
            for whole, lead in ((prompt + code, prompt), (f"{prompt.rstrip()}\n{code}", f"{prompt.rstrip()}\n")):
                ignored: list[str] = []
                names = _names_of(whole, "", ignored)
                if not ignored and names and (not entry_point or entry_point in names):
                    return _Program(whole, names, _header(whole, lead, entry_point))
        problems: list[str] = []
        names = _names_of(code, "code", problems)
        if joined and problems:
            problems = ["field 'canonical_solution': neither after the prompt nor alone is it Python"]
        self.wrong += problems
        return _Program(code, names)

    def _call(self, given: str, program: _Program, tests: list[TestSource]) -> str:
        """How tests call the solution; what is wrong with that is collected."""
        names = program.names
        called: Counter[str] = sum((t.called for t in tests), Counter())
        if given:
            root = given.partition("(")[0].partition(".")[0]
            waits = any(t.waits for t in tests)
            if root in names and not waits and not any(root in t.text for t in tests):
                return _most_called(names, called) or given
            if waits and not any(_mentions(t) for t in tests) and called.keys() & set(names) - {root, "check"}:
                return _most_called(names, called)  # its check leaves its argument unused
            if program.code and root not in names and not self.wrong:
                self.wrong.append(f"field 'entry_point': 'code' does not define {root!r}")
            return given
        asked = next((t.checks for t in tests if t.checks), "")
        if asked and _CALLABLE.fullmatch(asked):
            return asked
        if any(t.waits for t in tests) and names:
            return _most_called(names, called) or names[-1]
        found = _most_called(names, called)
        mentioned = [n for n in names if any(re.search(rf"\b{n}\b", t.text) for t in tests)]
        if not found and len(mentioned) == 1:  # as a decorator, or handed to a helper
            return mentioned[0]
        if not found and not self.wrong:
            why = "no test calls a function that 'code' defines" if program.code else "there is no 'code' to find it in"
            self.wrong.append(f"field 'entry_point': {why}; add it")
        return found


def _joined(tests: list[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    """The tests, each after those before it that only set names for it."""
    before: list[str] = []
    for place, (number, test) in enumerate(tests):
        wrong: list[str] = []
        parsed = _parse(test, "", number, wrong) if place + 1 < len(tests) else None
        if parsed is not None and parsed.leads:
            before.append(test)
        else:
            yield number, "\n".join([*before, test])
            before = []


def _parse(test: str, field: str, number: int, wrong: list[str]) -> TestSource | None:
    try:
        return TestSource.parse(test)
    except ValueError as e:
        wrong.append(f"field {field!r}, assert {number}: {e}")
        return None


def _untested(test: TestSource, field: str, number: int) -> str:
    try:
        test.sources("", frozenset())
    except ValueError as e:
        return f"field {field!r}, assert {number}: {e}"
    return ""


def _mentions(test: TestSource) -> bool:
    """Whether the function that waits for the solution makes use of it."""
    function = test.functions.get(test.waits)
    if function is None:
        return True
    parameter = [*function.args.posonlyargs, *function.args.args][0].arg
    return any(isinstance(n, ast.Name) and n.id == parameter for s in function.body for n in ast.walk(s))


def _most_called(names: list[str], called: Counter[str]) -> str:
    """The name that the tests call most; of several, the one defined last. Empty when none is called."""
    found = [n for n in names if called[n]]
    return max(found, key=lambda n: (called[n], names.index(n))) if found else ""


def _encodes(value: Any) -> bool:
    """Whether a value's texts can be written to a file and sent to a model."""
    try:
        "".join(map(str, value) if isinstance(value, list) else [str(value)]).encode()
    except UnicodeEncodeError:
        return False
    return True


def _texts(value: Any, field: str, wrong: list[str]) -> list[str]:
    value = [value] if isinstance(value, str) else value
    if not isinstance(value, list) or not all(isinstance(t, str) and t.strip() for t in value):
        wrong.append(f"field {field!r}: must be a list of asserts as text, not {value!r:.80}")
        return []
    return value


def _names_of(code: str, field: str, wrong: list[str]) -> list[str]:
    """Names that the source defines at top level, in order."""
    try:
        body = parse_python(code).body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as e:
        wrong.append(f"field {field!r}: not Python: {getattr(e, 'msg', None) or e}")
        return []
    names = []
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.append(node.name)
        elif isinstance(node, ast.Assign):
            names += [t.id for t in node.targets if isinstance(t, ast.Name)]
    return names


def _is_code(prompt: str) -> bool:
    """Whether a prompt has imports, definitions or constants, and nothing else but text."""
    try:
        body = parse_python(prompt if prompt.rstrip()[-1:] != ":" else f"{prompt.rstrip()} pass").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return any(isinstance(s, _CODE) for s in body) and all(
        isinstance(s, _CODE) or (isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant)) for s in body
    )


def _header(whole: str, prompt: str, entry_point: str) -> str:
    """The helpers that the prompt has before the function, with their imports: tests and solutions lean on them.

    Imports alone are left to the solution: one that forgets its own is wrong, as it is for other judges.
    """
    last = 0
    helpers = False
    end = prompt.count("\n")
    for node in parse_python(whole).body:
        if getattr(node, "name", "") == entry_point or (node.end_lineno or 0) > end:
            break
        if isinstance(node, ast.Import | ast.ImportFrom | ast.FunctionDef | ast.ClassDef | ast.Assign):
            last = node.end_lineno or last
            helpers = helpers or not isinstance(node, ast.Import | ast.ImportFrom)
    return "" if not helpers else "\n".join(whole.split("\n")[:last]).strip("\n")
