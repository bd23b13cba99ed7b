"""Turns rollouts into a score with its interval, and keeps every result behind it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from typing import Any

import dspy
from pydantic import BaseModel, ConfigDict, Field

from evoprompt.candidate import Candidate
from evoprompt.datasets import Dataset
from evoprompt.errors import UsageError, briefly
from evoprompt.evaluate.statistics import Rate, estimate, wilson
from evoprompt.judges import CodeJudge, Judge, Rollout, judge_of, tasks_for
from evoprompt.judges.code import broken
from evoprompt.metric import CodeMetric
from evoprompt.rollout import MAX_UNMEASURED, Job, Runner, require_measured
from evoprompt.runs import Journal
from evoprompt.tasks import Suite, Task
from evoprompt.wording import counted

KS = (1, 10, 100)


class Evaluation(BaseModel):
    """The result of evaluating one candidate, or given samples.

    Attributes:
        score: Mean score of the measured rollouts in percent, equal weight per task; None when nothing was
            measured.
        low: Lower end of its 95 % interval, in percent.
        high: Upper end.
        tasks: Number of tasks asked for.
        measured: Number of rollouts with a verdict.
        unmeasured: Number of rollouts that failed for reasons other than the code. They are in no score.
        statuses: Number of rollouts by status.
        faults: Number of unmeasured rollouts by what went wrong: `rate_limit`, `cut_off`, …
        pass_at_k: For each suite that ran (`base`, `plus`), pass@1, pass@10 and pass@100 as far as every
            task has that many samples. A sample passes plus only if it passes base as well.
        rollouts: Every rollout, in the order of the tasks.
    """

    model_config = ConfigDict(frozen=True)

    score: float | None
    low: float
    high: float
    tasks: int
    measured: int
    unmeasured: int
    statuses: dict[str, int]
    faults: dict[str, int] = Field(default_factory=dict)
    pass_at_k: dict[Suite, dict[str, Rate]]
    rollouts: tuple[Rollout, ...] = ()

    def __str__(self) -> str:
        """One line for people: `62.5 % [42.7, 78.8], 24 tasks`, or `…, 20 of 24 tasks, 4 not measured (timeout 4)`."""
        if self.score is None:
            return f"nothing measured ({counted(self.unmeasured, 'failure')} of the model, the sandbox or the tests)"
        text = f"{self.score:.1f} % [{self.low:.1f}, {self.high:.1f}], "
        tasks = counted(self.tasks, "task")
        if not self.unmeasured:
            return text + tasks
        # Kept without its rollouts, it is of one sample for each task.
        known = len({r.task_id for r in self.rollouts if r.measured}) or self.measured
        return f"{text}{known:,} of {tasks}, {self.unmeasured:,} not measured{self.why}"

    @property
    def why(self) -> str:
        """Faults with their numbers, ` (cut_off 2, timeout 1)`; empty if there are none."""
        kinds = ", ".join(f"{kind} {n}" for kind, n in self.faults.items())
        return f" ({kinds})" if kinds else ""

    def summary(self) -> dict[str, Any]:
        """Everything but the rollouts, as plain data."""
        return self.model_dump(exclude={"rollouts"})


def summarize(rollouts: Sequence[Rollout]) -> Evaluation:
    """Turn rollouts into an evaluation. Unmeasured ones are counted and left out of every score."""
    by_task: dict[str, list[Rollout]] = {}
    for r in rollouts:
        if r.measured:
            by_task.setdefault(r.task_id, []).append(r)
    means = [sum(r.score or 0.0 for r in found) / len(found) for found in by_task.values()]
    measured = sum(map(len, by_task.values()))
    low, high = wilson(sum(means), len(means))
    return Evaluation(
        score=100 * sum(means) / len(means) if means else None,
        low=100 * low,
        high=100 * high,
        tasks=len({r.task_id for r in rollouts}),
        measured=measured,
        unmeasured=len(rollouts) - measured,
        statuses=dict(sorted(Counter(r.status for r in rollouts).items())),
        faults=dict(sorted(Counter(r.fault for r in rollouts if r.fault).items())),
        pass_at_k=_pass_at_k(list(by_task.values())),
        rollouts=tuple(rollouts),
    )


def _pass_at_k(tasks: list[list[Rollout]]) -> dict[Suite, dict[str, Rate]]:
    found: dict[Suite, dict[str, Rate]] = {}
    fewest = min(map(len, tasks), default=0)
    suites: tuple[Suite, ...] = ("base", "plus")
    for suite in suites:
        if any(r.report and getattr(r.report, suite) for rollouts in tasks for r in rollouts):
            counts = [(len(rollouts), sum(passes(r, suite) for r in rollouts)) for rollouts in tasks]
            found[suite] = {f"pass@{k}": estimate(counts, k) for k in KS if k <= fewest}
    return found


def passes(rollout: Rollout, suite: Suite) -> bool:
    """True if a rollout passes a suite as EvalPlus counts it: plus only together with base."""
    report = rollout.report
    deciding = (report.base, report.plus if suite == "plus" else None) if report else ()
    return report is not None and all(found is None or found.status == "passed" for found in deciding)


@briefly
def evaluate(
    program: dspy.Module,
    data: Dataset | Iterable[Task | dspy.Example],
    metric: CodeMetric | Judge | Callable[..., Any],
    *,
    samples: int = 1,
    num_threads: int = 8,
    max_unmeasured: float = MAX_UNMEASURED,
    journal: Journal | None = None,
    on_done: Callable[[Rollout], None] | None = None,
    executor: Executor | None = None,
) -> Evaluation:
    """Evaluate a program on tasks.

    Unlike `dspy.Evaluate`, a call that fails is not a wrong answer: it is counted apart, and so is a task whose tests
    are broken, for which nobody is asked.

    Args:
        program: Any module that takes the examples' inputs (`prompt` and `entry_point` of a task); for a
            `CodeMetric` it gives a prediction with `code`.
        data: The tasks, or examples.
        metric: A `CodeMetric` whose tasks include those of `data`, or any other metric (`ExampleJudge`).
        samples: Solutions per task. More than one needs a temperature above 0.
        num_threads: Number of rollouts under way at once.
        max_unmeasured: Share of rollouts, in [0, 1], that may fail before the evaluation is given up.
        journal: Keeps every answer and rollout; what it knows already is not run again.
        on_done: Called after each rollout.
        executor: Runs the solutions elsewhere, for a `CodeMetric`; models are asked in this process, unless it is a
            `Cluster` with `lm_on_workers`.

    Raises:
        ClusterError: The executor's workers can't be reached, or don't fit.
        DataError: Tests pass a function that returns nonsense, or those of too many tasks are broken.
        ModelError: The model refuses us, or too much of the evaluation got no answer.
        SandboxError: The sandbox failed for too much of it.
        UsageError: The program can't take an example's inputs or gives no answer, or the metric fails or gives no
            score.
    """
    if not isinstance(program, dspy.Module):
        hint = "; call it: the program itself is wanted, not its class" if isinstance(program, type) else ""
        raise UsageError(f"the program must be a dspy.Module, not {program!r}{hint}")
    judge = judge_of(metric, executor)
    (tasks,) = tasks_for(program, judge, data)
    lost = judge.vet(tasks, num_threads=num_threads) if isinstance(judge, CodeJudge) else {}
    runner = Runner(program, judge, journal=journal, num_threads=num_threads)
    candidate = Candidate.of(program)
    jobs = [Job(candidate, t, s) for t in tasks for s in range(samples)]
    return evaluate_jobs(runner, jobs, lost=lost, max_unmeasured=max_unmeasured, on_done=on_done)


def run_jobs(
    runner: Runner, jobs: Sequence[Job], lost: Mapping[str, str], on_done: Callable[[Rollout], None] | None = None
) -> list[Rollout]:
    """Run jobs, but for those of tasks whose tests are broken; return the rollouts of all in their order.

    Args:
        runner: Runs them.
        jobs: What to run.
        lost: Why the tests of a task are broken, by its id.
        on_done: Called after each rollout that is run.
    """
    run = iter(runner.run([j for j in jobs if j.task.task_id not in lost], on_done))
    return [broken(j.identity, lost[j.task.task_id]) if j.task.task_id in lost else next(run) for j in jobs]


def evaluate_jobs(
    runner: Runner,
    jobs: Sequence[Job],
    *,
    lost: Mapping[str, str] | None = None,
    max_unmeasured: float = MAX_UNMEASURED,
    on_done: Callable[[Rollout], None] | None = None,
) -> Evaluation:
    """Run jobs and sum them up; see `run_jobs` and `evaluate`."""
    rollouts = run_jobs(runner, jobs, lost or {}, on_done)
    require_measured(rollouts, max_unmeasured)
    return summarize(rollouts)
