"""The harness: whether a solution passes the tests of a task, told by running it."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import sys
import threading
from collections.abc import Iterable, MutableMapping, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Final, TypeAlias

from cachetools import LRUCache

from evoprompt.errors import DataError, SandboxError
from evoprompt.harness.judging.confirm import CANONICAL, Confirmation
from evoprompt.harness.judging.driver import disclosing
from evoprompt.harness.judging.expected import Expected, load_or_run
from evoprompt.harness.judging.inputs import InputLimits, Trial, run_inputs
from evoprompt.harness.judging.plan import Plan, read_suite
from evoprompt.harness.judging.report import Case, Report, Status, SuiteResult
from evoprompt.harness.judging.solution import Job, SolutionRun
from evoprompt.harness.judging.suite import run_suite
from evoprompt.harness.judging.telling import sanitised
from evoprompt.harness.sandbox.pool import Sandbox, Slots
from evoprompt.harness.sandbox.process import Confirm, Limits
from evoprompt.harness.usage import Usage
from evoprompt.tasks import SUITES, Suite, Task

_REMEMBERED_CASES: Final = 100_000
"""Cases in the verdicts that a harness remembers."""
_REMEMBERED_TASKS = 1_024
_REMEMBERED_OUTPUT_BYTES = 64 << 20
_SCARCE = re.compile(r"can't start new thread|Resource temporarily unavailable|Cannot allocate memory")


_Key: TypeAlias = tuple[str, ...]
_Timed: TypeAlias = tuple[SuiteResult, float]
"""The result of a suite, and the CPU seconds of the solution's processes."""


class Harness:
    """Runs solutions against tests in processes of their own. Safe to share between threads.

    Expected values never enter the process that runs a solution. Verdicts are remembered, so asking again costs
    nothing. A copy is the same harness; a pickled one carries its configuration only.

    Attributes:
        limits: What a solution may use.
        sandbox: Where the processes come from.
        executor: Has the solutions judged elsewhere; None where this process does.
        usage: What its workers did.
    """

    executor: Executor | None = None
    usage: Usage | None = None

    def __init__(
        self,
        *,
        limits: Limits | None = None,
        processes: int | None = None,
        input_limits: InputLimits | None = None,
        unsafe: bool = False,
    ) -> None:
        """Prepares; starts nothing.

        Args:
            limits: What a solution may use.
            processes: How many may run at once; by default one for each core.
            input_limits: What it may use where a task has inputs instead of asserts.
            unsafe: Whether to run solutions also where nothing can lock them in.
        """
        self.limits: Final = limits or Limits()
        self.input_limits: Final = input_limits or InputLimits()
        self._processes = processes
        self._slots = Slots(processes or os.cpu_count() or 1)
        self._lock = threading.Lock()
        self._verdicts: MutableMapping[_Key, Report] = LRUCache(_REMEMBERED_CASES, _cases)
        self._plans: MutableMapping[_Key, Plan] = LRUCache(_REMEMBERED_TASKS)
        self._told: MutableMapping[_Key, frozenset[int]] = LRUCache(_REMEMBERED_TASKS)
        self._expected: MutableMapping[_Key, tuple[Expected, ...]] = LRUCache(_REMEMBERED_OUTPUT_BYTES, _bytes)
        self._building: MutableMapping[_Key, threading.Lock] = LRUCache(_REMEMBERED_TASKS)
        paths = tuple(p for p in sys.path if Path(p).name in ("site-packages", "dist-packages"))
        self._confirmation = Confirmation(self.input_limits)
        self._unsafe = unsafe
        self.sandbox: Final = Sandbox(zygotes=processes, paths=paths, unsafe=unsafe)

    @property
    def tier(self) -> str:
        """The sandbox in use, found by trying: see `evoprompt.harness.sandbox.pool`.

        Raises:
            SandboxError: There is none.
        """
        return self.sandbox.tier

    def check(self, task: Task, solution: str, *, base: bool = True, plus: bool = True) -> Report:
        """Judges a solution.

        Both suites of asserts are run, also when the first fails. Inputs are run up to the first that does not
        pass: then the plus suite has the status of the base suite and did not run.

        Args:
            task: The task with its tests.
            solution: Untrusted source.
            base: Whether to run the base tests.
            plus: Whether to run the plus tests, where the task has some.

        Returns:
            The verdict. A solution that misbehaves is a verdict too, never an exception.

        Raises:
            SandboxError: Nothing is known, because no process could be started.
            DataError: The tests or the setup of the task are broken.
        """
        digest = hashlib.sha256(solution.encode("utf-8", "surrogatepass")).hexdigest()
        key = (digest, task.key, str(base), str(plus))
        with self._lock:
            report = self._verdicts.get(key)
        if report is None:
            report = self._judged(task, solution, base, plus)
            with self._lock, contextlib.suppress(ValueError):  # larger than the whole cache: not kept
                self._verdicts[key] = report
        return report

    def _judged(self, task: Task, solution: str, base: bool, plus: bool) -> Report:
        suites: list[Suite] = ["base"] if base else []
        if plus and (task.count("plus") or task.base_inputs):  # as in EvalPlus, a set without plus inputs is passed
            suites.append("plus")
        results: dict[Suite, SuiteResult] = {}
        cpu_seconds = 0.0
        for suite in suites:
            failed = next((r.status for r in results.values() if r.status != "passed"), None)
            if failed and task.base_inputs and not self.input_limits.every:
                results[suite] = SuiteResult(status=failed, passed=0, total=task.count(suite))
            elif not task.count(suite) and task.base_inputs:
                results[suite] = SuiteResult(status=failed or "passed", passed=0, total=0)
            else:
                results[suite], seconds = self._timed(task, solution, suite)
                cpu_seconds += seconds
        status: Status = next((r.status for r in results.values() if r.status != "passed"), "passed")
        cases = (case for result in results.values() for case in result.cases)
        return Report(
            task_id=task.task_id,
            status=status,
            base=results.get("base"),
            plus=results.get("plus"),
            detail=next((case.observed for case in cases if case.status == "invalid"), ""),
            cpu_seconds=cpu_seconds,
            tier=self.tier,
        )

    def prepare(self, task: Task, *, base: bool = True, plus: bool = True) -> float:
        """Finds out what the inputs of a task should give, so that `check` need not. Safe to call in many threads.

        Returns:
            CPU seconds that the canonical solution took for them; 0 for a task of asserts.

        Raises:
            SandboxError: No process could be started.
            DataError: The canonical solution fails.
        """
        asked = [s for s in SUITES if task.inputs(s) and (base if s == "base" else plus)]
        return sum(e.seconds for suite in asked for e in self._outputs(task, suite))

    def check_asserts(
        self,
        solution: str,
        entry_point: str,
        tests: Sequence[str],
        setup: str = "",
        *,
        names: Iterable[str] = (),
        atol: float = 0.0,
    ) -> SuiteResult:
        """Judges a solution by given asserts, such as the visible examples of a prompt. Not remembered.

        Args:
            solution: Untrusted source.
            entry_point: Name of the function under test.
            tests: Sources of asserts.
            setup: Trusted source that runs before the solution.
            names: What the solution provides besides the entry point.
            atol: Absolute tolerance for numbers.

        Raises:
            SandboxError: Nothing is known, because no process could be started.
            DataError: A test or the setup is broken.
        """
        task = Task(task_id="", prompt="", entry_point=entry_point, base=tuple(tests), setup=setup, atol=atol)
        return self._run(Job(task, "base", solution, read_suite(task, "base", "the example", names)))[0]

    def probe(self) -> str | None:
        """Runs a trivial solution; returns None when that works, else the reason why not."""
        try:
            result = self.check_asserts("def f(x):\n    return {x: [x]}", "f", ["assert f(1) == {1: [1]}"])
        except SandboxError as e:
            return str(e)
        if result.status == "passed":
            return None
        return "; ".join(case.observed for case in result.cases) or result.status

    def close(self) -> None:
        """Forgets every verdict and ends every process. It can be used again."""
        self.sandbox.close()
        with self._lock:
            self._verdicts.clear()
            self._plans.clear()
            self._told.clear()
            self._expected.clear()

    def __enter__(self) -> Harness:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __deepcopy__(self, memo: dict[int, object]) -> Harness:
        return self

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (self.limits, self._processes, self.input_limits, self._unsafe)

    def _timed(self, task: Task, solution: str, suite: Suite) -> _Timed:
        judged = self._run_inputs if task.inputs(suite) else self._run_asserts
        try:
            result, seconds = judged(task, solution, suite)
        except DataError as e:
            raise DataError(*(f"task {task.task_id}: {problem}" for problem in e.problems)) from e
        return sanitised(result, solution), seconds

    def _plan(self, task: Task, suite: Suite) -> Plan:
        """The tests of a suite, and what they need."""
        key = (task.key, suite)
        with self._lock:
            known = self._plans.get(key)
        if known is None:
            known = read_suite(task, suite, f"{suite} test")
            with self._lock:
                self._plans[key] = known
        return known

    def _outputs(self, task: Task, suite: Suite) -> tuple[Expected, ...]:
        """Expected outputs of a suite of inputs; when several threads ask at once, one computes them."""
        key = (task.key, suite)
        with self._lock:
            building = self._building.setdefault(key, threading.Lock())
        with building:
            with self._lock:
                known = self._expected.get(key)
            if known is None:
                known = self._slots.measured(lambda: load_or_run(task, suite, self.sandbox))
                with self._lock, contextlib.suppress(ValueError):  # larger than the whole cache: not kept
                    self._expected[key] = known
        return known

    def _run_inputs(self, task: Task, solution: str, suite: Suite) -> _Timed:
        job = Job(task, suite, solution)
        trial = Trial(task.inputs(suite), self._outputs(task, suite), self.input_limits)
        if not solution.strip():
            return _empty(suite, len(trial.inputs))
        sandbox = self.sandbox.view(confirm=self._confirmation.of_inputs(job, trial, self.sandbox))
        return self._slots.measured(lambda: run_inputs(job, trial, self.limits, sandbox), _doubtful)

    def _run_asserts(self, task: Task, solution: str, suite: Suite) -> _Timed:
        job = Job(task, suite, solution, self._plan(task, suite), lambda: self._disclosing(job))
        return self._run(job, self._confirmation.of_asserts(job, self.limits, self.sandbox))

    def _disclosing(self, job: Job) -> frozenset[int]:
        """Positions of the tests that hand the canonical solution what may be expected of it."""
        key = (job.task.key, job.suite)
        with self._lock:
            known = self._told.get(key)
        if known is None:
            known = frozenset[int]()
            if job.task.code.strip():
                known = disclosing(SolutionRun(replace(job, solution=job.task.code), CANONICAL, self.sandbox))
            with self._lock:
                self._told[key] = known
        return known

    def _run(self, job: Job, confirm: Confirm | None = None) -> _Timed:
        if not job.solution.strip():
            return _empty(job.suite, len(job.plan.checks))
        if not job.plan.checks:
            return SuiteResult(status="passed", passed=0, total=0), 0.0
        sandbox = self.sandbox.view(confirm=confirm)
        return self._slots.measured(lambda: run_suite(job, self.limits, sandbox), _doubtful)


def _empty(suite: Suite, total: int) -> _Timed:
    """The result of a solution without code."""
    case = Case(suite=suite, index=0, status="invalid", call="", test="", observed="is empty")
    return SuiteResult(status="invalid", passed=0, total=total, cases=(case,)), 0.0


def _cases(report: Report) -> int:
    """Weight of a verdict in the cache; without its cases it still counts as one."""
    return 1 + sum(len(s.cases) for s in (report.base, report.plus) if s is not None)


def _bytes(outputs: tuple[Expected, ...]) -> int:
    """Weight of expected outputs in the cache: their bytes, and about 200 for each object."""
    return sum(len(e.data) + 200 for e in outputs)


def _doubtful(timed: _Timed) -> bool:
    """True if the solution may have failed because other processes held threads or memory that it needed."""
    return any(case.status == "error" and _SCARCE.search(case.observed) for case in timed[0].cases)


def _rebuild(limits: Limits, processes: int | None, input_limits: InputLimits, unsafe: bool) -> Harness:
    return Harness(limits=limits, processes=processes, input_limits=input_limits, unsafe=unsafe)
