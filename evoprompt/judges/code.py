"""Code as an answer: judged by the hidden tests of its task."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from typing import Any

import dspy
from dspy.utils.exceptions import AdapterParseError

from evoprompt.errors import DataError, SandboxError
from evoprompt.harness.judging.report import Report, SuiteResult
from evoprompt.judges.base import Rollout
from evoprompt.judges.students import Wordings, answer, examples_of, listed, original, split
from evoprompt.lm.calls import Calls
from evoprompt.lm.extract import extract_code, no_code, scrub
from evoprompt.metric import CodeMetric, code_of, task_id_of
from evoprompt.tasks import Task

logger = logging.getLogger("evoprompt")


class CodeJudge:
    """Judges code by the hidden tests of its task.

    Args:
        metric: Holds the tasks and runs the code.
    """

    def __init__(self, metric: CodeMetric) -> None:
        self.metric = metric
        self._wordings = Wordings()

    @property
    def workers(self) -> Executor | None:
        """The workers that judge, where they ask the models as well."""
        executor = self.metric.harness.executor
        return executor if getattr(executor, "lm_on_workers", False) else None

    def tasks_of(self, examples: Iterable[Any]) -> list[Task]:
        """Turn examples into tasks. Each wording of a task becomes a task with its own id."""
        return [self._task(number, example) for number, example in enumerate(listed(examples))]

    def describe(self) -> dict[str, Any]:
        """The settings of the metric, as plain data."""
        return self.metric.describe()

    def through(self, calls: Calls) -> CodeJudge:
        """Return the judge itself: it calls no model."""
        return self

    def rollout(self, program: dspy.Module, task: Task, identity: Mapping[str, Any]) -> Rollout:
        """Ask the program for code and run it against the tests."""
        try:
            prediction = answer(program, task)
            reply = code_of(prediction, task.task_id)
            said = reply or str(getattr(prediction, "reply", ""))  # of a `Program` that found no code in it
        except AdapterParseError as e:
            # The model did answer: what it said is judged, even when it is no code at all.
            said = reply = e.lm_response or ""
        rollout = judged(self.metric, task, scrub(extract_code(reply, task.entry_point)), identity)
        if not rollout.code and rollout.report:
            told = _without_code(rollout.report, no_code(scrub(said)))
            rollout = rollout.model_copy(update={"report": told})
        if rollout.status == "sandbox_error":
            logger.warning("task %s: the sandbox failed: %s", task.task_id, rollout.error)
        elif rollout.status == "data_error":
            logger.warning("its tests are broken: %s", rollout.error)
        return rollout

    def vet(
        self, tasks: Sequence[Task], *, num_threads: int = 8, on_done: Callable[[int], object] | None = None
    ) -> dict[str, str]:  # fmt: skip
        """The reason for each task with broken tests, by task id; see `CodeMetric.vet`."""
        originals = {original(t).key: original(t) for t in tasks}.values()
        found = self.metric.vet(originals, num_threads=num_threads, on_done=on_done)
        return {t.task_id: found[original(t).task_id] for t in tasks if original(t).task_id in found}

    def _task(self, number: int, example: Any) -> Task:
        if isinstance(example, Task):
            return self._wordings.task(original(example), examples_of([example])[0], number)
        split(number, example)
        return self._wordings.task(self.metric.task(task_id_of(example, f"example {number}")), example, number)


def judged(metric: CodeMetric, task: Task, code: str, identity: Mapping[str, Any]) -> Rollout:
    """Judge a given solution. A failure of the sandbox or the tests gives an unmeasured rollout.

    Args:
        metric: Judges the code.
        task: Its task.
        code: The solution.
        identity: The rollout's `candidate`, `task_id` and `sample`.
    """
    try:
        report = metric.judge(original(task), code)
    except SandboxError as e:
        return Rollout(**identity, status="sandbox_error", code=code, fault="sandbox", error=str(e))
    except DataError as e:
        return broken(identity, str(e), code)
    return Rollout(**identity, status=report.status, score=metric.score(report), code=code, report=report)


def _without_code(report: Report, why: str) -> Report:
    """The report on an empty solution, with words for what the model replied instead of code."""

    def told(suite: SuiteResult | None) -> SuiteResult | None:
        cases = () if suite is None else (c.model_copy(update={"observed": why}) for c in suite.cases)
        return suite and suite.model_copy(update={"cases": tuple(cases)})

    return report.model_copy(update={"detail": why, "base": told(report.base), "plus": told(report.plus)})


def broken(identity: Mapping[str, Any], why: str, code: str = "") -> Rollout:
    """The rollout of a task whose tests are broken: nothing was measured."""
    return Rollout(**identity, status="data_error", code=code, fault="broken_tests", error=why)
