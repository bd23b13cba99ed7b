"""`EvoPrompt`: the DSPy teleprompter."""

from __future__ import annotations

import contextlib
import difflib
import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from inspect import signature
from pkgutil import resolve_name
from typing import Any

import dspy
from dspy.teleprompt import Teleprompter

from evoprompt.atomic import home
from evoprompt.candidate import Candidate
from evoprompt.errors import DataError, EvoPromptError, UsageError, briefly
from evoprompt.evolve import progress
from evoprompt.evolve.advise import Roles
from evoprompt.evolve.estimate import FAILING, Estimate, confirmable, estimate, require_prices
from evoprompt.evolve.events import BatchDone, Event, Finished, Interrupted, Listener
from evoprompt.evolve.factorial.scaffold import passage
from evoprompt.evolve.facts import prepare
from evoprompt.evolve.options import Options
from evoprompt.evolve.records import Results
from evoprompt.evolve.results_tree import TreeWriter, ending, note_workers
from evoprompt.evolve.search import SearchInterrupted, digest
from evoprompt.evolve.settings import Settings, taking, with_options
from evoprompt.evolve.splitting import split, told
from evoprompt.evolve.strategies import NAMES, REVISIONS, name_of, strategy_class
from evoprompt.judges import CodeJudge, Judge, judge_of, tasks_for
from evoprompt.lm.identity import describe, predictors_of
from evoprompt.lm.resolve import one_line
from evoprompt.program import Advisor, Program
from evoprompt.rollout import Runner
from evoprompt.runs import Journal, Run
from evoprompt.secrets import save_without_secrets
from evoprompt.simulation import is_simulated
from evoprompt.tasks import Task

logger = logging.getLogger("evoprompt")


def _simulated(*programs: dspy.Module) -> bool:
    models = (p.lm or dspy.settings.lm for program in programs for _, p in predictors_of(program))
    return is_simulated(getattr(lm, "model", "") for lm in models)


def require_locked(student: dspy.Module, lock: Sequence[str]) -> None:
    """Refuse passages to lock that no instruction of the student holds.

    Raises:
        UsageError: There is one; the message shows the line that is nearest to it.
    """
    texts = [predictor.signature.instructions for _, predictor in predictors_of(student)]
    for locked in lock:
        if not any(passage(text, locked) for text in texts):
            lines = [line.strip() for text in texts for line in text.splitlines() if line.strip()]
            near = difflib.get_close_matches(locked, lines, 1, 0.5)
            hint = f"; the nearest line is {near[0]!r}" if near else ""
            raise UsageError(f"lock: the start prompt does not hold {locked!r}{hint}")


@dataclass(frozen=True)
class _Ready:
    """All that a search begins with. `note` is a warning about the tasks."""

    judge: Judge
    train: list[Task]
    dev: list[Task]
    roles: Roles
    options: Options
    note: str = ""


class EvoPrompt(Teleprompter):
    """Refines the instruction of a code-generating program batch by batch, against tests that really run.

    For each batch: generate code under random subsets of the instruction's sentences, run it, diagnose the failures,
    add the rules that would have prevented them, and measure from all solutions so far what every sentence is worth.
    What helps stays. At the end the instruction is compared with the start on training and validation tasks, and the
    result says how sure it is that it is better (`accept_when`). `strategy` takes other ways to search.

    With any other metric than a `CodeMetric` it does the same for any DSPy program: examples are the tasks, the
    metric judges, and its feedback tells the debugger what went wrong. The instructions of all predictors
    in `named_predictors()` evolve: of several, the debugger says which one is to blame for a failure.

    Args:
        metric: A `CodeMetric`, which judges the code and holds the tasks; or any function of an example and a
            prediction (see `ExampleJudge`).
        options: Options of the search all at once. Each of them is a keyword as well, listed last in
            `help(EvoPrompt)`; one that is given by name wins.
        debugger_lm: Model that explains failures; None: the student's own where it is a `Program` that has one, else
            `dspy.settings.lm`.
        optimizer_lm: Model that rewrites the instruction; None: likewise.
        reflection_lm: Both of them at once.
        run_dir: Directory for the journal and the results tree (see the README). Where an earlier process was
            stopped there, `compile` goes on to the same result and pays for nothing twice; another program,
            data set or option is refused. None writes nothing.
        log_dir: Another name of `run_dir`.
        track_stats: Whether the program gets `detailed_results`.
        listener: Is told of every event (`evoprompt.evolve.events`), for progress displays. None: a progress bar on a
            terminal or in a notebook; `TQDM_DISABLE=1` in the environment hides it.
        on_interrupt: What `compile` does at the first Ctrl-C, after what is under way: `return` gives the best program
            so far, `raise` raises `KeyboardInterrupt`, for scripts that do more after it. The second one raises
            always, at once.
        executor: Runs the solutions elsewhere, for a `CodeMetric`: any `concurrent.futures.Executor`, such as
            `evoprompt.cluster.Cluster("tcp://host:8786")`. Models are asked in this process, unless it says
            `lm_on_workers=True`.

    Raises:
        UsageError: An option is unknown or has a value that can't work.
    """

    @taking(Settings)
    def __init__(self, metric: Any, **named: Any) -> None:
        super().__init__()
        settings = Settings(metric, **named).completed(named)
        self.metric = settings.metric
        self.options = settings.search()
        self.debugger_lm = settings.debugger_lm or settings.reflection_lm
        self.optimizer_lm = settings.optimizer_lm or settings.reflection_lm
        self.run_dir = settings.log_dir if settings.run_dir is None else settings.run_dir
        self.track_stats, self.listener = settings.track_stats, settings.listener
        self.on_interrupt, self.executor = settings.on_interrupt, settings.executor

    @briefly
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
            student: The program to improve; it stays as it is. One that has `aforward` alone will do. A `Program`
                serves the debugger and optimizer roles itself; for any other module that takes the examples' inputs
                (`prompt` and `entry_point` of a task) and gives `code`, a `Program` on `dspy.settings.lm` does. With
                another metric than `CodeMetric`, an `Advisor` on `dspy.settings.lm` serves these roles.
            trainset: Examples (or tasks) to learn from. The student is called with an example's inputs;
                labels are shown to the metric, to no model.
            teacher: Not used; DSPy's interface has it.
            valset: Examples to choose the best instruction by. None: half of the trainset, 100 examples at most, where
                it has 20 or more; which ones, the seed decides. An empty one: nothing is kept to choose by.
            **kwargs: Nothing else is taken.

        Returns:
            A copy of the student with the best instruction, and `detailed_results` (`Results`), but for
            `track_stats=False`. After Ctrl-C, the best so far: `detailed_results.stopped` is "interrupted", no further
            call was begun, and `compile` with the same `run_dir` goes on to the result of an uninterrupted search.

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
        ready = self._ready(student, trainset, valset)
        if any(role.lm is None for role in (ready.roles.debugger, ready.roles.optimizer)) and dspy.settings.lm is None:
            raise UsageError("no model for the debugger and the optimizer: dspy.configure(lm=...) first")
        try:
            results = self._search(student, ready)
        except SearchInterrupted as e:
            if self.on_interrupt == "raise":
                raise
            results = e.results
            logger.warning("interrupted: the best prompt so far is returned; %s", self._how_to_go_on())
        evolved = results.best.apply(student)
        save_without_secrets(predictor for _, predictor in predictors_of(evolved))
        vars(evolved).pop("detailed_results", None)  # of an earlier search
        if self.track_stats:
            place = self.run_dir.root if isinstance(self.run_dir, Run) else self.run_dir
            root = None if place is None else home(place)
            evolved.detailed_results = replace(results, run_dir=root, simulated=_simulated(student, ready.roles))
        evolved._compiled = True
        return evolved

    def _search(self, student: dspy.Module, ready: _Ready) -> Results:
        train, dev, options = ready.train, ready.dev, ready.options
        judge = judge_of(ready.judge, self.executor)
        with contextlib.ExitStack() as stack:
            run = self._open(stack)
            if isinstance(judge, CodeJudge):
                tasks, watched = [*train, *dev], self.listener is None and progress.watched()
                with progress.checking(len(tasks)) if watched else contextlib.nullcontext() as count:
                    lost = judge.vet(tasks, num_threads=options.threads, on_done=count)
                if lost:
                    raise DataError.of(list(lost.values()))
            journal = run.journal if run is not None else Journal()
            journal.begin(self._identity(student, ready))
            if run is not None and journal.meta("seed") is None:
                more = judge.metric.tasks.values() if isinstance(judge, CodeJudge) else ()
                prepare(run, student, options, train, dev, more, simulated=_simulated(student, ready.roles))
            tell = self._listeners(run, judge, stack)
            for line in filter(None, (ready.note, confirmable(train, dev, options))):
                logger.warning("%s", line)
            runner = Runner(
                student, judge, journal=journal, num_threads=options.threads, budget=options.budget,
                steps=len(student.predictors()) > 1 or options.max_demos > 0,
            )  # fmt: skip
            search = strategy_class(options.strategy)(
                Candidate.of(student), runner.calls.applied(ready.roles), runner, options, tell
            )
            results = self._run(search, train, dev)
        if not isinstance(results, Results):
            raise UsageError(f"strategy {name_of(type(search))}: run(train, dev) must return Results, not {results!r}")
        return results

    @staticmethod
    def _run(search: Any, train: list[Task], dev: list[Task]) -> Results:
        """Run a search. An exception of a user's own one is the user's: it names the strategy."""
        try:
            results: Results = search.run(train, dev)
        except Exception as e:
            if isinstance(e, EvoPromptError) or name_of(type(search)) in NAMES:
                raise
            raise UsageError(f"strategy {name_of(type(search))}: {type(e).__name__}: {one_line(e)}") from e
        return results

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
        failing: float = FAILING,
    ) -> Estimate:
        """Estimate the cost of `compile` without a call: what is likely, and what it is at most. `print` it.

        The calls that a metric itself makes come on top.

        Args:
            student: As for `compile`.
            trainset: As for `compile`.
            valset: As for `compile`.
            failing: Share of the solutions that are likely to fail: failures are what debugger and optimizer are asked
                about. The upper bound is that all fail.

        Raises:
            UsageError: `compile` would not take these.
            DataError: An example's task is unknown to the metric.
        """
        ready = self._ready(student, trainset, valset)
        return estimate(student, ready.roles, ready.train, ready.dev, ready.options, failing)

    def _ready(self, student: dspy.Module, trainset: Sequence[Any], valset: Sequence[Any] | None) -> _Ready:
        """Check the arguments of `compile`, and settle the judge, tasks, roles and options."""
        if not isinstance(student, dspy.Module):
            hint = "; call it: the program itself is wanted, not its class" if isinstance(student, type) else ""
            raise UsageError(f"the student must be a dspy.Module, not {student!r}{hint}")
        if not student.predictors():
            raise UsageError(f"{type(student).__name__} has no predictor whose instruction could evolve")
        judge = judge_of(self.metric)
        train, dev = tasks_for(student, judge, *(() if one is None else one for one in (trainset, valset)))
        if not train:
            raise UsageError("the trainset is empty: there is nothing to learn from")
        note = ""
        if valset is None:
            train, dev = split(train, self.options.seed)
            note = told(train, dev, self.options.seed)
        if both := {t.task_id for t in train} & {t.task_id for t in dev}:
            logger.warning("%d of %d dev tasks are training tasks as well: they judge too kindly", len(both), len(dev))
        require_locked(student, self.options.lock)
        options, roles = self.options.settled(len(train) + len(dev)), self._roles(student, judge)
        require_prices(options.budget, [student, roles])
        return _Ready(judge, train, dev, roles, options, note)

    def _roles(self, student: dspy.Module, judge: Judge) -> Roles:
        """Return the program that explains failures and rewrites the instruction: the student itself if it can."""
        roles: Roles
        if isinstance(judge, CodeJudge):
            roles = student if isinstance(student, Program) else Program()
        else:
            roles = Advisor.of(student)
        models = self.debugger_lm or roles.debugger.lm, self.optimizer_lm or roles.optimizer.lm
        if models != (roles.debugger.lm, roles.optimizer.lm):
            roles = roles.deepcopy()
            roles.debugger.lm, roles.optimizer.lm = models
        return roles

    def _open(self, stack: contextlib.ExitStack) -> Run | None:
        """The run of the directory that was given. One that was given open stays open."""
        if self.run_dir is None or isinstance(self.run_dir, Run):
            return self.run_dir
        return stack.enter_context(Run(self.run_dir))

    def _listeners(self, run: Run | None, judge: Judge, stack: contextlib.ExitStack) -> Listener:
        listeners: list[Listener] = [self.listener] if self.listener else []
        if self.listener is None and progress.watched():
            listeners.append(stack.enter_context(progress.progress_bar()))
        if run is not None:
            stack.enter_context(run.tree.log())
            stack.enter_context(ending(run))
            # Files first: what a display shows is on disk already. By name: the report stands above the search.
            report = resolve_name("evoprompt.report:ReportWriter")(run.root, run.journal)
            listeners[:0] = TreeWriter(run.tree, run.journal), report

        def tell(event: Event) -> None:
            if run is not None and isinstance(event, BatchDone | Finished | Interrupted):
                note_workers(run.tree, judge)
            for listener in listeners:
                listener(event)

        return tell

    def _identity(self, student: dspy.Module, ready: _Ready) -> dict[str, Any]:
        """Return the facts that must be unchanged for an earlier process' answers and decisions to count."""
        programs: dict[str, Any] = {"student": describe(student)}
        if ready.roles is not student:
            programs["roles"] = describe(ready.roles)
        names = [name for name, _ in student.named_predictors()]
        if len(names) > 1:  # earlier versions evolved the first alone
            programs["evolves"] = names
        search = name_of(strategy_class(ready.options.strategy))
        if revision := REVISIONS.get(search):
            programs[f"{search} revision"] = revision
        sets = {"train": digest(ready.train), "dev": digest(ready.dev)}
        return {**programs, "options": ready.options.identity(), "metric": ready.judge.describe(), **sets}


EvoPrompt.__doc__ = with_options(EvoPrompt.__doc__)


def _join_autolog() -> None:
    """Repeat a `mlflow.dspy.autolog()` that came before this import: MLflow patches the optimizers that it finds."""
    on = getattr(sys.modules.get("mlflow.utils.autologging_utils"), "AUTOLOGGING_INTEGRATIONS", {})
    if settings := on.get("dspy"):
        autolog = resolve_name("mlflow.dspy:autolog")
        autolog(**{name: settings[name] for name in signature(autolog).parameters if name in settings})
        on["dspy"] = settings  # those of `mlflow.autolog()` are marked as such


_join_autolog()
