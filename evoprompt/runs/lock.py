"""A lock: one process per run directory. Imports the standard library only, so that a second process fails at once."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from evoprompt.atomic import open_ours
from evoprompt.errors import StorageError, UsageError

NAME = "run.lock"


class Lock:
    """Locks a run directory. The kernel frees the lock when the process ends, however it ends.

    Args:
        root: The directory; created if absent.

    Raises:
        UsageError: Another process holds the lock; the message names it, its host and the time.
        StorageError: The file system takes no file, or supports no locks.
    """

    def __init__(self, root: Path) -> None:
        import fcntl

        self.path = root / NAME
        try:
            root.mkdir(parents=True, exist_ok=True)
            file = os.fdopen(open_ours(self.path, os.O_RDWR | os.O_APPEND), "a+", encoding="utf-8")
        except OSError as e:
            raise StorageError(f"can't write to {str(root)!r}: {e.strerror}; choose another directory") from e
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with file:
                raise UsageError(f"run directory {str(root)!r} is in use by {_holder(file)}") from None
        except OSError as e:
            file.close()
            raise StorageError(
                f"the file system of {str(root)!r} has no locks ({e.strerror}): two runs could destroy each other; "
                "choose a directory on another one"
            ) from e
        self._file: TextIO | None = file
        with contextlib.suppress(OSError):  # on a full disk the lock holds, without the name of its holder
            file.truncate(0)
            since = datetime.now(UTC).isoformat(timespec="seconds")
            json.dump({"host": socket.gethostname(), "pid": os.getpid(), "since": since}, file)
            file.flush()

    def release(self) -> None:
        """Release the lock. The file stays: removing it would race with a process that opens it now."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def __enter__(self) -> Lock:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def is_held(root: Path) -> bool:
    """True if a process holds the lock of a run directory, or that can't be found out."""
    import fcntl

    try:
        with os.fdopen(os.open(root / NAME, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)) as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def _holder(file: TextIO) -> str:
    try:
        file.seek(0)
        told = json.load(file)
        return f"process {told['pid']} on {told['host']} since {told['since']}"
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return "another process"
