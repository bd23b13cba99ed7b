"""The place in DSPy that every call to a model passes, and who listens there.

A model is asked by predictors, by adapters, by judges, by hand, with or without `async`: all of it ends in
`dspy.clients.execution`. There, and nowhere else, `Calls` is put between a program and a model. Where nobody listens,
nothing changes.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections.abc import Iterator
from typing import Any, Protocol

import dspy
from dspy.clients import execution
from dspy.clients.call_result import CallResult
from dspy.clients.execution import PreparedCall

from evoprompt.lm.threads import hand_on

OTHERS = "other"
"""Role of calls that no predictor of the program makes under its own name."""
_MARK = "_evoprompt"
_LISTENER = "evoprompt_calls"
"""Name of the listener among DSPy's settings: these reach the threads that DSPy begins, as `dspy.Parallel` does."""

_asking = contextvars.ContextVar("evoprompt_asking", default=False)
_execute, _aexecute = execution.execute, execution.aexecute


class Listener(Protocol):
    """Who is put between a program and its models; `Calls` is one."""

    def answer(self, lm: Any, call: PreparedCall, role: str) -> CallResult:
        """The answer to a call."""

    def keeps(self, lm: Any, call: PreparedCall) -> bool:
        """True for a model whose answers can be kept."""

    def passing(self, lm: Any) -> contextlib.AbstractContextManager[None]:
        """A call whose answer can't be kept."""


def mark(module: dspy.Module, listener: Listener, role: str) -> None:
    """Calls that a module makes, or a module in it that has no mark, are made in this role."""
    vars(module)[_MARK] = listener, role


@contextlib.contextmanager
def listening(listener: Listener, role: str = OTHERS) -> Iterator[None]:
    """Calls in here go through the listener, also those of no module that has a mark."""
    with dspy.context(**{_LISTENER: (listener, role)}):
        yield


def ask(lm: Any, call: PreparedCall) -> CallResult:
    """Asks the model itself. What it asks in turn, as a model that is made of others does, is a part of that."""
    token = _asking.set(True)
    try:
        return _execute(lm, call)
    finally:
        _asking.reset(token)


def _listened() -> bool:
    return _LISTENER in dspy.settings


def _listener() -> tuple[Listener, str] | None:
    if _asking.get():
        return None
    for module in reversed(dspy.settings.caller_modules or ()):
        found: tuple[Listener, str] | None = vars(module).get(_MARK)
        if found is not None:
            return found
    usual: tuple[Listener, str] | None = dspy.settings.get(_LISTENER)
    return usual


def _heard(lm: Any, call: PreparedCall) -> CallResult:
    found = _listener()
    if found is None:
        return _execute(lm, call)
    listener, role = found
    if listener.keeps(lm, call):
        return listener.answer(lm, call, role)
    with listener.passing(lm):
        return _execute(lm, call)


async def _aheard(lm: Any, call: PreparedCall) -> CallResult:
    found = _listener()
    if found is None:
        return await _aexecute(lm, call)
    listener, role = found
    if listener.keeps(lm, call):  # in a thread: it waits for places, for retries, and for the disk
        return await asyncio.to_thread(listener.answer, lm, call, role)
    with listener.passing(lm):
        return await _aexecute(lm, call)


execution.execute, execution.aexecute = _heard, _aheard
hand_on(_listened)
