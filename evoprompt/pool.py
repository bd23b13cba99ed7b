"""One function of many items, in threads: an orderly stop on the first failure and on Ctrl-C."""

from __future__ import annotations

import contextlib
import contextvars
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, wait
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

logger = logging.getLogger("evoprompt")

AT_ONCE = 0.2
"""Seconds for which nobody needs to be told that something is waited for."""

HEARD = 0.2
"""Seconds after which a signal is heard at the latest.

One that comes between the interpreter's last look for signals and its falling asleep on a lock wakes nobody: the main
thread never waits without an end.
"""


class StopAtOnce(KeyboardInterrupt):
    """Ctrl-C while what is under way was waited for: nobody is to wait for anything any more."""


Item = TypeVar("Item")
Result = TypeVar("Result")


def map_concurrently(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    num_threads: int,
    on_done: Callable[[Result], None] | None = None,
    on_stop: Callable[[], None] | None = None,
) -> list[Result]:
    """`function` of every item, concurrently, in the items' order.

    When one fails, or on Ctrl-C, no further item begins, and those under way are waited for: what they get was paid
    for. A second Ctrl-C waits for nothing.

    Args:
        function: Runs in other threads, with a copy of this one's context variables.
        items: What to run it on.
        num_threads: Items under way at once.
        on_done: Called with each result in the calling thread, as they finish.
        on_stop: Called before the wait for what is under way.

    Raises:
        StopAtOnce: The second Ctrl-C.
        BaseException: The first exception of any item; the items not yet begun are dropped.
    """
    if not items:
        return []
    pool = _DaemonPool(min(num_threads, len(items)))
    futures: dict[Future[Result], int] = {}
    done: SimpleQueue[Future[Result]] = SimpleQueue()
    results: dict[int, Result] = {}
    first: list[BaseException] = []

    def guarded(item: Item) -> Result:
        if first:  # a refused key must not be tried again by the next item
            raise first[0]
        try:
            return function(item)
        except BaseException as e:
            first.append(e)
            raise

    try:
        for index, item in enumerate(items):
            # dspy.settings lives in context variables, which threads do not inherit.
            futures[future := pool.submit(contextvars.copy_context().run, guarded, item)] = index
            future.add_done_callback(done.put)
        for future in _finished(done, len(items)):
            results[futures[future]] = future.result()
            if on_done:
                on_done(results[futures[future]])
    except BaseException as e:
        first.append(e)
        _stop(list(futures), on_stop, e)
        raise
    finally:
        pool.shutdown(wait=False)
    return [results[i] for i in range(len(items))]


def _finished(done: SimpleQueue[Future[Result]], count: int) -> Iterator[Future[Result]]:
    while count:
        with contextlib.suppress(Empty):
            future = done.get(timeout=HEARD)
            count -= 1
            yield future


def _stop(futures: Sequence[Future[Any]], on_stop: Callable[[], None] | None, why: BaseException) -> None:
    try:
        if on_stop:
            on_stop()
        _drain(futures)
    except KeyboardInterrupt as second:
        if isinstance(why, KeyboardInterrupt):
            raise StopAtOnce from second
        raise


def _drain(futures: Sequence[Future[Any]]) -> None:
    running = [future for future in futures if not future.cancel() and not future.done()]
    running = list(wait(running, AT_ONCE).not_done)
    if running:
        logger.warning("stopping: %d under way are waited for (Ctrl-C: stop at once)", len(running))
        while wait(running, HEARD).not_done:
            pass


class _DaemonPool(Executor):
    """Threads that do not keep the interpreter alive: after Ctrl-C nobody waits for a model's answer.

    `ThreadPoolExecutor` joins its threads at exit, which may take as long as a provider's time-out.
    """

    def __init__(self, threads: int) -> None:
        self._work: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._threads = threads
        for _ in range(threads):
            threading.Thread(target=self._serve, name="evoprompt", daemon=True).start()

    def submit(self, fn: Callable[..., Result], /, *args: Any, **kwargs: Any) -> Future[Result]:
        """Queue a call."""
        future: Future[Result] = Future()

        def call() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(fn(*args, **kwargs))
            except BaseException as e:
                future.set_exception(e)

        self._work.put(call)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Let the threads end after what is queued; never waits."""
        for _ in range(self._threads):
            self._work.put(None)

    def _serve(self) -> None:
        while (call := self._work.get()) is not None:
            call()
