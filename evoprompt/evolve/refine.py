"""The `refine` strategy: one instruction after the other, a batch at a time."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from evoprompt.candidate import Candidate
from evoprompt.evaluate import summarize
from evoprompt.evolve.advise import blamed
from evoprompt.evolve.events import Working
from evoprompt.evolve.factorial.rules import leak
from evoprompt.evolve.factorial.scaffold import with_base
from evoprompt.evolve.options import Accept, Options
from evoprompt.evolve.records import BatchRecord, EvolutionEntry
from evoprompt.evolve.search import Search, digest
from evoprompt.evolve.state import BATCH
from evoprompt.judges import Rollout
from evoprompt.lm.calls import ABOUT_THE_REQUEST
from evoprompt.lm.words import plain
from evoprompt.rollout import Job, require_measured
from evoprompt.tasks import Task
from evoprompt.wording import counted
from signatures import Attempt

MAX_ATTEMPTS = 6


class Refine(Search):
    """The search of the original system: each batch may give one new instruction, compared with the one before."""

    def _planned(self, tasks: int) -> int:
        return len(batches(tasks, self._options))

    def _search(self, train: Sequence[Task], dev: Sequence[Task]) -> str:
        plan = batches(len(train), self._options)
        quiet = 0
        self._evaluate(dev, 0, 0)
        for number, (epoch, batch, places) in enumerate(plan, 1):
            before = self.history.current
            self._batch(epoch, batch, [train[i] for i in places])
            if number % self._options.eval_interval == 0 or number == len(plan):
                self._evaluate(dev, epoch, batch)
            quiet = quiet + 1 if self.history.current.key == before.key else 0
            if self._options.patience is not None and quiet >= self._options.patience:
                self._evaluate(dev, epoch, batch)
                return f"{counted(quiet, 'batch')} in a row changed nothing"
            reached = self.history.results().best_dev_score if self._options.target is not None else None
            if reached is not None and self._options.target is not None and reached >= self._options.target:
                return f"the dev score of {reached:.1f} % reaches the target"
        return ""

    def _batch(self, epoch: int, batch: int, tasks: list[Task]) -> None:
        key = f"{epoch}.{batch}.{self.history.current.key}.{digest(tasks)}"
        if self._restored(BATCH, key):
            return
        self._catch_up()
        self._where = f"epoch {epoch} batch {batch}: "
        rollouts = self._roll("current prompt", [Job(self.history.current, t) for t in tasks])
        require_measured(rollouts, self._options.max_unmeasured)
        ids = tuple(t.task_id for t in tasks)
        result = summarize(rollouts).model_copy(update={"rollouts": ()})
        record = BatchRecord(
            epoch=epoch, batch=batch, parent=self.history.current, tasks=ids, evaluation=result, rollouts=rollouts
        )
        self._kept_batch(self._improve(record, tasks), key)

    def _improve(self, record: BatchRecord, tasks: list[Task]) -> BatchRecord:
        failed = [r for r in record.rollouts if r.score is not None and r.score < 1]
        if not failed:
            return record.model_copy(update={"reason": "nothing failed, nothing to propose"})
        self._tell(Working(f"{self._where}explaining {counted(len(failed), 'failure')}"))
        diagnosed = self._advice.diagnose(failed, tasks)
        to_blame = blamed(diagnosed)
        groups = tuple(group for found in to_blame.values() for group in found)
        record = record.model_copy(update={"diagnosed": diagnosed, "groups": groups})
        if not groups:
            return record.model_copy(update={"reason": "no failure could be diagnosed"})
        self._tell(Working(f"{self._where}rewriting the prompt"))
        name, found = next(iter(to_blame.items()))
        name = name or self.history.seed.instructions[0][0]
        start = dict(self.history.seed.instructions)[name]
        text = dict(record.parent.instructions)[name]
        proposal = self._advice.propose(text, found, self._attempts(name))
        proposal = proposal and with_base(proposal, start, self._options.lock)
        child = record.parent.changed({name: proposal})
        known = [e.instruction for e in self.history.entries]
        problem = screen(proposal, known, tasks, self._options.longest(start), child.told)
        if problem is not None:
            reason = f"proposal rejected: {problem}"
            entry = self._entry(record, child, False, reason, None) if proposal else None
            return record.model_copy(update={"reason": reason, "entry": entry})
        rollouts = self._roll("proposed prompt", [Job(child, t) for t in tasks])
        # What a proposal does to its own replies is no outage: such a one is rejected below.
        require_measured([r for r in rollouts if r.fault not in ABOUT_THE_REQUEST], self._options.max_unmeasured)
        comparison = compare(record.rollouts, rollouts)
        accepted, reason = accepts(comparison, self._options.accept)
        if comparison.paired_tasks < (1 - self._options.max_unmeasured) * len(tasks):
            accepted, both = False, comparison.paired_tasks
            reason = f"only {both} of {counted(len(tasks), 'task')} could be compared"
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
        return EvolutionEntry.of(
            child,
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

    def _attempts(self, predictor: str) -> list[Attempt]:
        return [
            Attempt(
                instruction=dict(e.instructions).get(predictor, e.instruction),
                score=e.batch_score,
                parent_score=e.parent_batch_score,
                accepted=e.accepted,
            )
            for e in self.history.entries[-MAX_ATTEMPTS:]
            if e.parent is not None
        ]


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


def screen(
    proposal: str, known: Iterable[str], tasks: Iterable[Task], max_chars: int, whole: str | None = None
) -> str | None:  # fmt: skip
    """Say why a proposal is not worth trying, or None when it is.

    Args:
        proposal: The proposed instruction.
        known: Instructions that were tried already.
        tasks: The batch's tasks: what gives them away would be learnt by heart.
        max_chars: Longest instruction, in characters.
        whole: The prompt that it would be a part of, as `known` has it; by default it is the whole.
    """
    if not proposal.strip():
        return "the optimizer's reply holds no instruction"
    if len(proposal) > max_chars:
        return f"it has {len(proposal)} characters, more than {max_chars}"
    alike = plain(proposal if whole is None else whole)
    if any(alike == plain(k) for k in known):
        return "it was tried before"
    return leak(proposal, tasks)


@dataclass(frozen=True)
class Comparison:
    """Parent and child on the tasks that were measured with both.

    Attributes:
        paired_tasks: How many those are.
        parent_score: Percent solved by the parent; None without a paired task.
        child_score: Percent solved by the child.
    """

    paired_tasks: int
    parent_score: float | None
    child_score: float | None


def compare(parent: Sequence[Rollout], child: Sequence[Rollout]) -> Comparison:
    """Score both on the same tasks; what was not measured with both counts for neither."""
    before = {(r.task_id, r.sample): r.score for r in parent if r.score is not None}
    after = {(r.task_id, r.sample): r.score for r in child if r.score is not None}
    shared = [k for k in before if k in after]
    if not shared:
        return Comparison(0, None, None)
    return Comparison(
        paired_tasks=len(shared),
        # Exact: partial scores summed in another order must not look like an improvement.
        parent_score=100 * math.fsum(before[k] for k in shared) / len(shared),
        child_score=100 * math.fsum(after[k] for k in shared) / len(shared),
    )


def accepts(comparison: Comparison, rule: Accept) -> tuple[bool, str]:
    """Decide whether the child replaces its parent, and say why."""
    n, parent, child = comparison.paired_tasks, comparison.parent_score, comparison.child_score
    if parent is None or child is None:
        return False, "not measured"
    change = f"{parent:.1f} % to {child:.1f} % on {counted(n, 'task')}"
    if rule == "always":
        return True, f"accept=always: {change}"
    return (True, f"solves more: {change}") if child > parent else (False, f"does not solve more: {change}")
