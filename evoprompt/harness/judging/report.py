"""The verdict on one solution: plain, frozen data that can be stored and sent anywhere."""

from __future__ import annotations

from operator import not_
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from evoprompt.tasks import Suite

Status = Literal["passed", "failed", "error", "timeout", "crashed", "invalid"]
"""`failed` wrong answer · `error` exception · `timeout` · `crashed` signal or memory · `invalid` no parseable code."""

Unmeasured = Literal["lm_error", "sandbox_error", "data_error"]
"""Reasons why nothing was measured: no answer, no process, or broken tests. Never a score."""


class Case(BaseModel):
    """One test of one suite.

    Attributes:
        suite: `base` or `plus`.
        index: Position in the suite, from 0.
        status: What happened; `passed` only when the comparison in the host held.
        call: Source of the call or calls that the solution's process evaluated.
        test: Source of the whole test, expected value included. For files and people, never for a model.
        observed: What the solution did: `returned 3`, `raised KeyError: 'a' (line 4)`, `used more than 4 s`.
        stderr: The end of what it wrote to standard error in this test, if anything. For people, as `test`.
        exception: Name of the exception type if it is built in or stands in the solution, else empty.
        line: Line of the solution where the statement that raised begins, from 1; 0 when unknown.
        whole: It rests on what the solution says of its own objects, or ran beside it: a forger could pass it.
    """

    model_config = ConfigDict(frozen=True)

    suite: Suite
    index: int
    status: Status
    call: str
    test: str
    observed: str = ""
    stderr: str = Field(default="", exclude_if=not_)
    exception: str = ""
    line: int = 0
    whole: bool = False


class SuiteResult(BaseModel):
    """One suite: its status is that of its first case that did not pass.

    Attributes:
        status: `passed` when every case passed (an empty suite passes).
        passed: Number of cases that passed.
        total: Number of cases in the suite; those that never ran count as not passed.
        cases: Every case that ran, in order; a crash or a time-out ends the suite. Of a suite of inputs, only those
            that did not pass: the first, or all where that was asked for.
    """

    model_config = ConfigDict(frozen=True)

    status: Status
    passed: int
    total: int
    cases: tuple[Case, ...] = ()


class Report(BaseModel):
    """The verdict of the harness on one solution of one task.

    Attributes:
        task_id: The task.
        status: `passed` when every requested suite passed, else the status of the first that did not.
        base: The base suite; None when it was not asked for.
        plus: The plus suite; None when it was not asked for or the task has none.
        detail: For `invalid`: what the parser said, or the reply without code. Else empty.
        cpu_seconds: CPU time of the solution's processes.
        tier: Name of the sandbox tier that ran it.
    """

    model_config = ConfigDict(frozen=True)

    task_id: str
    status: Status
    base: SuiteResult | None = None
    plus: SuiteResult | None = None
    detail: str = ""
    cpu_seconds: float = 0.0
    tier: str = ""

    @property
    def passed(self) -> bool:
        """True if every requested suite passed."""
        return self.status == "passed"

    @property
    def failures(self) -> tuple[Case, ...]:
        """Every case that did not pass, base first."""
        suites = [s for s in (self.base, self.plus) if s is not None]
        return tuple(c for s in suites for c in s.cases if c.status != "passed")
