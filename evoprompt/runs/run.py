"""A run directory in the hands of this process: its lock, its journal, its results tree."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

from evoprompt.atomic import home
from evoprompt.errors import UsageError
from evoprompt.runs import journal, lock
from evoprompt.runs.journal import Journal
from evoprompt.runs.lock import Lock
from evoprompt.runs.tree import BEFORE_THE_FIRST_CALL, ResultsTree

OURS = {lock.NAME, journal.NAME, f"{journal.NAME}-wal", f"{journal.NAME}-shm", "logs/events.jsonl"}


class Run:
    """Opens a run directory, to begin a run or to go on with one. Use it in a `with` statement.

    Args:
        root: The directory; it may be absent, empty, or that of a run of this version.
        held: The lock, where the caller has taken it before.

    Attributes:
        journal: What was paid for and decided: the truth.
        tree: The files for people and scripts, which can be made from the journal.

    Raises:
        UsageError: Another process holds it, or it holds something else than a run that can be resumed.
        StorageError: It can't be written.
        DataError: Its journal is damaged or of a newer evoprompt.
    """

    def __init__(self, root: str | Path, *, held: Lock | None = None) -> None:
        self.root = home(root)
        self._lock = held or Lock(self.root)
        try:
            if not (self.root / journal.NAME).exists():
                self._refuse_strangers()
            self.journal = Journal(self.root / journal.NAME)
            self.tree = ResultsTree(self.root)
        except BaseException:
            self._lock.release()
            raise

    def close(self) -> None:
        """Let the next process in."""
        try:
            self.journal.close()
        finally:  # also where Ctrl-C comes in between
            self._lock.release()

    def __enter__(self) -> Run:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _refuse_strangers(self) -> None:
        found = {str(p.relative_to(self.root)) for p in self.root.rglob("*") if p.is_file()}
        if "training/rollouts.jsonl" in found:
            raise UsageError(
                f"run directory {str(self.root)!r} was written by an evoprompt that had no journal: it can't be "
                "resumed; choose another --run_name (its results stay as they are)"
            )
        if found - BEFORE_THE_FIRST_CALL - OURS:
            raise UsageError(
                f"run directory {str(self.root)!r} is not empty and holds no journal; choose another --run_name, or "
                "move what is there away"
            )


def open_finished(root: str | Path) -> Run:
    """Open the directory of a run that exists.

    Raises:
        UsageError: There is none, or another process holds it.
    """
    path = home(root) / journal.NAME
    if not path.is_file():
        raise UsageError(f"{str(root)!r} holds no run: there is no {journal.NAME} in it")
    return Run(root)
