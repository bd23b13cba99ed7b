"""The user's own tasks: a JSON array or JSONL, checked field by field before anything is loaded."""

from __future__ import annotations

import ast
import difflib
import json
from collections import Counter
from collections.abc import Callable
from typing import Any

from evoprompt.errors import DataError
from evoprompt.harness.asserts import split
from evoprompt.tasks import Task, parse_python

FIELDS = ("task_id", "prompt", "code", "test", "plus_test", "entry_point", "setup", "atol")
REQUIRED = ("task_id", "prompt", "test")
MAX_PROBLEMS = 20
MAX_ATOL = 1e9


def read_tasks(
    content: bytes, name: str, *, source: str = "", convert: Callable[[Any], Any] = lambda item: item
) -> list[Task]:
    """Read tasks from the bytes of a JSON array or of JSONL (one object a line).

    Args:
        content: The file. UTF-8, with or without a byte order mark.
        name: What to call it in messages.
        source: Stored in each task's `source`.
        convert: Brings an item of another shape into this one, and leaves every other as it is.

    Raises:
        DataError: One line for each thing that is wrong: which task, which field, what.
    """
    items = _parse(content, name)
    tasks: list[Task] = []
    problems: list[str] = []
    seen: dict[str, str] = {}
    for place, item in items:
        item = convert(item)
        task, wrong = _task(item, source)
        where = f"{name}: {place}"
        if isinstance(item, dict) and "task_id" in item:
            where += f", task {item['task_id']!r}"
        problems += [f"{where}: {w}" for w in wrong]
        if task is not None:
            if task.task_id in seen:
                problems.append(f"{where}: field 'task_id': the same id as {seen[task.task_id]}")
            seen[task.task_id] = place
            tasks.append(task)
    if not items:
        problems.append(f"{name}: holds no task")
    if problems:
        more = len(problems) - MAX_PROBLEMS
        raise DataError(*problems[:MAX_PROBLEMS], *([f"{name}: and {more} more"] if more > 0 else []))
    return tasks


def _parse(content: bytes, name: str) -> list[tuple[str, Any]]:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        raise DataError(f"{name}: not UTF-8 text (byte {e.start})") from e
    try:
        whole = json.loads(text)
    except RecursionError as e:
        raise DataError(f"{name}: nested too deeply to be a list of tasks") from e
    except json.JSONDecodeError as e:
        first = text.lstrip()[:1]
        if first == "[" or "\n" not in text.strip():
            raise DataError(f"{name}: line {e.lineno}: not JSON: {e.msg}") from e
        return _parse_lines(text, name)
    except ValueError as e:  # an integer of more than 4,300 digits
        raise DataError(f"{name}: {e}") from e
    if isinstance(whole, list):
        return [(f"item {i}", item) for i, item in enumerate(whole, 1)]
    if isinstance(whole, dict) and ("prompt" in whole or "test_list" in whole):
        return [("item 1", whole)]
    raise DataError(f"{name}: must be a JSON array of tasks or JSONL, not one {type(whole).__name__}")


def _parse_lines(text: str, name: str) -> list[tuple[str, Any]]:
    items, problems = [], []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            items.append((f"line {number}", json.loads(line)))
        except (ValueError, RecursionError) as e:
            problems.append(f"{name}: line {number}: not JSON: {getattr(e, 'msg', None) or e}")
    if problems:
        raise DataError(*problems[:MAX_PROBLEMS])
    return items


def _task(item: Any, source: str) -> tuple[Task | None, list[str]]:
    """Returns the task, or None with what is wrong with the item."""
    if not isinstance(item, dict):
        return None, [f"must be an object with the fields {', '.join(REQUIRED)}, not {type(item).__name__}"]
    wrong = [f"field {f!r} is missing" for f in REQUIRED if f not in item]
    for key in item:
        close = difflib.get_close_matches(key, FIELDS, n=1, cutoff=0.8) if key not in FIELDS else []
        if close and close[0] not in item:
            wrong.append(f"field {key!r} is unknown; did you mean {close[0]!r}?")
    task_id, prompt = item.get("task_id"), item.get("prompt")
    if "task_id" in item and (isinstance(task_id, bool) or not isinstance(task_id, int | str) or task_id == ""):
        wrong.append(f"field 'task_id': must be a number or a string, not {task_id!r:.80}")
    if "prompt" in item and (not isinstance(prompt, str) or not prompt.strip()):
        wrong.append(f"field 'prompt': must be text, not {prompt!r:.80}")
    wrong += [f"field {k!r}: holds half a surrogate pair" for k, v in item.items() if not _encodes(v)]
    for key in ("code", "setup", "entry_point"):
        if not isinstance(item.get(key, ""), str):
            wrong.append(f"field {key!r}: must be text, not {item[key]!r:.80}")
    atol = item.get("atol", 0.0)
    if isinstance(atol, bool) or not isinstance(atol, int | float) or not 0 <= atol <= MAX_ATOL:
        wrong.append(f"field 'atol': must be a number ≥ 0, not {atol!r:.80}")
    base, plus = _asserts(item, "test", wrong), _asserts(item, "plus_test", wrong)
    if wrong:
        return None, wrong
    code, setup = item.get("code", ""), item.get("setup", "")
    names = _source_names(code, "code", wrong)
    _source_names(setup, "setup", wrong)
    entry_point = item.get("entry_point") or _entry_point(names, (*base, *plus))
    for field, tests in (("test", base), ("plus_test", plus)):
        for i, test in enumerate(tests, 1):
            try:
                split(test, names, entry_point)
                if _tests_nothing(test):
                    raise ValueError("tests nothing: begin it with `assert`")
            except ValueError as e:
                wrong.append(f"field {field!r}, assert {i}: {e}")
    if not wrong and not entry_point.isidentifier():
        why = "no test calls a function that 'code' defines" if code else "there is no 'code' to find it in"
        wrong.append(f"field 'entry_point': {why}; add it")
    elif not wrong and code and entry_point not in names:
        wrong.append(f"field 'entry_point': 'code' does not define {entry_point!r}")
    if wrong:
        return None, wrong
    return (
        Task(
            task_id=str(task_id), prompt=str(prompt), code=code, entry_point=entry_point,
            base=base, plus=plus, setup=setup, atol=float(atol), source=source,
        ),
        [],
    )  # fmt: skip


def _tests_nothing(test: str) -> bool:
    """Whether a test is a bare comparison or value: true or false, it raises nothing."""
    return all(isinstance(s, ast.Expr) and not isinstance(s.value, ast.Call) for s in parse_python(test).body)


def _encodes(value: Any) -> bool:
    """Whether a value's texts can be written to a file and sent to a model."""
    try:
        "".join(map(str, value) if isinstance(value, list) else [str(value)]).encode()
    except UnicodeEncodeError:
        return False
    return True


def _asserts(item: dict[str, Any], field: str, wrong: list[str]) -> tuple[str, ...]:
    value = item.get(field, [])
    value = [value] if isinstance(value, str) else value
    if not isinstance(value, list) or not all(isinstance(t, str) and t.strip() for t in value):
        wrong.append(f"field {field!r}: must be a list of asserts as text, not {value!r:.80}")
        return ()
    if field == "test" and "test" in item and not value:
        wrong.append("field 'test': holds no assert")
    return tuple(value)


def _source_names(code: str, field: str, wrong: list[str]) -> list[str]:
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


def _entry_point(names: list[str], tests: tuple[str, ...]) -> str:
    """The name that the tests call most; of several, the one defined last. Empty when none is called."""
    calls: Counter[str] = Counter()
    for test in tests:
        try:
            tree = parse_python(test)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue
        calls.update(
            n.func.id
            for n in ast.walk(tree)
            if isinstance(n, ast.Call) and isinstance(n.func, ast.Name) and n.func.id in names
        )
    return max(names, key=lambda n: (calls[n], names.index(n))) if calls else ""
