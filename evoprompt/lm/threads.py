"""Threads that a program begins while somebody listens to its calls: they are listened to as well.

DSPy's own ways to begin threads hand its settings on; `threading.Thread` and a `ThreadPoolExecutor` in a `forward` do
not, and what they ask a model belongs to the same rollout.
"""

from __future__ import annotations

import contextvars
import functools
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

_start, _submit = threading.Thread.start, ThreadPoolExecutor.submit


def hand_on(listened: Callable[[], bool]) -> None:
    """Give each thread and each job of a pool the context in which it was begun, where `listened` says so there."""

    def start(self: threading.Thread) -> None:
        if listened():
            self.run = functools.partial(contextvars.copy_context().run, self.run)  # type: ignore[method-assign]
        _start(self)

    def submit(self: ThreadPoolExecutor, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        fn = functools.partial(contextvars.copy_context().run, fn) if listened() else fn
        return _submit(self, fn, *args, **kwargs)

    threading.Thread.start, ThreadPoolExecutor.submit = start, submit  # type: ignore[method-assign,assignment]
