"""A judge asks a program for its answer to a task and says what the answer is worth: a `Rollout`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from operator import not_
from typing import Any, Protocol, runtime_checkable

import dspy
from pydantic import BaseModel, ConfigDict, Field

from evoprompt.harness.judging.report import Report, Status, Unmeasured
from evoprompt.judges.steps import Step
from evoprompt.lm.calls import Calls
from evoprompt.tasks import Task


class Rollout(BaseModel):
    """One solution of one task by one candidate, with its verdict.

    Attributes:
        candidate: Key of the candidate.
        task_id: The task.
        sample: Number of the sample, from 0.
        status: Status of the solution, or why none was measured: `lm_error`, `sandbox_error`, `data_error` (tests).
        score: In [0, 1]; None when not measured. Never a zero for a failure of the infrastructure.
        code: The extracted source; empty when the reply held none.
        report: The verdict of the tests; None when not measured, or judged by another metric.
        output: The prediction's fields as text, for answers that are not code.
        feedback: The metric's words about it.
        fault: Kind of failure of an unmeasured rollout: `rate_limit`, `timeout`, `cut_off`, …
        error: The failure in words.
        steps: The calls of the student's predictors, if `Runner(steps=True)` records them.
    """

    model_config = ConfigDict(frozen=True)

    candidate: str
    task_id: str
    sample: int = 0
    status: Status | Unmeasured
    score: float | None = Field(default=None, ge=0, le=1)
    code: str = ""
    report: Report | None = None
    output: dict[str, str] = Field(default_factory=dict)
    feedback: str = ""
    fault: str = ""
    error: str = ""
    steps: tuple[Step, ...] = Field(default=(), exclude_if=not_)

    @property
    def measured(self) -> bool:
        """True if there is a verdict."""
        return self.score is not None

    @property
    def said(self) -> tuple[str, ...]:
        """Identity of the answer: failed rollouts with the same one share a diagnosis."""
        answer = (self.code, *self.output.values())
        return (self.task_id, *(answer if any(answer) else (self.feedback,)))


@runtime_checkable
class Judge(Protocol):
    """Asks a program for its answer to a task and judges it."""

    def tasks_of(self, examples: Iterable[Any]) -> list[Task]:
        """Turn examples into tasks, in order.

        Raises:
            UsageError, DataError: An example can't be judged.
        """

    def rollout(self, program: dspy.Module, task: Task, identity: Mapping[str, Any]) -> Rollout:
        """Ask the program and judge its answer.

        Args:
            program: The program to ask.
            task: The task.
            identity: The rollout's `candidate`, `task_id` and `sample`.

        Raises:
            LMError, SandboxError: The answer could not be measured.
        """

    def describe(self) -> dict[str, Any]:
        """The settings that influence a verdict, as plain data."""

    def through(self, calls: Calls) -> Judge:
        """Return the judge with roles for its own model calls, if it makes any. They go through `calls` either way."""
