"""What the workers of an executor did: solutions by node, how many a second, and how busy their threads were."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

from evoprompt.wording import counted

_RECENT_SECONDS: Final = 10.0
"""What is shown of a run under way is of so long ago."""
_NAMED: Final = 8
"""Nodes that are named with what they did, those that did most."""


class Usage:
    """Sums since it was made.

    Args:
        threads: How many threads the workers have.
        clock: Seconds.
    """

    def __init__(self, threads: Callable[[], int], clock: Callable[[], float] = time.monotonic) -> None:
        self._threads, self._clock = threads, clock
        self._began = self._last = clock()
        self._born = time.time()
        self._nodes: Counter[str] = Counter()
        self._busy, self._available = 0.0, 0.0
        self._recent: deque[tuple[float, int, float]] = deque()

    def took(self, node: str, solutions: int, seconds: float) -> None:
        """A thread of a node was busy for so long, with so many solutions."""
        now = self._clock()
        self._available += (now - self._last) * self._threads()
        self._last = now
        self._nodes[node] += solutions
        self._busy += seconds
        self._recent.append((now, solutions, seconds))
        while self._recent[0][0] < now - _RECENT_SECONDS:
            self._recent.popleft()

    def now(self) -> str:
        """`71 % busy, 12.3 solutions/s` in the last seconds."""
        now = self._clock()
        span = max(min(_RECENT_SECONDS, now - self._began), 0.1)
        recent = [(n, seconds) for at, n, seconds in list(self._recent) if at > now - span]
        busy = 100 * sum(seconds for _, seconds in recent) / (span * self._threads())
        return f"{min(busy, 100):.0f} % busy, {sum(n for n, _ in recent) / span:.1f} solutions/s"

    def facts(self) -> dict[str, Any]:
        """The sums as plain data: `began` tells those of one process from another's; all times are in seconds."""
        now, threads = self._clock(), self._threads()
        available = self._available + (now - self._last) * threads
        times = {"seconds": now - self._began, "busy": self._busy, "available": available}
        return {"began": self._born, "nodes": dict(self._nodes), "threads": threads, **times}


def told(sums: Collection[Mapping[str, Any]]) -> str:
    """Facts of processes: `9 solutions judged by 1 node (lab1 9), 1.3 a second, 71 % of 8 threads busy`."""
    nodes = sum((Counter(facts["nodes"]) for facts in sums), Counter[str]())
    seconds, busy, available = (sum(facts[name] for facts in sums) for name in ("seconds", "busy", "available"))
    named = [f"{node} {n:,}" for node, n in nodes.most_common(_NAMED)]
    named += [f"{len(nodes) - _NAMED} others"] if len(nodes) > _NAMED else []
    where = f" by {counted(len(nodes), 'node')} ({', '.join(named)})" if nodes else ""
    judged, threads = counted(nodes.total(), "solution"), counted(max(facts["threads"] for facts in sums), "thread")
    used = 100 * min(busy / max(available, 0.001), 1)
    return f"{judged} judged{where}, {nodes.total() / max(seconds, 0.001):.1f} a second, {used:.0f} % of {threads} busy"
