"""`Runner`: the only way to a rollout. It asks the model, has the answer judged, and keeps the result."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, MutableMapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, TypeVar

import dspy
from cachetools import LRUCache
from dspy.utils.exceptions import AdapterParseError, LMError

from evoprompt.candidate import Candidate
from evoprompt.errors import BudgetSpent, DataError, EvoPromptError, ModelError, SandboxError, UsageError
from evoprompt.judges import CodeJudge, judge_of
from evoprompt.judges.base import Judge, Rollout
from evoprompt.judges.steps import collecting, steps_of
from evoprompt.judges.students import Called
from evoprompt.lm.budget import Budget
from evoprompt.lm.calls import Calls
from evoprompt.lm.identity import describe_bare
from evoprompt.lm.interception import attempt, current_attempt, listening
from evoprompt.lm.resolve import explain_lm_error, one_line
from evoprompt.pool import map_concurrently
from evoprompt.runs.damage import as_written
from evoprompt.runs.journal import Journal
from evoprompt.tasks import Task
from evoprompt.wording import counted

logger = logging.getLogger("evoprompt")

MAX_UNMEASURED = 0.5
"""Default for the largest share of unmeasured rollouts in a batch or an evaluation."""
FEW_REFUSALS = 3
"""So many answers without code, and a tenth of all, are worth a warning."""
_REMEMBERED_PROGRAMS = 32

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Job:
    """Ask `candidate` for its `sample`-th solution of `task`."""

    candidate: Candidate
    task: Task
    sample: int = 0

    @property
    def identity(self) -> dict[str, Any]:
        """The fields that say which rollout it is: `candidate`, `task_id` and `sample`."""
        return {"candidate": self.candidate.key, "task_id": self.task.task_id, "sample": self.sample}


class Runner:
    """Runs jobs concurrently: model, answer, verdict. A job that is in the journal costs nothing.

    Args:
        program: The student; candidates are applied to copies of it.
        judge: Asks the program and judges its answers; `judges.judge_of` makes one of a metric.
        journal: Keeps answers and rollouts; without one they are kept in memory.
        num_threads: Number of jobs under way at once.
        budget: Limits of the search that the rollouts belong to; None for no limit.
        label: Put before the roles of its calls in the journal's sums, and kept with its rollouts.
        steps: True to keep the calls of the student's predictors in each rollout.
        executor: Runs the solutions elsewhere, for a judge of code; models are asked in this process, unless it is a
            `Cluster` with `lm_on_workers`.

    Attributes:
        student: The program as it was given.
        journal: The one given, or that in memory.
        calls: Every model call goes through it; other programs of the same run may share it.
        called: Records which predictors were called.
    """

    def __init__(
        self,
        program: dspy.Module,
        judge: Judge,
        *,
        journal: Journal | None = None,
        num_threads: int = 8,
        budget: Budget | None = None,
        label: str = "",
        steps: bool = False,
        executor: Executor | None = None,
    ) -> None:
        judge = judge_of(judge, executor)
        self.num_threads, self.student = num_threads, program
        self.journal = journal or Journal()
        # The journal finds rollouts by candidate and task, so it must belong to one program and one metric.
        self.journal.begin({"program": describe_bare(program), "metric": judge.describe()}, "rollouts")
        workers = judge.workers if isinstance(judge, CodeJudge) else None
        self.calls = Calls(self.journal, most=num_threads, budget=budget, label=label, workers=workers)
        self.program, self.judge = self.calls.applied(program), judge.through(self.calls)
        self.called = Called(self.program)
        self._steps, self._label, self._lock = steps, label, threading.Lock()
        self._programs: MutableMapping[str, dspy.Module] = LRUCache(_REMEMBERED_PROGRAMS)

    def run(self, jobs: Sequence[Job], on_done: Callable[[Rollout], None] | None = None) -> list[Rollout]:
        """Run the jobs and return their rollouts in the same order.

        Args:
            jobs: What to run.
            on_done: Called in the calling thread after each rollout, as they finish.

        Raises:
            BudgetSpent: The budget does not allow all jobs. The first ones ran. If the budget ended `amid` a job of
                several calls, the threads' timing decides which ones did.
            ModelError: The model refuses every call (no key, wrong key, unknown model): stops at once.
        """
        done: list[Rollout] = []
        while len(done) < len(jobs):  # calls that the journal answers are free and leave budget for more jobs
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
        """Number of new rollouts that the budget still allows; None for any number.

        Each takes at least one call. Ask between batches, so that the number does not depend on the threads' speed.
        Plan a batch with `affordable` instead: it does not count rollouts that the journal has.
        """
        left = [n for n in (self.calls.budget.rollouts_left, self.calls.budget.calls_left) if n is not None]
        return min(left, default=None)

    @property
    def repeats(self) -> bool:
        """True if every predictor runs at temperature 0."""
        models = [p.lm or dspy.settings.lm for p in self.program.predictors()]
        return all(getattr(lm, "kwargs", {}).get("temperature") == 0 for lm in models)

    def known(self, job: Job) -> Rollout | None:
        """The measured rollout of a job from the journal, if there is one."""
        if (body := self.journal.rollout(*_key(job))) is None:
            return None
        # A task with several wordings may have been stored under another id.
        return as_written(Rollout, body, self.journal.path).model_copy(update={"task_id": job.task.task_id})

    def affordable(self, jobs: Sequence[Job]) -> list[Job]:
        """The longest head of `jobs` that the budget allows. Jobs that are in the journal are free."""
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
        """`function` of every item, in this runner's threads; see `map_concurrently`."""
        with listening(self.calls):
            return map_concurrently(
                function, items, num_threads=self.num_threads, on_done=on_done, on_stop=self.calls.stop
            )

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
        try:
            return self._judged(job)
        except SandboxError as e:  # the student's own tests of its code
            logger.warning("task %s: the sandbox failed: %s", job.task.task_id, e)
            return Rollout(**job.identity, status="sandbox_error", fault="sandbox", error=str(e))
        except LMError as e:
            fatal = explain_lm_error(e)
            if fatal is not None:
                raise fatal from e
            logger.warning("task %s: no answer from the model: %s", job.task.task_id, one_line(e))
            return Rollout(**job.identity, status="lm_error", fault=e.code or "", error=one_line(e))

    def _judged(self, job: Job) -> Rollout:
        where = f"judge {type(self.judge).__name__}, task {job.task.task_id!r}"
        try:
            with self.called.listening(), collecting(self._steps) as trace:
                found = self.judge.rollout(self._program(job.candidate), job.task, job.identity)
            if not isinstance(found, Rollout) or found.task_id != job.task.task_id:
                raise UsageError(f"{where}: `rollout` must give a Rollout of this task, not {found!r:.100}")
            return found.model_copy(update={"steps": steps_of(trace)}) if trace else found
        except (AdapterParseError, LMError, EvoPromptError):
            raise
        except Exception as e:  # of a judge of somebody's own
            raise UsageError(f"{where}: it raised {type(e).__name__}: {one_line(e)}") from e
        finally:
            # A student that catches the error of a call and answers anyway must not be judged for an outage.
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


def require_measured(rollouts: Sequence[Rollout], max_unmeasured: float = MAX_UNMEASURED) -> None:
    """Raise when too few rollouts were measured, and warn when many replies held no code.

    Args:
        rollouts: Rollouts of one batch or evaluation.
        max_unmeasured: Largest share of them that may be unmeasured, in [0, 1].

    Raises:
        ModelError: More than that share got no answer from the model.
        DataError: The tests of more than that share are broken.
        SandboxError: More than that share could not be run.
    """
    _warn_of_refusals(rollouts)
    missing = [r for r in rollouts if not r.measured]
    if not rollouts or len(missing) <= max_unmeasured * len(rollouts):
        return
    last = missing[-1]
    message = f"{len(missing)} of {counted(len(rollouts), 'rollout')} could not be measured; the last: {last.error}"
    statuses: list[str] = [r.status for r in missing]
    often = max(("lm_error", "data_error", "sandbox_error"), key=statuses.count)
    raise {"lm_error": ModelError, "data_error": DataError}.get(often, SandboxError)(message)


def _warn_of_refusals(rollouts: Sequence[Rollout]) -> None:
    """Say that the score is low because the model does not write code: it refuses, or misunderstands its prompt."""
    without = [r for r in rollouts if r.report is not None and not r.code.strip()]
    if len(without) >= max(FEW_REFUSALS, len(rollouts) / 10):
        told = f"{len(without)} of {counted(len(rollouts), 'answer')} held no code and count as not solved"
        first = without[0].report.detail.partition(": ")[2] if without[0].report else ""
        logger.warning("%s%s", told, f"; the first: {first}" if first else "")
