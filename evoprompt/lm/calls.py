"""Calls to models that are paid for once: journaled before use, retried, checked, and limited.

`Calls` stands between a program and its models (see `interception`). One call takes this path:

    Calls.answer        one request for each of `n` answers
    InFlight            equal requests wait for each other
    journal             a known answer is returned, and nothing is spent
    BudgetTracker       the call is reserved
    JournaledCall.ask   retries: exponential backoff with jitter, at least as long as the server says, one deadline
    ConcurrencyLimiter  a slot at the provider
    the model           in a thread with a time limit, if it is remote
    journal             the answer is kept; then it is checked, and used
"""

from __future__ import annotations

import contextlib
import copy
import logging
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import dspy
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
from evoprompt.lm import dspy_internals as internals
from evoprompt.lm import elsewhere, interception
from evoprompt.lm.budget import Budget, BudgetTracker
from evoprompt.lm.checks import ABOUT_THE_REQUEST, CutOffReply, EmptyReply, FilteredReply, check, reply_of
from evoprompt.lm.concurrency import TRAFFIC, ConcurrencyLimiter, InFlight, code_of, in_words
from evoprompt.lm.dspy_internals import CallResult, PreparedCall
from evoprompt.lm.identity import predictors_of
from evoprompt.lm.interception import Attempt, current_attempt
from evoprompt.lm.resolve import TIMEOUT, explain_lm_error, nobody_there, one_line
from evoprompt.pool import begun
from evoprompt.runs.journal import Journal
from evoprompt.secrets import note

__all__ = ["ABOUT_THE_REQUEST", "Calls", "CutOffReply", "EmptyReply", "FilteredReply"]

logger = logging.getLogger("evoprompt")

Module = TypeVar("Module", bound=dspy.Module)
Used = tuple[int | None, int | None, float | None]
"""Tokens of a request, tokens of its reply, US dollars."""

DEADLINE = 900.0
"""Seconds after which a failed call is not retried."""
GONE = 300.0
"""Seconds of failures without an answer to any call after which a provider counts as gone."""
FIRST_WAIT = 1.0
"""Longest first backoff in seconds; each further one is twice as long."""
MAX_WAIT = 60.0
"""Longest backoff in seconds; a server may ask for more."""
PATIENCE = 30.0
"""Seconds that every reply may take, however fast the others were, unless the time-out is shorter."""
RETRIES_UNPROVEN = 2
"""Retries at an address where no server has ever answered, and of a provider that is gone."""

_jitter = random.Random()


class Calls:
    """Journals, budgets, limits and retries the calls of programs. Calls to one provider share a limit.

    Args:
        journal: Keeps the answers.
        most: Maximum of concurrent calls to one provider.
        budget: Limits what all calls cost together; None for calls that are no part of a search.
        label: Prefix of the roles in the journal's sums.
        around: Entered around each call; gets True if the call's outcome is judged.
        on_answer: Gets the key of each answer that is used.
        workers: Have the models asked; None for this process.

    Attributes:
        budget: The tracker that knows what is left of the budget.
    """

    def __init__(
        self, journal: Journal, *, most: int = 8, budget: Budget | None = None, label: str = "",
        around: Callable[[bool], AbstractContextManager[None]] | None = None,
        on_answer: Callable[[str], None] | None = None, workers: Executor | None = None,
    ) -> None:  # fmt: skip
        self.journal, self._most, self._label = journal, most, label
        self._around = around or (lambda _: contextlib.nullcontext())
        self._on_answer, self._workers = on_answer or (lambda _: None), workers
        self.budget = BudgetTracker(journal, budget)
        self._limiters: dict[tuple[str, str], ConcurrencyLimiter] = {}
        self._in_flight = InFlight()
        self._lock = threading.Lock()
        self._strange: set[str] = set()
        self._process = os.getpid()

    def applied(self, program: Module) -> Module:
        """Return a copy of the program whose calls pass through here, each predictor's in its role.

        Raises:
            UsageError: The budget can't count the calls of a model, or workers can't ask it.
        """
        copied: Module = program.deepcopy()
        interception.mark(copied, self, interception.OTHERS)
        for role, predictor in predictors_of(copied):
            if predictor.lm is not None and not (isinstance(predictor.lm, dspy.LM) and _asks_its_engine(predictor.lm)):
                self._warn(predictor.lm)
            if self._workers is not None and (lm := predictor.lm or dspy.settings.lm) is not None:
                elsewhere.require_served(lm)
            interception.mark(predictor, self, role)
        return copied

    def answer(self, lm: dspy.LM, call: PreparedCall, role: str) -> CallResult:
        """Return the journal's answer to a call, else the model's. A call for n answers becomes n calls.

        Raises:
            LMError: All retries failed, or the reply is no answer. Another reason is the error's cause.
        """
        single = replace(call, n=1, legacy={k: v for k, v in call.legacy.items() if k != "n"}) if call.n > 1 else call
        current = current_attempt() or Attempt(call.legacy.get("rollout_id") or 0, judged=False)
        found = [self._one(lm, single, role, current) for _ in range(call.n)]
        return found[0] if len(found) == 1 else internals.combine(found, model_type=lm.model_type)

    def keeps(self, lm: Any, call: PreparedCall) -> bool:
        """Return True for a model whose answers can be journaled: one that asks an engine.

        Raises:
            UsageError: The call is made in a forked process, which must not write the journal.
        """
        if os.getpid() != self._process:
            raise UsageError(
                "the program asks a model in a process of its own, where the call can't be kept or counted: let it "
                "ask in this one (`dspy.Parallel`, threads, async)"
            )
        return isinstance(lm, dspy.LM) and call.managed

    @contextlib.contextmanager
    def passing(self, lm: Any) -> Iterator[None]:
        """Surround a call that can't be journaled. Its failure is recorded all the same."""
        try:
            self._warn(lm)
            yield
        except Exception as e:
            _note_outage(e, current_attempt(), lm.model)
            raise

    def stop(self) -> None:
        """Begin no further call and retry none."""
        with self._lock:
            limiters = list(self._limiters.values())
        for limiter in limiters:
            limiter.stop()

    def __deepcopy__(self, memo: dict[int, object]) -> Calls:
        return self

    def _one(self, lm: dspy.LM, call: PreparedCall, role: str, current: Attempt) -> CallResult:
        note(lm)
        if self._workers is not None:
            elsewhere.require_served(lm)
        content = internals.content_of(call)
        whole = internals.of_any_length(content)
        again = current.again(whole)
        key, exact = (internals.key_of(text, current.sample, again) for text in (whole, content))
        if getattr(lm.engine, "takes_seed", False):
            call = internals.with_seed(call, exact)
        role = self._label + role
        one = JournaledCall(lm, call, key, exact, role, self.journal, self.budget, self._limiter(lm), self._workers)
        try:
            with (
                self._around(current.judged),
                internals.error_boundary(lm.model, unexpected=True),
                self._in_flight.one(key),
            ):
                result = one.known()
                if result is None:
                    with self.budget.open(one.role, lambda: len(content) // 4 + internals.max_tokens_of(call)):
                        result = one.ask()
                self._on_answer(key)
                check(reply_of(result), lm.model, strict=current.judged)
        except Exception as e:
            _note_outage(e, current, lm.model)
            raise
        return result

    def _limiter(self, lm: dspy.LM) -> ConcurrencyLimiter:
        provider = (lm.model.partition("/")[0], str(lm.kwargs.get("api_base") or lm.kwargs.get("base_url") or ""))
        with self._lock:
            return self._limiters.setdefault(provider, ConcurrencyLimiter(self._most))

    def _warn(self, lm: Any) -> None:
        kind = type(lm).__name__
        what = f"{kind} has a `forward` of its own" if isinstance(lm, dspy.LM) else f"{kind} is no dspy.LM"
        if self.budget.counts_calls:
            raise UsageError(
                f"{what}: its calls can't be counted, and so the budget can't be kept; use Budget(rollouts=…), or "
                "dspy.LM(engine=…) for a model of your own"
            )
        if self._workers is not None:
            raise UsageError(f"{what}: workers can't ask it; leave lm_on_workers out")
        if kind not in self._strange:
            self._strange.add(kind)
            logger.warning("%s: its answers are not kept, and asked for again after a stop", what)


def _asks_its_engine(lm: dspy.LM) -> bool:
    """Return False if a subclass overrides `forward` and so bypasses the engine."""
    kind = type(lm)
    return all(getattr(kind, name) is getattr(dspy.LM, name) for name in ("forward", "aforward"))


def _note_outage(error: Exception, current: Attempt | None, model: str) -> None:
    """Record in the attempt that a call got no answer, unless the request or the model's abilities are to blame."""
    about_the_model = isinstance(error, LMConfigurationError | LMUnsupportedFeatureError)
    if current is not None and not about_the_model and getattr(error, "code", None) not in ABOUT_THE_REQUEST:
        ours = isinstance(error, LMError | EvoPromptError)
        current.lost = error if ours else explain_lm_error(error) or internals.wrap_error(error, model=model)


@dataclass(frozen=True)
class JournaledCall:
    """One call with its retries. Its answer is in the journal before anyone sees it.

    Attributes:
        lm: The model.
        call: The request, as DSPy prepared it.
        key: The answer's key in the journal, whatever limit of tokens the request has.
        exact: Key of a reply that was cut off by just this limit: a larger one asks again. All answers of runs that
            were begun before whole answers had a key of their own are found by it.
        role: The role in the journal's sums.
        journal: Keeps the answer.
        budget: Is told the cost.
        limiter: Of the model's provider.
        workers: Have the model asked; None for this process.
    """

    lm: dspy.LM
    call: PreparedCall
    key: str
    exact: str
    role: str
    journal: Journal
    budget: BudgetTracker
    limiter: ConcurrencyLimiter
    workers: Executor | None = None

    @property
    def remote(self) -> bool:
        """True for a call that leaves this process."""
        return isinstance(self.lm.engine, str)

    def known(self) -> CallResult | None:
        """Return the journal's answer.

        Raises:
            DamagedError: The journal's row is no answer.
        """
        text = self.journal.answer(self.key)
        if text is None:
            text = self.journal.answer(self.exact)
        try:
            return None if text is None else internals.answer_from_json(text, self.lm, self.call)
        except (LookupError, TypeError, ValueError, AttributeError, RecursionError, internals.LM15Error) as e:
            raise DamagedError(
                f"the answer {self.key} in the journal is damaged ({one_line(e)}): bring the journal back from a "
                "copy, or begin anew in another directory"
            ) from e

    def ask(self) -> CallResult:
        """Ask the model until it answers, the retries are used up, or the deadline passes."""
        since = time.monotonic()
        for tries in range(1 << 30):
            try:
                return self._try(tries, since)
            except LMError as e:
                wait = _backoff(e, tries)
                late = time.monotonic() + wait - since > DEADLINE
                over = not _worth_retrying(e, self.remote) or tries >= self._retries(e) or late
                if not over:
                    self.budget.check_time(wait)
                    self._pause(wait, e.retry_after or 0.0)
                if (result := self.known()) is not None:  # an earlier try, given up, has come in
                    return result
                if over:
                    raise
        raise AssertionError

    def _retries(self, error: LMError) -> int:
        retries, never = int(self.lm.num_retries), not self.limiter.proven and nobody_there(error)
        # Else each call of a long evaluation would find out anew, for minutes, that nobody answers.
        return min(retries, RETRIES_UNPROVEN) if never or self.limiter.failing() > GONE else retries

    def _try(self, tries: int, since: float) -> CallResult:
        began, at = self.limiter.enter(), time.time()
        answered, overloaded, retry_after, failure = False, False, 0.0, ""
        try:
            with TRAFFIC.one(self.limiter):
                result = (self._timed if self.remote else self._send)(tries, since, at)
            answered = True
            return result
        except LMError as e:
            self._keep_failure(e, at, time.monotonic() - began)
            overloaded = isinstance(e, LMRateLimitError | LMTimeoutError)
            answered = isinstance(e, EmptyReply)
            asked = (e.retry_after or 0.0) if isinstance(e, LMRateLimitError) else 0.0
            retry_after = min(asked, DEADLINE)
            if asked > DEADLINE:  # a quota of hours is used up: whoever waits for a slot would wait for nothing
                told = f"no call for the next {asked / 60:.0f} minutes ({one_line(e)})"
                why = ModelError(f"model {self.lm.model!r}: the provider takes {told}: resume after that")
                self.limiter.stop(why)
                raise why from e
            if _worth_retrying(e, self.remote):
                failure = in_words(e)
            elif explain_lm_error(e) is not None:
                self.limiter.stop(e)  # before the slot is free: the next in line must not try a wrong key
            raise
        finally:
            self.limiter.leave(
                began, answered=answered, overloaded=overloaded, retry_after=retry_after, failure=failure
            )

    def _pause(self, seconds: float, at_least: float) -> None:
        began = time.monotonic()
        self.limiter.sleep(seconds, at_least)
        with contextlib.suppress(EvoPromptError):
            self.journal.keep_pause(self.key, time.monotonic() - began)

    def _keep_failure(self, error: LMError, at: float, seconds: float, used: Used = (None, None, None)) -> None:
        """Journal that the try that was sent `at` failed. If that can't be written, the error itself is told."""
        with contextlib.suppress(EvoPromptError):
            told = code_of(error), one_line(error)
            self.journal.keep_failure(self.key, at, self.role, self.lm.model, told, seconds, used)

    def _timed(self, tries: int, since: float, at: float) -> CallResult:
        """Send from a thread: a reply that drips in byte by byte never times out. A late one is journaled too."""
        done = begun(self._send, tries, since, at)
        told = self.call.legacy.get("timeout", self.lm.kwargs.get("timeout"))
        limit = float(told) if isinstance(told, int | float) else TIMEOUT
        if self.limiter.proven:  # what takes that much longer is stuck
            limit = min(limit, max(PATIENCE, 10 * self.limiter.slowest))
        try:
            return done.result(limit)
        except TimeoutError as e:
            if done.done():
                raise
            raise LMTimeoutError(f"no whole answer within {limit:g} s", model=self.lm.model) from e

    def _send(self, tries: int, since: float, at: float) -> CallResult:
        lm = copy.copy(self.lm)
        lm.num_retries = 0
        patient = {"timeout": DEADLINE} if self.remote else {}  # beyond our own limit, so that a late reply is kept
        call = replace(self.call, cache=False, legacy={**self.call.legacy, **patient})
        began = time.monotonic()
        result = elsewhere.ask(self.workers, lm, call) if self.workers else interception.ask(lm, call)
        seconds = time.monotonic() - began
        tokens = internals.tokens_of(result)
        reply, used, total = reply_of(result), (*tokens, result.cost), sum(n or 0 for n in tokens)
        if reply.empty:  # paid for all the same, also if nobody waits for it any more
            self.budget.took(self.role, total, result.cost, answers=0)
            error = EmptyReply("the reply is empty", model=lm.model)
            self._keep_failure(error, at, seconds, used)
            raise error
        text, key = internals.answer_to_json(result), self.exact if reply.cut_off else self.key
        kept = self.journal.keep_answer(key, self.role, lm.model, text, used, seconds, tries, began - since)
        self.budget.took(self.role, total, result.cost, answers=int(kept))
        if not kept:  # an earlier try, given up, has come in first
            self.journal.keep_waste(self.key, used)
        self.limiter.took(seconds)
        return self.known() or result


def _backoff(error: LMError, before: int) -> float:
    """Return the seconds until the next try, after `before` earlier failures of any kind.

    The server's wish is the least, not the rule: it may repeat the same number for longer than there are retries.
    """
    backoff = min(FIRST_WAIT * 2.0**before, MAX_WAIT)
    return max(error.retry_after or 0.0, backoff * _jitter.uniform(0.5, 1.0))


def _worth_retrying(error: LMError, remote: bool) -> bool:
    """Return True also for status 200 with something else than the API's JSON: a proxy's page, or a cut reply."""
    odd = (type(error) is LMProviderError and error.status == 200) or (remote and type(error) is LMUnexpectedError)
    return odd or isinstance(error, EmptyReply) or is_retryable_lm_error(error)
