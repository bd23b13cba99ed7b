"""The `refine` strategy: one instruction after the other, a batch at a time."""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence

from evoprompt.candidate import Candidate
from evoprompt.evaluate import Evaluation, summarize
from evoprompt.evolve.judgement import Comparison, accepts, compare, screen
from evoprompt.evolve.options import Options
from evoprompt.evolve.record import (
    BatchDone,
    BatchRecord,
    DevDone,
    Diagnosed,
    EvolutionEntry,
    Listener,
    Results,
    RolloutDone,
    Started,
    Working,
)
from evoprompt.evolve.triage import cluster, triage
from evoprompt.metric import failures_of
from evoprompt.program import Program, ask
from evoprompt.rollout import Job, Rollout, Runner, require_measured
from evoprompt.tasks import Task
from signatures import Attempt, Diagnosis, FailureGroup

logger = logging.getLogger("evoprompt")

MAX_ATTEMPTS = 6


class Refine:
    """One search. Its state is complete after every batch, so a stop at any moment leaves a best candidate.

    Args:
        seed: The instruction to start from.
        roles: Serves `debug` and `propose`.
        runner: Runs the rollouts.
        options: How to search.
        listener: Is told of every event.
    """

    def __init__(self, seed: Candidate, roles: Program, runner: Runner, options: Options, listener: Listener) -> None:
        self.seed, self.current = seed, seed
        self._roles, self._runner, self._options, self._tell = roles, runner, options, listener
        self._batches: list[BatchRecord] = []
        self._entries: dict[str, EvolutionEntry] = {
            seed.key: EvolutionEntry(id=seed.key, instruction=seed.instruction, reason="the student's own")
        }
        self._candidates: dict[str, Candidate] = {seed.key: seed}
        self._dev: dict[str, Evaluation] = {}
        self._where = ""

    def run(self, train: Sequence[Task], dev: Sequence[Task]) -> None:
        """Search until the epochs are over.

        Raises:
            ModelError: The model refuses us, or too much of a batch got no answer.
            SandboxError: The sandbox failed for too much of a batch.
        """
        plan = batches(len(train), self._options)
        self._tell(Started(self._options, self.seed, len(train), len(dev), len(plan)))
        self._evaluate(dev, 0, 0)
        for number, (epoch, batch, places) in enumerate(plan, 1):
            self._batch(epoch, batch, [train[i] for i in places])
            if number % self._options.eval_interval == 0 or number == len(plan):
                self._evaluate(dev, epoch, batch)

    @property
    def best(self) -> Candidate:
        """The best candidate so far: by dev score, ties to the shorter; without a dev set, the current one.

        Scores are compared on the dev tasks that were measured with every candidate.
        """
        scores = {k: {r.task_id: r.score for r in e.rollouts if r.score is not None} for k, e in self._dev.items()}
        shared = set.intersection(*map(set, scores.values())) if scores else set()
        if not shared:
            return self.current
        totals = {k: sum(found[t] for t in sorted(shared)) for k, found in scores.items()}
        top = max(totals.values())
        return min((self._candidates[k] for k, total in totals.items() if total == top), key=lambda c: c.length)

    def results(self) -> Results:
        """The state of the search as plain data."""
        evolution = tuple(
            e.model_copy(update={"dev_score": self._dev[k].score if k in self._dev else None})
            for k, e in self._entries.items()
        )
        return Results(
            best=self.best,
            seed=self.seed,
            evolution=evolution,
            batches=tuple(self._batches),
            dev=dict(self._dev),
        )

    def _batch(self, epoch: int, batch: int, tasks: list[Task]) -> None:
        self._where = f"epoch {epoch} batch {batch}: "
        rollouts = self._roll("current prompt", self.current, tasks)
        require_measured(rollouts, self._options.max_unmeasured)
        record = self._improve(BatchRecord(epoch=epoch, batch=batch, parent=self.current, rollouts=rollouts), tasks)
        self._batches.append(record)
        if record.accepted and record.child is not None:
            self.current = record.child
        logger.info(
            "epoch %d batch %d: batch %s; %s",
            epoch, batch, summarize(rollouts), record.reason,
        )  # fmt: skip
        self._tell(BatchDone(record, self.results()))

    def _improve(self, record: BatchRecord, tasks: list[Task]) -> BatchRecord:
        failed = [r for r in record.rollouts if r.score is not None and r.score < 1]
        if not failed:
            return record.model_copy(update={"reason": "nothing failed, nothing to propose"})
        self._tell(Working(f"{self._where}explaining {len(failed)} failures"))
        diagnosed = self._diagnose(failed, {t.task_id: t for t in tasks})
        groups = tuple(cluster([d.diagnosis for d in diagnosed]))
        record = record.model_copy(update={"diagnosed": diagnosed, "groups": groups})
        if not groups:
            return record.model_copy(update={"reason": "no failure could be diagnosed"})
        self._tell(Working(f"{self._where}rewriting the prompt"))
        proposal = self._propose(record.parent, groups)
        known = [e.instruction for e in self._entries.values()]
        problem = screen(proposal, known, tasks, self._options.max_instruction_chars)
        if problem is not None:
            reason = f"proposal rejected: {problem}"
            if proposal:
                child = record.parent.child(proposal)
                self._entries.setdefault(child.key, self._entry(record, child, False, reason, None))
            return record.model_copy(update={"reason": reason})
        child = record.parent.child(proposal)
        rollouts = self._roll("proposed prompt", child, tasks)
        comparison = compare(record.rollouts, rollouts)
        accepted, reason = accepts(comparison, self._options.accept)
        if comparison.paired_tasks < (1 - self._options.max_unmeasured) * len(tasks):
            accepted, reason = False, f"only {comparison.paired_tasks} of {len(tasks)} tasks could be compared"
        self._candidates[child.key] = child
        self._entries[child.key] = self._entry(record, child, accepted, reason, comparison)
        return record.model_copy(
            update={
                "child": child, "child_rollouts": rollouts, "accepted": accepted, "reason": reason,
                "paired_tasks": comparison.paired_tasks,
                "parent_score": comparison.parent_score, "child_score": comparison.child_score,
            }
        )  # fmt: skip

    def _entry(
        self, record: BatchRecord, child: Candidate, accepted: bool, reason: str, comparison: Comparison | None
    ) -> EvolutionEntry:
        return EvolutionEntry(
            id=child.key,
            instruction=child.instruction,
            parent=record.parent.key,
            generation=child.generation,
            epoch=record.epoch,
            batch=record.batch,
            proposed_because=record.groups,
            accepted=accepted,
            reason=reason,
            batch_score=comparison.child_score if comparison else None,
            parent_batch_score=comparison.parent_score if comparison else None,
        )

    def _diagnose(self, failed: list[Rollout], tasks: dict[str, Task]) -> tuple[Diagnosed, ...]:
        found = self._runner.map(lambda r: self._one_diagnosis(r, tasks[r.task_id]), failed)
        return tuple(d for d in found if d is not None)

    def _one_diagnosis(self, rollout: Rollout, task: Task) -> Diagnosed | None:
        certain = triage(rollout)
        if certain is not None:
            return Diagnosed(task_id=task.task_id, by="program", diagnosis=certain)
        if rollout.report is None:
            return None
        failures = failures_of(rollout.report, task.prompt)
        diagnosis: Diagnosis | None = ask(
            lambda: self._roles.debug(prompt=task.prompt, code=rollout.code, failures=failures),
            f"debugger, task {task.task_id}",
        )
        if diagnosis is None:
            return None
        return Diagnosed(task_id=task.task_id, by="debugger", diagnosis=diagnosis)

    def _propose(self, parent: Candidate, groups: tuple[FailureGroup, ...]) -> str:
        attempts = [
            Attempt(
                instruction=e.instruction,
                score=e.batch_score,
                parent_score=e.parent_batch_score,
                accepted=e.accepted,
            )
            for e in list(self._entries.values())[-MAX_ATTEMPTS:]
            if e.parent is not None
        ]
        proposal = ask(
            lambda: self._roles.propose(
                current_instruction=parent.instruction, failures=list(groups), attempts=attempts
            ),
            "optimizer",
        )
        return proposal or ""

    def _evaluate(self, dev: Sequence[Task], epoch: int, batch: int) -> None:
        candidate = self.current
        if not dev or candidate.key in self._dev:
            return
        rollouts = self._roll("dev set", candidate, dev)
        require_measured(rollouts, self._options.max_unmeasured)
        if not all(r.measured for r in rollouts):
            rollouts = self._roll("dev set", candidate, dev)  # once more; what was measured is not run again
        evaluation = self._dev[candidate.key] = summarize(rollouts)
        logger.info("epoch %d batch %d: dev %s", epoch, batch, evaluation)
        self._tell(DevDone(epoch, batch, candidate, evaluation, self.results()))

    def _roll(self, what: str, candidate: Candidate, tasks: Sequence[Task]) -> tuple[Rollout, ...]:
        self._tell(Working(f"{self._where}{what}", len(tasks)))
        done = 0

        def count(rollout: Rollout) -> None:
            nonlocal done
            done += 1
            self._tell(RolloutDone(done, len(tasks), rollout))

        return tuple(self._runner.run([Job(candidate, t) for t in tasks], count))


def batches(tasks: int, options: Options) -> list[tuple[int, int, list[int]]]:
    """The plan of a search: `(epoch, batch, places of the tasks)`, both numbered from 1.

    Each epoch is a permutation of its own, derived from `(seed, epoch)` alone.
    """
    plan = []
    for epoch in range(1, options.epochs + 1):
        order = list(range(tasks))
        random.Random(f"batches:{options.seed}:{epoch}").shuffle(order)
        for batch, at in enumerate(range(0, tasks, options.batch_size), 1):
            plan.append((epoch, batch, order[at : at + options.batch_size]))
    return plan
