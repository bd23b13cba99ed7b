"""A run directory that is open in this process: its lock, its journal, its results tree."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evoprompt.atomic import home, remove_unfinished
from evoprompt.errors import UsageError
from evoprompt.runs import journal, lock
from evoprompt.runs.journal import Journal
from evoprompt.runs.lock import Lock
from evoprompt.runs.tree import BEFORE_THE_FIRST_CALL, ResultsTree

OURS = {lock.NAME, journal.NAME, f"{journal.NAME}-wal", f"{journal.NAME}-shm", "logs/events.jsonl"}


class Run:
    """Opens a run directory to begin a run or resume one. A context manager.

    Args:
        root: The directory; absent, empty, or that of a run.
        held: The lock, if the caller holds it already.

    Attributes:
        journal: All that was paid for and decided.
        tree: The files for people and scripts. They can be made from the journal.

    Raises:
        UsageError: Another process has it open, or it holds something else than a run.
        StorageError: It can't be written.
        DataError: Its journal is damaged or of a newer evoprompt.
    """

    def __init__(self, root: str | Path, *, held: Lock | None = None) -> None:
        self.root = home(root)
        self._lock = held or Lock(self.root)
        try:
            remove_unfinished(self.root)
            if not (self.root / journal.NAME).exists():
                self._refuse_strangers()
            self.journal = Journal(self.root / journal.NAME)
            self.tree = ResultsTree(self.root)
        except BaseException:
            self._lock.release()
            raise

    def close(self) -> None:
        """Close the journal and release the lock."""
        try:
            self.journal.close()
        finally:
            self._lock.release()

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _refuse_strangers(self) -> None:
        found = {str(p.relative_to(self.root)) for p in self.root.rglob("*") if p.is_file()}
        if found - BEFORE_THE_FIRST_CALL - OURS:
            raise UsageError(
                f"run directory {str(self.root)!r} is not empty and holds no journal; choose another --run_name, or "
                "move what is there away"
            )


def open_finished(root: str | Path) -> Run:
    """Open the directory of an existing run.

    Raises:
        UsageError: There is none, or another process holds it.
    """
    path = home(root) / journal.NAME
    if not path.is_file():
        raise UsageError(f"{str(root)!r} holds no run: there is no {journal.NAME} in it")
    return Run(root)


def resume_command(root: Path, config: Mapping[str, Any]) -> str:
    """Return the command that goes on with a run, by its `config.json`; empty where `resume` refuses it."""
    own_search = ":" in str((config.get("options") or {}).get("strategy", ""))
    known = config.get("command") == "train" and not own_search
    return f"evoprompt resume {shlex.quote(str(root))}" if known else ""
