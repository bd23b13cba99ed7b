"""Base of every search: runs rollouts, evaluates on the valset, tells its listener, ends when it must."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from evoprompt.candidate import Candidate
from evoprompt.errors import BudgetSpent
from evoprompt.evaluate import Evaluation, summarize
from evoprompt.evolve.advise import Advice, Roles
from evoprompt.evolve.events import (
    BatchDone,
    CaughtUp,
    Confirmed,
    DevDone,
    Finished,
    Interrupted,
    Listener,
    Restored,
    RolloutDone,
    Started,
    Working,
    restored,
)  # fmt: skip
from evoprompt.evolve.options import Options
from evoprompt.evolve.records import INTERRUPTED, BatchRecord, DevRecord, Results
from evoprompt.evolve.state import BATCH, DEV, HEAVY, History, keep_diagnoses, remembered
from evoprompt.judges import Rollout
from evoprompt.pool import StopAtOnce
from evoprompt.rollout import Job, Runner, require_measured
from evoprompt.runs.damage import reading
from evoprompt.tasks import Task

logger = logging.getLogger("evoprompt")

HOPELESS = 20
"""Solutions of which none has scored before a warning says so."""


class SearchInterrupted(KeyboardInterrupt):
    """The first Ctrl-C amid a search, when what was under way then is in the journal.

    Attributes:
        results: What is known.
    """

    def __init__(self, results: Results) -> None:
        super().__init__()
        self.results = results


class Search:
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

    _done = ""

    def __init__(self, seed: Candidate, roles: Roles, runner: Runner, options: Options, listener: Listener) -> None:
        self.history = History(seed)
        self._runner, self._options, self._tell = runner, options, listener
        self._advice = Advice(roles, runner, options)
        self._journal = runner.journal
        self._where = ""
        self._behind = False
        self._walked: list[tuple[str, str]] = []
        self._hopeless: int | None = 0

    def run(self, train: Sequence[Task], dev: Sequence[Task]) -> Results:
        """Search until the epochs are over, the budget, or there is nothing left to find.

        Raises:
            ModelError: The model refuses us, or too much of a batch got no answer.
            SandboxError: The sandbox failed for too much of a batch.
            SearchInterrupted: Ctrl-C. The second one raises another `KeyboardInterrupt`, at once.
        """
        try:
            return self._whole(train, dev)
        except StopAtOnce:
            raise
        except KeyboardInterrupt as e:
            # Ours may be amid a step, or, when it goes on from an earlier process, not yet where that one was.
            results = replace(remembered(self._journal, self.history.seed).results(), stopped=INTERRUPTED)
            self._tell(Interrupted(results))
            raise SearchInterrupted(results) from e

    def _whole(self, train: Sequence[Task], dev: Sequence[Task]) -> Results:
        known = self._journal.counts()
        self._behind = bool(known["steps"])
        sizes = (len(train), len(dev), self._planned(len(train)), known["steps"], known["answers"])
        self._tell(Started(self._options, self.history.seed, *sizes))
        ended = ""
        try:
            ended = self._search(train, dev)
        except BudgetSpent as e:
            logger.warning("%s: the search ends with the best prompt so far", e)
            ended = str(e)
            self._cut_short()
        self._journal.put_last(self._walked)
        results = replace(self.history.results(), stopped=ended)
        self._tell(Finished(results, ended or self._done))
        return results

    def _planned(self, tasks: int) -> int:
        """Return the largest number of batches; 0 if it is not known."""
        raise NotImplementedError

    def _search(self, train: Sequence[Task], dev: Sequence[Task]) -> str:
        """Search; says why it ended where that was before its last batch."""
        raise NotImplementedError

    def _cut_short(self) -> None:
        """The budget has ended the search: decide on what is known."""

    def _evaluate(self, dev: Sequence[Task], epoch: int, batch: int) -> None:
        candidate = self.history.current
        if not dev or self.history.evaluated(candidate):
            return
        key = f"{epoch}.{batch}.{candidate.key}.{digest(dev)}"
        if self._restored(DEV, key):
            return
        self._catch_up()
        jobs = [Job(candidate, task) for task in dev]
        rollouts = self._roll("dev set", jobs)
        require_measured(rollouts, self._options.max_unmeasured)
        if not all(r.measured for r in rollouts):
            rollouts = self._roll("dev set", jobs)  # once more; what was measured is not run again
        evaluation = self._kept_dev((epoch, batch, candidate), [t.task_id for t in dev], rollouts, key)
        logger.info("epoch %d batch %d: dev %s", epoch, batch, evaluation)

    def _restored(self, kind: str, key: str) -> Restored | Confirmed | None:
        """Go on from a step that an earlier process has made, and tell of it; None where there is none."""
        known = self._journal.step(kind, key)
        with reading(f"the step {kind!r}", self._journal.path):
            record = None if known is None else self.history.step(kind, known)
        if record is None:
            return None
        event = restored(record, self.history)
        self._walked.append((kind, key))
        self._tell(event)
        return event

    def _kept_batch(self, record: BatchRecord, key: str) -> None:
        """Keep a batch, go on from where it has led, and tell of it."""
        keep_diagnoses(self._journal, record)
        lost = tuple(r for r in (*record.rollouts, *record.child_rollouts) if not r.measured)
        record = record.model_copy(update={"unmeasured": lost})
        self._keep(BATCH, key, record.model_dump(mode="json", exclude=HEAVY))
        logger.info("epoch %d batch %d: %s; %s", record.epoch, record.batch, record.evaluation, record.reason)
        self.history.batch(record)
        self._tell(BatchDone(record, self.history.results()))

    def _kept_dev(
        self, what: tuple[int, int, Candidate], tasks: Sequence[str], rollouts: Sequence[Rollout], key: str
    ) -> Evaluation:
        """Keep an evaluation of `what`, its epoch, batch and candidate, and tell of it."""
        (epoch, batch, candidate), evaluation = what, summarize(rollouts)
        scores = {r.task_id: r.score for r in rollouts if r.score is not None}
        samples = {r.task_id: r.sample for r in rollouts if r.sample}
        record = DevRecord(
            epoch=epoch, batch=batch, candidate=candidate, tasks=tuple(tasks), evaluation=evaluation, scores=scores,
            samples=samples,
        )  # fmt: skip
        self._keep(DEV, key, record.step())
        self.history.dev(record)
        self._tell(DevDone(record, self.history.results()))
        return evaluation

    def _keep(self, kind: str, key: str, body: Mapping[str, Any]) -> None:
        """Keep a step, after those that led to it: earlier processes may have gone another way from one of them."""
        self._journal.put_last(self._walked)
        self._journal.keep_step(kind, key, body)
        self._walked.append((kind, key))

    def _catch_up(self) -> None:
        """Tell how far earlier processes came, before this one may fail."""
        if self._behind:
            self._behind = False
            self._tell(CaughtUp(self.history.results()))

    def _roll(self, what: str, jobs: Sequence[Job]) -> tuple[Rollout, ...]:
        self._tell(Working(f"{self._where}{what}", len(jobs)))
        done = 0

        def count(rollout: Rollout) -> None:
            nonlocal done
            done += 1
            self._tell(RolloutDone(done, len(jobs), rollout))

        rollouts = tuple(self._runner.run(jobs, count))
        self._runner.called.require()
        self._warn_if_hopeless(rollouts)
        return rollouts

    def _warn_if_hopeless(self, rollouts: Sequence[Rollout]) -> None:
        """Say once that nothing has scored so far."""
        if self._hopeless is None or any(r.score for r in rollouts):
            self._hopeless = None
            return
        self._hopeless += sum(r.measured for r in rollouts)
        if self._hopeless >= HOPELESS:
            why = f"none of the {self._hopeless} solutions so far has passed: look at some before you pay for more"
            logger.warning("%s; model, prompt or tests may not fit", why)
            self._hopeless = None


def digest(tasks: Sequence[Task]) -> str:
    """Content hash of tasks in their order."""
    return hashlib.sha256(" ".join(t.key for t in tasks).encode()).hexdigest()[:12]
