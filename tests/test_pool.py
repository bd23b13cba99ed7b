"""Ctrl-C is heard at any moment, also at the one where nobody wakes the thread that is to hear it."""

from __future__ import annotations

import signal
import threading

import pytest

from evoprompt.errors import BudgetSpent
from evoprompt.pool import StopAtOnce, map_concurrently, waiting_line


def test_a_signal_that_wakes_nobody_is_heard() -> None:
    heard = threading.Event()

    def deaf(_: int) -> bool:
        # Taken by this thread: the main one, asleep on a lock, is not woken by it.
        signal.pthread_kill(threading.get_ident(), signal.SIGINT)
        return heard.wait(60)

    with pytest.raises(KeyboardInterrupt):
        map_concurrently(deaf, [1], num_threads=1, on_stop=heard.set)


def test_so_is_a_second_one_while_what_is_under_way_is_waited_for() -> None:
    stopping, release, ends = threading.Event(), threading.Event(), []

    def deaf(_: int) -> None:
        signal.pthread_kill(threading.get_ident(), signal.SIGINT)
        stopping.wait(60)
        release.wait(0.5)  # past what nobody is told of
        signal.pthread_kill(threading.get_ident(), signal.SIGINT)
        ends.append(release.wait(60))

    with pytest.raises(StopAtOnce):
        map_concurrently(deaf, [1], num_threads=1, on_stop=stopping.set)
    assert not ends
    release.set()


@pytest.mark.parametrize(
    ("number", "why", "told"),
    [
        (4, KeyboardInterrupt(), "stopping: 4 under way are waited for (Ctrl-C: stop at once)"),
        (1, BudgetSpent("all 9 calls"), "the budget is spent: 1 under way is waited for (Ctrl-C: stop at once)"),
    ],
)
def test_the_wait_is_told_with_its_reason(number: int, why: BaseException, told: str) -> None:
    assert waiting_line(number, why) == told
