"""Any `dspy.Example` as a task, judged by any metric."""

from __future__ import annotations

import copy
import inspect
import logging
import math
import types
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import dspy
from dspy.utils.exceptions import AdapterParseError, LMError

from evoprompt.datasets import Dataset
from evoprompt.errors import EvoPromptError, UsageError
from evoprompt.judges.base import Rollout
from evoprompt.judges.students import ExampleTask, answer, content_of, listed, shown, split
from evoprompt.lm.calls import Calls
from evoprompt.lm.identity import describe, fingerprint_of
from evoprompt.lm.resolve import one_line
from evoprompt.metric import Verdict
from evoprompt.plain import plain, text
from evoprompt.tasks import Task

logger = logging.getLogger("evoprompt")

UNREADABLE = "The reply could not be parsed: it does not hold the fields that were asked for, in the form asked for."
_ALMOST = 1e-9
"""Tolerance for a mean of scores that rounding puts outside of [0, 1]."""
_GEPAS = 3
"""Number of arguments that GEPA adds for a metric: the trace, a predictor's name, its part of the trace."""


class ExampleJudge:
    """Judges any program's answer to any example by any metric.

    Args:
        metric: Called as `metric(example, prediction)`, with None for further parameters that have no default
            (`trace` and those of GEPA), from several threads. Gives a number in [0, 1], a bool, or a
            `dspy.Prediction(score=…, feedback=…)`. One that takes GEPA's five parameters and gives no feedback
            that way is called again about what failed, as GEPA does it, for the feedback alone. A method
            `describe()` tells as plain data what decides about its scores besides its code.

    Raises:
        UsageError: It can't be called like this.
    """

    def __init__(self, metric: Callable[..., Any]) -> None:
        if not callable(metric):
            raise UsageError(f"the metric must be a function of example and prediction, not {metric!r}")
        self._metric = metric
        named = getattr(metric, "func", metric)  # of a partial
        self._name = str(getattr(named, "__qualname__", type(named).__qualname__))
        self._nones, self._takes = _parameters(metric, self._name)
        self._contents: dict[str, str] = {}
        self._ids: dict[str, list[str]] = {}

    def tasks_of(self, examples: Iterable[Any]) -> list[Task]:
        """The examples as tasks. An example is known by its `task_id` or `id`, else by place and content.

        Raises:
            UsageError: One is no `dspy.Example` with inputs.
        """
        before, again = {c: list(ids) for c, ids in self._ids.items()}, Counter[str]()
        found = []
        for number, example in enumerate(listed(examples)):
            task = self._task(number, example)
            content, task_id = task.content, task.task_id
            known = before.get(content, [])
            if again[content] < len(known):  # the same example has its name from another split, at whatever place
                task = task.model_copy(update={"task_id": known[again[content]]})
            else:
                self._ids.setdefault(content, []).append(task_id)
            again[content] += 1
            found.append(task)
        return list(found)

    def describe(self) -> dict[str, Any]:
        """The metric's code, its state, the code it refers to, and its own description, as plain data."""
        found: dict[str, Any] = {"metric": self._name}
        if isinstance(self._metric, dspy.Module):
            return found | {"program": describe(self._metric)}
        found |= fingerprint_of(self._metric, "metric")
        if callable(told := getattr(self._metric, "describe", None)):
            found["settings"] = plain(told())
        return found

    def through(self, calls: Calls) -> ExampleJudge:
        """Return the judge; a metric that is a `dspy.Module` calls its models in the roles of its predictors."""
        if not isinstance(self._metric, dspy.Module):
            return self
        judge = copy.copy(self)
        judge._metric = calls.applied(self._metric)
        return judge

    def rollout(self, program: dspy.Module, task: Task, identity: Mapping[str, Any]) -> Rollout:
        """Ask the program and judge its answer by the metric.

        Raises:
            UsageError: The metric fails, or gives no score.
        """
        assert isinstance(task, ExampleTask)
        trace: list[Any] = []
        try:
            prediction = answer(program, task, trace)
        except AdapterParseError as e:  # the model did answer
            told = {"reply": text(e.lm_response or "")}
            return Rollout(**identity, status="invalid", score=0.0, output=told, feedback=UNREADABLE)
        output = _fields(prediction)
        try:
            score, feedback = self._judged(task.example, prediction, [], task.task_id)
            if self._takes == _GEPAS and score < 1 and not feedback:
                _, feedback = self._judged(task.example, prediction, _seen(program, trace), task.task_id)
        except AdapterParseError as e:  # the metric's own model: what it meant to say, nobody knows
            logger.warning("task %s: the metric's model was not understood", task.task_id)
            error = f"metric {self._name}: {one_line(e)}"
            return Rollout(**identity, status="lm_error", output=output, fault="metric_reply", error=error)
        status: Any = "passed" if score >= 1 else "failed"
        return Rollout(**identity, status=status, score=score, output=output, feedback=feedback or _said(score))

    def verdict(self, gold: dspy.Example, pred: Any, *told: Any) -> Verdict:
        """Judge as DSPy's optimizers ask a metric to.

        Args:
            gold: The example.
            pred: The answer to it.
            *told: The trace and, from GEPA, a predictor's name and trace; the metric gets those that it takes.

        Raises:
            UsageError: The metric fails, or gives no score.
        """
        more = [*told, *[None] * _GEPAS][: self._takes]
        score, feedback = self._judged(gold, pred, more)
        return Verdict(score=score, feedback=feedback or _said(score))

    def _task(self, number: int, example: Any) -> ExampleTask:
        if isinstance(example, ExampleTask):
            example = example.example
        elif isinstance(example, Task):
            (example,) = Dataset([example]).examples()
        inputs, labels = split(number, example)
        content = content_of(number, inputs, labels)
        both = inputs | labels
        own = next((both[n] for n in ("task_id", "id") if isinstance(both.get(n), str | int)), None)
        task_id = f"{number:04d}-{content[:6]}" if own is None else text(str(own))
        if self._contents.setdefault(task_id, content) != content:  # numbered from 0 in every split, maybe
            task_id = f"{task_id}-{content[:6]}"
        return ExampleTask(task_id=task_id, prompt=shown(inputs), example=example, content=content)

    def _judged(self, example: Any, prediction: Any, more: list[Any], task_id: str = "") -> tuple[float, str]:
        try:
            with dspy.context(trace=[], disable_history=True):  # it may ask a model, too
                found = self._metric(example, prediction, *(more or [None] * self._nones))
        except (LMError, AdapterParseError, EvoPromptError):
            raise
        except Exception as e:
            where = self._where(example, task_id)
            raise UsageError(f"{where}: the metric raised {type(e).__name__}: {text(str(e))[:300]}") from e
        score, feedback = found, None
        if isinstance(found, dspy.Prediction):
            score, feedback = found.get("score"), found.get("feedback")
        try:
            value = math.nan if score is None or isinstance(score, str | bytes) else float(score)
        except (TypeError, ValueError, OverflowError):
            value = math.nan
        if not -_ALMOST <= value <= 1 + _ALMOST:
            where = self._where(example, task_id)
            raise UsageError(f"{where}: a score must be a number from 0 to 1, not {text(score)[:100]}")
        return min(max(value, 0.0), 1.0), "" if feedback is None else text(feedback)

    def _where(self, example: Any, task_id: str) -> str:
        name = f" {task_id!r}" if task_id else ""
        return f"metric {self._name}, example{name} ({' '.join(shown(split(0, example)[0]).split())[:80]})"


def _said(score: float) -> str:
    return f"The metric gives it {score:.3g}; 1 is the best, 0 the worst."


def _fields(prediction: Any) -> dict[str, str]:
    fields = prediction.items() if isinstance(prediction, dspy.Example | Mapping) else [("output", prediction)]
    return {text(str(name)): text(value) for name, value in fields}


def _parameters(metric: Callable[..., Any], name: str) -> tuple[int, int]:
    """Count the required parameters beyond two, and those of GEPA's three that the metric takes.

    Raises:
        UsageError: It does not take two, or needs more than five.
    """
    function: Any = metric
    if isinstance(metric, dspy.Module):
        forward = getattr(type(metric), "forward", None)
        if forward is None:
            raise UsageError(f"metric {name} has no `forward(example, prediction)`, by which a metric module judges")
        function = types.MethodType(forward, metric)
    if isinstance(metric, type):
        raise UsageError(f"metric {name} is a class; call it: {name}(…)")
    if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(metric).__call__):
        raise UsageError(f"metric {name} is a coroutine function; a metric gives its score at once: write `def`")
    try:
        found = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # written in C
        return 0, 0
    places = [p for p in found if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    needed = sum(p.default is p.empty for p in places)
    named = [p.name for p in found if p.kind is p.KEYWORD_ONLY and p.default is p.empty]
    if needed > 5 or named or (len(places) < 2 and not any(p.kind is p.VAR_POSITIONAL for p in found)):
        raise UsageError(f"metric {name} must take (example, prediction) and at most GEPA's three more parameters")
    return max(0, needed - 2), max(0, min(len(places) - 2, _GEPAS))


def _seen(program: dspy.Module, trace: list[Any]) -> list[Any]:
    """GEPA's further arguments: the trace, the evolving predictor's name, and its part of the trace."""
    name, predictor = program.named_predictors()[0]
    return [trace, name, [step for step in trace if step[0] is predictor]]
