"""Paths as people write them, and files that are either the old one or the new one, never half of one."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
import os
import stat
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from evoprompt.errors import StorageError, UsageError

_UNFINISHED: Final = ".tmp"
"""Names of files that are being written end so."""


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
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=_prefix(path.name), suffix=_UNFINISHED)
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


def remove_unfinished(root: Path) -> None:
    """Remove what a process that was killed began to write below `root`. Only who alone writes there may call it."""
    _remove(root.rglob(f".*.????????{_UNFINISHED}"))


def remove_unfinished_of(path: Path) -> None:
    """Remove what a process that was killed began to write to `path`. Only who alone writes it may call this."""
    _remove(path.parent.glob(f"{glob.escape(_prefix(path.name))}????????{_UNFINISHED}"))


def _remove(found: Iterable[Path]) -> None:
    for path in found:
        with contextlib.suppress(OSError):  # a file too many harms nothing
            path.unlink()


def _prefix(name: str) -> str:
    """Names of what is being written to a file begin so, and of no other's; a long name leaves no room for itself."""
    return f".{name if len(name) <= 80 else name[:71] + '-' + hashlib.sha256(os.fsencode(name)).hexdigest()[:8]}."


def require_ours(path: Path, below: Path | None = None) -> None:
    """Refuse to write through what another user may have put in a file's place: a link, a pipe, a device.

    Args:
        path: A file that is to be written, or made.
        below: Where the folders of the path are ours as well: none of those below it may be a link.

    Raises:
        StorageError: Naming it.
    """
    for parent in path.parents if below is not None else ():
        if parent == below:
            break
        if parent.is_symlink():
            raise StorageError(f"{str(parent)!r} is a symbolic link, which is not followed: remove it")
    try:
        mode = path.lstat().st_mode
    except OSError:
        return
    if not stat.S_ISREG(mode):
        what = "a symbolic link, which is not followed" if stat.S_ISLNK(mode) else "no regular file"
        raise StorageError(f"{str(path)!r} is {what}: remove it")


def open_ours(path: Path, flags: int) -> int:
    """A descriptor of a regular file, made where it is absent; nothing else is opened, and nothing is waited for.

    Raises:
        StorageError: It is a link, a pipe or a device.
        OSError: It can't be opened.
    """
    require_ours(path)
    descriptor = os.open(path, flags | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o644)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise StorageError(f"{str(path)!r} is no regular file: remove it")
    return descriptor


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
