"""Limits concurrent calls: so many to one provider, and one for each request."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from weakref import WeakSet

from evoprompt.errors import ModelError
from evoprompt.wording import lasting

logger = logging.getLogger("evoprompt")

FULL_AFTER = 4
"""Rounds of good calls that raise the limit from 1 to a large maximum; a maximum of 8 takes 4 rounds.

With 16 rounds, single failures kept the limit down: at one overload in 16 calls a maximum of 8 averaged 5 calls; with 4
rounds it averages 6.5.
"""

TOLD = (10.0, 30.0, 120.0, 300.0)
"""Seconds without an answer after which a line says so, and then after each further 300.

After the first of them it is an outage: the answer that ends it wakes those that pause.
"""

OUTAGE = {"outage": True}
"""Marks the log's lines about an outage: a live board tells the same."""

WORDS = {
    "server": "server error", "transport": "no connection", "provider": "unexpected reply",
    "unexpected": "unexpected reply",
}  # fmt: skip
"""Words for the codes of errors that are none themselves."""


def in_words(failure: str | Exception) -> str:
    """`rate limit`, `server error`, … of an error's code; `rate limit (429)` of the error."""
    if isinstance(failure, str):
        return WORDS.get(failure, failure.replace("_", " "))
    status = getattr(failure, "status", None)
    return in_words(code_of(failure)) + (f" ({status})" if status else "")


def code_of(error: Exception) -> str:
    """Return the code of a call's error, as `rate_limit`."""
    return str(getattr(error, "code", "") or type(error).__name__)


@dataclass(frozen=True)
class Waiting:
    """A provider whose last calls have all failed.

    Attributes:
        kind: The last failure: `rate limit (429)`.
        seconds: Time without an answer.
        next_try: Seconds until a call is sent again; 0 if one is under way.
    """

    kind: str
    seconds: float
    next_try: float

    @property
    def then(self) -> str:
        """`next try in 24 s`."""
        return f"next try in {lasting(self.next_try)}" if self.next_try >= 0.5 else "trying again now"


class Traffic:
    """The calls of this process. Thread-safe.

    Attributes:
        under_way: Calls that were sent and not answered yet.
        failed: Calls that got no answer, most of which are repeated, by the code of the error: `rate_limit`, …
        failed_at: When the last of them failed, on `time.monotonic`.
    """

    def __init__(self) -> None:
        self.under_way = 0
        self.failed: Counter[str] = Counter()
        self.failed_at = 0.0
        self._heard = 0.0
        self._limiters: WeakSet[ConcurrencyLimiter] = WeakSet()
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def one(self, limiter: ConcurrencyLimiter | None = None) -> Iterator[None]:
        """Surround a call, which has a slot of this limiter."""
        with self._lock:
            self._heard = self._heard if self.under_way else time.monotonic()
            self.under_way += 1
            if limiter is not None:
                self._limiters.add(limiter)
        try:
            yield
            self._heard = time.monotonic()
        except Exception as e:
            with self._lock:
                self.failed[code_of(e)] += 1
                self.failed_at = time.monotonic()
            raise
        finally:
            with self._lock:
                self.under_way -= 1

    def silent(self) -> float:
        """Return the seconds in which calls were under way and none was answered."""
        return time.monotonic() - self._heard

    def waiting(self) -> Waiting | None:
        """Return what is waited for; the longest wait if several providers fail."""
        with self._lock:
            limiters = list(self._limiters)
        found = [waiting for limiter in limiters if (waiting := limiter.waiting()) is not None]
        return max(found, key=lambda waiting: waiting.seconds, default=None)


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
        self._failure = ""  # the last one, if no call was answered since
        self._since = self._failing = 0.0  # without an answer; the first failure since
        self._answered = 0.0
        self._told = self._outages = 0
        self._queued = 0
        self._due: list[float] = []
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
            self._queued += 1
        try:
            while True:
                with self._change:
                    if self._over is not None:
                        raise self._over
                    now = time.monotonic()
                    if now >= self._not_before and self._running < self.limit:
                        self._running += 1
                        return now
                    self._change.wait(self._patience(max(self._not_before - now, 0) or None))
                self._tell()
        finally:
            with self._change:
                self._queued -= 1

    def leave(
        self, began: float, *, answered: bool, overloaded: bool, retry_after: float = 0.0, failure: str = "",
    ) -> None:  # fmt: skip
        """Free the slot and adapt the limit.

        Args:
            began: The time that `enter` returned.
            answered: True if the provider sent a whole answer of any kind.
            overloaded: True if it refused because of load, or timed out.
            retry_after: Seconds for which it asked to be left alone.
            failure: Why the call will be repeated: `rate limit (429)`.
        """
        with self._change:
            self._running -= 1
            now = time.monotonic()
            if failure and not self._failure:
                self._since, self._failing = max(began, self._answered), now
            self._failure = failure or self._failure
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
        """Record the duration of an answer, also of one that nobody waits for any more. It ends an outage."""
        with self._change:
            self.slowest = max(self.slowest, seconds)
            now = time.monotonic()
            away, told = now - self._since, self._told
            if self._failure and away >= TOLD[0]:
                self._outages += 1
                self._change.notify_all()
            self._answered, self._failure, self._told = now, "", 0
        if told:
            logger.warning("the provider answers again after %s", lasting(away), extra=OUTAGE)

    def sleep(self, seconds: float, least: float = 0.0) -> None:
        """Wait, or return at once when the run is stopped, and after `least` seconds when an outage ends meanwhile."""
        with self._change:
            began, outages = time.monotonic(), self._outages
            due = began + seconds
            self._due.append(due)
        try:
            while True:
                with self._change:
                    until = due if self._outages == outages else min(due, began + least)
                    now = time.monotonic()
                    if self._over is not None or now >= until:
                        return
                    self._change.wait(self._patience(until - now))
                self._tell()
        finally:
            with self._change:
                self._due.remove(due)

    def waiting(self) -> Waiting | None:
        """Return what is waited for if no call was answered since the last failure, and somebody still asks."""
        with self._change:
            if not self._failure or self._over is not None or not (self._due or self._queued or self._running):
                return None
            now = time.monotonic()
            until = max(min(self._due, default=now), self._not_before)
            next_try = 0.0 if self._running else max(0.0, until - now)
            return Waiting(self._failure, now - self._since, next_try)

    def failing(self) -> float:
        """Return the seconds since the first failure of those that no answer has followed; 0 without one."""
        with self._change:
            return time.monotonic() - self._failing if self._failure else 0.0

    def _patience(self, seconds: float | None) -> float | None:
        """Return how long to wait until something is to be told, at most `seconds`."""
        if not self._failure:
            return seconds
        left = max(0.0, self._since + _told_at(self._told) - time.monotonic())
        return left if seconds is None else min(seconds, left)

    def _tell(self) -> None:
        """Log how long the provider has not answered, now and then. The log may draw: the lock is not held."""
        waiting = self.waiting()
        with self._change:
            if waiting is None or waiting.seconds < _told_at(self._told):
                return
            while waiting.seconds >= _told_at(self._told):
                self._told += 1
        told = "waiting for the provider for %s: %s; %s"
        logger.warning(told, lasting(waiting.seconds), waiting.kind, waiting.then, extra=OUTAGE)

    def stop(self, why: Exception | None = None) -> None:
        """Let no further call begin: `enter` raises this error."""
        with self._change:
            self._over = self._over or why or ModelError("the run is being stopped")
            self._change.notify_all()


def _told_at(before: int) -> float:
    """Return the seconds without an answer after which the next line is due, after so many."""
    return TOLD[before] if before < len(TOLD) else TOLD[-1] * (before - len(TOLD) + 2)


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
