"""The course of a run in time: when its batches ended, which calls were under way, what was spent by then."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from markupsafe import Markup

from evoprompt.harness.usage import told as usage_told
from evoprompt.report import charts
from evoprompt.runs import journal
from evoprompt.runs.failures import Failures, by_kind, failed_tries, spans_of

BINS = 120
"""Stretches of time that the figure of calls under way has."""


@dataclass(frozen=True)
class Call:
    """One answered call. Times are seconds of the run; the time between two of its processes does not count.

    `first` is when it was first made: before `begin` where it failed or had to wait. None in older journals.
    """

    role: str
    begin: float
    end: float
    tokens: int
    dollars: float
    first: float | None = None


@dataclass(frozen=True)
class Timeline:
    """What happened when.

    Attributes:
        ends: Seconds at which each batch ended, by its epoch and number.
        seconds: The whole.
        calls: Answered calls in the order of their ends; none of a run whose journal does not tell when they were.
        workers: What those of a cluster did, in words; empty where none judged.
        begun: When its first process began, in seconds since 1970; 0 where no log tells.
        failures: Its failed tries by kind, the most frequent first; their times are seconds of the run.
        failed: The seconds in which a failed try was under way, or was paused for: beginnings and ends.
        told: Whether the journal tells all of these; an older one has only those of calls that were answered.
    """

    ends: dict[tuple[int, int], float]
    seconds: float
    calls: Sequence[Call] = ()
    workers: str = ""
    begun: float = 0.0
    failures: Sequence[Failures] = ()
    failed: Sequence[tuple[float, float]] = ()
    told: bool = True

    def spent(self, batch: tuple[int, int]) -> dict[str, float]:
        """What had been spent when a batch ended: calls, tokens, dollars and seconds; empty where that is not known."""
        if not self.calls or batch not in self.ends:
            return {}
        before = bisect_right(self.calls, self.ends[batch], key=lambda call: call.end)
        return {
            "calls": before,
            "tokens": sum(call.tokens for call in self.calls[:before]),
            "dollars": sum(call.dollars for call in self.calls[:before]),
            "seconds": self.ends[batch],
        }

    def spans(self, rest: str) -> list[dict[str, Any]]:
        """Seconds that each batch took, and what came after them, by the name of `rest`; those that waited of them."""
        found: list[dict[str, Any]] = []
        last, once = 0.0, len({number for _, number in self.ends}) == len(self.ends)
        for (epoch, number), end in sorted(self.ends.items()):
            name = f"batch {number}" if once else f"epoch {epoch} batch {number}"
            found.append({"name": name, "seconds": end - last, "waited": self._waited(last, end)})
            last = end
        if (after := self.seconds - last) > 0.05:
            name = rest if found else "in all"
            found.append({"name": name, "seconds": after, "waited": self._waited(last, self.seconds)})
        total = sum(s["seconds"] for s in found) or 1.0
        return [s | {"share": 100 * s["seconds"] / total} for s in found]

    def _waited(self, begin: float, end: float) -> float:
        """Seconds of this stretch in which calls failed or waited, and none that was answered was under way."""
        answered = [(call.begin, call.end) for call in self.calls]
        made = [*self.failed, *((call.begin if call.first is None else call.first, call.end) for call in self.calls)]
        return _covered(made, begin, end) - _covered(answered, begin, end)

    def under_way(self) -> tuple[Markup, float, float | None]:
        """A figure of the calls under way, by role, the seconds without any, and those of them in which calls waited.

        The last is None where the journal does not tell.
        """
        if not self.calls or self.seconds <= 0:
            return Markup(""), 0.0, None
        width = self.seconds / BINS
        busy: dict[str, list[float]] = {call.role: [0.0] * BINS for call in self.calls}
        for call in self.calls:
            for n in range(int(call.begin / width), min(int(call.end / width) + 1, BINS)):
                busy[call.role][n] += max(0.0, min(call.end, (n + 1) * width) - max(call.begin, n * width)) / width
        idle = max(0.0, self.seconds - _covered((call.begin, call.end) for call in self.calls))
        known = self.told and all(call.first is not None for call in self.calls)
        waited = self._waited(0.0, self.seconds) if known else None
        return charts.layers(busy, self.seconds, list(self.ends.values())), idle, waited


def _covered(spans: Iterable[tuple[float, float]], low: float = 0.0, high: float = float("inf")) -> float:
    """Seconds between two of them that lie in any of these spans."""
    covered, reached = 0.0, low
    for begin, end in sorted(spans):
        covered += max(0.0, min(end, high) - max(begin, reached))
        reached = max(reached, end)
    return covered


def read_timeline(root: Path, rows: Callable[[str], Iterable[tuple[Any, ...]]]) -> Timeline:
    """Read it from the log of events and the journal."""
    path = root / "logs" / "events.jsonl"
    sessions: list[list[float]] = []
    batches: dict[tuple[int, int], float] = {}
    workers: dict[float, dict[str, Any]] = {}
    lost = False
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else ():
        try:
            event = json.loads(line)
            at = datetime.fromisoformat(event["time"]).timestamp()
        except (ValueError, KeyError, TypeError):
            continue
        if event.get("event") == "started" or not sessions:
            sessions.append([at, at])
        sessions[-1][1] = max(at, sessions[-1][1])
        if event.get("event") == "batch":
            batches[int(event.get("epoch", 1)), int(event["batch"])] = at
        lost = lost or event.get("status") == "lm_error"
        if event.get("event") == "workers":
            workers[event["began"]] = event  # the last one of each process holds its sums

    # A journal may be from before there were these columns.
    known = {name for _, name, *_ in rows("PRAGMA table_info(answers)")}
    ended, waited = (name if name in known else "NULL" for name in ("ended", "waited"))
    found = list(rows(f"SELECT role, {ended}, seconds, input_tokens, output_tokens, cost, {waited} FROM answers"))
    told = "said" in {name for _, name, *_ in rows("PRAGMA table_info(failures)")}
    tries = failed_tries(rows, root / journal.NAME) if told else []
    for session, following in pairwise([*sessions, [float("inf")]]):
        # The test set comes after the last event, and an outage that nobody waited to the end of has none.
        late = [*(ended for _, ended, *_ in found if ended), *(one.at + one.seconds for one in tries)]
        session[1] = max([session[1], *(at for at in late if session[0] < at < following[0])])

    def second(at: float) -> float:
        return sum(max(0.0, min(at, end) - begin) for begin, end in sessions)

    calls = [
        Call(
            role,
            second(ended - seconds),
            second(ended),
            (read or 0) + (written or 0),
            cost or 0.0,
            None if waited is None else second(ended - seconds - waited),
        )
        for role, ended, seconds, read, written, cost, waited in found
        if ended is not None and sessions and ended >= sessions[0][0]
    ]
    whole = sum(end - begin for begin, end in sessions)
    ends = {n: second(at) for n, at in batches.items()}
    return Timeline(
        ends, whole, sorted(calls, key=lambda call: call.end), usage_told(workers.values()) if workers else "",
        begun=sessions[0][0] if sessions else 0.0, told=told or not lost,
        failures=tuple(replace(one, first=second(one.first), last=second(one.last)) for one in by_kind(tries)),
        failed=tuple((second(begin), second(end)) for begin, end in spans_of(tries)),
    )  # fmt: skip
