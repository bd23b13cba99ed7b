"""Limits concurrent calls: so many to one provider, and one for each request."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Iterator

from evoprompt.errors import ModelError

FULL_AFTER = 4
"""Rounds of good calls that raise the limit from 1 to a large maximum; a maximum of 8 takes 4 rounds.

With 16 rounds, single failures kept the limit down: at one overload in 16 calls a maximum of 8 averaged 5 calls; with 4
rounds it averages 6.5.
"""


class Traffic:
    """The calls of this process. Thread-safe.

    Attributes:
        under_way: Calls that were sent and not answered yet.
        failed: Calls that got no answer, most of which are repeated, by the code of the error: `rate_limit`, …
    """

    def __init__(self) -> None:
        self.under_way = 0
        self.failed: Counter[str] = Counter()
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def one(self) -> Iterator[None]:
        """Surround a call."""
        with self._lock:
            self.under_way += 1
        try:
            yield
        except Exception as e:
            with self._lock:
                self.failed[str(getattr(e, "code", "") or type(e).__name__)] += 1
            raise
        finally:
            with self._lock:
                self.under_way -= 1


TRAFFIC = Traffic()


class ConcurrencyLimiter:
    """Limits concurrent calls: additive increase, multiplicative decrease (Chiu and Jain 1989). Thread-safe.

    It starts with one call, so that a wrong key costs one request. The first answer raises the limit to the maximum.

    Args:
        most: The maximum.

    Attributes:
        limit: Calls that may be under way now.
        proven: True after the first answer.
        slowest: Seconds that the slowest answer took.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.proven = False
        self.slowest = 0.0
        self._limit = 1.0
        self._running = 0
        self._halved = 0.0
        self._not_before = 0.0
        self._over: Exception | None = None
        self._change = threading.Condition()

    @property
    def limit(self) -> int:
        """Calls that may be under way now."""
        return int(self._limit)

    def enter(self) -> float:
        """Wait for a slot and return the time at which the call began.

        Raises:
            LMError: The provider has refused us.
            ModelError: The run is being stopped, or the provider takes no calls for longer than we wait.
        """
        with self._change:
            while self._over is None:
                now = time.monotonic()
                if now >= self._not_before and self._running < self.limit:
                    self._running += 1
                    return now
                self._change.wait(max(self._not_before - now, 0) or None)
            raise self._over

    def leave(self, began: float, *, answered: bool, overloaded: bool, retry_after: float = 0.0) -> None:
        """Free the slot and adapt the limit.

        Args:
            began: The time that `enter` returned.
            answered: True if the provider sent a whole answer of any kind.
            overloaded: True if it refused because of load, or timed out.
            retry_after: Seconds for which it asked to be left alone.
        """
        with self._change:
            self._running -= 1
            now = time.monotonic()
            self._not_before = max(self._not_before, now + retry_after)
            if overloaded and began >= self._halved:  # calls that began earlier met the same overload
                self._limit = max(1.0, self._limit / 2)
                self._halved = now
            elif answered and not self.proven:
                self.proven, self._limit = True, float(self.most)
            elif answered:
                self._limit = min(float(self.most), self._limit + max(1.0, self.most / FULL_AFTER) / self._limit)
            self._change.notify_all()

    def took(self, seconds: float) -> None:
        """Record the duration of an answer, also of one that nobody waits for any more."""
        with self._change:
            self.slowest = max(self.slowest, seconds)

    def sleep(self, seconds: float) -> None:
        """Wait, or return at once when the run is stopped."""
        with self._change:
            self._change.wait_for(lambda: self._over is not None, seconds)

    def stop(self, why: Exception | None = None) -> None:
        """Let no further call begin: `enter` raises this error."""
        with self._change:
            self._over = self._over or why or ModelError("the run is being stopped")
            self._change.notify_all()


class InFlight:
    """Allows one call per key at a time. Whoever asks the same meanwhile waits, and then finds its answer."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._locks: dict[str, tuple[threading.Lock, int]] = {}

    @contextlib.contextmanager
    def one(self, key: str) -> Iterator[None]:
        """Hold the key, after waiting for whoever holds it."""
        with self._lock:
            lock, users = self._locks.get(key, (threading.Lock(), 0))
            self._locks[key] = lock, users + 1
        try:
            with lock:
                yield
        finally:
            with self._lock:
                lock, users = self._locks.pop(key)
                if users > 1:
                    self._locks[key] = lock, users - 1
