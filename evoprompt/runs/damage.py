"""Checks what is read back from a journal: a damaged or edited file is one error message, and never believed."""

from __future__ import annotations

import contextlib
import json
import math
import re
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from evoprompt.errors import DamagedError, DataError, EvoPromptError, StorageError, UsageError

if TYPE_CHECKING:
    from pydantic import BaseModel

Model = TypeVar("Model", bound="BaseModel")

_DAMAGED = "malformed|could not decode|no such (?:table|column)|has no column|disk image|corrupt|datatype mismatch"
"""Messages of SQLite about a file that another program wrote to."""
_SURPRISES = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError, AssertionError)
"""Errors of code that reads what it did not write. Those of pydantic and JSON are ValueErrors."""


def damaged(path: Path | None, why: str) -> DamagedError:
    """Make the error for a journal that is not as it was written."""
    return DamagedError(
        f"{_named(path)} is damaged ({_cut(why, 160)}): bring it back from a copy, or begin anew in another directory"
    )


def refused(path: Path | None, error: sqlite3.Error) -> EvoPromptError:
    """Make the error for a journal that SQLite can't read or write."""
    if "not a database" in str(error):
        return DataError(f"{str(path)!r} is no journal of evoprompt")
    if "locked" in str(error):
        return UsageError(f"{str(path)!r} is in use by another process")
    if re.search(_DAMAGED, str(error), re.IGNORECASE):
        return damaged(path, str(error))
    return StorageError(f"{_named(path)}: {error}; what was written before is whole: the same command goes on")


@contextlib.contextmanager
def reading(what: str, path: Path | None) -> Iterator[None]:
    """Surround code that reads `what` from the journal at `path`.

    Raises:
        DamagedError: The content is not what the code expects.
    """
    try:
        yield
    except _SURPRISES as e:
        raise damaged(path, f"{what}: {type(e).__name__} {_cut(str(e), 120)}".rstrip()) from e


def as_written(kind: type[Model], text: str, path: Path | None) -> Model:
    """Return an instance of `kind` from its JSON in the journal at `path`.

    Raises:
        DamagedError: It is something else.
    """
    with reading(f"a {kind.__name__.lower()}", path):
        return kind.model_validate_json(text)


def plain_object(text: str, what: str, path: Path | None) -> dict[str, Any]:
    """Return a JSON object from its text.

    Raises:
        DamagedError: It is something else.
    """
    with reading(what, path):
        found = json.loads(text, parse_constant=_refuse)
        if not isinstance(found, dict):
            raise TypeError(f"a {type(found).__name__} and no object")
        return found


def numbers(row: Sequence[Any]) -> list[Any]:
    """Return counts and sums.

    Raises:
        ValueError: One is missing, negative or no number.
    """
    for value in row:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
            raise ValueError(f"{value!r} is no count")
    return list(row)


def _named(path: Path | None) -> str:
    return f"the journal {str(path)!r}" if path else "the journal in memory"


def _cut(text: str, size: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= size else f"{text[: size - 1]}…"


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number")
