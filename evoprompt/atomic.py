"""Paths as people write them, and files that are either the old one or the new one, never half of one."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from evoprompt.errors import StorageError, UsageError


def home(path: str | Path) -> Path:
    """The path, with a `~` at its beginning replaced by the home directory, as a shell does.

    Raises:
        UsageError: There is no such home directory.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as e:
        raise UsageError(f"{str(path)!r}: there is no such home directory; './{path}' is a folder of that name") from e


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` atomically and durably, creating its folders.

    Raises:
        StorageError: It can't be written; an older file at `path` is untouched.
    """
    with storage(path):
        write_bytes(path, text.encode("utf-8", "backslashreplace"))


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path` atomically and durably, creating its folders. Of two writers the last one stays.

    Raises:
        OSError: It can't be written; an older file at `path` is untouched.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:80]}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def storage(path: Path) -> Iterator[None]:
    """Turns a failure to write below `path` into one line for people.

    Raises:
        StorageError: Naming the path and the system's reason.
    """
    try:
        yield
    except OSError as e:
        raise StorageError(f"can't write {str(path)!r}: {e.strerror or e}; what was written before is whole") from e


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically; the same value gives the same bytes."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
