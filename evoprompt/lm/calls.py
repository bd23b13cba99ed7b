"""Calls to a model that cost once: kept before they are used, repeated when they fail, checked, and paced.

Whatever model a program reaches, `Calls` is put between the program and the model (by `seam`):

    kept       an answer is in the ledger before anyone sees it, and the ledger is asked first
    repeated   after a rate limit, a time-out, a failure of the server or the network, or an answer that is none:
               exponential backoff with jitter, at least as long as the server says, within one deadline
    checked    an empty answer, one cut off by its length, and one that a filter took away are failures of their own
    paced      one call until the first answer, then up to the most; half as many whenever the provider is overloaded
"""

from __future__ import annotations

import contextlib
import contextvars
import copy
import logging
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

import dspy
from dspy.clients.call_result import CallResult, combine
from dspy.clients.errors import error_boundary, wrap_error
from dspy.clients.execution import PreparedCall
from dspy.lm15 import LM15Error
from dspy.utils.exceptions import (
    LMConfigurationError,
    LMError,
    LMProviderError,
    LMRateLimitError,
    LMTimeoutError,
    LMUnexpectedError,
    LMUnsupportedFeatureError,
    is_retryable_lm_error,
)

from evoprompt.errors import DamagedError, EvoPromptError, ModelError, UsageError
from evoprompt.lm import answers, seam
from evoprompt.lm.budget import Books, Budget, Purse
from evoprompt.lm.checks import ABOUT_THE_REQUEST, CutOffReply, EmptyReply, FilteredReply, check, empty, said
from evoprompt.lm.flights import Flights
from evoprompt.lm.identity import predictors_of
from evoprompt.lm.pace import Pace
from evoprompt.lm.resolve import TIMEOUT, explain_lm_error, nobody_there, one_line
from evoprompt.lm.secrets import note
from evoprompt.lm.step import Step, this_step

__all__ = ["ABOUT_THE_REQUEST", "Calls", "CutOffReply", "EmptyReply", "FilteredReply", "Ledger"]

logger = logging.getLogger("evoprompt")

Module = TypeVar("Module", bound=dspy.Module)

DEADLINE = 900.0
"""Seconds after which a failed call is not repeated any more."""
MAX_WAIT = 60.0
"""Seconds between two tries, unless the server asks for more."""
PATIENCE = 30.0
"""Seconds that a reply may take whatever the others took, if the time-out is not shorter."""
RETRIES_UNPROVEN = 2
"""How often a server that never answered is looked for."""

_jitter = random.Random()


class Ledger(Books, Protocol):
    """Where answers are kept; `evoprompt.runs.Journal` is one."""

    def answer(self, key: str) -> str | None:
        """The answer with this key, if there is one."""

    def keep_answer(
        self, key: str, role: str, model: str, response: str, usage: tuple[int | None, int | None],
        cost: float | None, seconds: float, retries: int,
    ) -> None:  # fmt: skip
        """Keep an answer for good."""


class Calls:
    """Puts care between programs and their models. Calls of one provider share one pace.

    Args:
        ledger: Keeps the answers.
        most: The most calls under way to one provider.
        budget: What all calls together may cost; None for calls that are no part of a search.
        label: Put before the roles in the ledger's sums.
        around: Entered around each call, with whether it is judged.

    Attributes:
        purse: Knows what is left of the budget.
    """

    def __init__(
        self, ledger: Ledger, *, most: int = 8, budget: Budget | None = None, label: str = "",
        around: Callable[[bool], AbstractContextManager[None]] | None = None,
    ) -> None:  # fmt: skip
        self.ledger, self._most, self._label = ledger, most, label
        self._around = around or (lambda _: contextlib.nullcontext())
        self.purse = Purse(ledger, budget)
        self._paces: dict[tuple[str, str], Pace] = {}
        self._flights = Flights()
        self._lock = threading.Lock()
        self._strange: set[str] = set()
        self._process = os.getpid()

    def applied(self, program: Module) -> Module:
        """A copy of the program whose calls go through here, those of each predictor in its role."""
        copied: Module = program.deepcopy()
        seam.mark(copied, self, seam.OTHERS)
        for role, predictor in predictors_of(copied):
            if predictor.lm is not None and not (isinstance(predictor.lm, dspy.LM) and _asks_its_engine(predictor.lm)):
                self._warn(predictor.lm)
            seam.mark(predictor, self, role)
        return copied

    def answer(self, lm: dspy.LM, call: PreparedCall, role: str) -> CallResult:
        """The answer to a call: the one in the ledger, else the model's.

        Several answers to one request are as many calls.

        Raises:
            LMError: There is none after all tries, or it can't be used. Where the reason is another one, it is the
                error's cause.
        """
        single = replace(call, n=1, legacy={k: v for k, v in call.legacy.items() if k != "n"}) if call.n > 1 else call
        current = this_step() or Step(call.legacy.get("rollout_id") or 0, judged=False)
        found = [self._one(lm, single, role, current) for _ in range(call.n)]
        return found[0] if len(found) == 1 else combine(found, model_type=lm.model_type)

    def keeps(self, lm: Any, call: PreparedCall) -> bool:
        """True for a model whose answers can be kept: those of an engine. Others answer themselves, nobody knows how.

        Raises:
            UsageError: None can be kept from here.
        """
        if os.getpid() != self._process:
            raise UsageError(
                "the program asks a model in a process of its own, where the call can't be kept or counted: let it "
                "ask in this one (`dspy.Parallel`, threads, async)"
            )
        return isinstance(lm, dspy.LM) and call.managed

    @contextlib.contextmanager
    def passing(self, lm: Any) -> Iterator[None]:
        """A call of a model that answers itself. That it failed is known, at least."""
        try:
            self._warn(lm)
            yield
        except Exception as e:
            _note(e, this_step(), lm.model)
            raise

    def stop(self) -> None:
        """Begin no further call, and repeat none."""
        with self._lock:
            paces = list(self._paces.values())
        for pace in paces:
            pace.stop()

    def __deepcopy__(self, memo: dict[int, object]) -> Calls:
        return self

    def _one(self, lm: dspy.LM, call: PreparedCall, role: str, current: Step) -> CallResult:
        note(lm)
        content = answers.content_of(call)
        key = answers.key_of(content, current.sample, current.again(content))
        if getattr(lm.engine, "takes_seed", False):
            call = answers.with_seed(call, key)
        asked = _Asked(lm, call, key, self._label + role, self.ledger, self.purse, self._pace(lm))
        try:
            with self._around(current.judged), error_boundary(lm.model, unexpected=True), self._flights.of(key):
                result = asked.kept()
                if result is None:
                    with self.purse.open(asked.role, lambda: len(content) // 4 + answers.longest(call)):
                        result = asked.ask()
                check(said(result), lm.model, strict=current.judged)
        except Exception as e:
            _note(e, current, lm.model)
            raise
        return result

    def _pace(self, lm: dspy.LM) -> Pace:
        provider = (lm.model.partition("/")[0], str(lm.kwargs.get("api_base") or lm.kwargs.get("base_url") or ""))
        with self._lock:
            return self._paces.get(provider) or self._paces.setdefault(provider, Pace(self._most))

    def _warn(self, lm: Any) -> None:
        kind = type(lm).__name__
        what = f"{kind} has a `forward` of its own" if isinstance(lm, dspy.LM) else f"{kind} is no dspy.LM"
        if self.purse.counts_calls:
            raise UsageError(
                f"{what}: its calls can't be counted, and so the budget can't be kept; use Budget(rollouts=…), or "
                "dspy.LM(engine=…) for a model of your own"
            )
        if kind not in self._strange:
            self._strange.add(kind)
            logger.warning("%s: its answers are not kept, and asked for again after a stop", what)


def _asks_its_engine(lm: dspy.LM) -> bool:
    """True where the engine answers, and no subclass does so itself."""
    kind = type(lm)
    return all(getattr(kind, name) is getattr(dspy.LM, name) for name in ("forward", "aforward"))


def _note(error: Exception, current: Step | None, model: str) -> None:
    """Tell the step that there is no answer, if that says nothing about the model."""
    if current is not None and _outage(error):
        ours = isinstance(error, LMError | EvoPromptError)
        current.lost = error if ours else explain_lm_error(error) or wrap_error(error, model=model)


@dataclass(frozen=True)
class _Asked:
    """One call that is under way, with all of its tries."""

    lm: dspy.LM
    call: PreparedCall
    key: str
    role: str
    ledger: Ledger
    purse: Purse
    pace: Pace

    @property
    def remote(self) -> bool:
        """True for a call that leaves this process."""
        return isinstance(self.lm.engine, str)

    def kept(self) -> CallResult | None:
        """The answer in the ledger."""
        text = self.ledger.answer(self.key)
        try:
            return None if text is None else answers.from_text(text, self.lm, self.call)
        except (LookupError, TypeError, ValueError, AttributeError, RecursionError, LM15Error) as e:
            raise DamagedError(
                f"the answer {self.key} in the journal is damaged ({one_line(e)}): bring the journal back from a "
                "copy, or begin anew in another directory"
            ) from e

    def ask(self) -> CallResult:
        """The model's answer, in the end."""
        begun = time.monotonic()
        kinds: Counter[type[LMError]] = Counter()
        for tries in range(1 << 30):
            try:
                return self._try(tries)
            except LMError as e:
                wait = _backoff(e, kinds[type(e)])
                kinds[type(e)] += 1
                late = time.monotonic() + wait - begun > DEADLINE
                over = not _worth_repeating(e, self.remote) or tries >= self._tries_left(e) or late
                if not over:
                    self.purse.check_time(wait)
                    self.pace.sleep(wait)
                if (result := self.kept()) is not None:  # one that was given up has come in
                    return result
                if over:
                    raise
        raise AssertionError

    def _tries_left(self, error: LMError) -> int:
        if not self.pace.proven and nobody_there(error):
            return min(int(self.lm.num_retries), RETRIES_UNPROVEN)
        return int(self.lm.num_retries)

    def _try(self, tries: int) -> CallResult:
        began = self.pace.enter()
        answered, overloaded, retry_after = False, False, 0.0
        try:
            result = self._timed(tries) if self.remote else self._send(tries)
            answered = True
            return result
        except LMError as e:
            overloaded = isinstance(e, LMRateLimitError | LMTimeoutError)
            answered = isinstance(e, EmptyReply)
            retry_after = min(e.retry_after or 0.0, DEADLINE) if isinstance(e, LMRateLimitError) else 0.0
            if isinstance(e, LMRateLimitError) and (e.retry_after or 0.0) > DEADLINE:
                raise self._closed(e) from e
            if not _worth_repeating(e, self.remote) and explain_lm_error(e) is not None:
                self.pace.stop(e)  # before the place is free: a wrong key is not tried by the next in line
            raise
        finally:
            self.pace.leave(began, answered=answered, overloaded=overloaded, retry_after=retry_after)

    def _closed(self, error: LMRateLimitError) -> ModelError:
        """A quota of hours is used up: whoever waits for a place would wait for nothing."""
        told = f"no call for the next {(error.retry_after or 0.0) / 60:.0f} minutes ({one_line(error)})"
        why = ModelError(f"model {self.lm.model!r}: the provider takes {told}: resume after that")
        self.pace.stop(why)
        return why

    def _timed(self, tries: int) -> CallResult:
        """A reply that drips in byte by byte never times out by itself. One that ends later is kept all the same."""
        done: Future[CallResult] = Future()

        def call() -> None:
            try:
                done.set_result(self._send(tries))
            except BaseException as e:
                done.set_exception(e)

        threading.Thread(
            target=contextvars.copy_context().run, args=(call,), name="evoprompt-call", daemon=True
        ).start()
        told = self.call.legacy.get("timeout", self.lm.kwargs.get("timeout"))
        limit = float(told) if isinstance(told, int | float) else TIMEOUT
        if self.pace.proven:  # what is that late is stuck
            limit = min(limit, max(PATIENCE, 10 * self.pace.slowest))
        try:
            return done.result(limit)
        except TimeoutError as e:
            if done.done():
                raise
            raise LMTimeoutError(f"no whole answer within {limit:g} s", model=self.lm.model) from e

    def _send(self, tries: int) -> CallResult:
        lm = copy.copy(self.lm)
        lm.num_retries = 0
        # Longer than we wait, so that a late reply can still come in.
        patient = {"timeout": DEADLINE} if self.remote else {}
        call = replace(self.call, cache=False, legacy={**self.call.legacy, **patient})
        began = time.monotonic()
        result = seam.ask(lm, call)
        seconds = time.monotonic() - began
        tokens = answers.tokens_of(result)
        self.purse.took(self.role, sum(n or 0 for n in tokens), result.cost)
        if empty(said(result)):  # paid for all the same
            raise EmptyReply("the reply is empty", model=lm.model)
        text = answers.text_of(result)
        self.ledger.keep_answer(self.key, self.role, lm.model, text, tokens, result.cost, seconds, tries)
        self.pace.took(seconds)
        # One that was given up may have come in first.
        return self.kept() or result


def _backoff(error: LMError, before: int) -> float:
    """Seconds until the next try, after that many failures of the same kind before this one.

    What the server says is the least: it may say the same for longer than there are tries.
    """
    unknown = isinstance(error, LMRateLimitError) and error.retry_after is None
    backoff = min((1.0 if unknown else 0.25) * 2.0**before, MAX_WAIT)
    return max(error.retry_after or 0.0, backoff * _jitter.uniform(0.5, 1.0))


def _outage(error: Exception) -> bool:
    """Whether there is no answer for a reason that neither the request nor what the model can do has to do with."""
    about_the_model = isinstance(error, LMConfigurationError | LMUnsupportedFeatureError)
    return not about_the_model and getattr(error, "code", None) not in ABOUT_THE_REQUEST


def _worth_repeating(error: LMError, remote: bool) -> bool:
    """Also a reply with status 200 that is no JSON, or JSON of another shape: a proxy's page, or one that was cut."""
    odd = (type(error) is LMProviderError and error.status == 200) or (remote and type(error) is LMUnexpectedError)
    return odd or isinstance(error, EmptyReply) or is_retryable_lm_error(error)
