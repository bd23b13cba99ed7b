"""Rows out of the files that people have: JSON of any shape, JSON lines, CSV, Parquet, each compressed or not."""

from __future__ import annotations

import csv
import gzip
import io
import json
import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from evoprompt.errors import DataError

ROW_FIELDS: Final = frozenset(
    ("task_id", "prompt", "text", "code", "canonical_solution", "test", "test_list", "entry_point", "tests", "name")
)
"""Names by which an object is known to be one row, or a table of columns."""

_PARQUET: Final = b"PAR1"
_OTHER_ARCHIVES: Final = {b"PK\x03\x04": "zip", b"BZh": "bzip2", b"\xfd7zXZ\x00": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
_MAX_NESTING: Final = 3


@dataclass(frozen=True)
class Unreadable:
    """Stands for a row that could not be read: `reason` is the rest of a line for people."""

    reason: str


Row = tuple[str, Any]
"""Where it stands in the file, and what stands there."""


def read_bytes(path: Path) -> bytes:
    """The bytes of a file.

    Raises:
        DataError: It can't be read.
    """
    try:
        return path.read_bytes()
    except OSError as e:
        raise DataError(f"{path}: can't be read: {e.strerror or e}") from e


def rows_of(content: bytes, name: str) -> list[Row]:
    """The rows of a file.

    Args:
        content: Its bytes. Text is UTF-8, with or without a byte order mark.
        name: What to call it in messages.

    Raises:
        DataError: It holds no rows; one line that says what it is.
    """
    content = _unpacked(content, name)
    if content[:4] == _PARQUET:
        return _parquet(content, name)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        raise DataError(f"{name}: not UTF-8 text (byte {e.start})") from e
    if "\0" in text:
        raise DataError(f"{name}: a binary file, neither JSON nor CSV nor Parquet")
    try:
        return _rows(text, name)
    except RecursionError as e:
        raise DataError(f"{name}: nested too deeply to be a list of tasks") from e


def _unpacked(content: bytes, name: str) -> bytes:
    for magic, kind in _OTHER_ARCHIVES.items():
        if content.startswith(magic):
            raise DataError(f"{name}: compressed with {kind}: unpack it first (of compressed files .gz can be read)")
    if content[:2] != b"\x1f\x8b":
        return content
    try:
        return gzip.decompress(content)
    except (EOFError, zlib.error, gzip.BadGzipFile) as e:
        raise DataError(f"{name}: the compressed file is cut short or damaged: download it again") from e


def _rows(text: str, name: str) -> list[Row]:
    try:
        whole = json.loads(text)
    except json.JSONDecodeError as e:
        first = next((line for line in text.split("\n") if line.strip()), "")
        if _is_json(first):
            return _lines(text)
        if text.lstrip()[:1] == "{":
            return _one_after_another(text, name)
        if text.lstrip()[:1] == "[" or not _is_csv_header(first):
            what = e.msg if first else "the file is empty and holds no task"
            raise DataError(f"{name}: line {e.lineno}: not JSON: {what}{_seen(first)}") from e
        return _csv(text, name)
    except ValueError as e:  # an integer of more than 4,300 digits
        raise DataError(f"{name}: {e}") from e
    if _is_json_row(whole):
        return [("item 1", whole)]
    rows = list(_unwrapped(whole, "", 0))
    if not rows and not (isinstance(whole, list | dict) and not whole):
        kind = f"one {type(whole).__name__}"
        if isinstance(whole, dict) and ({"eval", "hash"} <= set(whole) or any("pass@" in k for k in whole)):
            raise DataError(f"{name}: verdicts, not tasks: give the file with the problems")
        if isinstance(whole, dict) and any(isinstance(v, str) for v in whole.values()):
            return [("item 1", whole)]
        if isinstance(whole, dict):
            kind += f" with the keys {', '.join(map(repr, list(whole)[:5]))}"
        raise DataError(f"{name}: must be a JSON array of tasks or JSONL, not {kind}")
    return rows


def _seen(first: str) -> str:
    return f" (it begins with {first.strip()[:30]!r})" if first and first.lstrip()[:1] not in "[{" else ""


def _is_json(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict | list)
    except (ValueError, RecursionError):
        return False


def _is_json_row(value: Any) -> bool:
    """Whether an object is one row, not a table whose columns have the names of fields."""
    return (
        isinstance(value, dict)
        and bool(ROW_FIELDS & set(value))
        and any(isinstance(v, str | int) for k, v in value.items() if k in ROW_FIELDS)
    )


def _lines(text: str) -> list[Row]:
    rows: list[Row] = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            rows.append((f"line {number}", json.loads(line)))
        except (ValueError, RecursionError) as e:
            reason = getattr(e, "msg", None) or str(e)
            rows.append((f"line {number}", Unreadable(f"not JSON: {reason}; is the file cut short?")))
    return rows


def _one_after_another(text: str, name: str) -> list[Row]:
    """Objects over several lines each, with nothing between them."""
    decoder, at = json.JSONDecoder(), 0
    rows: list[Row] = []
    while True:
        at += len(text[at:]) - len(text[at:].lstrip()) if text[at : at + 1].isspace() else 0
        if at >= len(text):
            return rows
        line = text.count("\n", 0, at) + 1
        try:
            value, at = decoder.raw_decode(text, at)
        except json.JSONDecodeError as e:
            raise DataError(f"{name}: line {e.lineno}: not JSON: {e.msg}") from e
        except ValueError as e:
            raise DataError(f"{name}: {e}") from e
        rows.append((f"line {line}", value))


def _unwrapped(value: Any, place: str, depth: int) -> Iterator[Row]:
    """Rows of arrays, `{split: rows}`, `{id: row}`, tables of columns, and the answers of the hub's server."""
    if isinstance(value, list) and depth < _MAX_NESTING:
        for number, item in enumerate(value, 1):
            inner = item.get("row") if isinstance(item, dict) else None
            yield f"{place}item {number}", inner if isinstance(inner, dict) else item
        return
    if not isinstance(value, dict) or depth >= _MAX_NESTING or not value:
        return
    splits = all(
        isinstance(v, list) and v and all(isinstance(r, dict) and ROW_FIELDS & set(r) for r in v)
        for v in value.values()
    )
    columns = None if splits else _columns(value)
    if columns is not None:
        yield from ((f"{place}item {n}", row) for n, row in enumerate(columns, 1))
        return
    tables = {k: v for k, v in value.items() if _is_table(v)}
    if tables and (len(tables) == len(value) or len(tables) == 1):
        for key, table in tables.items():
            yield from _unwrapped(table, f"{place}{key} ", depth + 1)
    elif all(isinstance(v, dict) and ROW_FIELDS & set(v) for v in value.values()):
        for key, row in value.items():
            yield f"{place}item {key!r}", {"task_id": key} | row


def _is_table(value: Any) -> bool:
    if isinstance(value, list):
        return bool(value) and all(isinstance(v, dict) for v in value)
    return isinstance(value, dict) and _columns(value) is not None


def _columns(table: dict[str, Any]) -> list[dict[str, Any]] | None:
    """The rows of a table of columns, each a list or an object by row; None where it is none."""
    values = list(table.values())
    if len(values) < 2 or not ROW_FIELDS & set(table):
        return None
    if all(isinstance(v, list) for v in values):
        return [dict(zip(table, cells, strict=True)) for cells in zip(*values, strict=True)] if _even(values) else None
    if all(isinstance(v, dict) and v.keys() == values[0].keys() for v in values):
        return [{column: cells[key] for column, cells in table.items()} for key in values[0]]
    return None


def _even(columns: list[Any]) -> bool:
    return len({len(c) for c in columns}) == 1


def _is_csv_header(line: str) -> bool:
    return any(cell.strip().strip('"').lower() in ROW_FIELDS for cell in line.replace("\t", ",").split(",")) and (
        "," in line or "\t" in line
    )


def _csv(text: str, name: str) -> list[Row]:
    lines = text.split("\n")
    first = next(line for line in lines if line.strip())
    delimiter = "\t" if first.count("\t") > first.count(",") else ","
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
        raise DataError(f"{name}: Parquet needs the package `pyarrow`: install `evoprompt[bench]`") from e
    try:
        rows = parquet.read_table(pyarrow.BufferReader(content)).to_pylist()
    except (OSError, ValueError) as e:  # pyarrow's own errors derive from these
        raise DataError(f"{name}: not a Parquet file: {str(e).splitlines()[0]:.160}") from e
    return [(f"line {n}", row) for n, row in enumerate(rows, 1)]
