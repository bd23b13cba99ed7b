"""Sample files as people have them: whatever the shape, one text after the other with the task that it is for."""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from evoprompt.errors import DataError

PROGRAMS: Final = ("solution", "source_codes", "source_code")
"""Fields that hold whole programs."""
TEXTS: Final = (
    "completion", "generation", "generations", "code", "filtered_resps", "resps", "completions", "solutions", "samples",
    "code_list", "raw_generation", "output", "outputs", "model_output", "response", "responses", "raw_solution",
)  # fmt: skip
"""Fields that hold what a model wrote: a whole program, or what goes after the prompt."""
IDS: Final = ("task_id", "name", "question_id", "problem_id", "id")
TESTS: Final = ("test", "test_list", "test_case_list", "tests", "base_input", "canonical_solution")
VERDICTS: Final = (
    "passed",
    "result",
    "results",
    "base_status",
    "plus_status",
    "pass@1",
    "pass_at_k",
    "correct",
    "is_solved",
)
WANTED: Final = "give JSON lines of `task_id` and `solution`, or a folder of `.py` files"
PYTHON: Final = frozenset({"python", "python3", "py", "py3"})

PROBLEMS: Final = f"holds problems, not solutions of a model: it is a --dataset; as --samples {WANTED}"
JUDGED: Final = "holds verdicts, not solutions: give the samples that they were made from"


@dataclass(frozen=True)
class Given:
    """One text of a sample file.

    Attributes:
        where: Its place, for people.
        task_id: As the file has it.
        text: What is to be judged; None where there is nothing.
        program: Whether it is a whole program, whatever it looks like.
        problem: Why there is nothing.
    """

    where: str
    task_id: str = ""
    text: str | None = None
    program: bool = False
    problem: str = ""


def read_given(path: Path, ids: Sequence[str]) -> Iterator[Given]:
    """Every text of a file or folder, and every place where there should be one.

    Args:
        path: See `read_samples`.
        ids: The tasks in order, for a file that goes by position.

    Raises:
        DataError: The file is something else.
    """
    if path.is_dir():
        yield from _folder(path)
        return
    content = _content(path)
    rows = list(_rows(content, path, ids))
    filters = [row["filter"] for _, row in rows if _is_logged(row)]
    for where, row in rows:
        # lm-eval writes every reply once for each of its filters; the last one is what it judged.
        if not _is_logged(row) or row["filter"] == filters[-1]:
            yield from _row(where, row)


def _is_logged(row: Any) -> bool:
    return isinstance(row, dict) and isinstance(row.get("filter"), str) and "resps" in row


def _content(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as e:
        raise DataError(f"--samples {str(path)!r} can't be read: {e.strerror}") from e
    return _unzipped(content, path)


def _unzipped(content: bytes, path: Path) -> bytes:
    if content[:2] == b"\x1f\x8b":
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as e:
            raise DataError(f"{path}: a damaged .gz file: {e}") from e
    if b"\0" in content[:65_536]:
        raise DataError(f"{path}: a binary file, not JSON lines")
    return content


def _rows(content: bytes, path: Path, ids: Sequence[str]) -> Iterator[tuple[str, Any]]:
    """`(place, row)`; a line that is no JSON is a row `ValueError`."""
    lines = [(n, line) for n, line in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1) if line.strip()]
    first = _json(lines[0][1]) if lines else None
    if len(lines) > 1 and not isinstance(first, dict):
        whole = _json(content)
        if isinstance(whole, ValueError) and not any(isinstance(_json(line), dict) for _, line in lines[1:21]):
            raise DataError(f"{path}: {_what_it_is(path, content)}; {WANTED}")
    else:
        whole = first if len(lines) == 1 else ValueError()
    match whole:
        case list() if whole and all(isinstance(row, str) or _texts(row) is not None for row in whole):
            if len(whole) != len(ids):
                raise DataError(
                    f"{path}: {len(whole)} lists of solutions without a task_id, which go by position, and the data "
                    f"set has {len(ids)} tasks: give the tasks in the order that they were written for"
                )
            yield from ((f"{path}: item {i}", {"task_id": task, "completion": row})
                        for i, (task, row) in enumerate(zip(ids, whole, strict=True), 1))  # fmt: skip
        case list():
            yield from ((f"{path}: item {i}", row) for i, row in enumerate(whole, 1))
        case dict() if isinstance(whole.get("eval"), dict) or not _is_row(whole):
            yield from _mapping(whole, path)
        case dict():
            yield f"{path}: item 1", whole
        case _:
            yield from ((f"{path}: line {n}", _json(line)) for n, line in lines)


def _mapping(whole: Mapping[str, Any], path: Path) -> Iterator[tuple[str, Any]]:
    """The rows of `{task_id: solution}`, `{task_id: [solutions]}`, `{task_id: row}` or `{name: [rows]}`.

    Raises:
        DataError: It is something else.
    """
    if isinstance(whole.get("eval"), dict) or set(whole) & {*VERDICTS, "config", "configs"}:
        raise DataError(f"{path}: {JUDGED}")
    for key, value in whole.items():
        where = f"{path}: {key!r}"
        if isinstance(value, str) or _texts(value) is not None:
            yield where, {"task_id": key, "completion": value}
        elif isinstance(value, dict):
            yield where, {"task_id": key, **value}
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            yield from ((f"{where}, item {i}", row) for i, row in enumerate(value, 1))
        else:
            raise DataError(f"{path}: an object without solutions; {WANTED}")


def _is_row(row: Mapping[str, Any]) -> bool:
    return isinstance(row.get("doc"), dict) or any(name in row for name in IDS)


def _json(line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return ValueError("not JSON")


def _what_it_is(path: Path, content: bytes) -> str:
    head = content[:20_000].decode("utf-8", "replace")
    if path.suffix == ".py" or re.search(r"^(?:def|class|import|from) \w", head, re.MULTILINE):
        return "a Python file, not JSON lines"
    commas = Counter(line.count(",") for line in head.splitlines()[:20])
    if path.suffix in (".csv", ".tsv") or (commas and min(commas) > 0 and len(commas) == 1):
        return "a table (CSV), not JSON lines"
    return "not JSON"


def _row(where: str, row: Any) -> Iterator[Given]:
    if isinstance(row, ValueError):
        yield Given(where, problem=str(row))
        return
    task_id = _id(row) if isinstance(row, dict) else None
    if task_id is None:
        yield Given(where, problem="must be an object with 'task_id' and 'solution'")
        return
    found = {name: texts for name in (*PROGRAMS, *TEXTS) if name in row and (texts := _texts(row[name]))}
    language = row.get("language") or row.get("lang") or row.get("programming_language")
    if isinstance(language, str) and language.casefold() not in PYTHON:
        yield Given(where, task_id, problem=f"a solution in {language!r:.40}: only Python can be judged")
    elif found and not (set(found) == {"code"} and set(row) & {*TESTS}):
        name = next(iter(found))
        for text in found[name]:
            yield Given(where, task_id, text, name in PROGRAMS)
    elif set(row) & {*TESTS}:
        yield Given(where, task_id, problem=PROBLEMS)
    elif set(row) & {*VERDICTS}:
        yield Given(where, task_id, problem=JUDGED)
    else:
        yield Given(where, task_id, problem=f"task {task_id!r} has neither 'solution' nor 'completion' as text")


def _id(row: Mapping[str, Any]) -> str | None:
    """The id of a row, or of the problem that lm-eval copies into it."""
    for holder in (row, row.get("doc")):
        for name in IDS if isinstance(holder, dict) else ():
            value = holder.get(name)  # type: ignore[union-attr]
            if isinstance(value, float) and value.is_integer():
                value = int(value)
            if isinstance(value, int | str) and not isinstance(value, bool) and value != "":
                return str(value)
    return None


def _texts(value: Any) -> list[str] | None:
    """The texts of a field: one, or lists of them; None where it holds anything else."""
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list) or not value:
        return None
    inner = [_texts(one) for one in value]
    return None if None in inner else [text for texts in inner if texts is not None for text in texts]


def _folder(path: Path) -> Iterator[Given]:
    """`Mbpp_2/0.py`, or `Mbpp_2.py`; the names of folders and files are ids with `_` for `/`."""
    entries = sorted(path.iterdir())
    folders = [p for p in entries if p.is_dir()]
    for folder in folders:
        files = [p for p in folder.iterdir() if _is_python(p)]
        for file in sorted(files, key=lambda p: (len(p.name), p.name)):
            yield _file(file, folder.name)
        if not files:
            yield Given(str(folder), problem="holds no .py file")
    files = [p for p in entries if p.is_file() and _is_python(p)]
    for file in sorted(files, key=lambda p: (len(p.name), p.name)):
        yield _file(file, file.name.removesuffix(".gz").removesuffix(".py"))
    if not folders and not files:
        others = [p.name for p in entries if ".json" in p.name]
        more = f"; give one of its files: {', '.join(others[:5])}" if others else ""
        yield Given(str(path), problem=f"holds no .py file{more}")


def _is_python(path: Path) -> bool:
    return path.name.endswith((".py", ".py.gz"))


def _file(file: Path, task_id: str) -> Given:
    try:
        return Given(str(file), task_id, _unzipped(file.read_bytes(), file).decode("utf-8-sig"), program=True)
    except (OSError, UnicodeDecodeError, DataError):
        return Given(str(file), task_id, problem="not a text file")
