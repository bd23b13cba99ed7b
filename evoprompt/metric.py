"""`CodeMetric`: the harness as a metric that every DSPy optimizer and `dspy.Evaluate` can call."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from dataclasses import asdict
from typing import Any

import dspy

from evoprompt.datasets import Dataset
from evoprompt.errors import DataError, SandboxError, UsageError
from evoprompt.harness import Harness
from evoprompt.harness.judging.hints import hints
from evoprompt.harness.judging.nonsense import canonical_failure, find_untested
from evoprompt.harness.judging.report import Case, Report, SuiteResult
from evoprompt.harness.remote import RemoteHarness
from evoprompt.lm.extract import code_text, extract_code
from evoprompt.plain import text
from evoprompt.pool import map_concurrently
from evoprompt.tasks import Suite, Task
from signatures import Failure

MAX_FAILURES = 4


class Verdict(dspy.Prediction):
    """A score with feedback; true only when the solution passed.

    A plain `dspy.Prediction(score=0.0)` is true, which makes BootstrapFewShot keep failing demos.

    Attributes:
        score: In [0, 1].
        feedback: What went wrong, without plus tests or expected values: safe to show to a model.
        objective_scores: `{"base": …, "plus": …}` in [0, 1], which GEPA reads.
        status: Status of the solution.
    """

    def __bool__(self) -> bool:
        return float(self) >= 1.0


class CodeMetric:
    """Judges the code of a prediction by the hidden tests of its task.

    Args:
        data: The tasks; several sets may be chained. Examples are matched by `task_id`.
        base: Run the base tests.
        plus: Run the plus tests; None runs them where a task has any.
        require_both: Where both suites run, whether both must pass, as EvalPlus counts. False lets the base
            tests decide; the plus tests are run and reported.
        partial: Score the share of tests that pass instead of all or nothing.
        harness: Runs the code. Its verdicts are memoised, so asking twice costs nothing.

    Raises:
        UsageError: Neither suite is asked for.
        DataError: Two different tasks share one id, or plus tests are asked for that tasks lack.
    """

    def __init__(
        self,
        data: Dataset | Iterable[Task],
        *,
        base: bool = True,
        plus: bool | None = None,
        require_both: bool = True,
        partial: bool = False,
        harness: Harness | None = None,
    ) -> None:
        if not base and plus is False:
            raise UsageError("CodeMetric(base=False, plus=False) would judge nothing: ask for a suite")
        self.base, self.plus = base, plus is not False
        self.require_both, self.partial = require_both, partial
        self.harness = harness or Harness()
        self.tasks: dict[str, Task] = {}
        for task in data:
            if self.tasks.setdefault(task.task_id, task).key != task.key:
                raise DataError(f"two different tasks have the task_id {task.task_id!r}")
        missing = [repr(t.task_id) for t in self.tasks.values() if not _has_plus(t, base)] if plus or not base else []
        if missing:
            more = f" and {len(missing) - 10} more" if len(missing) > 10 else ""
            raise DataError(f"plus tests are asked for, and these tasks have none: {', '.join(missing[:10])}{more}")

    def __call__(
        self,
        gold: dspy.Example,
        pred: dspy.Prediction,
        trace: Any = None,
        pred_name: str | None = None,
        pred_trace: Any = None,
    ) -> Verdict:
        """Judge `pred.code` by the tests of the task `gold.task_id`.

        Works with the two arguments of `dspy.Evaluate`, the three of bootstrapping and the five of GEPA.

        Raises:
            DataError: The metric knows no such task.
            UsageError: The example has no `task_id`, or the prediction no code.
            SandboxError: The sandbox failed: nothing is known about the code.
        """
        task = self.task(task_id_of(gold, "the example"))
        report = self.judge(task, extract_code(code_of(pred, task.task_id), task.entry_point))
        return Verdict(
            score=self.score(report),
            feedback=feedback(report, task.prompt),
            objective_scores={name: float(r.status == "passed") for name, r in _suites(report).items()},
            status=report.status,
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> CodeMetric:
        return self  # optimizers copy what holds the metric; the sandbox and its memo are shared on purpose

    def on(self, executor: Executor) -> CodeMetric:
        """The same metric, whose solutions run where `executor` calls functions (`evoprompt.harness.remote`).

        Raises:
            ClusterError: No worker can be reached, or fits.
        """
        moved = copy.copy(self)
        moved.harness = RemoteHarness(self.harness, executor)
        return moved

    def task(self, task_id: str) -> Task:
        """The task with this id.

        Raises:
            DataError: There is none.
        """
        try:
            return self.tasks[task_id]
        except KeyError:
            raise DataError(f"the metric has no task {task_id!r}: build CodeMetric with the data you score") from None

    def describe(self) -> dict[str, Any]:
        """The settings that influence a verdict, as plain data."""
        flags = {n: getattr(self, n) for n in ("base", "plus", "require_both", "partial")}
        limits = {"limits": asdict(self.harness.limits), "input_limits": asdict(self.harness.input_limits)}
        return {**flags, **limits}

    def judge(self, task: Task, code: str) -> Report:
        """Run the requested suites on `code`.

        Raises:
            SandboxError: The sandbox failed.
        """
        return self.harness.check(task, code, base=self.base, plus=self.plus)

    def prepare(self, task: Task) -> float:
        """Run the canonical solution ahead of the first verdict; return its CPU seconds.

        Raises:
            SandboxError: The sandbox failed.
            DataError: The canonical solution fails.
        """
        return self.harness.prepare(task, base=self.base, plus=self.plus)

    def vet(
        self, tasks: Iterable[Task], *, num_threads: int = 8, on_done: Callable[[int], object] | None = None
    ) -> dict[str, str]:  # fmt: skip
        """Find broken tests before anything is spent on their tasks. A second look at the same tasks is quick.

        Args:
            tasks: The tasks.
            num_threads: Tasks under way at once.
            on_done: Called after each task with the number of tasks that are checked.

        Returns:
            The reason for each task with broken tests, by task id.

        Raises:
            DataError: The tests of some tasks pass a function that returns nonsense.
            SandboxError: No process can be started at all.
        """

        def checked(task: Task) -> tuple[list[str], str]:
            untested, broken = find_untested([task], self.harness, base=self.base, plus=self.plus, num_threads=1)
            if untested or broken:
                return untested, broken.get(task.task_id, "")
            if why := canonical_failure(task, self.harness, base=self.base, plus=self.plus):
                return [], why
            try:
                self.prepare(task)
            except DataError as e:
                return [], str(e)
            except SandboxError:  # nothing is known; whoever runs the task will be told
                pass
            return [], ""

        tasks, done = list(tasks), itertools.count(1)
        tell = None if on_done is None else lambda _: on_done(next(done))
        found = map_concurrently(checked, tasks, num_threads=num_threads, on_done=tell)
        if untested := [line for lines, _ in found for line in lines]:
            raise DataError.of(untested)
        return {task.task_id: why for task, (_, why) in zip(tasks, found, strict=True) if why}

    def score(self, report: Report) -> float:
        """The score of a verdict, in [0, 1]."""
        suites = list(_suites(report).values())
        if not suites:
            return float(report.passed)
        deciding = suites if self.require_both else suites[:1]
        if self.partial:
            return sum(r.passed for r in deciding) / max(1, sum(r.total for r in deciding))
        return float(all(r.status == "passed" for r in deciding))


def task_id_of(example: Any, where: str) -> str:
    """The task that an example belongs to.

    Raises:
        UsageError: It does not say.
    """
    found = getattr(example, "task_id", None)
    if isinstance(found, bool) or not isinstance(found, str | int):
        raise UsageError(
            f"{where} has no field 'task_id' that is a text or a number, by which CodeMetric finds its tests: "
            f"{text(example)[:100]}"
        )
    return str(found)


def code_of(prediction: Any, task_id: str) -> str:
    """The code that a student gave.

    Raises:
        UsageError: It gave something else.
    """
    missing = object()
    found = getattr(prediction, "code", missing)
    if found is missing:
        fields = ", ".join(map(repr, prediction.keys())) if isinstance(prediction, dspy.Example) else ""
        told = f"a prediction with the fields {fields or 'none'}" if isinstance(prediction, dspy.Example) else ""
        raise UsageError(
            f"task {task_id!r}: the student must give a dspy.Prediction with the field 'code', not "
            f"{told or f'{type(prediction).__name__}: {text(prediction)[:100]}'}"
        )
    if not isinstance(getattr(found, "code", found), str):
        told = f"{type(found).__name__}: {text(found)[:100]}"
        raise UsageError(f"task {task_id!r}: the student's field 'code' must be text, not {told}")
    return code_text(prediction)


def _has_plus(task: Task, base: bool) -> bool:
    """True if the plus suite can run. One of EvalPlus' tasks has no plus input; its base suite decides."""
    return task.count("plus") > 0 or (base and bool(task.base_inputs))


def _suites(report: Report) -> dict[Suite, SuiteResult]:
    """The suites that ran, base first."""
    found: dict[Suite, SuiteResult] = {}
    if report.base is not None:
        found["base"] = report.base
    if report.plus is not None:
        found["plus"] = report.plus
    return found


def failures_of(report: Report, prompt: str = "", *, limit: int = MAX_FAILURES) -> list[Failure]:
    """Tell a model what went wrong without telling it the answer.

    A base test is shown by its call and what the code did. A plus test stays hidden: only its status, the
    exception's type (see `harness.judging.telling`) and what is special about its input are told. Of a test that
    ran whole, which a solution could read, only the status. An expected value is shown only where the problem's own
    text shows it.

    Args:
        report: The verdict.
        prompt: The problem's text; a base test that stands in it is shown whole.
        limit: Largest number of failures; distinct ones first.
    """
    if report.status == "invalid":
        return [Failure(status="invalid", observed=report.detail or "the reply holds no Python code")]
    told: dict[Failure, None] = {}
    for case in report.failures:
        told.setdefault(_failure(case, _plain(prompt)))
    return list(told)[:limit]


def _failure(case: Case, prompt: str) -> Failure:
    status: Any = case.status
    told = case.suite == "base" and not case.whole
    where = f" at line {case.line}" if case.line else ""
    raised = "raised an exception" if case.whole else f"raised {case.exception or 'an exception'}{where}"
    observed = {
        "failed": "returned a wrong value",
        "error": raised,
        "timeout": "did not finish in time",
        "crashed": "was killed (memory or a crash)",
    }
    seen = case.observed if told else observed[status]
    if case.suite == "base" and case.test and _plain(case.test) in prompt:
        return Failure(status=status, call=case.call, observed=seen, hint=f"the problem says: {case.test}")
    if told:
        return Failure(status=status, call=case.call, observed=seen, hint="; ".join(hints(case.call)))
    return Failure(status=status, observed=seen, hint="; ".join(("hidden test", *hints(case.call))))


def _plain(text: str) -> str:
    return " ".join(text.split())


def feedback(report: Report, prompt: str = "") -> str:
    """The failures as text for a reflecting model: no plus test, no hidden expected value, no canonical solution."""
    if report.passed:
        return "All tests passed."
    lines = [
        f"- {f.call or 'a call'}: {f.observed}" + (f" ({f.hint})" if f.hint else "")
        for f in failures_of(report, prompt)
    ]
    return "\n".join([f"The solution does not pass its tests ({report.status}).", *lines])
