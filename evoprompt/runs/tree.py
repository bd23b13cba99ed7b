"""The results tree: a run's files for people and scripts."""

from __future__ import annotations

import contextlib
import json as jsonlib
import logging
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from evoprompt.atomic import open_ours, require_ours, storage, write_text
from evoprompt.secrets import mask

SCHEMA_VERSION = 1


BEFORE_THE_FIRST_CALL = {
    "config.json", "summary.json", "program.json", "logs/experiment.log", "training/final_prompt.txt",
}  # fmt: skip
"""Files of a run that stopped before its first answer. A new run may replace them."""
_SUMMARY = (
    "status", "ended_by", "error", "simulated", "optimizer", "train_tasks", "dev_tasks", "batches_done", "improved",
    "decision", "scored_dev_tasks", "start_dev_score", "best_dev_score", "test_scores", "best", "spent",
)  # fmt: skip
"""Fields of `summary.json` in order."""


class _LogFile(logging.FileHandler):
    """A log file that ends at a full disk; the next result to be written raises the error."""

    def _open(self) -> Any:
        return os.fdopen(
            open_ours(Path(self.baseFilename), os.O_WRONLY | os.O_APPEND), "a", encoding="utf-8",
            errors="backslashreplace",
        )  # fmt: skip

    def format(self, record: logging.LogRecord) -> str:
        """Format the line without credentials."""
        return mask(super().format(record))

    def handleError(self, record: logging.LogRecord) -> None:
        """Stop logging to the file."""
        logging.getLogger("evoprompt").removeHandler(self)


class ResultsTree:
    """Writes the files of one run below `root`, each atomically."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        self._summary = self._earlier()

    @property
    def final_prompt(self) -> Path:
        """Path of the best instruction so far, as plain text."""
        return self.root / "training" / "final_prompt.txt"

    @property
    def program(self) -> Path:
        """Path of the best program's state so far; load it with `Program().load(path)`."""
        return self.root / "program.json"

    def json(self, name: str, value: dict[str, Any]) -> Path:
        """Write plain data to the JSON file `name` below the root, with the schema's version first."""
        body = {"schema_version": SCHEMA_VERSION, **value}
        return self._write(name, jsonlib.dumps(body, indent=2, ensure_ascii=False, allow_nan=False) + "\n")

    def summary(self, **changes: Any) -> None:
        """Update fields of `summary.json`, the run's outcome at a glance."""
        self._summary |= changes
        self.json("summary.json", {name: self._summary[name] for name in _SUMMARY if name in self._summary})

    def _earlier(self) -> dict[str, Any]:
        """Read the summary of an earlier process; this one may stop before it knows as much."""
        path = self.root / "summary.json"
        try:
            found = jsonlib.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
            jsonlib.dumps(found, allow_nan=False)
        except (OSError, ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}

    def text(self, name: str, text: str) -> Path:
        """Write one text file, ending in a newline."""
        return self._write(name, text.rstrip("\n") + "\n")

    def _write(self, name: str, text: str) -> Path:
        path = self.root / name
        require_ours(path, self.root)
        write_text(path, mask(text))
        return path

    def remove(self, name: str) -> None:
        """Remove an outdated file, if there is one."""
        path = self.root / name
        with storage(path):
            path.unlink(missing_ok=True)

    def event(self, name: str, **facts: Any) -> None:
        """Append one line to `logs/events.jsonl` for programs that watch the run."""
        path = self.root / "logs" / "events.jsonl"
        require_ours(path, self.root)
        line = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": name, **facts}
        with storage(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = open_ours(path, os.O_WRONLY | os.O_APPEND)
            with os.fdopen(descriptor, "a", encoding="utf-8", errors="backslashreplace") as file:
                file.write(mask(jsonlib.dumps(line, ensure_ascii=False)) + "\n")

    @contextlib.contextmanager
    def log(self) -> Iterator[None]:
        """Copy the log to `logs/experiment.log` within the context."""
        path = self.root / "logs" / "experiment.log"
        require_ours(path, self.root)
        with storage(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            handler = _LogFile(path, encoding="utf-8", errors="backslashreplace")
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s"))
        logger = logging.getLogger("evoprompt")
        before = logger.level
        # Python shows warnings where nobody else does: the file must not take them away.
        handlers = [handler] if logger.hasHandlers() or logging.lastResort is None else [handler, logging.lastResort]
        for one in handlers:
            logger.addHandler(one)
        logger.setLevel(min(before or logging.INFO, logging.INFO))
        try:
            yield
        finally:
            for one in handlers:
                logger.removeHandler(one)
            logger.setLevel(before)
            with contextlib.suppress(OSError):  # the last lines, on a full disk
                handler.close()
