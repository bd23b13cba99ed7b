"""The `refine` strategy: one instruction after the other, a batch at a time."""

from __future__ import annotations

import hashlib
import logging
import random
from collections.abc import Sequence

from evoprompt.candidate import Candidate
from evoprompt.errors import BudgetSpent
from evoprompt.evaluate import summarize
from evoprompt.evolve.advise import Advice, Roles
from evoprompt.evolve.history import BATCH, DEV, HEAVY, History, dev_event, dev_step, keep_diagnoses
from evoprompt.evolve.judgement import Comparison, accepts, compare, screen
from evoprompt.evolve.options import Options
from evoprompt.evolve.record import (
    BatchDone,
    BatchRecord,
    BatchRestored,
    CaughtUp,
    DevDone,
    DevRestored,
    EvolutionEntry,
    Finished,
    Listener,
    RolloutDone,
    Started,
    Working,
)
from evoprompt.evolve.triage import cluster
from evoprompt.lm.calls import ABOUT_THE_REQUEST
from evoprompt.rollout import Job, Rollout, Runner, require_measured
from evoprompt.tasks import Task
from signatures import Attempt

logger = logging.getLogger("evoprompt")

MAX_ATTEMPTS = 6


class Refine:
    """One search. Its state is complete after every step, so a stop at any moment leaves a best candidate.

    Args:
        seed: The instruction to start from.
        roles: Serves the debugger and the optimizer.
        runner: Runs the rollouts; its journal knows the steps of an earlier process.
        options: How to search.
        listener: Is told of every event.

    Attributes:
        history: What led where.
    """

    def __init__(self, seed: Candidate, roles: Roles, runner: Runner, options: Options, listener: Listener) -> None:
        self.history = History(seed)
        self._runner, self._options, self._tell = runner, options, listener
        self._advice = Advice(roles, runner, options)
        self._journal = runner.journal
        self._where = ""
        self._behind = False

    def run(self, train: Sequence[Task], dev: Sequence[Task]) -> None:
        """Search until the epochs are over, or the budget.

        Raises:
            ModelError: The model refuses us, or too much of a batch got no answer.
            SandboxError: The sandbox failed for too much of a batch.
        """
        plan = batches(len(train), self._options)
        known = self._journal.counts()
        self._behind = bool(known["steps"])
        self._tell(
            Started(self._options, self.history.seed, len(train), len(dev), len(plan), known["steps"], known["answers"])
        )
        spent = ""
        try:
            self._evaluate(dev, 0, 0)
            for number, (epoch, batch, places) in enumerate(plan, 1):
                self._batch(epoch, batch, [train[i] for i in places])
                if number % self._options.eval_interval == 0 or number == len(plan):
                    self._evaluate(dev, epoch, batch)
        except BudgetSpent as e:
            logger.warning("%s: the search ends with the best prompt so far", e)
            spent = str(e)
        self._tell(Finished(self.history.results(), spent))

    def _batch(self, epoch: int, batch: int, tasks: list[Task]) -> None:
        key = f"{epoch}.{batch}.{self.history.current.key}.{digest(tasks)}"
        known = self._journal.step(BATCH, key)
        if known is not None:
            record = BatchRecord.model_validate(known)
            self.history.batch(record)
            self._tell(BatchRestored(record))
            return
        self._catch_up()
        self._where = f"epoch {epoch} batch {batch}: "
        rollouts = self._roll("current prompt", self.history.current, tasks)
        require_measured(rollouts, self._options.max_unmeasured)
        ids = tuple(t.task_id for t in tasks)
        result = summarize(rollouts).model_copy(update={"rollouts": ()})
        record = self._improve(
            BatchRecord(
                epoch=epoch, batch=batch, parent=self.history.current, tasks=ids, evaluation=result, rollouts=rollouts
            ),
            tasks,
        )  # fmt: skip
        keep_diagnoses(self._journal, record)
        lost = tuple(r for r in (*record.rollouts, *record.child_rollouts) if not r.measured)
        record = record.model_copy(update={"unmeasured": lost})
        self._journal.keep_step(BATCH, key, record.model_dump(mode="json", exclude=HEAVY))
        logger.info(
            "epoch %d batch %d: batch %s; %s",
            epoch, batch, result, record.reason,
        )  # fmt: skip
        self.history.batch(record)
        self._tell(BatchDone(record, self.history.results()))

    def _improve(self, record: BatchRecord, tasks: list[Task]) -> BatchRecord:
        failed = [r for r in record.rollouts if r.score is not None and r.score < 1]
        if not failed:
            return record.model_copy(update={"reason": "nothing failed, nothing to propose"})
        self._tell(Working(f"{self._where}explaining {len(failed)} failures"))
        diagnosed = self._advice.diagnose(failed, tasks)
        groups = tuple(cluster([d.diagnosis for d in diagnosed]))
        record = record.model_copy(update={"diagnosed": diagnosed, "groups": groups})
        if not groups:
            return record.model_copy(update={"reason": "no failure could be diagnosed"})
        self._tell(Working(f"{self._where}rewriting the prompt"))
        proposal = self._advice.propose(record.parent.instruction, groups, self._attempts())
        known = [e.instruction for e in self.history.entries]
        problem = screen(proposal, known, tasks, self._options.max_instruction_chars)
        if problem is not None:
            reason = f"proposal rejected: {problem}"
            entry = self._entry(record, record.parent.child(proposal), False, reason, None) if proposal else None
            return record.model_copy(update={"reason": reason, "entry": entry})
        child = record.parent.child(proposal)
        rollouts = self._roll("proposed prompt", child, tasks)
        # What a proposal does to its own replies is no outage: such a one is rejected below.
        require_measured([r for r in rollouts if r.fault not in ABOUT_THE_REQUEST], self._options.max_unmeasured)
        comparison = compare(record.rollouts, rollouts)
        accepted, reason = accepts(comparison, self._options.accept)
        if comparison.paired_tasks < (1 - self._options.max_unmeasured) * len(tasks):
            accepted, reason = False, f"only {comparison.paired_tasks} of {len(tasks)} tasks could be compared"
        return record.model_copy(
            update={
                "child": child, "child_rollouts": rollouts, "accepted": accepted, "reason": reason,
                "entry": self._entry(record, child, accepted, reason, comparison),
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

    def _attempts(self) -> list[Attempt]:
        return [
            Attempt(
                instruction=e.instruction,
                score=e.batch_score,
                parent_score=e.parent_batch_score,
                accepted=e.accepted,
            )
            for e in self.history.entries[-MAX_ATTEMPTS:]
            if e.parent is not None
        ]

    def _evaluate(self, dev: Sequence[Task], epoch: int, batch: int) -> None:
        candidate = self.history.current
        if not dev or self.history.evaluated(candidate):
            return
        key = f"{epoch}.{batch}.{candidate.key}.{digest(dev)}"
        known = self._journal.step(DEV, key)
        if known is not None:
            event, scores = dev_event(known)
            self.history.dev(candidate, event.evaluation, scores)
            self._tell(event)
            return
        self._catch_up()
        rollouts = self._roll("dev set", candidate, dev)
        require_measured(rollouts, self._options.max_unmeasured)
        if not all(r.measured for r in rollouts):
            rollouts = self._roll("dev set", candidate, dev)  # once more; what was measured is not run again
        evaluation = summarize(rollouts)
        scores = {r.task_id: r.score for r in rollouts if r.score is not None}
        where = (epoch, batch, candidate, tuple(t.task_id for t in dev), evaluation)
        self._journal.keep_step(DEV, key, dev_step(DevRestored(*where), scores))
        self.history.dev(candidate, evaluation, scores)
        logger.info("epoch %d batch %d: dev %s", epoch, batch, evaluation)
        self._tell(DevDone(*where, self.history.results()))

    def _catch_up(self) -> None:
        """Tell how far earlier processes came, before this one may fail."""
        if self._behind:
            self._behind = False
            self._tell(CaughtUp(self.history.results()))

    def _roll(self, what: str, candidate: Candidate, tasks: Sequence[Task]) -> tuple[Rollout, ...]:
        self._tell(Working(f"{self._where}{what}", len(tasks)))
        done = 0

        def count(rollout: Rollout) -> None:
            nonlocal done
            done += 1
            self._tell(RolloutDone(done, len(tasks), rollout))

        return tuple(self._runner.run([Job(candidate, t) for t in tasks], count))


def digest(tasks: Sequence[Task]) -> str:
    """Content hash of tasks in their order."""
    return hashlib.sha256(" ".join(t.key for t in tasks).encode()).hexdigest()[:12]


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
