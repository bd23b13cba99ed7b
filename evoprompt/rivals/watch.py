"""Care for a rival's run: its calls are kept and counted, the first failure ends it, and its log is quiet."""

from __future__ import annotations

import contextlib
import importlib
import logging
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import dspy
from dspy.utils.exceptions import AdapterParseError, LMError

from evoprompt.errors import BudgetSpent, EvoPromptError, ModelError, UsageError
from evoprompt.lm.calls import ABOUT_THE_REQUEST, DEADLINE, Calls
from evoprompt.lm.identity import predictors_of
from evoprompt.lm.interception import attempt, listening, measuring
from evoprompt.lm.resolve import explain_lm_error, one_line
from evoprompt.pool import AT_ONCE, HEARD, waiting_line
from evoprompt.wording import counted

logger = logging.getLogger("evoprompt")

LAST_WORDS = 0.1
"""Seconds that a rival's threads get to log that their calls failed, while its log is still quiet."""


class _Aborted(EvoPromptError):
    """Aborts a thread; the reason is `Watch.error`."""


class Watch:
    """Counts a rival's calls, and stops the run at its first failure.

    An answer of an earlier process counts when it is used, so that a resumed run goes the same way.

    Attributes:
        asked: Calls of the task model that the rival asked for.
        error: The failure that ended the run, if one did.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._keys: set[str] = set()
        self._change = threading.Condition()
        self._under_way = 0
        self.asked = 0
        self.error: EvoPromptError | None = None

    @property
    def paid(self) -> int:
        """Distinct answers of the task model so far."""
        return len(self._keys)

    def used(self, key: str) -> None:
        """Count an answer, once for each request."""
        if measuring():
            with self._lock:
                self._keys.add(key)

    @contextlib.contextmanager
    def call(self, judged: bool) -> Iterator[None]:
        """Enter around each call. Raises once the run is stopped: what came of the call would be no score."""
        if judged:
            with self._lock:
                self.asked += 1
            if self.paid >= self._limit:
                self.stop(BudgetSpent(f"{counted(self.paid, 'call')} are spent, far more than it was given"))
        self.check()
        with self._change:
            self._under_way += 1
        try:
            yield
        except LMError as e:
            if e.code not in ABOUT_THE_REQUEST or explain_lm_error(e) is not None:
                self.stop(explain_lm_error(e) or ModelError(f"no answer from the model: {one_line(e)}"))
            raise
        except EvoPromptError as e:
            self.stop(e)
            raise
        finally:
            with self._change:
                self._under_way -= 1
                self._change.notify_all()

    def wait(self) -> None:
        """Wait for the calls under way: rivals leave their threads behind, and these answers are paid for."""
        with self._change:
            if not self._change.wait_for(lambda: not self._under_way, AT_ONCE):
                logger.warning("%s", waiting_line(self._under_way, self.error))
                until = time.monotonic() + DEADLINE
                while self._under_way and time.monotonic() < until:
                    self._change.wait(HEARD)
        if self.error is not None:
            time.sleep(LAST_WORDS)

    def check(self) -> None:
        """Raise if the run is stopped."""
        if self.error is not None:
            raise _Aborted(str(self.error))

    def stop(self, error: EvoPromptError) -> None:
        """Stop the run. The first reason counts."""
        with self._lock:
            self.error = self.error or error

    def __deepcopy__(self, memo: dict[int, object]) -> Watch:
        return self


class WatchedLM(dspy.LM):
    """A model whose calls are watched. The same request with the same `rollout_id` gets the same answer.

    That is what DSPy's cache does. An engine never sees the id, so the step of the call tells it.
    """

    _calls: Calls
    _role: str
    _judged: bool

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Ask the model."""
        with self._watched(kwargs):
            return super().__call__(*args, **kwargs)

    async def acall(self, *args: Any, **kwargs: Any) -> Any:
        """Ask the model."""
        with self._watched(kwargs):
            return await super().acall(*args, **kwargs)

    @contextlib.contextmanager
    def _watched(self, kwargs: Mapping[str, Any]) -> Iterator[None]:
        rollout = kwargs.get("rollout_id") or self.kwargs.get("rollout_id") or 0
        with listening(self._calls, self._role), attempt(rollout, judged=self._judged):
            yield

    def inspect_history(self, n: int = 1, file: Any = None) -> None:
        """Do nothing: COPRO prints the history in a line that only looks like logging."""


def watched(calls: Calls, lm: Any, role: str, *, judged: bool) -> WatchedLM:
    """Return a copy of a model whose calls go through `calls`.

    Args:
        calls: Put between it and the provider.
        lm: The model.
        role: In which it is asked.
        judged: True for the task model, False for a proposer.

    Raises:
        UsageError: There is no model, or it is no `dspy.LM`.
    """
    if not isinstance(lm, dspy.LM):
        raise UsageError(f"no model for the role {role!r}: dspy.configure(lm=dspy.LM(...)) first")
    copy = lm.copy(cache=False)
    copy.__class__ = WatchedLM
    copy._calls, copy._role, copy._judged = calls, role, judged
    return copy  # type: ignore[no-any-return]


def watched_student(student: dspy.Module, calls: Calls) -> dspy.Module:
    """Return a copy whose models are watched. Predictors that shared one still do: SIMBA takes no second model."""
    copy: dspy.Module = student.deepcopy()
    shown = {id(p) for _, p in copy.named_predictors()}
    known: dict[int, WatchedLM] = {}
    for role, predictor in sorted(predictors_of(copy), key=lambda found: id(found[1]) not in shown):
        lm = predictor.lm or dspy.settings.lm
        if id(predictor) not in shown:  # `forward` does not use it
            predictor.lm = next(iter(known.values()))
            continue
        if id(lm) not in known:
            known[id(lm)] = watched(calls, lm, role, judged=True)
        predictor.lm = known[id(lm)]
    return copy


class GuardedMetric:
    """A metric whose failures end the run: rivals take an exception for a score of 0."""

    def __init__(self, metric: Callable[..., Any], watch: Watch) -> None:
        self._metric, self._watch = metric, watch

    def __call__(
        self, gold: Any, pred: Any, trace: Any = None, pred_name: str | None = None, pred_trace: Any = None
    ) -> Any:
        """Return the metric's verdict. It gets the arguments about a predictor only where they were given."""
        self._watch.check()
        about = () if pred_name is None and pred_trace is None else (pred_name, pred_trace)
        try:
            return self._metric(gold, pred, trace, *about)
        except EvoPromptError as e:
            self._watch.stop(e)
            raise
        except (LMError, AdapterParseError) as e:  # of the metric's own model: nobody knows the score
            self._watch.stop(explain_lm_error(e) or ModelError(f"the metric got no answer: {one_line(e)}"))
            raise


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence DSPy's log, warnings and progress bars. stderr stays: a display of ours may be on it."""
    loud, bars = logging.getLogger("dspy"), importlib.import_module("tqdm").tqdm
    # Called as the attribute, and put back as it stands in the class: a descriptor makes the attribute anew each time.
    level, make, as_it_was = loud.level, bars.__init__, vars(bars)["__init__"]
    try:
        loud.setLevel(logging.CRITICAL)
        # tqdm reads TQDM_DISABLE once, when it is imported: by then it is too late.
        bars.__init__ = lambda self, *args, **kwargs: make(self, *args, **{**kwargs, "disable": True})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        loud.setLevel(level)
        bars.__init__ = as_it_was
