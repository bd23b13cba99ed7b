"""`EvoPrompt`: the DSPy teleprompter."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import dspy
from dspy.teleprompt import Teleprompter

from evoprompt.candidate import Candidate
from evoprompt.errors import UsageError
from evoprompt.evolve.export import TreeWriter
from evoprompt.evolve.options import Options
from evoprompt.evolve.record import Event, Listener
from evoprompt.evolve.refine import Refine
from evoprompt.metric import CodeMetric
from evoprompt.program import Program
from evoprompt.rollout import Runner
from evoprompt.runs import ResultsTree
from evoprompt.tasks import Task


class EvoPrompt(Teleprompter):
    """Refines the instruction of a code-generating program batch by batch, against tests that really run.

    For each batch: generate code, run it, diagnose the failures, let the optimizer rewrite the instruction,
    keep the rewrite if it is better on the same tasks. The instruction that scores best on the valset wins.

    Args:
        metric: Judges the code and holds the tasks.
        options: All options at once; single ones may be given by name instead (`batch_size=5`).
        run_dir: Directory for the results tree (see the README); it must be empty or absent. None writes
            nothing.
        listener: Is told of every event (`evoprompt.evolve.record`), for progress displays.
        **changes: Fields of `Options`, replacing those of `options`.

    Raises:
        UsageError: An option is unknown or has a value that can't work.
    """

    def __init__(
        self,
        metric: CodeMetric,
        *,
        options: Options | None = None,
        run_dir: str | Path | ResultsTree | None = None,
        listener: Listener | None = None,
        **changes: Any,
    ) -> None:
        super().__init__()
        values = (options or Options()).as_dict()
        unknown = [name for name in changes if name not in values]
        if unknown:
            raise UsageError(f"EvoPrompt has no option {unknown[0]!r}; it has {', '.join(values)}")
        self.metric = metric
        self.options = Options(**(values | changes))
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
                roles itself; for any other module with `forward(prompt, entry_point)` giving `code`, a
                `Program` on `dspy.settings.lm` does.
            trainset: Examples (or tasks) to learn from.
            teacher: Not used; DSPy's interface has it.
            valset: Examples to choose the best instruction by. Without it the last accepted one is returned.
            **kwargs: Nothing else is taken.

        Returns:
            A copy of the student with the best instruction, and `detailed_results` (`Results`).

        Raises:
            UsageError: The trainset is empty, or the student has no predictor.
            DataError: An example's task is unknown to the metric.
            ModelError: The model refuses us or stays silent. Files of `run_dir` hold the best so far.
            SandboxError: The sandbox failed for too much of a batch.
        """
        if kwargs:
            raise UsageError(f"compile() takes no argument {next(iter(kwargs))!r}; options go to EvoPrompt(...)")
        if not student.predictors():
            raise UsageError(f"{type(student).__name__} has no predictor whose instruction could evolve")
        train, dev = self._tasks(trainset), self._tasks(valset or ())
        if not train:
            raise UsageError("the trainset is empty: there is nothing to learn from")
        roles = student if isinstance(student, Program) else Program()
        if any(role.lm is None for role in (roles.debugger, roles.optimizer)) and dspy.settings.lm is None:
            raise UsageError("no model for the debugger and the optimizer: dspy.configure(lm=...) first")
        with self._listeners(student) as tell:
            runner = Runner(student, self.metric, num_threads=self.options.num_threads)
            search = Refine(Candidate.of(student), roles, runner, self.options, tell)
            search.run(train, dev)
            results = search.results()
        evolved = results.best.apply(student)
        evolved.detailed_results = results
        evolved._compiled = True
        return evolved

    def _tasks(self, examples: Iterable[dspy.Example | Task]) -> list[Task]:
        return [e if isinstance(e, Task) else self.metric.task(str(e.task_id)) for e in examples]

    @contextlib.contextmanager
    def _listeners(self, student: dspy.Module) -> Iterator[Listener]:
        listeners: list[Listener] = [self.listener] if self.listener else []
        with contextlib.ExitStack() as stack:
            if self.run_dir is not None:
                tree = self.run_dir if isinstance(self.run_dir, ResultsTree) else ResultsTree(self.run_dir)
                stack.enter_context(tree.log())
                # Files first: what a display shows is on disk already.
                listeners.insert(0, TreeWriter(tree, student, self.metric))

            def tell(event: Event) -> None:
                for listener in listeners:
                    listener(event)

            yield tell
