"""DSPy's own optimizers on our student, data and metric, with our care about calls.

`compile_with` runs GEPA, MIPROv2, SIMBA or COPRO with a budget of task-model calls. What is added to them: every
answer is kept in a journal and asked for once, as DSPy's cache would have it; an outage is waited for; and a model that
refuses us, or a sandbox that fails, ends the run with the typed error, where they would score it as a wrong answer and
go on.
"""

from __future__ import annotations

import importlib.util
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dspy
from dspy.utils.callback import BaseCallback

from evoprompt.candidate import Candidate
from evoprompt.errors import BudgetSpent, EvoPromptError, ModelError, UsageError
from evoprompt.judges import CodeJudge, ExampleJudge, Judge, judge_of, tasks_for
from evoprompt.judges.students import AskedTask
from evoprompt.lm.budget import Budget
from evoprompt.lm.calls import Calls
from evoprompt.lm.identity import describe, predictors_of
from evoprompt.lm.interception import listening
from evoprompt.lm.resolve import one_line
from evoprompt.metric import CodeMetric
from evoprompt.program import Program
from evoprompt.rivals.sizes import Rival, sizes
from evoprompt.rivals.watch import Guarded, Metered, Watch, metered, quiet, watched
from evoprompt.runs.journal import Journal, Spent
from evoprompt.secrets import discreet
from evoprompt.tasks import Task

PROPOSER = "optimizer"
"""The role in which a rival's own model is asked, as in a `Program`."""
_NEEDS = {"gepa": "gepa", "mipro": "optuna"}


@dataclass(frozen=True)
class RivalOptions:
    """Which rival, and how far it may go.

    Attributes:
        rival: `gepa`, `mipro`, `simba` or `copro`.
        calls: Calls of the task model; those of the proposer come on top. A rival may spend somewhat more.
        seed: Of everything in it that takes one.
        num_threads: Rollouts under way at once.
        demos: Whether it may also add demonstrations to the prompt (MIPROv2 and SIMBA; the others never do).
        overspend: Stop it with the best so far at that many times `calls`. COPRO would go on: it is stopped at them.
        budget: Stops it with the best so far as well, whatever it is in the middle of; rollouts are not limited by it.
    """

    rival: Rival
    calls: int
    seed: int = 0
    num_threads: int = 8
    demos: bool = False
    overspend: float = 2.0
    budget: Budget | None = None


@dataclass(frozen=True)
class Best:
    """The best prompt at a moment of a search.

    Attributes:
        calls: Task-model calls that were paid for by then.
        instruction: The prompt: the text of the first predictor.
        score: Its score on the tasks that the rival selects by, in [0, 1].
        instructions: Name and text of each predictor.
    """

    calls: int
    instruction: str
    score: float
    instructions: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class RivalResults:
    """What a rival came to.

    Attributes:
        options: As given.
        settings: The rival's own options that were chosen for the budget.
        best: The candidate that it returned.
        calls: Task-model calls that were paid for: the same request at the same rollout counts once.
        asked: Those that it asked for.
        spent: What all answers in the journal cost, by role.
        trace: The best so far each time that there was a better one, as far as the rival shows it: SIMBA does not.
        stopped: Why it was stopped before it was done; empty when it was not.
    """

    options: RivalOptions
    settings: Mapping[str, int]
    best: Candidate
    calls: int
    asked: int
    spent: Mapping[str, Spent]
    trace: tuple[Best, ...]
    stopped: str = ""


def compile_with(
    options: RivalOptions,
    student: dspy.Module,
    metric: CodeMetric | Judge | Callable[..., Any],
    *,
    trainset: Sequence[dspy.Example],
    valset: Sequence[dspy.Example] = (),
    prompt_lm: dspy.LM | None = None,
    journal: Journal | None = None,
    on_best: Callable[[Best], None] | None = None,
) -> dspy.Module:
    """Let a rival look for a better prompt.

    Args:
        options: Which rival, and how far.
        student: The program; it stays as it is.
        metric: As `EvoPrompt` takes it. What it asks a model of its own is kept where it is a `dspy.Module`; what it
            asks `dspy.settings.lm` counts as the task model's. A rival's proposer may see the labels of examples.
        trainset: Examples to learn from. SIMBA and COPRO, which select by them too, get both sets as one.
        valset: Examples to select by.
        prompt_lm: The model that proposes; `dspy.settings.lm` by default.
        journal: Keeps the answers: a second run with it pays for nothing twice.
        on_best: Is told of each new best prompt.

    Returns:
        A copy of the student with the prompt that the rival chose, and `detailed_results` (`RivalResults`).

    Raises:
        UsageError: An option can't work, a package that the rival needs is missing, there is no model, or the metric
            fails or gives no score.
        ModelError: A model refuses us, or an answer did not come in all the time that `Calls` waits.
        SandboxError: The sandbox failed.
        StorageError: The journal can't be written.
    """
    _check(options, student, trainset)
    tasks_for(student, judge_of(metric), trainset, valset)
    journal = journal or Journal()
    settings = sizes(options.rival, options.calls, len(trainset), len(valset))
    journal.begin(_identity(options, student, metric, trainset, valset), "rival")
    watch = Watch(int(options.overspend * options.calls))
    calls = Calls(journal, most=options.num_threads, budget=options.budget, around=watch.call, on_answer=watch.used)
    own = student.optimizer.lm if isinstance(student, Program) else None
    proposer = metered(calls, prompt_lm or own or dspy.settings.lm, PROPOSER, judged=False)
    guarded = Guarded(_callable(metric, calls), watch)
    run = _Run(options, settings, watched(student, calls), guarded, proposer, watch)
    run.tell, run.stop = on_best, calls.stop
    with listening(calls):
        found = run(list(trainset), list(valset))
    evolved = Candidate.of(found).apply(student)
    if options.demos:
        for (_, mine), (_, its) in zip(evolved.named_predictors(), found.named_predictors(), strict=True):
            mine.demos = its.demos
    evolved.detailed_results = RivalResults(
        options, settings, Candidate.of(found), watch.paid, watch.asked, journal.spent(), tuple(run.trace),
        str(watch.error or ""),
    )  # fmt: skip
    discreet(predictor for _, predictor in predictors_of(evolved))
    evolved._compiled = True
    return evolved


def require_installed(rival: Rival) -> None:
    """MIPROv2 would find out that a package is missing after it has spent calls.

    Raises:
        UsageError: It is.
    """
    package = _NEEDS.get(rival)
    if package and importlib.util.find_spec(package) is None:
        raise UsageError(f"{rival} needs a package that is not installed: pip install {package}")


def _identity(
    options: RivalOptions, student: dspy.Module, metric: CodeMetric | Judge | Callable[..., Any],
    *sets: Sequence[dspy.Example],
) -> dict[str, Any]:  # fmt: skip
    """What must be the same for an earlier process' answers to lead to the same result."""
    judge = judge_of(metric)
    train, dev = ([_name(t) for t in judge.tasks_of(examples)] for examples in sets)
    return {
        "rival": [options.rival, options.calls, options.seed, options.demos],
        "student": describe(student),
        "metric": judge.describe(),
        "train": train,
        "dev": dev,
    }


def _name(task: Task) -> str:
    return f"{task.task_id} {task.key}" if isinstance(task, AskedTask) else task.task_id


def _callable(metric: CodeMetric | Judge | Callable[..., Any], calls: Calls) -> Callable[..., Any]:
    """The metric as DSPy calls it, with the answers that `EvoPrompt` would take from it."""
    judge = judge_of(metric).through(calls)
    if isinstance(judge, CodeJudge):
        return judge.metric
    if isinstance(judge, ExampleJudge):
        return judge.verdict
    raise UsageError(f"DSPy's optimizers need a metric, not a judge: {type(judge).__name__}")


def _check(options: RivalOptions, student: dspy.Module, trainset: Sequence[dspy.Example]) -> None:
    require_installed(options.rival)
    if not trainset:
        raise UsageError("the trainset is empty: there is nothing to learn from")
    if not student.predictors():
        raise UsageError(f"{type(student).__name__} has no predictor whose instruction could evolve")


class _Run(BaseCallback):
    """One run of a rival, and the ear at its evaluations."""

    def __init__(
        self, options: RivalOptions, settings: Mapping[str, int], student: dspy.Module, metric: Guarded,
        proposer: Metered, watch: Watch,
    ) -> None:  # fmt: skip
        self._options, self._settings, self._student, self._metric = options, settings, student, metric
        self._proposer, self._watch = proposer, watch
        self._deciding = 0
        self._under_way: dict[str, tuple[Any, int]] = {}
        self.trace: list[Best] = []
        self.tell: Callable[[Best], None] | None = None
        self.stop: Callable[[], None] = lambda: None

    def __call__(self, train: list[dspy.Example], val: list[dspy.Example]) -> dspy.Module:
        rival = {"gepa": self._gepa, "mipro": self._mipro, "simba": self._simba, "copro": self._copro}
        task_lm = self._student.predictors()[0].lm
        try:
            with quiet(), dspy.context(lm=task_lm, callbacks=[*dspy.settings.callbacks, self], disable_history=True):
                try:
                    found = rival[self._options.rival](train, val)
                except BaseException as e:
                    if not isinstance(e, Exception):  # Ctrl-C: its threads would go on
                        self._watch.stop(ModelError("the run is being stopped"))
                    self.stop()
                    raise
                finally:
                    self._watch.wait()
        except Exception as e:
            if self._watch.error is None:
                raise EvoPromptError(f"{self._options.rival} failed: {one_line(e)}") from e
            found = None
        if isinstance(self._watch.error, BudgetSpent):
            texts = dict(self.trace[-1].instructions) if self.trace else {}
            return Candidate.of(self._student).changed(texts).apply(self._student)
        if self._watch.error is not None:
            raise self._watch.error
        return found

    def on_evaluate_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        """One of their evaluations begins."""
        devset = inputs.get("devset") or instance.devset
        spent = self._watch.paid + len(devset) // 2
        if self._options.rival == "copro" and self.trace and spent > self._options.calls:
            # It has a best so far after every prompt, and no other way to be told of calls.
            self._watch.stop(BudgetSpent(f"its {self._options.calls} calls are spent"))
        self._under_way[call_id] = inputs.get("program"), len(devset)

    def on_evaluate_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
        """It has ended. On all tasks that decide, the best such score is what the rival would return now."""
        program, size = self._under_way.pop(call_id, (None, 0))
        if program is None or outputs is None or size != self._deciding or self._watch.error is not None:
            return
        score = float(outputs.score) / 100
        if not self.trace or score > self.trace[-1].score:
            best = Candidate.of(program)
            self.trace.append(Best(self._watch.paid, best.instruction, score, best.instructions))
            if self.tell is not None:
                self.tell(self.trace[-1])

    def _gepa(self, train: list[dspy.Example], val: list[dspy.Example]) -> dspy.Module:
        watch, options = self._watch, self._options
        self._deciding = len(val or train)

        def over(_: object) -> bool:
            return watch.error is not None or watch.paid >= options.calls

        optimizer = dspy.GEPA(
            metric=self._metric, num_threads=options.num_threads, seed=options.seed,
            reflection_lm=self._proposer.copy(temperature=1.0),  # as its documentation has it
            gepa_kwargs={"stop_callbacks": [over]}, **self._settings,
        )  # fmt: skip
        return optimizer.compile(self._student, trainset=train, valset=val or None)

    def _mipro(self, train: list[dspy.Example], val: list[dspy.Example]) -> dspy.Module:
        trials = {"num_trials": self._settings["num_trials"], "minibatch": False}
        self._deciding = len(val) or min(1000, max(1, int(len(train) * 0.8)))
        optimizer = dspy.MIPROv2(
            metric=self._metric, prompt_model=self._proposer, auto=None, num_threads=self._options.num_threads,
            num_candidates=self._settings["num_candidates"], max_labeled_demos=0,
            max_bootstrapped_demos=4 if self._options.demos else 0,
        )  # fmt: skip
        seed = self._options.seed + 1  # it takes 0 for none
        return optimizer.compile(self._student, trainset=train, valset=val or None, seed=seed, **trials)

    def _simba(self, train: list[dspy.Example], val: list[dspy.Example]) -> dspy.Module:
        own = {name: size for name, size in self._settings.items() if name != "tasks"}
        optimizer = dspy.SIMBA(
            metric=self._metric, prompt_model=self._proposer, num_threads=self._options.num_threads,
            max_demos=4 if self._options.demos else 0, **own,
        )  # fmt: skip
        return optimizer.compile(self._student, trainset=self._some([*train, *val]), seed=self._options.seed)

    def _copro(self, train: list[dspy.Example], val: list[dspy.Example]) -> dspy.Module:
        tasks = self._some([*train, *val])
        self._deciding = len(tasks)
        optimizer = dspy.COPRO(
            metric=self._metric, prompt_model=self._proposer, breadth=self._settings["breadth"],
            depth=self._settings["depth"],
        )  # fmt: skip
        evaluation = {"num_threads": self._options.num_threads, "display_progress": False}
        return optimizer.compile(self._student, trainset=tasks, eval_kwargs=evaluation)

    def _some(self, examples: list[dspy.Example]) -> list[dspy.Example]:
        count = self._settings["tasks"]
        return random.Random(f"rival:{self._options.seed}").sample(examples, min(count, len(examples)))
