"""Base class for a search of your own, and the steps that it is made of."""

from __future__ import annotations

import hashlib
import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from evoprompt.candidate import Candidate
from evoprompt.errors import UsageError
from evoprompt.evaluate import summarize
from evoprompt.evolve.advise import blamed
from evoprompt.evolve.factorial.scaffold import with_base
from evoprompt.evolve.options import Options
from evoprompt.evolve.records import BatchRecord, Diagnosed, EvolutionEntry
from evoprompt.evolve.refine import compare, screen
from evoprompt.evolve.search import Search, digest
from evoprompt.evolve.state import BATCH
from evoprompt.evolve.triage import cluster
from evoprompt.judges import Rollout
from evoprompt.rollout import Job, require_measured
from evoprompt.runs.damage import reading
from evoprompt.tasks import Task

SOLVED, REWRITTEN = "solved", "rewritten"
"""Kinds of a journal's steps: what else than answers a search has decided by."""


class OwnSearch(Search, ABC):
    """Define `search`, and give the class to `EvoPrompt(metric, strategy=MySearch)`.

    Nothing has to be kept: a search that was stopped walks its way again, and its steps give it what they gave it then,
    for nothing. So it must decide by its steps, its options and the tasks alone; random numbers come from
    `random.Random(self.options.seed)`. A budget ends it inside any step, with the best so far.
    """

    _explained: tuple[Diagnosed, ...] = ()

    @abstractmethod
    def search(self, train: Sequence[Task], dev: Sequence[Task]) -> str | None:
        """Search.

        The result is the instruction that scored best of those that were `evaluate`d; where there are no dev tasks, the
        current one.

        Returns:
            Why it ended, for people; None where there is nothing to say.
        """

    @property
    def options(self) -> Options:
        """The options of the search."""
        return self._options

    @property
    def current(self) -> Candidate:
        """The instruction that was accepted last; at first the student's own."""
        return self.history.current

    def solve(self, candidate: Candidate, tasks: Sequence[Task], sample: int = 0) -> tuple[Rollout, ...]:
        """One rollout of each task; `sample` tells those of one task and instruction apart.

        Raises:
            ModelError, SandboxError: Too many of them could not be measured.
        """
        jobs = [Job(candidate, task, sample) for task in tasks]
        rollouts: tuple[Rollout, ...] = ()

        def made() -> dict[str, Any]:
            nonlocal rollouts
            rollouts = self._roll("solutions", jobs)
            require_measured(rollouts, self.options.max_unmeasured)
            return {"unmeasured": [r.model_dump(mode="json") for r in rollouts if not r.measured]}

        body = self._once(SOLVED, f"{candidate.key}.{digest(tasks)}.{sample}", made)
        with reading("a step of a search", self._journal.path):
            lost = {r.task_id: r for r in map(Rollout.model_validate, body["unmeasured"])}
        again = iter(() if rollouts else self._runner.run([j for j in jobs if j.task.task_id not in lost]))
        return rollouts or tuple(lost.get(j.task.task_id) or next(again) for j in jobs)

    def score(self, rollouts: Sequence[Rollout]) -> float:
        """Their mean score in [0, 1]; what was not measured does not count. 0 where nothing was."""
        scores = [r.score for r in rollouts if r.score is not None]
        return math.fsum(scores) / max(1, len(scores))

    def rewrite(self, parent: Candidate, rollouts: Sequence[Rollout], tasks: Sequence[Task]) -> Candidate | None:
        """Have failures explained, and an instruction written that avoids them.

        Of several predictors, it is that of the one which is to blame for most.

        Args:
            parent: The instruction to rewrite.
            rollouts: What it made of the tasks.
            tasks: These tasks.

        Returns:
            The new one; None where nothing failed, or where it is none: empty, too long, tried before, or a task's own.
        """

        def made() -> dict[str, Any]:
            failed = [r for r in rollouts if r.score is not None and r.score < 1]
            found = self._advice.diagnose(failed, tasks) if failed else ()
            blame, groups = next(iter(blamed(found).items()), ("", []))
            blame = blame or parent.instructions[0][0]
            text = self._advice.propose(dict(parent.instructions)[blame], groups, []) if groups else ""
            text = text and with_base(text, dict(self.history.seed.instructions)[blame], self.options.lock)
            return {"predictor": blame, "text": text, "diagnosed": [d.model_dump(mode="json") for d in found]}

        body = self._once(REWRITTEN, f"{parent.key}.{_digest(rollouts)}", made)
        with reading("a step of a search", self._journal.path):
            self._explained = tuple(map(Diagnosed.model_validate, body["diagnosed"]))
            child = parent.changed({body["predictor"]: body["text"]})
            start = dict(self.history.seed.instructions)[body["predictor"]]
        known = [entry.instruction for entry in self.history.entries]
        refused = screen(body["text"], known, tasks, self.options.longest(start), child.told)
        return child if refused is None else None

    def decide(
        self, before: Sequence[Rollout], child: Candidate, after: Sequence[Rollout], *, accepted: bool, reason: str
    ) -> None:
        """Write down what became of a new instruction. One that is accepted is the current one now.

        Args:
            before: What the current instruction made of some tasks.
            child: The new one.
            after: What that made of the same.
            accepted: Whether it takes the place of the current one.
            reason: Why, for people.
        """
        parent, batch, found = self.current, self._batches() + 1, compare(before, after)
        key = f"{batch}.{parent.key}.{child.key}.{_digest((*before, *after))}.{accepted:d}"
        if self._restored(BATCH, key):
            return
        self._catch_up()
        groups = tuple(cluster([d.diagnosis for d in self._explained]))
        entry = EvolutionEntry.of(
            child, parent=parent.key, generation=child.generation, epoch=1, batch=batch, proposed_because=groups,
            accepted=accepted, reason=reason, batch_score=found.child_score, parent_batch_score=found.parent_score,
        )  # fmt: skip
        record = BatchRecord(
            epoch=1, batch=batch, parent=parent, tasks=tuple(r.task_id for r in before),
            evaluation=summarize(before).model_copy(update={"rollouts": ()}), rollouts=tuple(before),
            diagnosed=self._explained, groups=groups, child=child, child_rollouts=tuple(after),
            paired_tasks=found.paired_tasks, parent_score=found.parent_score, child_score=found.child_score,
            accepted=accepted, reason=reason, entry=entry,
        )  # fmt: skip
        self._kept_batch(record, key)

    def evaluate(self, dev: Sequence[Task]) -> float | None:
        """Measure the current instruction on the dev tasks; percent, or None where there are none."""
        batch = self._batches()
        self._evaluate(dev, min(1, batch), batch)
        found = self.history.results().dev.get(self.current.key)
        return None if found is None else found.score

    def _once(self, kind: str, key: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Make a step, or return what the journal has of it."""
        self._times[kind, key] += 1
        key = f"{key}.{self._times[kind, key]}"
        known = self._journal.step(kind, key)
        if known is None:
            self._catch_up()
            known = make()
            self._journal.keep_step(kind, key, known)
        return known

    def _batches(self) -> int:
        return len(self.history.results().batches)

    def _planned(self, tasks: int) -> int:
        return 0

    def _search(self, train: Sequence[Task], dev: Sequence[Task]) -> str:
        self._times = Counter[tuple[str, str]]()
        ended: Any = self.search(train, dev)
        if not isinstance(ended, str | None):
            name = type(self).__qualname__
            raise UsageError(f"strategy {name}: search(train, dev) must return why it ended, or None, not {ended!r}")
        return ended or ""


def _digest(rollouts: Sequence[Rollout]) -> str:
    told = [(r.candidate, r.task_id, r.sample, r.score) for r in rollouts]
    return hashlib.sha256(repr(told).encode()).hexdigest()[:12]
