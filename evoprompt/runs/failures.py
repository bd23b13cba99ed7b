"""The failed tries of calls, as a journal keeps them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from evoprompt.runs.damage import numbers, reading


class Try(NamedTuple):
    """One failed try.

    Attributes:
        kind: The code of its error.
        at: When it was sent, in Unix seconds.
        seconds: How long it and the pause after it took. The pause is the one that was made: not that which a stop or a
            kill cut short.
        said: What the error said, in one line.
    """

    kind: str
    at: float
    seconds: float
    said: str


@dataclass(frozen=True)
class Failures:
    """The failed tries of one kind.

    Attributes:
        kind: The code of their errors: `rate_limit`, `timeout`, `empty_reply`, …
        count: Their number.
        first: When the first of them was sent, in Unix seconds.
        last: When the last of them was sent.
        said: What the last error said, in one line.
    """

    kind: str
    count: int
    first: float
    last: float
    said: str


def failed_tries(rows: Callable[[str], Iterable[tuple[Any, ...]]], path: Path | None = None) -> list[Try]:
    """Read all failed tries in the order in which they were sent.

    Args:
        rows: Answers a query about a journal.
        path: The journal, for the message.

    Raises:
        DamagedError: The table holds something else.
    """
    with reading("the failed tries", path):
        found = []
        for kind, *times, said in rows("SELECT kind, at, seconds, said FROM failures ORDER BY at"):
            at, seconds = numbers(times)
            found.append(Try(str(kind), at, seconds, str(said)))
        return found


def by_kind(tries: Sequence[Try]) -> list[Failures]:
    """Sum up failed tries, the most frequent kind first."""
    groups: dict[str, list[Try]] = {}
    for one in tries:
        groups.setdefault(one.kind, []).append(one)
    found = [Failures(kind, len(some), some[0].at, some[-1].at, some[-1].said) for kind, some in groups.items()]
    return sorted(found, key=lambda f: (-f.count, f.kind))


def spans_of(tries: Sequence[Try]) -> list[tuple[float, float]]:
    """Return the times in which a failed try was under way or paused for, in Unix seconds, merged and in order."""
    spans: list[tuple[float, float]] = []
    for one in tries:
        before, end = spans.pop() if spans and one.at <= spans[-1][1] else (one.at, one.at)
        spans.append((before, max(end, one.at + one.seconds)))
    return spans
