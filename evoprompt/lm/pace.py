"""How many calls of one provider may be under way: found out as TCP does, and held back as long as it says."""

from __future__ import annotations

import threading
import time

from evoprompt.errors import ModelError

FULL_AFTER = 4
"""Rounds of good calls from one call at a time to the most, if that is a large number; eight take four rounds.

Slower, and single failures among good answers keep the limit down: at one overload in 16 calls, 16 rounds meant five
calls of eight on average, four mean six and a half.
"""


class Pace:
    """A limit on concurrent calls: additive increase, multiplicative decrease (Chiu and Jain 1989).

    It begins with one call, so that a wrong key costs one request; the first answer opens it. Safe to share between
    threads.

    Args:
        most: The most calls under way.

    Attributes:
        proven: Whether there was an answer.
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
        """Waits for a place, and returns the time at which the call began.

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
        """Gives the place back.

        Args:
            began: What `enter` returned.
            answered: Whether the provider gave a whole answer, of whatever kind.
            overloaded: Whether it refused for its load, or did not answer in time.
            retry_after: Seconds for which it wants to be left alone.
        """
        with self._change:
            self._running -= 1
            now = time.monotonic()
            self._not_before = max(self._not_before, now + retry_after)
            if overloaded and began >= self._halved:  # calls that began before are of the same overload
                self._limit = max(1.0, self._limit / 2)
                self._halved = now
            elif answered and not self.proven:
                self.proven, self._limit = True, float(self.most)
            elif answered:
                self._limit = min(float(self.most), self._limit + max(1.0, self.most / FULL_AFTER) / self._limit)
            self._change.notify_all()

    def took(self, seconds: float) -> None:
        """Takes note of how long an answer took, also of one that was given up."""
        with self._change:
            self.slowest = max(self.slowest, seconds)

    def sleep(self, seconds: float) -> None:
        """Waits, unless the run is being stopped."""
        with self._change:
            self._change.wait_for(lambda: self._over is not None, seconds)

    def stop(self, why: Exception | None = None) -> None:
        """Begin no further call: whoever waits for one gets this error."""
        with self._change:
            self._over = self._over or why or ModelError("the run is being stopped")
            self._change.notify_all()
