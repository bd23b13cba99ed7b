"""Writes what a search does into the results tree, as it happens."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import dspy

from evoprompt.atomic import storage
from evoprompt.candidate import Candidate
from evoprompt.evaluate import Evaluation
from evoprompt.evolve.record import BatchDone, BatchRecord, DevDone, Event, Results, RolloutDone, Started
from evoprompt.metric import CodeMetric
from evoprompt.rollout import Rollout
from evoprompt.runs import ResultsTree
from evoprompt.tasks import Task

ROLLOUTS = "training/rollouts.jsonl"


class TreeWriter:
    """A listener that keeps the results tree true after every event.

    Args:
        tree: The run's directory.
        student: The program whose instruction evolves; `program.json` is a copy of it.
        metric: Finds the tasks that rollouts speak of.
    """

    def __init__(self, tree: ResultsTree, student: dspy.Module, metric: CodeMetric) -> None:
        self._tree, self._student, self._metric = tree, student, metric
        self._best: Candidate | None = None

    def __call__(self, event: Event) -> None:
        """Write what the event tells."""
        if isinstance(event, Started):
            self._tree.summary(status="running", train_tasks=event.train_tasks, dev_tasks=event.dev_tasks)
            self._write_best(event.seed)
        elif isinstance(event, RolloutDone):
            # The one file that knows of a batch that was never finished: its calls were paid for.
            self._tree.line(ROLLOUTS, event.rollout.model_dump_json())
        elif isinstance(event, BatchDone):
            self._batch(event.record)
            self._state(event.results, event.record.epoch, event.record.batch)
        elif isinstance(event, DevDone):
            write_evaluation(
                self._tree, f"dev_evaluation/epoch_{event.epoch}/batch_{event.batch}/dev_evaluation.json",
                event.candidate, event.evaluation, self._metric.tasks,
            )  # fmt: skip
            self._state(event.results, event.epoch, event.batch)

    def _batch(self, record: BatchRecord) -> None:
        folder = f"training/epochs/epoch_{record.epoch}/batch_{record.batch}"
        fields = {"rollouts", "child_rollouts", "diagnosed"}
        self._tree.json(
            f"{folder}/batch_results.json",
            {
                **record.model_dump(exclude=fields),
                "parent_id": record.parent.key,
                "child_id": record.child.key if record.child else None,
                "evaluation": record.evaluation.summary(),
                "rollouts": [_brief(r) for r in record.rollouts],
                "child_rollouts": [_brief(r) for r in record.child_rollouts],
            },
        )
        diagnoses = {d.task_id: d.model_dump(exclude={"task_id"}) for d in record.diagnosed}
        after = {r.task_id: r for r in record.child_rollouts}
        records = []
        for rollout in record.rollouts:
            task = self._metric.task(rollout.task_id)
            row = task_record(task, rollout)
            row["diagnosis"] = diagnoses.get(rollout.task_id)
            child = after.get(rollout.task_id)
            row["with_proposal"] = None if child is None else task_record(task, child)
            records.append((task, row))
        self._tree.tasks(folder, records)

    def _state(self, results: Results, epoch: int, batch: int) -> None:
        self._tree.json(
            "training/prompt_evolution.json",
            {"best": results.best.key, "prompts": [e.model_dump() for e in results.evolution]},
        )
        self._write_best(results.best)
        start = results.dev.get(results.seed.key)
        self._tree.summary(
            batches_done=len(results.batches),
            improved=results.best.key != results.seed.key,
            start_dev_score=start.score if start else None,
            best_dev_score=results.best_dev_score,
            best=results.best.key,
        )
        current = next((r.child for r in reversed(results.batches) if r.accepted and r.child is not None), results.seed)
        self._tree.json(
            "training/checkpoints/latest.json",
            {
                "epoch": epoch,
                "batch": batch,
                "current": current.model_dump(),
                "best": results.best.model_dump(),
                "best_dev_score": results.best_dev_score,
                "batches_done": len(results.batches),
            },
        )

    def _write_best(self, best: Candidate) -> None:
        if best == self._best:
            return
        self._best = best
        self._tree.text("training/final_prompt.txt", best.instruction)
        write_program(self._tree, best.apply(self._student))


def write_program(tree: ResultsTree, program: dspy.Module) -> None:
    """Write `program.json`: instructions, demos and adapter, without models and their settings."""
    bare = program.deepcopy()
    bare.set_lm(None)
    temporary = tree.program.with_name(".program.json")
    with storage(tree.program):
        bare.save(temporary)
        temporary.replace(tree.program)


def write_evaluation(
    tree: ResultsTree, name: str, candidate: Candidate, evaluation: Evaluation, tasks: Mapping[str, Task]
) -> None:
    """Write an evaluation's summary to `name`, and its tasks beside it."""
    tree.json(
        name,
        {
            "candidate": candidate.model_dump(),
            "candidate_id": candidate.key,
            **evaluation.summary(),
            "rollouts": [_brief(r) for r in evaluation.rollouts],
        },
    )
    folder = name.rsplit("/", 1)[0]
    by_task: dict[str, list[Rollout]] = {}
    for rollout in evaluation.rollouts:
        by_task.setdefault(rollout.task_id, []).append(rollout)
    tree.tasks(folder, ((tasks[i], _samples(tasks[i], found)) for i, found in by_task.items()))


def _samples(task: Task, rollouts: Iterable[Rollout]) -> dict[str, Any]:
    first, *more = [task_record(task, r) for r in rollouts]
    return {**first, "more_samples": more} if more else first


def task_record(task: Task, rollout: Rollout) -> dict[str, Any]:
    """One rollout for people: the problem, the code, the verdict, and every failing case with its test."""
    report = rollout.report
    return {
        "prompt": task.prompt,
        "entry_point": task.interface,
        "candidate_id": rollout.candidate,
        "sample": rollout.sample,
        "status": rollout.status,
        "score": rollout.score,
        "code": rollout.code,
        "error": rollout.error or (report.detail if report else ""),
        "base": _suite(report.base) if report and report.base else None,
        "plus": _suite(report.plus) if report and report.plus else None,
        "failing_cases": [c.model_dump() for c in report.failures] if report else [],
        "sandbox_tier": report.tier if report else "",
    }


def _suite(result: Any) -> dict[str, Any]:
    return {"status": result.status, "passed": result.passed, "total": result.total}


def _brief(rollout: Rollout) -> dict[str, Any]:
    return {
        "task_id": rollout.task_id,
        "sample": rollout.sample,
        "status": rollout.status,
        "score": rollout.score,
    }
