"""The test set of a run: evaluated apart from its budget, kept in its journal and its results tree."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import Any

import dspy

from evoprompt.candidate import Candidate
from evoprompt.errors import UsageError
from evoprompt.evaluate import Evaluation, evaluate_jobs
from evoprompt.evolve.export import TEST, Shown, TreeWriter, test_file
from evoprompt.evolve.history import dev_step
from evoprompt.evolve.record import DevRestored
from evoprompt.judges import Judge, Rollout, judge_of, tasks_for
from evoprompt.lm.budget import APART
from evoprompt.metric import CodeMetric
from evoprompt.rollout import Job, Runner
from evoprompt.runs import Journal, Run
from evoprompt.tasks import Task


def evaluate_test(
    run: Run, name: str, program: dspy.Module, data: Iterable[dspy.Example | Task],
    metric: CodeMetric | Judge | Callable[..., Any], *,
    num_threads: int = 8, on_done: Callable[[Rollout], None] | None = None,
) -> Evaluation:  # fmt: skip
    """Evaluate on a test set as part of a run, and write the results below `test_evaluation/<name>`.

    Args:
        run: The run; what it knows already is not run again.
        name: `start` or `evolved`.
        program: What to evaluate.
        data: Examples or tasks of the test set.
        metric: As `EvoPrompt` takes it.
        num_threads: Number of rollouts under way at once.
        on_done: Called after each rollout.

    Raises:
        UsageError: A task has the id of another task of the run.
    """
    (candidate, program), judge = Candidate.compiled(program), judge_of(metric)
    (tasks,) = tasks_for(program, judge, data)
    _show(run.journal, tasks)
    runner = Runner(program, judge, journal=run.journal, num_threads=num_threads, label=APART)
    evaluation = evaluate_jobs(runner, [Job(candidate, task) for task in tasks], on_done=on_done)
    event = DevRestored(0, 0, candidate, tuple(t.task_id for t in tasks), evaluation)
    run.journal.keep_step(TEST, name, {"name": name, **dev_step(event, {})})
    TreeWriter(run.tree, run.journal).evaluation(test_file(name), candidate, evaluation)
    return evaluation


def _show(journal: Journal, tasks: Iterable[Task]) -> None:
    """Keep what results show of these tasks, besides those that are known."""
    shown = journal.fact("tasks")
    for task in tasks:
        if shown.setdefault(task.task_id, asdict(Shown.of(task))).get("key") != task.key:
            raise UsageError(f"another task of this run has the id {task.task_id!r}: give each example its own")
    journal.keep_meta("tasks", json.dumps(shown))
