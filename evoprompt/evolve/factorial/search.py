"""The `factorial` strategy: rules are factors of an experiment, and all of them are measured at once.

A batch asks for solutions with prompts that each hold another subset of the rules, more likely those that seem to
help (Thompson sampling). Failures are explained; the rules that the debugger states come in as they are, and the
optimizer adds its own and says long prompts in fewer words. All rollouts so far give the effect of every rule
(`effects`); what does harm is dropped. At the end the prompt is compared with the start (`decision`).
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from evoprompt.evaluate import summarize
from evoprompt.evolve.advise import blamed
from evoprompt.evolve.events import Working
from evoprompt.evolve.factorial.allowance import Allowance
from evoprompt.evolve.factorial.comparison import Confirming
from evoprompt.evolve.factorial.constants import (
    EVERY,
    FIRST,
    FOR_OPTIMIZER,
    HARM,
    LEARNING,
    MUTE,
    REWRITE,
    ROOM,
    TYPICAL,
    UNSOLVED_SHARE,
    WEED,
    WEED_LAST,
    WEED_START,
)
from evoprompt.evolve.factorial.demos import Demos
from evoprompt.evolve.factorial.effects import Effects, Rules, Trial, estimate_effects, proven, reachable
from evoprompt.evolve.factorial.growth import Growth
from evoprompt.evolve.factorial.rules import Pool
from evoprompt.evolve.factorial.subsets import draw_rules
from evoprompt.evolve.records import BatchRecord, Diagnosed, EvolutionEntry, Rejected, Tried
from evoprompt.evolve.state import BATCH, diagnoses
from evoprompt.evolve.triage import triage
from evoprompt.judges import Rollout
from evoprompt.rollout import Job
from evoprompt.runs.damage import as_written, reading
from evoprompt.tasks import Task
from evoprompt.wording import counted
from signatures import FailureGroup

_TRIES = 100


class Factorial(Confirming):
    """A search over the subsets of a growing list of rules."""

    def _planned(self, tasks: int) -> int:
        return self._options.epochs * math.ceil(2 * tasks / min(self._options.batch_size, tasks))

    def _search(self, train: Sequence[Task], dev: Sequence[Task]) -> str:
        self._begin(train, dev)
        ended = self._batches()
        self._confirm()
        return ended

    def _batches(self) -> str:
        """All batches; says why they ended where that was before the last one planned."""
        quiet, number = 0, 0
        while self._allowance.counted is not None or number < self._planned(len(self._train)):
            number += 1
            before = (len(self._pool.rules), self.history.current.key)
            if not self._batch(number):
                return self._allowance.spent()
            quiet = quiet + 1 if before == (len(self._pool.rules), self.history.current.key) else 0
            if reason := self._enough(quiet):
                return reason
        return ""

    def _begin(self, train: Sequence[Task], dev: Sequence[Task]) -> None:
        self._train, self._dev = list(train), list(dev)
        self._pool = Pool(self.history.seed, self._options.lock)
        self._pool.require_measurable()
        self._current = set(self._pool.start)
        self._place: dict[str, int] = {}
        self._solved: list[bool] = []
        self._trials: list[Trial] = []
        self._mute, self._open = Counter[str](), dict[str, Diagnosed]()
        self._explained: dict[tuple[str, ...], Diagnosed] = {}
        self._effects = self._estimated()
        self._known, self._debugged = set[tuple[frozenset[int], str]](), 0
        most = self._options.max_words * len(self._pool.predictors)
        self._room = max(most, math.ceil(ROOM * self._pool.words(self._pool.start)))
        most = max(self._options.longest(text) for _, text in self.history.seed.instructions)
        self._demos = Demos(self._pool, self._options.max_demos, self._train, self._dev)
        self._growth = Growth(self._pool, self._advice, self._train, most, self._room)
        self._advisors = {"debugger", "optimizer"} - {role for role, _ in self._runner.program.named_predictors()}
        self._allowance = Allowance(self._options.budget, len(self._train) + 2 * len(self._dev))
        planned = self._planned(len(train)) * min(self._options.batch_size, len(train))
        self._pool.warn_if_hard_to_measure(self._allowance.counted or planned)

    def _count(self) -> None:
        """Tell what was done so far."""
        self._allowance.done = len(self._known)
        self._allowance.advised = self._debugged + self._growth.asked

    def _enough(self, quiet: int) -> str:
        options = self._options
        if options.patience is not None and quiet >= options.patience:
            return f"{counted(quiet, 'batch')} in a row changed nothing"
        if options.target is not None and self._trials and not self._unseen():
            level = sum(self._solved) / len(self._solved)
            expected = 100 * min(level + self._gain(), reachable(self._trials, len(self._solved)))
            changed = self._current ^ self._pool.start
            if expected >= options.target and all(self._proven(r) for r in changed):
                return f"the prompt is expected to solve {expected:.1f} %, which reaches the target"
        return ""

    def _expected(self) -> tuple[float, float]:
        return self._effects.gain(self._current, self._pool.start)

    def _gain(self) -> float:
        """The expected gain; with what the start solves it is a share of the tasks, none below 0 or above all."""
        level = sum(self._solved) / max(1, len(self._solved))
        return min(max(self._expected()[0], -level), 1 - level)

    def _proven(self, rule: int) -> bool:
        return proven(self._trials, rule, self._pool.rules[rule].start)

    # One batch

    def _batch(self, number: int) -> bool:
        """One batch; False where there is nothing left to spend, or to try."""
        random = np.random.default_rng([self._options.seed % 2**63, number])
        left, size = self._allowance.left(), self._options.batch_size
        if number == 1:
            size = int(FIRST * size)
        most = size if left is None else min(size, left)
        jobs = self._jobs(number, most, random)
        if not jobs:
            return False
        parent = self.history.current
        ids = hashlib.sha256(repr([(j.candidate.key, j.task.key) for j, _ in jobs]).encode()).hexdigest()[:12]
        key = f"{number}.{parent.key}.{ids}"
        known = self._restored(BATCH, key)
        if known is not None and isinstance(known.record, BatchRecord):
            with reading("a batch", self._journal.path):
                self._restore(known.record)
            return True
        self._catch_up()
        self._where = f"batch {number}: "
        rollouts = self._roll("solutions", [job for job, _ in jobs])
        self._require_measured(rollouts, known=bool(self._place))
        record = BatchRecord(
            epoch=1 + (number - 1) // max(1, self._planned(len(self._train)) // self._options.epochs), batch=number,
            parent=parent, tasks=tuple(j.task.task_id for j, _ in jobs),
            evaluation=summarize(rollouts).model_copy(update={"rollouts": ()}), rollouts=rollouts,
            tried=tuple(
                Tried(task_id=r.task_id, candidate=r.candidate, rules=tuple(sorted(rules)), score=r.score)
                for r, (_, rules) in zip(rollouts, jobs, strict=True)
            ),
        )  # fmt: skip
        record = self._learn(record)
        record = record.model_copy(update={"bill": self._runner.calls.budget.bill(self._advisors)})
        self._allowance.look(record.bill)
        self._kept_batch(record, key)
        return True

    def _jobs(self, number: int, size: int, random: np.random.Generator) -> list[tuple[Job, frozenset[int]]]:
        """The rollouts of a batch: unseen tasks with the start prompt, seen ones with a subset of the rules."""
        order = [
            self._train[i] for i in np.random.default_rng(self._options.seed % 2**63).permutation(len(self._train))
        ]
        unknown = self._unseen()
        unseen = [t for t in order if t.task_id in unknown][: max(size, 0)]
        jobs: list[tuple[Job, frozenset[int]]] = []
        if number == 1 or number % EVERY == 0 or not self._place:
            jobs = [(Job(self.history.seed, t), self._pool.start) for t in unseen]
        taken = {job.task.task_id for job, _ in jobs}
        groups: tuple[list[Task], list[Task]] = ([], [])
        for task in (order[i] for i in random.permutation(len(order))):
            if task.task_id in self._place and task.task_id not in taken:
                groups[self._solved[self._place[task.task_id]]].append(task)
        while len(jobs) < size and any(groups):
            first = random.random() < UNSOLVED_SHARE
            group = groups[0] if (first and groups[0]) or not groups[1] else groups[1]
            task = group.pop()
            rules = self._subset(task, random)
            if rules is not None:
                jobs.append((Job(self._pool.candidate(rules), task), rules))
        # No other prompt to try yet, as where nothing has failed: the rest of the tasks may tell of one.
        return jobs or [(Job(self.history.seed, t), self._pool.start) for t in unseen]

    def _unseen(self) -> set[str]:
        """Tasks that the start prompt was not tried on, or without an answer so far."""
        ids = (t.task_id for t in self._train)
        return {one for one in ids if one not in self._place and self._mute[one] < MUTE}

    def _subset(self, task: Task, random: np.random.Generator) -> frozenset[int] | None:
        """Rules that may well help, in a combination that this task was not tried with."""
        for _ in range(_TRIES):
            open_to = self._current | self._demos.open(self._effects)
            rules, drawn = draw_rules(random, self._effects, self._pool, open_to, self._room)
            rules = self._demos.fitting(rules, drawn, task)
            if self._pool.whole(rules) and (rules, task.task_id) not in self._known:
                return rules
        return None

    # What a batch teaches

    def _learn(self, record: BatchRecord) -> BatchRecord:
        self._observe(record.tried)
        self._pool.hear({step.predictor for r in record.rollouts for step in r.steps}, first=record.batch == 1)
        self._count()
        failed = [r for r in record.rollouts if r.score is not None and r.score < 1]
        for rollout in record.rollouts:
            if rollout.score == 1:
                self._open.pop(rollout.task_id, None)
        diagnosed: tuple[Diagnosed, ...] = ()
        learning, known = self._learning(record.batch), len(self._explained)
        if failed and learning:
            self._tell(Working(f"{self._where}explaining {counted(len(failed), 'failure')}"))
            diagnosed = self._explain(failed)
            self._open.update({d.task_id: d for d in diagnosed})
        if learning:
            self._demos.collect(record.rollouts, {t for t, at in self._place.items() if self._solved[at]}, record.batch)
        self._effects = self._estimated()
        # A budget that ends amid all this must find the prompt that was there before.
        current, rejected = self._weeded(learning), list[Rejected]()
        to_blame = blamed([self._open[t] for t in sorted(self._open)])
        groups = tuple(group for found in to_blame.values() for group in found)
        if learning:
            due = len(self._explained) > known or record.batch % REWRITE == 0
            current = self._grown(current, to_blame if due else {}, record.batch, rejected)
        self._current = current | self._demos.chosen(self._effects, self._trials)
        self._count()
        return self._decided(record, groups, rejected).model_copy(
            update={
                "diagnosed": diagnosed, "groups": groups, "open_failures": tuple(self._open.values()),
                "advised": self._allowance.advised, "debugged": self._debugged,
                "shortened": tuple(sorted(self._growth.shortened)),
            }
        )  # fmt: skip

    def _grown(
        self, current: set[int], to_blame: Mapping[str, Sequence[FailureGroup]], batch: int, rejected: list[Rejected]
    ) -> set[int]:
        """The current rules with new ones: those that the debugger stated, then those of the optimizer."""
        if to_blame:
            self._tell(Working(f"{self._where}rewriting the prompt"))
        for predictor, found in to_blame.items():
            current = self._growth.state(current, found, batch, rejected, predictor)
            self._about_new_rules()
            if self._advice_left():
                current = self._growth.grow(current, self._effects, found, batch, rejected, predictor)
                self._about_new_rules()
        if self._advice_left():
            current = self._growth.shorten(current, self._effects, batch, rejected)
            self._about_new_rules()
        return current

    def _advice_left(self) -> int:
        self._count()
        return self._allowance.advice_left

    def _learning(self, batch: int) -> bool:
        planned = LEARNING * self._planned(len(self._train))
        in_time = self._allowance.counted is not None or batch <= planned
        return in_time and self._allowance.learning()

    def _observe(self, tried: Sequence[Tried]) -> None:
        for one in tried:
            rules = frozenset(one.rules)
            self._known.add((rules, one.task_id))
            if one.score is None:
                self._mute[one.task_id] += rules == self._pool.start
                continue
            if one.task_id not in self._place:
                self._place[one.task_id] = len(self._solved)
                self._solved.append(one.score >= 1)
            self._trials.append(Trial(self._place[one.task_id], rules, one.score))

    def _estimated(self) -> Effects:
        rules = self._pool.rules
        self._added = np.array([not rule.start for rule in rules], dtype=float)
        says = [self._pool.says(r) for r in range(len(rules))]
        costly = min(1.0, TYPICAL / max(1, self._pool.words(self._pool.start)))
        about = Rules([costly * rule.words for rule in rules], [rule.start for rule in rules], says)
        return estimate_effects(self._trials, self._solved, about)

    def _about_new_rules(self) -> None:
        """Estimate effects for rules that have come in; of the others nothing new is known."""
        if len(self._pool.rules) > len(self._effects.mean):
            self._effects = self._estimated()

    def _explain(self, failed: Sequence[Rollout]) -> tuple[Diagnosed, ...]:
        """The diagnoses: of tasks that were explained least so far first, and of no failure twice."""
        told = Counter(said[0] for said in self._explained)
        new = sorted((r for r in failed if r.said not in self._explained), key=lambda r: told[r.task_id])
        costly = [r.task_id for r in new if triage(r) is None]
        later = set(costly[max(0, self._advice_left() - FOR_OPTIMIZER) :])
        new = [r for r in new if r.task_id not in later]
        found = {d.task_id: d for d in self._advice.diagnose(new, self._train)} if new else {}
        self._debugged += sum(d.by == "debugger" for d in found.values())
        self._explained.update({r.said: found[r.task_id] for r in new if r.task_id in found})
        return tuple(self._explained[r.said] for r in failed if r.said in self._explained)

    def _weeded(self, learning: bool) -> set[int]:
        """The current rules without what does harm; a sentence that says such a rule among others is undone.

        Undone sentences are to be said together anew, so that this ends with the learning.
        """
        mean, deviation = self._effects.mean, self._effects.deviation
        kept, doubt = set[int](), WEED if learning else WEED_LAST
        for r in sorted(self._current - self._pool.demos):
            parts = self._pool.says(r) if learning else frozenset()
            fine = {p for p in parts if mean[p] > -HARM * deviation[p]}
            if fine != parts:
                kept |= fine
            elif mean[r] > -(doubt if self._added[r] else WEED_START) * deviation[r] or not (
                self._added[r] or self._proven(r)
            ):
                kept.add(r)
        kept = kept - {p for r in kept for p in self._pool.says(r)} | self._pool.fixed
        # A predictor has something to go by: the best of its rules.
        bare = [mine for p in self._pool.predictors if not (mine := self._pool.of(p, range(len(mean)))) & kept]
        return kept | {max(sorted(mine), key=lambda r: mean[r]) for mine in bare}

    def _order(self) -> list[Task]:
        order = [task for task in super()._order() if not self._demos.shown(self._current, task)]
        left = self._allowance.counted_left
        if left is None:
            return order
        for place, task in enumerate(order):
            left -= 1 if (self._pool.start, task.task_id) in self._known else 2
            if left < 0:
                return order[:place]
        return order

    # What is written down

    def _decided(
        self, record: BatchRecord, groups: Sequence[FailureGroup], rejected: Sequence[Rejected]
    ) -> BatchRecord:  # fmt: skip
        parent, child = record.parent, self._pool.candidate(self._current)
        had = {r for r, rule in enumerate(self._pool.rules) if rule.kept}
        self._pool.measured(self._effects, self._trials, self._current)
        shown, added, dropped = self._current & self._pool.demos, self._current - had, had - self._current
        gain, count = 100 * self._gain(), len(self._current - shown)
        demos = f" and {len(shown)} demo{'s' * (len(shown) > 1)}" if shown else ""
        changes = f"+{len(added)} -{len(dropped)}" if added or dropped else "unchanged"
        rules = f"{count} rule{'s' * (count != 1)}{demos} ({changes})"
        reason = f"{rules}, {gain:+.1f} points expected over the start prompt"
        if rejected:
            reason += f"; rejected: {rejected[0].problem}"
            reason += f" and {len(rejected) - 1} more" if len(rejected) > 1 else ""
        update = {
            "reason": reason, "rules": tuple(self._pool.rules), "rejected": tuple(rejected), "sure": self._sure(),
            "belief": tuple(round(share, 6) for share in self._expected()),
        }  # fmt: skip
        if child.key == parent.key:
            return record.model_copy(update=update)
        entry = EvolutionEntry.of(
            child, parent=parent.key, generation=parent.generation + 1, epoch=record.epoch, batch=record.batch,
            reason=reason, proposed_because=self._growth.answered(added, groups),
        )  # fmt: skip
        child = child.model_copy(update={"parents": (parent.key,), "generation": parent.generation + 1})
        return record.model_copy(update={**update, "child": child, "accepted": True, "entry": entry})

    def _restore(self, record: BatchRecord) -> None:
        """Go on from where an earlier process was after a batch."""
        self._pool.rules = list(record.rules)
        self._current = {r for r, rule in enumerate(record.rules) if rule.kept}
        self._open = {d.task_id: d for d in record.open_failures}
        self._observe(record.tried)
        self._debugged, self._growth.asked = record.debugged, record.advised - record.debugged
        self._count()
        self._allowance.look(record.bill)
        self._growth.shortened = frozenset(record.shortened)
        self._effects = self._estimated()
        tasks = {t.task_id: t for t in self._train}
        keys = {one.task_id: (one.candidate, tasks[one.task_id].key, 0) for one in record.tried}
        for diagnosed in diagnoses(self._journal, record):
            body = self._journal.rollout(*keys[diagnosed.task_id])
            if body is not None:
                self._explained[as_written(Rollout, body, self._journal.path).said] = diagnosed
