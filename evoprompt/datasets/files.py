"""Finds rows in the files that people have: JSON of any shape, JSON lines, CSV, Parquet, each compressed or not."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from evoprompt.errors import DataError
from evoprompt.wording import not_utf8, pip_install

ROW_FIELDS: Final = frozenset((
    "task_id", "prompt", "text", "code", "canonical_solution", "test", "test_list", "entry_point", "tests", "name",
))  # fmt: skip
"""An object with one of these is a row, or a table of columns."""
_ARCHIVES: Final = {b"PK\x03\x04": "zip", b"BZh": "bzip2", b"\xfd7zXZ\x00": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
_TABLE: Final = re.compile(r"\.[ct]sv(\.gz)?$", re.IGNORECASE)
_DELIMITERS: Final = ",;\t"
_BLANKS: Final = re.compile(r"\s*")
_MAX_NESTING: Final = 3


class Unreadable(NamedTuple):
    """Stands for a row that could not be read: `reason` is the rest of a line for people."""

    reason: str


Row = tuple[str, Any]
"""The place in the file, and what stands there."""


def read_bytes(path: Path) -> bytes:
    """Read a file.

    Raises:
        DataError: It can't be read.
    """
    try:
        return path.read_bytes()
    except OSError as e:
        raise DataError(f"{path}: can't be read: {e.strerror or e}") from e


def rows_of(content: bytes, name: str) -> list[Row]:
    """Find the rows of a file.

    Args:
        content: Its bytes. Text is UTF-8, with or without a byte order mark.
        name: What to call it in messages.

    Raises:
        DataError: It holds no rows; one line that says what it is.
    """
    content = _unpacked(content, name)
    if content.startswith(b"PAR1"):
        return _parquet(content, name)
    try:
        text = content.decode("utf-8-sig")
        if "\0" in text:
            raise DataError(f"{name}: a binary file, neither JSON nor CSV nor Parquet")
        return _rows(text, name)
    except UnicodeDecodeError as e:
        raise DataError(f"{name}: {not_utf8(e)}") from e
    except RecursionError as e:
        raise DataError(f"{name}: nested too deeply to be a list of tasks") from e


def _unpacked(content: bytes, name: str) -> bytes:
    for magic, kind in _ARCHIVES.items():
        if content.startswith(magic):
            raise DataError(f"{name}: compressed with {kind}: unpack it first (of compressed files .gz can be read)")
    try:
        return gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content
    except (EOFError, zlib.error, gzip.BadGzipFile) as e:
        raise DataError(f"{name}: the compressed file is cut short or damaged: download it again") from e


def _rows(text: str, name: str) -> list[Row]:
    try:
        whole = json.loads(text)
    except json.JSONDecodeError as e:
        first = next((line for line in text.split("\n") if line.strip()), "").strip()
        if isinstance(_json(first), dict | list):
            return [(f"line {n}", _json(line)) for n, line in enumerate(text.split("\n"), 1) if line.strip()]
        if first[:1] == "{":
            return _one_after_another(text, name)
        if first and (_TABLE.search(name) or (first[:1] != "[" and _is_csv_header(first))):
            return _csv(text, name)
        if not first:
            raise DataError(f"{name}: the file is empty; give tasks with `task_id`, `prompt` and `test`") from e
        seen = f" (it begins with {first[:30]!r})" if first[0] not in "[{" else ""
        raise DataError(f"{name}: line {e.lineno}: not JSON: {e.msg}{seen}") from e
    except ValueError as e:  # an integer of more than 4,300 digits
        raise DataError(f"{name}: {e}") from e
    if isinstance(whole, dict) and any(isinstance(whole.get(k), str | int) for k in ROW_FIELDS):
        return [("item 1", whole)]
    rows = list(_unwrapped(whole, "", 0))
    if rows or whole in ([], {}):
        return rows
    if not isinstance(whole, dict):
        raise DataError(f"{name}: must be a JSON array of tasks or JSONL, not one {type(whole).__name__}")
    if {"eval", "hash"} <= set(whole) or any("pass@" in k for k in whole):
        raise DataError(f"{name}: verdicts, not tasks: give the file with the problems")
    if any(isinstance(v, str) for v in whole.values()):
        return [("item 1", whole)]
    keys = ", ".join(map(repr, list(whole)[:5]))
    raise DataError(f"{name}: must be a JSON array of tasks or JSONL, not one dict with the keys {keys}")


def _json(line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as e:
        return Unreadable(f"not JSON: {getattr(e, 'msg', None) or e}; is the file cut short?")


def _one_after_another(text: str, name: str) -> list[Row]:
    """Objects over several lines each, with nothing between them."""
    decoder, rows, at = json.JSONDecoder(), list[Row](), 0
    while (at := _BLANKS.match(text, at).end()) < len(text):  # type: ignore[union-attr]
        line = text.count("\n", 0, at) + 1
        try:
            value, at = decoder.raw_decode(text, at)
        except json.JSONDecodeError as e:
            raise DataError(f"{name}: line {e.lineno}: not JSON: {e.msg}") from e
        except ValueError as e:
            raise DataError(f"{name}: {e}") from e
        rows.append((f"line {line}", value))
    return rows


def _unwrapped(value: Any, place: str, depth: int) -> Iterator[Row]:
    """Rows of arrays, `{split: rows}`, `{id: row}`, tables of columns, and the answers of the hub's server."""
    if depth >= _MAX_NESTING or not value or not isinstance(value, dict | list):
        return
    if isinstance(value, list):
        for number, item in enumerate(value, 1):
            inner = item.get("row") if isinstance(item, dict) else None
            yield f"{place}item {number}", inner if isinstance(inner, dict) else item
        return
    splits = all(isinstance(v, list) and v and all(map(_has_row_fields, v)) for v in value.values())
    columns = None if splits else _columns(value)
    if columns is not None:
        yield from ((f"{place}item {n}", row) for n, row in enumerate(columns, 1))
        return
    tables = {k: v for k, v in value.items() if _is_table(v)}
    if tables and len(tables) in (1, len(value)):
        for key, table in tables.items():
            yield from _unwrapped(table, f"{place}{key} ", depth + 1)
    elif all(map(_has_row_fields, value.values())):
        yield from ((f"{place}item {key!r}", {"task_id": key} | row) for key, row in value.items())


def _has_row_fields(value: Any) -> bool:
    return isinstance(value, dict) and bool(ROW_FIELDS & set(value))


def _is_table(value: Any) -> bool:
    if isinstance(value, list):
        return bool(value) and all(isinstance(v, dict) for v in value)
    return isinstance(value, dict) and _columns(value) is not None


def _columns(table: dict[str, Any]) -> list[dict[str, Any]] | None:
    """The rows of a table of columns, each a list or an object by row; None if it is no table."""
    values = list(table.values())
    if len(values) < 2 or not _has_row_fields(table):
        return None
    if all(isinstance(v, list) for v in values) and len(set(map(len, values))) == 1:
        return [dict(zip(table, cells, strict=True)) for cells in zip(*values, strict=True)]
    if all(isinstance(v, dict) and v.keys() == values[0].keys() for v in values):
        return [{column: cells[key] for column, cells in table.items()} for key in values[0]]
    return None


def _is_csv_header(line: str) -> bool:
    cells = re.split(f"[{_DELIMITERS}]", line)
    return len(cells) > 1 and any(cell.strip().strip('"').lower() in ROW_FIELDS for cell in cells)


def _csv(text: str, name: str) -> list[Row]:
    first = next(line for line in text.split("\n") if line.strip())
    delimiter = max(_DELIMITERS, key=first.count)
    before = csv.field_size_limit(sys.maxsize)
    try:
        reader = csv.DictReader(io.StringIO(text.lstrip("\n"), newline=""), delimiter=delimiter)
        reader.fieldnames = [f.strip() for f in reader.fieldnames or ()]
        return [
            (f"row {n}", {k: v for k, v in row.items() if k and isinstance(v, str) and v.strip()})
            for n, row in enumerate(reader, 1)
        ]
    except csv.Error as e:
        raise DataError(f"{name}: not a CSV file: {e}") from e
    finally:
        csv.field_size_limit(before)


def _parquet(content: bytes, name: str) -> list[Row]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as e:
        raise DataError(f"{name}: Parquet needs the package `pyarrow`: run `{pip_install('bench')}`") from e
    try:
        rows = parquet.read_table(pyarrow.BufferReader(content)).to_pylist()
    except (OSError, ValueError) as e:  # pyarrow's own errors derive from these
        raise DataError(f"{name}: not a Parquet file: {str(e).splitlines()[0]:.160}") from e
    return [(f"line {n}", row) for n, row in enumerate(rows, 1)]
