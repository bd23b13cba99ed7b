"""Puts `Calls` between programs and models.

Predictors, adapters, judges and plain `lm(...)`, sync or async, all end in `dspy.clients.execution`. That module's two
functions are replaced here, and nothing else is. Outside `listening` and marked modules nothing changes.

Who listens, and the attempt, are DSPy settings, which DSPy hands to the threads it starts. `threading.Thread` and
`ThreadPoolExecutor` in somebody's `forward` get them too.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import dspy

from evoprompt.lm.dspy_internals import CallResult, PreparedCall, execution

if TYPE_CHECKING:
    from evoprompt.lm.calls import Calls

OTHERS = "other"
"""Role of calls that no named predictor of the program makes."""
_MARK = "_evoprompt"
_LISTENER, _ATTEMPT = "evoprompt_calls", "evoprompt_attempt"

_asking = contextvars.ContextVar("evoprompt_asking", default=False)
_execute, _aexecute = execution.execute, execution.aexecute
_start, _submit = threading.Thread.start, ThreadPoolExecutor.submit


class Attempt:
    """Tells the calls of one rollout from equal calls of another.

    Attributes:
        sample: Number of the rollout among those of the same candidate and task.
        judged: True where the outcome gets a verdict; False for advice.
        lost: The outage that left a call of this attempt without an answer. A program may catch the error and go on,
            but its outcome then says nothing about the program.
    """

    def __init__(self, sample: int, *, judged: bool = True) -> None:
        self.sample, self.judged = sample, judged
        self._before: Counter[str] = Counter()
        self._lock = threading.Lock()
        self.lost: Exception | None = None

    def again(self, content: str) -> int:
        """Return how often this request was made before in this attempt."""
        with self._lock:
            self._before[content] += 1
            return self._before[content] - 1

    def __deepcopy__(self, memo: dict[int, object]) -> Attempt:
        return self


@contextlib.contextmanager
def attempt(sample: int = 0, *, judged: bool = True) -> Iterator[None]:
    """Make the calls within part of one attempt. Equal requests get an answer each per sample and per repetition.

    Args:
        sample: Number of the attempt.
        judged: False for advice, whose outcome gets no verdict.
    """
    with dspy.context(**{_ATTEMPT: Attempt(sample, judged=judged)}):
        yield


def current_attempt() -> Attempt | None:
    """Return the attempt under way in this context."""
    found: Attempt | None = dspy.settings.get(_ATTEMPT)
    return found


def measuring() -> bool:
    """Return True within an attempt that gets a verdict."""
    found = current_attempt()
    return found is not None and found.judged


def mark(module: dspy.Module, calls: Calls, role: str) -> None:
    """Send the calls of a module, and of unmarked modules within it, through `calls` in this role."""
    vars(module)[_MARK] = calls, role


@contextlib.contextmanager
def listening(calls: Calls, role: str = OTHERS) -> Iterator[None]:
    """Send all calls within through `calls`, also those outside any marked module."""
    with dspy.context(**{_LISTENER: (calls, role)}):
        yield


def ask(lm: Any, call: PreparedCall) -> CallResult:
    """Ask the model itself. Calls that it makes in turn belong to this one."""
    token = _asking.set(True)
    try:
        return _execute(lm, call)
    finally:
        _asking.reset(token)


def _listener() -> tuple[Calls, str] | None:
    if _asking.get():
        return None
    for module in reversed(dspy.settings.caller_modules or ()):
        found: tuple[Calls, str] | None = vars(module).get(_MARK)
        if found is not None:
            return found
    usual: tuple[Calls, str] | None = dspy.settings.get(_LISTENER)
    return usual


def _intercepted(lm: Any, call: PreparedCall) -> CallResult:
    found = _listener()
    if found is None:
        return _execute(lm, call)
    calls, role = found
    if calls.keeps(lm, call):
        return calls.answer(lm, call, role)
    with calls.passing(lm):
        return _execute(lm, call)


async def _aintercepted(lm: Any, call: PreparedCall) -> CallResult:
    found = _listener()
    if found is None:
        return await _aexecute(lm, call)
    calls, role = found
    if calls.keeps(lm, call):  # in a thread: it waits for a slot, for retries and for the disk
        return await asyncio.to_thread(calls.answer, lm, call, role)
    with calls.passing(lm):
        return await _aexecute(lm, call)


def _start_in_context(self: threading.Thread) -> None:
    if _LISTENER in dspy.settings:
        self.run = functools.partial(contextvars.copy_context().run, self.run)  # type: ignore[method-assign]
    _start(self)


def _submit_in_context(self: ThreadPoolExecutor, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
    if _LISTENER in dspy.settings:
        fn = functools.partial(contextvars.copy_context().run, fn)
    return _submit(self, fn, *args, **kwargs)


def _is_foreign(record: logging.LogRecord) -> bool:
    return not _asking.get()


# Of a reply that was cut off, DSPy writes a line to the terminal; while we ask, we say in our own words what matters.
logging.getLogger("dspy.clients.lm").addFilter(_is_foreign)
execution.execute, execution.aexecute = _intercepted, _aintercepted
threading.Thread.start, ThreadPoolExecutor.submit = _start_in_context, _submit_in_context  # type: ignore[method-assign,assignment]
