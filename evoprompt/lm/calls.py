"""Calls to a model that cost once: kept before they are used, repeated when they fail, checked, and paced.

Whatever model a program has, `Calls` puts this between the program and the model:

    kept       an answer is in the ledger before anyone sees it, and the ledger is asked first
    repeated   after a rate limit, a time-out, a failure of the server or the network, or an answer that is none:
               exponential backoff with jitter, at least as long as the server says, within one deadline
    checked    an empty answer, one cut off by its length, and one that a filter took away are failures of their own
    paced      one call until the first answer, then up to the most; half as many whenever the provider is overloaded
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import hashlib
import json
import logging
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import replace
from typing import Any, Protocol, TypeVar

import dspy
from dspy._vendor.lm15.serde import request_to_dict, response_from_dict, response_to_dict
from dspy.lm15 import Request, Response
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

from evoprompt.errors import EvoPromptError, ModelError, UsageError
from evoprompt.lm.budget import Books, Budget, Purse
from evoprompt.lm.checks import ABOUT_THE_REQUEST, CutOffReply, EmptyReply, FilteredReply, empty, usable
from evoprompt.lm.identity import CLIENT, extensions_of, predictors_of
from evoprompt.lm.pace import Pace
from evoprompt.lm.resolve import TIMEOUT, explain_lm_error, nobody_there, one_line
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

_MODELS = 64
"""Models remembered at most: a program may make one for every call."""

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

    Attributes:
        purse: Knows what is left of the budget.
    """

    def __init__(self, ledger: Ledger, *, most: int = 8, budget: Budget | None = None, label: str = "") -> None:
        self._ledger, self._most, self._label = ledger, most, label
        self.purse = Purse(ledger, budget)
        self._paces: dict[tuple[str, str], Pace] = {}
        self._flights = _Flights()
        self._lock = threading.Lock()
        self._models: dict[tuple[int, str], tuple[dspy.LM, dspy.LM]] = {}
        self._strange: set[str] = set()

    def applied(self, program: Module) -> Module:
        """A copy of the program whose predictors, each in its role, call their models through here."""
        copy: Module = program.deepcopy()
        for role, predictor in predictors_of(copy):
            predictor.lm = self.careful(predictor.lm, role)
            predictor._evoprompt = self, role
            kind: Any = type(predictor)
            predictor.__class__ = _attentive(kind)
        return copy

    def careful(self, lm: Any, role: str) -> Any:
        """The model, called through here; the same one for the same model and role."""
        if lm is None:
            return None
        if not isinstance(lm, dspy.LM) or _goes_its_own_way(lm):
            self._warn(lm)
            return lm
        if isinstance(lm.engine, _Careful):
            return lm
        with self._lock:
            if (id(lm), role) not in self._models:
                if len(self._models) >= _MODELS:
                    self._models.clear()
                self._models[id(lm), role] = lm, self._careful(lm, role)  # with `lm`, or another could get its id
            return self._models[id(lm), role][1]

    def stop(self) -> None:
        """Begin no further call, and repeat none."""
        with self._lock:
            paces = list(self._paces.values())
        for pace in paces:
            pace.stop()

    def __deepcopy__(self, memo: dict[int, object]) -> Calls:
        return self

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

    def _careful(self, lm: dspy.LM, role: str) -> dspy.LM:
        provider = (lm.model.partition("/")[0], str(lm.kwargs.get("api_base") or lm.kwargs.get("base_url") or ""))
        pace = self._paces.setdefault(provider, Pace(self._most))
        engine = _Careful(lm, self._label + role, self._ledger, pace, self._flights, self.purse)
        bare: dict[str, Any] = {name: None for name in (*CLIENT, "extra_body", *engine.extra) if name in lm.kwargs}
        return lm.copy(engine=engine, cache=False, num_retries=0, **bare)


def _goes_its_own_way(lm: dspy.LM) -> bool:
    """Whether the engine is not what it asks: a subclass that answers itself."""
    kind = type(lm)
    return any(getattr(kind, name) is not getattr(dspy.LM, name) for name in ("forward", "aforward"))


def _carefully(predictor: Any, lm: Any) -> Any:
    calls, role = predictor._evoprompt
    return calls.careful(lm, role)


@functools.cache
def _attentive(kind: Any) -> Any:
    """The kind of predictor, which calls its model with care wherever that comes from when it is called."""

    class Attentive(kind):
        def forward(self, **kwargs: Any) -> Any:
            lm = kwargs.pop("lm", self.lm) or dspy.settings.lm
            return super().forward(lm=_carefully(self, lm), **kwargs)

        async def aforward(self, **kwargs: Any) -> Any:
            lm = kwargs.pop("lm", self.lm) or dspy.settings.lm
            return await super().aforward(lm=_carefully(self, lm), **kwargs)

    Attentive.__name__, Attentive.__qualname__ = kind.__name__, kind.__qualname__
    return Attentive


class _Careful:
    """The engine of a model that is called with care."""

    def __init__(
        self, lm: dspy.LM, role: str, ledger: Ledger, pace: Pace, flights: _Flights, purse: Purse
    ) -> None:  # fmt: skip
        self._remote = isinstance(lm.engine, str)
        # Longer than we wait, so that a late reply can still come in.
        patient = {"timeout": DEADLINE} if self._remote else {}
        self._lm = lm.copy(cache=False, num_retries=0, **patient)
        self._lm.callbacks = []
        self.extra = extensions_of(lm)
        self._retries: int = lm.num_retries
        self._seeded = getattr(lm.engine, "takes_seed", False)
        self._timeout = lm.kwargs.get("timeout")
        self._role, self._ledger, self._pace, self._flights, self._purse = role, ledger, pace, flights, purse

    # What DSPy's adapters ask an engine for: without an answer they would ask this model another way than bare.
    supports_function_calling = property(lambda self: self._lm.supports_function_calling)
    supports_reasoning = property(lambda self: self._lm.supports_reasoning)
    supports_response_schema = property(lambda self: self._lm.supports_response_schema)
    supported_params = property(lambda self: self._lm.supported_params)

    def complete(self, request: Request) -> Response:
        """The answer to a request: the one in the ledger, else the model's.

        Raises:
            LMError: There is none after all tries, or it can't be used.
            StorageError: It can't be kept.
        """
        if self.extra:
            extensions = {**(request.config.extensions or {}), **self.extra}
            request = replace(request, config=replace(request.config, extensions=extensions))
        current = this_step() or Step(0, judged=False)
        content = json.dumps(request_to_dict(request), sort_keys=True)
        again = current.again(content)
        key = hashlib.sha256(json.dumps([content, current.sample, again]).encode()).hexdigest()[:32]
        if self._seeded and request.config.temperature:
            request = replace(request, config=replace(request.config, seed=int(key[:7], 16)))
        with self._flights.of(key):
            response = self._kept(key)
            if response is None:
                try:
                    with self._purse.open(self._role, lambda: len(content) // 4 + (request.config.max_tokens or 0)):
                        response = self._ask(request, key)
                except (LMError, EvoPromptError) as e:
                    current.lost = e if _outage(e) else current.lost
                    raise
        return usable(response, strict=current.judged)

    def __deepcopy__(self, memo: dict[int, object]) -> _Careful:
        return self

    def _kept(self, key: str) -> Response | None:
        body = self._ledger.answer(key)
        return None if body is None else response_from_dict(json.loads(body))

    def _ask(self, request: Request, key: str) -> Response:
        begun = time.monotonic()
        kinds: Counter[type[LMError]] = Counter()
        for tries in range(1 << 30):
            try:
                return self._try(request, key, tries)
            except LMError as e:
                wait = _backoff(e, kinds[type(e)])
                kinds[type(e)] += 1
                late = time.monotonic() + wait - begun > DEADLINE
                over = not _worth_repeating(e, self._remote) or tries >= self._tries_left(e) or late
                if not over:
                    self._purse.check_time(wait)
                    self._pace.sleep(wait)
                if (response := self._kept(key)) is not None:  # one that was given up has come in
                    return response
                if over:
                    raise
        raise AssertionError

    def _tries_left(self, error: LMError) -> int:
        if not self._pace.proven and nobody_there(error):
            return min(self._retries, RETRIES_UNPROVEN)
        return self._retries

    def _try(self, request: Request, key: str, tries: int) -> Response:
        began = self._pace.enter()
        answered, overloaded, retry_after = False, False, 0.0
        try:
            response = self._timed(request, key, tries) if self._remote else self._send(request, key, tries)
            answered = True
            return response
        except LMError as e:
            overloaded = isinstance(e, LMRateLimitError | LMTimeoutError)
            answered = isinstance(e, EmptyReply)
            retry_after = min(e.retry_after or 0.0, DEADLINE) if isinstance(e, LMRateLimitError) else 0.0
            if isinstance(e, LMRateLimitError) and (e.retry_after or 0.0) > DEADLINE:
                raise self._closed(e) from e
            if not _worth_repeating(e, self._remote) and explain_lm_error(e) is not None:
                self._pace.stop(e)  # before the place is free: a wrong key is not tried by the next in line
            raise
        finally:
            self._pace.leave(began, answered=answered, overloaded=overloaded, retry_after=retry_after)

    def _closed(self, error: LMRateLimitError) -> ModelError:
        """A quota of hours is used up: whoever waits for a place would wait for nothing."""
        told = f"no call for the next {(error.retry_after or 0.0) / 60:.0f} minutes ({one_line(error)})"
        why = ModelError(f"model {self._lm.model!r}: the provider takes {told}: resume after that")
        self._pace.stop(why)
        return why

    def _timed(self, request: Request, key: str, tries: int) -> Response:
        """A reply that drips in byte by byte never times out by itself. One that ends later is kept all the same."""
        done: Future[Response] = Future()

        def call() -> None:
            try:
                done.set_result(self._send(request, key, tries))
            except BaseException as e:
                done.set_exception(e)

        threading.Thread(
            target=contextvars.copy_context().run, args=(call,), name="evoprompt-call", daemon=True
        ).start()
        limit = float(self._timeout) if isinstance(self._timeout, int | float) else TIMEOUT
        if self._pace.proven:  # what is that late is stuck
            limit = min(limit, max(PATIENCE, 10 * self._pace.slowest))
        try:
            return done.result(limit)
        except TimeoutError as e:
            if done.done():
                raise
            raise LMTimeoutError(f"no whole answer within {limit:g} s", model=self._lm.model) from e

    def _send(self, request: Request, key: str, tries: int) -> Response:
        lm = self._lm.copy()  # a history of its own, where DSPy leaves the price
        began = time.monotonic()
        # The model that is put around this one tells of the call; of this one the history alone, for its price.
        with dspy.context(callbacks=[], usage_tracker=None, disable_history=False):
            response: Response = lm(request)
        seconds = time.monotonic() - began
        cost = lm.history[-1].get("cost") if lm.history else None
        usage = response.usage
        tokens = (usage.input_tokens, usage.output_tokens) if usage else (None, None)
        self._purse.took(self._role, sum(n or 0 for n in tokens), cost)
        if empty(response):  # paid for all the same
            raise EmptyReply("the reply is empty", model=self._lm.model)
        body = json.dumps(response_to_dict(response))
        self._ledger.keep_answer(key, self._role, self._lm.model, body, tokens, cost, seconds, tries)
        self._pace.took(seconds)
        # One that was given up may have come in first.
        return self._kept(key) or response


class _Flights:
    """One call under way for each key: whoever asks the same meanwhile waits for its answer."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._locks: dict[str, tuple[threading.Lock, int]] = {}

    @contextlib.contextmanager
    def of(self, key: str) -> Iterator[None]:
        """Waits for whoever has the key."""
        with self._lock:
            lock, users = self._locks.get(key, (threading.Lock(), 0))
            self._locks[key] = lock, users + 1
        try:
            with lock:
                yield
        finally:
            with self._lock:
                lock, users = self._locks.pop(key)
                if users > 1:
                    self._locks[key] = lock, users - 1


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
