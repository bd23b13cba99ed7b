"""One function of many items, in threads: an orderly stop on the first failure and on Ctrl-C."""

from __future__ import annotations

import contextlib
import contextvars
import functools
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from evoprompt.errors import BudgetSpent

logger = logging.getLogger("evoprompt")

AT_ONCE = 0.2
"""Seconds of waiting after a stop before the user is told about it."""

HEARD = 0.2
"""Longest wait of the main thread in seconds, so that it notices signals.

A signal that arrives just before the interpreter falls asleep on a lock does not wake it.
"""


def waiting_line(number: int, why: BaseException | None) -> str:
    """`stopping: 4 under way are waited for …`: why nothing further begins, and how not to wait."""
    reason = "the budget is spent" if isinstance(why, BudgetSpent) else "stopping"
    return f"{reason}: {number} under way {'is' if number == 1 else 'are'} waited for (Ctrl-C: stop at once)"


class StopAtOnce(KeyboardInterrupt):
    """A second Ctrl-C, during the wait for running items: stop without waiting."""


Item = TypeVar("Item")
Result = TypeVar("Result")


def begun(function: Callable[..., Result], *arguments: Any) -> Future[Result]:
    """Call a function in a thread of its own, with a copy of this context. At exit nobody waits for it."""
    done: Future[Result] = Future()
    done.set_running_or_notify_cancel()  # nobody can cancel it: the thread goes on

    def call() -> None:
        try:
            done.set_result(function(*arguments))
        except BaseException as e:
            done.set_exception(e)

    threading.Thread(target=contextvars.copy_context().run, args=(call,), name="evoprompt-call", daemon=True).start()
    return done


def _serve(waiting: SimpleQueue[Callable[[], None]]) -> None:
    with contextlib.suppress(Empty):
        while True:
            waiting.get_nowait()()


def map_concurrently(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    num_threads: int,
    on_done: Callable[[Result], object] | None = None,
    on_stop: Callable[[], None] | None = None,
) -> list[Result]:
    """`function` of every item, concurrently, in the items' order.

    After a failure or Ctrl-C no further item begins, and this waits for the running ones, whose calls are paid for. A
    second Ctrl-C stops the wait.

    Args:
        function: Runs in other threads, with a copy of this one's context variables.
        items: What to run it on.
        num_threads: Items under way at once.
        on_done: Called with each result in the calling thread, as they finish.
        on_stop: Called before the wait for running items.

    Raises:
        StopAtOnce: The second Ctrl-C.
        BaseException: The first exception of any item; the items not yet begun are dropped.
    """
    if not items:
        return []
    futures: list[Future[Result]] = [Future() for _ in items]
    finished: SimpleQueue[int] = SimpleQueue()
    waiting: SimpleQueue[Callable[[], None]] = SimpleQueue()
    first: list[BaseException] = []

    def work(index: int) -> None:
        future = futures[index]
        if not future.set_running_or_notify_cancel():
            return
        try:
            if first:  # a refused key must not be tried again by the next item
                raise first[0]
            future.set_result(function(items[index]))
        except BaseException as e:
            first.append(e)
            future.set_exception(e)
        finished.put(index)

    for index in range(len(items)):
        # dspy.settings lives in context variables, which threads do not inherit.
        waiting.put(functools.partial(contextvars.copy_context().run, work, index))
    try:
        # Daemons, unlike those of a ThreadPoolExecutor: at exit nobody waits for a model's answer.
        for _ in range(min(num_threads, len(items))):
            threading.Thread(target=_serve, args=(waiting,), name="evoprompt", daemon=True).start()
        for index in _received(finished, len(items)):
            result = futures[index].result()
            if on_done:
                on_done(result)
    except BaseException as e:
        first.append(e)
        _stop(futures, on_stop, e)
        raise
    return [future.result() for future in futures]


def _received(queue: SimpleQueue[int], count: int) -> Iterator[int]:
    while count:
        with contextlib.suppress(Empty):
            received = queue.get(timeout=HEARD)
            count -= 1
            yield received


def _stop(futures: Sequence[Future[Any]], on_stop: Callable[[], None] | None, why: BaseException) -> None:
    try:
        if on_stop:
            on_stop()
        _drain(futures, why)
    except KeyboardInterrupt as second:
        if isinstance(why, KeyboardInterrupt):
            raise StopAtOnce from second
        raise


def _drain(futures: Sequence[Future[Any]], why: BaseException) -> None:
    running = [future for future in futures if not future.cancel() and not future.done()]
    running = list(wait(running, AT_ONCE).not_done)
    if running:
        logger.warning("%s", waiting_line(len(running), why))
        while wait(running, HEARD).not_done:
            pass
