"""What is wrong with the rows of a file, told in as few lines as it takes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from evoprompt.errors import DataError

MAX_PROBLEMS: Final = 20
ALIKE: Final = 3
"""So many rows with the same thing wrong are told in one line."""


class Problems:
    """Collects what is wrong, row by row.

    Args:
        name: What to call the file.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._rows: dict[str, list[str]] = {}
        self._bad = 0

    def add(self, place: str, task_id: Any, wrong: Iterable[str]) -> None:
        """Note what is wrong with the row at a place."""
        where = place if task_id is None else f"{place}, task {task_id!r:.80}"
        wrong = list(wrong)
        for reason in wrong:
            self._rows.setdefault(reason, []).append(where)
        self._bad += bool(wrong)

    def lines(self) -> list[str]:
        """One line for each kind of thing, in the order of the file; long lists are cut."""
        told = []
        for reason, rows in self._rows.items():
            if len(rows) < ALIKE:
                told += [f"{self.name}: {row}: {reason}" for row in rows]
            else:
                told.append(f"{self.name}: {rows[0]}, and {len(rows) - 1} more rows: {reason}")
        more = len(told) - MAX_PROBLEMS
        return [*told[:MAX_PROBLEMS], *([f"{self.name}: and {more} more"] if more > 0 else [])]

    def settle(self, rows: int, good: int, *, skip_bad: bool) -> list[str]:
        """Refuse the file, or say what was left out of it.

        Args:
            rows: Number of rows of the file.
            good: Number of those that are right.
            skip_bad: Whether the others may be left out.

        Raises:
            DataError: Something is wrong and must not be left out, or nothing is right.
        """
        lines = self.lines()
        if not rows:
            raise DataError(f"{self.name}: holds no task")
        if not lines:
            return []
        if not good:
            raise DataError(*lines)
        if skip_bad:
            return [f"{line} (left out)" for line in lines]
        are, it = ("is", "it") if self._bad == 1 else ("are", "them")
        raise DataError(
            *lines,
            f"{self.name}: {self._bad} of {rows} rows {are} wrong: mend {it}, or leave {it} out with --skip_bad "
            "(Python: `skip_bad=True`)",
        )
