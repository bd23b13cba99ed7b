"""One process per run directory. Imports the standard library only: who comes second is told so at once."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TextIO

from evoprompt.atomic import open_ours
from evoprompt.errors import StorageError, UsageError

NAME = "run.lock"


class Lock:
    """Holds a run directory. The kernel frees it when its process ends, however that is.

    Args:
        root: The directory; it is created.

    Raises:
        UsageError: Another process holds it; the message says which, where and since when.
        StorageError: The file system takes no file, or has no locks.
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
        with contextlib.suppress(OSError):  # a full disk: the lock holds, only its holder is not named
            file.truncate(0)
            since = datetime.now(UTC).isoformat(timespec="seconds")
            json.dump({"host": socket.gethostname(), "pid": os.getpid(), "since": since}, file)
            file.flush()

    def release(self) -> None:
        """Let the next process in. The file stays: removing it would race with who opens it now."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def __enter__(self) -> Lock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def _holder(file: TextIO) -> str:
    try:
        file.seek(0)
        told = json.load(file)
        return f"process {told['pid']} on {told['host']} since {told['since']}"
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return "another process"
