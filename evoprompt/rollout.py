"""Rollouts: the one door through which models are asked for code and the code is run."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, TypeVar, runtime_checkable

import dspy
from cachetools import LRUCache
from dspy.utils.exceptions import AdapterParseError, LMError
from pydantic import ConfigDict, Field

from evoprompt.candidate import Candidate
from evoprompt.errors import BudgetSpent, DataError, EvoPromptError, ModelError, SandboxError, UsageError
from evoprompt.harness.judging.report import Report, Status, Unmeasured
from evoprompt.judges.steps import Step, collecting, steps_of
from evoprompt.judges.students import Called, Wordings, answer, examples_of, listed, original, split
from evoprompt.lm.budget import Budget
from evoprompt.lm.calls import Calls
from evoprompt.lm.extract import extract_code, scrub
from evoprompt.lm.identity import describe_bare
from evoprompt.lm.interception import attempt, current_attempt, listening
from evoprompt.lm.resolve import explain_lm_error, one_line
from evoprompt.metric import CodeMetric, code_of, task_id_of
from evoprompt.pool import map_concurrently
from evoprompt.runs.damage import as_written
from evoprompt.runs.journal import Journal
from evoprompt.sparse import Sparse
from evoprompt.tasks import Task

logger = logging.getLogger("evoprompt")

MAX_UNMEASURED = 0.5
"""Share of rollouts above which a batch or an evaluation tells too little, unless somebody says another."""
_REMEMBERED_PROGRAMS = 32

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Job:
    """Ask `candidate` for its `sample`-th solution of `task`."""

    candidate: Candidate
    task: Task
    sample: int = 0


class Rollout(Sparse):
    """One solution of one task by one candidate, with its verdict.

    Attributes:
        candidate: Key of the candidate.
        task_id: The task.
        sample: Number of the sample, from 0.
        status: Status of the solution, or why none was measured: `lm_error`, `sandbox_error`, `data_error` (tests).
        score: In [0, 1]; None when not measured. Never a zero for a failure of the infrastructure.
        code: The extracted source; empty when the reply held none.
        report: The verdict of the tests; None when not measured, or judged by another metric.
        output: The fields of a prediction that another metric judged, as text.
        feedback: What that metric said about it.
        fault: For an unmeasured rollout, the kind of what went wrong: `rate_limit`, `timeout`, `cut_off`, …
        error: The same in words.
        steps: The calls of the student's predictors, where somebody wants to know.
    """

    model_config = ConfigDict(frozen=True)
    SPARSE: ClassVar = frozenset({"steps"})

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
    steps: tuple[Step, ...] = ()

    @property
    def measured(self) -> bool:
        """Whether there is a verdict."""
        return self.score is not None

    @property
    def said(self) -> tuple[str, ...]:
        """What tells it from others: rollouts of which this is the same failed in the same way."""
        answer = (self.code, *self.output.values())
        return (self.task_id, *(answer if any(answer) else (self.feedback,)))


@runtime_checkable
class Judge(Protocol):
    """Asks a program for its answer to a task, and judges that."""

    def tasks_of(self, examples: Iterable[Any]) -> list[Task]:
        """The tasks of examples, in their order.

        Raises:
            UsageError, DataError: One can't be judged here.
        """

    def rollout(self, program: dspy.Module, task: Task, identity: Mapping[str, Any]) -> Rollout:
        """The program's answer to a task, judged.

        Args:
            program: Whom to ask.
            task: The task.
            identity: The rollout's `candidate`, `task_id` and `sample`.

        Raises:
            LMError, SandboxError: Nothing is known about the answer.
        """

    def describe(self) -> dict[str, Any]:
        """What decides about a verdict besides task and answer, as plain data."""

    def through(self, calls: Calls) -> Judge:
        """The same judge. Its calls to models go through `calls` anyway; here it may give them roles of their own."""


class CodeJudge:
    """Judges code by the hidden tests of its task.

    Args:
        metric: Holds the tasks and runs the code.
    """

    def __init__(self, metric: CodeMetric) -> None:
        self.metric = metric
        self._wordings = Wordings()

    def tasks_of(self, examples: Iterable[Any]) -> list[Task]:
        """See `Judge`. One task that is asked in several ways is as many tasks, each with an id of its own."""
        return [self._task(number, example) for number, example in enumerate(listed(examples))]

    def describe(self) -> dict[str, Any]:
        """See `Judge`."""
        return self.metric.describe()

    def through(self, calls: Calls) -> CodeJudge:
        """See `Judge`. It calls none."""
        return self

    def rollout(self, program: dspy.Module, task: Task, identity: Mapping[str, Any]) -> Rollout:
        """See `Judge`."""
        rollout = judged(self.metric, task, self._generate(program, task), identity)
        if rollout.status == "sandbox_error":
            logger.warning("task %s: the sandbox failed: %s", task.task_id, rollout.error)
        elif rollout.status == "data_error":
            logger.warning("its tests are broken: %s", rollout.error)
        return rollout

    def vet(self, tasks: Sequence[Task], *, num_threads: int = 8) -> dict[str, str]:
        """Of each task whose tests are broken, why; see `CodeMetric.vet`."""
        found = self.metric.vet({original(t).key: original(t) for t in tasks}.values(), num_threads=num_threads)
        return {t.task_id: found[original(t).task_id] for t in tasks if original(t).task_id in found}

    def _task(self, number: int, example: Any) -> Task:
        if isinstance(example, Task):
            return self._wordings.task(original(example), examples_of([example])[0], number)
        split(number, example)
        return self._wordings.task(self.metric.task(task_id_of(example, f"example {number}")), example, number)

    def _generate(self, program: dspy.Module, task: Task) -> str:
        try:
            prediction = answer(program, task)
        except AdapterParseError as e:
            # The model did answer: what it said is judged, even when it is no code at all.
            return scrub(extract_code(e.lm_response or "", task.entry_point))
        return scrub(extract_code(code_of(prediction, task.task_id), task.entry_point))


class Runner:
    """Runs jobs concurrently: model, answer, verdict. What is in the journal is not paid for again.

    Args:
        program: The student; candidates are applied to copies of it.
        metric: Judges the code, or a judge of other answers.
        journal: Keeps answers and rollouts; without one they are kept in memory.
        num_threads: Number of jobs under way at once.
        budget: What the search may cost of which the rollouts are a part; None where they are of none.
        label: Put before the roles of its calls in the journal's sums, and kept with its rollouts.
        executor: Runs the jobs instead of threads of our own. It must keep to this process.
        steps: Whether rollouts keep the calls of the student's predictors.

    Attributes:
        student: The program as it was given.
        journal: The one given, or that in memory.
        calls: Through which every model is asked; other programs of the same run may share it.
        called: Knows which predictors were called.
    """

    def __init__(
        self,
        program: dspy.Module,
        metric: CodeMetric | Judge,
        *,
        journal: Journal | None = None,
        num_threads: int = 8,
        budget: Budget | None = None,
        label: str = "",
        executor: Executor | None = None,
        steps: bool = False,
    ) -> None:
        judge: Judge = CodeJudge(metric) if isinstance(metric, CodeMetric) else metric
        self.num_threads, self.student = num_threads, program
        self.journal = journal or Journal()
        # Rollouts are found by candidate and task: of another program or metric they would be other ones.
        self.journal.begin({"program": describe_bare(program), "metric": judge.describe()}, "rollouts")
        self.calls = Calls(self.journal, most=num_threads, budget=budget, label=label)
        self.program, self.judge = self.calls.applied(program), judge.through(self.calls)
        self.called = Called(self.program)
        self._executor, self._steps, self._label, self._lock = executor, steps, label, threading.Lock()
        self._programs: MutableMapping[str, dspy.Module] = LRUCache(_REMEMBERED_PROGRAMS)

    def run(self, jobs: Sequence[Job], on_done: Callable[[Rollout], None] | None = None) -> list[Rollout]:
        """Run the jobs and return their rollouts in the same order.

        Args:
            jobs: What to run.
            on_done: Called in the calling thread after each rollout, as they finish.

        Raises:
            BudgetSpent: Not all of them may be run. The first ones were, as many as the budget allows; where it was
                spent `amid` one that takes several calls, which ones were depends on the threads.
            ModelError: The model refuses every call (no key, wrong key, unknown model): stops at once.
        """
        done: list[Rollout] = []
        while len(done) < len(jobs):  # again where answers were known, so that less was spent than it seemed
            allowed = self.affordable(jobs[len(done) :])
            if not allowed:
                raise self.calls.budget.spent() or BudgetSpent("the budget is spent")
            try:
                done += self.map(self._one, allowed, on_done)
            except BudgetSpent as e:
                e.amid = True
                raise
        return done

    def rollouts_left(self) -> int | None:
        """How many rollouts that the journal does not know may still begin; None for any number.

        Each takes a call or more, so that it is no more than the calls that are left. What is asked when nothing is
        under way does not depend on which thread was faster. A search that was stopped amid a batch has fewer left
        when it goes on: who plans a batch should cut it by `affordable`, which does not count what is there already.
        """
        left = [n for n in (self.calls.budget.rollouts_left, self.calls.budget.calls_left) if n is not None]
        return min(left, default=None)

    @property
    def repeats(self) -> bool:
        """Whether the same request is sure to be meant to get the same answer: every predictor's temperature is 0."""
        models = [p.lm or dspy.settings.lm for p in self.program.predictors()]
        return all(getattr(lm, "kwargs", {}).get("temperature") == 0 for lm in models)

    def known(self, job: Job) -> Rollout | None:
        """The measured rollout of a job that was run before."""
        if (body := self.journal.rollout(*_key(job))) is None:
            return None
        # A task that is asked in several ways may have had another of its names then.
        return as_written(Rollout, body, self.journal.path).model_copy(update={"task_id": job.task.task_id})

    def affordable(self, jobs: Sequence[Job]) -> list[Job]:
        """The first of these jobs, as many as the budget allows; those that the journal knows are free."""
        if (left := self.rollouts_left()) is None or left >= len(jobs):
            return list(jobs)
        asked: set[tuple[str, str, int]] = set()
        for place, job in enumerate(jobs):
            key = _key(job)
            if key not in asked and self.journal.rollout(*key) is None:
                if left == 0:
                    return list(jobs[:place])
                asked.add(key)
                left -= 1
        return list(jobs)

    def map(
        self,
        function: Callable[[Item], Result],
        items: Sequence[Item],
        on_done: Callable[[Result], None] | None = None,
    ) -> list[Result]:
        """`function` of every item, with this runner's executor; see `map_concurrently`."""
        with listening(self.calls):
            return map_concurrently(
                function, items, num_threads=self.num_threads, executor=self._executor, on_done=on_done,
                on_stop=self.calls.stop,
            )  # fmt: skip

    def _one(self, job: Job) -> Rollout:
        if (known := self.known(job)) is not None:
            return known
        with self.calls.budget.rollout() as measured, attempt(job.sample):
            rollout = self._measure(job)
            body = rollout.model_dump_json()
            self.journal.keep_rollout(*_key(job), body, measured=rollout.measured, label=self._label)
            if rollout.measured:
                self.called.answers += 1
                measured()
        return rollout

    def _measure(self, job: Job) -> Rollout:
        identity: dict[str, Any] = {"candidate": job.candidate.key, "task_id": job.task.task_id, "sample": job.sample}
        try:
            return self._judged(job, identity)
        except SandboxError as e:  # the student's own tests of its code
            logger.warning("task %s: the sandbox failed: %s", job.task.task_id, e)
            return Rollout(**identity, status="sandbox_error", fault="sandbox", error=str(e))
        except LMError as e:
            fatal = explain_lm_error(e)
            if fatal is not None:
                raise fatal from e
            logger.warning("task %s: no answer from the model: %s", job.task.task_id, one_line(e))
            return Rollout(**identity, status="lm_error", fault=e.code or "", error=one_line(e))

    def _judged(self, job: Job, identity: Mapping[str, Any]) -> Rollout:
        where = f"judge {type(self.judge).__name__}, task {job.task.task_id!r}"
        try:
            with self.called.listening(), collecting(self._steps) as trace:
                found = self.judge.rollout(self._program(job.candidate), job.task, identity)
            if not isinstance(found, Rollout) or found.task_id != job.task.task_id:
                raise UsageError(f"{where}: `rollout` must give a Rollout of this task, not {found!r:.100}")
            return found.model_copy(update={"steps": steps_of(trace)}) if trace else found
        except (AdapterParseError, LMError, EvoPromptError):
            raise
        except Exception as e:  # of a judge of somebody's own
            raise UsageError(f"{where}: it raised {type(e).__name__}: {one_line(e)}") from e
        finally:
            # A student that catches what a call raises, and answers something, would be judged for an outage.
            current = current_attempt()
            if current is not None and current.lost is not None:
                raise current.lost

    def _program(self, candidate: Candidate) -> dspy.Module:
        with self._lock:
            program = self._programs.get(candidate.key)
            if program is None:
                program = candidate.apply(self.program)
                self._programs[candidate.key] = program
        return program


def _key(job: Job) -> tuple[str, str, int]:
    return job.candidate.key, job.task.key, job.sample


def judged(metric: CodeMetric, task: Task, code: str, identity: Mapping[str, Any]) -> Rollout:
    """The rollout of a solution that exists: its verdict, or a failure of the sandbox or the tests, which is none.

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


def broken(identity: Mapping[str, Any], why: str, code: str = "") -> Rollout:
    """The rollout of a task whose tests are broken: nothing was measured."""
    return Rollout(**identity, status="data_error", code=code, fault="broken_tests", error=why)


def require_measured(rollouts: Sequence[Rollout], max_unmeasured: float = MAX_UNMEASURED) -> None:
    """Stop a run whose numbers would mean nothing.

    Args:
        rollouts: Rollouts of one batch or evaluation.
        max_unmeasured: Largest share of them that may be unmeasured, in [0, 1].

    Raises:
        ModelError: More than that share got no answer from the model.
        DataError: The tests of more than that share are broken.
        SandboxError: More than that share could not be run.
    """
    missing = [r for r in rollouts if not r.measured]
    if not rollouts or len(missing) <= max_unmeasured * len(rollouts):
        return
    last = missing[-1]
    message = f"{len(missing)} of {len(rollouts)} rollouts could not be measured; the last: {last.error}"
    statuses: list[str] = [r.status for r in missing]
    often = max(("lm_error", "data_error", "sandbox_error"), key=statuses.count)
    raise {"lm_error": ModelError, "data_error": DataError}.get(often, SandboxError)(message)
