"""DSPy's own optimizers on our student, data and metric, with our care about calls.

`compile_with` runs GEPA, MIPROv2, SIMBA or COPRO within a budget of task-model calls. Every answer is kept in a journal
and asked for once. An outage is waited for. A model that refuses us, or a sandbox that fails, ends the run with the
typed error: the optimizer alone would score it as a wrong answer and go on.
"""

from __future__ import annotations

import contextlib
import io
import random
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import dspy
from dspy.utils.callback import BaseCallback

from evoprompt.candidate import Candidate
from evoprompt.errors import BudgetSpent, EvoPromptError, ModelError, UsageError
from evoprompt.judges import CodeJudge, ExampleJudge, Judge, judge_of
from evoprompt.lm.budget import Budget
from evoprompt.lm.calls import Calls
from evoprompt.lm.interception import listening
from evoprompt.lm.resolve import one_line
from evoprompt.metric import CodeMetric
from evoprompt.program import Program
from evoprompt.rivals.watch import GuardedMetric, Watch, quiet, watched, watched_student
from evoprompt.runs import Journal

Rival = Literal["gepa", "mipro", "simba", "copro"]

LEAST: Final = 40
"""Calls below which none of them gets through one round of proposing and comparing."""
OVERSPEND: Final = 2.0
"""A rival is stopped with its best so far at that many times its calls: most spend somewhat more than they say."""
ENOUGH: Final = 16
"""Least number of tasks to compare prompts on: on fewer, the best of several is the luckiest."""
COPRO_PROMPTS: Final = 36
"""Beyond about 60 prompts COPRO dies of a RecursionError: each wraps the signature of the one before (dspy 3.4.1)."""


@dataclass(frozen=True)
class RivalOptions:
    """Which rival, and how far it may go.

    Attributes:
        rival: `gepa`, `mipro`, `simba` or `copro`.
        calls: Calls of the task model; those of the proposer come on top. A rival may spend up to `OVERSPEND` times
            as many, COPRO is stopped at them.
        seed: Of everything in it that takes one.
        num_threads: Rollouts under way at once.
        budget: Stops it with the best so far as well, whatever it is doing; rollouts are not limited by it.
    """

    rival: Rival
    calls: int
    seed: int = 0
    num_threads: int = 8
    budget: Budget | None = None


@dataclass(frozen=True)
class RivalBest:
    """The best prompt at a moment of a rival's run.

    Attributes:
        calls: Task-model calls that were paid for by then.
        score: Its score on the tasks that the rival selects by, in [0, 1].
        instructions: Name and text of each predictor.
    """

    calls: int
    score: float
    instructions: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class RivalResults:
    """The result of a rival's run.

    Attributes:
        settings: The sizes that were chosen for the budget.
        best: The prompt that it returned.
        calls: Task-model calls that were paid for: the same request at the same rollout counts once.
        asked: Task-model calls that it asked for.
        trace: Each new best prompt, in order. SIMBA shows none.
        stopped: Why it was stopped early; empty if it was not.
    """

    settings: Mapping[str, int]
    best: Candidate
    calls: int
    asked: int
    trace: tuple[RivalBest, ...]
    stopped: str = ""


def sizes(rival: Rival, calls: int, train: int, val: int) -> dict[str, int]:
    """Options by which a rival is told how far it may go.

    The documented defaults are for thousands of calls (SIMBA: about 3,700). For a smaller budget every stage is made
    smaller, and none is left out.

    Args:
        rival: Which.
        calls: Calls of the task model that it may make.
        train: Number of tasks to learn from.
        val: Number of tasks to select by.

    Raises:
        UsageError: There are fewer than `LEAST` calls.
    """
    if calls < LEAST:
        raise UsageError(f"{calls} calls are too few for {rival}: give at least {LEAST}")
    if rival == "gepa":
        # It spends until it is stopped. Its own count takes in repeated requests, which are free.
        return {"max_metric_calls": 4 * calls, "reflection_minibatch_size": min(3, train)}
    if rival == "mipro":
        # Demos for its proposer, then every prompt on the valset: without one, on 80 % of the trainset. Its own advice
        # is 1.5 trials for each prompt; a trial that repeats one is free.
        deciding, demos = val or max(1, int(train * 0.8)), min(train, 12)
        prompts = min(18, max(2, round((calls - demos) / deciding)))
        return {"num_candidates": prompts, "num_trials": max(prompts, 3 * prompts // 2)}
    if rival == "simba":
        # Each step runs a batch with each prompt, twice; at the end the winners run on all tasks.
        tasks, steps = min(train + val, max(ENOUGH, calls // 8)), min(8, max(2, calls // 130))
        prompts = min(6, max(2, calls // 65))
        last = (min(steps, prompts) + 1) * tasks
        batch = max(4, (calls - last) // (steps * (2 * prompts + 1)))
        return {"bsize": min(32, batch, tasks), "num_candidates": prompts, "max_steps": steps, "tasks": tasks}
    # Every prompt runs on all tasks, until the calls are spent: a proposer that repeats itself costs nothing.
    tasks = min(train + val, max(ENOUGH, calls // ENOUGH))
    breadth = min(10, max(3, calls // (2 * tasks)))
    return {"breadth": breadth, "depth": min(10, COPRO_PROMPTS // breadth), "tasks": tasks}


def compile_with(
    options: RivalOptions,
    student: dspy.Module,
    metric: CodeMetric | Judge | Callable[..., Any],
    *,
    trainset: Sequence[dspy.Example],
    valset: Sequence[dspy.Example] = (),
    prompt_lm: dspy.LM | None = None,
    journal: Journal | None = None,
    on_best: Callable[[RivalBest], None] | None = None,
) -> RivalResults:
    """Let a rival look for a better prompt.

    Args:
        options: Which rival, and how far.
        student: The program; it stays as it is.
        metric: As `EvoPrompt` takes it. Calls of a `dspy.Module` that is the metric are kept; what it asks
            `dspy.settings.lm` counts as the task model's. A rival's proposer may see the labels of examples.
        trainset: Examples to learn from. SIMBA and COPRO, which select by them too, get both sets as one.
        valset: Examples to select by.
        prompt_lm: The model that proposes; the student's own optimizer or `dspy.settings.lm` by default.
        journal: Keeps the answers: a second run with it pays for nothing twice.
        on_best: Called with each new best prompt.

    Raises:
        UsageError: An option can't work, there is no model, or the metric fails or gives no score.
        ModelError: A model refuses us, or an answer did not come in all the time that `Calls` waits.
        SandboxError: The sandbox failed.
        StorageError: The journal can't be written.
    """
    settings = sizes(options.rival, options.calls, len(trainset), len(valset))
    watch = Watch(int(OVERSPEND * options.calls))
    calls = Calls(
        journal or Journal(), most=options.num_threads, budget=options.budget, around=watch.call, on_answer=watch.used
    )
    own = student.optimizer.lm if isinstance(student, Program) else None
    guarded = GuardedMetric(_callable(judge_of(metric).through(calls)), watch)
    run = _Run(
        options, settings, watched_student(student, calls), guarded,
        watched(calls, prompt_lm or own or dspy.settings.lm, "optimizer", judged=False), watch, on_best, calls.stop,
    )  # fmt: skip
    with listening(calls):
        best = run(list(trainset), list(valset))
    return RivalResults(settings, best, watch.paid, watch.asked, tuple(run.trace), str(watch.error or ""))


def _callable(judge: Judge) -> Callable[..., Any]:
    """The metric of a judge, as DSPy calls it."""
    if isinstance(judge, CodeJudge):
        return judge.metric
    if isinstance(judge, ExampleJudge):
        return judge.verdict
    raise UsageError(f"DSPy's optimizers need a metric, not a judge: {type(judge).__name__}")


@dataclass
class _Run(BaseCallback):
    """One run of a rival. Hears of its evaluations as a callback of DSPy."""

    options: RivalOptions
    settings: Mapping[str, int]
    student: dspy.Module
    metric: GuardedMetric
    proposer: dspy.LM
    watch: Watch
    on_best: Callable[[RivalBest], None] | None
    stop: Callable[[], None]

    def __post_init__(self) -> None:
        self._deciding = 0  # tasks of an evaluation that decides
        self._under_way: dict[str, tuple[Any, int]] = {}
        self.trace: list[RivalBest] = []

    def __call__(self, train: list[dspy.Example], val: list[dspy.Example]) -> Candidate:
        compile_it: Callable[..., dspy.Module] = getattr(self, f"_{self.options.rival}")
        task_lm, callbacks = self.student.predictors()[0].lm, [*dspy.settings.callbacks, self]
        found: dspy.Module | None = None
        try:
            with quiet(), dspy.context(lm=task_lm, callbacks=callbacks, disable_history=True):
                try:
                    found = compile_it(train, val)
                except BaseException as e:
                    if not isinstance(e, Exception):  # Ctrl-C: its threads would go on
                        self.watch.stop(ModelError("the run is being stopped"))
                    self.stop()
                    raise
                finally:
                    self.watch.wait()
        except Exception as e:
            if self.watch.error is None:
                raise EvoPromptError(f"{self.options.rival} failed: {one_line(e)}") from e
        if isinstance(self.watch.error, BudgetSpent):
            texts = dict(self.trace[-1].instructions) if self.trace else {}
            return Candidate.of(Candidate.of(self.student).changed(texts).apply(self.student))
        if self.watch.error is not None:
            raise self.watch.error
        return Candidate.of(found)

    def on_evaluate_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        """Stop COPRO before an evaluation that its budget has no calls for: it has no other way to be told of them."""
        size = len(inputs.get("devset") or instance.devset)
        if self.options.rival == "copro" and self.trace and self.watch.paid + size // 2 > self.options.calls:
            self.watch.stop(BudgetSpent(f"its {self.options.calls} calls are spent"))
        self._under_way[call_id] = inputs.get("program"), size

    def on_evaluate_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
        """Take the best score on all deciding tasks for what the rival would return now."""
        program, size = self._under_way.pop(call_id, (None, 0))
        if program is None or outputs is None or size != self._deciding or self.watch.error is not None:
            return
        score = float(outputs.score) / 100
        if not self.trace or score > self.trace[-1].score:
            self.trace.append(RivalBest(self.watch.paid, score, Candidate.of(program).instructions))
            if self.on_best is not None:
                self.on_best(self.trace[-1])

    def _gepa(self, train: list[dspy.Example], val: list[dspy.Example]) -> dspy.Module:
        self._deciding = len(val or train)

        def over(_: object) -> bool:
            return self.watch.error is not None or self.watch.paid >= self.options.calls

        optimizer = dspy.GEPA(
            metric=self.metric, num_threads=self.options.num_threads, seed=self.options.seed,
            reflection_lm=self.proposer.copy(temperature=1.0),  # as its documentation has it
            gepa_kwargs={"stop_callbacks": [over]}, **self.settings,
        )  # fmt: skip
        return optimizer.compile(self.student, trainset=train, valset=val or None)

    def _mipro(self, train: list[dspy.Example], val: list[dspy.Example]) -> dspy.Module:
        self._deciding = len(val) or min(1000, max(1, int(len(train) * 0.8)))
        optimizer = dspy.MIPROv2(
            metric=self.metric, prompt_model=self.proposer, auto=None, num_threads=self.options.num_threads,
            num_candidates=self.settings["num_candidates"], max_labeled_demos=0, max_bootstrapped_demos=0,
        )  # fmt: skip
        seed = self.options.seed + 1  # it takes 0 for none
        with self._printing_nothing():
            return optimizer.compile(
                self.student, trainset=train, valset=val or None, seed=seed, minibatch=False,
                num_trials=self.settings["num_trials"],
            )  # fmt: skip

    @contextlib.contextmanager
    def _printing_nothing(self) -> Any:
        """MIPROv2 prints. So nothing of the process goes to stdout, but for what `on_best` writes."""
        stdout, on_best = sys.stdout, self.on_best

        def loud(best: RivalBest) -> None:
            with contextlib.redirect_stdout(stdout):
                if on_best is not None:
                    on_best(best)

        self.on_best = loud
        with contextlib.redirect_stdout(io.StringIO()):
            yield

    def _simba(self, train: list[dspy.Example], val: list[dspy.Example]) -> dspy.Module:
        own = {name: size for name, size in self.settings.items() if name != "tasks"}
        optimizer = dspy.SIMBA(
            metric=self.metric, prompt_model=self.proposer, num_threads=self.options.num_threads, max_demos=0, **own
        )
        return optimizer.compile(self.student, trainset=self._some([*train, *val]), seed=self.options.seed)

    def _copro(self, train: list[dspy.Example], val: list[dspy.Example]) -> dspy.Module:
        tasks = self._some([*train, *val])
        self._deciding = len(tasks)
        optimizer = dspy.COPRO(
            metric=self.metric, prompt_model=self.proposer, breadth=self.settings["breadth"],
            depth=self.settings["depth"],
        )  # fmt: skip
        evaluation = {"num_threads": self.options.num_threads, "display_progress": False}
        return optimizer.compile(self.student, trainset=tasks, eval_kwargs=evaluation)

    def _some(self, examples: list[dspy.Example]) -> list[dspy.Example]:
        return random.Random(f"rival:{self.options.seed}").sample(examples, min(self.settings["tasks"], len(examples)))
