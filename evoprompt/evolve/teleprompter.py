"""`EvoPrompt`: the DSPy teleprompter."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Literal

import dspy
from dspy.teleprompt import Teleprompter

from evoprompt.advisor import Advisor
from evoprompt.candidate import Candidate
from evoprompt.errors import DataError, UsageError
from evoprompt.evolve.advise import Roles
from evoprompt.evolve.estimate import Estimate, estimate
from evoprompt.evolve.export import TreeWriter, ending, prepare
from evoprompt.evolve.factorial import Factorial
from evoprompt.evolve.options import Options
from evoprompt.evolve.record import Event, Listener, Results
from evoprompt.evolve.refine import Refine
from evoprompt.evolve.search import SearchInterrupted, digest
from evoprompt.examples import judge_of, tasks_for
from evoprompt.lm.identity import describe, predictors_of
from evoprompt.lm.secrets import discreet
from evoprompt.metric import CodeMetric
from evoprompt.program import Program
from evoprompt.rollout import CodeJudge, Judge, Runner
from evoprompt.runs import Journal, Run
from evoprompt.tasks import Task

logger = logging.getLogger("evoprompt")


class EvoPrompt(Teleprompter):
    """Refines the instruction of a code-generating program batch by batch, against tests that really run.

    For each batch: generate code, run it, diagnose the failures, let the optimizer rewrite the instruction,
    keep the rewrite if it is better on the same tasks. The instruction that scores best on the valset wins.

    With a `CodeMetric`, that is. With any other metric it does the same for any DSPy program: examples are the
    tasks, the metric judges, and its feedback tells the debugger what went wrong. The instruction that evolves is
    that of the first predictor in `named_predictors()`; those of others stay.

    Args:
        metric: A `CodeMetric`, which judges the code and holds the tasks; or any function of an example and a
            prediction (see `ExampleJudge`).
        options: All options at once; single ones may be given by name instead (`batch_size=5`).
        run_dir: Directory for the journal and the results tree (see the README). Where an earlier process was
            stopped there, `compile` goes on to the same result and pays for nothing twice; another program,
            data set or option is refused. None writes nothing.
        listener: Is told of every event (`evoprompt.evolve.record`), for progress displays.
        on_interrupt: What `compile` does at the first Ctrl-C, after what is under way: `return` gives the best program
            so far, `raise` raises `KeyboardInterrupt`, for scripts that do more after it. The second one raises
            always, at once.
        **changes: Fields of `Options`, replacing those of `options`.

    Raises:
        UsageError: An option is unknown or has a value that can't work.
    """

    def __init__(
        self,
        metric: CodeMetric | Judge | Callable[..., Any],
        *,
        options: Options | None = None,
        run_dir: str | Path | Run | None = None,
        listener: Listener | None = None,
        on_interrupt: Literal["return", "raise"] = "return",
        **changes: Any,
    ) -> None:
        super().__init__()
        known = [field.name for field in fields(Options)]
        unknown = [name for name in changes if name not in known]
        if unknown:
            raise UsageError(f"EvoPrompt has no option {unknown[0]!r}; it has {', '.join(known)}")
        if on_interrupt not in ("return", "raise"):
            raise UsageError(f"on_interrupt must be 'return' or 'raise', not {on_interrupt!r}")
        self.metric = metric
        self.on_interrupt = on_interrupt
        self.options = replace(options or Options(), **changes)
        self.run_dir = run_dir
        self.listener = listener

    def compile(
        self,
        student: dspy.Module,
        *,
        trainset: Sequence[dspy.Example | Task],
        teacher: dspy.Module | None = None,
        valset: Sequence[dspy.Example | Task] | None = None,
        **kwargs: Any,
    ) -> dspy.Module:
        """Search for a better instruction.

        Args:
            student: The program to improve; it stays as it is. A `Program` serves the debugger and optimizer
                roles itself; for any other module that takes the examples' inputs (`prompt` and `entry_point` of
                a task) and gives `code`, a `Program` on `dspy.settings.lm` does. With another metric than
                `CodeMetric`, an `Advisor` on `dspy.settings.lm` serves these roles. One that has `aforward` alone
                will do.
            trainset: Examples (or tasks) to learn from. The student is called with an example's inputs;
                labels are shown to the metric, to no model.
            teacher: Not used; DSPy's interface has it.
            valset: Examples to choose the best instruction by. Without it the last accepted one is returned.
            **kwargs: Nothing else is taken.

        Returns:
            A copy of the student with the best instruction, and `detailed_results` (`Results`). After Ctrl-C, the
            best so far: `detailed_results.stopped` is "interrupted", no further call was begun, and `compile` with the
            same `run_dir` goes on to the result that an uninterrupted search has.

        Raises:
            UsageError: The trainset is empty, the student has no predictor, can't take an example's inputs or gives
                no answer, the metric fails or gives no score, or `run_dir` is in use or another run's.
            DataError: An example's task is unknown to the metric, its tests are broken, or they pass a function that
                returns nonsense.
            ModelError: The model refuses us or stays silent. `run_dir` holds the best so far and all answers.
            SandboxError: The sandbox failed for too much of a batch.
            StorageError: `run_dir` can't be written.
            KeyboardInterrupt: The second Ctrl-C, or one while the files are opened or closed; with
                `on_interrupt="raise"` any.
        """
        if kwargs:
            raise UsageError(f"compile() takes no argument {next(iter(kwargs))!r}; options go to EvoPrompt(...)")
        judge, train, dev, roles = self._ready(student, trainset, valset)
        if any(role.lm is None for role in (roles.debugger, roles.optimizer)) and dspy.settings.lm is None:
            raise UsageError("no model for the debugger and the optimizer: dspy.configure(lm=...) first")
        try:
            results = self._search(student, judge, roles, train, dev)
        except SearchInterrupted as e:
            if self.on_interrupt == "raise":
                raise
            results = e.results
            logger.warning("interrupted: the best prompt so far is returned; %s", self._how_to_go_on())
        evolved = results.best.apply(student)
        discreet(predictor for _, predictor in predictors_of(evolved))
        evolved.detailed_results = results
        evolved._compiled = True
        return evolved

    def _search(
        self, student: dspy.Module, judge: Judge, roles: Roles, train: list[Task], dev: list[Task]
    ) -> Results:  # fmt: skip
        with contextlib.ExitStack() as stack:
            run = self._open(stack)
            if isinstance(judge, CodeJudge):
                lost = judge.vet([*train, *dev], num_threads=self.options.num_threads)
                if lost:
                    raise DataError.of(list(lost.values()))
            journal = run.journal if run is not None else Journal()
            journal.begin(self._identity(student, roles, judge, digest(train), digest(dev)))
            if run is not None and journal.meta("seed") is None:
                more = judge.metric.tasks.values() if isinstance(judge, CodeJudge) else ()
                prepare(journal, student, (*more, *train, *dev), train_tasks=len(train), dev_tasks=len(dev))
            tell = self._listeners(run, stack)
            threads, budget = self.options.num_threads, self.options.budget
            runner = Runner(student, judge, journal=journal, num_threads=threads, budget=budget)
            strategy = {"factorial": Factorial, "refine": Refine}[self.options.strategy]
            search = strategy(Candidate.of(student), runner.calls.applied(roles), runner, self.options, tell)
            return search.run(train, dev)

    def _how_to_go_on(self) -> str:
        if self.run_dir is None:
            return "a search without a run_dir can't go on later"
        root = self.run_dir.root if isinstance(self.run_dir, Run) else self.run_dir
        return f"the same call with run_dir={str(root)!r} goes on from there"

    def estimate(
        self,
        student: dspy.Module,
        trainset: Sequence[dspy.Example | Task],
        valset: Sequence[dspy.Example | Task] | None = None,
        *,
        failing: tuple[float, float] = (0.05, 0.75),
    ) -> Estimate:
        """What `compile` will cost, as a range, without a call: `print` it.

        The calls that a metric itself makes come on top.

        Args:
            student: As for `compile`.
            trainset: As for `compile`.
            valset: As for `compile`.
            failing: Least and largest share of the solutions that are assumed to fail: failures are what debugger
                and optimizer are asked about.

        Raises:
            UsageError: `compile` would not take these.
            DataError: An example's task is unknown to the metric.
        """
        _, train, dev, roles = self._ready(student, trainset, valset)
        return estimate(student, roles, train, dev, self.options, failing)

    def _ready(
        self, student: dspy.Module, trainset: Sequence[Any], valset: Sequence[Any] | None
    ) -> tuple[Judge, list[Task], list[Task], Roles]:
        """Who judges, the tasks, and who serves as debugger and optimizer."""
        if not isinstance(student, dspy.Module):
            hint = "; call it: the program itself is wanted, not its class" if isinstance(student, type) else ""
            raise UsageError(f"the student must be a dspy.Module, not {student!r}{hint}")
        if not student.predictors():
            raise UsageError(f"{type(student).__name__} has no predictor whose instruction could evolve")
        judge = judge_of(self.metric)
        train, dev = tasks_for(student, judge, *(() if given is None else given for given in (trainset, valset)))
        if not train:
            raise UsageError("the trainset is empty: there is nothing to learn from")
        if both := {t.task_id for t in train} & {t.task_id for t in dev}:
            logger.warning("%d of %d dev tasks are training tasks as well: they judge too kindly", len(both), len(dev))
        return judge, train, dev, _roles(student, judge)

    def _open(self, stack: contextlib.ExitStack) -> Run | None:
        """The run of the directory that was given. One that was given open stays open."""
        if self.run_dir is None or isinstance(self.run_dir, Run):
            return self.run_dir
        return stack.enter_context(Run(self.run_dir))

    def _listeners(self, run: Run | None, stack: contextlib.ExitStack) -> Listener:
        listeners: list[Listener] = [self.listener] if self.listener else []
        if run is not None:
            stack.enter_context(run.tree.log())
            stack.enter_context(ending(run))
            # Files first: what a display shows is on disk already.
            listeners.insert(0, TreeWriter(run.tree, run.journal))

        def tell(event: Event) -> None:
            for listener in listeners:
                listener(event)

        return tell

    def _identity(
        self, student: dspy.Module, roles: Roles, judge: Judge, train: str, dev: str
    ) -> dict[str, Any]:  # fmt: skip
        """What must be the same for an earlier process' answers and decisions to count."""
        elsewhere = {"num_threads", "budget"}  # how fast and how far, not which way
        if self.options.strategy != "factorial":
            elsewhere.add("accept_when")
        # Runs that were begun before there was a choice go on.
        later: dict[str, Any] = {"strategy": "refine", "patience": None, "target": None, "accept_when": "confirmed"}
        options = {
            k: v for k, v in self.options.as_dict().items() if k not in elsewhere and (k not in later or v != later[k])
        }
        programs = {"student": describe(student)} | ({} if roles is student else {"roles": describe(roles)})
        return {**programs, "options": options, "metric": judge.describe(), "train": train, "dev": dev}


def _roles(student: dspy.Module, judge: Judge) -> Roles:
    """Who explains failures and rewrites the instruction."""
    if not isinstance(judge, CodeJudge):
        return Advisor.of(student)
    return student if isinstance(student, Program) else Program()
