"""What is read back from a run is checked once, here: a damaged or edited file is one line, and never believed."""

from __future__ import annotations

import contextlib
import json
import math
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from pydantic import BaseModel

from evoprompt.errors import DamagedError

Model = TypeVar("Model", bound=BaseModel)

DAMAGED = "malformed|could not decode|no such (?:table|column)|has no column|disk image|corrupt|datatype mismatch"
"""What SQLite says of a file that somebody else wrote to."""
_SURPRISES = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError, AssertionError)
"""What reading something raises that is not what was written. Pydantic's and JSON's errors are ValueErrors."""
_COLUMNS = {
    "meta": ("name", "value"),
    "answers": (
        "key", "role", "model", "response", "input_tokens", "output_tokens", "cost", "seconds", "retries",
    ),
    "spent": (
        "role", "calls", "retries", "input_tokens", "output_tokens", "cost", "unpriced", "seconds",
    ),
    "rollouts": ("candidate", "task", "sample", "measured", "body", "label"),
    "steps": ("number", "kind", "key", "body"),
}  # fmt: skip


def damaged(path: Path | None, why: str) -> DamagedError:
    """The one line about a journal that is not as it was written."""
    where = f"the journal {str(path)!r}" if path else "the journal in memory"
    return DamagedError(f"{where} is damaged ({why}): bring it back from a copy, or begin anew in another directory")


@contextlib.contextmanager
def reading(what: str, path: Path | None) -> Iterator[None]:
    """Around code that takes something of a journal for what it should be.

    Args:
        what: What is read, for people.
        path: The journal.

    Raises:
        DamagedError: It is something else.
    """
    try:
        yield
    except _SURPRISES as e:
        told = " ".join(str(e).split())
        told = told if len(told) <= 120 else f"{told[:119]}…"
        raise damaged(path, f"{what}: {type(e).__name__} {told}".rstrip()) from e


def as_written(kind: type[Model], text: str, path: Path | None) -> Model:
    """A row of the journal.

    Args:
        kind: Class of which it is an instance.
        text: JSON of it.
        path: The journal.

    Raises:
        DamagedError: It is none.
    """
    with reading(f"a {kind.__name__.lower()}", path):
        return kind.model_validate_json(text)


def check_tables(db: sqlite3.Connection, path: Path | None) -> None:
    """Refuse a journal that lacks a table or a column."""
    for table, columns in _COLUMNS.items():
        found = {row[1] for row in db.execute(f"PRAGMA table_info({table})")}
        if missing := [c for c in columns if c not in found]:
            raise damaged(path, f"its table {table!r} has no {missing[0]!r}")


def plain_object(text: str, what: str, path: Path | None) -> dict[str, Any]:
    """A JSON object.

    Raises:
        DamagedError: It is something else.
    """
    with reading(what, path):
        found = json.loads(text, parse_constant=_refuse)
        if not isinstance(found, dict):
            raise TypeError(f"a {type(found).__name__} and no object")
        return found


def numbers(row: Sequence[Any]) -> list[Any]:
    """Counts and sums: none is missing, below 0, or no number."""
    for value in row:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
            raise ValueError(f"{value!r} is no count")
    return list(row)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number")
