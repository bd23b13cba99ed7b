"""`CodeMetric`: the harness as a metric that every DSPy optimizer and `dspy.Evaluate` can call."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import dspy

from evoprompt.datasets import Dataset
from evoprompt.errors import DataError, UsageError
from evoprompt.harness import Harness
from evoprompt.harness.hints import hints
from evoprompt.harness.report import Case, Report, Status
from evoprompt.lm.extract import extract_code
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
        plus: Run the plus tests, where a task has any.
        require_both: Score 1 only when every requested suite passes, as EvalPlus does; otherwise the score
            is the share of requested suites that pass (0, 0.5 or 1).
        harness: Runs the code. Its verdicts are memoised, so asking twice costs nothing.

    Raises:
        UsageError: Neither suite is asked for.
        DataError: Two different tasks share one id.
    """

    def __init__(
        self,
        data: Dataset | Iterable[Task],
        *,
        base: bool = True,
        plus: bool = True,
        require_both: bool = True,
        harness: Harness | None = None,
    ) -> None:
        if not (base or plus):
            raise UsageError("CodeMetric(base=False, plus=False) would judge nothing: ask for a suite")
        self.base, self.plus, self.require_both = base, plus, require_both
        self.harness = harness or Harness()
        self.tasks: dict[str, Task] = {}
        for task in data:
            if self.tasks.setdefault(task.task_id, task).key != task.key:
                raise DataError(f"two different tasks have the task_id {task.task_id!r}")
        if plus and not base and not all(t.count("plus") for t in self.tasks.values()):
            missing = sum(not t.count("plus") for t in self.tasks.values())
            raise DataError(f"{missing} of {len(self.tasks)} tasks have no plus test; use base tests as well")

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
            SandboxError: The sandbox failed: nothing is known about the code.
        """
        task = self.task(str(gold.task_id))
        report = self.judge(task, extract_code(str(pred.get("code") or ""), task.entry_point))
        return Verdict(
            score=self.score(report),
            feedback=feedback(report),
            objective_scores={s.suite: float(s.passed) for s in _suites(report)},
            status=report.status,
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> CodeMetric:
        return self  # optimizers copy what holds the metric; the sandbox and its memo are shared on purpose

    def task(self, task_id: str) -> Task:
        """The task with this id.

        Raises:
            DataError: There is none.
        """
        try:
            return self.tasks[task_id]
        except KeyError:
            raise DataError(f"the metric has no task {task_id!r}: build CodeMetric with the data you score") from None

    def judge(self, task: Task, code: str) -> Report:
        """Run the requested suites on `code`.

        Raises:
            SandboxError: The sandbox failed.
        """
        return self.harness.check(task, code, base=self.base, plus=self.plus)

    def score(self, report: Report) -> float:
        """The score of a verdict, in [0, 1]."""
        suites = _suites(report)
        if self.require_both or not suites:
            return float(report.passed)
        return sum(s.passed for s in suites) / len(suites)


class _SuitePassed:
    def __init__(self, suite: Suite, status: Status) -> None:
        self.suite, self.passed = suite, status == "passed"


def _suites(report: Report) -> list[_SuitePassed]:
    found: list[_SuitePassed] = []
    if report.base is not None:
        found.append(_SuitePassed("base", report.base.status))
    if report.plus is not None:
        found.append(_SuitePassed("plus", report.plus.status))
    return found


def failures_of(report: Report, *, limit: int = MAX_FAILURES) -> list[Failure]:
    """Tell a model what went wrong without telling it the answer.

    A base test is shown by its call and what the code did. A plus test stays hidden: only its status, the
    exception's type and what is special about its input are told. Expected values are never shown.

    Args:
        report: The verdict.
        limit: Largest number of failures; distinct ones first.
    """
    if report.status == "invalid":
        return [Failure(status="invalid", observed=report.detail or "the reply holds no Python code")]
    told: dict[Failure, None] = {}
    for case in report.failures:
        told.setdefault(_failure(case))
    return list(told)[:limit]


def _failure(case: Case) -> Failure:
    status: Any = case.status
    where = f" at line {case.line}" if case.line else ""
    if case.suite == "base" and not case.whole:
        return Failure(status=status, call=case.call, observed=case.observed, hint="; ".join(hints(case.call)))
    observed = {
        "failed": "returned a wrong value",
        "error": f"raised {case.exception or 'an exception'}{where}",
        "timeout": "did not finish in time",
        "crashed": "was killed (memory or a crash)",
    }[status]
    return Failure(status=status, observed=observed, hint="; ".join(("hidden test", *hints(case.call))))


def feedback(report: Report) -> str:
    """The failures as text for a reflecting model: no plus test, no expected value, no canonical solution."""
    if report.passed:
        return "All tests passed."
    lines = [f"- {f.call or 'a call'}: {f.observed}" + (f" ({f.hint})" if f.hint else "") for f in failures_of(report)]
    return "\n".join([f"The solution does not pass its tests ({report.status}).", *lines])
