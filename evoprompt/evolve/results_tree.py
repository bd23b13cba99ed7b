"""The results tree of a search: written as it goes, and made anew from the journal at any time."""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from pkgutil import resolve_name
from typing import Any

import dspy

from evoprompt.atomic import write_json
from evoprompt.candidate import Candidate
from evoprompt.errors import DataError, EvoPromptError, UsageError
from evoprompt.evaluate import Evaluation, evaluate_jobs
from evoprompt.evolve import events
from evoprompt.evolve.facts import Shown, shown
from evoprompt.evolve.records import BatchRecord, DevRecord, Results
from evoprompt.evolve.state import History, diagnoses
from evoprompt.judges import CodeJudge, Judge, Rollout, judge_of, tasks_for
from evoprompt.lm.budget import APART, Budget
from evoprompt.lm.identity import state_of
from evoprompt.metric import CodeMetric
from evoprompt.rollout import Job, Runner
from evoprompt.runs import Journal, ResultsTree, Run
from evoprompt.runs.damage import as_written, reading
from evoprompt.secrets import mask
from evoprompt.tasks import Task, slug

logger = logging.getLogger("evoprompt")

TEST = "test"
"""Kind of a journal's steps that are evaluations on the test set."""
SUITE = {"status", "passed", "total"}
"""Fields of a suite's result that are shown."""


def note_workers(tree: ResultsTree, judge: Judge) -> None:
    """Write into the log of events what the workers of a cluster did so far, where they judge.

    No other file tells of them, so that all others are the same wherever a run is done.
    """
    usage = judge.metric.harness.usage if isinstance(judge, CodeJudge) else None
    if usage is not None:
        tree.event("workers", **usage.facts())


def export(run: Run) -> None:
    """Write the results tree of a run anew.

    Raises:
        DataError: The journal holds no search that has begun.
        StorageError: A file can't be written.
    """
    seed, config = run.journal.meta("seed"), run.journal.meta("config")
    if seed is None:
        raise DataError(f"{str(run.root)!r}: no search was begun in this run")
    if config is not None:
        begun = run.journal.fact("config")
        with reading("the fact 'config'", run.journal.path):
            who = {k: v for k, v in begun["options"].items() if k == "optimizer"}
            who |= {k: bool(v) for k, v in begun.items() if k == "simulated"}
        run.tree.json("config.json", begun)
        run.tree.summary(**who)
    sizes = {k: v for k, v in run.journal.fact("sizes").items() if k in ("train_tasks", "dev_tasks")}
    run.tree.summary(status="running", error=None, **sizes)
    with reading("the fact 'seed'", run.journal.path):
        history = History(Candidate.model_validate_json(seed))
        history.seed.instruction  # noqa: B018  # there is one
    write = TreeWriter(run.tree, run.journal, anew=True)
    tests: dict[str, float | None] = {}
    with reading("a step", run.journal.path):
        for kind, body in run.journal.steps():
            if kind == TEST:
                tested = DevRecord.model_validate(body)
                write.restored(test_file(body["name"]), tested)
                tests[body["name"]] = tested.evaluation.score
            elif (record := history.step(kind, body)) is not None:
                write(events.restored(record, history))
        write(events.Finished(history.results()))
    told = {"status": "running"} | run.journal.fact("ending")
    if (reason := run.journal.meta("ended_by")) is not None:
        told["ended_by"] = reason
    run.tree.summary(**told, **({"test_scores": tests} if tests else {}))


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
    known = run.journal.fact("tasks")
    for task in tasks:
        if known.setdefault(task.task_id, shown(task)).get("key") != task.key:
            raise UsageError(f"another task of this run has the id {task.task_id!r}: give each example its own")
    run.journal.keep_meta("tasks", json.dumps(known))
    runner = Runner(program, judge, journal=run.journal, num_threads=num_threads, label=APART)
    evaluation = evaluate_jobs(runner, [Job(candidate, task) for task in tasks], on_done=on_done)
    note_workers(run.tree, judge)
    ids = tuple(t.task_id for t in tasks)
    record = DevRecord(epoch=0, batch=0, candidate=candidate, tasks=ids, evaluation=evaluation)
    run.journal.keep_step(TEST, name, {"name": name, **record.step()})
    TreeWriter(run.tree, run.journal).evaluation(test_file(name), record)
    return evaluation


@contextlib.contextmanager
def ending(run: Run) -> Iterator[None]:
    """Write how a run ended, however it does."""
    try:
        yield
    except BaseException as e:
        status = "interrupted" if isinstance(e, KeyboardInterrupt) else "paused"
        error = mask(str(e)) or ("stopped by a signal" if status == "interrupted" else type(e).__name__)
        logger.info("%s: %s", status, error)
        with contextlib.suppress(EvoPromptError):
            _end(run.tree, run.journal, status=status, error=error)
            resolve_name("evoprompt.report:keep_report")(run.root, run.journal)  # by name: it stands above
        raise
    logger.info("finished")
    _end(run.tree, run.journal, status="finished", error=None)


def _end(tree: ResultsTree, journal: Journal, **told: Any) -> None:
    journal.keep_meta("ending", json.dumps(told))
    tree.summary(**told, spent=_spent(journal))


def _spent(journal: Journal) -> dict[str, Any]:
    return {role: asdict(spent) for role, spent in journal.spent().items()}


def test_file(name: str) -> str:
    """Path of an evaluation on the test set, below the run's directory."""
    return f"test_evaluation/{name}/test_evaluation.json"


class TreeWriter:
    """A listener that keeps the results tree true after every event.

    Args:
        tree: The run's directory.
        journal: Its journal, begun and prepared.
        anew: Write also what is there already, and no events: they were told when they happened.
    """

    def __init__(self, tree: ResultsTree, journal: Journal, *, anew: bool = False) -> None:
        self._tree, self._journal, self._anew = tree, journal, anew
        with reading("the fact 'tasks'", journal.path):
            self._tasks = {i: Shown(**fields) for i, fields in journal.fact("tasks").items()}
        self._best: Candidate | None = None

    def __call__(self, event: events.Event) -> None:
        """Write what the event tells."""
        if not self._anew:
            self._note(event)
        if isinstance(event, events.Started):
            sizes = {"train_tasks": event.train_tasks, "dev_tasks": event.dev_tasks}
            self._tree.summary(status="running", error=None, **sizes)
            if not self._anew:
                self._journal.keep_meta("ending", "{}")  # that of an earlier process
                self._note_budget(event.options.budget)
            if not event.steps:
                self._write_best(event.seed)
        elif isinstance(event, events.BatchDone):
            self._batch(event.record)
        elif isinstance(event, events.DevDone):
            self.evaluation(_dev_file(event.record), event.record)
        elif isinstance(event, events.Restored):
            record = event.record
            if isinstance(record, BatchRecord):
                self._restored_batch(record)
            else:
                self.restored(_dev_file(record), record)
        decided = events.BatchDone | events.DevDone | events.Confirmed
        if isinstance(event, decided | events.CaughtUp | events.Finished | events.Interrupted):
            self._state(event.results)
        if isinstance(event, events.Finished) and not self._anew:
            self._journal.keep_meta("ended_by", event.spent or "all batches are done")
            self._tree.summary(ended_by=event.spent or "all batches are done")
            _end(self._tree, self._journal, status="finished", error=None)

    def _note_budget(self, budget: Budget) -> None:
        """Keep the budgets that the run was begun with, and went on with."""
        with reading("the fact 'budgets'", self._journal.path):
            given = [Budget(**limits) for limits in self._journal.fact("budgets").get("given", [])]
        if budget not in given[-1:]:
            plain = [{k: v for k, v in asdict(one).items() if v is not None} for one in (*given, budget)]
            self._journal.keep_meta("budgets", json.dumps({"given": plain}))

    def _restored_batch(self, record: BatchRecord) -> None:
        """Write a batch of an earlier process, which may have been killed before it did."""
        if self._lacks(f"{_folder(record)}/batch_results.json"):
            lost = {(r.candidate, r.task_id): r for r in record.unmeasured}
            # A factorial batch asks each task with a prompt of its own, and none with the child.
            asked = [(t.candidate, t.task_id, 0) for t in record.tried]
            before = self._rollouts(asked or [(record.parent.key, t, 0) for t in record.tasks])
            child = record.child.key if record.child and not asked else ""
            after = self._rollouts((child, t, 0) for t in record.tasks if child)
            before, after = (tuple(lost.get((r.candidate, r.task_id), r) for r in side) for side in (before, after))
            found = diagnoses(self._journal, record)
            self._batch(record.model_copy(update={"rollouts": before, "child_rollouts": after, "diagnosed": found}))

    def restored(self, name: str, record: DevRecord) -> None:
        """Write an evaluation of an earlier process, which may have been killed before it did."""
        if self._lacks(name):
            rollouts = self._rollouts((record.candidate.key, t, record.samples.get(t, 0)) for t in record.tasks)
            told = record.evaluation.model_copy(update={"rollouts": rollouts})
            self.evaluation(name, record.model_copy(update={"evaluation": told}))

    def _batch(self, record: BatchRecord) -> None:
        folder = _folder(record)
        explained = {d.task_id: d.model_dump(exclude={"task_id"}) for d in record.diagnosed}
        children = {r.task_id: self._row(r) for r in record.child_rollouts}
        for rollout in record.rollouts:
            more = {"diagnosis": explained.get(rollout.task_id), "with_proposal": children.get(rollout.task_id)}
            self._task(folder, rollout.task_id, self._row(rollout) | more)
        # Last, so that where it stands the rest does.
        self._tree.json(
            f"{folder}/batch_results.json",
            {
                **record.model_dump(
                    exclude={"rollouts", "child_rollouts", "diagnosed", "entry", "evaluation", "unmeasured"}
                ),
                "parent_id": record.parent.key,
                "child_id": record.child.key if record.child else None,
                "evaluation": record.evaluation.summary(),
                "rollouts": [_brief(r) for r in record.rollouts],
                "child_rollouts": [_brief(r) for r in record.child_rollouts],
            },
        )

    def evaluation(self, name: str, record: DevRecord) -> None:
        """Write an evaluation's tasks, and its summary to `name` beside them."""
        by_task: dict[str, list[dict[str, Any]]] = {}
        for rollout in record.evaluation.rollouts:
            by_task.setdefault(rollout.task_id, []).append(self._row(rollout))
        for task_id, (first, *more) in by_task.items():
            self._task(name.rpartition("/")[0], task_id, {**first, "more_samples": more} if more else first)
        who = {"candidate": record.candidate.model_dump(), "candidate_id": record.candidate.key}
        rollouts = [_brief(r) for r in record.evaluation.rollouts]
        self._tree.json(name, {**who, **record.evaluation.summary(), "rollouts": rollouts})

    def _state(self, results: Results) -> None:
        self._tree.json(
            "training/prompt_evolution.json",
            {
                "best": results.best.key,
                "effect_unit": "points: percent of the training tasks that are solved with the sentence, minus without",
                "rules": [rule.model_dump(exclude={"kept", "replaces"}) for rule in results.rules],
                "prompts": [e.model_dump() for e in results.evolution],
            },
        )
        self._write_best(results.best)
        if results.confirmation is not None:
            told = results.confirmation.model_dump(exclude={"candidate"})
            told = {"candidate_id": results.confirmation.candidate.key, **told}
            self._tree.json("training/confirmation.json", told)
        else:  # batches of a larger budget have gone on after it
            self._tree.remove("training/confirmation.json")
        start, last_word = results.dev.get(results.seed.key), results.confirmation
        names = {"word", "p_better", "gain", "interval"}
        self._tree.summary(
            decision=last_word.model_dump(include=names) if last_word is not None else None,
            batches_done=len(results.batches),
            improved=results.best.key != results.seed.key,
            scored_dev_tasks=start.tasks if start else None,
            start_dev_score=start.score if start else None,
            best_dev_score=results.best_dev_score,
            best=results.best.key,
            spent=_spent(self._journal),
        )
        last = results.batches[-1] if results.batches else None
        current = next((b.child for b in reversed(results.batches) if b.accepted and b.child), results.seed)
        reached = {"epoch": last.epoch, "batch": last.batch} if last else {"epoch": 0, "batch": 0}
        prompts = {"current": current.model_dump(), "best": results.best.model_dump()}
        done = {"best_dev_score": results.best_dev_score, "batches_done": len(results.batches)}
        self._tree.json("training/checkpoints/latest.json", {**reached, **prompts, **done})

    def _write_best(self, best: Candidate) -> None:
        if best == self._best:
            return
        state = self._journal.fact("program")
        for name, text in best.instructions:
            state_of(state, name)["signature"]["instructions"] = text
        for name, demos in best.demos:
            found = state_of(state, name)
            found["demos"] = [*found["demos"], *(demo.fields for demo in demos)]
        write_json(self._tree.program, state)
        self._tree.text("training/final_prompt.txt", best.told)
        self._best = best  # only now: Ctrl-C may have come between the two files

    def _rollouts(self, asked: Iterable[tuple[str, str, int]]) -> tuple[Rollout, ...]:
        """The journal's rollouts of candidates, tasks and samples, without those that it doesn't know."""
        found = []
        for candidate, task_id, sample in asked:
            body = self._journal.rollout(candidate, self._tasks[task_id].key, sample, measured=False)
            found += [as_written(Rollout, body, self._journal.path)] if body else []
        return tuple(found)

    def _lacks(self, name: str) -> bool:
        return self._anew or not os.path.exists(f"{self._tree.root}/{name}")  # noqa: PTH110 (a third of the time)

    def _task(self, folder: str, task_id: str, row: dict[str, Any]) -> None:
        self._tree.json(f"{folder}/individual_tasks/{slug(task_id)}.json", {"task_id": task_id, **row})

    def _row(self, rollout: Rollout) -> dict[str, Any]:
        """One rollout for people: the problem, the answer, the verdict, and every failing case with its test."""
        report, task = rollout.report, self._tasks[rollout.task_id]
        if rollout.output:
            fields = {"sample", "status", "score", "output", "feedback", "fault", "error", "steps"}
            return {"prompt": task.prompt, "candidate_id": rollout.candidate, **rollout.model_dump(include=fields)}
        return {
            "prompt": task.prompt,
            "entry_point": task.interface,
            "candidate_id": rollout.candidate,
            "sample": rollout.sample,
            "status": rollout.status,
            "score": rollout.score,
            "code": rollout.code,
            "fault": rollout.fault,
            "error": rollout.error or (report.detail if report else ""),
            "base": report.base.model_dump(include=SUITE) if report and report.base else None,
            "plus": report.plus.model_dump(include=SUITE) if report and report.plus else None,
            "failing_cases": [c.model_dump() for c in report.failures] if report else [],
            "sandbox_tier": report.tier if report else "",
            **rollout.model_dump(include={"steps"}),
        }

    def _note(self, event: events.Event) -> None:
        """One line for programs that watch."""
        if isinstance(event, events.Started):
            self._tree.event("started", tasks=event.train_tasks, dev_tasks=event.dev_tasks, batches=event.batches)
        elif isinstance(event, events.RolloutDone):
            told = event.rollout
            facts = _brief(told) | {"candidate": told.candidate, "fault": told.fault, "error": told.error}
            self._tree.event("rollout", **facts)
        elif isinstance(event, events.BatchDone):
            record = event.record
            facts = record.model_dump(include={"epoch", "batch", "accepted", "reason", "parent_score", "child_score"})
            self._tree.event("batch", **facts, parent=record.parent.key, child=record.child and record.child.key)
        elif isinstance(event, events.DevDone):
            dev, score = event.record, event.record.evaluation.score
            self._tree.event("dev", epoch=dev.epoch, batch=dev.batch, candidate=dev.candidate.key, score=score)
        elif isinstance(event, events.Finished | events.Interrupted):
            how = "finished" if isinstance(event, events.Finished) else "interrupted"
            self._tree.event(how, best=event.results.best.key, dev_score=event.results.best_dev_score)


def _folder(record: BatchRecord) -> str:
    return f"training/epochs/epoch_{record.epoch}/batch_{record.batch}"


def _dev_file(record: DevRecord) -> str:
    return f"dev_evaluation/epoch_{record.epoch}/batch_{record.batch}/dev_evaluation.json"


def _brief(rollout: Rollout) -> dict[str, Any]:
    return rollout.model_dump(include={"task_id", "sample", "status", "score"})
