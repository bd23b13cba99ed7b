"""Turns the rows of a file into tasks. Every field is checked before anything is loaded."""

from __future__ import annotations

import ast
import contextlib
import difflib
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

from evoprompt.datasets import evalplus, shapes
from evoprompt.datasets.base import Dataset
from evoprompt.datasets.files import Row, Unreadable, rows_of
from evoprompt.datasets.testsource import TestSource, parse
from evoprompt.errors import DataError
from evoprompt.tasks import Task
from evoprompt.wording import counted

FIELDS: Final = ("task_id", "prompt", "code", "test", "plus_test", "entry_point", "setup", "test_setup", "atol")
MAX_ATOL: Final = 1e9
MAX_PROBLEMS: Final = 20
ALIKE: Final = 3
"""So many rows with the same thing wrong are told in one line."""
_UNREAD: Final = 12
"""So many fields that are not read are named."""
_CALLABLE: Final = re.compile(r"([^\W\d]\w*)(\(\))?(\.[^\W\d]\w*)*")
_CODE: Final = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Assign)


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
    """Make tasks of rows, each with its place in the file. See `read_tasks`."""
    tasks: dict[str, Task] = {}
    places: dict[str, str] = {}
    wrong: dict[str, list[str]] = {}  # the rows with one thing wrong
    unread: Counter[str] = Counter()
    count = bad = 0
    for place, row in rows:
        count += 1
        try:
            task, ignored = _read(row, source)
            if task.task_id in tasks:
                raise DataError(f"field 'task_id': the same id as {places[task.task_id]}")
        except DataError as e:
            task_id = shapes.task_id_of(row)
            for reason in e.problems:
                wrong.setdefault(reason, []).append(place if task_id is None else f"{place}, task {task_id!r:.80}")
            bad += 1
        else:
            unread.update(ignored)
            tasks[task.task_id], places[task.task_id] = task, place
    lines = _problem_lines(wrong, name)
    if not count:
        raise DataError(f"{name}: holds no task")
    if lines and not tasks:
        raise DataError(*lines)
    if lines and not skip_bad:
        are, it = ("is", "it") if bad == 1 else ("are", "them")
        how = f"mend {it}, or leave {it} out with --skip_bad (Python: `skip_bad=True`)"
        raise DataError(*lines, f"{name}: {bad} of {count} rows {are} wrong: {how}")
    notices = [f"{line} (left out)" for line in lines]
    if unread:
        fields = ", ".join(repr(field) for field, _ in unread.most_common(_UNREAD))
        notices.append(f"{name}: not read: {fields}{' and more' if len(unread) > _UNREAD else ''}")
    return Dataset(tasks.values(), name, notices)


def _problem_lines(wrong: dict[str, list[str]], name: str) -> list[str]:
    """One line for each kind of thing that is wrong, in the order of the file; long lists are cut."""
    told = []
    for reason, rows in wrong.items():
        if len(rows) < ALIKE:
            told += [f"{name}: {row}: {reason}" for row in rows]
        else:
            told.append(f"{name}: {rows[0]}, and {counted(len(rows) - 1, 'more row')}: {reason}")
    more = len(told) - MAX_PROBLEMS
    return [*told[:MAX_PROBLEMS], *([f"{name}: and {more} more"] if more > 0 else [])]


def _read(row: Any, source: str) -> tuple[Task, tuple[str, ...]]:
    """Read one row; return its task and the names of its fields that are not read.

    Raises:
        DataError: Each thing that is wrong with the row.
    """
    if isinstance(row, Unreadable):
        raise DataError(row.reason)
    if not isinstance(row, dict):
        raise DataError(f"must be an object with the fields task_id, prompt, test, not {type(row).__name__}")
    try:
        if evalplus.has_inputs(row):
            return evalplus.task(row, source), ()
        fields = shapes.fields_of(row)
        return _Reader(row, fields).task(source), fields.unread
    except (ValueError, RecursionError) as e:
        raise DataError(str(e) or "nested too deeply") from e


class _Solution(NamedTuple):
    """The canonical solution as one program, the names that it defines in order, and the helpers before it."""

    code: str
    names: list[str]
    header: str = ""


class _Reader:
    """Reads one row and collects what is wrong with it."""

    def __init__(self, row: dict[str, Any], fields: shapes.Fields) -> None:
        self.row, self.fields, self.values = row, fields, fields.values
        self.wrong: list[str] = []

    def task(self, source: str) -> Task:
        """Return the task.

        Raises:
            DataError: Each thing that is wrong with the row.
        """
        suites = self._checked()
        given = str(self.values.get("entry_point") or "").strip()
        if given and not _CALLABLE.fullmatch(given):
            raise DataError(f"field 'entry_point': must be the name of a function, not {given!r:.80}")
        setup = self.values.get("setup") or ""
        self._defined(setup, "setup")
        solution = self._solution(_root(given))
        parsed = [(field, i, self._parse(t, field, i)) for field, tests in suites.items() for i, t in _joined(tests)]
        tests = [t for _, _, t in parsed if t is not None]
        call = self._call(given, solution, tests)
        if not call:  # a test that tests nothing calls nothing: that is the thing to tell
            self.wrong = [why for f, i, t in parsed if t is not None and (why := _untested(t, f, i))] or self.wrong
        self._stop()
        sources: dict[str, list[str]] = {"test": [], "plus_test": []}
        helpers = [self.values.get("test_setup") or ""]
        for field, number, test in parsed:
            try:
                assert test is not None  # else something is wrong
                found, helper = test.sources(call, frozenset((*solution.names, _root(call))))
            except ValueError as e:
                self.wrong.append(f"field {field!r}, assert {number}: {e}")
            else:
                sources[field] += found
                helpers.append(helper)
        self._stop()
        return Task(
            task_id=str(self.values["task_id"]), prompt=self.values["prompt"], code=solution.code,
            entry_point=_root(call), base=tuple(sources["test"]), plus=tuple(sources["plus_test"]),
            setup="\n".join(s for s in (solution.header, setup) if s),
            test_setup="\n".join(s for s in dict.fromkeys(helpers) if s.strip()),
            atol=float(self.values.get("atol") or 0), source=source,
        )  # fmt: skip

    def _stop(self) -> None:
        if self.wrong:
            raise DataError(*self.wrong)

    def _checked(self) -> dict[str, list[str]]:
        """Check the types of all fields; return the tests by suite."""
        values, wrong, base = self.values, self.wrong, self.fields.base
        missing = [f"field {f!r} is missing" for f in ("task_id", "prompt") if f not in values]
        missing += ["field 'test' is missing"] if base is None else []
        if missing:
            has = ", ".join(repr(str(k))[:40] for k in list(self.row)[:8])
            wrong.append(f"{', '.join(missing)}; it has {has}")
        for key in self.fields.unknown:
            close = difflib.get_close_matches(key, FIELDS, n=1, cutoff=0.8)
            if close and close[0] not in self.row:
                wrong.append(f"field {key!r} is unknown; did you mean {close[0]!r}?")
        task_id, prompt = values.get("task_id", "…"), values.get("prompt", "…")
        if isinstance(task_id, bool) or not isinstance(task_id, int | str) or task_id == "":
            wrong.append(f"field 'task_id': must be a number or a string, not {task_id!r:.80}")
        if not isinstance(prompt, str) or not prompt.strip():
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
        suites = {"test": [] if base is None else self._tests(base, "test")}
        if base in ([], ""):
            wrong.append("field 'test': holds no assert")
        suites["plus_test"] = [t for value in self.fields.plus for t in self._tests(value, "plus_test")]
        self._stop()
        return suites

    def _tests(self, value: Any, field: str) -> list[str]:
        value = [value] if isinstance(value, str) else value
        if isinstance(value, list) and all(isinstance(t, str) and t.strip() for t in value):
            return value
        self.wrong.append(f"field {field!r}: must be a list of asserts as text, not {value!r:.80}")
        return []

    def _defined(self, code: str, field: str) -> list[str]:
        try:
            return _names_of(code)
        except ValueError as e:
            self.wrong.append(f"field {field!r}: not Python: {e}")
            return []

    def _parse(self, test: str, field: str, number: int) -> TestSource | None:
        try:
            return TestSource.parse(test)
        except ValueError as e:
            self.wrong.append(f"field {field!r}, assert {number}: {e}")
            return None

    def _solution(self, entry_point: str) -> _Solution:
        """Return the canonical solution: as it stands, or after the prompt that it goes on from."""
        code = (self.values.get("code") or "").replace("\r\n", "\n")
        before = [p.replace("\r\n", "\n") for p in self.fields.joined] if code.strip() else []
        with contextlib.suppress(ValueError):
            if entry_point in _names_of(code):
                before = [p for p in before if _is_code(p)]  # one word of English is Python too
        for prompt in before:
            for lead in (prompt, f"{prompt.rstrip()}\n"):
                with contextlib.suppress(ValueError):
                    names = _names_of(lead + code)
                    if names and (not entry_point or entry_point in names):
                        return _Solution(lead + code, names, _header(lead + code, lead, entry_point))
        problems = len(self.wrong)
        names = self._defined(code, "code")
        if before and len(self.wrong) > problems:
            self.wrong[-1] = "field 'canonical_solution': neither after the prompt nor alone is it Python"
        return _Solution(code, names)

    def _call(self, given: str, solution: _Solution, tests: list[TestSource]) -> str:
        """Return how tests call the solution; an empty text if that can't be found."""
        names, root = solution.names, _root(given)
        called: Counter[str] = sum((t.called for t in tests), Counter())
        most = max((n for n in names if called[n]), key=lambda n: (called[n], names.index(n)), default="")
        waits = any(t.waits for t in tests)
        if given:
            if root in names and not waits and not any(root in t.text for t in tests):
                return most or given
            if waits and not any(t.uses_candidate for t in tests) and called.keys() & set(names) - {root, "check"}:
                return most
            if solution.code and root not in names and not self.wrong:
                self.wrong.append(f"field 'entry_point': 'code' does not define {root!r}")
            return given
        asked = next((t.given for t in tests if t.given), "")
        if asked and _CALLABLE.fullmatch(asked):
            return asked
        if waits and names:
            return most or names[-1]
        mentioned = [n for n in names if any(re.search(rf"\b{n}\b", t.text) for t in tests)]
        if not most and len(mentioned) == 1:  # as a decorator, or handed to a helper
            return mentioned[0]
        if not most and not self.wrong:
            why = (
                "no test calls a function that 'code' defines" if solution.code else "there is no 'code' to find it in"
            )
            self.wrong.append(f"field 'entry_point': {why}; add it")
        return most


def _root(call: str) -> str:
    """The name that a solution has to define: `Solution` of `Solution().f`."""
    return call.partition("(")[0].partition(".")[0]


def _joined(tests: list[str]) -> Iterator[tuple[int, str]]:
    """Number the tests from 1, each after those before it that only set names for it."""
    before: list[str] = []
    for number, test in enumerate(tests, 1):
        sets_names = False
        if number < len(tests):
            with contextlib.suppress(ValueError):
                sets_names = TestSource.parse(test).only_sets_names
        before.append(test)
        if not sets_names:
            yield number, "\n".join(before)
            before = []


def _untested(test: TestSource, field: str, number: int) -> str:
    try:
        test.sources("", frozenset())
    except ValueError as e:
        return f"field {field!r}, assert {number}: {e}"
    return ""


def _encodes(value: Any) -> bool:
    """True if a value's texts can be written to a file and sent to a model."""
    try:
        "".join(map(str, value) if isinstance(value, list) else [str(value)]).encode()
    except UnicodeEncodeError:
        return False
    return True


def _names_of(code: str) -> list[str]:
    """Names that a source defines at the top level, in order.

    Raises:
        ValueError: It is no Python.
    """
    names = []
    for node in parse(code).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.append(node.name)
        elif isinstance(node, ast.Assign):
            names += [t.id for t in node.targets if isinstance(t, ast.Name)]
    return names


def _is_code(prompt: str) -> bool:
    """True if a prompt holds imports, definitions or constants, and otherwise only text."""
    try:
        body = parse(prompt if prompt.rstrip()[-1:] != ":" else f"{prompt.rstrip()} pass").body
    except ValueError:
        return False
    text = [isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant) for s in body]
    return not all(text) and all(t or isinstance(s, _CODE) for t, s in zip(text, body, strict=True))


def _header(whole: str, prompt: str, entry_point: str) -> str:
    """The helpers that a prompt has before the function, with their imports: tests and solutions lean on them.

    Imports alone are left to the solution: one that forgets its own is wrong, as it is for other judges.
    """
    last, helpers, end = 0, False, prompt.count("\n")
    for node in parse(whole).body:
        if getattr(node, "name", "") == entry_point or (node.end_lineno or 0) > end:
            break
        if isinstance(node, _CODE) and not isinstance(node, ast.AsyncFunctionDef):
            last = node.end_lineno or last
            helpers = helpers or not isinstance(node, ast.Import | ast.ImportFrom)
    return "\n".join(whole.split("\n")[:last]).strip("\n") if helpers else ""
