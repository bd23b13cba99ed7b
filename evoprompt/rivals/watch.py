"""The care that a rival's run is given: its calls are kept, counted and watched, and it prints nothing."""

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
from evoprompt.pool import AT_ONCE, HEARD

logger = logging.getLogger("evoprompt")

_CHATTY = (
    "dspy.teleprompt.bootstrap", "dspy.teleprompt.utils", "dspy.propose.dataset_summary_generator",
    "dspy.propose.grounded_proposer", "dspy.propose.utils",
)  # fmt: skip


_LAST_WORDS = 0.1
"""Seconds in which a rival's thread has logged that its call failed."""


class _Over(EvoPromptError):
    """The run is over; why, stands in the watch. Many threads raise it, so each its own."""


class Watch:
    """What a rival's run must not forget: which answers it paid for, and the first failure that ends it.

    An answer of an earlier process counts when it is used, so that a resumed run goes the same way.
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
        """Answers of the task model so far."""
        return len(self._keys)

    def used(self, key: str) -> None:
        """Count an answer, once for each request."""
        if measuring():
            with self._lock:
                self._keys.add(key)

    @contextlib.contextmanager
    def call(self, judged: bool) -> Iterator[None]:
        """One call. After a failure that concerns all of them there is none: whatever came of it would be no score."""
        if judged:
            with self._lock:
                self.asked += 1
            if self.paid >= self._limit:
                self.stop(BudgetSpent(f"{self.paid} calls are spent, far more than it was given"))
        self.check()
        with self._counted():
            yield

    @contextlib.contextmanager
    def _counted(self) -> Iterator[None]:
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
        """Until no call is under way: rivals leave their threads behind, and what those get was paid for."""
        with self._change:
            if not self._change.wait_for(lambda: not self._under_way, AT_ONCE):
                logger.warning("stopping: %d under way are waited for (Ctrl-C: stop at once)", self._under_way)
                until = time.monotonic() + DEADLINE
                while self._under_way and time.monotonic() < until:
                    self._change.wait(HEARD)
        if self.error is not None:
            time.sleep(_LAST_WORDS)

    def check(self) -> None:
        """Go on only if nothing has ended the run."""
        if self.error is not None:
            raise _Over(str(self.error))

    def stop(self, error: EvoPromptError) -> None:
        """End the run. The first reason counts."""
        with self._lock:
            self.error = self.error or error

    def __deepcopy__(self, memo: dict[int, object]) -> Watch:
        return self


class Metered(dspy.LM):
    """A model whose calls are watched, with the same answer to the same request at the same `rollout_id`.

    That is what DSPy's cache gives. The id itself never reaches an engine, so it is told from here.
    """

    _calls: Calls
    _role: str
    _judged: bool

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """As any model's."""
        with self._metered(kwargs):
            return super().__call__(*args, **kwargs)

    async def acall(self, *args: Any, **kwargs: Any) -> Any:
        """The same."""
        with self._metered(kwargs):
            return await super().acall(*args, **kwargs)

    @contextlib.contextmanager
    def _metered(self, kwargs: Mapping[str, Any]) -> Iterator[None]:
        rollout = kwargs.get("rollout_id") or self.kwargs.get("rollout_id") or 0
        with listening(self._calls, self._role), attempt(rollout, judged=self._judged):
            yield

    def inspect_history(self, n: int = 1, file: Any = None) -> None:
        """Nothing: COPRO prints it in a line that only looks like logging."""


def metered(calls: Calls, lm: Any, role: str, *, judged: bool) -> Metered:
    """The model, watched.

    Args:
        calls: Put between it and the provider.
        lm: The model.
        role: In which it is asked.
        judged: Whether its answers are; those of a proposer are not.

    Raises:
        UsageError: There is none, or it is no `dspy.LM`.
    """
    if not isinstance(lm, dspy.LM):
        raise UsageError(f"no model for the role {role!r}: dspy.configure(lm=dspy.LM(...)) first")
    copy = lm.copy(cache=False)
    copy.__class__ = Metered
    copy._calls, copy._role, copy._judged = calls, role, judged
    return copy  # type: ignore[no-any-return]


def watched(student: dspy.Module, calls: Calls) -> dspy.Module:
    """A copy whose models are watched: one for all predictors that had the same, since SIMBA takes no second one."""
    copy: dspy.Module = student.deepcopy()
    shown = {id(p) for _, p in copy.named_predictors()}
    known: dict[int, Metered] = {}
    for role, predictor in sorted(predictors_of(copy), key=lambda found: id(found[1]) not in shown):
        lm = predictor.lm or dspy.settings.lm
        if id(predictor) not in shown:  # `forward` does not use it
            predictor.lm = next(iter(known.values()))
            continue
        if id(lm) not in known:
            known[id(lm)] = metered(calls, lm, role, judged=True)
        predictor.lm = known[id(lm)]
    return copy


class Guarded:
    """A metric whose failures end the run: rivals take an exception for a score of 0."""

    def __init__(self, metric: Callable[..., Any], watch: Watch) -> None:
        self._metric, self._watch = metric, watch

    def __call__(
        self, gold: Any, pred: Any, trace: Any = None, pred_name: str | None = None, pred_trace: Any = None
    ) -> Any:
        """The verdict, asked for as the rival asks."""
        self._watch.check()
        try:
            if pred_name is None and pred_trace is None:
                return self._metric(gold, pred, trace)
            return self._metric(gold, pred, trace, pred_name, pred_trace)
        except EvoPromptError as e:
            self._watch.stop(e)
            raise
        except (LMError, AdapterParseError) as e:  # of the metric's own model: nobody knows the score
            self._watch.stop(explain_lm_error(e) or ModelError(f"the metric got no answer: {one_line(e)}"))
            raise


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No prints, no progress bars, no log of theirs. The standard streams stay: a display of ours may be on them."""
    loud, tqdm = logging.getLogger("dspy"), importlib.import_module("tqdm")
    level, bar, as_it_is = loud.level, tqdm.tqdm.__init__, vars(tqdm.tqdm)["__init__"]
    modules = [importlib.import_module(name) for name in _CHATTY]
    for module in modules:
        vars(module)["print"] = lambda *_, **__: None
    try:
        loud.setLevel(logging.CRITICAL)
        tqdm.tqdm.__init__ = lambda self, *args, **kwargs: bar(self, *args, **{**kwargs, "disable": True})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        loud.setLevel(level)
        tqdm.tqdm.__init__ = as_it_is  # what a look at the class gives may be made anew by each look
        for module in modules:
            del vars(module)["print"]
