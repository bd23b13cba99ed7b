"""Reads sample files as people have them: one text after the other, with the task that it is for."""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from evoprompt.datasets.files import read_bytes
from evoprompt.errors import DataError
from evoprompt.wording import counted

PROGRAMS: Final = ("solution", "source_codes", "source_code")
"""Fields that hold whole programs."""
TEXTS: Final = (
    "completion", "generation", "generations", "code", "filtered_resps", "resps", "completions", "solutions", "samples",
    "code_list", "raw_generation", "output", "outputs", "model_output", "response", "responses", "raw_solution",
)  # fmt: skip
"""Fields that hold what a model wrote: a whole program, or what goes after the prompt."""
IDS: Final = ("task_id", "name", "question_id", "problem_id", "id")
TESTS: Final = frozenset(("test", "test_list", "test_case_list", "tests", "base_input", "canonical_solution"))
VERDICTS: Final = frozenset((
    "passed", "result", "results", "base_status", "plus_status", "pass@1", "pass_at_k", "correct", "is_solved",
))  # fmt: skip
PYTHON: Final = ("python", "python3", "py", "py3")
WANTED: Final = "give JSON lines of `task_id` and `solution`, or a folder of `.py` files"
PROBLEMS: Final = f"holds problems, not solutions of a model: it is a --dataset; as --samples {WANTED}"
JUDGED: Final = "holds verdicts, not solutions: give the samples that they were made from"
_NO_JSON: Final = ValueError("not JSON")
_LOOKED_AT: Final = 20
"""Lines by which a file that is no JSON is recognised."""


@dataclass(frozen=True)
class Given:
    """One text of a sample file.

    Attributes:
        where: Its place, for people.
        task_id: As the file has it.
        text: The text to judge; None if there is none.
        program: True if it is a whole program, whatever it looks like.
        problem: Why there is no text.
    """

    where: str
    task_id: str = ""
    text: str | None = None
    program: bool = False
    problem: str = ""


def read_given(path: Path, ids: Sequence[str]) -> Iterator[Given]:
    """Read every text of a file or folder, and every place where there should be one.

    Args:
        path: See `read_samples`.
        ids: The tasks in order, for a file that goes by position.

    Raises:
        DataError: The file is something else.
    """
    if path.is_dir():
        yield from _folder(path)
        return
    rows = list(_rows(_unzipped(path), path, ids))
    filters = [row["filter"] for _, row in rows if _is_logged(row)]
    for where, row in rows:
        # lm-eval writes every reply once for each of its filters; the last one is what it judged.
        if not _is_logged(row) or row["filter"] == filters[-1]:
            yield from _row(where, row)


def _is_logged(row: Any) -> bool:
    return isinstance(row, dict) and isinstance(row.get("filter"), str) and "resps" in row


def _unzipped(path: Path) -> bytes:
    content = read_bytes(path)
    try:
        content = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
    except (OSError, EOFError, zlib.error) as e:
        raise DataError(f"{path}: a damaged .gz file: {e}") from e
    if b"\0" in content[:65_536]:
        raise DataError(f"{path}: a binary file, not JSON lines")
    return content


def _rows(content: bytes, path: Path, ids: Sequence[str]) -> Iterator[tuple[str, Any]]:
    """`(place, row)`; a line that is no JSON is a row `ValueError`."""
    lines = [(n, line) for n, line in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1) if line.strip()]
    whole = _json(lines[0][1]) if lines else _NO_JSON
    if len(lines) > 1:
        whole = _NO_JSON if isinstance(whole, dict) else _json(content)
        some = (_json(line) for _, line in lines[: _LOOKED_AT + 1])
        if whole is _NO_JSON and not any(isinstance(row, dict) for row in some):
            raise DataError(f"{path}: {_what_it_is(path, content)}; {WANTED}")
    match whole:
        case list() if whole and all(_texts(row) is not None for row in whole):
            if len(whole) != len(ids):
                raise DataError(
                    f"{path}: {counted(len(whole), 'list')} of solutions without a task_id, which go by position, and "
                    f"the data set has {counted(len(ids), 'task')}: give these in the order that they were written for"
                )
            rows = ({"task_id": task, "completion": row} for task, row in zip(ids, whole, strict=True))
            yield from ((f"{path}: item {i}", row) for i, row in enumerate(rows, 1))
        case list():
            yield from ((f"{path}: item {i}", row) for i, row in enumerate(whole, 1))
        case dict() if isinstance(whole.get("eval"), dict) or not _names_a_task(whole):
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
        if _texts(value) is not None:
            yield where, {"task_id": key, "completion": value}
        elif isinstance(value, dict):
            yield where, {"task_id": key, **value}
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            yield from ((f"{where}, item {i}", row) for i, row in enumerate(value, 1))
        else:
            raise DataError(f"{path}: an object without solutions; {WANTED}")


def _names_a_task(row: Mapping[str, Any]) -> bool:
    return isinstance(row.get("doc"), dict) or any(name in row for name in IDS)


def _json(line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return _NO_JSON


def _what_it_is(path: Path, content: bytes) -> str:
    head = content[:20_000].decode("utf-8", "replace")
    if path.suffix == ".py" or re.search(r"^(?:def|class|import|from) \w", head, re.MULTILINE):
        return "a Python file, not JSON lines"
    commas = Counter(line.count(",") for line in head.splitlines()[:_LOOKED_AT])
    if path.suffix in (".csv", ".tsv") or (commas and min(commas) > 0 and len(commas) == 1):
        return "a table (CSV), not JSON lines"
    return "not JSON"


def _row(where: str, row: Any) -> Iterator[Given]:
    task_id = _id(row) if isinstance(row, dict) else None
    if task_id is None:
        problem = "not JSON" if row is _NO_JSON else "must be an object with 'task_id' and 'solution'"
        yield Given(where, problem=problem)
        return
    found = {name: texts for name in (*PROGRAMS, *TEXTS) if name in row and (texts := _texts(row[name]))}
    language = row.get("language") or row.get("lang") or row.get("programming_language")
    if isinstance(language, str) and language.casefold() not in PYTHON:
        yield Given(where, task_id, problem=f"a solution in {language!r:.40}: only Python can be judged")
    elif found and not (set(found) == {"code"} and TESTS & set(row)):
        name, texts = next(iter(found.items()))
        yield from (Given(where, task_id, text, name in PROGRAMS) for text in texts)
    elif TESTS & set(row):
        yield Given(where, task_id, problem=PROBLEMS)
    elif VERDICTS & set(row):
        yield Given(where, task_id, problem=JUDGED)
    else:
        yield Given(where, task_id, problem=f"task {task_id!r} has neither 'solution' nor 'completion' as text")


def _id(row: Mapping[str, Any]) -> str | None:
    """The id of a row, or of the problem that lm-eval copies into it."""
    doc = row.get("doc")
    for value in [holder.get(name) for holder in (row, doc if isinstance(doc, dict) else {}) for name in IDS]:
        if isinstance(value, float) and value.is_integer():
            return str(int(value))
        if isinstance(value, int | str) and not isinstance(value, bool) and value != "":
            return str(value)
    return None


def _texts(value: Any) -> list[str] | None:
    """The texts of a field: one, or lists of them; None if it holds anything else."""
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list) or not value:
        return None
    inner = [_texts(one) for one in value]
    return None if None in inner else [text for texts in inner if texts is not None for text in texts]


def _folder(path: Path) -> Iterator[Given]:
    """`Mbpp_2/0.py`, or `Mbpp_2.py`; the names of folders and files are ids with `_` for `/`."""
    entries = sorted(path.iterdir())
    folders, files = [p for p in entries if p.is_dir()], _python_files(entries)
    for folder in folders:
        found = _python_files(folder.iterdir())
        yield from (_file(file, folder.name) for file in found)
        if not found:
            yield Given(str(folder), problem="holds no .py file")
    yield from (_file(file, file.name.removesuffix(".gz").removesuffix(".py")) for file in files)
    if not folders and not files:
        others = ", ".join([p.name for p in entries if ".json" in p.name][:5])
        yield Given(str(path), problem="holds no .py file" + (f"; give one of its files: {others}" if others else ""))


def _python_files(entries: Iterable[Path]) -> list[Path]:
    found = [p for p in entries if p.name.endswith((".py", ".py.gz")) and p.is_file()]
    return sorted(found, key=lambda p: (len(p.name), p.name))


def _file(file: Path, task_id: str) -> Given:
    try:
        return Given(str(file), task_id, _unzipped(file).decode("utf-8-sig"), program=True)
    except (UnicodeDecodeError, DataError):
        return Given(str(file), task_id, problem="not a text file")
