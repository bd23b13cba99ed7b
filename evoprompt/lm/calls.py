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
import hashlib
import json
import random
import re
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
    LMError,
    LMProviderError,
    LMRateLimitError,
    LMTimeoutError,
    LMUnexpectedError,
    is_retryable_lm_error,
)

from evoprompt.lm.pace import Pace
from evoprompt.lm.resolve import TIMEOUT, explain_lm_error, nobody_there

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
_CLIENT = (
    "api_key", "api_base", "base_url", "headers", "extra_headers", "timeout", "api_version",
    "azure_ad_token_provider", "organization", "project", "extra_query", "custom_llm_provider",
)  # fmt: skip
"""Settings of a connection, which an LM with an engine of its own must not have."""


class Ledger(Protocol):
    """Where answers are kept; `evoprompt.runs.Journal` is one."""

    def answer(self, key: str) -> str | None:
        """The answer with this key, if there is one."""

    def keep_answer(
        self, key: str, role: str, model: str, response: str, usage: tuple[int | None, int | None],
        cost: float | None, seconds: float, retries: int,
    ) -> None:  # fmt: skip
        """Keep an answer for good."""


class EmptyReply(LMProviderError):
    """The reply holds no text. Worth another try."""

    default_code = "empty_reply"


class CutOffReply(LMProviderError):
    """The reply was cut off by its length before it held an answer. The next one would be too."""

    default_code = "cut_off"


class FilteredReply(LMProviderError):
    """The provider's filter took the reply away."""

    default_code = "filtered"


class _Step:
    """What tells the calls of one rollout from the same ones of another."""

    def __init__(self, sample: int) -> None:
        self.sample = sample
        self.before: Counter[str] = Counter()


_step: contextvars.ContextVar[_Step | None] = contextvars.ContextVar("evoprompt_step", default=None)


@contextlib.contextmanager
def step(sample: int = 0) -> Iterator[None]:
    """Calls in here are those of the `sample`-th try at something that will be judged.

    The same request gives an answer for each sample, and for each time that it comes in one step.
    """
    token = _step.set(_Step(sample))
    try:
        yield
    finally:
        _step.reset(token)


class Calls:
    """Puts care between programs and their models. Calls of one provider share one pace.

    Args:
        ledger: Keeps the answers.
        most: The most calls under way to one provider.
    """

    def __init__(self, ledger: Ledger, *, most: int = 8) -> None:
        self._ledger, self._most = ledger, most
        self._paces: dict[tuple[str, str], Pace] = {}
        self._flights = _Flights()

    def applied(self, program: Module) -> Module:
        """A copy of the program whose predictors, each in its role, call their models through here."""
        copy: Module = program.deepcopy()
        for role, predictor in _predictors(copy):
            lm = predictor.lm or dspy.settings.lm
            if isinstance(lm, dspy.LM) and not isinstance(lm.engine, _Careful):
                predictor.lm = self._careful(lm, role)
        return copy

    def stop(self) -> None:
        """Begin no further call, and repeat none."""
        for pace in self._paces.values():
            pace.stop()

    def _careful(self, lm: dspy.LM, role: str) -> dspy.LM:
        provider = (lm.model.partition("/")[0], str(lm.kwargs.get("api_base") or lm.kwargs.get("base_url") or ""))
        pace = self._paces.setdefault(provider, Pace(self._most))
        bare: dict[str, Any] = {name: None for name in _CLIENT if name in lm.kwargs}
        engine = _Careful(lm, role, self._ledger, pace, self._flights)
        return lm.copy(engine=engine, cache=False, num_retries=0, **bare)


def _predictors(program: dspy.Module) -> list[tuple[str, Any]]:
    """All predictors with their names: those that an optimizer is shown, and those that a program keeps to itself."""
    own = {n: p for n, p in vars(program).items() if isinstance(p, dspy.Predict)}
    shown = dict(program.named_predictors())
    return [*own.items(), *((n, p) for n, p in shown.items() if all(p is not q for q in own.values()))]


def describe(program: dspy.Module) -> dict[str, Any]:
    """What decides about a program's answers, as plain data: no connection, no key."""
    bare = program.deepcopy()
    models = {name: _described(p.lm or dspy.settings.lm) for name, p in _predictors(bare)}
    bare.set_lm(None)
    for _, predictor in _predictors(bare):
        predictor.lm = None
    state: dict[str, Any] = json.loads(json.dumps(bare.dump_state(), default=repr))
    return {"models": models, **state, "max_repairs": getattr(program, "max_repairs", 0)}


def _described(lm: Any) -> dict[str, Any] | None:
    if lm is None:
        return None
    settings = {k: v for k, v in lm.kwargs.items() if k not in _CLIENT and v is not None and "key" not in k}
    engine = getattr(lm, "engine", "auto")
    state = engine.dump_state() if hasattr(engine, "dump_state") else None
    return {"model": lm.model, "engine": state, **json.loads(json.dumps(settings, default=repr))}


class _Careful:
    """The engine of a model that is called with care."""

    def __init__(self, lm: dspy.LM, role: str, ledger: Ledger, pace: Pace, flights: _Flights) -> None:
        self._remote = isinstance(lm.engine, str)
        # Longer than we wait, so that a late reply can still come in.
        patient = {"timeout": DEADLINE} if self._remote else {}
        self._lm = lm.copy(cache=False, num_retries=0, **patient)
        self._retries: int = lm.num_retries
        self._seeded = getattr(lm.engine, "takes_seed", False)
        self._timeout = lm.kwargs.get("timeout")
        self._role, self._ledger, self._pace, self._flights = role, ledger, pace, flights

    def complete(self, request: Request) -> Response:
        """The answer to a request: the one in the ledger, else the model's.

        Raises:
            LMError: There is none after all tries, or it can't be used.
            StorageError: It can't be kept.
        """
        current = _step.get() or _Step(0)
        content = json.dumps(request_to_dict(request), sort_keys=True)
        again = current.before[content]
        current.before[content] += 1
        key = hashlib.sha256(json.dumps([content, current.sample, again]).encode()).hexdigest()[:32]
        if self._seeded and request.config.temperature:
            request = replace(request, config=replace(request.config, seed=int(key[:7], 16)))
        with self._flights.of(key):
            kept = self._ledger.answer(key)
            response = self._ask(request, key) if kept is None else response_from_dict(json.loads(kept))
        return _usable(response, strict=_step.get() is not None)

    def __deepcopy__(self, memo: dict[int, object]) -> _Careful:
        return self

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
                if not _worth_repeating(e, self._remote) or tries >= self._tries_left(e) or late:
                    raise
                self._pace.sleep(wait)
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
            if not _worth_repeating(e, self._remote) and explain_lm_error(e) is not None:
                self._pace.stop(e)  # before the next one has this one's place
            raise
        finally:
            self._pace.leave(began, answered=answered, overloaded=overloaded, retry_after=retry_after)

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
        response: Response = lm(request)
        seconds = time.monotonic() - began
        if _empty(response):
            raise EmptyReply("the reply is empty", model=self._lm.model)
        cost = lm.history[-1].get("cost") if lm.history else None
        usage = response.usage
        tokens = (usage.input_tokens, usage.output_tokens) if usage else (None, None)
        body = json.dumps(response_to_dict(response))
        self._ledger.keep_answer(key, self._role, self._lm.model, body, tokens, cost, seconds, tries)
        # One that was given up may have come in first.
        return response_from_dict(json.loads(self._ledger.answer(key) or body))


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


def _worth_repeating(error: LMError, remote: bool) -> bool:
    """Also a reply with status 200 that is no JSON, or JSON of another shape: a proxy's page, or one that was cut."""
    odd = (type(error) is LMProviderError and error.status == 200) or (remote and type(error) is LMUnexpectedError)
    return odd or isinstance(error, EmptyReply) or is_retryable_lm_error(error)


def _empty(response: Response) -> bool:
    filtered = response.finish_reason == "content_filter"
    return not (filtered or response.tool_calls or (response.text or "").strip() or response.finish_reason == "length")


def _usable(response: Response, *, strict: bool) -> Response:
    """The response, if it can be an answer.

    Args:
        response: What the model said.
        strict: Whether it will be judged. Advice is of use also where its end is missing.

    Raises:
        FilteredReply: A filter took it away.
        CutOffReply: It ends before its answer does. A block of code that is closed is an answer, whatever follows.
    """
    if response.finish_reason == "content_filter":
        raise FilteredReply("the provider's filter took the reply away", model=response.model)
    fences = re.findall(r"^[ \t]*(?:```|~~~)", response.text or "", re.MULTILINE)
    if strict and response.finish_reason == "length" and (not fences or len(fences) % 2):
        raise CutOffReply("the reply was cut off by its length: raise --max_tokens", model=response.model)
    return response
