"""How many processes run at once, and what runs alone because the machine failed it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

from evoprompt.harness.sandbox import watch
from evoprompt.harness.sandbox.process import Interrupted

T = TypeVar("T")


class Slots:
    """Room for some jobs at once. Safe to share between threads."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._free = threading.BoundedSemaphore(count)
        self._alone = threading.Lock()

    def measured(self, work: Callable[[], T], doubtful: Callable[[T], bool] = lambda _: False) -> T:
        """Does something with processes; once more, from the start and with nothing beside, where that may help.

        Args:
            work: What to do.
            doubtful: Whether what came out may be for what ran beside it.

        Raises:
            Interrupted: The machine failed it the second time too.
        """
        with contextlib.suppress(Interrupted):
            with self._alone:  # who waits for all the room gets what becomes free
                self._free.acquire()
            try:
                found = work()
            finally:
                self._free.release()
            if not doubtful(found):
                return found
        with self._whole():
            found = work()
        if doubtful(found) and not watch.room_for_threads():
            raise Interrupted("the machine has no threads left")
        return found

    @contextlib.contextmanager
    def _whole(self) -> Iterator[None]:
        """All the room there is, once what is under way has ended."""
        with self._alone, contextlib.ExitStack() as held:
            for _ in range(self._count):
                held.enter_context(self._free)
            yield
