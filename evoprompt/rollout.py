"""Rollouts: the one door through which models are asked for code and the code is run."""

from __future__ import annotations

import contextvars
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future, as_completed, wait
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, TypeVar

import dspy
from dspy.utils.exceptions import AdapterParseError, LMError
from pydantic import BaseModel, ConfigDict

from evoprompt.candidate import Candidate
from evoprompt.errors import BudgetSpent, ModelError, SandboxError, UsageError
from evoprompt.harness.memory import Memory
from evoprompt.harness.report import Report, Status, Unmeasured
from evoprompt.lm.budget import Budget
from evoprompt.lm.calls import Calls
from evoprompt.lm.extract import code_text, extract_code, scrub
from evoprompt.lm.identity import describe_bare
from evoprompt.lm.resolve import explain_lm_error, one_line
from evoprompt.lm.step import step
from evoprompt.metric import CodeMetric
from evoprompt.runs.journal import Journal
from evoprompt.tasks import Task

logger = logging.getLogger("evoprompt")

MAX_UNMEASURED = 0.5
"""Share of rollouts above which a batch or an evaluation tells too little, unless somebody says another."""
_REMEMBERED_PROGRAMS = 32
AT_ONCE = 0.2
"""Seconds for which nobody needs to be told that something is waited for."""

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Job:
    """Ask `candidate` for its `sample`-th solution of `task`."""

    candidate: Candidate
    task: Task
    sample: int = 0


class Rollout(BaseModel):
    """One solution of one task by one candidate, with its verdict.

    Attributes:
        candidate: Key of the candidate.
        task_id: The task.
        sample: Number of the sample, from 0.
        status: Status of the solution, or why there is none: `lm_error` and `sandbox_error` are not measured.
        score: In [0, 1]; None when not measured. Never a zero for a failure of the infrastructure.
        code: The extracted source; empty when the reply held none.
        report: The verdict; None when not measured.
        fault: For an unmeasured rollout, the kind of what went wrong: `rate_limit`, `timeout`, `cut_off`, …
        error: The same in words.
    """

    model_config = ConfigDict(frozen=True)

    candidate: str
    task_id: str
    sample: int = 0
    status: Status | Unmeasured
    score: float | None = None
    code: str = ""
    report: Report | None = None
    fault: str = ""
    error: str = ""

    @property
    def measured(self) -> bool:
        """Whether there is a verdict."""
        return self.score is not None


class Runner:
    """Runs jobs concurrently: model, code, verdict. What is in the journal is not paid for again.

    Args:
        program: The student; candidates are applied to copies of it.
        metric: Judges the code.
        journal: Keeps answers and rollouts; without one they are kept in memory.
        num_threads: Number of jobs under way at once.
        budget: What the search may cost of which the rollouts are a part; None where they are of none.
        label: Put before the roles of its calls in the journal's sums, and kept with its rollouts.
        executor: Runs the jobs instead of threads of our own. It must keep to this process.

    Attributes:
        journal: The one given, or that in memory.
        calls: Through which every model is asked; other programs of the same run may share it.
    """

    def __init__(
        self,
        program: dspy.Module,
        metric: CodeMetric,
        *,
        journal: Journal | None = None,
        num_threads: int = 8,
        budget: Budget | None = None,
        label: str = "",
        executor: Executor | None = None,
    ) -> None:
        self.metric, self.num_threads = metric, num_threads
        self.journal = journal or Journal()
        # Rollouts are found by candidate and task: of another program or metric they would be other ones.
        self.journal.begin({"program": describe_bare(program), "metric": metric.describe()}, "rollouts")
        self._label = label
        self.calls = Calls(self.journal, most=num_threads, budget=budget, label=label)
        self.program = self.calls.applied(program)
        self._executor = executor
        self._lock = threading.Lock()
        self._programs = Memory[str, dspy.Module](_REMEMBERED_PROGRAMS)

    def run(self, jobs: Sequence[Job], on_done: Callable[[Rollout], None] | None = None) -> list[Rollout]:
        """Run the jobs and return their rollouts in the same order.

        Args:
            jobs: What to run.
            on_done: Called in the calling thread after each rollout, as they finish.

        Raises:
            BudgetSpent: Not all of them may be run. The first ones were, as many as the budget allows.
            ModelError: The model refuses every call (no key, wrong key, unknown model): stops at once.
        """
        done: list[Rollout] = []
        while len(done) < len(jobs):  # again where answers were known, so that less was spent than it seemed
            allowed = self.affordable(jobs[len(done) :])
            if not allowed:
                raise self.calls.purse.spent() or BudgetSpent("the budget is spent")
            done += self.map(self._one, allowed, on_done)
        return done

    def rollouts_left(self) -> int | None:
        """How many rollouts that the journal does not know may still begin; None for any number.

        Each takes a call or more, so that it is no more than the calls that are left. What is asked when nothing is
        under way does not depend on which thread was faster. A search that was stopped amid a batch has fewer left
        when it goes on: who plans a batch should cut it by `affordable`, which does not count what is there already.
        """
        left = [n for n in (self.calls.purse.rollouts_left, self.calls.purse.calls_left) if n is not None]
        return min(left, default=None)

    def affordable(self, jobs: Sequence[Job]) -> list[Job]:
        """The first of these jobs, as many as the budget allows; those that the journal knows are free."""
        left = self.rollouts_left()
        if left is None or left >= len(jobs):
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
        return map_concurrently(
            function, items, num_threads=self.num_threads, executor=self._executor, on_done=on_done,
            on_stop=self.calls.stop,
        )  # fmt: skip

    def _one(self, job: Job) -> Rollout:
        key = _key(job)
        known = self.journal.rollout(*key)
        if known is not None:
            return Rollout.model_validate_json(known)
        with self.calls.purse.rollout() as measured, step(job.sample):
            rollout = self._measure(job)
            body = rollout.model_dump_json()
            self.journal.keep_rollout(*key, body, measured=rollout.measured, label=self._label)
            if rollout.measured:
                measured()
        return rollout

    def _measure(self, job: Job) -> Rollout:
        identity: dict[str, Any] = {
            "candidate": job.candidate.key,
            "task_id": job.task.task_id,
            "sample": job.sample,
        }
        try:
            code = self._generate(job)
        except SandboxError as e:  # the student's own tests of its code
            logger.warning("task %s: the sandbox failed: %s", job.task.task_id, e)
            return Rollout(**identity, status="sandbox_error", fault="sandbox", error=str(e))
        except LMError as e:
            fatal = explain_lm_error(e)
            if fatal is not None:
                raise fatal from e
            logger.warning("task %s: no answer from the model: %s", job.task.task_id, one_line(e))
            return Rollout(**identity, status="lm_error", fault=e.code or "", error=one_line(e))
        rollout = judged(self.metric, job.task, code, identity)
        if rollout.status == "sandbox_error":
            logger.warning("task %s: the sandbox failed: %s", job.task.task_id, rollout.error)
        return rollout

    def _generate(self, job: Job) -> str:
        program = self._program(job.candidate)
        try:
            with dspy.context(trace=[], disable_history=True):  # DSPy would keep ten thousand of each in memory
                prediction = program(prompt=job.task.prompt, entry_point=job.task.interface)
        except AdapterParseError as e:
            # The model did answer: what it said is judged, even when it is no code at all.
            return scrub(extract_code(e.lm_response or "", job.task.entry_point))
        if "code" not in prediction:
            fields = ", ".join(map(repr, prediction.keys())) or "none"
            raise UsageError(f"the student gives no output field 'code'; its fields: {fields}")
        return scrub(extract_code(code_text(prediction), job.task.entry_point))

    def _program(self, candidate: Candidate) -> dspy.Module:
        with self._lock:
            program = self._programs.get(candidate.key)
            if program is None:
                program = candidate.apply(self.program)
                self._programs.put(candidate.key, program, 1)
        return program


def _key(job: Job) -> tuple[str, str, int]:
    return job.candidate.key, job.task.key, job.sample


def judged(metric: CodeMetric, task: Task, code: str, identity: Mapping[str, Any]) -> Rollout:
    """The rollout of a solution that exists: its verdict, or the failure of the sandbox, which is no verdict.

    Args:
        metric: Judges the code.
        task: Its task.
        code: The solution.
        identity: The rollout's `candidate`, `task_id` and `sample`.
    """
    try:
        report = metric.judge(task, code)
    except SandboxError as e:
        return Rollout(**identity, status="sandbox_error", code=code, fault="sandbox", error=str(e))
    return Rollout(**identity, status=report.status, score=metric.score(report), code=code, report=report)


def map_concurrently(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    num_threads: int,
    executor: Executor | None = None,
    on_done: Callable[[Result], None] | None = None,
    on_stop: Callable[[], None] | None = None,
) -> list[Result]:
    """`function` of every item, concurrently, in the items' order.

    When one fails, or on Ctrl-C, no further item begins, and those under way are waited for: what they get was paid
    for. A second Ctrl-C waits for nothing.

    Args:
        function: Runs in other threads, with a copy of this one's context variables.
        items: What to run it on.
        num_threads: Items under way at once.
        executor: Used instead of threads of our own.
        on_done: Called with each result in the calling thread, as they finish.
        on_stop: Called before the wait for what is under way.

    Raises:
        BaseException: The first exception of any item; the items not yet begun are dropped.
    """
    if not items:
        return []
    pool = executor or _DaemonPool(min(num_threads, len(items)))
    futures: dict[Future[Result], int] = {}
    results: dict[int, Result] = {}
    first: list[BaseException] = []

    def guarded(item: Item) -> Result:
        if first:  # a refused key must not be tried again by the next item
            raise first[0]
        try:
            return function(item)
        except BaseException as e:
            first.append(e)
            raise

    try:
        for index, item in enumerate(items):
            # dspy.settings lives in context variables, which threads do not inherit.
            futures[pool.submit(contextvars.copy_context().run, guarded, item)] = index
        for future in as_completed(futures):
            results[futures[future]] = future.result()
            if on_done:
                on_done(results[futures[future]])
    except BaseException as e:
        first.append(e)
        if on_stop:
            on_stop()
        _drain(list(futures))
        raise
    finally:
        if executor is None:
            pool.shutdown(wait=False)
    return [results[i] for i in range(len(items))]


def _drain(futures: Sequence[Future[Any]]) -> None:
    running = [future for future in futures if not future.cancel() and not future.done()]
    running = list(wait(running, AT_ONCE).not_done)
    if running:
        logger.warning("stopping: %d under way are waited for (Ctrl-C: stop at once)", len(running))
        wait(running)


class _DaemonPool(Executor):
    """Threads that do not keep the interpreter alive: after Ctrl-C nobody waits for a model's answer.

    `ThreadPoolExecutor` joins its threads at exit, which may take as long as a provider's time-out.
    """

    def __init__(self, threads: int) -> None:
        self._work: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._threads = threads
        for _ in range(threads):
            threading.Thread(target=self._serve, name="evoprompt", daemon=True).start()

    def submit(self, fn: Callable[..., Result], /, *args: Any, **kwargs: Any) -> Future[Result]:
        """Queue a call."""
        future: Future[Result] = Future()

        def call() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(fn(*args, **kwargs))
            except BaseException as e:
                future.set_exception(e)

        self._work.put(call)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Let the threads end after what is queued; never waits."""
        for _ in range(self._threads):
            self._work.put(None)

    def _serve(self) -> None:
        while (call := self._work.get()) is not None:
            call()


def require_measured(rollouts: Sequence[Rollout], max_unmeasured: float = MAX_UNMEASURED) -> None:
    """Stop a run whose numbers would mean nothing.

    Args:
        rollouts: Rollouts of one batch or evaluation.
        max_unmeasured: Largest share of them that may be unmeasured, in [0, 1].

    Raises:
        ModelError: More than that share got no answer from the model.
        SandboxError: More than that share could not be run.
    """
    missing = [r for r in rollouts if not r.measured]
    if not rollouts or len(missing) <= max_unmeasured * len(rollouts):
        return
    last = missing[-1]
    message = f"{len(missing)} of {len(rollouts)} rollouts could not be measured; the last: {last.error}"
    silent = sum(r.status == "lm_error" for r in missing)
    raise ModelError(message) if silent >= len(missing) / 2 else SandboxError(message)
