"""Judges: code by its tests, any other answer by any metric. `judge_of` finds the one for a metric."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from typing import Any

import dspy

from evoprompt.errors import UsageError
from evoprompt.judges.any_metric import ExampleJudge
from evoprompt.judges.base import Judge, Rollout
from evoprompt.judges.code import CodeJudge
from evoprompt.judges.students import kind_of, require_fit
from evoprompt.metric import CodeMetric
from evoprompt.tasks import Task

__all__ = ["CodeJudge", "ExampleJudge", "Judge", "Rollout", "judge_of", "tasks_for"]


def judge_of(metric: CodeMetric | Judge | Callable[..., Any], executor: Executor | None = None) -> Judge:
    """Return the judge for a metric; a judge is returned as it is.

    Args:
        metric: The metric, or the judge.
        executor: Runs the solutions elsewhere; for code that tests judge.

    Raises:
        UsageError: It is no metric, or has no solutions to run elsewhere.
        ClusterError: No worker can be reached, or fits.
    """
    if executor is not None:
        metric = metric.metric if isinstance(metric, CodeJudge) else metric
        if not isinstance(metric, CodeMetric):
            raise UsageError(f"an executor runs code against its tests, and {kind_of(metric)} has none: leave it out")
        metric = metric.on(executor)
    if isinstance(metric, CodeMetric):
        return CodeJudge(metric)
    return metric if isinstance(metric, Judge) and not isinstance(metric, type) else ExampleJudge(metric)


def tasks_for(student: dspy.Module, judge: Judge, *sets: Iterable[Any]) -> list[list[Task]]:
    """Turn sets of examples into tasks, and check that the student accepts their inputs.

    Raises:
        UsageError, DataError: One can't be judged, or has other inputs than the student takes.
    """
    tasks = [judge.tasks_of(examples) for examples in sets]
    if (odd := next((t for t in itertools.chain(*tasks) if not isinstance(t, Task)), None)) is not None:
        raise UsageError(f"judge {type(judge).__name__}: `tasks_of` must give Tasks, not {kind_of(odd)}")
    if isinstance(judge, CodeJudge | ExampleJudge):  # how another judge calls it, nobody knows
        require_fit(student, itertools.chain(*tasks), "code" if isinstance(judge, CodeJudge) else "")
    return tasks
